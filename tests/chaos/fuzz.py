"""`python -m chaos.fuzz --seconds 600 [TARGET ...]`: every input of the agent, for some time.

The targets take turns of some hundred examples each. The first one that fails ends the run, with
the smallest example that Hypothesis finds; it is kept in `.hypothesis` and comes first the next
time. A call that does not return is a hang: every thread's place is printed, and the run ends.
"""

import argparse
import faulthandler
import sys
import time

from hypothesis import HealthCheck, Phase, settings

from chaos.fuzz_targets import TARGETS, capture_running, with_examples

HANG_S = 120.0
"""For a turn's one call, on a machine that has much else to do."""
TURN = 200
"""Examples."""

settings.register_profile(
    "fuzz",
    deadline=None,  # a slow machine is no fault; a hang is looked for by other means
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def main() -> int:
    """Run until the time is up or something is found; return 0 where nothing was."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    settings.load_profile("fuzz")
    chosen = options.targets or list(TARGETS)
    turn = {name: with_examples(TARGETS[name], TURN) for name in chosen}
    turns = dict.fromkeys(chosen, 0)
    ends_at = time.monotonic() + options.seconds
    with capture_running():
        while time.monotonic() < ends_at or not all(turns.values()):
            name = min(turns, key=turns.__getitem__)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            turn[name]()
            turns[name] += 1
    faulthandler.cancel_dump_traceback_later()
    for name, count in turns.items():
        print(f"{name}: {count * TURN} examples at most, nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
