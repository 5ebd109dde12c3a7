"""Parts over ZeroMQ: real sockets, a real capture process, and peers that do what they please."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ssn_agent.capture.parts import Parts
from ssn_agent.capture.zeromq import ZeroMqInput
from ssn_agent.errors import CameraError
from ssn_agent.frames.layout import SPILL_RECORDS, Captured, Outcome
from ssn_agent.frames.notes import IntakeNote
from ssn_agent.frames.slots import SLOT_BYTES, SLOTS, PixelSlots
from ssn_contract.messages import InvalidReason
from support.capture import CaptureProcess, Input, capture_process, connected
from support.records import EPOCH, judged
from support.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "zeromq.md"
CLIENT, USAGE = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
GRAY = np.arange(48 * 64, dtype=np.uint32).astype(np.uint8).reshape(48, 64)
RGB = np.stack([GRAY, GRAY + 1, GRAY + 2], axis=2)
KILLED = -9


@pytest.fixture
def capture(tmp_path: Path) -> Iterator[CaptureProcess]:
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime)) as made,
    ):
        yield made


def client() -> Any:
    """Return `send_part` of the document, as it is written there."""
    names: dict[str, Any] = {}
    exec(CLIENT, names)  # noqa: S102 -- the document's own client
    return names["send_part"]


@pytest.fixture
def served(capture: CaptureProcess) -> Iterator[Input]:
    with closing(Input(capture)) as made:
        yield made


def reasons(capture: CaptureProcess) -> list[InvalidReason | None]:
    return [e.captured.reason for e in capture.entries() if e.captured is not None]


@pytest.mark.parametrize("pixels", [GRAY, RGB], ids=["gray", "rgb"])
def test_the_client_of_the_document_gets_its_number_and_its_pixels_are_in_a_slot(
    capture: CaptureProcess, pixels: Any
) -> None:
    assert len([line for line in CLIENT.splitlines() if line.strip()]) <= 13
    compile(USAGE, "usage", "exec")
    capture.start()
    with closing(connected(capture.bind)) as socket:
        answer = client()(socket, "id-1", pixels, part_id="P-0815", product="tile", frame_id=7)
        assert answer["status"] == "accepted"
        assert (answer["epoch"], answer["sequence"]) == (str(EPOCH), 1)
        assert (answer["repeated"], answer["frame"]) == (False, "taken")
        assert client()(socket, "id-2")["frame"] == "awaited"
    first, second = capture.entries()
    assert (first.accepted.part_id, first.accepted.product) == ("P-0815", "tile")
    assert first.captured is not None
    assert first.captured.frame_id == 7
    slots = PixelSlots(capture.files.pixels("left"))
    captured = first.captured
    view = slots.view(captured.slot, *GRAY.shape, captured.pixel_format)
    assert np.array_equal(view, pixels)
    assert second.captured is None


def test_a_repeated_id_gets_its_first_number_also_from_the_process_after_a_killed_one(
    capture: CaptureProcess,
) -> None:
    send_part = client()
    with closing(connected(capture.bind)) as socket:
        for expected in (False, True, True):
            capture.start()
            for number in range(1, 4):
                for repeated in (expected, True):
                    answer = send_part(socket, f"id-{number}", GRAY)
                    assert (answer["sequence"], answer["repeated"]) == (number, repeated)
                    assert answer["frame"] == "taken"
            capture.kill()
        assert len(capture.entries()) == 3
    assert "Traceback" not in capture.log()


DIE_BEFORE_THE_PIXELS_ARE_PLACED = """
import os, signal
from ssn_agent.frames.slots import PixelSlots
PixelSlots.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_part_whose_pixels_a_killed_process_had_not_placed_is_lost_and_keeps_its_number(
    capture: CaptureProcess,
) -> None:
    header = json.dumps({"version": 1, "height": 48, "width": 64, "channels": 1}).encode()
    with closing(connected(capture.bind)) as socket:
        capture.start(DIE_BEFORE_THE_PIXELS_ARE_PLACED)
        socket.send_multipart([b"id-1", header, GRAY.tobytes()])
        assert capture.wait() == KILLED
        capture.start()
        answer = client()(socket, "id-1", GRAY)
        assert (answer["sequence"], answer["repeated"], answer["frame"]) == (1, True, "none")
        assert client()(socket, "id-2", GRAY)["sequence"] == 2
    assert reasons(capture) == [InvalidReason.LOST, None]


def test_a_peer_that_sends_more_than_a_slot_holds_is_cut_off_and_the_others_are_served(
    capture: CaptureProcess,
) -> None:
    capture.start()
    with closing(connected(capture.bind)) as honest, closing(connected(capture.bind)) as greedy:
        client()(honest, "id-1", GRAY)
        events = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        greedy.send_multipart([b"id-2", b"{}", bytes(SLOT_BYTES + 1)])
        assert events.poll(20_000), "the greedy one is not cut off"
        assert client()(honest, "id-3", GRAY)["sequence"] == 2


