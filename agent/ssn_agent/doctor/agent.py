"""What the agent that runs here says of itself."""

from collections.abc import Iterator

from ssn_agent.doctor.findings import Finding, Subject, fault, ok, unknown, warning

MANY = 3


def agent(subject: Subject) -> Iterator[Finding]:
    """Its alarms, and processes that were replaced."""
    found = subject.metrics
    if found is None:
        yield unknown("no agent runs here, or it is not ours to ask")
        return
    yield ok(f"runs; {found.undelivered or 0} messages wait for the broker")
    for alarm in found.alarms:
        yield warning(f"alarm: {alarm}", "docs/operations.md, What each alarm means and what to do")
    for process in found.processes:
        replaced = process.died + process.hung
        if replaced:
            what = f"{process.name}: died {process.died} times, hung {process.hung} times"
            do = "the log says why: journalctl -u ssn-agent -p warning"
            yield fault(what, do) if replaced > MANY else warning(what, do)
