"""Verdicts in a ledger, to be labelled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssn_agent.frames.layout import Decision, Outcome
from ssn_agent.ledger.database import open_database
from ssn_agent.ledger.label_writer import LabelWriter, Said
from ssn_agent.publish.outbox import Delivery
from ssn_agent.settings import Settings
from ssn_contract.http import LabelSource
from ssn_contract.messages import Label, Verdict
from support.ledgers import decided, open_writer
from support.records import EPOCH, FRAME, LATE, judged, new_journal, trigger


def write_verdicts(
    settings: Settings, journal_file: Path, outcomes: Sequence[Outcome]
) -> list[Verdict]:
    """Commit a verdict of camera `left` for each outcome, numbered from 1; a FAIL has images."""
    writer = open_writer(settings)
    writer.open_stream("left", EPOCH)
    journal = new_journal(journal_file, capacity=max(8, len(outcomes)))
    batch = []
    for number, outcome in enumerate(outcomes, start=1):
        sequence = journal.accept(trigger(part_id=f"part-{number}"))
        journal.capture(sequence, FRAME)
        is_judged = outcome is not Outcome.INVALID
        failed = outcome is Outcome.FAIL
        result = judged(outcome, heatmap=failed, image=failed) if is_judged else LATE
        journal.finish(sequence, result)
        entry = journal.read(sequence)
        assert entry is not None
        decision = Decision(outcome, result.reason, 10, entry.accepted.triggered_utc_ns + 10)
        batch.append(decided(settings, journal, entry, decision))
    writer.write(batch, Delivery())
    writer.close()
    journal.close()
    return [item.message for item in batch]


def label_writer(settings: Settings) -> LabelWriter:
    """Return a writer on the settings' ledger."""
    return LabelWriter(open_database(settings.ledger_path), str(settings.station))


def said(
    sequence: int,
    label: str,
    labeller: str = "m.weber",
    source: LabelSource = "mqtt",
    **more: Any,
) -> Said:
    """Return what somebody says of a verdict."""
    given = {"camera": "left", "epoch": EPOCH, "sequence": sequence, "label": label}
    return Said(Label.model_validate({**given, "labeller": labeller, **more}), source)
