"""A verdict of a real agent is judged again from its picture: the same bits, or why not."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import pytest

from ssn_agent.demo.line import draw_part
from ssn_agent.frames.pixels import read_image
from ssn_agent.inference.engines.available import REFERENCE, why_not
from support.agent import station
from support.mosquitto import running_mosquitto

DEMO = Path(str(resources.files("ssn_agent.demo"))) / "demo-1.0.0.ssn"
ROI = {"x": 40, "y": 20, "width": 560, "height": 440}
DEFECTS = (None, "scratch", "stain", None)
pytestmark = pytest.mark.needs("mosquitto")

Command = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Kept:
    """A station's data after its agent has ended."""

    folder: Path
    run: Command

    @property
    def config(self) -> Path:
        return self.folder / "agent.toml"

    def query(self, sql: str, *values: object) -> list[Any]:
        """Read or change the ledger with SQLite itself."""
        with closing(sqlite3.connect(self.folder / "data" / "ledger.sqlite")) as connection:
            found = connection.execute(sql, values).fetchall()
            connection.commit()
            return found

    def of(self, verdict: str) -> tuple[int, Path]:
        """Return the number of the first such verdict, and its picture."""
        ((number, file),) = self.query(
            "SELECT sequence, image_file FROM triggers JOIN verdicts ON trigger_id = id "
            "WHERE verdict = ? ORDER BY sequence LIMIT 1",
            verdict,
        )
        return int(number), self.folder.joinpath("data", "images", *Path(file).parts[-4:])

    def replay(self, number: int, *more: str) -> tuple[int, dict[str, Any], str]:
        """Run the command: its exit code, its JSON and what it says on standard error."""
        code, out, errors = self.run("replay", "left", number, "--json", "-c", self.config, *more)
        return code, json.loads(out or "{}"), errors


def record(folder: Path, engine: str) -> None:
    """Have an agent judge four parts on an engine, with one thread."""
    (folder / "parts").mkdir()
    for i, defect in enumerate(DEFECTS):
        assert cv2.imwrite(str(folder / "parts" / f"{i}.png"), draw_part(i, defect).image)
    source = {"kind": "folder", "path": str(folder / "parts")}
    camera = {
        "source": source,
        "bundle": DEMO,
        "roi": ROI,
        "min_defect_area_px": 9,
        "keep": {"pass_share": 1.0},
    }
    with running_mosquitto(folder) as broker, station(folder, broker.port, **camera) as agent:
        agent.top["inference"] = {"engine": engine, "threads": 1}
        agent.camera["fitness"] = {"frozen_after": 0, "checks": []}  # it judges a part of each
        agent.run_once()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("station")
    record(folder, REFERENCE)
    return folder


@pytest.fixture
def kept(recorded: Path, tmp_path: Path, ssn_agent: Command) -> Kept:
    """A copy of the station's data, elsewhere on the disk."""
    copy = tmp_path / "copy"
    shutil.copytree(recorded, copy)
    text = (copy / "agent.toml").read_text()
    (copy / "agent.toml").write_text(text.replace(str(recorded / "data"), str(copy / "data")))
    return Kept(copy, ssn_agent)


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_on_the_same_box_engine_threads_and_versions_the_same_bits_come_out(
    kept: Kept, verdict: str
) -> None:
    number, _ = kept.of(verdict)
    code, found, errors = kept.replay(number)
    assert code == 0, errors
    assert (found["expected"], found["found"], found["differences"]) == ("same bits",) * 2 + ([],)
    assert found["now"] == found["recorded"]
    assert found["now"]["verdict"] == verdict
    assert bool(found["now"]["defects"]) is (verdict == "FAIL")


def test_with_other_threads_it_says_so_and_comes_within_the_tolerance(kept: Kept) -> None:
    number, _ = kept.of("FAIL")
    code, found, errors = kept.replay(number, "--threads", "2")
    assert code == 0, errors
    assert found["expected"] == "within 1e-4"
    assert found["differences"] == ["threads: 1 then, 2 now"]
    assert found["score_difference"] <= 1e-4


def test_where_the_recorded_engine_is_not_here_the_reference_comes_within_the_tolerance(
    kept: Kept,
) -> None:
    number, _ = kept.of("FAIL")
    kept.query("UPDATE verdicts SET engine = 'onnxruntime-cuda/fp32'")
    code, found, errors = kept.replay(number)
    assert code == 0, errors
    assert found["engine"] == "onnxruntime-cpu/fp32"
    assert "onnxruntime-cuda/fp32: " in found["differences"][0]
    assert found["differences"][1] == "the ledger does not say what its engine ran on"
    assert found["score_difference"] <= 1e-4


