"""A station that follows a bundle, with a channel to follow, and its line and inference played."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.journal import Journal
from ssn_agent.frames.layout import Accepted, Captured, Decision, Outcome, Result
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.frames.slots import PixelSlots
from ssn_agent.inference.swapping import Swapped, write_swapped
from ssn_agent.ledger.database import open_database
from ssn_agent.log import configure
from ssn_agent.settings import Settings
from ssn_agent.updates.driver import Updates
from ssn_agent.updates.state import Followed, ModelsState, Phase, read_state
from ssn_agent.updates.told import Line
from ssn_contract.messages import InvalidReason
from support.bundles import SIZE
from support.channels import NAME
from support.labelled import label_writer, said, write_verdicts
from support.records import new_journal
from support.waiting import wait_until

DECIDE_NS = 1_000_000


def following(
    home: Path,
    runtime: Path,
    url: str,
    root: Path,
    bundle: Path | None = None,
    challenge: dict[str, Any] | None = None,
    **changes: Any,
) -> Settings:
    """Return the settings of a station with one camera that follows the channel's bundle."""
    camera: dict[str, Any] = {"source": {"kind": "folder", "path": str(home / "images")}}
    camera |= {"follow": NAME, "challenge": challenge}
    if bundle is not None:
        camera["bundle"] = str(bundle)
    given = {
        "data_dir": home / "data",
        "runtime_dir": runtime,
        "channel": {"url": url, "root_file": root, "poll_s": 10},
        "inference": {"threads": 1, "engine": "onnxruntime-cpu/fp32"},
        "updates": {"shadow_frames": 20, "probation_parts": 20},
        "cameras": {"left": camera},
        **changes,
    }
    return Settings.model_validate(given)


class Box:
    """The station's files, its camera's frames and verdicts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files = RuntimeFiles(settings.runtime_dir)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        settings.runtime_dir.mkdir(exist_ok=True)
        self.files.settings.write_text(settings.model_dump_json())
        if not self.files.journal("left").exists():
            new_journal(self.files.journal("left"), capacity=256).close()
        PixelSlots.create(self.files.pixels("left"))
        self.journal = Journal(self.files.journal("left"))
        self._slots = PixelSlots(self.files.pixels("left"))
        self._before: tuple[int, int] | None = None

    def updates(self, **changes: Any) -> Updates:
        heart = Heartbeat(self.files.heartbeat("updates"))
        return Updates(self.settings, self.files, heart, **changes)

    @property
    def state(self) -> ModelsState:
        return read_state(self.settings.models_file)

    @property
    def followed(self) -> Followed:
        return self.state.followed[NAME]

    @property
    def phase(self) -> Phase | None:
        found = self.state.followed.get(NAME)
        return None if found is None else found.phase

    @property
    def steps(self) -> list[str]:
        return [event.step for event in self.state.events]

    def judging(self) -> str:
        """Return the digest of what judges, as inference would read it."""
        found = self.state.followed.get(NAME)
        if found is None or found.in_force is None:
            bundle = self.settings.cameras["left"].bundle
            return "" if bundle is None else Bundle.open(bundle).digest
        return found.in_force.digest

    def part(
        self,
        gray: int = 60,
        *,
        fails: bool = False,
        reason: InvalidReason | None = None,
        took_ms: float = 1.0,
        digest: str | None = None,
    ) -> None:
        """Have a part on the line: its frame, a moment later its result and verdict."""
        now = time.monotonic_ns()
        self._finish()
        sequence = self.journal.accept(Accepted(now, time.time_ns(), now + 2 * 10**9, None, None))
        slot = sequence % 6
        size = self._slots.write(slot, np.full((SIZE, SIZE), gray, np.uint8))
        self.journal.capture(sequence, Captured(None, slot, *size))
        self._before = sequence, now
        self._told = fails, reason, took_ms, self.judging() if digest is None else digest, gray

    def done(self) -> None:
        """Have the last part judged."""
        self._finish()

    def _finish(self) -> None:
        if self._before is None:
            return
        sequence, at_ns = self._before
        self._before = None
        fails, reason, took_ms, digest, gray = self._told
        outcome = Outcome.FAIL if fails else Outcome.PASS
        if reason is not None:
            result = Result(Outcome.INVALID, reason, at_ns)
        else:
            result = Result(
                outcome, None, at_ns + int(took_ms * 1e6), gray / 255, 0.5, bundle_digest=digest
            )
        self.journal.finish(sequence, result)
        self.journal.decide(
            sequence,
            Decision(result.outcome, reason, at_ns + DECIDE_NS, time.time_ns()),
        )
        self.journal.commit(sequence)

    def label(self, sequence: int, label: str) -> None:
        """Have somebody label a part of the ledger's."""
        writer = label_writer(self.settings)
        writer.write([said(sequence, label)])
        writer.close()

    def sql(self, statement: str, *values: Any) -> None:
        """Change the ledger with SQLite itself."""
        with open_database(self.settings.ledger_path).begin() as connection:
            connection.exec_driver_sql(statement, values)

    def swap(self, problem: str | None = None) -> None:
        """Say what inference says, where a bundle is to judge."""
        if self.phase is Phase.SWAPPING:
            digest = self.judging() if problem is None else None
            note = Swapped(digest=digest, problem=problem)
            write_swapped(self.files.swapped(NAME), note)

    def run(
        self,
        updates: Updates,
        until: Any,
        *,
        part: dict[str, Any] | None = None,
        parts: int = 1,
        problem: str | None = None,
        swaps: bool = True,
        timeout_s: float = 60.0,
    ) -> None:
        """Have the line run, with so many parts a turn, and updates turn until something is so."""

        def is_so() -> bool:
            for _ in range(0 if part is None else parts):
                self.part(**(part or {}))
            updates.turn()
            if swaps:
                self.swap(problem)
            return bool(until())

        wait_until(is_so, timeout_s, f"not so; {self.steps}")


