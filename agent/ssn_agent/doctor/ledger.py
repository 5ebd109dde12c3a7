"""The ledger: is it of this version, and sound?"""

from collections.abc import Iterator

from ssn_agent.doctor.disk import unusable
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning
from ssn_agent.errors import LedgerDamaged, LedgerError
from ssn_agent.ledger.damage import alarms
from ssn_agent.ledger.database import check, revisions
from ssn_agent.ledger.reader import open_ledger

MAX_CHECKED_BYTES = 2**30
"""A larger one takes its time: the ledger process looks at all of it once a day."""


def ledger(subject: Subject) -> Iterator[Finding]:
    """Schema, soundness, and what was set aside."""
    path = subject.settings.ledger_path
    if not path.exists():
        yield ok(f"{path}: is not there yet; the first start makes it")
        return
    if not subject.may_run and unusable(subject.settings) is not None:
        yield unknown(f"{path}: cannot be opened on such a disk")
        return
    for alarm in alarms(path):
        yield warning(alarm, "docs/operations.md, A damaged ledger")
    engine = open_ledger(path)
    try:
        has, newest, known = revisions(engine)
        if path.stat().st_size <= MAX_CHECKED_BYTES:
            check(engine)
    except LedgerDamaged as error:
        do = "restore a backup, or start the agent: it sets the file aside (docs/operations.md)"
        yield fault(str(error), do)
    except LedgerError as error:
        yield fault(str(error), f"have {subject.account.name} read and write it")
    else:
        if has not in known:
            do = "update the agent, or restore the backup that was made before the update"
            yield fault(f"{path}: its schema {has} is of a newer version than this agent", do)
        elif has != newest:
            yield ok(f"{path}: schema {has}; the next start brings it to {newest}")
        else:
            yield ok(f"{path}: schema {has}, {path.stat().st_size / 2**20:.1f} MiB, sound")
