"""`table` sets our runs beside published figures, and never one machine's time beside another's."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_agent.bundles.archive import write_bundle
from ssn_trainer.data.samples import load
from support.bundles import brightness_model, files, manifest

from .conftest import Run, draw_parts

FIGURES = {
    "i_auroc": 0.9,
    "ap_det": 0.8,
    "f1_max": 0.7,
    "p_auroc": 0.6,
    "aupro": 0.5,
    "ap_loc": 0.4,
}
FOLD = {**FIGURES, "regime": "weak", "leaks": []}


def bundle(path: Path, learned: tuple[str, ...] = (), **changes: Any) -> Path:
    """Write a bundle that scores by brightness; `learned`: digests of images it was trained on."""
    listed = [{"name": d, "digest": d, "group": d, "label": "bad"} for d in learned]
    parts = {"train": listed, "tune": [], "test": []}
    path.parent.mkdir(exist_ok=True)
    write_bundle(
        path, manifest(**changes), {**files(), "data.json": json.dumps({"parts": parts}).encode()}
    )
    return path


def answer(path: Path, **changes: Any) -> Path:
    """Write an answer as `eval --json` prints it."""
    path.write_text(json.dumps({**FIGURES, "bundle": None, "threshold": 1.0, **changes}))
    return path


def ours(out: str, table: str = "efficiency") -> list[dict[str, Any]]:
    rows = json.loads(out.splitlines()[-1])[table]
    return [row for row in rows if not row["published"]]


def test_a_bundle_is_timed_here_and_published_times_name_their_machine(
    run: Run, tmp_path: Path
) -> None:
    made = bundle(tmp_path / "a.ssn", metrics={"i_auroc": {"value": 0.93}})
    code, out, _ = run("table", made, "--out", tmp_path / "out", "--json")
    assert code == 0
    (row,) = ours(out)
    assert row["run"] == "brightness 1.0.0"
    assert row["model"] == "none, gap-cam, 32x32"
    assert row["i_auroc"] == 0.93
    assert row["latency_ms"] > 0
    assert "onnxruntime-cpu/fp32" in row["timed_on"]
    assert row["model_mb"] == len(brightness_model()) / 1e6
    published = json.loads(out.splitlines()[-1])["efficiency"][1:]
    timed = [r for r in published if r["latency_ms"] is not None]
    assert {r["timed_on"] for r in timed} == {"Tesla P100, fp16"}
    assert {r["gpu_memory_mb"] for r in timed} == {270.5, 52.4, 85.9}
    assert {r["model_mb"] for r in published} == {None}


def test_an_answer_shares_the_line_of_the_bundle_that_it_names(run: Run, tmp_path: Path) -> None:
    made = bundle(tmp_path / "a.ssn", metrics={"i_auroc": {"value": 0.1}})
    judged = answer(tmp_path / "screw.json", bundle="elsewhere/a.ssn", judged=160)
    other = answer(tmp_path / "other.json", bundle="b.ssn", regime="full")
    code, out, _ = run("table", judged, other, made, "--out", tmp_path, "--json")
    assert code == 0
    first, second = ours(out)
    assert (first["run"], first["i_auroc"]) == ("screw", 0.9)
    assert first["judged_on"] == "160 images (eval)"
    assert first["latency_ms"] > 0
    assert (second["run"], second["latency_ms"], second["model"]) == ("other", None, None)
    assert [row["regime"] for row in ours(out, "supervision")] == ["weak", "full"]


def test_of_two_bundles_of_one_name_an_answer_means_that_at_its_path(
    run: Run, tmp_path: Path
) -> None:
    first, second = bundle(tmp_path / "x" / "a.ssn"), bundle(tmp_path / "y" / "a.ssn", head="lean")
    judged = answer(tmp_path / "screw.json", bundle=str(second))
    _, out, _ = run("table", first, second, judged, "--out", tmp_path, "--json")
    assert [(r["run"], r["model"].split(", ")[1]) for r in ours(out)] == [
        ("screw", "lean"),
        ("brightness 1.0.0", "gap-cam"),
    ]


def test_folds_that_leak_are_shown_with_and_without_their_leaks(run: Run, tmp_path: Path) -> None:
    leaking = {**FOLD, "leaks": ["kos26/Part1.jpg"]}
    clean = {**FIGURES, "ap_det": 0.7}
    folds = {"folds": [FOLD, FOLD], "without_leaks": FIGURES}
    sound = answer(tmp_path / "sound.json", **folds)
    ksdd = answer(tmp_path / "ksdd.json", folds=[FOLD, leaking], without_leaks=clean)
    code, out, _ = run("table", sound, ksdd, "--out", tmp_path, "--json")
    assert code == 0
    rows = ours(out, "supervision")
    assert [(r["run"], r["judged_on"], r["regime"], r["ap_det"]) for r in rows] == [
        ("sound", "2 folds (mean)", "weak", 0.8),
        ("ksdd", "2 folds (mean)", "weak", 0.8),
        ("ksdd", "2 folds (mean), leaks left out", "weak", 0.7),
    ]


def test_the_plot_takes_any_name_and_its_numbers_are_those_of_the_table(
    run: Run, tmp_path: Path
) -> None:
    made = bundle(tmp_path / "a.ssn")
    names = [answer(tmp_path / f"{name}.json", bundle="a.ssn") for name in ("_$x^$", "[red]b")]
    code, out, _ = run("table", made, *names, "--out", tmp_path / "new" / "out")
    assert code == 0
    assert "Efficiency against robustness" in out
    assert "Weak against full" in out
    assert "[red]b" in out
    assert "25.58 Tesla P100, fp16" in out
    plot = (tmp_path / "new" / "out" / "trade-off.svg").read_text()
    assert plot.startswith("<?xml")
    comments = re.findall(r"<!-- (.*?) -->", plot)  # each text that is drawn
    assert any(text.startswith("1  _$x^$") for text in comments)
    assert any(text.startswith("2  [red]b") for text in comments)
    assert any("published, MVTec AD screw" in text for text in comments)


def test_without_a_bundle_that_has_a_figure_there_is_no_plot_and_it_is_said(
    run: Run, tmp_path: Path
) -> None:
    bare, judged = bundle(tmp_path / "a.ssn"), answer(tmp_path / "b.json")
    code, out, err = run("table", bare, judged, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["plot"] is None
    assert "no plot" in err
    assert not list((tmp_path / "out").iterdir())


def test_the_gallery_shows_unseen_bad_images_a_column_for_each_bundle(
    run: Run, tmp_path: Path
) -> None:
    data = draw_parts(tmp_path / "data", good=2, bad=12)
    bad = [s for s in load(data, ".*").samples if s.label == "bad"]
    first = bundle(tmp_path / "a.ssn", (bad[0].digest, bad[1].digest))
    second = bundle(tmp_path / "b.ssn", (bad[2].digest,), head="lean", name="other")
    arguments = ("table", first, second, "--data", data, "--out", tmp_path / "out", "--json")
    code, out, _ = run(*arguments)
    assert code == 0
    page = Path(json.loads(out.splitlines()[-1])["gallery"]).read_text()
    assert page.count("<tr>") == 1 + 8
    assert page.count("data:image/jpeg;base64,") == 8 * 3
    assert "://" not in page
    assert "<script" not in page
    assert page.count("(class activation map)") == 1
    assert "no mask" not in page
    shown = set(re.findall(r"blob/\d+\.png", page))
    assert len(shown) == 8
    assert not shown & {s.name for s in bad[:3]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "neither a bundle (.ssn) nor the --json answer"),
        (b"\x00\xff\x00", "neither a bundle"),
        (b"[1]", "neither a bundle"),
        (b'{"errors": 0}', "i_auroc: Field required"),
        (json.dumps({**FIGURES, "bundle": None, "ap_det": 91.2}).encode(), "ap_det: "),
        (json.dumps({**FIGURES, "bundle": None, "i_auroc": float("nan")}).encode(), "i_auroc: "),
        (json.dumps({**FIGURES, "bundle": None, "folds": [{}]}).encode(), "folds: 0: regime: "),
    ],
)
def test_a_file_that_is_no_run_is_exit_code_2(
    run: Run, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    code, out, err = run("table", path, "--out", tmp_path / "out")
    assert code == 2
    assert f"{path}: " in err
    assert says in err
    assert out == ""


def test_wrong_use_is_exit_code_2_and_a_damaged_bundle_1(run: Run, tmp_path: Path) -> None:
    judged, made = answer(tmp_path / "a.json"), bundle(tmp_path / "a.ssn")
    (tmp_path / "bad.ssn").write_bytes(made.read_bytes()[:-9])
    data = tmp_path / "data"
    (data / "good").mkdir(parents=True)
    assert cv2.imwrite(str(data / "good" / "0.png"), np.zeros((32, 32), np.uint8))
    for arguments, wanted, says in (
        ([tmp_path / "none.json", "--out", tmp_path], 2, "does not exist"),
        ([judged, "--out", judged], 2, "--out"),
        ([judged, "--out", tmp_path, "--data", data], 2, "maps want a bundle"),
        ([made, "--out", tmp_path, "--data", data], 2, "no bad image"),
        ([tmp_path / "bad.ssn", "--out", tmp_path], 1, "bad.ssn"),
    ):
        code, out, err = run("table", *arguments)
        assert code == wanted
        assert says in " ".join(err.split())
        assert "Traceback" not in err
        assert out == ""
    assert not list(tmp_path.glob("*.svg")) + list(tmp_path.glob("*.html"))
