"""`ssn-agent`: the command line, thin. What it calls does the work."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ssn_agent import __version__
from ssn_agent.commissioning.commands import app as camera_app
from ssn_agent.commissioning.init import init
from ssn_agent.doctor.commands import doctor
from ssn_agent.errors import AgentError, SettingsError
from ssn_agent.inference.challenge_commands import challenge_app
from ssn_agent.inference.settings import EngineName
from ssn_agent.labels.commands import label, labels_app
from ssn_agent.ledger.commands import ledger_app
from ssn_agent.options import (
    ConfigOption,
    SetOption,
    settings_of,
)
from ssn_agent.provision.commands import app as provision_app
from ssn_agent.replay.commands import replay
from ssn_agent.settings import DEFAULT_PATH, Settings
from ssn_agent.updates.commands import look_now, models_app

app = typer.Typer(
    help="Watches cameras and decides part by part: PASS, FAIL or INVALID.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True)
bundle_app = typer.Typer(help="Look at a model bundle.", no_args_is_help=True)
app.add_typer(camera_app, name="camera")
app.add_typer(challenge_app, name="challenge")
app.add_typer(config_app, name="config")
app.add_typer(bundle_app, name="bundle")
app.add_typer(ledger_app, name="ledger")
app.add_typer(labels_app, name="labels")
app.add_typer(models_app, name="models")
app.add_typer(provision_app, name="provision")
app.command()(label)
app.command()(replay)
app.command()(init)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssn-agent {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    del version


@app.command()
def run(
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when every camera has come to its end.")
    ] = False,
) -> None:
    """Run the agent until SIGTERM or Ctrl-C."""
    from ssn_agent.log import configure
    from ssn_agent.processes import Stop, set_crash_rules
    from ssn_agent.supervisor.supervisor import Supervisor

    settings = settings_of(config, overrides)
    configure(settings.log_level, "supervisor")
    set_crash_rules()
    stop = Stop(interactive=True)
    again = partial(settings_of, config, overrides)
    Supervisor(settings, again).run(stop, once=once)


@app.command()
def status(
    config: ConfigOption = DEFAULT_PATH,
    runtime_dir: Annotated[
        Path | None,
        # What cannot be read has an exit code of its own.
        typer.Option(help="Of the agent; default: the settings' one.", readable=False),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once, as the topic `metrics` has it.")
    ] = False,
) -> None:
    """Show the agent that runs on this machine, until Ctrl-C.

    Exit codes: 0 all is well, 1 there are alarms, 2 wrong use, 3 no agent runs, 4 the runtime
    directory cannot be read by this user.
    """
    from ssn_agent.metrics.view import code_of, look, render, watch

    folder = settings_of(config).runtime_dir if runtime_dir is None else runtime_dir.absolute()
    console = Console()
    metrics = look(folder)
    if as_json:
        typer.echo(metrics.model_dump_json())
    elif once or not console.is_terminal:
        console.print(render(metrics))
    else:
        watch(console, folder)
        return
    raise typer.Exit(code_of(metrics))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where ledger, heatmaps and pictures go.")] = Path(
        "demo-out"
    ),
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0: until Ctrl-C.")] = 30.0,
    fps: Annotated[float, typer.Option(min=0.5, max=100, help="Parts a second.")] = 8.0,
    seed: Annotated[int, typer.Option(min=0, help="Which parts the line shows.")] = 0,
) -> None:
    """Run the main job on a drawn production line, with a broker of its own."""
    from ssn_agent.demo.show import show

    show(out, seconds, fps, seed)


@config_app.command("check")
def config_check(config: ConfigOption = DEFAULT_PATH, overrides: SetOption = None) -> None:
    """Say what is wrong with the settings, by file, key and reason."""
    from ssn_agent.inference import challenge_images
    from ssn_agent.labels.token import check
    from ssn_agent.publish.certificates import load

    settings = settings_of(config, overrides)
    if settings.broker.tls:
        load(settings.broker)
    check(settings.http)
    challenge_images.check(settings)
    typer.echo(f"{config}: sound; {len(settings.cameras)} camera(s), digest {settings.digest[:12]}")


@config_app.command("show")
def config_show(config: ConfigOption = DEFAULT_PATH, overrides: SetOption = None) -> None:
    """Print the settings in force as JSON, without secrets."""
    settings = settings_of(config, overrides)
    typer.echo(settings.public_json(indent=2))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the settings."""
    import json

    typer.echo(json.dumps(Settings.model_json_schema(), indent=2))


@bundle_app.command("verify")
def bundle_verify(
    bundle: Path,
    engine: Annotated[
        EngineName,
        typer.Option(help="What to replay them on, as the settings name it."),
    ] = "onnxruntime-cpu/fp32",
) -> None:
    """Check a bundle's files and replay its vectors on this machine."""
    from tempfile import TemporaryDirectory

    from ssn_agent.bundles.archive import Bundle
    from ssn_agent.inference.scorer import Scorer

    opened = Bundle.open(bundle)
    with TemporaryDirectory() as cache:
        scorer = Scorer(opened, engine=engine, cache=Path(cache))
        worst = scorer.check_vectors()
    manifest = opened.manifest
    typer.echo(
        f"{bundle}: sound; {manifest.name} {manifest.version}, {manifest.regime.value}, "
        f"{len(manifest.vectors)} vectors reproduced on {scorer.engine.name} to {worst:.1e}"
    )


@bundle_app.command("pull")
def bundle_pull(
    config: ConfigOption = DEFAULT_PATH,
    overrides: SetOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what the channel names; fetch no bundle.")
    ] = False,
) -> None:
    """Fetch and verify the channel's bundles, as the settings' section `channel` says."""
    from ssn_agent.bundles.channel import pull
    from ssn_agent.bundles.in_use import bundles_in_use, channel_of

    settings = settings_of(config, overrides)
    channel, in_use = channel_of(settings), bundles_in_use(settings)
    for bundle in pull(channel, settings.bundle_dir, settings.channel_dir, in_use, fetch=not check):
        word = "is here" if not bundle.is_new else "is to be fetched" if check else "fetched"
        size = f"{bundle.length / 2**20:.1f} MiB"
        typer.echo(f"{bundle.name} {bundle.version} {word}: {bundle.path} ({size})")
    if not check:
        look_now(settings.runtime_dir)


def main() -> None:
    """Run the command line; every failure of ours is one message and an exit code."""
    from ssn_agent.log import configure, goes_to_journal, logger

    try:
        app()
    except AgentError as error:
        if goes_to_journal():
            configure("info", "ssn-agent")
            logger().error("ssn-agent ends", problem=str(error))
        else:
            prefix = "" if isinstance(error, SettingsError) else "ssn-agent: "
            sys.stderr.write(f"{prefix}{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
