"""Capture counts every frame once, and says how its camera is."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssn_agent.capture.camera import Camera, Frame, FrameIds, HostTime
from ssn_agent.capture.free_running import FreeRunning
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.errors import CameraError
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import SPILL_RECORDS, Captured, Decision, Outcome
from ssn_agent.frames.notes import CameraState, IntakeNote
from ssn_agent.frames.pixel_format import PixelFormat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import SLOT_BYTES, SLOTS, PixelSlots
from ssn_agent.inference.process import Inference
from ssn_agent.processes import Stop
from ssn_agent.settings import Settings
from ssn_contract.messages import InvalidReason
from support.bundles import write_brightness_bundle
from support.ledgers import settings_in
from support.records import judged, new_journal, trigger
from support.scripted import Script, Step

DARK = np.full((32, 32), 20, np.uint8)
BRIGHT = np.full((32, 32), 250, np.uint8)


@pytest.fixture
def stop() -> Iterator[Stop]:
    """Nobody asks to stop; this process gets its own signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Stop()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        yield settings_in(tmp_path, runtime_dir=Path(runtime))


@pytest.fixture
def journal(settings: Settings) -> Iterator[Journal]:
    files = RuntimeFiles(settings.runtime_dir)
    PixelSlots.create(files.pixels("left"))
    with closing(new_journal(files.journal("left"), capacity=16)) as made:
        yield made


def run(settings: Settings, camera: Camera, stop: Stop) -> None:
    files = RuntimeFiles(settings.runtime_dir)
    intake = Intake("left", settings.cameras["left"], files)
    FreeRunning(camera, intake, Life("left", files)).run(stop)


def entries(journal: Journal) -> list[Entry]:
    journal.refresh()
    return list(journal.entries(lambda _: True))


def state(journal: Journal) -> CameraState:
    note = journal.camera_note()
    assert note is not None
    return note.state


