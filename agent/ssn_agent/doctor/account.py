"""The service's user, in whose place things are looked at."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ssn_agent.errors import UsageError

SERVICE_USER = "ssn-agent"


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def account_of(name: str | None) -> Account:
    """Return the user of this name; without one the service's for root, where there is it.

    Everybody else is looked at as who they are. Raises UsageError.
    """
    found = _by_name(name or SERVICE_USER) if name or os.geteuid() == 0 else None
    if name and found is None:
        raise UsageError(f"--user {name}: there is no such user")
    if found is not None and os.geteuid() not in {0, found.pw_uid}:
        raise UsageError(f"--user {name}: only root may look with another's rights; use sudo")
    if found is None:
        own = os.geteuid()
        return Account(_name_of(own), own, os.getegid(), tuple(os.getgroups()))
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Account(found.pw_name, found.pw_uid, found.pw_gid, groups)


@contextmanager
def acting_as(account: Account) -> Iterator[None]:
    """Have the kernel judge by this user's rights, as far as we may: root becomes anybody."""
    if os.geteuid() != 0 or account.uid == 0:
        yield
        return
    own = os.getegid(), os.getgroups()
    os.setgroups(account.groups)
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own[0])
        os.setgroups(own[1])


def _by_name(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
