"""`ssn-trainer publish` and `ssn-trainer channel`: thin."""

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ssn_contract.channel import ChannelName

if TYPE_CHECKING:
    from ssn_trainer.publish.channel import Done
    from ssn_trainer.publish.keys import KeyFolders

channel_app = typer.Typer(no_args_is_help=True, help="Keep a channel that stations pull from.")

ChannelDir = Annotated[Path, typer.Option("--channel", help="The channel's folder.")]
Keys = Annotated[
    list[Path],
    typer.Option(
        help="Folder with key files; may be given several times. New ones go in the first."
    ),
]
PassphraseDir = Annotated[
    Path | None,
    typer.Option(
        "--passphrases", help="Folder of files ROLE or KEY with its passphrase.", show_default="ask"
    ),
]
KeyName = Annotated[str, typer.Argument(help="As `channel status` calls it: ROLE-KEYID.")]


def publish(
    bundle: Annotated[Path, typer.Argument(help="A .ssn file.")],
    channel: ChannelDir,
    keys: Keys,
    to: Annotated[ChannelName, typer.Option(help="Which stations get it.")] = "canary",
    passphrases: PassphraseDir = None,
) -> None:
    """Verify a bundle and have a channel name it as its present one."""
    from ssn_trainer.publish import channel as work

    _done(work.publish(channel, bundle, to, _keys(keys, passphrases), _now()))


@channel_app.command()
def init(
    channel: ChannelDir,
    keys: Keys,
    root_keys: Annotated[int, typer.Option(min=1, max=16, help="How many are made.")] = 3,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign.")] = 2,
    passphrases: PassphraseDir = None,
) -> None:
    """Make an empty channel and its keys."""
    from ssn_trainer.publish import channel as work

    _done(work.init(channel, _keys(keys, passphrases), root_keys, threshold, _now()))


@channel_app.command()
def status(channel: ChannelDir) -> None:
    """Say what a channel names, what expires when, and which keys sign.

    Exit code 1 where something has expired.
    """
    from ssn_trainer.publish.show import expired, show_status
    from ssn_trainer.publish.state import load

    state, now = load(channel, None), _now()
    show_status(state, now, Console())
    raise typer.Exit(1 if expired(state, now) else 0)


@channel_app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The bundle's name, without its version.")],
    channel: ChannelDir,
    keys: Keys,
    passphrases: PassphraseDir = None,
) -> None:
    """Have `stable` name the bundle that `canary` names."""
    from ssn_trainer.publish import channel as work

    _done(work.promote(channel, name, _keys(keys, passphrases), _now()))


@channel_app.command()
def rotate(
    key: KeyName, channel: ChannelDir, keys: Keys, passphrases: PassphraseDir = None
) -> None:
    """Put a new key in a key's place: it is old, its holder leaves, or it is lost."""
    from ssn_trainer.publish import channel as work

    _done(work.rotate(channel, key, _keys(keys, passphrases), _now()))


@channel_app.command()
def revoke(
    key: KeyName,
    channel: ChannelDir,
    keys: Keys,
    restored: Annotated[
        bool, typer.Option("--restored", help="The folder is an older backup, the newest left.")
    ] = False,
    passphrases: PassphraseDir = None,
) -> None:
    """Take the trust from a key that is in wrong hands."""
    from ssn_trainer.publish import channel as work

    _done(work.revoke(channel, key, _keys(keys, passphrases), _now(), restored=restored))


@channel_app.command()
def refresh(
    channel: ChannelDir,
    keys: Keys,
    roles: Annotated[list[str] | None, typer.Argument(show_default="snapshot timestamp")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, show_default="each role's usual time")
    ] = None,
    passphrases: PassphraseDir = None,
) -> None:
    """Sign roles anew before they expire."""
    from ssn_trainer.publish import channel as work

    wanted = roles or ["snapshot", "timestamp"]
    _done(work.refresh(channel, wanted, days, _keys(keys, passphrases), _now()))


@channel_app.command()
def serve(
    channel: ChannelDir,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for stations elsewhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
) -> None:
    """Serve a channel's files over HTTP until Ctrl-C, for a small site."""
    from ssn_trainer.publish.serve import Server
    from ssn_trainer.publish.state import load

    load(channel, None)  # says so where no channel is there
    with Server(channel, host, port) as server:
        typer.echo(f"{channel}: http://{host}:{server.server_port}/", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended", err=True)


@channel_app.command()
def announce(
    channel: ChannelDir,
    broker: Annotated[str, typer.Option(help="The stations' MQTT broker: HOST[:PORT].")],
    site: Annotated[str, typer.Option(help="Whose stations are told: their station.site.")],
    to: Annotated[ChannelName, typer.Option(help="Which channel names something new.")] = "canary",
    username: Annotated[str | None, typer.Option(help="At the broker.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password alone.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS with the broker.")] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="Its authority (PEM).", show_default="the system's")
    ] = None,
    cert_file: Annotated[Path | None, typer.Option(help="Our certificate (PEM).")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
) -> None:
    """Tell stations that follow a channel to look at it now."""
    from ssn_trainer.publish import announce as work
    from ssn_trainer.publish.state import load

    load(channel, None)  # says so where no channel is there
    settings = work.broker_of(
        broker,
        password_file,
        username=username,
        tls=tls,
        ca_file=ca_file,
        cert_file=cert_file,
        key_file=key_file,
    )
    topic = work.announce(settings, site, to, _now())
    typer.echo(f"{topic}: announced")


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _keys(folders: list[Path], passphrases: Path | None) -> "KeyFolders":
    from ssn_trainer.publish.keys import KeyFolders, Passphrases

    return KeyFolders(folders, Passphrases(passphrases))


def _done(done: "Done") -> None:
    from ssn_trainer.publish.show import show_done

    show_done(done, _now(), Console())
