"""The HTTP API's process: `python -m ssn_agent.labels.process SETTINGS PARENT`.

It runs where `http.port` is set. It reads the ledger for itself, and writes nothing: labels go to
the ledger process. Nothing of the line waits for it.
"""

import os
import sys
from pathlib import Path

from ssn_agent.errors import AgentError
from ssn_agent.frames.heartbeat import BEAT_S, Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.labels.token import check
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent
from ssn_agent.settings import read_resolved

NICE = 15
"""Whoever asks must not take the processor from those who judge parts."""
PAUSE_S = 20.0
"""Before an end for a reason that will be there at the next start, too (a port that is taken): to
start Python again and again would take the processor from those who judge parts."""


def main(settings_path: str, parent: str) -> None:
    """Serve until asked to stop."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "http")
    files = RuntimeFiles(settings.runtime_dir)
    heart = Heartbeat(files.heartbeat("http"))
    try:
        check(settings.http)
        from ssn_agent.labels.server import HttpServer  # of an extra: `check` says what is missing

        server = HttpServer(settings, files, heart)
        os.nice(NICE)  # not before: the start has its time
        server.run(stop)
    except AgentError as error:
        logger().error("the HTTP API cannot go on", problem=str(error))
        heart.beat(PAUSE_S + BEAT_S)
        stop.wait(PAUSE_S)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(*sys.argv[1:])
