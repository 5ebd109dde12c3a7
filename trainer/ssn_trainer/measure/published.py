"""Published figures that ours stand beside: other machines, mostly other data.

Images are 256 x 256, latencies those of float16. Sources: Zappia, SuperSimpleNet-Evolved (the two
tables of github.com/GiuseppeZappia/SuperSimpleNet-Evolved and its notebook); Rolih et al., No Label
Left Behind, JIMS 2025 (arXiv 2508.19060), means of 5 runs.
"""

from dataclasses import dataclass, replace

SCREW = "MVTec AD screw"
"""The hard texture, which robustness is read from."""


@dataclass(frozen=True)
class Row:
    """A line of the tables: a run of ours, or a published model. None: not told.

    Figures are shares, as of `ssn_trainer.measure.metrics`.
    """

    run: str
    """Its name, or the publication."""
    model: str | None
    regime: str | None
    judged_on: str
    published: bool
    i_auroc: float | None = None
    ap_det: float | None = None
    p_auroc: float | None = None
    ap_loc: float | None = None
    latency_ms: float | None = None
    """Of one image."""
    timed_on: str | None = None
    """Machine or engine: between two of them latencies say nothing about models."""
    model_mb: float | None = None
    """The model's file, in 10^6 bytes."""
    gpu_memory_mb: float | None = None


def _fork(model: str, regime: str, judged_on: str, **told: float) -> Row:
    row = Row("SuperSimpleNet-Evolved", model, regime, judged_on, published=True)
    row = replace(row, **told)  # type: ignore[arg-type]  # mypy takes them for any field
    return replace(row, timed_on="Tesla P100, fp16") if "latency_ms" in told else row


def _jims(regime: str, judged_on: str, **told: float) -> Row:
    return replace(_fork("WideResNet50", regime, judged_on, **told), run="SuperSimpleNet (JIMS)")


_WIDE = {"latency_ms": 25.58, "gpu_memory_mb": 270.5}
_SMALL = {"latency_ms": 7.78, "gpu_memory_mb": 52.4}
_NONLINEAR = {"latency_ms": 8.36, "gpu_memory_mb": 85.9}
_BOTTLE = "MVTec AD bottle"
EFFICIENCY = (
    _fork("WideResNet50", "unsupervised", SCREW, i_auroc=0.912, **_WIDE),
    _fork("WideResNet50", "unsupervised", _BOTTLE, i_auroc=1.0, **_WIDE),
    _fork("ResNet18", "unsupervised", SCREW, i_auroc=0.511, **_SMALL),
    _fork("ResNet18", "unsupervised", _BOTTLE, i_auroc=1.0, **_SMALL),
    _fork("ResNet18, non-linear adaptor", "unsupervised", SCREW, i_auroc=0.466, **_NONLINEAR),
    _fork("ResNet18, map maximum", "unsupervised", SCREW, i_auroc=0.824),
    _fork("ResNet18, learned noise, best of 4", "unsupervised", SCREW, i_auroc=0.723),
    _jims("unsupervised", SCREW, i_auroc=0.927),
)

_KSDD2 = "KolektorSDD2"
_GAP_CAM = {"ap_det": 0.945, "ap_loc": 0.074, "i_auroc": 0.986, "p_auroc": 0.872}
SUPERVISION = (
    _fork("SimpleNet", "unsupervised", _KSDD2, ap_det=0.884),
    _fork("ResNet18, GAP+CAM", "weak", _KSDD2, **_GAP_CAM),
    _jims("weak", _KSDD2, ap_det=0.972, ap_loc=0.476),
    _fork("SuperSimpleNet", "full", _KSDD2, ap_det=0.974),
    _jims("full", _KSDD2, ap_det=0.978, ap_loc=0.813),
)
