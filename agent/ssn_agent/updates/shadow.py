"""A bundle tried beside serving: `python -m ssn_agent.updates.shadow SETTINGS FOLLOWS BUNDLE ...`.

A process of its own, for what `inference.trial` is one for: what the runtime takes goes with it,
and what kills it kills no verdict. In this order, each step told as a `told.Line`:

1. The bundle is opened, and replays its vectors on the reference engine.
2. Its engines are tried, as inference would; what is found inference recalls at the swap.
3. On the fastest it scores the frames that the line judges: `live`.
4. It and what is in force score the station's own labelled images.

Without anything in force it ends after 2.
"""

import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import BundleError, EngineError, ImageError, LedgerDamaged, LedgerError
from ssn_agent.frames.pixels import read_image
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference.engines.available import REFERENCE
from ssn_agent.inference.scorer import Scorer
from ssn_agent.inference.trial import Trial
from ssn_agent.log import configure, logger
from ssn_agent.processes import end_with_parent
from ssn_agent.settings import Settings, read_resolved
from ssn_agent.updates.evidence import Own, Report, auroc
from ssn_agent.updates.live import PAUSE, look_at_frames
from ssn_agent.updates.own_images import OwnImage, own_images, trained_on, unseen
from ssn_agent.updates.rules import MAX_DETAIL
from ssn_agent.updates.state import Figures
from ssn_agent.updates.told import Line
from ssn_agent.updates.trying import Engines

NICE = 19
ALIVE_S = 5.0


class Shadow:
    """One bundle's trial."""

    def __init__(self, settings: Settings, follows: str, in_force: Path | None) -> None:
        """`in_force`: what judges where the name is followed; None: the settings' bundles do."""
        self._settings = settings
        self._follows = follows
        self._in_force = in_force
        self._alive_at = 0.0

    def run(self, path: Path, digest: str) -> None:
        """Go through the steps.

        Raises BundleError and EngineError where the bundle cannot judge here, JournalError.
        """
        bundle = Bundle.open(path)
        if bundle.digest != digest:
            msg = f"{path}: is no longer the bundle that was pulled; pull it again"
            raise BundleError(msg)
        self._alive()
        engines = Engines(bundle, self._settings)
        engines.load(REFERENCE)
        trials = engines.try_all(self._alive)
        scorer = engines.load_fastest()
        refused = [f"{trial.engine}: {trial.problem}" for trial in trials if trial.problem]
        detail = "; ".join(refused) or None
        tell(Line(step="tried", detail=detail, figures=_figures(scorer, trials)))
        if not self._has_incumbent:
            tell(Line(step="done"))
            return
        tell(Line(step="begins"))
        files = RuntimeFiles(self._settings.runtime_dir)
        live = look_at_frames(scorer, self._settings, files, self._follows, self._alive)
        tell(Line(step="done", report=Report(live=live, own=self._compare(scorer))))

    @property
    def _has_incumbent(self) -> bool:
        judges = (judge for camera in self._settings.cameras.values() for judge in camera.judges)
        bundles = [judge.bundle for judge in judges if judge.follow == self._follows]
        return self._in_force is not None or any(bundles)

    def _compare(self, scorer: Scorer) -> Own | None:
        """Have it and what is in force judge the labelled images of this station."""
        found = self._images()
        by_bundle: dict[Path, list[OwnImage]] = defaultdict(list)
        for image in found:
            incumbent = self._in_force or image.judge.bundle
            if incumbent is not None:
                by_bundle[incumbent].append(image)
        both: list[_Both] = []
        left_out = 0
        for path, images in by_bundle.items():
            try:
                before = Bundle.open(path)
                judging = Engines(before, self._settings).load_fastest()
            except (BundleError, EngineError) as error:
                logger().warning("nothing to compare with", problem=str(error))
                continue
            fresh = list(unseen(images, trained_on(scorer.bundle) | trained_on(before)))
            left_out += len(images) - len(fresh)
            scores, scores_before = self._scores(scorer, fresh), self._scores(judging, fresh)
            both += [
                _Both(i, scores[i.path], scores_before[i.path]) for i in fresh if i.path in scores
            ]
        return _summed(both, left_out) if both or left_out else None

    def _images(self) -> list[OwnImage]:
        try:
            return own_images(self._settings, self._follows)
        except (LedgerError, LedgerDamaged) as error:
            logger().warning("no labelled images", problem=str(error))
            return []

    def _scores(self, scorer: Scorer, images: list[OwnImage]) -> dict[Path, float]:
        """Score what can be read, one by one, with rests between. Raises EngineError."""
        found = {}
        for image in images:
            self._alive()
            start = time.perf_counter()
            try:
                found[image.path] = scorer.score(read_image(image.path)).score
            except ImageError as error:
                logger().warning("a labelled image is left out", problem=str(error))
            time.sleep(PAUSE * (time.perf_counter() - start))
        return found

    def _alive(self) -> None:
        if time.monotonic() >= self._alive_at:
            self._alive_at = time.monotonic() + ALIVE_S
            tell(Line(step="alive"))


@dataclass(frozen=True)
class _Both:
    """A labelled image with both bundles' scores."""

    image: OwnImage
    score: float
    score_before: float

    @property
    def is_right(self) -> bool:
        return (self.score >= self.image.threshold) == self.image.is_bad

    @property
    def was_right(self) -> bool:
        return (self.score_before >= self.image.threshold) == self.image.is_bad


def _summed(both: list[_Both], left_out: int) -> Own:
    is_bad = [one.image.is_bad for one in both]
    return Own(
        images=len(both),
        left_out=left_out,
        right=sum(one.is_right for one in both),
        right_before=sum(one.was_right for one in both),
        better=sum(one.is_right and not one.was_right for one in both),
        worse=sum(one.was_right and not one.is_right for one in both),
        auroc=auroc([one.score for one in both], is_bad),
        auroc_before=auroc([one.score_before for one in both], is_bad),
    )


def _figures(scorer: Scorer, trials: list[Trial]) -> Figures:
    """Return what it would run on, and how long a frame takes there; None: it was not timed."""
    name = scorer.engine.name
    times = {trial.engine: trial.median_ms for trial in trials}
    return {"engine": name, "median_ms": next((t for e, t in times.items() if e == name), None)}


def tell(line: Line) -> None:
    """Have the updates process know."""
    sys.stdout.write(line.model_dump_json() + "\n")
    sys.stdout.flush()


def main(
    settings_path: str, follows: str, path: str, digest: str, in_force: str, parent: str
) -> None:
    """Try one bundle; `in_force` is empty where the settings' bundles judge."""
    end_with_parent(int(parent))
    os.nice(NICE)
    settings = read_resolved(Path(settings_path))
    configure(settings.log_level, "shadow")
    if settings.inference.cpus:  # as inference: what is found depends on them
        os.sched_setaffinity(0, settings.inference.cpus)
    try:
        Shadow(settings, follows, Path(in_force) if in_force else None).run(Path(path), digest)
    except (BundleError, EngineError) as error:
        tell(Line(step="refused", detail=str(error)[:MAX_DETAIL]))


if __name__ == "__main__":
    main(*sys.argv[1:])
