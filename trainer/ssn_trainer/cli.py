"""The command line: thin, options in, one call, results out."""

import datetime as dt
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ssn_agent import __version__
from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError
from ssn_trainer.errors import TrainerError, UsageError
from ssn_trainer.memory import keep_freed_memory
from ssn_trainer.options import Data, DataFormat, GroupBy, takes_order, twins_of
from ssn_trainer.publish.commands import channel_app, publish

if TYPE_CHECKING:
    from ssn_trainer.fit.order import Order

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train models for SSN Inspect from labelled images.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at labelled images.")
app.add_typer(data_app, name="data")
app.add_typer(channel_app, name="channel")
app.command()(publish)


Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


@app.command()
@takes_order
def fit(
    order: "Order",
    max_false_reject: Annotated[
        float | None, typer.Option(help="Share of good parts that may be rejected, as 0.01.")
    ] = None,
    max_escape: Annotated[
        float | None, typer.Option(help="Share of bad parts that may pass, as 0.01.")
    ] = None,
    bundle_version: Annotated[str | None, typer.Option(show_default="date and time")] = None,
    precisions: Annotated[
        str, typer.Option(help="To try beside fp32: some of these with a comma, or none.")
    ] = "bf16,fp16,int8",
    as_json: Json = False,
) -> None:
    """Train a model on DATA and write its bundle."""
    from ssn_trainer.fit import job  # torch takes seconds to load: --help need not wait
    from ssn_trainer.measure.limits import Limits  # scipy likewise

    version = bundle_version or dt.datetime.now(dt.timezone.utc).strftime("%Y%m%d-%H%M%S")
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", version):
        msg = f"--bundle-version {version}: use up to 64 letters, digits, ., + and -, as 1.2.0"
        raise UsageError(msg)
    fitted = job.fit(
        order,
        version,
        Console(stderr=True),
        limits=Limits(max_false_reject, max_escape),
        twins=twins_of(precisions),
    )
    parts = fitted.data.split
    _answer(
        {
            **fitted.packed.metrics,
            "intervals": fitted.packed.intervals,
            "threshold": fitted.packed.threshold,
            "threshold_choice": fitted.packed.chosen.model_dump(),
            "seconds": round(fitted.seconds, 1),
            "bundle": str(fitted.packed.path),
            "regime": fitted.regime.value,
            "masks": fitted.masks,
            "epochs": fitted.trained.epochs,
            "best_epoch": fitted.trained.best_epoch,
            "train": len(parts.train),
            "tune": len(parts.tune),
            "test": len(parts.test),
            "grouped_by": fitted.data.dataset.grouped_by,
        },
        as_json=as_json,
    )


