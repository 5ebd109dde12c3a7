"""Listening at an address that another program may have taken: again and again, and saying so."""

from collections.abc import Callable

from ssn_agent.capture.intake import Intake
from ssn_agent.capture.life import Life
from ssn_agent.capture.reopening import Reopening
from ssn_agent.errors import CameraError
from ssn_agent.frames.notes import CameraState
from ssn_agent.log import logger
from ssn_agent.processes import Stop


def listen(open_input: Callable[[], None], intake: Intake, life: Life, stop: Stop) -> None:
    """Open a camera's input; until that is done the camera is faulty."""
    reopening = Reopening()
    intake.note(CameraState.STARTING)
    while not stop:
        try:
            open_input()
        except CameraError as error:
            wait_s = reopening.next_wait_s()
            intake.note(CameraState.FAULTY, str(error))
            if reopening.is_news(str(error)):
                logger().error("camera fault", problem=str(error))
            life.beat(wait_s)
            stop.wait(wait_s)
        else:
            return