@pytest.mark.parametrize("options", [[], [zmq.REQ_RELAXED, zmq.REQ_CORRELATE]])
def test_a_req_socket_is_answered_in_its_own_envelope(served: Input, options: list[int]) -> None:
    with closing(connected(served.bind, zmq.REQ, options)) as peer:
        assert served.ask(b"a", b'{"version": 1}', peer=peer).sequence == 1
        assert served.ask(b"a", b"nonsense", peer=peer).status == "malformed"
        if options:  # it goes on although it was not answered
            peer.send_multipart([b"a", b'{"version": 1}'])
        assert served.ask(b"a", b'{"version": 1}', peer=peer).repeated


def test_a_peer_that_takes_no_answers_does_not_hold_up_the_others(
    served: Input, capture: CaptureProcess
) -> None:
    with closing(connected(served.bind, options=[zmq.RCVHWM])) as deaf:
        sent = 0

        def malformed() -> int:
            nonlocal sent
            with suppress(zmq.Again):
                while sent < 3000:  # many more than all queues on the way hold
                    deaf.send_multipart([b"a", b"nonsense"], zmq.NOBLOCK)
                    sent += 1
            served.camera.serve()
            note = capture.journal.intake_note()
            return 0 if note is None else note.malformed_messages

        wait_until(lambda: malformed() == 3000, 20, "not all are taken")
        assert served.part("b", GRAY).sequence == 1


HEADER = b'{"version":1,"height":48,"width":64,"channels":1}'
PIXELS = GRAY.tobytes()


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ([b"a"], "1 parts; an id, a header"),
        ([b"a", HEADER, PIXELS, b"more"], "4 parts"),
        ([b"", b"", HEADER], "id: 0 bytes"),
        ([b"a" * 481, HEADER, PIXELS], "id: 481 bytes"),
        ([b"a" * 121, HEADER, PIXELS], "at most 120 characters"),
        ([b"\xff", HEADER, PIXELS], "id: is not UTF-8"),
        ([b"a", b"{", PIXELS], "header: Invalid JSON"),
        ([b"a", b"[" * 4096, PIXELS], "header: Invalid JSON"),
        ([b"a", b" " * 4097, PIXELS], "header: 4097 bytes; up to 4096"),
        ([b"a", b"\xff{}", PIXELS], "header: Invalid JSON"),
        ([b"a", b"{}"], "header.version: Field required"),
        ([b"a", b'{"version":2}'], "header.version: Input should be 1"),
        ([b"a", b'{"version":1,"partid":"x"}'], "header.partid: Extra inputs"),
        ([b"a", b'{"version":1,"part_id":""}'], "header.part_id: String should have at least 1"),
        ([b"a", b'{"version":1,"height":48}'], "height, width and channels go together"),
        ([b"a", b'{"version":1}', PIXELS], "says nothing of the frame's shape, and a frame came"),
        ([b"a", HEADER], "says (48, 64) of the frame's shape, and no frame came"),
        ([b"a", HEADER, PIXELS[1:]], "pixels: 3071 bytes; 48 x 64 are 3072"),
        ([b"a", HEADER, b""], "pixels: 0 bytes; 48 x 64 are 3072"),
        ([b"a", HEADER.replace(b"48", b"32767").replace(b"64", b"32767"), PIXELS], "pixels: 3072"),
        ([b"a", HEADER.replace(b"48", b"-1"), PIXELS], "header.height: Input should be greater"),
        ([b"a", HEADER.replace(b"64", b"1e99"), PIXELS], "header.width: Input should be"),
    ],
)
def test_what_is_not_understood_is_answered_with_what_is_wrong_and_counts_nothing(
    served: Input, capture: CaptureProcess, message: list[bytes], problem: str
) -> None:
    answer = served.ask(*message)
    assert answer.status == "malformed"
    assert problem in str(answer.problem)
    assert answer.id == ("a" if message[0] == b"a" and len(message) in {2, 3} else None)
    assert capture.entries() == []
    note = capture.journal.intake_note()
    assert note is not None
    assert note.malformed_messages == 1
    assert served.part("good", GRAY).sequence == 1


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"a", HEADER, PIXELS]), max_size=5))
@hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_answered_and_the_next_part_is_served(
    served: Input, message: list[bytes]
) -> None:
    if message:  # ZeroMQ has no message without parts
        served.ask(*message)
    assert served.ask(b"good", HEADER, PIXELS).status == "accepted"


def test_a_part_that_finds_the_journal_full_has_its_number_and_no_frame_also_when_it_is_repeated(
    served: Input, capture: CaptureProcess
) -> None:
    for number in range(16):
        assert served.part(f"id-{number}", GRAY).sequence == number + 1
    for repeated in (False, True):
        answer = served.part("one more", GRAY)
        assert (answer.status, answer.sequence) == ("accepted", 17)
        assert (answer.repeated, answer.frame) == (repeated, "none")
    (*_, spilled) = capture.entries()
    assert spilled.captured == Captured(InvalidReason.LEDGER)
    capture.journal.commit(17)  # counted, and its record taken by another one
    for number in range(SPILL_RECORDS):
        capture.journal.commit(served.part(f"later-{number}").sequence or 0)
    assert capture.journal.read(17) is None


