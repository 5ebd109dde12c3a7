"""`ssn-agent`: the command line, thin. What it calls does the work."""

import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssn_agent import __version__
from ssn_agent.commissioning.commands import app as camera_app
from ssn_agent.commissioning.init import init
from ssn_agent.doctor.commands import doctor
from ssn_agent.errors import AgentError, SettingsError, UsageError
from ssn_agent.inference.challenge_commands import challenge_app
from ssn_agent.inference.settings import EngineName
from ssn_agent.labels.commands import label, labels_app
from ssn_agent.options import (
    CameraOption,
    ConfigOption,
    LedgerOption,
    ModelOption,
    PartOption,
    ReasonOption,
    SetOption,
    SinceOption,
    UntilOption,
    VerdictOption,
    ledger_of,
    settings_of,
)
from ssn_agent.provision.commands import app as provision_app
from ssn_agent.replay.commands import replay
from ssn_agent.settings import DEFAULT_PATH, Settings
from ssn_agent.updates.commands import look_now, models_app
from ssn_contract.messages import InvalidReason, VerdictKind

if TYPE_CHECKING:
    from ssn_agent.ledger.query import Filter

app = typer.Typer(
    help="Watches cameras and decides part by part: PASS, FAIL or INVALID.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Look at the settings.", no_args_is_help=True)
bundle_app = typer.Typer(help="Look at a model bundle.", no_args_is_help=True)
ledger_app = typer.Typer(help="Read and keep the ledger.", no_args_is_help=True)
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
    """Fetch and verify the channel's bundles, as the settings' [channel] says."""
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


@ledger_app.command("stats")
def ledger_stats(ledger: LedgerOption = None, config: ConfigOption = DEFAULT_PATH) -> None:
    """Print counts and latencies, by camera."""
    from ssn_agent.ledger.reader import open_ledger, stats

    table = Table("camera", "triggers", "PASS", "FAIL", "INVALID", "median ms", "p99 ms", "waiting")
    for item in stats(open_ledger(ledger_of(ledger, config))):
        reasons = ", ".join(
            f"{name} {count}" for name, count in sorted(item.counts.invalid.items())
        )
        table.add_row(
            item.camera,
            str(item.triggers),
            str(item.counts.passed),
            str(item.counts.failed),
            reasons or "0",
            _figure(item.latency_median_ms),
            _figure(item.latency_p99_ms),
            str(item.undelivered),
        )
    Console().print(table)


@ledger_app.command("query")
def ledger_query(
    since: SinceOption = None,
    until: UntilOption = None,
    camera: CameraOption = None,
    verdict: VerdictOption = None,
    reason: ReasonOption = None,
    model: ModelOption = None,
    part: PartOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Print verdicts, newest first."""
    from ssn_agent.ledger.query import as_json, newest
    from ssn_agent.ledger.reader import open_ledger

    wanted = _filter(since, until, camera, verdict, reason, model, part)
    rows = newest(open_ledger(ledger_of(ledger, config)), wanted, limit)
    if as_lines:
        for row in rows:
            typer.echo(as_json(row))
        return
    table = Table("triggered (UTC)", "camera", "number", "part", "verdict", "score", "model", "ms")
    for row in rows:
        table.add_row(
            f"{row.triggered_at:%Y-%m-%d %H:%M:%S}",
            row.camera,
            str(row.sequence),
            escape(row.part_id or "-"),
            f"{row.verdict} {row.reason}" if row.reason else row.verdict,
            "-" if row.score is None else f"{row.score:.3f}",
            f"{row.bundle_name} {row.bundle_version}" if row.bundle_name else "-",
            _figure(row.latency_ms),
        )
    Console().print(table)
    if len(rows) == limit:
        typer.echo(f"the newest {limit}; --limit shows more", err=True)


@ledger_app.command("export")
def ledger_export(
    out: Annotated[Path | None, typer.Option(help="CSV file; default: standard output.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    camera: CameraOption = None,
    verdict: VerdictOption = None,
    reason: ReasonOption = None,
    model: ModelOption = None,
    part: PartOption = None,
    for_training: Annotated[
        Path | None,
        typer.Option(help="Write the labelled parts' pictures and labels into this new folder."),
    ] = None,
    unlabelled: Annotated[
        bool, typer.Option("--all", help="With it: unlabelled parts' pictures, too.")
    ] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Write verdicts as CSV, oldest first; or what the trainer learns from, as a folder."""
    from ssn_agent.ledger.query import export, export_csv
    from ssn_agent.ledger.reader import open_ledger
    from ssn_agent.ledger.training import export_for_training

    wanted = _filter(since, until, camera, verdict, reason, model, part)
    path = ledger_of(ledger, config)
    engine = open_ledger(path)
    if for_training is not None:
        if out is not None:
            raise UsageError("give --out or --for-training, not both")
        images = path.parent / "images"  # as the settings have them, also beside a copied ledger
        done = export_for_training(engine, images, for_training, wanted, unlabelled=unlabelled)
        typer.echo(f"{for_training}: {done}", err=True)
    elif unlabelled:
        raise UsageError("--all goes with --for-training")
    elif out is None:
        export_csv(engine, sys.stdout, wanted)
    else:
        typer.echo(f"{out}: {export(engine, out, wanted)} verdicts", err=True)


@ledger_app.command("backup")
def ledger_backup(
    out: Annotated[Path, typer.Option(help="The copy's file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
    ledger: LedgerOption = None,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Copy the ledger while the agent runs, and check the copy."""
    from ssn_agent.ledger.backup import backup
    from ssn_agent.ledger.reader import open_ledger

    backup(open_ledger(ledger_of(ledger, config)), out, replace=force)
    typer.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, sound", err=True)


@ledger_app.command("downgrade")
def ledger_downgrade(
    to: Annotated[str, typer.Option(help="The schema's revision that the older agent knows.")],
    force: Annotated[bool, typer.Option("--force", help="Lose labels, too.")] = False,
    config: ConfigOption = DEFAULT_PATH,
) -> None:
    """Take a stopped agent's ledger back to what an older agent can read, before that one comes."""
    from ssn_agent.ledger.downgrade import downgrade

    settings = settings_of(config)
    for step in downgrade(settings, to, force=force):
        typer.echo(f"undone: {step}")
    typer.echo(f"{settings.ledger_path}: an agent that knows {to} can use it")


def _filter(
    since: str | None,
    until: str | None,
    camera: str | None,
    verdict: VerdictKind | None,
    reason: InvalidReason | None,
    model: str | None,
    part: str | None,
) -> "Filter":
    from ssn_agent.ledger.query import Filter, point_in_time

    now = datetime.now(timezone.utc)
    times = [None if text is None else point_in_time(text, now) for text in (since, until)]
    return Filter(times[0], times[1], camera, verdict, reason, model, part)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


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
