"""`table`: our runs beside published figures, their trade-off, and maps of the same images."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ssn_agent.atomic import write_atomically
from ssn_agent.bundles.archive import Bundle
from ssn_agent.frames.pixels import decode_image
from ssn_agent.inference.scorer import Scorer
from ssn_contract.manifest import Regime
from ssn_trainer.data.listing import Format
from ssn_trainer.errors import UsageError
from ssn_trainer.measure.published import EFFICIENCY, SUPERVISION, Row
from ssn_trainer.pack.maps import draw_maps
from ssn_trainer.pack.plots import draw_trade_off

_BUNDLE = ".ssn"
_WARM_UP, _REPEATS = 5, 50
_FIGURES = {"ap_det": "AP-det", "ap_loc": "AP-loc", "i_auroc": "I-AUROC", "p_auroc": "P-AUROC"}
_EFFICIENCY = {
    "latency_ms": "ms, timed on",
    "model_mb": "file MB",
    "gpu_memory_mb": "GPU MB",
    "i_auroc": "I-AUROC",
}
_SUPERVISION = {"regime": "regime", **_FIGURES}
"""Columns of the two tables after the first: fields of a row, and how they are headed."""

_Share = Annotated[float, Field(ge=0, le=1)]


class _Figures(BaseModel):
    i_auroc: _Share | None
    ap_det: _Share | None
    p_auroc: _Share | None
    ap_loc: _Share | None


class _Fold(BaseModel):
    regime: Regime
    leaks: list[str]


class _Answer(_Figures):
    """The JSON answer of `fit`, `eval` or `crossval`, as far as the tables need it."""

    bundle: Path | None
    regime: Regime | None = None
    judged: int | None = None
    """Of `eval`: how many images."""
    folds: list[_Fold] = []
    """Of `crossval`, as the next one."""
    without_leaks: _Figures | None = None


@dataclass(frozen=True)
class Comparison:
    """Both tables, our runs first, and the files beside them; None: there was nothing to draw."""

    efficiency: tuple[Row, ...]
    supervision: tuple[Row, ...]
    plot: Path | None
    gallery: Path | None

    def as_json(self) -> dict[str, object]:
        """Return it as the command's answer."""
        return {
            "efficiency": _as_json(self.efficiency, _EFFICIENCY),
            "supervision": _as_json(self.supervision, _SUPERVISION),
            "plot": str(self.plot) if self.plot else None,
            "gallery": str(self.gallery) if self.gallery else None,
        }


def compare(
    runs: Sequence[Path],
    out: Path,
    data: Path | None,
    format: Format,  # noqa: A002 -- the option's name
    console: Console,
) -> Comparison:
    """Set bundles and answers beside what is published; write plot and gallery into `out`.

    An answer that names one of the bundles shares its line: the answer's figures, the bundle's
    cost. The gallery shows bad images of `data` that no bundle has learned. Raises UsageError for
    files that are neither, BundleError, EngineError, DataError, OSError.
    """
    answers = {path: _read_answer(path) for path in runs if path.suffix != _BUNDLE}
    bundles = [Bundle.open(path) for path in runs if path.suffix == _BUNDLE]
    if data is not None and not bundles:
        msg = f"--data {data}: maps want a bundle; name one ({_BUNDLE}) beside the answers"
        raise UsageError(msg)
    gallery = None if data is None else draw_maps(bundles, data, format, console)
    with console.status("measuring latency"):
        rows = {bundle.path: _bundle_row(bundle) for bundle in bundles}
    ours: list[Row] = []
    shared = set()
    for path, answer in answers.items():
        bundle = _bundle_of(answer, list(rows))
        ours += _answer_rows(path.stem, answer, rows[bundle] if bundle else None)
        shared.add(bundle)
    ours += [row for path, row in rows.items() if path not in shared]
    plot = draw_trade_off((*ours, *EFFICIENCY))
    if plot is None:
        console.print("no plot: it wants a bundle with an I-AUROC; name its eval's answer, too")
    return Comparison(
        (*ours, *EFFICIENCY),
        (*ours, *SUPERVISION),
        _write(out / "trade-off.svg", plot),
        _write(out / "gallery.html", gallery),
    )


def show(comparison: Comparison, console: Console) -> None:
    """Print both tables."""
    console.print(_table("Efficiency against robustness", comparison.efficiency, _EFFICIENCY))
    console.print("File: the model on disk. GPU: the memory it takes, as published.")
    console.print("Compare no milliseconds of two machines, and no figures on two data sets.\n")
    console.print(_table("Weak against full", comparison.supervision, _SUPERVISION))


