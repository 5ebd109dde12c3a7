"""The command line: thin, options in, one call, results out."""

import datetime as dt
import json
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ssn_agent import __version__
from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import AgentError
from ssn_contract.manifest import Head, Regime
from ssn_trainer.errors import TrainerError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train models for SSN Inspect from labelled images.",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at labelled images.")
app.add_typer(data_app, name="data")


class RegimeOption(str, Enum):
    """`--regime`."""

    AUTO = "auto"
    UNSUPERVISED = "unsupervised"
    WEAK = "weak"
    MIXED = "mixed"
    FULL = "full"


class VariantOption(str, Enum):
    """`--variant`."""

    ICPR = "icpr"
    JIMS = "jims"


class PresetOption(str, Enum):
    """`--preset`."""

    DEFAULT = "default"
    PUBLISHED = "published"


class DeviceOption(str, Enum):
    """`--device`."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class FormatOption(str, Enum):
    """`--format`."""

    AUTO = "auto"
    FOLDER = "folder"
    MVTEC = "mvtec"
    KSDD = "ksdd"
    KSDD2 = "ksdd2"
    LEDGER = "ledger"
    CSV = "csv"


Data = Annotated[Path, typer.Argument(help="Folder of labelled images, or a CSV of them.")]
DataFormat = Annotated[
    FormatOption, typer.Option("--format", help="How DATA is laid out: see docs/data.md.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="CSV of image,group, a regular expression on the name, or near-duplicates. "
        "[default: groups.csv in DATA, else the layout's own, else near-duplicates]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    regime: RegimeOption = RegimeOption.AUTO,
    backbone: str = "resnet18",
    weights: Annotated[
        str, typer.Option(help="auto (timm's pretrained), none (random), or a safetensors file.")
    ] = "auto",
    image_size: Annotated[str, typer.Option(help="N or HxW, in pixels.")] = "256",
    epochs: Annotated[int | None, typer.Option(min=1, help="[default: the preset's]")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="[default: the preset's]")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: DeviceOption = DeviceOption.AUTO,
    format_: DataFormat = FormatOption.AUTO,
    group_by: GroupBy = None,
    head: Annotated[Head | None, typer.Option(help="[default: the preset's]")] = None,
    variant: Annotated[
        VariantOption | None,
        typer.Option(help="What the published classification head sees. [default: jims]"),
    ] = None,
    preset: PresetOption = PresetOption.DEFAULT,
    max_false_reject: Annotated[
        float | None, typer.Option(help="Share of good parts that may be rejected, as 0.01.")
    ] = None,
    max_escape: Annotated[
        float | None, typer.Option(help="Share of bad parts that may pass, as 0.01.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="[default: DATA's name]")] = None,
    bundle_version: Annotated[str | None, typer.Option(help="[default: date and time]")] = None,
    as_json: Json = False,
) -> None:
    """Train a model on DATA and write its bundle."""
    from ssn_trainer.fit import job  # torch takes seconds to load: --help need not wait
    from ssn_trainer.measure.limits import Limits  # scipy likewise

    height, width = _image_size(image_size)
    named = name or _slug(data.resolve().name)
    numbered = bundle_version or dt.datetime.now(dt.timezone.utc).strftime("%Y%m%d-%H%M%S")
    _check_title(named, numbered)
    order = job.Order(
        data=data,
        out=out,
        name=named,
        version=numbered,
        regime=None if regime is RegimeOption.AUTO else Regime(regime.value),
        head=head,
        variant=variant.value if variant else None,
        preset=preset.value,
        backbone=backbone,
        weights=weights,
        height=height,
        width=width,
        epochs=epochs,
        batch=batch,
        seed=seed,
        device=device.value,
        format=format_.value,
        group_by=group_by,
        limits=Limits(max_false_reject, max_escape),
    )
    fitted = job.fit(order, Console(stderr=True))
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
            "epochs": fitted.trained.epochs,
            "best_epoch": fitted.trained.best_epoch,
            "train": len(parts.train),
            "tune": len(parts.tune),
            "test": len(parts.test),
            "grouped_by": fitted.data.dataset.grouped_by,
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
    format_: DataFormat = FormatOption.AUTO,
    as_json: Json = False,
) -> None:
    """Judge a bundle on the images of DATA that it was neither trained nor tuned on."""
    from ssn_trainer.pack import evaluation  # as above

    result = evaluation.evaluate(bundle, data, Console(stderr=True), format_.value)
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
        },
        as_json=as_json,
    )


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
    format_: DataFormat = FormatOption.AUTO,
    group_by: GroupBy = None,
    as_json: Json = False,
) -> None:
    """Say what DATA holds and what is wrong with it, all at once; exit code 1 for errors."""
    from ssn_trainer.data.check import check  # scipy takes a second to load
    from ssn_trainer.data.show import show

    with Console(stderr=True).status(f"reading {data}"):
        report = check(data, group_by, format_.value)
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
    intervals = values.pop("intervals")
    values.pop("threshold_choice", None)  # said in words on standard error
    for key, value in values.items():
        shown = "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
        if intervals.get(key):
            shown += " (95 %: {:.4f} to {:.4f})".format(*intervals[key])
        table.add_row(key, shown)
    Console().print(table)


def _image_size(text: str) -> tuple[int, int]:
    """`N` or `HxW` to (height, width). Raises UsageError."""
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (32 <= height <= 4096 and 32 <= width <= 4096):
        msg = f"--image-size {text}: give N or HxW in pixels, each from 32 to 4096, as 256"
        raise UsageError(msg)
    return height, width


def _check_title(name: str, version: str) -> None:
    """Raise UsageError where a bundle cannot be called so."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        msg = f"--name {name}: use up to 64 lower-case letters, digits, - and _, as screw-m4"
        raise UsageError(msg)
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", version):
        msg = f"--bundle-version {version}: use up to 64 letters, digits, ., + and -, as 1.2.0"
        raise UsageError(msg)


def _slug(text: str) -> str:
    """A folder's name as a bundle's name: lower-case letters, digits, `-` and `_`."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:64] or "model"


if __name__ == "__main__":
    main()
