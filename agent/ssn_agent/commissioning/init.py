"""`ssn-agent init`: from a bare box to settings that are sound. Thin, as `cli`."""

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from ssn_agent.commissioning.asking import Asker
from ssn_agent.errors import SettingsError, UsageError
from ssn_agent.log import configure
from ssn_agent.publish.settings import BrokerSettings
from ssn_agent.settings import (
    DEFAULT_PATH,
    DEFAULT_RUNTIME_DIR,
    load_settings,
)
from ssn_contract.channel import ChannelName
from ssn_contract.manifest import Name
from ssn_contract.topics import Station

if TYPE_CHECKING:
    from ssn_agent.commissioning.template import Answers

SERVICE_GROUP = "ssn-agent"
MODE, MODE_ALONE = 0o640, 0o600
LOCAL = ("127.0.0.1", "localhost", "::1")
_NAME = TypeAdapter[str](Name)


def init(
    out: Annotated[Path, typer.Option(help="The settings file.")] = DEFAULT_PATH,
    site: Annotated[str | None, typer.Option(help="Of the topics: the plant.")] = None,
    line: Annotated[str | None, typer.Option(help="The production line.")] = None,
    station: Annotated[str | None, typer.Option(help="This box.")] = None,
    camera: Annotated[str | None, typer.Option(help="The camera's name.")] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", "-s", help="The camera: kind=KIND, and its keys, key=value each."),
    ] = None,
    broker_host: Annotated[str | None, typer.Option(help="Where verdicts go.")] = None,
    broker_port: Annotated[str | None, typer.Option(help="Its port.")] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="Speak TLS with it.")] = None,
    ca_file: Annotated[str | None, typer.Option(help="Whom to trust for it (PEM).")] = None,
    cert_file: Annotated[str | None, typer.Option(help="This box's certificate (PEM).")] = None,
    key_file: Annotated[str | None, typer.Option(help="And its key.")] = None,
    broker_user: Annotated[
        str | None, typer.Option(help="User; the password is asked for.")
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="The model bundle's file (.ssn).")] = None,
    follow: Annotated[str | None, typer.Option(help="Or a name to follow in a channel.")] = None,
    channel_url: Annotated[str | None, typer.Option(help="The channel's web address.")] = None,
    channel_root: Annotated[
        str | None, typer.Option(help="Its metadata/1.root.json, brought by hand.")
    ] = None,
    channel: Annotated[ChannelName, typer.Option(help="canary or stable.")] = "stable",
    data_dir: Annotated[Path, typer.Option(help="Ledger, heatmaps, pulled bundles.")] = Path(
        "/var/lib/ssn-agent"
    ),
    runtime_dir: Annotated[Path, typer.Option(help="In memory.")] = DEFAULT_RUNTIME_DIR,
    yes: Annotated[bool, typer.Option("--yes", help="Take defaults for all the rest.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the settings file.")] = False,
) -> None:
    """Write the first settings file: asks for what no option says, and offers the cameras it finds.

    Passwords are asked for, and never taken from the command line.
    """
    from ssn_agent.commissioning.choosing import chosen_source
    from ssn_agent.commissioning.template import Answers

    configure("error", "ssn-agent")
    if out.exists() and not force:
        msg = f"{out}: is there already; replace it with --force, or name another file with --out"
        raise UsageError(msg)
    asker = Asker(takes_defaults=yes)
    place = Station()
    levels = {
        "site": asker.text("--site", "Site, the plant", site, place.site, _name),
        "line": asker.text("--line", "Production line", line, place.line, _name),
        "station": asker.text("--station", "Station, this box", station, place.station, _name),
    }
    name = asker.text("--camera", "Name of the camera", camera, "camera-1", _name)
    answers = Answers(
        station=Station(**levels),
        camera=name,
        source=chosen_source(asker, source),
        broker=_broker(
            asker, broker_host, broker_port, tls, (ca_file, cert_file, key_file), broker_user
        ),
        data_dir=data_dir.absolute(),
        runtime_dir=runtime_dir.absolute(),
        **_judge(asker, bundle, follow, (channel_url, channel_root, channel)),
    )
    _write(out, answers)
    _say_what_is_next(out, answers)


