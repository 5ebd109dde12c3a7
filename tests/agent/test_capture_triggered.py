"""A camera that is asked for a frame by each trigger: one frame a trigger, its own, or a reason."""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from ssn_agent.capture.camera import Frame
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.triggered import Triggered
from ssn_agent.errors import CameraEnded, CameraError
from ssn_agent.frames.heartbeat import beat_due_at
from ssn_agent.frames.layout import Captured
from ssn_agent.frames.notes import CameraState, IntakeNote
from ssn_agent.frames.slots import SLOTS
from ssn_contract.messages import InvalidReason
from ssn_contract.zeromq import PartAnswer
from support.capture import CaptureProcess, capture_process, connected
from support.records import LATE
from support.scripted import Asked
from support.waiting import wait_until

GONE = CameraError("cable pulled")


def picture(number: int) -> Frame:
    """Return a frame that is recognised by its values."""
    return Frame(np.full((4, 6), number, np.uint8), frame_id=number)


class Line:
    """A triggered camera in front of its journal, served by the test itself."""

    def __init__(self, camera: Asked, capture: CaptureProcess) -> None:
        self.camera = camera
        self.capture = capture
        intake = Intake("left", capture.settings.cameras["left"], capture.files)
        life = Life("left", capture.files)
        triggers = capture.files.triggers("left")
        self.triggered = Triggered(camera, capture.bind, triggers, intake, life)
        self.triggered.open()
        self._peer = connected(capture.bind)

    def close(self) -> None:
        self._peer.close()
        self.camera.hangs.clear()
        self.triggered.close()

    def until(self, state: CameraState) -> None:
        """Serve until the camera is said to be so."""

        def reached() -> bool:
            self.triggered.turn()
            note = self.capture.journal.camera_note()
            return note is not None and note.state is state

        wait_until(reached, 10, f"not {state.name}")

    def ask(self, name: str, pixels: bytes | None = None) -> PartAnswer:
        """Announce a part, and return the answer."""
        header = {"version": 1, "part_id": f"P-{name}"}
        shape = {} if pixels is None else {"height": 1, "width": len(pixels), "channels": 1}
        message = [name.encode(), json.dumps(header | shape).encode()]
        self._peer.send_multipart([*message, *([] if pixels is None else [pixels])])

        def answered() -> bool:
            self.triggered.turn()
            return bool(self._peer.poll(0))

        wait_until(answered, 10, "no answer")
        return PartAnswer.model_validate_json(self._peer.recv_multipart()[-1])

    def until_closed(self, count: int) -> list[tuple[str | None, int | InvalidReason | None]]:
        """Serve until so many parts have a frame or a reason; return part ids and which."""

        def found() -> list[tuple[str | None, int | InvalidReason | None]]:
            return [
                (e.accepted.part_id, e.captured.reason or e.captured.frame_id)
                for e in self.capture.entries()
                if e.captured is not None
            ]

        def reached() -> bool:
            self.triggered.turn()
            return len(found()) >= count

        wait_until(reached, 10, "parts without a frame or a reason")
        return found()

    def judge(self) -> None:
        """Free the slots, as inference does."""
        for entry in self.capture.entries():
            self.capture.journal.finish(entry.sequence, LATE)

    def counts(self) -> IntakeNote:
        return self.capture.journal.intake_note() or IntakeNote()


@contextmanager
def line(tmp_path: Path, camera: Asked, *, deadline_ms: float = 60_000) -> Iterator[Line]:
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), capacity=64, deadline_ms=deadline_ms) as capture,
        closing(Line(camera, capture)) as made,
    ):
        made.until(CameraState.RUNNING)
        yield made


def test_every_trigger_gets_the_frame_that_it_asked_for_in_order(tmp_path: Path) -> None:
    with line(tmp_path, Asked(*map(picture, range(1, 31)))) as made:
        for number in range(1, 31):
            assert made.ask(str(number)).status == "accepted"
            made.until_closed(number)
            made.judge()
        assert made.until_closed(30) == [(f"P-{n}", n) for n in range(1, 31)]
        assert made.camera.triggered == 30
        assert made.counts() == IntakeNote(received_frames=30)


def test_of_triggers_in_quick_succession_the_first_gets_its_frame_and_the_others_are_overrun(
    tmp_path: Path,
) -> None:
    with line(tmp_path, Asked(picture(1), picture(2))) as made:
        made.camera.gate.clear()
        assert [made.ask(name).frame for name in "abc"] == ["awaited", "none", "none"]
        overrun = InvalidReason.OVERRUN
        assert made.until_closed(2) == [("P-b", overrun), ("P-c", overrun)]
        made.camera.gate.set()
        assert made.until_closed(3) == [("P-a", 1), ("P-b", overrun), ("P-c", overrun)]
        made.ask("d")
        assert made.until_closed(4)[-1] == ("P-d", 2)
        assert made.camera.triggered == 2  # an overrun part asks for nothing


