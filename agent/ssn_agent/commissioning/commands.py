"""`ssn-agent camera`: find cameras, look at one, take pictures, measure. Thin, as `cli`."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssn_agent.errors import CameraError, UsageError
from ssn_agent.log import configure
from ssn_agent.settings import (
    DEFAULT_PATH,
    DEFAULT_RUNTIME_DIR,
    DESCRIBED,
    described_camera,
    load_settings,
)

if TYPE_CHECKING:
    from ssn_agent.commissioning.session import Chosen

app = typer.Typer(help="Find cameras, look at one, measure it.", no_args_is_help=True)

NameArgument = Annotated[
    str | None,
    typer.Argument(help="A camera of the settings; not needed where it is the only one."),
]
SourceOption = Annotated[
    list[str] | None,
    typer.Option("--source", "-s", help="Or one without settings: its source, key=value each."),
]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Settings file (TOML).", envvar="SSN_CONFIG")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: key.path=value.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.command("list")
def list_cameras(as_json: JsonOption = False) -> None:
    """Find cameras, over all drivers that are installed, and print settings to paste.

    Exit codes: 0 there are some, 1 there is none.
    """
    from ssn_agent.commissioning.finding import search
    from ssn_agent.commissioning.words import pasteable

    configure("error", "ssn-agent")
    searched = search()
    found = [camera for one in searched for camera in one.cameras]
    problems = {one.kind: one.problem for one in searched if one.problem}
    if as_json:
        shown = [{**asdict(camera), "source": dict(camera.source)} for camera in found]
        typer.echo(json.dumps({"cameras": shown, "not_searched": problems}))
    else:
        for line in pasteable(found):
            typer.echo(line)
        for kind, problem in problems.items():
            typer.echo(f"not searched: {kind}: {problem}", err=True)
    if not found:
        raise CameraError("no camera found; one of kind rtsp is not searched for: name its url")


@app.command()
def probe(
    name: NameArgument = None,
    source: SourceOption = None,
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a camera as the agent does, take a frame, and say what it is and what is wrong.

    Exit codes: 0 its frame can be judged, 1 it gives none that can, 2 wrong use.
    """
    from ssn_agent.commissioning.picture import incomplete, looked_at, surprises, unfit
    from ssn_agent.commissioning.session import opened, take_whole
    from ssn_agent.commissioning.words import described

    chosen = _chosen(name, source, config, overrides)
    with opened(chosen) as camera:
        said = camera.describe()
        frame, unwhole = take_whole(camera, chosen)
        picture, problem = looked_at(frame, chosen.settings.roi)
    hints = surprises(said, frame) + incomplete(unwhole)
    if picture is not None:
        hints += picture.hints
    if picture is not None and not source:
        problem, of_bundle = unfit(picture, chosen.settings)
        hints += of_bundle
    if as_json:
        shown = {"camera": chosen.name, "kind": chosen.source.kind}
        said_of_it = {**asdict(said), "settings": dict(said.settings)}
        typer.echo(json.dumps(shown | said_of_it | {"problem": problem, "hints": hints}))
    else:
        is_counted = camera.frame_ids is not None
        for line in described(chosen, said, picture, is_counted=is_counted):
            typer.echo(line)
        for hint in hints:
            typer.echo(f"look: {hint}")
    if problem:
        raise CameraError(f"{chosen.name}: opens, and its frame cannot be judged: {problem}")


@app.command()
def grab(
    name: NameArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG file; default: the camera's name, here.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=9999, help="So many, numbered.")] = 1,
    only_roi: Annotated[
        bool, typer.Option("--roi", help="Only the camera's region of interest.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files.")] = False,
    source: SourceOption = None,
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
) -> None:
    """Save pictures as the model sees them, before they are resized, without loss."""
    from ssn_agent.commissioning.picture import Picture, files_for, incomplete
    from ssn_agent.commissioning.session import opened, take_whole

    chosen = _chosen(name, source, config, overrides)
    files = files_for(out or Path(f"{chosen.name}.png"), count, replace=force)
    hints: list[str] = []
    with opened(chosen) as camera:
        for path in files:
            frame, unwhole = take_whole(camera, chosen)
            picture = Picture.of(frame, chosen.settings.roi if only_roi else None)
            kib = picture.save(path) / 2**10
            said = f"{picture.size} from {picture.frame_format}, {kib:.0f} KiB; {picture.light}"
            typer.echo(f"{path}: {said}")
            hints = picture.hints + incomplete(unwhole)
    for hint in hints:
        typer.echo(f"look: {hint}")


@app.command()
def bench(
    name: NameArgument = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="How long.")] = 10.0,
    trigger: Annotated[
        bool, typer.Option("--trigger", help="Trigger it by software, frame after frame.")
    ] = False,
    source: SourceOption = None,
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure rate, jitter, latency, losses and cost, until the time is up or Ctrl-C.

    Exit codes: 0 it ran, 1 the camera failed (the figures so far are printed), 2 wrong use.
    """
    from ssn_agent.commissioning.bench import Bench
    from ssn_agent.commissioning.session import opened
    from ssn_agent.commissioning.words import measured

    chosen = _chosen(name, source, config, overrides)
    if trigger:
        chosen = chosen.triggered()
    notice = f"{chosen.name}: {seconds:g} s; Ctrl-C ends it with the figures so far"
    with opened(chosen) as camera:
        figures = Bench(camera, chosen).run(seconds, partial(typer.echo, notice, err=True))
    if as_json:
        typer.echo(json.dumps({"camera": chosen.name} | asdict(figures)))
    else:
        for line in measured(figures):
            typer.echo(line)
    if figures.is_fault:
        raise CameraError(figures.ended)


def _chosen(
    name: str | None, source: list[str] | None, config: Path, overrides: list[str] | None
) -> "Chosen":
    """Return the camera that is meant. Raises UsageError."""
    from ssn_agent.commissioning.session import Chosen

    configure("warning", "ssn-agent")
    if source:
        if name is not None or overrides:
            msg = "--source describes a camera without the settings; leave NAME and --set out"
            raise UsageError(msg)
        return Chosen(DESCRIBED, described_camera(source), DEFAULT_RUNTIME_DIR)
    settings = load_settings(config, overrides or [])
    names = list(settings.cameras)
    if name is None and len(names) > 1:
        raise UsageError(f"which camera? {config} has {', '.join(names)}")
    if name is not None and name not in names:
        raise UsageError(f"{config}: has no camera {name}, but {', '.join(names)}")
    chosen = name or names[0]
    return Chosen(chosen, settings.cameras[chosen], settings.runtime_dir)
