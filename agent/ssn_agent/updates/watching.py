"""What becomes of a name's parts, read from the cameras' journals by somebody who only looks.

A part counts once it has its verdict. An INVALID counts where a model can have caused it: a part
that came too late or found no free slot because judging took long, a picture unlike the bundle's
good images, no model. What a camera, a trigger or the ledger did counts for neither side.
"""

from dataclasses import dataclass, field

from ssn_agent.frames.journal import Entry, Journal
from ssn_agent.frames.layout import Outcome
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.settings import Settings
from ssn_agent.updates.evidence import median_of
from ssn_agent.updates.state import Mark, Tally
from ssn_contract.messages import InvalidReason

BY_A_MODEL = frozenset(
    {
        InvalidReason.LATE,
        InvalidReason.OVERLOAD,
        InvalidReason.NO_MODEL,
        InvalidReason.DARK,
        InvalidReason.BLOWN_OUT,
        InvalidReason.OUT_OF_FOCUS,
        InvalidReason.MOVED,
        InvalidReason.WRONG_SIZE,
    }
)
AT_ONCE = 1024
"""Records read in one turn, for the heartbeat's sake."""


@dataclass
class Counted:
    """Parts, counted one by one."""

    parts: int = 0
    failed: int = 0
    invalid: int = 0
    late: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    """Of the deadline, of the same parts."""

    def add(self, entry: Entry) -> None:
        """Count a part that has its verdict."""
        decision, result = entry.decision, entry.result
        if decision is None:
            return
        if decision.outcome is Outcome.INVALID:
            if decision.reason in BY_A_MODEL:
                self.parts += 1
                self.invalid += 1
                self.late += decision.reason is InvalidReason.LATE
            return
        self.parts += 1
        self.failed += decision.outcome is Outcome.FAIL
        if result is not None:
            accepted = entry.accepted
            took_ns = result.finished_monotonic_ns - accepted.triggered_monotonic_ns
            allowed_ns = accepted.deadline_monotonic_ns - accepted.triggered_monotonic_ns
            self.latencies_ms.append(took_ns / 1e6)
            self.shares.append(took_ns / allowed_ns)

    @property
    def tally(self) -> Tally:
        """Return them as they are kept."""
        return Tally(
            parts=self.parts,
            failed=self.failed,
            invalid=self.invalid,
            late=self.late,
            latency_ms=median_of(self.latencies_ms),
            latency_share=median_of(self.shares),
        )


class Cameras:
    """The journals of the cameras where a name is followed."""

    def __init__(self, settings: Settings, files: RuntimeFiles, follows: str) -> None:
        """Map them. Raises JournalError."""
        self._settings = settings
        self._follows = follows
        self._journals: dict[str, Journal] = {}
        self._cursors: dict[str, int] = {}
        self._counted = Counted()
        for name, camera in settings.cameras.items():
            if any(judge.follow == follows for judge in camera.judges):
                self._journals[name] = Journal(files.journal(name))

    def close(self) -> None:
        """Unmap them."""
        for journal in self._journals.values():
            journal.close()

    def marks(self) -> dict[str, Mark]:
        """Return where each camera stands."""
        return {
            name: Mark(epoch=journal.header.epoch, sequence=journal.refresh())
            for name, journal in self._journals.items()
        }

    def before(self, marks: dict[str, Mark], digest: str) -> Tally:
        """Return what had become of the parts up to the marks, but for this bundle's own."""
        counted = Counted()
        for name, journal in self._journals.items():
            mark = marks[name]
            for entry in journal.entries(lambda entry: entry.decision is not None):
                own = entry.result is not None and entry.result.bundle_digest == digest
                is_before = entry.sequence <= mark.sequence and not own
                if is_before and self._is_of_ours(name, entry):
                    counted.add(entry)
        return counted.tally

    def start(self, marks: dict[str, Mark]) -> None:
        """Count from these marks on; from the first record held where a numbering is another."""
        for name, journal in self._journals.items():
            mark = marks.get(name)
            if mark is not None and mark.epoch == journal.header.epoch:
                self._cursors[name] = mark.sequence + 1
            else:
                self._cursors[name] = journal.next_held(0)

    def look(self) -> Tally:
        """Count what has got its verdict since, and return all of it."""
        for name, journal in self._journals.items():
            head = journal.refresh()
            for _ in range(AT_ONCE):
                if self._cursors[name] > head:
                    break
                entry = journal.read(self._cursors[name])
                if entry is None:  # the ring has moved on
                    self._cursors[name] = journal.next_held(self._cursors[name] + 1)
                elif entry.decision is None:
                    break
                else:
                    self._cursors[name] += 1
                    if self._is_of_ours(name, entry):
                        self._counted.add(entry)
        return self._counted.tally

    def _is_of_ours(self, camera: str, entry: Entry) -> bool:
        judge = self._settings.cameras[camera].judge_of(entry.accepted.product)
        return judge is not None and judge.follow == self._follows