@app.command()
@takes_order
def crossval(
    order: "Order",
    folds: Annotated[
        Path | None, typer.Option(help='JSON file: {"folds": [{"train": [...], "test": [...]}]}.')
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=2, help="How many folds without a file.", show_default="5")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and judge fold by fold, so that every part is judged unseen; no bundle is made."""
    from ssn_trainer.fit import crossval  # as above

    result = crossval.crossval(order, folds, count, Console(stderr=True))
    _answer(
        {
            **result.mean(),
            "spread": result.spread(),
            "without_leaks": result.mean(leaks=False),
            "threshold": None,
            "seconds": round(result.seconds, 1),
            "bundle": None,
            "grouped_by": result.grouped_by,
            "untested": len(result.untested),
            "folds": [crossval.as_json(fold) for fold in result.folds],
        },
        as_json=as_json,
    )


@app.command("eval")
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A .ssn file.")],
    data: Data,
    scores: Annotated[
        Path | None, typer.Option(help="CSV file for the published score of each image.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another bundle: how much higher is I-AUROC than with it?")
    ] = None,
    format_: DataFormat = "auto",
    as_json: Json = False,
) -> None:
    """Judge a bundle on the images of DATA that it was neither trained nor tuned on."""
    from ssn_trainer.pack import evaluation  # as above

    result = evaluation.evaluate(bundle, data, Console(stderr=True), format_, against)
    if scores is not None:
        evaluation.write_scores(result, scores)
    _answer(
        {
            **result.metrics,
            "intervals": result.intervals,
            "threshold": result.threshold,
            "seconds": round(result.seconds, 1),
            "bundle": str(bundle),
            "judged": len(result.judged.samples),
            "left_out": result.left_out,
            **({} if result.against is None else {"against": asdict(result.against)}),
        },
        as_json=as_json,
    )


@app.command()
def table(
    runs: Annotated[
        list[Path],
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Bundles (.ssn), and files with the --json answers of fit, eval and crossval.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for trade-off.svg and gallery.html.")],
    data: Annotated[
        Path | None, typer.Option(help="Labelled images, some bad ones of which the gallery shows.")
    ] = None,
    format_: DataFormat = "auto",
    as_json: Json = False,
) -> None:
    """Set RUNS beside published figures: efficiency against robustness, weak against full."""
    from ssn_trainer.fit.job import make_folder  # as above
    from ssn_trainer.pack import table as tables

    make_folder(out)
    comparison = tables.compare(runs, out, data, format_, Console(stderr=True))
    if as_json:
        typer.echo(json.dumps(comparison.as_json(), allow_nan=False))
    else:
        tables.show(comparison, Console())


@app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="A .ssn file.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Labelled images, for what each precision costs of the accuracy."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each engine's turns, in turn.")] = 10,
    format_: DataFormat = "auto",
    as_json: Json = False,
) -> None:
    """Time a bundle on every engine here, beside the published graph and the backbone alone."""
    from ssn_trainer.bench import rows, run  # as above

    found = run.bench(bundle, data, Console(stderr=True), rounds=rounds, format=format_)
    if as_json:
        typer.echo(json.dumps(found.as_json(), allow_nan=False))
    else:
        rows.show(found, Console())


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="A .ssn file.")],
    report: Annotated[
        Path | None, typer.Option(help="HTML file for the report that the bundle holds.")
    ] = None,
) -> None:
    """Verify a bundle and print its manifest."""
    opened = Bundle.open(bundle)
    if report is not None:
        write_atomically(report, opened.read("report.html"))
    Console().print_json(
        json.dumps({"digest": opened.digest, **opened.manifest.model_dump(mode="json")})
    )


@data_app.command("check")
def check_data(
    data: Data,
    format_: DataFormat = "auto",
    group_by: GroupBy = None,
    as_json: Json = False,
) -> None:
    """Say what DATA holds and what is wrong with it, all at once; exit code 1 for errors."""
    from ssn_trainer.data.check import check  # scipy takes a second to load
    from ssn_trainer.data.show import show

    with Console(stderr=True).status(f"reading {data}"):
        report = check(data, group_by, format_)
    if as_json:
        typer.echo(json.dumps(report.as_json(), allow_nan=False))
    else:
        show(report, Console())
    raise typer.Exit(1 if report.errors else 0)


@app.callback(invoke_without_command=True)
def version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Print the version where that is asked for."""
    if version:
        typer.echo(f"ssn-trainer {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line: an error is one line on stderr and its exit code, no traceback."""
    keep_freed_memory()
    try:
        app()
    except (TrainerError, AgentError) as error:
        typer.echo(f"ssn-trainer: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"ssn-trainer: {error}; check disk and permissions", err=True)
        sys.exit(1)


def _answer(values: dict[str, Any], *, as_json: bool) -> None:
    """Print results: a table, or one line of JSON."""
    if as_json:
        typer.echo(json.dumps(values, allow_nan=False))
        return
    table = Table(show_header=False)
    intervals = values.pop("intervals", {})
    for key in ("threshold_choice", "folds"):  # said in words on standard error
        values.pop(key, None)
    for key, value in values.items():
        shown = _shown(value)
        if intervals.get(key):
            shown += " (95 %: {:.4f} to {:.4f})".format(*intervals[key])
        table.add_row(key, shown)
    Console().print(table)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
