"""A label by a command: through the agent that runs, or into the ledger where none does.

The ledger process is the ledger's one writer. Where no agent runs, the command takes its lock
meanwhile, and seals the ledger again as the agent had: else the next start would take it for
another file, and begin a new epoch.
"""

import os
from pathlib import Path

from ssn_agent.errors import LedgerError
from ssn_agent.frames.lock import without_agent
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.labels.handover import hand_over
from ssn_agent.ledger.database import migrate, open_database
from ssn_agent.ledger.label_writer import LabelWriter, Said
from ssn_agent.ledger.seal import break_seal, seal
from ssn_agent.settings import Settings
from ssn_contract.http import LabelAnswer


def keep(settings: Settings, said: Said) -> LabelAnswer:
    """Bring a label into the ledger. Raises LedgerError, UsageError."""
    files = RuntimeFiles(settings.runtime_dir)
    # What another user writes, beside the ledger or into the runtime directory, the agent could not
    # use: so that is done as its owner alone.
    if not _is_ours(settings.ledger_path):
        answer = hand_over(files.labels, said)
        if answer.status == "unavailable":
            msg = f"{answer.problem} (where no agent runs: as the ledger's own user)"
            return answer.model_copy(update={"problem": msg})
        return answer
    with without_agent(files) as is_alone:
        if is_alone:
            return _write(settings, said)
    return hand_over(files.labels, said)


def _write(settings: Settings, said: Said) -> LabelAnswer:
    path = settings.ledger_path
    try:
        was_sealed = break_seal(path)
        engine = open_database(path)
        try:
            migrate(engine)
            [answer] = LabelWriter(engine, str(settings.station)).write([said])
        finally:
            engine.dispose()
            if was_sealed:
                seal(path)
    except OSError as error:
        msg = f"{path}: the label cannot be written ({error.strerror}); check the folder"
        raise LedgerError(msg) from error
    return answer


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError as error:
        msg = f"{path}: cannot be looked at ({error.strerror}); run the agent first"
        raise LedgerError(msg) from error
