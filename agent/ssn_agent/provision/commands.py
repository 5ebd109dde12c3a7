"""`ssn-agent provision`: a site's authority, certificates, and its broker's files. Thin."""

from contextlib import AbstractContextManager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ssn_agent.errors import UsageError
from ssn_agent.passphrases import ask_passphrase, read_passphrase
from ssn_agent.provision.register import ClientRole, read_register
from ssn_agent.publish.expiry import words

if TYPE_CHECKING:
    from ssn_agent.provision.site import Provisioner

app = typer.Typer(
    help="Make and renew certificates for a site's broker and stations.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(help="The site's folder: keep it off the network.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="Of the authority's key, in a file of mode 600.", show_default="ask"),
]
NAME_HELP = "`broker`, SITE/LINE/STATION, or a client's name."
MISSING = "`ssn-agent provision` needs the extra `provision`: pip install 'ssn-inspect[provision]'"


@app.command()
def site(
    folder: Folder,
    name: Annotated[str, typer.Option("--site", help="Its name, as in the topics.")],
    broker_host: Annotated[
        str, typer.Option(help="The broker's names and addresses, with a comma; the first counts.")
    ],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a site's authority and its broker's files."""
    from ssn_agent.provision.site import make_site

    _needs_cryptography()
    hosts = [host.strip() for host in broker_host.split(",")]
    make_site(folder, name, hosts, _passphrase(folder, passphrase_file, new=True), _now())
    typer.echo(f"{folder / 'broker'}: to copy to the broker (docs/broker.md); back up {folder}")


@app.command()
def station(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="SITE/LINE/STATION")],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a station's key, certificate and lines of settings."""
    with _changing(folder, passphrase_file) as provisioner:
        typer.echo(f"{provisioner.station(name, _now())}: to copy to the station (docs/broker.md)")


@app.command()
def client(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="One program's: each has a certificate of its own.")],
    role: Annotated[ClientRole, typer.Option(help="What it may do (docs/broker.md).")],
    line: Annotated[
        str | None, typer.Option(help="At this line alone.", show_default="all")
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make the key and certificate of a dashboard, a line controller or a publisher."""
    with _changing(folder, passphrase_file) as provisioner:
        made = provisioner.client(name, role, line, _now())
    typer.echo(f"{made}: to copy to it; copy {folder / 'broker' / 'acl'} to the broker and reload")


@app.command()
def renew(
    folder: Folder,
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a new key and certificate; the old one stays valid until it ends or is revoked."""
    with _changing(folder, passphrase_file) as provisioner:
        typer.echo(f"{provisioner.renew(name, _now())}: to copy in place of the old files")


@app.command()
def revoke(
    folder: Folder,
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    older: Annotated[
        bool, typer.Option("--older", help="Only those that a renewal has replaced.")
    ] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Have the broker refuse the certificates of a name."""
    with _changing(folder, passphrase_file) as provisioner:
        count = provisioner.revoke(name, _now(), older=older)
    files = f"{folder / 'broker'}/crl.pem and acl"
    typer.echo(f"{name}: {count} revoked; copy {files} to the broker, and restart it")


@app.command()
def show(folder: Folder) -> None:
    """List certificates and when they end.

    Exit code 1 where one ends within 30 days.
    """
    site, now = read_register(folder), _now()
    in_force = {entry.serial for entry in site.in_force()}
    table = Table("name", "role", "ends (UTC)", "")
    ends_soon = False
    for entry in site.issued:
        if entry.revoked_at is not None:
            state = f"revoked {entry.revoked_at:%Y-%m-%d}"
        elif entry.serial not in in_force:
            state = "replaced"
        else:
            state = words(entry.expires_at, now) or ""
            ends_soon = ends_soon or bool(state)
        role = entry.role if entry.line is None else f"{entry.role} of {entry.line}"
        table.add_row(entry.name, role, f"{entry.expires_at:%Y-%m-%d}", state)
    Console().print(table)
    raise typer.Exit(1 if ends_soon else 0)


def _changing(folder: Path, passphrase_file: Path | None) -> "AbstractContextManager[Provisioner]":
    _needs_cryptography()
    from ssn_agent.provision.site import changing

    return changing(folder, _passphrase(folder, passphrase_file))


def _passphrase(folder: Path, file: Path | None, *, new: bool = False) -> "partial[bytes]":
    if file is not None:
        return partial(read_passphrase, file)
    name = f"the authority in {folder}"
    return partial(ask_passphrase, name, "no --passphrase-file was given", new=new)


def _needs_cryptography() -> None:
    try:
        import cryptography  # noqa: F401 -- whether it is there
    except ImportError as error:
        raise UsageError(MISSING) from error


def _now() -> datetime:
    return datetime.now(timezone.utc)
