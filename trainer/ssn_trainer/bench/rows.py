"""What was measured as rows, their ratios, and the printed table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from ssn_trainer.bench.worker import Model

_ON_CPU = ("onnxruntime-cpu", "openvino")


@dataclass(frozen=True)
class Row:
    """One engine on one graph with one size of batch."""

    model: Model
    """The bundle's whole scorer; the published graph, as it; the backbone alone, without resize."""
    engine: str
    """The runtime; the published graph and the backbone run in its default settings."""
    precision: str
    batch: int
    median_ms: float
    """Of the medians of the rounds, for the whole batch."""
    p99_ms: float
    """Of all runs."""
    images_per_second: float
    peak_memory_mb: float
    """The most that its process held up to this batch, Python included (VmHWM)."""
    score_difference: float | None
    """Of a bundle: the largest of a raw score on its vectors, from fp32 on the reference engine."""
    i_auroc_difference: float | None
    """On the unseen images of the data: minus that of fp32 on the reference engine."""
    ap_det_difference: float | None
    multiply_adds: int
    """Of the graph's convolutions and matrix products, for one image."""
    bound_ms: float | None
    """These at the measured rate of a matrix product; None for a GPU, and for int8."""


@dataclass(frozen=True)
class Bench:
    """One run: rows, and what they are to be read with."""

    bundle: str
    processor: str
    threads: int
    frame: tuple[int, int]
    """Height and width of what a scorer is given."""
    rounds: int
    judged: int | None
    """How many images accuracy was measured on; None without data."""
    multiply_adds_per_second: Mapping[str, float]
    """Of a matrix product, by precision: the fastest of the run."""
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    """What could not be timed, and why."""

    def as_json(self) -> dict[str, object]:
        """Return it as the command's answer."""
        best = best_row(self.rows)
        name = None if best is None else f"{best.engine}/{best.precision}"
        return {**asdict(self), "best": name, **ratios(self.rows)}


def best_row(rows: Sequence[Row], engines: Sequence[str] = _ON_CPU) -> Row | None:
    """Return the fastest of the bundle's rows for one frame, on these engines."""
    return _fastest(r for r in rows if r.model == "bundle" and r.engine in engines)


def ratios(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the ratios of median times for one frame; None where a row for one is missing.

    Against the published graph as a runtime has it by itself; against the backbone alone on the
    engine and in the precision of the best one. The best is the fastest on the processor.
    """
    best = best_row(rows)
    on_ort = best_row(rows, ("onnxruntime-cpu",))
    published = {r.engine: r for r in rows if r.model == "published" and r.batch == 1}
    backbone = best and _fastest(
        r
        for r in rows
        if (r.model, r.engine, r.precision) == ("backbone", best.engine, best.precision)
    )
    return {
        "best_vs_published_openvino": _ratio(best, published.get("openvino")),
        "best_vs_backbone": _ratio(best, backbone),
        "ort_cpu_vs_published_ort_fp32": _ratio(on_ort, published.get("onnxruntime-cpu")),
    }


def show(found: Bench, console: Console) -> None:
    """Print the table, and what it is to be read with."""
    table = Table(title=found.bundle, box=box.SIMPLE, padding=(0, 1, 0, 0))
    differences = () if found.judged is None else ("Δ I-AUROC", "Δ AP-det")
    titles = ("batch", "ms", "p99 ms", "img/s", "peak MB", "bound ms", "Δ score", *differences)
    for title in ("model", "engine"):
        table.add_column(title, no_wrap=True)
    for title in titles:
        table.add_column(title, overflow="fold")
    for before, row in zip((None, *found.rows), found.rows, strict=False):
        if before is not None and before.model != row.model:
            table.add_section()
        cells = [
            _number(row.median_ms),
            _number(row.p99_ms),
            _number(row.images_per_second),
            _number(row.peak_memory_mb),
            _number(row.bound_ms),
            _shown(row.score_difference, ".1g"),
        ]
        if found.judged is not None:
            cells += [_shown(row.i_auroc_difference, "+.4f"), _shown(row.ap_det_difference, "+.4f")]
        table.add_row(row.model, f"{row.engine}/{row.precision}", str(row.batch), *cells)
    console.print(table)
    height, width = found.frame
    console.print(f"{found.processor}, {found.threads} threads, {found.rounds} rounds; ms: median.")
    console.print(
        f"bundle, published: a frame of {width} x {height} to score, verdict and map. backbone: "
        "from an image of its own size."
    )
    console.print("published and backbone: random weights, the runtime's default settings.")
    rates = found.multiply_adds_per_second.items()
    said = ", ".join(f"{rate / 1e9:.0f} G/s in {name}" for name, rate in rates)
    console.print(f"bound: the graph's multiply-adds at the rate of a matrix product ({said}).")
    if found.judged is not None:
        console.print(f"I-AUROC, AP-det: {found.judged} images that the bundle has not learned.")
    for name, value in ratios(found.rows).items():
        console.print(f"{name}: {_shown(value, '.3f')}")


def _fastest(rows: Iterable[Row]) -> Row | None:
    singles = [row for row in rows if row.batch == 1]
    return min(singles, key=lambda row: row.median_ms, default=None)


def _ratio(one: Row | None, other: Row | None) -> float | None:
    return one.median_ms / other.median_ms if one and other else None


def _number(value: float | None) -> str:
    """Three digits, or all before the point: columns stay narrow."""
    return _shown(value, ".0f" if value is not None and value >= 100 else ".3g")


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
