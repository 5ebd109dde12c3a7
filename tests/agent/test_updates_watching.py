"""What is counted of a bundle's parts, and which labelled images are compared."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.inference.choice import Findings
from ssn_agent.inference.engines.available import REFERENCE
from ssn_agent.inference.model import Model, engines_for
from ssn_agent.inference.trial import Trial
from ssn_agent.updates.own_images import own_images, trained_on
from ssn_agent.updates.trying import Engines
from ssn_agent.updates.watching import BY_A_MODEL, Cameras
from ssn_contract.messages import InvalidReason
from support.bundles import write_brightness_bundle
from support.channels import NAME
from support.records import EPOCH
from support.updates import Box, following, label_parts

NEW_EPOCH = UUID(int=7)
NEW = "cd" * 32
OLD = "ab" * 32


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    (tmp_path / "root.json").touch()
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        url = "http://127.0.0.1:1"
        yield Box(following(tmp_path, Path(runtime), url, tmp_path / "root.json"))


def cameras(box: Box) -> Cameras:
    return Cameras(box.settings, box.files, NAME)


def test_parts_before_and_after_a_swap_are_told_apart(box: Box) -> None:
    for number in range(40):
        box.part(fails=number < 4, digest=OLD, took_ms=2)
    box.part(digest=NEW)  # the swap was between two frames, and is noticed a moment later
    box.done()
    watched = cameras(box)
    marks = watched.marks()
    assert (marks["left"].epoch, marks["left"].sequence) == (EPOCH, 41)
    before = watched.before(marks, NEW)
    assert (before.parts, before.failed, before.latency_ms) == (40, 4, 2.0)
    watched.start(marks)
    for _ in range(300):  # more than the ring holds, and looked at in between
        box.part(digest=NEW)
        after = watched.look()
    box.done()
    assert after.parts == 299  # the last one has no verdict yet
    assert watched.look().parts == 300


def test_what_the_ring_lost_meanwhile_is_passed_over(box: Box) -> None:
    watched = cameras(box)
    watched.start(watched.marks())
    for _ in range(1000):
        box.part(digest=NEW)
    box.done()
    assert watched.look().parts == 256


def test_a_new_numbering_is_counted_from_its_beginning(box: Box) -> None:
    for _ in range(5):
        box.part(digest=NEW)
    box.done()
    watched = cameras(box)
    marks = {"left": watched.marks()["left"].model_copy(update={"epoch": NEW_EPOCH})}
    watched.start(marks)
    assert watched.look().parts == 5


@pytest.mark.parametrize("reason", InvalidReason)
def test_an_invalid_counts_where_a_model_can_have_caused_it(
    box: Box, reason: InvalidReason
) -> None:
    watched = cameras(box)
    watched.start(watched.marks())
    box.part(reason=reason)
    box.done()
    tally = watched.look()
    counts = reason in BY_A_MODEL
    assert (tally.parts, tally.invalid) == (counts, counts)
    assert tally.late == (reason is InvalidReason.LATE)


def test_the_newest_label_of_each_kept_picture_counts(box: Box) -> None:
    paths = label_parts(box, bad=2, good=1)
    box.label(1, "good")
    paths[2].unlink()
    box.sql("UPDATE verdicts SET challenge = 'bad' WHERE trigger_id = 2")
    (image,) = own_images(box.settings, NAME)
    assert (image.path, image.is_bad, image.threshold) == (paths[0], False, 0.5)
    assert own_images(box.settings, "another") == []


def test_a_bundle_that_does_not_say_what_it_was_trained_on_is_compared_on_all(
    tmp_path: Path,
) -> None:
    silent = write_brightness_bundle(tmp_path / "silent.ssn")
    other = write_brightness_bundle(tmp_path / "other.ssn", entries={"data.json": b"[]"})
    for path in (silent, other):
        assert trained_on(Bundle.open(path)) == frozenset()


def test_what_is_found_out_about_engines_in_shadow_inference_recalls_and_the_other_way_round(
    box: Box, tmp_path: Path
) -> None:
    inference = box.settings.inference.model_copy(update={"engine": "auto"})
    settings = box.settings.model_copy(update={"inference": inference})
    path = write_brightness_bundle(tmp_path / "brightness.ssn")
    heart = Heartbeat(box.files.heartbeat("inference"))
    model = Model(Bundle.open(path), settings, box.files, heart)
    found = [Trial(engine=REFERENCE, median_ms=1.0)]
    Findings(model.engine_dir).keep(found)
    engines = Engines(Bundle.open(path), settings)
    if set(engines_for(Bundle.open(path))) != {REFERENCE}:
        assert engines.try_all(lambda: None) == found
    assert engines.load_fastest().engine.name == REFERENCE
