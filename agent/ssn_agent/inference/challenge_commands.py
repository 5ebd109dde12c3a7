"""`ssn-agent challenge`: thin, as all commands."""

import os
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from ssn_agent.errors import ChallengeError, MessageError, UsageError
from ssn_agent.options import CameraOption, ConfigOption, settings_of, table_of
from ssn_agent.settings import DEFAULT_PATH, Settings

if TYPE_CHECKING:
    from ssn_agent.inference.challenge_state import Standing

challenge_app = typer.Typer(
    help="Known good and bad parts: is the camera judging rightly?", no_args_is_help=True
)
TAKEN_S = 10.0
"""Inference may be opening a bundle."""
CameraArgument = Annotated[str, typer.Argument(help="Whose challenge.")]


@challenge_app.command("show")
def show(camera: CameraOption = None, config: ConfigOption = DEFAULT_PATH) -> None:
    """Print how challenges stand, and each picture and part."""
    from ssn_agent.ledger.challenges import report

    settings = settings_of(config)
    table = table_of("camera", "state", "kind", "name", "expected", "judged", "score", "at (UTC)")
    challenged = [camera] if camera is not None else _challenged(settings)
    if not challenged:
        typer.echo("no camera has a challenge")
        return
    for name in challenged:
        standing = _standing(settings, name)
        for item in report(str(settings.station), name, standing).items:
            said = "-" if item.verdict is None else item.verdict.value
            word = {True: said, False: f"{said}, wrong", None: "to come"}[item.passed]
            table.add_row(
                name,
                standing.state,
                item.kind,
                escape(item.name),
                item.expected,
                f"{word} {item.reason.value}" if item.reason else word,
                "-" if item.score is None else f"{item.score:.3f}",
                "-" if item.at is None else f"{item.at:%Y-%m-%d %H:%M:%S}",
            )
    Console().print(table)


@challenge_app.command("run")
def run(
    camera: CameraArgument,
    by: Annotated[str, typer.Option(help="Who asks; default: this user.")] = "",
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Have all known pictures judged anew now, and all known parts as they come."""
    _ask(settings_of(config), camera, "run", by or f"uid {os.getuid()}", None)
    typer.echo(f"{camera}: the challenge is due; ssn-agent challenge show says how it goes")


@challenge_app.command("clear")
def clear(
    camera: CameraArgument,
    by: Annotated[str, typer.Option(help="Who answers for it.")],
    why: Annotated[str, typer.Option("--reason", help="Why it may judge on.")],
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Have a camera judge on, whatever its challenge says, until it is due again. It is kept."""
    _ask(settings_of(config), camera, "clear", by, why)
    typer.echo(f"{camera}: cleared by {by}; it judges on until the challenge is due again")


def _ask(
    settings: Settings, camera: str, what: Literal["run", "clear"], who: str, why: str | None
) -> None:
    """Have inference do it, and wait until it has. Raises UsageError, ChallengeError."""
    from ssn_agent.frames.runtime import RuntimeFiles
    from ssn_agent.inference.challenge_state import Request
    from ssn_agent.metrics.view import running_settings

    in_force = running_settings(settings.runtime_dir)  # says so where no agent runs
    _check_camera(in_force, camera)
    try:
        request = Request.model_validate({"id": uuid4(), "what": what, "who": who, "why": why})
    except ValidationError as error:
        raise UsageError(str(MessageError.of(error, "challenge"))) from error
    path = RuntimeFiles(in_force.runtime_dir).challenge_request(camera)
    _put(path, request.model_dump_json().encode())
    ends_at = time.monotonic() + TAKEN_S
    while path.exists():
        if time.monotonic() >= ends_at:
            msg = f"{path}: not taken within {TAKEN_S:g} s; it will be when inference is back"
            raise ChallengeError(f"{msg} (delete it to take it back)")
        time.sleep(0.05)


def _put(path: Path, data: bytes) -> None:
    """Make a file that is whole, and is nobody else's request. Raises ChallengeError."""
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.link(file.name, path)
    except FileExistsError as error:
        raise ChallengeError(f"{path}: another request waits; try again in a moment") from error
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}); ask as root or as the agent's user"
        raise ChallengeError(msg) from error


def _standing(settings: Settings, camera: str) -> "Standing":
    from ssn_agent.inference.challenge_state import challenge_file, read_standing

    _check_camera(settings, camera)
    standing = read_standing(challenge_file(settings.data_dir, camera))
    if standing is None:
        raise ChallengeError(f"{camera}: was never challenged; run the agent")
    return standing


def _challenged(settings: Settings) -> list[str]:
    return [name for name, camera in settings.cameras.items() if camera.challenge is not None]


def _check_camera(settings: Settings, camera: str) -> None:
    if camera not in _challenged(settings):
        msg = f"{camera}: no camera with a challenge; set cameras.{camera}.challenge"
        raise UsageError(msg)