def test_a_frame_that_comes_too_late_is_never_the_next_triggers(tmp_path: Path) -> None:
    with line(tmp_path, Asked(picture(1), picture(2)), deadline_ms=150) as made:
        made.camera.gate.clear()
        made.ask("a")
        assert made.until_closed(1) == [("P-a", InvalidReason.LATE)]
        wait_until(lambda: made.camera.armed == 2, 5, "not armed afresh")
        made.camera.gate.set()
        made.ask("b")
        assert made.until_closed(2)[-1] == ("P-b", 2)


def test_a_trigger_that_the_camera_does_not_answer_costs_the_next_one_nothing(
    tmp_path: Path,
) -> None:
    with line(tmp_path, Asked(None, picture(2)), deadline_ms=150) as made:
        made.ask("a")
        assert made.until_closed(1) == [("P-a", InvalidReason.LATE)]
        made.ask("b")
        assert made.until_closed(2)[-1] == ("P-b", 2)


def test_one_frame_that_is_lost_costs_no_more_parts_than_come_while_the_camera_is_armed(
    tmp_path: Path,
) -> None:
    class SlowToArm(Asked):
        def arm(self) -> None:
            super().arm()
            time.sleep(0.3)

    camera = SlowToArm(None, *map(picture, range(2, 40)))
    with line(tmp_path, camera, deadline_ms=150) as made:
        names = [str(number) for number in range(12)]
        for name in names:
            made.ask(name)
            until_s = time.monotonic() + 0.2
            while time.monotonic() < until_s:
                made.triggered.turn()
            made.judge()
        found = made.until_closed(len(names))
        assert sum(isinstance(which, int) for _, which in found) >= len(names) - 4
        assert made.camera.armed <= 3


def test_while_the_camera_is_away_triggers_are_lost_at_once_and_answered(tmp_path: Path) -> None:
    with line(tmp_path, Asked(GONE, picture(2))) as made:
        made.ask("a")
        assert made.until_closed(1) == [("P-a", InvalidReason.LOST)]
        assert made.ask("b").frame == "none"
        assert made.until_closed(2)[-1] == ("P-b", InvalidReason.LOST)
        assert made.camera.triggered == 1
        made.until(CameraState.RUNNING)
        made.ask("c")
        assert made.until_closed(3)[-1] == ("P-c", 2)
        assert made.counts() == IntakeNote(received_frames=1, reconnects=1)


def test_a_camera_that_hangs_leaves_triggers_answered_and_the_heartbeat_silent(
    tmp_path: Path,
) -> None:
    with line(tmp_path, Asked(picture(1))) as made:
        made.camera.frame_limit_s = -1.0  # so that its margin is over at once
        made.camera.hangs.set()
        path = made.capture.files.heartbeat("capture:left")
        wait_until(lambda: _stands_still(made, path), 5, "it beats")
        assert made.ask("a").frame == "awaited"


def _stands_still(made: Line, path: Path) -> bool:
    before = beat_due_at(path)
    made.triggered.turn()
    return beat_due_at(path) == before


def test_a_frame_that_comes_to_a_camera_of_its_own_is_refused(tmp_path: Path) -> None:
    with line(tmp_path, Asked()) as made:
        answer = made.ask("a", b"\1\2\3")
        assert answer.status == "malformed"
        assert answer.problem is not None
        assert "triggers alone" in answer.problem
        assert made.capture.entries() == []


def test_a_trigger_whose_frame_finds_no_slot_is_overload(tmp_path: Path) -> None:
    with line(tmp_path, Asked(*map(picture, range(1, SLOTS + 2)))) as made:
        for number in range(1, SLOTS + 2):
            made.ask(str(number))
            made.until_closed(number)
        assert made.until_closed(SLOTS + 1)[-1] == (f"P-{SLOTS + 1}", InvalidReason.OVERLOAD)


def test_a_source_that_ends_ends_the_capture_process(tmp_path: Path) -> None:
    with line(tmp_path, Asked(CameraEnded("came to its end"))) as made:

        def serve() -> None:
            made.ask("a")
            made.until_closed(2)

        with pytest.raises(CameraEnded, match="its end"):
            serve()
        (entry,) = made.capture.entries()
        assert entry.captured == Captured(InvalidReason.LOST)


def test_an_address_that_is_taken_is_said_and_tried_again(tmp_path: Path) -> None:
    waits: list[float] = []

    class Asks:
        """Asked to stop when it has waited twice."""

        def __bool__(self) -> bool:
            return len(waits) == 2

        def wait(self, wait_s: float) -> None:
            waits.append(wait_s)

    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime)) as capture,
        closing(connected(capture.bind, zmq.ROUTER)) as other,
    ):
        port = other.bind_to_random_port("tcp://127.0.0.1")
        intake = Intake("left", capture.settings.cameras["left"], capture.files)
        life = Life("left", capture.files)
        bind, triggers = f"tcp://127.0.0.1:{port}", capture.files.triggers("left")
        triggered = Triggered(Asked(), bind, triggers, intake, life)
        triggered.run(Asks())  # type: ignore[arg-type]  # a Stop takes this process' signals
        note = capture.journal.camera_note()
    assert note is not None
    assert note.state is CameraState.FAULTY
    assert "source.trigger_bind" in note.message
