"""Row: the agent's wall clock a day forth and back; the monotonic clock is left alone."""

import subprocess
import time
from pathlib import Path

from chaos.counts import Counts
from chaos.report import Bar, Row, at_most, witnessed
from chaos.rig import Rig, rig
from chaos.tally import tally
from ssn_agent.atomic import write_atomically

CAMERAS = 2
FPS = 10.0
LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")
DEADLINE_MS = 5000
DAY_S = 86_400
STEPS = ("+1d", "-1d", "+0")

_LATENCIES = """
SELECT camera, epoch, sequence, triggered_at, latency_ms,
  (julianday(decided_at) - julianday(triggered_at)) * 86400000, verdict
FROM streams JOIN triggers ON stream_id = streams.id
JOIN verdicts ON verdicts.trigger_id = triggers.id ORDER BY triggers.id
"""


def jumps(folder: Path, counts: Counts) -> list[Row]:
    """libfaketime on the agent alone, its offset in a file that the agent reads all the time."""
    row = Row(
        name="clock",
        fault="the agent's wall clock a day forth, then a day back, then right",
        counts=counts.name,
        times=len(STEPS),
    )
    folder.mkdir(parents=True, exist_ok=True)
    offset = folder / "offset"
    write_atomically(offset, b"+0\n")
    with rig(
        folder, cameras=CAMERAS, environment=faked(offset), deadline_ms=DEADLINE_MS
    ) as station:
        station.start(FPS)
        recoveries = []
        for step in STEPS:
            write_atomically(offset, f"{step}\n".encode())
            recoveries.append(station.wait_for_recovery(time.monotonic()))
            time.sleep(counts.clock_s)
        found = tally(station.finish())
        bars = _bars(station)
    return [witnessed(row.model_copy(update={"bars": bars}), found, recoveries)]


def faked(offset: Path) -> dict[str, str]:
    """Return the environment in which a program's wall clock is off by what a file says."""
    libraries = [path for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])]
    if not libraries:
        raise FileNotFoundError("libfaketime is not installed: `make chaos-packages`")
    sleep = offset.with_name("clock_nanosleep.so")
    source = Path(__file__).with_name("clock_nanosleep.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", sleep, source], check=True)
    return {
        "LD_PRELOAD": f"{sleep}:{libraries[0]}",
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _bars(station: Rig) -> list[Bar]:
    """Return whether the clock did jump, and whether order and durations were none the worse."""
    rows = station.agent.query(_LATENCIES)
    times = {str(row[3])[:10] for row in rows}
    order: dict[str, list[int]] = {}
    judged: dict[str, list[int]] = {}
    for camera, _, sequence, *_, verdict in rows:
        order.setdefault(camera, []).append(sequence)
        if verdict != "INVALID":  # what finds no room is decided before parts that wait
            judged.setdefault(camera, []).append(sequence)
    sent: dict[str, dict[int, None]] = {}
    for message in station.evidence.received:
        sent.setdefault(message.key[0], {})[message.key[2]] = None
    in_order = all(numbers == sorted(numbers) for numbers in judged.values())
    in_order &= order == {camera: list(numbers) for camera, numbers in sent.items()}
    latencies = [row[4] for row in rows]
    # A part that was on its way over a jump has two times of two clocks: those are left out.
    apart = [abs(row[4] - row[5]) for row in rows if abs(row[5]) < DAY_S * 500]
    return [
        Bar(text="the clock was on three days", measured=f"{len(times)}", held=len(times) == 3),
        Bar(
            text="rows of judged parts in the order of their numbers, messages in that of the rows",
            measured="in order" if in_order else "out of order",
            held=in_order,
        ),
        at_most("longest latency", max(latencies), DEADLINE_MS + 1000, " ms"),
        Bar(
            text="no latency is negative",
            measured=f"{min(latencies):.3f} ms",
            held=min(latencies) >= 0,
        ),
        at_most("latency against the difference of the two times", max(apart), 50.0, " ms"),
    ]
