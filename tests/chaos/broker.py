"""Rows: the broker killed under load, and its packets dropped without a reset."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.counts import Counts
from chaos.report import Row, at_most, witnessed
from chaos.rig import Rig, rig
from chaos.tally import tally

CAMERAS = 2
FPS = 15.0
DELIVERED_WITHIN_S = 60.0


def killed(folder: Path, counts: Counts) -> list[Row]:
    """SIGKILL of the broker, which is started again some time later."""

    def outage(station: Rig) -> None:
        station.broker.kill()
        time.sleep(counts.away_s)
        station.broker.start()

    row = Row(
        name="broker-killed",
        fault=f"broker killed for {counts.away_s:.0f} s under load",
        counts=counts.name,
        times=counts.outages,
    )
    return [_measured(folder, row, outage)]


def dropped(folder: Path, counts: Counts) -> list[Row]:
    """Packets to and from the broker dropped: nobody is told that the line is cut."""

    def outage(station: Rig) -> None:
        with packets_dropped(station.broker.port):
            time.sleep(counts.away_s)

    row = Row(
        name="broker-dropped",
        fault=f"packets to the broker dropped for {counts.away_s:.0f} s, without reset",
        counts=counts.name,
        times=counts.outages,
    )
    return [_measured(folder, row, outage)]


def _measured(folder: Path, row: Row, outage: Callable[[Rig], None]) -> Row:
    """Make outages, and after each wait until everything of before its end was delivered."""
    delivered_s = []
    with rig(folder, cameras=CAMERAS) as station:
        station.start(FPS)
        for _ in range(row.times):
            outage(station)
            delivered_s.append(station.wait_for_delivery(time.monotonic()))
            # The backlog too: a broker that is killed amid it takes with it what it has
            # acknowledged and not passed on yet, and nobody sends that again.
            station.wait_for_delivery(time.monotonic())
        found = tally(station.finish())
    bar = at_most(
        "everything delivered after the return, worst",
        max(delivered_s),
        DELIVERED_WITHIN_S,
        " s",
    )
    row = row.model_copy(
        update={
            "bars": [bar],
            "notes": ["recovery: from the broker's return until all of before it is delivered"],
        }
    )
    return witnessed(row, found, delivered_s)


@contextmanager
def packets_dropped(port: int) -> Iterator[None]:
    """Drop every packet to a port of this machine's loopback, and let them through at the end."""
    rule = ["INPUT", "-i", "lo", "-p", "tcp", "--dport", str(port), "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
