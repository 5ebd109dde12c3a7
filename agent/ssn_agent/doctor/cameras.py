"""Does each camera deliver, at the rate that is wanted, and without losses?"""

from collections.abc import Iterator

from ssn_agent.capture.settings import FolderSource, GenICamSource, ZeroMqSource
from ssn_agent.commissioning.bench import Bench, Figures
from ssn_agent.commissioning.picture import looked_at
from ssn_agent.commissioning.session import Chosen, opened, take_whole
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning
from ssn_agent.errors import AgentError, CameraEnded
from ssn_agent.settings import CameraSettings
from ssn_contract.metrics import CameraMetrics

MEASURE_S = 2.0
SLOW = 0.9
"""A camera that gives less of the rate that is wanted is slow."""


def cameras(subject: Subject) -> Iterator[Finding]:
    """The agent's word where it runs: it has them; else each is opened and measured."""
    if subject.metrics is not None:
        known = {camera.camera: camera for camera in subject.metrics.cameras}
        for name in subject.settings.cameras:
            yield from _noted(name, known.get(name))
        return
    for name, settings in subject.settings.cameras.items():
        yield from _opened(Chosen(name, settings, subject.settings.runtime_dir))


def _noted(name: str, camera: CameraMetrics | None) -> Iterator[Finding]:
    if camera is None or camera.state == "starting":
        yield unknown(f"{name}: the agent is still opening it")
        return
    do = f"stop the agent and ask `ssn-agent camera probe {name}`"
    if camera.state == "faulty":
        yield fault(f"{name}: is faulty; opened again {camera.reconnects} times", do)
        return
    lost, torn = camera.missed_frames, camera.incomplete_frames
    counts = f"{camera.received_frames} frames came, {lost} lost, {torn} incomplete"
    said = f"{name}: {camera.state}, {camera.verdicts_per_s:.1f} verdicts a second, {counts}"
    if lost or torn or camera.reconnects:
        what = f"{said}, opened again {camera.reconnects} times"
        yield warning(what, "docs/cameras/commissioning.md, bench; look at cable, switch, load")
    else:
        yield ok(said)


def _opened(chosen: Chosen) -> Iterator[Finding]:
    source = chosen.settings.source
    if isinstance(source, ZeroMqSource):
        yield ok(f"{chosen.name}: its parts are sent to {source.bind}")
        return
    do = f"ssn-agent camera probe {chosen.name}; docs/cameras.md"
    try:
        with opened(chosen) as camera:
            if waits_for_others(chosen.settings):
                yield ok(f"{chosen.name}: opens; frames come when something else asks for them")
                return
            said = camera.describe()
            frame, _ = take_whole(camera, chosen)
            picture, problem = looked_at(frame, chosen.settings.roi)
            if picture is None:
                yield fault(f"{chosen.name}: its frame cannot be judged: {problem}", do)
                return
            # A file waits for nobody: its rate is the reader's.
            figures = None if camera.waits else Bench(camera, chosen).run(MEASURE_S)
    except CameraEnded as ended:
        yield warning(f"{chosen.name}: {ended}", "it has no more images: the agent would end there")
        return
    except AgentError as error:
        yield fault(str(error), do)
        return
    wanted = getattr(source, "fps", None) or said.fps
    yield judged(chosen.name, picture.size, figures, wanted)


def waits_for_others(settings: CameraSettings) -> bool:
    """Say whether a frame comes only for a signal or a file from outside."""
    source = settings.source
    if isinstance(source, FolderSource):
        return source.watch
    return isinstance(source, GenICamSource) and source.trigger == "line"


def judged(name: str, size: str, figures: Figures | None, wanted: float | None) -> Finding:
    """Judge what was measured; `wanted`: frames a second, where that is known."""
    if figures is not None and figures.is_fault:
        return fault(f"{name}: {figures.ended}", f"ssn-agent camera bench {name}")
    if figures is None or figures.per_second is None:
        return ok(f"{name}: delivers {size}")
    said = f"{name}: delivers {size}, {figures.per_second:.1f} a second"
    if figures.missed or figures.incomplete:
        what = f"{said}; of {figures.frames} frames {figures.missed or 0} lost"
        what += f", {figures.incomplete} incomplete"
        return warning(what, f"ssn-agent camera bench {name} --seconds 60; cable, switch, load")
    is_free = figures.trigger_to_frame_ms is None
    if is_free and wanted is not None and figures.per_second < SLOW * wanted:
        do = "a shorter exposure, a smaller region, a faster line to the camera"
        return warning(f"{said}, where {wanted:g} are wanted", do)
    return ok(said)
