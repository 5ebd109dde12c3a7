"""What was offered against what became of it: rules alone, no process and no file here.

lost         answered, and without exactly one verdict in the ledger, or without one on the
             broker; or without an answer within 10 s of its first sending
duplicated   keys with two different verdicts, on the broker or between broker and ledger
redelivered  messages that repeat the verdict of a key
gaps         numbers of a camera's epoch that the ledger lacks
wrong        PASS or FAIL that contradicts the part, or a verdict that names another part
renumbered   ids that were answered with two different keys
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

Key = tuple[str, str, int]
"""Camera, epoch, sequence."""
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Offered:
    """A part, as the sender noted it before sending it."""

    id: str
    camera: str
    defective: bool | None
    """What its verdict should be; None where nobody knows."""
    at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent told the sender; `key` is None where it did not take the part."""

    id: str
    key: Key | None
    at: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, as the ledger holds it or as the broker delivered it."""

    key: Key
    part_id: str | None
    verdict: str
    reason: str | None
    score: float | None
    at: float = 0.0
    """When it was received; 0 of a row of the ledger."""
    published: bool = False
    """Of a row of the ledger: acknowledged by the broker."""
    durable: bool = True
    """Of a message: committed before it was sent."""

    @property
    def content(self) -> tuple[str, str | None, float | None]:
        """Return what must never differ under one key."""
        return self.verdict, self.reason, self.score


@dataclass
class Evidence:
    """The witness's lists, and the ledger's."""

    offered: list[Offered] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    received: list[Judged] = field(default_factory=list)
    ledger: list[Judged] = field(default_factory=list)
    triggers: list[Key] = field(default_factory=list)
    """Of the ledger, with or without a verdict."""


@dataclass(frozen=True)
class Tally:
    """The counts of a run, or of some of its parts."""

    offered: int
    triggers: int
    verdicts: int
    invalid: dict[str, int]
    published: int
    received: int
    lost: int
    duplicated: int
    redelivered: int
    gaps: int
    wrong: int
    renumbered: int
    lost_parts: tuple[str, ...]
    """Some of the lost, by id, to look for."""


def tally(evidence: Evidence, parts: Iterable[Offered] | None = None) -> Tally:
    """Compare the lists, for all parts or for some of them."""
    chosen = {part.id: part for part in (evidence.offered if parts is None else parts)}
    keys = _keys(evidence, chosen)
    rows, messages = _by_key(evidence.ledger, keys), _by_key(evidence.received, keys)
    answers = _first_answers(evidence.answers)
    lost = [p for p in chosen.values() if not _is_kept(p, answers.get(p.id), rows, messages)]
    contents = {key: {j.content for j in [*rows[key], *messages[key]]} for key in keys}
    return Tally(
        offered=len(chosen),
        triggers=sum(key in keys for key in evidence.triggers),
        verdicts=sum(map(len, rows.values())),
        invalid=dict(
            sorted(Counter(str(j.reason) for j in _all(rows) if j.verdict == "INVALID").items())
        ),
        published=sum(j.published for j in _all(rows)),
        received=sum(bool(found) for found in messages.values()),
        lost=len(lost),
        duplicated=sum(len(found) > 1 for found in contents.values()),
        redelivered=sum(max(0, len(found) - 1) for found in messages.values()),
        gaps=sum(key in keys for key in _followed_by_gap(evidence.triggers)),
        wrong=sum(_is_wrong(j, chosen, keys) for j in [*_all(rows), *_all(messages)]),
        renumbered=len(_renumbered(evidence.answers) & set(chosen)),
        lost_parts=tuple(part.id for part in lost[:5]),
    )


def windows(parts: Iterable[Offered], starts: list[tuple[float, str]]) -> dict[str, list[Offered]]:
    """Return parts by the name of the newest start before they were offered, in order of time.

    Those offered before the first start are left out.
    """
    found: dict[str, list[Offered]] = {name: [] for _, name in starts}
    ordered = sorted(starts)
    for part in parts:
        earlier = [name for at, name in ordered if at <= part.at]
        if earlier:
            found[earlier[-1]].append(part)
    return found


def recovered_at(evidence: Evidence, fault_at: float, camera: str | None = None) -> float | None:
    """Return when the first committed PASS or FAIL of a part arrived that was offered after it.

    Of one camera, where the fault was that camera's. None: there is none yet.
    """
    after = {p.id for p in evidence.offered if p.at >= fault_at and camera in {None, p.camera}}
    judged = [j for j in evidence.received if j.durable and j.verdict != "INVALID"]
    return min((j.at for j in judged if j.part_id in after), default=None)


def summary(times_s: list[float]) -> dict[str, float]:
    """Return median and worst of some durations, to the millisecond; of none, nothing."""
    if not times_s:
        return {}
    return {"median": round(median(times_s), 3), "worst": round(max(times_s), 3)}


def _keys(evidence: Evidence, chosen: Mapping[str, Offered]) -> set[Key]:
    """Return the keys of some parts, as told to the sender or as the verdicts name them."""
    told = {a.key for a in evidence.answers if a.key is not None and a.id in chosen}
    named = {j.key for j in [*evidence.ledger, *evidence.received] if j.part_id in chosen}
    return told | named


def _by_key(judged: Iterable[Judged], keys: set[Key]) -> dict[Key, list[Judged]]:
    found: dict[Key, list[Judged]] = {key: [] for key in keys}
    for item in judged:
        if item.key in keys:
            found[item.key].append(item)
    return found


def _all(by_key: Mapping[Key, list[Judged]]) -> list[Judged]:
    return [item for found in by_key.values() for item in found]


def _is_kept(
    part: Offered,
    answer: Answer | None,
    rows: Mapping[Key, list[Judged]],
    messages: Mapping[Key, list[Judged]],
) -> bool:
    if answer is None or answer.at - part.at > PATIENCE_S or answer.key is None:
        return False
    return len(rows[answer.key]) == 1 and bool(messages[answer.key])


def _first_answers(answers: Iterable[Answer]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    for answer in answers:
        found.setdefault(answer.id, answer)
    return found


def _followed_by_gap(triggers: Iterable[Key]) -> list[Key]:
    """Return each number before which others lack, once a number that lacks."""
    streams: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for camera, epoch, sequence in triggers:
        streams[camera, epoch].append(sequence)
    found = []
    for (camera, epoch), numbers in streams.items():
        before = 0
        for number in sorted(numbers):
            found += [(camera, epoch, number)] * (number - before - 1)
            before = number
    return found


def _renumbered(answers: Iterable[Answer]) -> set[str]:
    keys: defaultdict[str, set[Key | None]] = defaultdict(set)
    for answer in answers:
        keys[answer.id].add(answer.key)
    return {name for name, found in keys.items() if len(found) > 1}


def _is_wrong(judged: Judged, chosen: Mapping[str, Offered], told: set[Key]) -> bool:
    part = chosen.get(judged.part_id or "")
    if part is None:
        return judged.key in told  # another part's verdict under the key of one of ours
    if judged.verdict == "INVALID" or part.defective is None:
        return False
    return (judged.verdict == "FAIL") != part.defective
