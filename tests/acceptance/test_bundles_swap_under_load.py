"""The agent's own processes, swapping under load: no verdict is lost, none late."""

from datetime import datetime, timezone
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from ssn_agent.frames.journal import Journal
from support.bare_station import bare_station
from support.bundles import write_brightness_bundle
from support.followed import CHANNEL, Swap, stored, swap
from support.mosquitto import Mosquitto
from support.parts import many_parts
from support.waiting import wait_until

pytestmark = pytest.mark.needs("mosquitto")
SWAPS = 20
FOLLOW = "brightness"
ENGINE = {"inference": {"engine": "onnxruntime-cpu/fp32"}}

_VERDICTS = """
SELECT camera, sequence, verdict, reason, bundle_digest, triggered_at, decided_at
FROM streams JOIN triggers ON stream_id = streams.id
LEFT JOIN verdicts ON verdicts.trigger_id = triggers.id ORDER BY camera, sequence
"""


def test_twenty_swaps_under_load_lose_no_verdict_delay_none_and_each_names_its_bundle(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    parts = many_parts(tmp_path / "parts", 4000)
    versions = ("1.0.0", "2.0.0")
    paths = [write_brightness_bundle(tmp_path / f"{v}.ssn", version=v, steps=200) for v in versions]
    bundles = [stored(path) for path in paths]
    fps = {"left": 30, "right": 15}
    cameras = {
        name: {
            "source": {"kind": "folder", "path": str(parts), "fps": rate},
            "bundle": paths[0],
            "follow": FOLLOW,
            "heatmap": "none",
        }
        for name, rate in fps.items()
    }
    broker = {"port": mosquitto.port}
    with bare_station(tmp_path, cameras, broker=broker, channel=CHANNEL, **ENGINE) as station:
        station.start()
        journals = [Journal(station.files.journal(name)) for name in fps]
        parts_are_judged(journals)
        swaps: list[Swap] = []
        for number in range(1, SWAPS + 1):
            to, before = bundles[number % 2], bundles[1 - number % 2]
            swaps.append(swap(station.settings, FOLLOW, to, before))
            parts_are_judged(journals)
        station.stop()
        rows = station.query(_VERDICTS)
    digests = {bundle.digest for bundle in bundles}
    assert [row for row in rows if row[2] not in ("PASS", "FAIL")] == []
    for name in fps:
        of_camera = [row for row in rows if row[0] == name]
        assert [row[1] for row in of_camera] == list(range(1, len(of_camera) + 1))
        assert {row[4] for row in of_camera} == digests
        judged_by = [digest for digest, _ in groupby(row[4] for row in of_camera)]
        assert len(judged_by) == SWAPS + 1
    for done, following in pairwise(swaps):
        by = {
            digest
            for *_, digest, triggered_at, decided_at in rows
            if done.noted_at < _at(triggered_at) and _at(decided_at) < following.wanted_at
        }
        assert by == {done.digest}


def parts_are_judged(journals: list[Journal]) -> None:
    """Wait for some results more of each camera."""
    until = [journal.refresh() + 3 for journal in journals]

    def are_judged() -> bool:
        entries = [journal.read(number) for journal, number in zip(journals, until, strict=True)]
        return all(entry is not None and entry.result is not None for entry in entries)

    wait_until(are_judged, 30, "no parts are judged")


def _at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()