def test_where_nobody_counts_any_more_parts_are_refused_and_the_same_is_taken_when_there_is_room(
    served: Input, capture: CaptureProcess
) -> None:
    for number in range(16 + SPILL_RECORDS):
        assert served.part(f"id-{number}", GRAY).sequence == number + 1
    answer = served.part("one more", GRAY)
    assert answer.status == "refused"
    assert "full" in str(answer.problem)
    for entry in capture.entries():
        capture.journal.finish(entry.sequence, judged(Outcome.PASS))
        capture.journal.commit(entry.sequence)
    answer = served.part("one more", GRAY)
    expected = (17 + SPILL_RECORDS, False, "taken")
    assert (answer.sequence, answer.repeated, answer.frame) == expected


def test_ids_are_known_as_far_back_as_the_journal_reaches(
    served: Input, capture: CaptureProcess
) -> None:
    for number in range(20):
        assert served.part(f"id-{number}", GRAY).sequence == number + 1
        capture.journal.finish(number + 1, judged(Outcome.PASS))
        capture.journal.commit(number + 1)
    for start_again in (False, True):
        if start_again:
            served.start_again()
        assert served.part("id-4").sequence == 5
    assert served.part("id-3", GRAY).sequence == 21  # forgotten: a new trigger


def test_a_frame_that_finds_no_slot_is_overload_and_its_part_is_counted(
    served: Input, capture: CaptureProcess
) -> None:
    frames = [served.part(f"id-{number}", GRAY).frame for number in range(SLOTS + 1)]
    assert frames == ["taken"] * SLOTS + ["none"]
    assert reasons(capture) == [None] * SLOTS + [InvalidReason.OVERLOAD]


def test_a_frame_follows_its_trigger_under_the_same_id(
    served: Input, capture: CaptureProcess
) -> None:
    assert served.part("a", part_id="P-1").frame == "awaited"
    assert capture.entries()[0].captured is None
    answer = served.part("a", GRAY)
    assert (answer.sequence, answer.repeated, answer.frame) == (1, True, "taken")
    assert served.part("a", GRAY).frame == "taken"
    assert served.part("b").sequence == 2
    (first, _) = capture.entries()
    assert first.accepted.part_id == "P-1"
    assert capture.journal.intake_note() == IntakeNote(received_frames=1)  # nothing was discarded


def test_a_trigger_that_comes_before_the_last_ones_frame_is_overrun_at_once(
    served: Input, capture: CaptureProcess
) -> None:
    assert served.part("a").frame == "awaited"
    assert served.part("b").frame == "none"
    assert served.part("c", GRAY).frame == "none"
    assert [e.captured for e in capture.entries()] == [
        None,
        Captured(InvalidReason.OVERRUN),
        Captured(InvalidReason.OVERRUN),
    ]
    assert served.part("b", RGB).frame == "none"
    assert served.part("a", GRAY).frame == "taken"
    assert served.part("d", GRAY).frame == "taken"
    note = capture.journal.intake_note()
    assert note is not None
    assert note.discarded_frames == 1


def test_a_frame_that_comes_after_its_trigger_timed_out_is_discarded_and_counted(
    tmp_path: Path,
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ssn-") as runtime,
        capture_process(tmp_path, Path(runtime), deadline_ms=1) as capture,
        closing(Input(capture)) as served,
    ):
        assert served.part("a").frame == "awaited"

        def is_closed() -> bool:
            served.camera.serve()
            return bool(reasons(capture))

        wait_until(is_closed, 5, "not timed out")
        assert served.part("b").frame == "awaited"
        assert served.part("a", GRAY).frame == "none"  # not taken for the next one's
        reached = served.part("b", GRAY).frame
        assert reasons(capture)[0] is InvalidReason.LATE
        note = capture.journal.intake_note()
        assert note is not None
        assert note.discarded_frames == (1 if reached == "taken" else 2)
        served.start_again()
        served.part("a", GRAY)
        assert capture.journal.intake_note() != note  # the count goes on


def test_a_trigger_that_waits_for_its_frame_is_lost_with_its_capture_process(
    served: Input, capture: CaptureProcess
) -> None:
    served.part("a")
    served.close()
    with closing(Input(capture)) as after:
        assert after.part("a", GRAY).frame == "none"
        assert after.part("b", GRAY).frame == "taken"
    assert reasons(capture) == [InvalidReason.LOST, None]


def test_an_address_that_is_taken_is_a_camera_fault_that_names_the_setting(
    served: Input, tmp_path: Path
) -> None:
    other: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
    with closing(other):
        port = other.bind_to_random_port("tcp://127.0.0.1")
        bind = f"tcp://127.0.0.1:{port}"
        camera = ZeroMqInput(bind, tmp_path / "triggers", Parts(served.intake))
        with pytest.raises(CameraError, match=r"source\.bind"):
            camera.open()
        camera.close()
