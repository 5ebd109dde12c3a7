"""What is found, seen and measured, in lines for people."""

import json
from collections.abc import Iterable, Mapping

from ssn_agent.capture.camera import Description, Found
from ssn_agent.commissioning.bench import Figures, Spread
from ssn_agent.commissioning.picture import Picture
from ssn_agent.commissioning.session import Chosen

MAX_LINE = 100
"""Some features take dozens of names; --json has them all."""


def pasteable(found: Iterable[Found]) -> list[str]:
    """Return TOML for the settings; what a camera is stands above it."""
    lines: list[str] = []
    for number, camera in enumerate(found, 1):
        lines += [*([""] if lines else []), f"# {printable(camera.name)}"]
        lines += [f"[cameras.camera-{number}.source]", f'kind = "{camera.kind}"']
        lines += [f"{key} = {quoted(value)}" for key, value in camera.source.items()]
    return lines


def printable(text: str) -> str:
    """Return what a device says of itself, without line ends and a terminal's commands."""
    return "".join(char if char.isprintable() else "?" for char in text)


def quoted(value: str) -> str:
    """Return a TOML string: as JSON's, but for what that leaves as it is or writes in halves."""
    found = json.dumps(value.encode(errors="replace").decode(), ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in found)


def described(
    chosen: Chosen, said: Description, picture: Picture | None, *, is_counted: bool
) -> list[str]:
    """Return what a camera says of itself, and what its frame shows.

    is_counted: a gap in its frame ids is frames that were lost.
    """
    names = (said.vendor, said.model, said.serial, said.version)
    rows = {
        "camera": f"{chosen.name}, of kind {chosen.source.kind}",
        "device": " ".join(filter(None, names)) or "says nothing of itself",
        "rate": "it does not say" if said.fps is None else f"{said.fps:g} a second, it says",
        "trigger": f"{chosen.source.trigger}; it can do: {', '.join(said.triggers)}",
        "frame ids": "counted on" if is_counted else "none: a frame that is lost goes unseen",
        "times": "the camera's own" if said.has_device_timestamps else "those of arrival",
    }
    if picture is not None:
        rows |= {"picture": f"{picture.size} from {picture.frame_format}", "light": picture.light}
    lines = [*_aligned(rows), *(_short(f"  {key} = {v}") for key, v in said.settings.items())]
    return [printable(line) for line in lines]


def measured(found: Figures) -> list[str]:
    """Return the figures of a measurement."""
    ended = f", ended by: {found.ended}" if found.ended else ""
    rows = {"frames": f"{found.frames} in {found.seconds:.1f} s{ended}"}
    if found.per_second is not None:
        rows["rate"] = f"{found.per_second:.2f} a second"
    if found.interval_ms is not None:
        rows["interval"] = f"{_spread(found.interval_ms)}; jitter {found.jitter_ms:.1f} ms"
    if found.latency_ms is not None:
        rows["latency"] = f"{_spread(found.latency_ms)}; from taken to in hand"
    if found.trigger_to_frame_ms is not None:
        rows["trigger"] = f"{_spread(found.trigger_to_frame_ms)}; until the frame is in hand"
    if found.without_frame:
        rows["no frame"] = f"{found.without_frame} triggers got none before the deadline"
    rows["lost"] = "not known: frames have no ids" if found.missed is None else str(found.missed)
    if found.recounts:
        rows["lost"] += f"; and unknown {found.recounts} times, where the device counted anew"
    if found.twice:
        rows["twice"] = f"{found.twice} frames came a second time"
    rows["incomplete"] = str(found.incomplete)
    if found.cpu_ms_per_frame is not None:
        rows["processor"] = f"{found.cpu_ms_per_frame:.2f} ms a frame"
    return _aligned(rows)


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]} ..."


def _spread(of: Spread) -> str:
    return f"{of.median:.1f} ms median, {of.p99:.1f} p99, {of.worst:.1f} worst"


def _aligned(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows)) + 2
    return [f"{key:<{width}}{value}" for key, value in rows.items()]
