"""What each way to see drift costs in false alarms, and how soon it sees: `docs/adr/0018-drift.md`.

    python benchmarks/drift.py [FOLDER]     draws 9000 parts (minutes), or takes them from FOLDER
    python benchmarks/drift.py cost         what the watch takes of a part's time

Drawn parts of the demo's line, measured by the agent's own code and scored by the demo's bundle.
The agent's way has what the bundle says of its good images. The others have as many good parts as
it was tuned on, 104, of another line: they want more than the summary that a bundle has.
"""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

import ssn_agent
from ssn_agent.bundles.archive import Bundle
from ssn_agent.demo.line import ProductionLine
from ssn_agent.frames.pixels import Pixels, to_network_input
from ssn_agent.inference.drift import Drift, picture_figures
from ssn_agent.inference.drift_watch import DriftWatch
from ssn_agent.inference.fitness import Fitness, measure
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.settings import DriftSettings, FitnessSettings
from ssn_contract.drift import Statistic

DEMO = Path(ssn_agent.__file__).parent / "demo" / "demo-1.0.0.ssn"
WINDOW = 500
CHECKED_EACH = 10
"""Parts from one decision to the next; the agent decides every two seconds."""
STATISTICS: tuple[Statistic, ...] = ("brightness", "sharpness", "shift", "score")
Values = NDArray[np.float64]
Change = Callable[[Pixels, float], Pixels]
Rule = Callable[[Values, Values], NDArray[np.bool_]]


def dimmed(picture: Pixels, t: float) -> Pixels:
    """Return it in ever less light, down to half."""
    return _clipped(picture.astype(np.float32) * (1 - 0.5 * t))


def brighter(picture: Pixels, t: float) -> Pixels:
    """Return it in ever more light, up to twice as much."""
    return _clipped(picture.astype(np.float32) * (1 + t))


def blurred(picture: Pixels, t: float) -> Pixels:
    """Return it out of focus, up to a sigma of 3 pixels."""
    return picture if t < 0.01 else cv2.GaussianBlur(picture, (0, 0), 3 * t).astype(np.uint8)


