"""A camera of which every frame is a part.

A gap in the frame ids is parts that passed unseen: each is counted and INVALID(lost), before the
frame that shows the gap. Across a fault of the camera nobody knows how many passed: it is opened
again, its ids begin anew, and its state says that it was away.
"""

import time
from contextlib import suppress

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.frame_ids import following, missed
from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.reopening import Reopening
from ssn_agent.errors import CameraEnded, CameraError, JournalError
from ssn_agent.frames.notes import CameraState
from ssn_agent.log import logger
from ssn_agent.processes import Stop
from ssn_contract.messages import InvalidReason

WAIT_S = 0.5
"""For a frame, before the next look at everything else."""
FULL_WAIT_S = 0.005


class FreeRunning:
    """The loop of such a camera."""

    def __init__(self, camera: Camera, intake: Intake, life: Life) -> None:
        """Set up; nothing is opened yet."""
        self._camera = camera
        self._intake = intake
        self._life = life
        self._last_id: int | None = None
        self._heard_s = 0.0

    def run(self, stop: Stop) -> None:
        """Take frames until asked to stop or until a file source ends; reopen after faults."""
        reopening = Reopening()
        while not stop:
            try:
                self._open(is_first=not reopening.faults)
                while not stop:
                    self._life.heed_reload()
                    if self._turn(stop):
                        self._intake.note_running()
                        reopening.is_well()
            except CameraEnded as ended:
                self._intake.note(CameraState.ENDED, str(ended))
                return
            except CameraError as error:
                wait_s = reopening.next_wait_s()
                self._intake.note(CameraState.FAULTY, str(error))
                if reopening.is_news(str(error)):
                    logger().error("camera fault", problem=str(error))
                self._life.beat(wait_s)
                stop.wait(wait_s)
            finally:
                self._life.beat(self._camera.open_limit_s)
                self._camera.close()

    def _open(self, *, is_first: bool) -> None:
        if is_first:  # a faulty camera stays so until it works again
            self._intake.note(CameraState.STARTING)
        self._life.beat(2 * self._camera.open_limit_s)
        self._camera.open()
        self._camera.arm()
        self._intake.count(reconnects=int(not is_first))
        self._last_id = None
        self._heard_s = time.monotonic()

    def _turn(self, stop: Stop) -> bool:
        """Take the next frame, within a bounded time; False: the camera has yet to show itself."""
        self._life.beat(WAIT_S + self._camera.frame_limit_s)
        if self._camera.waits and not self._intake.has_room():
            stop.wait(FULL_WAIT_S)
            return False
        frame = self._camera.next_frame(WAIT_S)
        if frame is None:
            return self._is_silent_as_it_may()
        self._heard_s = time.monotonic()
        with suppress(JournalError):  # noted and logged by the intake: the frame is refused
            self._take(frame)
        return True

    def _take(self, frame: Frame) -> None:
        unseen = self._missed(frame)
        is_repeated = unseen < 0
        self._intake.count_frame(
            frame, missed_frames=max(0, unseen), discarded_frames=int(is_repeated)
        )
        if is_repeated:
            logger().error("frame came twice", frame_id=frame.frame_id)
            return
        for _ in range(unseen):
            lost = self._intake.accept(None)
            if not lost.is_closed:
                self._intake.close(lost.sequence, InvalidReason.LOST)
        counted = self._intake.accept(frame.part_id, trigger_id=frame.trigger_id, at=frame.captured)
        if counted.is_closed:
            return
        if frame.pixels is not None and time.monotonic_ns() > counted.deadline_ns:
            # Of a backlog: the slots are for the others.
            self._intake.close(counted.sequence, InvalidReason.LATE)
        else:
            self._intake.place(counted.sequence, frame)

    def _missed(self, frame: Frame) -> int:
        """Return how many frames the camera has counted since the last one; see `missed`."""
        ids, previous = self._camera.frame_ids, self._last_id
        if ids is None:
            return 0
        current = frame.frame_id
        if current is None or not ids.first <= current < 2**63:
            # What says which one it is was lost with a part of it: it is the next one.
            self._last_id = None if previous is None else following(previous, ids)
            return 0
        self._last_id = current
        if previous is None:
            return 0
        found = missed(previous, current, ids)
        if found is None:
            problem = "the camera counts its frames anew; whether parts passed unseen is not known"
            logger().error(problem, before=previous, after=current)
            return 0
        return found

    def _is_silent_as_it_may(self) -> bool:
        """Say whether silence is normal for it. Raises CameraError where it has lasted too long."""
        limit_s = self._camera.silence_limit_s
        if limit_s is not None and time.monotonic() - self._heard_s > limit_s:
            raise CameraError(f"no frame for {limit_s:g} s, although it is open; check the camera")
        return limit_s is None
