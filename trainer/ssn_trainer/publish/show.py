"""How a channel stands: what it names, what expires when, and which keys sign."""

from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssn_contract.channel import ChannelBundle
from ssn_trainer.publish.channel import Done
from ssn_trainer.publish.state import CHANNELS, LIFE_DAYS, SIGNED_FIRST, State

_SOON = 0.25
"""Of its usual time: so much is left when it is time to sign a role anew."""


def expired(state: State, now: datetime) -> list[str]:
    """Return the roles that stations refuse because of their age."""
    return [role for role in SIGNED_FIRST if state.of(role).signed.is_expired(now)]


def show_done(done: Done, now: datetime, console: Console) -> None:
    """Print what was done, what expires when, and what to do next."""
    console.print(escape(done.did), soft_wrap=True)
    console.print(_expiry(done.state, now))
    first = min(SIGNED_FIRST, key=lambda role: done.state.of(role).signed.expires)
    until = done.state.of(first).signed.expires
    refresh = f"before {until:%Y-%m-%d %H:%M} UTC: ssn-trainer channel refresh {first}"
    for todo in (*done.todo, refresh):
        console.print(f"next: {escape(todo)}", soft_wrap=True)


def show_status(state: State, now: datetime, console: Console) -> None:
    """Print what the channels name, what expires when, and which keys sign."""
    names = Table("channel", "bundle", "version", "digest")
    for channel in CHANNELS:
        for path, target in sorted(state.targets[channel].signed.targets.items()):
            said = ChannelBundle.model_validate(target.custom)
            name = path.removeprefix(f"{channel}/").removesuffix(".ssn")
            names.add_row(channel, name, said.version, target.hashes["sha256"][:12])
    console.print(names)
    console.print(_expiry(state, now))
    for role in expired(state, now):
        console.print(
            f"{role} has expired: stations pull nothing until `ssn-trainer channel refresh {role}`",
            soft_wrap=True,
        )


def _expiry(state: State, now: datetime) -> Table:
    table = Table("role", "version", "valid until (UTC)", "", "signed by")
    for role in reversed(SIGNED_FIRST):
        signed = state.of(role).signed
        left = signed.expires - now
        days = left.total_seconds() / 86_400
        soon = days < _SOON * LIFE_DAYS[role]
        verdict = "EXPIRED" if days < 0 else f"{days:.1f} days{': refresh it' if soon else ''}"
        threshold = state.delegator(role).get_delegated_role(role).threshold
        names = ", ".join(state.key_names(role))
        by = names if len(state.keyids(role)) == 1 else f"{threshold} of {names}"
        until = f"{signed.expires:%Y-%m-%d %H:%M}"
        table.add_row(role, str(signed.version), until, verdict, by)
    return table