def moved(picture: Pixels, t: float) -> Pixels:
    """Return it further to the right, up to 12 % of its width."""
    place = np.array([[1, 0, 0.12 * t * picture.shape[1]], [0, 1, 0]])
    size = picture.shape[1], picture.shape[0]
    return cv2.warpAffine(picture, place, size, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


STREAMS: dict[str, tuple[int, float, int, Change | None]] = {
    "good": (104, 0.0, 77, None),
    "steady": (2000, 0.02, 5, None),
    "15 % bad": (1000, 0.15, 9, None),
    "dimmed": (1500, 0.02, 6, dimmed),
    "blurred": (1500, 0.02, 7, blurred),
    "moved": (1500, 0.02, 8, moved),
    "brighter": (1000, 0.02, 10, brighter),
}
"""Parts, share of bad ones, seed, and what changes from none to all of it over them."""


def drawn(folder: Path) -> dict[str, Values]:
    """Return the streams, [parts, brightness sharpness shift score unfit]."""
    bundle = Bundle.open(DEMO)
    scorer = Scorer(bundle, 1, engine="openvino/bf16")
    fitness = Fitness(bundle.reference, FitnessSettings().checks)
    size = scorer.input.height, scorer.input.width
    found = {}
    for name, (parts, rate, seed, change) in STREAMS.items():
        path = folder / f"{name}.npy"
        if not path.exists():
            line = ProductionLine(seed, rate, "train" if name == "good" else "serve")
            rows = []
            for number in range(parts):
                image = line.part(number).image
                image = image if change is None else change(image, number / parts)
                row = to_network_input(image, *size)
                unfit = fitness.unfit(row, *image.shape[:2])
                if fitness.bounds is None:
                    sys.exit("the demo's bundle does not say how good images look")
                seen = picture_figures(fitness.bounds, measure(row, *image.shape[:2]))
                seen = {**seen, "score": scorer.score_batch(row[np.newaxis])[0].score}
                figures = [np.nan if (v := seen[s]) is None else v for s in STATISTICS]
                rows.append([*figures, float(unfit is not None)])
            np.save(path, np.array(rows))
        found[name] = np.load(path)
    return found


def by_median(name: Statistic, bundle: Bundle) -> Rule:
    """The agent's own."""

    def rule(_: Values, stream: Values) -> NDArray[np.bool_]:
        settings = DriftSettings(statistics=(name,), window=WINDOW)
        drift, alarms = (
            Drift(bundle.reference, bundle.manifest.precision("fp32").score, settings),
            [],
        )

        now = datetime.now(timezone.utc)
        for number, value in enumerate(stream):
            drift.add({name: None if np.isnan(value) else value})
            if number % CHECKED_EACH == 0:
                alarms.append(drift.decide(None, now)[0].since is not None)
        return np.array(alarms)

    return rule


def ewma(good: Values, stream: Values, weight: float = 0.05) -> NDArray[np.bool_]:
    """Three sigma of an exponentially weighted mean."""
    limit = 3 * good.std() * np.sqrt(weight / (2 - weight))
    mean, alarms = good.mean(), []
    for number, value in enumerate(stream):
        mean += 0 if np.isnan(value) else weight * (value - mean)
        if number % CHECKED_EACH == 0:
            alarms.append(abs(mean - good.mean()) > limit)
    return np.array(alarms)


def psi(good: Values, stream: Values) -> NDArray[np.bool_]:
    """Population stability index over the good images' deciles, above 0.2."""
    edges = np.quantile(good[~np.isnan(good)], np.linspace(0.1, 0.9, 9))

    def shares(values: Values) -> Values:
        counts = np.bincount(np.searchsorted(edges, values), minlength=10)
        return np.asarray((counts + 0.5) / (counts.sum() + 5))

    expected = shares(good)
    found = (shares(window) for window in windows(stream))
    return np.array([((f - expected) * np.log(f / expected)).sum() > 0.2 for f in found])


def smirnov(good: Values, stream: Values) -> NDArray[np.bool_]:
    """Kolmogorov and Smirnov's distance of two samples, at 0.1 %."""
    order, m, n = np.sort(good), len(good), WINDOW
    limit = 1.949 * np.sqrt((m + n) / (m * n))

    def distance(window: Values) -> float:
        every = np.concatenate([order, window])
        ours = np.searchsorted(np.sort(window), every, "right") / len(window)
        return float(np.abs(ours - np.searchsorted(order, every, "right") / m).max())

    return np.array([distance(window) > limit for window in windows(stream)])


def windows(stream: Values) -> Iterator[Values]:
    """Yield the last parts at each decision, without what has no figure."""
    for end in range(WINDOW, len(stream) + 1, CHECKED_EACH):
        window = stream[end - WINDOW : end]
        yield window[~np.isnan(window)]


def cost() -> None:
    """Print what the watch takes, with what is measured for checks, and without any checks."""
    bundle = Bundle.open(DEMO)
    scorer = Scorer(bundle, 1, engine="openvino/bf16")
    size = scorer.input.height, scorer.input.width
    line, settings = ProductionLine(1, 0.02), DriftSettings()
    images = [line.part(number).image for number in range(20)]
    checks = FitnessSettings().checks
    for name, made in (("all", checks), ("no moved", checks[:-1]), ("none", ())):
        fitness, took = Fitness(bundle.reference, made), []
        with TemporaryDirectory() as folder:
            watch = DriftWatch("left", Path(folder) / "note")
            for number in range(600):
                image = images[number % len(images)]
                row = to_network_input(image, *size)
                times = [time.perf_counter()]
                score = scorer.score_batch(row[np.newaxis])[0].score
                times.append(time.perf_counter())
                fitness.unfit(row, *image.shape[:2])
                times.append(time.perf_counter())
                figures = watch.look(fitness, row, (image.shape[0], image.shape[1]), settings)
                watch.add(None, bundle, {**figures, "score": score}, settings)
                times.append(time.perf_counter())
                took.append(np.diff(times) * 1000)
            began = time.perf_counter()
            watch.note()
            noted = (time.perf_counter() - began) * 1000
        scored, checked, watched = np.median(took[100:], axis=0)
        mean = np.mean(took[100:], axis=0)[2]
        print(
            f"checks {name}: score {scored:.2f} ms, checks {checked:.3f}, watch {watched:.4f} "
            f"(mean {mean:.4f}, {mean / scored:.2%} of the score), a note {noted:.2f}"
        )


def _clipped(levels: NDArray[np.float32]) -> Pixels:
    return np.clip(levels, 0, 255).astype(np.uint8)


def main(folder: Path) -> None:
    """Print a table a statistic."""
    folder.mkdir(exist_ok=True, parents=True)
    streams = drawn(folder)
    bundle = Bundle.open(DEMO)
    rng = np.random.default_rng(0)
    for place, name in enumerate(STATISTICS):
        good = streams["good"][:, place]
        print(f"\n{name}")
        rules: dict[str, Rule] = {"median": by_median(name, bundle)}
        rules |= {"EWMA": ewma, "PSI": psi, "KS": smirnov}
        for rule_name, rule in rules.items():
            says = [f"{rule_name:8}"]
            for kind in ("steady", "wandering", "15 % bad"):
                pool = streams["15 % bad" if kind == "15 % bad" else "steady"]
                stream = rng.choice(pool[:, place], 50_000)
                if kind == "wandering":  # as lamps and seasons do, within what good images show
                    slow = np.sin(np.arange(50_000) * 2 * np.pi / 5000)
                    stream += 0.5 * np.nanstd(good) * slow
                alarms = rule(good, stream)
                raised = int((alarms[1:] & ~alarms[:-1]).sum() + alarms[0])
                says.append(f"{kind}: {raised / 5:5.1f} per 10 000, {alarms.mean():6.1%} of time |")
            for kind in ("dimmed", "brighter", "blurred", "moved"):
                ramp = streams[kind]
                before = rng.choice(streams["steady"][:, place], WINDOW)
                alarms = rule(good, np.concatenate([before, ramp[:, place]]))
                alarms = alarms[-len(ramp) // CHECKED_EACH :]
                first = "  -- " if not alarms.any() else f"{alarms.argmax() * 10 / len(ramp):5.0%}"
                says.append(f"{kind} {first}")
            print(" ".join(says), flush=True)
    for kind in ("dimmed", "brighter", "blurred", "moved"):
        unfit = streams[kind][:, 4] > 0
        half = np.convolve(unfit, np.ones(50) / 50, "valid") > 0.5
        first = f"{unfit.argmax() / len(unfit):.0%}" if unfit.any() else "never"
        most = f"{half.argmax() / len(unfit):.0%}" if half.any() else "never"
        print(f"{kind}: first unfit at {first}, half of them unfit at {most}")


if __name__ == "__main__":
    if sys.argv[1:] == ["cost"]:
        cost()
    else:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "drift-streams"))
