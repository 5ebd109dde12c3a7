"""What must hold of every run: of each part one record, of each exposure at most one verdict."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from cameras.rig import Asked, Seen
from chaos.report import Bar

CLOCKS_MS = 1.0
"""By how much times of this machine may differ that were read one after the other."""
WRAP = (65535, 1)
"""Frame ids of 16 bits, where they begin again."""


def none(text: str, found: int) -> Bar:
    """Return a bar that nothing of a kind may be found."""
    return Bar(text=f"0 {text}", measured=str(found), held=found == 0)


def frames_are_judged_once(seen: Sequence[Seen], *, in_order: bool = True) -> list[Bar]:
    """Return the bars that hold for all records, whatever the source: see `Seen.content`.

    in_order: a later number is a later exposure.
    """
    numbers = sorted(record.sequence for record in seen)
    good = sorted((r for r in seen if r.reason is None), key=lambda r: r.sequence)
    contents = [record.content for record in good if record.content is not None]
    bars = [
        none("gaps in the numbers", sum(b - a - 1 for a, b in pairwise(numbers))),
        none("numbers with two records", len(numbers) - len(set(numbers))),
    ]
    if contents:
        twice = sum(count - 1 for count in Counter(contents).values())
        bars.append(none("exposures that were judged twice", twice))
    ordered = [content for content in contents if isinstance(content, int)]
    if ordered and in_order:
        wrong = sum(later <= earlier for earlier, later in pairwise(ordered))
        bars.append(none("exposures out of their order", wrong))
    return bars


def none_is_invented(seen: Sequence[Seen], begun_ns: int, slack_ms: float) -> Bar:
    """Return the bar for contents that are the times of their exposures, in milliseconds."""
    first_ms = begun_ns / 1e6 - slack_ms
    invented = sum(
        not first_ms <= record.content <= record.closed_ns / 1e6 + slack_ms
        for record in seen
        if isinstance(record.content, int)
    )
    return none("frames that no camera took", invented)


def triggers_have_their_frames(
    seen: Sequence[Seen], asked: Iterable[Asked], slack_ms: float | None
) -> list[Bar]:
    """Return the bars for announced parts: one record each, in order, and never another's frame.

    slack_ms: contents are times of exposure, and one may lie so much before its trigger at most;
    None: contents say nothing of times. When the driver says that it was taken is looked at always.
    """
    taken = [item for item in asked if item.status == "accepted"]
    sent_ns = {item.id: item.sent_ns for item in taken}
    records = [record for record in seen if record.trigger_id in sent_ns]
    of = Counter(record.trigger_id for record in records)
    ordered = [r.trigger_id for r in sorted(records, key=lambda r: r.sequence)]
    bars = [
        none("announced parts without exactly one record", sum(of[i.id] != 1 for i in taken)),
        none("records out of the order of the parts", int(ordered != [i.id for i in taken])),
        none("records that name another part", sum(r.part_id != r.trigger_id for r in records)),
    ]
    early_ns = 1e6 * (CLOCKS_MS if slack_ms is None else slack_ms)
    early = sum(
        record.captured_ns < sent_ns[str(record.trigger_id)] - early_ns
        for record in records
        if record.reason is None
    )
    bars.append(none("frames taken before their part was announced", early))
    if slack_ms is not None:
        before = sum(
            record.content < sent_ns[str(record.trigger_id)] / 1e6 - slack_ms
            for record in records
            if isinstance(record.content, int)
        )
        bars.append(none("frames exposed before their trigger", before))
    return bars


def frame_ids_go_on(seen: Iterable[Seen]) -> list[Bar]:
    """Return the bar for triggered parts of a camera that nothing happens to, by its own count.

    Each part with a frame has the one that follows the frame of the part before it. There is none
    where frames have no ids.
    """
    good = sorted((r for r in seen if r.reason is None), key=lambda r: r.sequence)
    ids = [record.frame_id for record in good if record.frame_id is not None]
    if not ids:
        return []
    breaks = sum(b != a + 1 and (a, b) != WRAP for a, b in pairwise(ids))
    return [none("frames that do not follow the one of the part before", breaks)]
