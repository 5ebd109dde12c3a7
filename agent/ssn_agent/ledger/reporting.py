"""What the ledger process says of the station: status, figures, what judges, steps of updates."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ssn_agent.frames.notes import ModelNote
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.ledger.model_events import update_of
from ssn_agent.ledger.status import model_in_force, with_supervisor
from ssn_agent.metrics.report import station_metrics
from ssn_agent.publish.mqtt import BrokerLink
from ssn_agent.settings import Settings
from ssn_agent.supervisor.note import read_note
from ssn_agent.updates.state import Event
from ssn_contract.messages import ModelUpdate, StationStatus
from ssn_contract.topics import Topics

STATUS_S = 2.0
METRICS_S = 10.0
MAX_STEPS = 1024
"""That wait for room at the broker; of more than that the oldest are not told."""


class Reporting:
    """Says it on the broker, as far as the line has room."""

    def __init__(self, settings: Settings, files: RuntimeFiles, link: BrokerLink) -> None:
        """Nothing is said yet."""
        self._settings = settings
        self._files = files
        self._link = link
        self._topics = Topics(settings.station)
        self._status_at = 0.0
        self._status: StationStatus | None = None
        """What is to be said of the station when the line has room for it."""
        self._metrics_at = 0.0
        self._steps: deque[tuple[str, ModelUpdate]] = deque(maxlen=MAX_STEPS)
        """Of a camera's bundle, to be told one by one."""
        self._said: dict[str, tuple[ModelNote, ModelUpdate | None]] = {}

    def connected(self) -> None:
        """Say anew where things stand: the broker may have forgotten it."""
        self._status_at = 0.0
        self._steps.clear()
        self._said.clear()

    def take_over(self, settings: Settings) -> None:
        """Take over settings that changed."""
        self._settings = settings

    def tell(self, steps: Iterable[Event]) -> None:
        """Have each step told, of every camera that follows the bundle."""
        cameras = self._settings.cameras.items()
        self._steps += [
            (name, update_of(step))
            for step in steps
            for name, camera in cameras
            if camera.follow == step.follows
        ]

    def turn(
        self,
        notes: Mapping[str, ModelNote | None],
        update: Callable[[str], ModelUpdate | None],
        status: Callable[[], StationStatus],
    ) -> None:
        """Say what has changed of what judges, and now and then how the station does.

        notes: what judges each camera; update: the newest step of the bundle that it follows;
        status: asked when it is time.
        """
        self._say_steps(notes)
        if not self._steps:
            for camera, note in notes.items():
                if note is not None:
                    self._say_model(camera, note, update(camera))
        if time.monotonic() >= self._status_at:
            self._status_at = time.monotonic() + STATUS_S
            self._status = status()
        if self._status is not None and self._link.room:
            supervisor = read_note(self._files.supervisor)
            text = with_supervisor(self._status, supervisor).model_dump_json()
            self.say(self._topics.status, text, retain=True)
            self._status = None
        if time.monotonic() >= self._metrics_at and self._link.room:  # apart: room may be for one
            self._metrics_at = time.monotonic() + METRICS_S
            text = station_metrics(self._files, self._settings).model_dump_json()
            self.say(self._topics.metrics, text)

    def say(self, topic: str, text: str, *, retain: bool = False) -> bool:
        """Publish what the next one replaces; False: there is no room for it at present."""
        too_large = not self._link.takes(topic, text)
        return too_large or self._link.publish(topic, text, retain=retain) is not None

    def _say_steps(self, notes: Mapping[str, ModelNote | None]) -> None:
        while self._steps:
            camera, step = self._steps[0]
            note = notes[camera]
            if note is None and camera in self._said:  # it is just being written
                return
            if note is not None and not self._say_model(camera, note, step):
                return
            self._steps.popleft()

    def _say_model(self, camera: str, note: ModelNote, update: ModelUpdate | None) -> bool:
        """Say what judges, unless that was the last word; False: there is no room for it."""
        word = (note, update)
        if self._said.get(camera) == word:
            return True
        message = model_in_force(self._settings.station, camera, note, update)
        if not self.say(self._topics.model(camera), message.model_dump_json(), retain=True):
            return False
        self._said[camera] = word
        return True