def test_every_frame_is_a_trigger_with_its_pixels_or_the_reason_why_not(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    too_large = np.broadcast_to(np.uint8(1), (8192, SLOT_BYTES // 8192 + 1))
    script = Script(Frame(DARK, "a", 7), Frame(None, "b"), Frame(too_large, "c"))
    run(settings, script, stop)
    first, second, third = entries(journal)
    assert [e.accepted.part_id for e in (first, second, third)] == ["a", "b", "c"]
    assert first.captured is not None
    assert (first.captured.reason, first.captured.frame_id) == (None, 7)
    assert second.captured == third.captured == Captured(InvalidReason.UNREADABLE)
    assert state(journal) is CameraState.ENDED
    assert script.opened == script.closed == 1


def test_a_frame_of_another_depth_or_channel_count_is_unreadable_and_capture_goes_on(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    deep: Any = np.full((6, 8), 300, np.uint16)
    with_alpha = np.zeros((6, 8, 4), np.uint8)
    mistaken = Frame(DARK, pixel_format=PixelFormat.RGB8)
    pattern = Frame(DARK, pixel_format=PixelFormat.BayerGR8)
    run(settings, Script(Frame(deep), Frame(with_alpha), mistaken, pattern), stop)
    found = [entry.captured for entry in entries(journal)]
    assert found[:3] == [Captured(InvalidReason.UNREADABLE)] * 3
    assert found[3] is not None
    assert (found[3].reason, found[3].pixel_format) == (None, PixelFormat.BayerGR8)


def test_frames_that_find_no_slot_are_overload_and_capture_goes_on(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(*[Frame(DARK)] * (SLOTS + 2)), stop)
    found = [e.captured.reason for e in entries(journal) if e.captured is not None]
    assert found == [None] * SLOTS + [InvalidReason.OVERLOAD] * 2


def test_a_deadline_is_counted_from_the_trigger(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(Frame(DARK)), stop)
    (entry,) = entries(journal)
    accepted = entry.accepted
    assert accepted.deadline_monotonic_ns - accepted.triggered_monotonic_ns == 2_000_000_000


def test_of_a_backlog_what_is_past_its_deadline_is_late_and_leaves_the_slots_to_what_is_not(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    taken = HostTime.now().earlier(3_000_000_000)
    backlog = [Frame(DARK, captured=taken)] * SLOTS + [Frame(BRIGHT)] * SLOTS
    run(settings, Script(*backlog), stop)
    found = [e.captured.reason for e in entries(journal) if e.captured is not None]
    assert found == [InvalidReason.LATE] * SLOTS + [None] * SLOTS
    note = journal.intake_note()
    assert note is not None
    assert note.received_frames == 2 * SLOTS


@pytest.mark.parametrize("closed_as_late", [False, True])
def test_what_a_killed_capture_left_without_a_frame_is_closed_and_inference_goes_on_behind_it(
    settings: Settings, journal: Journal, tmp_path: Path, stop: Stop, *, closed_as_late: bool
) -> None:
    left = journal.accept(trigger())
    if closed_as_late:  # the ledger process was faster than the next capture process
        journal.decide(left, Decision(Outcome.INVALID, InvalidReason.LATE, 1, 2))
        journal.commit(left)
    bundle = write_brightness_bundle(tmp_path / "b.ssn")
    camera = settings.cameras["left"].model_copy(update={"bundle": bundle})
    judging = settings.model_copy(update={"cameras": {"left": camera}})
    inference = Inference(judging, RuntimeFiles(settings.runtime_dir))
    inference.load()
    assert not inference.turn()
    run(settings, Script(Frame(BRIGHT), Frame(DARK)), stop)
    while inference.turn():
        pass
    lost, bright, dark = entries(journal)
    assert lost.captured == Captured(InvalidReason.LOST)
    assert bright.result is not None
    assert dark.result is not None
    assert (bright.result.outcome, dark.result.outcome) == (Outcome.FAIL, Outcome.PASS)


class Watched(Script):
    """Notes how the camera is said to be before each frame."""

    def __init__(self, journal: Journal, *steps: Step) -> None:
        super().__init__(*steps)
        self._journal = journal
        self.states: list[CameraState] = []

    def next_frame(self, wait_s: float) -> Frame | None:
        self.states.append(state(self._journal))
        return super().next_frame(wait_s)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_camera_that_gives_frames_is_running_also_in_a_journal_that_goes_on(
    settings: Settings, journal: Journal, before: int, stop: Stop
) -> None:
    for _ in range(before):
        sequence = journal.accept(trigger())
        journal.capture(sequence, Captured(InvalidReason.LOST))
    camera = Watched(journal, Frame(DARK), Frame(DARK))
    run(settings, camera, stop)
    assert camera.states == [CameraState.STARTING, CameraState.RUNNING, CameraState.RUNNING]


def test_a_faulty_camera_stays_faulty_until_it_gives_a_frame_again(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    monkeypatch.setattr("ssn_agent.capture.reopening.WAITS_S", (0.0,))
    gone = CameraError("cable pulled")
    camera = Watched(journal, Frame(DARK), gone, gone, Frame(DARK), Frame(DARK))
    run(settings, camera, stop)
    faulty, running = CameraState.FAULTY, CameraState.RUNNING
    assert camera.states == [CameraState.STARTING, running, faulty, faulty, running, running]
    assert camera.opened == camera.closed == 3


def test_a_camera_counts_as_opened_again_when_it_is_and_not_when_that_fails(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    monkeypatch.setattr("ssn_agent.capture.reopening.WAITS_S", (0.0,))

    class Away(Script):
        def open(self) -> None:
            super().open()
            if self.opened in {2, 3}:
                raise CameraError("does not answer")

    run(settings, Away(Frame(DARK), CameraError("cable pulled"), Frame(DARK)), stop)
    note = journal.intake_note()
    assert note is not None
    assert note.reconnects == 1


def fill(journal: Journal) -> None:
    for _ in range(journal.header.capacity):
        sequence = journal.accept(trigger())
        journal.capture(sequence, Captured(InvalidReason.OVERLOAD))


def test_frames_that_a_full_journal_cannot_take_are_counted_as_invalid_and_the_camera_is_well(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    fill(journal)
    camera = Watched(journal, Frame(DARK), Frame(DARK))
    run(settings, camera, stop)
    full = journal.header.capacity
    spilled = [entry for entry in entries(journal) if entry.sequence > full]
    assert [entry.sequence for entry in spilled] == [full + 1, full + 2]
    reasons = {entry.captured.reason for entry in spilled if entry.captured is not None}
    assert reasons == {InvalidReason.LEDGER}
    assert camera.states[1:] == [CameraState.RUNNING, CameraState.RUNNING]


def test_frames_that_nobody_counts_any_more_make_the_camera_faulty_until_there_is_room(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    fill(journal)
    for _ in range(SPILL_RECORDS):
        journal.capture(journal.spill(trigger()), Captured(InvalidReason.LEDGER))

    class Recovering(Watched):
        def next_frame(self, wait_s: float) -> Frame | None:
            if len(self.states) == 2:
                for entry in entries(journal):
                    journal.finish(entry.sequence, judged(Outcome.PASS))
                    journal.commit(entry.sequence)
            return super().next_frame(wait_s)

    camera = Recovering(journal, Frame(DARK), Frame(DARK), Frame(DARK))
    run(settings, camera, stop)
    assert camera.states[-1] is CameraState.RUNNING
    assert camera.states[1:3] == [CameraState.FAULTY, CameraState.FAULTY]


def ids(journal: Journal) -> list[int | InvalidReason | None]:
    """Return each part's frame id, or why it has no frame."""
    found = [e.captured for e in entries(journal) if e.captured is not None]
    return [captured.reason or captured.frame_id for captured in found]


def counts(journal: Journal) -> IntakeNote:
    return journal.intake_note() or IntakeNote()


def numbered(*numbers: int) -> list[Frame]:
    return [Frame(DARK, frame_id=number) for number in numbers]


def test_parts_that_passed_between_two_frames_are_lost_before_the_second_one(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(*numbered(7, 8, 11)), stop)
    lost = InvalidReason.LOST
    assert ids(journal) == [7, 8, lost, lost, 11]
    assert counts(journal) == IntakeNote(received_frames=3, missed_frames=2)


def test_frame_ids_that_wrap_around_lose_nothing(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    camera = Script(*numbered(65534, 65535, 1, 2, 4))
    camera.frame_ids = FrameIds(first=1, last=65535)
    run(settings, camera, stop)
    assert ids(journal) == [65534, 65535, 1, 2, InvalidReason.LOST, 4]


def test_ids_that_say_nothing_lose_nothing(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    camera = Script(*numbered(7, 99))
    camera.frame_ids = None
    run(settings, camera, stop)
    assert ids(journal) == [7, 99]


def test_a_frame_whose_id_was_lost_with_a_part_of_it_is_the_next_one(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    failed = [Frame(None, frame_id=number) for number in (0, None, 2**64 - 1)]
    camera = Script(*numbered(500), *failed, *numbered(506))
    camera.frame_ids = FrameIds(first=1, last=65535)
    run(settings, camera, stop)
    unreadable, lost = InvalidReason.UNREADABLE, InvalidReason.LOST
    assert ids(journal) == [500, *[unreadable] * 3, *[lost] * 2, 506]
    assert counts(journal) == IntakeNote(received_frames=5, incomplete_frames=3, missed_frames=2)


def test_a_number_that_no_device_means_is_none(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(Frame(DARK, frame_id=2**64 - 1, device_timestamp_ns=2**64 - 1)), stop)
    (entry,) = entries(journal)
    assert entry.captured is not None
    assert (entry.captured.frame_id, entry.captured.device_timestamp_ns) == (None, None)


def test_a_damaged_frame_past_its_deadline_is_unreadable_and_counted_as_incomplete(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    old = HostTime.now().earlier(10_000_000_000)
    run(settings, Script(Frame(None, captured=old), Frame(DARK, captured=old)), stop)
    assert ids(journal) == [InvalidReason.UNREADABLE, InvalidReason.LATE]
    assert counts(journal) == IntakeNote(received_frames=2, incomplete_frames=1)


def test_frames_are_counted_also_where_the_journal_takes_no_more(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    fill(journal)
    run(settings, Script(*numbered(7), Frame(None, frame_id=8), *numbered(11)), stop)
    assert counts(journal) == IntakeNote(received_frames=3, incomplete_frames=1, missed_frames=2)


def test_a_device_that_counts_anew_goes_on_and_no_part_is_invented(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(*numbered(7, 8, 3, 4, 5000, 5001)), stop)
    assert ids(journal) == [7, 8, 3, 4, 5000, 5001]


def test_a_frame_that_comes_twice_is_judged_once(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    run(settings, Script(*numbered(7, 8, 8, 9)), stop)
    assert ids(journal) == [7, 8, 9]
    assert counts(journal) == IntakeNote(received_frames=4, discarded_frames=1)


def test_a_frame_that_failed_in_the_camera_is_unreadable_and_no_gap(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    failed = Frame(None, frame_id=8, problem="3 packets are missing")
    run(settings, Script(*numbered(7), failed, *numbered(9)), stop)
    assert ids(journal) == [7, InvalidReason.UNREADABLE, 9]
    assert counts(journal) == IntakeNote(received_frames=3, incomplete_frames=1)


def test_a_part_is_timed_by_when_its_frame_was_taken_and_not_by_when_it_was_read(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    taken = HostTime.now().earlier(700_000_000)
    run(settings, Script(Frame(DARK, captured=taken, device_timestamp_ns=42)), stop)
    (entry,) = entries(journal)
    assert entry.accepted.triggered_monotonic_ns == taken.monotonic_ns
    assert entry.accepted.deadline_monotonic_ns == taken.monotonic_ns + 2_000_000_000
    assert entry.captured is not None
    assert entry.captured.frame_utc_ns == entry.accepted.triggered_utc_ns == taken.utc_ns
    assert entry.captured.device_timestamp_ns == 42


def test_a_camera_that_is_silent_for_too_long_is_faulty_and_opened_again(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch, stop: Stop
) -> None:
    monkeypatch.setattr("ssn_agent.capture.reopening.WAITS_S", (0.0,))
    camera = Watched(journal, Frame(DARK), None, Frame(DARK), Frame(DARK))
    camera.silence_limit_s = 0.0
    run(settings, camera, stop)
    running = CameraState.RUNNING
    assert camera.states == [
        CameraState.STARTING,
        running,
        CameraState.FAULTY,
        running,
        running,
    ]
    assert camera.opened == 2


def test_a_source_that_may_be_silent_is_running_while_it_is(
    settings: Settings, journal: Journal, stop: Stop
) -> None:
    camera = Watched(journal, None, None, Frame(DARK))
    run(settings, camera, stop)
    assert camera.states[1:] == [CameraState.RUNNING] * 3
    assert camera.opened == 1
