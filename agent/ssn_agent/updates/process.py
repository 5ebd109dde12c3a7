"""The updates process: `python -m ssn_agent.updates.process SETTINGS PARENT`.

It runs where a camera follows a bundle's name. One turn, in this order; `rules` says what follows
from what, and a step is taken when `data_dir/models.json` says so:

1. What a command asks is done.
2. The channel is looked at, where that is due.
3. Each name that is under way goes on: its shadow is listened to, inference's note of the swap is
   looked for, the parts of a probation are counted.
4. Where none is under way, the next bundle that the channel names is taken.

It loads no model and nothing of the line waits for it: killed anywhere, it goes on from the file.
"""

import os
import sys
from pathlib import Path

from ssn_agent.errors import AgentError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.log import configure, logger
from ssn_agent.processes import Stop, end_with_parent, reload_asked_by
from ssn_agent.settings import read_resolved
from ssn_agent.updates.driver import Updates

NICE = 15
TICK_S = 0.2


def main(settings_path: str, parent: str) -> None:
    """Run until asked to stop."""
    end_with_parent(int(parent))
    stop = Stop()
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "updates")
    files = RuntimeFiles(settings.runtime_dir)
    try:
        updates = Updates(settings, files, Heartbeat(files.heartbeat("updates")))
    except AgentError as error:
        logger().error("the updates process cannot go on", problem=str(error))
        sys.exit(error.exit_code)
    os.nice(NICE)  # not before: the start has its time
    while not stop:
        if reload_asked_by() is not None:
            settings = read_resolved(Path(settings_path))
            configure(settings.log_level, "updates")
            updates.take_over(settings)
        updates.turn()
        stop.wait(TICK_S)
    updates.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