def _read_answer(path: Path) -> _Answer:
    try:
        return _Answer.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        msg = (
            f"{path}: neither a bundle ({_BUNDLE}) nor the --json answer of fit, eval or crossval "
            f"({where}{first['msg']}); name such a file"
        )
        raise UsageError(msg) from error


def _bundle_row(bundle: Bundle) -> Row:
    """A bundle's line: what its manifest tells, and its cost on this machine.

    Raises EngineError, ImageError.
    """
    manifest, size = bundle.manifest, bundle.manifest.input
    scorer = Scorer(bundle)
    file = next(e for e in manifest.entries if e.path == scorer.precision.file)
    figures = {k: manifest.metrics[k].value for k in _FIGURES if k in manifest.metrics}
    return Row(
        run=f"{manifest.name} {manifest.version}",
        model=f"{manifest.backbone}, {manifest.head.value}, {size.height}x{size.width}",
        regime=manifest.regime.value,
        judged_on="its test part" if figures else "nothing",
        published=False,
        latency_ms=_latency_ms(scorer),
        timed_on=f"here, {scorer.engine.name}",
        model_mb=file.size / 1e6,
        **figures,
    )


def _latency_ms(scorer: Scorer) -> float:
    """Median time of one of the bundle's own images, from its pixels to score and map."""
    name = scorer.bundle.manifest.vectors[0].image
    image = decode_image(scorer.bundle.read(name), f"{scorer.bundle.path}: {name}")
    times = []
    for _ in range(_WARM_UP + _REPEATS):
        start = time.perf_counter()
        scorer.score(image)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[_WARM_UP:])


def _bundle_of(answer: _Answer, bundles: Sequence[Path]) -> Path | None:
    """The bundle that an answer names: by its file's name, where two share it by its path."""
    if answer.bundle is None:
        return None
    named = [path for path in bundles if path.name == answer.bundle.name]
    if len(named) > 1:
        named = [path for path in named if path.resolve() == answer.bundle.resolve()]
    return named[0] if named else None


def _answer_rows(name: str, answer: _Answer, bundle: Row | None) -> list[Row]:
    """An answer's line, and another without leaks where its folds leak."""
    regimes = {answer.regime, *(fold.regime for fold in answer.folds)} - {None}
    judged_on = "its test part" if answer.judged is None else f"{answer.judged} images (eval)"
    if answer.folds:
        judged_on = f"{len(answer.folds)} folds (mean)"
    row = replace(
        bundle or Row(name, None, None, judged_on, published=False),
        run=name,
        judged_on=judged_on,
        **answer.model_dump(include=set(_FIGURES)),
    )
    if regimes:
        row = replace(row, regime=", ".join(sorted(r.value for r in regimes if r)))
    if answer.without_leaks is None or not any(fold.leaks for fold in answer.folds):
        return [row]
    clean = answer.without_leaks.model_dump()
    return [row, replace(row, judged_on=f"{judged_on}, leaks left out", **clean)]


def _table(title: str, rows: Sequence[Row], columns: Mapping[str, str]) -> Table:
    table = Table("#", title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for header in ("run", *columns.values()):
        table.add_column(header, overflow="fold")
    for number, row in enumerate(rows, 1):
        if row.published and not rows[number - 2].published:
            table.add_section()
        about = Text(", ".join(filter(None, (row.model, row.judged_on))))
        name = Text(f"{row.run}\n", "bold") + about
        cells = [_cell(row, key) for key in columns]
        table.add_row(str(number), name, *cells)
    return table


def _cell(row: Row, key: str) -> Text:
    """A value as it is printed, a latency never without its machine; names are no markup."""
    value = getattr(row, key)
    if not isinstance(value, float):
        return Text(value or "-")
    machine = f" {row.timed_on}" if key == "latency_ms" else ""
    return Text(f"{value:.3f}" if key in _FIGURES else f"{value:.2f}{machine}")


def _as_json(rows: Sequence[Row], columns: Mapping[str, str]) -> list[dict[str, object]]:
    keys = ("run", "model", "judged_on", "published", "timed_on", *columns)
    return [{key: getattr(row, key) for key in keys} for row in rows]


def _write(path: Path, data: bytes | None) -> Path | None:
    if data is None:
        return None
    write_atomically(path, data)
    return path