def test_what_the_engine_ran_on_is_compared_one_by_one(kept: Kept) -> None:
    number, _ = kept.of("PASS")
    kept.query("UPDATE model_events SET figures = json_set(figures, '$.runtime', '1.0', '$.x', 7)")
    code, found, _ = kept.replay(number)
    assert code == 0
    runtime, unknown = found["differences"]
    assert runtime.startswith("runtime: 1.0 then, ")
    assert unknown == "x: 7 then, not known now"
    assert (found["expected"], found["found"]) == ("within 1e-4", "same bits")


def test_one_gray_level_more_in_a_defect_is_seen(kept: Kept) -> None:
    number, picture = kept.of("FAIL")
    _, found, _ = kept.replay(number)
    box = found["recorded"]["defects"][0]
    image = read_image(picture).copy()
    y, x = box["y"] - ROI["y"], box["x"] - ROI["x"]
    image[y : y + box["height"], x : x + box["width"]] += 1
    assert cv2.imwrite(str(picture), image)
    code, found, _ = kept.replay(number)
    assert code == 1
    assert (found["expected"], found["found"] != "same bits") == ("same bits", True)
    assert found["now"] != found["recorded"]


def lose_picture(kept: Kept) -> None:
    shutil.rmtree(kept.folder / "data" / "images")


def forget_picture(kept: Kept) -> None:
    kept.query("UPDATE verdicts SET image_file = NULL")


def change_picture_size(kept: Kept) -> None:
    _, picture = kept.of("FAIL")
    assert cv2.imwrite(str(picture), read_image(picture)[1:])


def lose_bundle(kept: Kept) -> None:
    kept.query("UPDATE verdicts SET bundle_digest = ?", "0" * 64)


def lose_settings(kept: Kept) -> None:
    kept.query("UPDATE settings_changes SET new_digest = ?", "0" * 64)


def be_invalid(kept: Kept) -> None:
    kept.query("UPDATE verdicts SET verdict = 'INVALID', reason = 'challenge'")


def be_of_another_precision(kept: Kept) -> None:
    kept.query("UPDATE verdicts SET engine = 'onnxruntime-cuda/fp16', score = score - 0.01")


@pytest.mark.parametrize(
    ("spoil", "code", "problem"),
    [
        (be_invalid, 3, "INVALID(challenge)"),
        (lose_picture, 4, "the picture is gone"),
        (forget_picture, 4, "no picture of it was kept"),
        (change_picture_size, 4, "560 x 439"),
        (lose_bundle, 5, "--bundle"),
        (lose_settings, 6, "settings that it was judged by"),
        (be_of_another_precision, 7, ""),
    ],
)
def test_what_is_missing_has_an_exit_code_and_is_named(
    kept: Kept, spoil: Callable[[Kept], None], code: int, problem: str
) -> None:
    number, _ = kept.of("FAIL")
    spoil(kept)
    found, _, errors = kept.replay(number)
    assert (found, problem in errors) == (code, True), errors


def test_a_number_that_the_ledger_does_not_hold_is_no_verdict(kept: Kept) -> None:
    code, _, errors = kept.replay(4711)
    assert code == 3
    assert "no such verdict" in errors


def test_a_bundle_that_was_moved_is_found_in_the_store_or_named(kept: Kept, tmp_path: Path) -> None:
    number, _ = kept.of("PASS")
    kept.config.write_text(kept.config.read_text().replace(str(DEMO), "/absent.ssn"))
    assert kept.replay(number)[0] == 5
    assert kept.replay(number, "--bundle", str(DEMO))[0] == 0
    other = tmp_path / "other.ssn"
    other.write_bytes(b"x")
    assert kept.replay(number, "--bundle", str(other))[0] == 5
    (kept.folder / "data" / "bundles").mkdir()
    shutil.copy(DEMO, kept.folder / "data" / "bundles" / "any-name.ssn")
    assert kept.replay(number)[0] == 0


def test_a_terminal_shows_both_and_what_differs(kept: Kept) -> None:
    number, _ = kept.of("FAIL")
    code, shown, errors = kept.run("replay", "left", number, "-c", kept.config, "--threads", "2")
    assert code == 0, errors
    assert "not as it was: threads: 1 then, 2 now" in shown
    assert "expected: within 1e-4; found: " in shown
    assert shown.rstrip().endswith(": reproduced")


@pytest.mark.skipif(why_not("openvino/fp32") is not None, reason="no OpenVINO")
def test_another_engine_gives_its_own_bits_again(tmp_path: Path, ssn_agent: Command) -> None:
    record(tmp_path, "openvino/fp32")
    kept = Kept(tmp_path, ssn_agent)
    number, _ = kept.of("FAIL")
    code, found, errors = kept.replay(number)
    assert code == 0, errors
    assert (found["engine"], found["found"]) == ("openvino/fp32", "same bits")
    code, found, errors = kept.replay(number, "--engine", REFERENCE)
    assert code == 0, errors
    assert (found["expected"], found["engine"]) == ("within 1e-4", REFERENCE)
    assert 0 < found["score_difference"] <= 1e-4