def label_parts(box: Box, bad: int, good: int = 0, *, gray: int = 160) -> list[Path]:
    """Have labelled parts in the ledger, the bad ones of this brightness, and their pictures."""
    outcomes = [Outcome.FAIL] * bad + [Outcome.PASS] * good
    write_verdicts(box.settings, box.settings.data_dir / "written.journal", outcomes)
    paths = []
    for number, outcome in enumerate(outcomes, start=1):
        is_bad = outcome is Outcome.FAIL
        path = box.settings.image_dir / f"{number}.png"
        _write_image(path, gray + number if is_bad else 50 + number)
        paths.append(path)
        box.label(number, "bad" if is_bad else "good")
        box.sql("UPDATE verdicts SET image_file = ? WHERE trigger_id = ?", str(path), number)
    return paths


def _write_image(path: Path, gray: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", np.full((SIZE, SIZE), gray, np.uint8))
    assert done
    path.write_bytes(data.tobytes())


class Scripted:
    """A shadow that tells these steps at once, each in a turn of its own."""

    def __init__(self, *steps: str) -> None:
        self._steps = steps
        self._left: list[str] = []

    def __call__(self, *_: Any) -> "Scripted":
        self._left = list(self._steps)
        return self

    def lines(self) -> list[Line]:
        if not self._left:
            return []
        step = self._left.pop(0)
        # Of 40 frames it would have failed none.
        report = {"live": {"frames": 40}, "own": None} if step == "done" else None
        return [Line.model_validate({"step": step, "report": report})]

    def end(self) -> tuple[str, bool] | None:
        return None

    def close(self) -> None:
        return


ALIKE = Scripted("tried", "begins", "done")


def follow_into(home: Path, runtimes: str, url: str, root: str) -> None:
    """Follow the channel until its bundle is kept, in a process of its own."""
    configure("error", "updates")
    runtime = Path(runtimes) / home.name
    box = Box(following(home, runtime, url, Path(root), home / "first.ssn"))
    with closing(box.updates(start_shadow=ALIKE)) as updates:
        box.run(updates, lambda: "kept" in box.steps, part={}, parts=10)


@contextmanager
def closing(updates: Updates) -> Iterator[Updates]:
    """End it in order."""
    try:
        yield updates
    finally:
        updates.close()
