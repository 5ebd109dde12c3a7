"""`ssn-agent status`: a running agent on this machine, as its own files show it."""

import fcntl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ssn_agent.errors import AgentError
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.metrics.report import station_metrics
from ssn_agent.settings import Settings, read_resolved
from ssn_contract.messages import InvalidReason
from ssn_contract.metrics import CameraMetrics, ProcessMetrics, StationMetrics

REFRESH_S = 1.0


class Code(IntEnum):
    """Exit codes; 2 is wrong use, as everywhere. 3 and 4 are those of the LSB's `status`."""

    WELL = 0
    ALARMS = 1
    NOT_RUNNING = 3
    UNREADABLE = 4


class NotRunning(AgentError):  # noqa: N818 -- a state, not an error
    """No agent runs in this runtime directory."""

    exit_code = Code.NOT_RUNNING


class Unreadable(AgentError):  # noqa: N818 -- likewise
    """The runtime directory is another user's."""

    exit_code = Code.UNREADABLE


def look(runtime_dir: Path) -> StationMetrics:
    """Return how the agent does that runs there. Raises NotRunning, Unreadable, SettingsError."""
    return station_metrics(RuntimeFiles(runtime_dir), running_settings(runtime_dir))


def running_settings(runtime_dir: Path) -> Settings:
    """Return what is in force in the agent that runs there. Raises as `look`."""
    files = RuntimeFiles(runtime_dir)
    try:
        with files.lock.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError as error:
        raise NotRunning(f"no agent runs in {runtime_dir}") from error
    except PermissionError as error:
        msg = f"{runtime_dir}: cannot be read by this user; ask as root or as the agent's own user"
        raise Unreadable(msg) from error
    except BlockingIOError:  # the supervisor holds it while it lives
        return read_resolved(files.settings)
    raise NotRunning(f"no agent runs in {runtime_dir}")


def code_of(metrics: StationMetrics) -> Code:
    """Return the exit code that says how it does."""
    return Code.ALARMS if metrics.alarms else Code.WELL


def watch(console: Console, runtime_dir: Path) -> None:
    """Show it until Ctrl-C, also over restarts of the agent."""
    with (
        suppress(KeyboardInterrupt),
        Live(console=console, screen=console.is_terminal, auto_refresh=False) as live,
    ):
        while True:
            live.update(_picture(runtime_dir), refresh=True)
            time.sleep(REFRESH_S)


def _picture(runtime_dir: Path) -> RenderableType:
    try:
        return render(look(runtime_dir))
    except AgentError as error:
        return Text(f"ssn-agent: {error}", "bold red")


def render(m: StationMetrics) -> RenderableType:
    """Return the picture of a station; 80 columns are enough for it."""
    parts: list[RenderableType] = [_head(m)]
    if m.cameras:
        parts += ["", _cameras(m.cameras), "", _judges(m.cameras), *_inputs(m.cameras)]
    parts += ["", _processes(m.processes), ""]
    parts += [Text(f"ALARM  {alarm}", "bold red") for alarm in m.alarms] or [Text("no alarms")]
    return Group(*parts)


def _head(m: StationMetrics) -> RenderableType:
    text = Text(m.station, "bold").append(f"  agent {m.agent}  {m.at:%H:%M:%S} UTC\n", "default")
    text.append_text(_light("ledger", m.ledger == "ok", m.ledger or "unknown"))
    connected = bool(m.broker_connected)
    text.append_text(_light("broker", connected, "connected" if connected else "away"))
    text.append(f"undelivered {_count(m.undelivered)}   ")
    if m.delivery is not None:
        text.append(f"delivery {_ms(m.delivery.median_s)} ms")
    text.append("\n")
    if m.disk_free_bytes is not None and m.disk_size_bytes is not None:
        free, size = m.disk_free_bytes / 1e9, m.disk_size_bytes / 1e9
        text.append(f"disk {free:.0f} of {size:.0f} GB free   ")
    if m.settings is not None:
        text.append(f"settings {m.settings.digest[:12]}")
        if m.settings.wants_restart:
            keys = ", ".join(m.settings.wants_restart)
            text.append(f"\nchanged in the file, and wants a restart: {keys}", "yellow")
    return text


def _light(name: str, well: bool, word: str) -> Text:
    return Text(f"{name} ").append(word, "green" if well else "bold red").append("   ")


def _cameras(cameras: list[CameraMetrics]) -> RenderableType:
    table = _table("camera", "state")
    for name in ("triggers", "PASS", "FAIL", "INVALID", "pending", "per s", "median ms", "p99 ms"):
        table.add_column(name, justify="right")
    for c in cameras:
        table.add_row(
            c.camera,
            _state(c.state),
            *map(str, (c.triggers, c.passed, c.failed, sum(c.invalid.values()), c.pending)),
            f"{c.verdicts_per_s:.1f}",
            _ms(c.latency.median_s),
            _ms(c.latency.p99_s),
        )
    return table


def _judges(cameras: list[CameraMetrics]) -> RenderableType:
    table = _table("camera", "judged by", "last verdict", "INVALID for")
    for c in cameras:
        by = "nothing" if c.bundle is None else f"{c.bundle.name} {c.bundle.version}\n{c.engine}"
        table.add_row(c.camera, escape(by), _last(c), _reasons(c.invalid))
    return table


def _last(c: CameraMetrics) -> Text:
    if c.last is None:
        return Text("-")
    colour = {"PASS": "green", "FAIL": "red", "INVALID": "yellow"}[c.last.verdict.value]
    text = Text(c.last.verdict.value, colour)
    text.append(f" {c.last.sequence} at {c.last.decided_at:%H:%M:%S}", "default")
    return text.append(f"\n{c.last.part_id}", "default") if c.last.part_id else text


def _reasons(invalid: dict[InvalidReason, int]) -> str:
    counts = Counter({reason.value: count for reason, count in invalid.items() if count})
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common()) or "-"


def _inputs(cameras: list[CameraMetrics]) -> Iterator[Text]:
    """Yield what went wrong on the way into a camera's process, where anything did."""
    for c in cameras:
        counts = {
            "frames incomplete": c.incomplete_frames,
            "frames never came": c.missed_frames,
            "frames that no trigger waited for": c.discarded_frames,
            "messages not understood": c.malformed_messages,
            "opened again": c.reconnects,
        }
        found = [f"{what} {count}" for what, count in counts.items() if count]
        if found:
            yield Text(f"{c.camera}: {', '.join(found)}", "yellow")


def _processes(processes: list[ProcessMetrics]) -> RenderableType:
    table = _table("process", "state")
    for name in ("died", "hung", "over memory", "MiB"):
        table.add_column(name, justify="right")
    for p in processes:
        memory = "-" if p.memory_bytes is None else f"{p.memory_bytes / 2**20:.0f}"
        table.add_row(p.name, _state(p.state), *map(str, (p.died, p.hung, p.over_memory)), memory)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _state(state: str) -> Text:
    colour = {"running": "green", "ended": "default", "starting": "yellow", "waiting": "yellow"}
    return Text(state, colour.get(state, "bold red"))


def _count(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"
