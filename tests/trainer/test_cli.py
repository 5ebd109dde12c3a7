"""The command line answers in one line of JSON, or in one line of error with its exit code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_agent.bundles.archive import Bundle, write_bundle
from ssn_trainer.fit.job import Fitted

from .conftest import Run, draw_parts

METRICS = {"i_auroc", "ap_det", "f1_max", "p_auroc", "aupro", "ap_loc"}
KEYS = METRICS | {"threshold", "seconds", "bundle", "intervals"}


def test_fit_prints_one_json_object_as_its_last_line(
    run: Run, plates: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        "fit", plates, "--out", tmp_path, "--weights", "none", "--image-size", "64x64",
        "--epochs", 1, "--group-by", ".*", "--json", "--name", "plates", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    answer = json.loads(out.splitlines()[-1])
    assert set(answer) >= KEYS
    assert all(0 <= answer[key] <= 1 for key in METRICS)
    assert set(answer["intervals"]) == METRICS
    assert all(0 <= low <= high <= 1 for low, high in answer["intervals"].values())
    assert [str(p) for p in tmp_path.glob("plates-*.ssn")] == [answer["bundle"]]
    assert "regime: full" in err


def test_fit_says_which_limit_the_data_cannot_support(
    run: Run, plates: Path, tmp_path: Path
) -> None:
    code, out, err = run(
        "fit", plates, "--out", tmp_path, "--weights", "none", "--image-size", 64, "--epochs", 1,
        "--group-by", ".*", "--json", "--max-false-reject", 0.6, "--max-escape", 0.01,
        "--precisions", "none",
    )  # fmt: skip
    assert code == 0
    answer = json.loads(out.splitlines()[-1])
    choice = answer["threshold_choice"]
    assert choice["false_reject"]["supported"] is True
    assert choice["escape"]["supported"] is False
    assert choice["escape"]["parts"] == choice["bad_images"] == 4
    manifest = Bundle.open(Path(answer["bundle"])).manifest
    assert [precision.name for precision in manifest.precisions] == ["fp32"]
    assert manifest.threshold.model_dump() == choice
    said = " ".join(err.split())
    assert "threshold: for the stated limits" in said
    assert "--max-escape 0.01 is not supported by the tune part" in said
    assert f"it takes {choice['escape']['images_needed']} bad parts" in said
    assert "--max-false-reject" not in said


def test_eval_leaves_out_what_the_bundle_was_trained_or_tuned_on(
    run: Run, weak: Fitted, plates: Path
) -> None:
    code, out, _ = run("eval", weak.packed.path, plates, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert set(answer) >= KEYS
    split = weak.data.split
    assert answer["judged"] == len(split.test)
    assert answer["left_out"] == len(split.train) + len(split.tune)
    for key in METRICS:  # the very images, through the very scorer
        assert answer[key] == pytest.approx(weak.packed.metrics[key], abs=1e-4)


def test_eval_judges_everything_in_a_folder_it_has_never_seen(
    run: Run, weak: Fitted, tmp_path: Path
) -> None:
    fresh = draw_parts(tmp_path / "fresh", good=6, bad=6, seed=9)
    for mask in fresh.rglob("*_mask.png"):
        mask.unlink()
    code, out, _ = run("eval", weak.packed.path, fresh, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert (answer["judged"], answer["left_out"]) == (12, 0)
    assert answer["p_auroc"] is answer["aupro"] is answer["ap_loc"] is None
    assert answer["intervals"]["p_auroc"] is None
    assert answer["intervals"]["i_auroc"] is not None
    assert answer["i_auroc"] > 0.9


def test_eval_says_how_much_better_a_bundle_is_than_another_on_images_that_neither_has_learned(
    run: Run, weak: Fitted, plates: Path
) -> None:
    code, out, _ = run("eval", weak.packed.path, plates, "--against", weak.packed.path, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert answer["judged"] == len(weak.data.split.test)
    assert answer["against"]["i_auroc"] == pytest.approx(answer["i_auroc"])
    assert answer["against"]["rise"] == 0


def test_eval_against_another_says_where_one_class_alone_is_left(
    run: Run, weak: Fitted, tmp_path: Path
) -> None:
    fresh = draw_parts(tmp_path / "fresh", good=6, bad=0, seed=9)
    code, _, err = run("eval", weak.packed.path, fresh, "--against", weak.packed.path)
    assert code != 0
    assert "only good or only bad images are left" in err


def test_eval_says_why_a_figure_has_no_interval(run: Run, weak: Fitted, tmp_path: Path) -> None:
    fresh = draw_parts(tmp_path / "fresh", good=6, bad=2, seed=9)
    code, out, err = run("eval", weak.packed.path, fresh, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert set(answer["intervals"].values()) == {None}
    assert answer["i_auroc"] is not None
    assert "no 95 % interval for i_auroc" in err


def test_eval_says_what_was_passed_over(run: Run, weak: Fitted, tmp_path: Path) -> None:
    fresh = draw_parts(tmp_path / "fresh", good=3, bad=2, seed=9)
    rows = [f"good/{i}.png,{'good' if i else ''},{i}" for i in range(3)]
    rows += [f"blob/{i}.png,bad,b{i}" for i in range(2)]
    (fresh / "labels.csv").write_text("\n".join(["image,label,part_id", *rows]))
    code, _, err = run("eval", weak.packed.path, fresh)
    assert code == 0
    assert "1 of 5 images have no label" in err


def test_the_printed_table_shows_the_intervals(run: Run, weak: Fitted, plates: Path) -> None:
    _, out, _ = run("eval", weak.packed.path, plates)
    low, high = weak.packed.intervals["i_auroc"] or (0, 0)
    assert f"(95 %: {low:.4f} to {high:.4f})" in out
    assert "intervals" not in out


def test_inspect_prints_the_manifest(run: Run, weak: Fitted) -> None:
    code, out, _ = run("inspect", weak.packed.path)
    assert code == 0
    assert json.loads(out)["name"] == "plates"


def test_inspect_writes_the_report_that_the_bundle_holds(
    run: Run, weak: Fitted, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    code, out, _ = run("inspect", weak.packed.path, "--report", report)
    assert code == 0
    assert json.loads(out)["name"] == "plates"
    assert report.read_bytes() == Bundle.open(weak.packed.path).read("report.html")
    assert b"plates" in report.read_bytes()
    code, _, err = run("inspect", weak.packed.path, "--report", tmp_path / "no" / "report.html")
    assert code == 1
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == [report]


def test_inspect_says_that_an_older_bundle_has_no_report(
    run: Run, weak: Fitted, tmp_path: Path
) -> None:
    bundle = Bundle.open(weak.packed.path)
    names = {e.path for e in bundle.manifest.entries} - {"report.html"}
    older = tmp_path / "older.ssn"
    write_bundle(older, bundle.manifest.model_dump(), {n: bundle.read(n) for n in names})
    code, _, err = run("inspect", older, "--report", tmp_path / "report.html")
    assert code == 1
    assert "has no entry 'report.html'; pack it anew" in err
    assert not (tmp_path / "report.html").exists()


def test_data_check_says_all_and_its_exit_code_tells_errors_from_warnings(
    run: Run, plates: Path, tmp_path: Path
) -> None:
    code, out, _ = run("data", "check", plates, "--group-by", ".*", "--json")
    answer = json.loads(out.splitlines()[-1])
    assert (code, answer["errors"], answer["labels"]) == (0, 0, {"good": 40, "bad": 20})
    data = shutil.copytree(plates, tmp_path / "data")
    shutil.copy(data / "good" / "0.png", data / "good" / "again.png")
    code, out, _ = run("data", "check", data, "--json")
    answer = json.loads(out.splitlines()[-1])
    assert (code, answer["errors"], answer["warnings"]) == (0, 0, 1)
    assert answer["findings"][0]["images"] == [["good/0.png", "good/again.png"]]
    (data / "good" / "1.png").write_bytes(b"")
    code, out, err = run("data", "check", data, "--format", "folder")
    assert code == 1
    assert "1 error, 1 warning" in out
    assert "Traceback" not in out + err


def test_fit_and_eval_take_a_table_and_the_name_of_its_layout(
    run: Run, weak: Fitted, plates: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(plates, tmp_path / "data")
    splits = ("train", "train", "tune", "test")
    rows = [
        f"{p.relative_to(data)},{'good' if p.parent.name == 'good' else 'bad'},{splits[i % 4]}"
        for i, p in enumerate(sorted(data.rglob("*[0-9].png")))
    ]
    (data / "all.csv").write_text("\n".join(["image,label,split", *rows]))
    code, out, _ = run(
        "fit", data / "all.csv", "--format", "csv", "--group-by", ".*", "--out", tmp_path / "out",
        "--weights", "none", "--image-size", 64, "--epochs", 1, "--device", "cpu", "--json",
        "--precisions", "none",
    )  # fmt: skip
    answer = json.loads(out.splitlines()[-1])
    assert code == 0
    assert (answer["train"], answer["tune"], answer["test"]) == (30, 15, 0)
    code, out, _ = run("eval", answer["bundle"], data / "all.csv", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["judged"] == 15
    code, _, err = run("eval", weak.packed.path, data / "all.csv", "--format", "ksdd")
    assert code == 2
    assert "the format ksdd is a folder" in err


def test_version_and_help_need_no_torch() -> None:
    script = "import sys; from ssn_trainer import cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--image-size", "12"], 2, "--image-size 12"),
        (["--image-size", "256,256"], 2, "--image-size 256,256"),
        (["--noise-scale", "0"], 2, "--noise-scale 0"),
        (["--head", "gap-cam", "--noise", "learned"], 2, "--noise: head gap-cam has neither"),
        (["--head", "gap-cam", "--regime", "full"], 2, "--regime weak"),
        (["--regime", "weak", "--masks", "3"], 2, "--masks 3: regime weak opens no mask"),
        (["--regime", "full", "--masks", "3"], 2, "have no mask"),
        (["--regime", "mixed", "--masks", "0"], 2, "no bad image to train on has a mask"),
        (["--backbone", "vit_tiny_patch16_224"], 2, "strides [16]"),
        (["--regime", "some"], 2, "some"),
        (["--weights", "/nowhere.safetensors"], 2, "/nowhere.safetensors"),
        (["--backbone", "resnet81"], 2, "resnet81"),
        (["--batch", "0"], 2, "batch"),
        (["--name", "No Good/Name"], 2, "--name"),
        (["--head", "gap-cam", "--regime", "unsupervised"], 2, "gap-cam"),
        (["--variant", "icpr"], 2, "--head supersimplenet"),
        (["--max-escape", "1"], 2, "--max-escape 1: give a share"),
        (["--max-false-reject", "nan"], 2, "--max-false-reject nan"),
        (["--precisions", "int4"], 2, "--precisions int4: use bf16, fp16, int8, several"),
    ],
)
def test_wrong_use_is_exit_code_2_with_the_remedy_and_no_file(
    run: Run, plates: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    common = ["--out", tmp_path, "--weights", "none", "--image-size", "64", "--group-by", ".*"]
    got, out, err = run("fit", plates, *common, *arguments)
    assert got == code
    assert says in err
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.glob("*.ssn"))


def test_an_empty_folder_is_exit_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    code, _, err = run("fit", tmp_path / "data", "--out", tmp_path / "out", "--weights", "none")
    assert code == 2
    assert str(tmp_path / "data") in err


def test_an_out_that_is_a_file_is_exit_code_2(run: Run, plates: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("occupied")
    code, _, err = run("fit", plates, "--out", tmp_path / "out", "--weights", "none")
    assert code == 2
    assert "--out" in err


def test_a_damaged_bundle_is_exit_code_1(
    run: Run, weak: Fitted, plates: Path, tmp_path: Path
) -> None:
    data = bytearray(weak.packed.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.ssn").write_bytes(data)
    for arguments in (
        ["inspect", tmp_path / "flipped.ssn"],
        ["eval", tmp_path / "flipped.ssn", plates],
    ):
        code, _, err = run(*arguments)
        assert code == 1
        assert "flipped.ssn" in err
        assert "Traceback" not in err


def test_eval_on_nothing_but_training_images_is_exit_code_2(
    run: Run, weak: Fitted, tmp_path: Path
) -> None:
    (tmp_path / "data" / "good").mkdir(parents=True)
    for sample in weak.data.split.train[:40]:
        if sample.label == "good":
            (tmp_path / "data" / "good" / sample.path.name).write_bytes(sample.path.read_bytes())
    code, _, err = run("eval", weak.packed.path, tmp_path / "data")
    assert code == 2
    assert "trained or tuned on all" in err


@pytest.mark.parametrize("command", ["fit", "eval"])
def test_a_mask_of_the_wrong_size_is_said_before_hours_of_work(
    command: str, run: Run, weak: Fitted, plates: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(plates, tmp_path / "data")
    for mask in data.rglob("*_mask.png"):
        cv2.imwrite(str(mask), np.full((8, 8), 255, np.uint8))
    out = tmp_path / "out"
    given: dict[str, list[object]] = {
        "fit": [data, "--out", out, "--weights", "none", "--group-by", ".*"],
        "eval": [weak.packed.path, data],
    }
    code, _, err = run(command, *given[command])
    assert code == 2
    assert "_mask.png: 8 x 8 pixels, but its image has 64 x 64" in err
    assert "epoch" not in err
    assert "judging" not in err
    assert not list(out.rglob("*.ssn"))
