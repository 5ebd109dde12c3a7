"""The capture process of one camera: `python -m ssn_agent.capture.process SETTINGS CAMERA PARENT`.

For every frame, in this order: count the trigger in the journal, put the pixels into a slot, note
the slot in the journal, wake inference. A frame that finds no slot is INVALID(overload): capture
never waits for inference, unless the source is a file.
"""

import sys
import time
from pathlib import Path

from ssn_agent.capture.camera import Camera, Frame
from ssn_agent.capture.drivers import make_camera
from ssn_agent.errors import AgentError, CameraEnded, CameraError, ImageError, JournalError
from ssn_agent.frames.heartbeat import BEAT_S, Heartbeat
from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Accepted, CameraNote, CameraState, Captured
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots, SlotOwners
from ssn_agent.frames.wake import Ringer
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent, reload_asked_by
from ssn_agent.settings import CameraSettings, read_resolved
from ssn_contract.messages import InvalidReason

REOPEN_S = (0.5, 1.0, 2.0, 5.0)
"""Waits before a camera is opened again; the last one repeats."""
FULL_WAIT_S = 0.005


class Capture:
    """One camera's frames into its journal and slots."""

    def __init__(self, camera: str, settings: CameraSettings, files: RuntimeFiles) -> None:
        """Map the files and close what a capture process before this one left without a frame."""
        self._camera = camera
        self._settings = settings
        self._files = files
        self._heart = Heartbeat(files.heartbeat(f"capture:{camera}"))
        self._heart.beat()
        self._journal = Journal(files.journal(camera))
        self._slots = PixelSlots(files.pixels(camera))
        self._inference = Ringer(files.inference_bell)
        self._ledger = Ringer(files.ledger_bell)
        for entry in self._journal.entries(_has_no_frame):
            self._journal.capture(entry.sequence, Captured(InvalidReason.LOST))
        self._owners = SlotOwners(self._journal)
        self._refusing = False
        self._state = CameraState.STARTING

    def run(self, camera: Camera, stop: Stop) -> None:
        """Take frames until asked to stop or until a file source ends; reopen after faults."""
        faults = 0
        while not stop:
            try:
                if not faults:  # a faulty camera stays so until it gives a frame
                    self._note(CameraState.STARTING)
                self._heart.beat(camera.open_limit_s + BEAT_S)
                camera.open()
                while not stop:
                    self._heed_reload()
                    self._heart.beat(camera.frame_limit_s + BEAT_S)
                    if camera.waits and not self._has_room():
                        stop.wait(FULL_WAIT_S)
                        continue
                    self.admit(camera.next_frame())
                    if self._state is not CameraState.RUNNING and not self._refusing:
                        self._note(CameraState.RUNNING)
                    faults = 0
            except CameraEnded as ended:
                self._note(CameraState.ENDED, str(ended))
                return
            except CameraError as error:
                wait_s = REOPEN_S[min(faults, len(REOPEN_S) - 1)]
                faults += 1
                self._note(CameraState.FAULTY, str(error))
                logger().error("camera fault", problem=str(error), reopen_s=wait_s)
                self._heart.beat(wait_s + BEAT_S)
                stop.wait(wait_s)
            finally:
                self._heart.beat(camera.open_limit_s + BEAT_S)
                camera.close()

    def admit(self, frame: Frame) -> None:
        """Count a frame as a trigger and pass it on, or note why it cannot be judged."""
        now = time.monotonic_ns()
        trigger = Accepted(
            triggered_monotonic_ns=now,
            triggered_utc_ns=time.time_ns(),
            deadline_monotonic_ns=now + int(self._settings.deadline_ms * 1e6),
            part_id=frame.part_id,
            product=None,
        )
        try:
            sequence = self._journal.accept(trigger)
        except JournalError as error:
            if not self._refusing:
                self._note(CameraState.FAULTY, str(error))
                logger().error("frames are refused", problem=str(error))
            self._refusing = True
            return
        self._refusing = False
        captured = self._place(frame, now)
        self._journal.capture(sequence, captured)
        if captured.reason is None:
            self._owners.give(captured.slot, sequence)
            self._inference.ring()
        else:
            self._ledger.ring()

    def _place(self, frame: Frame, now: int) -> Captured:
        if frame.pixels is None:
            return Captured(InvalidReason.UNREADABLE)
        slot = self._owners.take()
        if slot is None:
            return Captured(InvalidReason.OVERLOAD)
        try:
            height, width, channels = self._slots.write(slot, frame.pixels)
        except ImageError as error:
            logger().warning("frame not taken", problem=str(error))
            return Captured(InvalidReason.UNREADABLE)
        return Captured(None, slot, height, width, channels, now, frame.frame_id)

    def _heed_reload(self) -> None:
        """Take over the level of the log: nothing else that may change is capture's."""
        if reload_asked_by() is not None:
            level = read_resolved(self._files.settings).log_level
            configure(level, f"capture:{self._camera}")

    def _has_room(self) -> bool:
        return self._journal.has_room() and self._owners.take() is not None

    def _note(self, state: CameraState, message: str = "") -> None:
        self._state = state
        self._journal.note_camera(CameraNote(state, time.time_ns(), message))
        self._ledger.ring()


def _has_no_frame(entry: Entry) -> bool:
    # Also where the ledger has closed it as late: inference waits at such a record.
    return entry.captured is None


def main(settings_path: str, camera: str, parent: str) -> None:
    """Run until asked to stop, or until the source ends."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, f"capture:{camera}")
    chosen = settings.cameras[camera]
    try:
        capture = Capture(camera, chosen, RuntimeFiles(settings.runtime_dir))
        capture.run(make_camera(chosen.source), stop)
    except AgentError as error:
        logger().error("the capture process cannot go on", problem=str(error))
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
