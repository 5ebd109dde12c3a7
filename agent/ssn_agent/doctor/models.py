"""What judges: bundles that are sound and reproduce their vectors, engines that are to be had."""

from collections.abc import Iterator
from pathlib import Path

from ssn_agent.bundles.archive import Bundle
from ssn_agent.doctor.findings import Finding, Subject, fault, ok, warning
from ssn_agent.errors import AgentError, UpdateError
from ssn_agent.inference.choice import Findings, circumstances
from ssn_agent.inference.engines.available import available_engines, why_not
from ssn_agent.inference.model import engines_for
from ssn_agent.inference.scorer import Scorer
from ssn_agent.settings import Settings
from ssn_agent.updates.state import read_state


def bundles(subject: Subject) -> Iterator[Finding]:
    """Each bundle that judges, on the reference engine."""
    for name, camera in subject.settings.cameras.items():
        if camera.mode == "collect":
            yield ok(f"{name}: collects pictures, and judges nothing")
    paths = judging(subject.settings)
    for where, follows in paths.pop(None, []):
        what = f"{where}: no bundle, so every part is INVALID(no_model)"
        do = 'set its bundle, or mode = "collect" until there is one'
        if follows is not None:
            what += f"; nothing of {follows} has come from the channel yet"
            do = "ssn-agent bundle pull says what the channel has"
        yield warning(what, do)
    for path, users in paths.items():
        where = ", ".join(name for name, _ in users)
        try:
            bundle = Bundle.open(path) if path else None
            if bundle is None:
                continue
            scorer = Scorer(bundle, subject.settings.inference.threads)
            worst = scorer.check_vectors()
        except AgentError as error:
            do = "copy it here anew, and ask `ssn-agent bundle verify FILE`"
            yield fault(f"{where}: {error}", do)
        else:
            m = bundle.manifest
            vectors = f"{len(m.vectors)} vectors reproduced to {worst:.1e}"
            yield ok(f"{where}: {m.name} {m.version}, {vectors}")


def engines(subject: Subject) -> Iterator[Finding]:
    """Which there are, which one judges, and which were refused."""
    settings = subject.settings
    pinned = settings.inference.engine
    if pinned != "auto" and (problem := why_not(pinned)) is not None:
        yield fault(f"inference.engine: {problem}", 'install it, or set engine = "auto"')
    judges = {c.engine for c in subject.metrics.cameras if c.engine} if subject.metrics else set()
    here = ", ".join(available_engines())
    yield ok(f"to be had: {here}" + (f"; judging: {', '.join(sorted(judges))}" if judges else ""))
    try:
        paths = judging(settings)
    except UpdateError:  # which `bundles` tells
        return
    for path in paths:
        if path is not None:
            yield from _refused(path, settings)


def judging(settings: Settings) -> dict[Path | None, list[tuple[str, str | None]]]:
    """Return who judges by which bundle: cameras by name, and what they follow."""
    state = read_state(settings.models_file)
    found: dict[Path | None, list[tuple[str, str | None]]] = {}
    for name, camera in settings.cameras.items():
        if camera.mode == "collect":
            continue
        products = {f"{name}, {product}": judge for product, judge in camera.products.items()}
        for where, judge in {name: camera, **products}.items():
            path = judge.bundle
            followed = state.followed.get(judge.follow) if judge.follow else None
            if followed is not None and followed.in_force is not None:
                path = followed.in_force.path
            found.setdefault(path, []).append((where, judge.follow))
    return found


def _refused(path: Path, settings: Settings) -> Iterator[Finding]:
    """Say which engines failed their trial at an earlier start."""
    try:
        bundle = Bundle.open(path)
    except AgentError:  # which `bundles` tells
        return
    key = circumstances(bundle.digest, engines_for(bundle), settings.inference.threads)
    for trial in Findings(settings.engine_dir / key).recall() or ():
        if trial.problem is not None:
            what = f"{path.name}: {trial.engine} was refused: {trial.problem}"
            yield warning(what, "another engine judges; pack the bundle anew where this one should")
