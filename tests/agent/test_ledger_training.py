"""What people say of pictures that were kept, as the folder that the trainer reads."""

import csv
import dataclasses
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, update

from ssn_agent.errors import UsageError
from ssn_agent.frames.layout import Outcome
from ssn_agent.inference.image_files import image_path
from ssn_agent.ledger import training
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.query import EVERYTHING, Filter
from ssn_agent.ledger.reader import open_ledger
from ssn_agent.ledger.tables import VerdictRow
from ssn_agent.ledger.training import COLUMNS, Exported, export_for_training
from ssn_agent.settings import Settings
from ssn_contract.messages import VerdictKind
from support.disks import small_disk
from support.labelled import label_writer, said, write_verdicts
from support.ledgers import settings_in
from support.records import EPOCH

FAILS = 6


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Six FAILs with pictures but for the fifth, a PASS without; all labelled but the sixth."""
    settings = settings_in(tmp_path)
    outcomes = [*[Outcome.FAIL] * FAILS, Outcome.PASS]
    write_verdicts(settings, tmp_path / "left.journal", outcomes)
    for number in (1, 2, 3, 4, 6):
        path = image_path(settings.image_dir, "left", EPOCH, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"picture {number}".encode())
    labels = [said(n, "bad", defect_type="crack, long") for n in (1, 2, 4, 5, 7)]
    again = said(2, "good", "k.abt"), said(3, "good", "k.abt")
    label_writer(settings).write([*labels, *again])
    return settings


def export(settings: Settings, out: Path, wanted: Filter = EVERYTHING, **more: bool) -> Exported:
    engine = open_ledger(settings.ledger_path)
    return export_for_training(engine, settings.image_dir, out, wanted, **more)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_labelled_pictures_are_copied_with_what_the_newest_label_says(
    settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = export(settings, out)
    assert done == Exported(images=4, good=2, bad=2, disagreements=2, missing=1)
    rows = table(out)
    assert tuple(rows[0]) == COLUMNS
    assert [(r["sequence"], r["label"], r["labeller"], r["disagreement"]) for r in rows] == [
        ("1", "bad", "m.weber", "false"),
        ("2", "good", "k.abt", "true"),
        ("3", "good", "k.abt", "true"),
        ("4", "bad", "m.weber", "false"),
    ]
    first = rows[0]
    assert first["image"] == f"images/left/{EPOCH}-1.png"
    assert (first["part_id"], first["product"], first["camera"]) == ("part-1", "", "left")
    assert (first["verdict"], first["score"], first["model"]) == (
        *("FAIL", "0.875"),
        "brightness-1.0.0",
    )
    assert first["defect_type"] == "crack, long"
    assert first["triggered_at"] == "2026-01-01T00:00:00Z"
    assert first["labelled_at"].endswith("Z")
    assert {r["image"]: (out / r["image"]).read_text() for r in rows} == {
        f"images/left/{EPOCH}-{n}.png": f"picture {n}" for n in (1, 2, 3, 4)
    }
    assert out.stat().st_mode & 0o777 == 0o755


def test_unlabelled_ones_come_with_an_empty_label_where_they_are_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    done = export(settings, tmp_path / "out", unlabelled=True)
    assert (done.images, done.good, done.bad) == (5, 2, 2)
    assert "1 unlabelled" in str(done)
    last = table(tmp_path / "out")[-1]
    assert (last["sequence"], last["label"], last["labelled_at"]) == ("6", "", "")
    assert last["disagreement"] == "false"


def test_a_challenge_part_is_test_data_and_never_trained_on(
    settings: Settings, tmp_path: Path
) -> None:
    with open_database(settings.ledger_path).begin() as connection:
        connection.execute(
            update(VerdictRow).where(VerdictRow.trigger_id == 1), {"challenge": "bad"}
        )
    assert export(settings, tmp_path / "out").images == 3
    assert [r["sequence"] for r in table(tmp_path / "out")] == ["2", "3", "4"]


def test_the_filters_of_an_export_choose_here_too(settings: Settings, tmp_path: Path) -> None:
    for number, wanted in enumerate(
        (
            Filter(part="part-3"),
            Filter(camera="right"),
            Filter(verdict=VerdictKind.PASS),
            dataclasses.replace(EVERYTHING, labelled=False),
        )
    ):
        done = export(settings, tmp_path / f"out{number}", wanted, unlabelled=True)
        assert done.images == (1, 0, 0, 1)[number]


def test_a_folder_that_is_not_empty_is_refused_and_nothing_is_left_of_one_that_fails(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(settings, out)  # an empty one is taken
    with pytest.raises(UsageError, match="not empty; name another folder"):
        export(settings, out)
    with pytest.raises(UsageError, match="no folder"):
        export(settings, tmp_path / "no folder" / "out")
    before = sorted(tmp_path.iterdir())

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", fails)
    with pytest.raises(UsageError, match="No space left on device"):
        export(settings, tmp_path / "other")
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_never_takes_the_disk_from_the_ledger(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", mib=16):
        settings = settings_in(tmp_path)
        write_verdicts(settings, tmp_path / "left.journal", [Outcome.FAIL])
        label_writer(settings).write([said(1, "bad")])
        path = image_path(settings.image_dir, "left", EPOCH, 1)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\0" * 7 * 2**20)
        assert export(settings, tmp_path / "out").images == 1
        path.write_bytes(b"\0" * 8 * 2**20)
        with pytest.raises(UsageError, match="8 MiB, and too little of the disk"):
            export(settings, settings.data_dir / "out")
        assert not (settings.data_dir / "out").exists()


def test_the_command_says_how_many_there_are_and_what_it_does_not_take(
    settings: Settings, tmp_path: Path, ssn_agent: Callable[..., tuple[int, str, str]]
) -> None:
    command = ["ledger", "export", "--ledger", settings.ledger_path]
    code, out, err = ssn_agent(*command, "--for-training", tmp_path / "out", "--camera", "left")
    assert (code, out) == (0, "")
    assert err.endswith("out: 4 images, 2 good, 2 bad, 2 disagreements, 1 missing\n")
    assert ssn_agent(*command, "--all")[0] == 2
    both = ssn_agent(*command, "--out", tmp_path / "x", "--for-training", tmp_path / "y")
    assert both[0] == 2
    assert "not both" in both[2]


def test_rows_whose_picture_is_gone_are_not_held_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    monkeypatch.setattr(training, "CHUNK", 10)
    write_verdicts(settings, tmp_path / "left.journal", [Outcome.FAIL] * 200)
    held = []

    def source(image_dir: Path, row: Row[Any]) -> Path:
        if row.sequence == 200:
            held.append(sum(isinstance(one, Row) for one in gc.get_objects()))
        return image_path(image_dir, row.camera, row.epoch, row.sequence)

    monkeypatch.setattr(training, "_source", source)
    done = export(settings, tmp_path / "out", unlabelled=True)
    assert (done.images, done.missing, len(held)) == (0, 200, 1)
    assert held[0] < 100