def _broker(
    asker: Asker,
    host: str | None,
    port: str | None,
    tls: bool | None,
    files: tuple[str | None, str | None, str | None],
    user: str | None,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["host"] = asker.text("--broker-host", "Broker's host", host, "127.0.0.1")
    if tls is None and any(files):
        tls = True
    tls = asker.yes("Does it speak TLS", tls, default=found["host"] not in LOCAL)
    usual = "8883" if tls else "1883"
    answer = asker.text("--broker-port", "Its port", port, usual, _port)
    found["port"] = int(answer)
    if tls:
        found["tls"] = True
        questions = {
            "ca_file": "File of the authority to trust (empty: the system's)",
            "cert_file": "File of this box's certificate (empty: none)",
            "key_file": "File of its key",
        }
        for (key, question), given in zip(questions.items(), files, strict=True):
            default = None if key == "key_file" else ""
            if key == "key_file" and given is None and "cert_file" not in found:
                continue
            option = f"--{key.replace('_', '-')}"
            answer = asker.text(option, question, given, default, _is_file)
            if answer:
                found[key] = str(Path(answer).absolute())
    username = asker.text("--broker-user", "User at the broker (empty: none)", user, "")
    if username:
        found["username"] = username
        if password := asker.secret("Password (not shown; empty: it comes by ssn-agent.env)"):
            found["password"] = password
    return found


def _judge(
    asker: Asker,
    bundle: str | None,
    follow: str | None,
    channel: tuple[str | None, str | None, ChannelName],
) -> dict[str, Any]:
    url, root, name = channel
    found: dict[str, Any] = {}
    if bundle is not None or follow is None:
        answer = asker.text("--bundle", "Bundle's file (empty: none yet)", bundle, "")
        if answer:
            found["bundle"] = Path(answer).absolute()
    if follow is not None or not found:
        question = "Name of a bundle to follow in a channel (empty: none)"
        follow = asker.text("--follow", question, follow, "", _name)
    if follow:
        url = asker.text("--channel-url", "The channel's web address", url, None)
        root = asker.text("--channel-root", "Its root.json, brought here", root, None, _is_file)
        found["follow"] = follow
        path = str(Path(root).absolute())
        found["channel"] = {"url": url, "root_file": path, "name": name, "bundles": [follow]}
    elif url or root:
        raise UsageError("--follow: is missing: which bundle of the channel is to be followed?")
    return found


def _write(out: Path, answers: "Answers") -> None:
    """Have the file there, sound, or leave what was there. Raises SettingsError, UsageError."""
    from ssn_agent.atomic import atomic_path
    from ssn_agent.commissioning.template import settings_text

    group = _service_group()
    mode = MODE_ALONE if group is None and answers.holds_secret else MODE
    try:
        with atomic_path(out, mode) as written:
            written.write_text(settings_text(answers), "utf-8")
            try:
                load_settings(written)
            except SettingsError as error:
                problem = str(error).replace(str(written), str(out))
                msg = f"{problem}\n{out}: not written; answer otherwise"
                raise SettingsError(msg) from error
            if group is not None:
                os.chown(written, -1, group)
    except OSError as error:
        msg = f"{out}: cannot be written ({error.strerror}); make its folder, or ask as root"
        raise UsageError(msg) from error


def _service_group() -> int | None:
    """Return the service's group, which reads what root writes; None where it is not ours to."""
    try:
        return grp.getgrnam(SERVICE_GROUP).gr_gid if os.geteuid() == 0 else None
    except KeyError:
        return None


def _say_what_is_next(out: Path, answers: "Answers") -> None:
    where = "" if out == DEFAULT_PATH else f" --config {out}"
    typer.echo(f"\n{out}: written, and sound. Next:")
    typer.echo(f"  ssn-agent config check{where}")
    typer.echo(f"  ssn-agent camera probe{where}")
    if answers.judges_nothing:
        typer.echo("  no bundle yet: pictures are kept, to be labelled and learned from")
    if "username" in answers.broker and "password" not in answers.broker:
        env = out.parent / "ssn-agent.env"
        typer.echo(f"  the broker's password: SSN_BROKER__PASSWORD=... in {env} (mode 0600)")
    typer.echo(f"  ssn-agent doctor{where}")
    if where:
        typer.echo(f"  ssn-agent run{where}      # the service reads {DEFAULT_PATH}")
    else:
        typer.echo("  systemctl enable ssn-agent && systemctl restart ssn-agent")


def _port(answer: str) -> None:
    try:
        BrokerSettings.model_validate({"port": answer})
    except ValidationError as error:
        raise SettingsError(f"{answer!r} is none: a number from 1 to 65535") from error


def _name(answer: str) -> None:
    try:
        _NAME.validate_python(answer)
    except ValidationError as error:
        msg = f"{answer!r} is none: lower-case letters, digits, _ and -, a letter or digit first"
        raise SettingsError(msg) from error


def _is_file(answer: str) -> None:
    if not Path(answer).is_file():
        raise SettingsError(f"{answer}: is no file")
