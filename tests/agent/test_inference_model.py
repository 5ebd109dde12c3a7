"""A bundle starts on the reference engine; a faster one takes over only where it answers alike."""

import errno
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ssn_agent.bundles.archive import Bundle
from ssn_agent.errors import EngineError
from ssn_agent.frames.heartbeat import Heartbeat
from ssn_agent.frames.runtime import RuntimeFiles
from ssn_agent.inference import model as model_module
from ssn_agent.inference.choice import Findings, circumstances, ranking, tidy
from ssn_agent.inference.engines import available, versions
from ssn_agent.inference.engines.available import REFERENCE, why_not
from ssn_agent.inference.model import Model
from ssn_agent.inference.scorer import Scored, Scorer
from ssn_agent.inference.settings import EngineName
from ssn_agent.inference.trial import Trial, TrialProcess, run_trial
from ssn_agent.settings import Settings
from support.bundles import SIZE, manifest, write_brightness_bundle
from support.ledgers import settings_in
from support.waiting import wait_until

OTHER: EngineName = "openvino/fp32"
IMAGE = np.full((SIZE, SIZE), 100, np.uint8)

needs_openvino = pytest.mark.skipif(why_not(OTHER) is not None, reason=str(why_not(OTHER)))


class Box:
    """A station's folders and settings, and models on it."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.bundle = write_brightness_bundle(folder / "brightness.ssn")
        self.files = RuntimeFiles(runtime)
        self._folder = folder

    def settings(self, engine: str = "auto") -> Settings:
        inference = {"engine": engine, "threads": 1}
        return settings_in(self._folder, (), cameras=_CAMERAS, inference=inference)

    def model(self, engine: str = "auto") -> Model:
        heart = Heartbeat(self.files.heartbeat("inference"))
        return Model(Bundle.open(self.bundle), self.settings(engine), self.files, heart)


_CAMERAS = {"left": {"source": {"kind": "folder", "path": "/images"}}}


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with tempfile.TemporaryDirectory(prefix="ssn-") as runtime:
        yield Box(tmp_path, Path(runtime))


class Trials:
    """Stands for trials in their processes: what each engine's will tell."""

    def __init__(self, **told: float | str | Trial) -> None:
        self.told = told
        self.run: list[str] = []

    def __call__(self, _bundle: Any, engine: EngineName, *_: Any) -> "Trials":
        self.run.append(engine)
        return self

    def poll(self) -> Trial:
        engine = self.run[-1]
        said = self.told[engine.replace("/", "_").replace("-", "_")]
        if isinstance(said, Trial):
            return said
        if isinstance(said, str):
            return Trial(engine=engine, problem=said)
        return Trial(engine=engine, median_ms=said)


def score(model: Model) -> Scored:
    """Score one image, as the serving process does."""
    model.prepare(IMAGE, 0)
    (scored,) = model.score_prepared(1)
    return scored


def trials(monkeypatch: pytest.MonkeyPatch, **told: float | str | Trial) -> Trials:
    found = Trials(**told)
    monkeypatch.setattr(model_module, "TrialProcess", found)
    engines = {REFERENCE: "1.0", OTHER: "1.0"}
    monkeypatch.setattr(model_module, "available_engines", lambda: engines)
    return found


def search(model: Model) -> None:
    """Search to the end, as the serving process does between two frames."""

    wait_until(lambda: not model.search(), 60, "the search does not end")


def test_trials_rank_by_time_and_leave_out_what_failed() -> None:
    told = [
        Trial(engine=REFERENCE, median_ms=10.0),
        Trial(engine="openvino/bf16", problem="another answer"),
        Trial(engine=OTHER, median_ms=4.0),
    ]
    assert ranking(told) == [OTHER, REFERENCE]


def test_serving_starts_on_the_reference_before_anything_is_tried(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch, onnxruntime_cpu_fp32=9.0, openvino_fp32=2.0)
    model = box.model()
    assert model.scorer.engine.name == REFERENCE
    assert score(model).raw == pytest.approx(100 / 255, abs=1e-6)
    assert found.run == []


@needs_openvino
def test_the_fastest_engine_takes_over_and_the_next_start_tries_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch, onnxruntime_cpu_fp32=9.0, openvino_fp32=2.0)
    for count in (2, 2):
        model = box.model()
        search(model)
        assert (model.scorer.engine.name, model.problem) == (OTHER, "")
        assert score(model).raw == pytest.approx(100 / 255, abs=1e-4)
        assert len(found.run) == count


def test_the_reference_stays_where_it_is_the_fastest(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials(monkeypatch, onnxruntime_cpu_fp32=2.0, openvino_fp32=9.0)
    model = box.model()
    before = model.scorer
    search(model)
    assert model.scorer is before
    assert (model.scorer.engine.name, model.problem) == (REFERENCE, "")


def test_an_engine_that_failed_its_trial_does_not_judge_and_the_status_says_so(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch, onnxruntime_cpu_fp32=2.0, openvino_fp32="another answer")
    for _ in range(2):  # the next start has it from the disk, and says it again
        model = box.model()
        search(model)
        assert model.scorer.engine.name == REFERENCE
        assert model.is_changed
        assert model.problem == (f"engine {OTHER} is refused, {REFERENCE} judges: another answer")
    assert len(found.run) == 2


def test_an_engine_that_failed_is_tried_again_where_what_it_runs_on_has_changed(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch, onnxruntime_cpu_fp32=2.0, openvino_fp32="does not start")
    search(box.model())
    engines = {REFERENCE: "1.0", OTHER: "1.1"}
    monkeypatch.setattr(model_module, "available_engines", lambda: engines)
    found.told["openvino_fp32"] = 9.0
    model = box.model()
    search(model)
    assert (model.problem, found.run) == ("", 2 * [REFERENCE, OTHER])


def test_an_engine_whose_trial_was_cut_off_is_tried_again_by_the_next_start(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Trial(engine=OTHER, problem="its trial died with signal 9", is_cut_off=True)
    found = trials(monkeypatch, onnxruntime_cpu_fp32=2.0, openvino_fp32=killed)
    model = box.model()
    search(model)
    assert "signal 9" in model.problem
    found.told["openvino_fp32"] = 9.0
    model = box.model()
    search(model)
    assert (model.problem, found.run) == ("", 2 * [REFERENCE, OTHER])


@needs_openvino
def test_a_remembered_engine_that_no_longer_keeps_to_the_vectors_is_replaced_by_the_next(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials(monkeypatch, onnxruntime_cpu_fp32=9.0, openvino_fp32=2.0)
    search(box.model())
    honest = Scorer.check_vectors

    def lying(scorer: Scorer, pause: float) -> float:
        if scorer.engine.name == OTHER:
            raise EngineError("does not reproduce")
        return honest(scorer, pause)

    monkeypatch.setattr(Scorer, "check_vectors", lying)
    model = box.model()
    search(model)
    assert model.scorer.engine.name == REFERENCE
    assert "does not reproduce" in model.problem


def test_where_nothing_else_is_installed_nothing_is_tried(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch)
    monkeypatch.setattr(model_module, "available_engines", lambda: {REFERENCE: "1.0"})
    search(box.model())
    assert found.run == []
    assert not box.settings().engine_dir.exists()


def test_a_precision_that_the_bundle_does_not_list_is_not_tried(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch)
    engines = {REFERENCE: "1.0", "openvino/bf16": "1.0", "onnxruntime-cpu/int8": "1.0"}
    monkeypatch.setattr(model_module, "available_engines", lambda: engines)
    search(box.model())
    assert found.run == []


@needs_openvino
def test_a_pinned_engine_judges_without_a_trial(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trials(monkeypatch)
    model = box.model(OTHER)
    model.search()
    was_loading = model.is_loading
    search(model)
    assert (was_loading, model.is_loading) == (True, False)
    assert (model.scorer.engine.name, model.problem) == (OTHER, "")
    assert found.run == []


def test_the_reference_can_be_pinned(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trials(monkeypatch)
    model = box.model(REFERENCE)
    search(model)
    assert (model.scorer.engine.name, found.run) == (REFERENCE, [])


@pytest.mark.parametrize(
    ("pinned", "why"),
    [
        ("openvino/int8", "has no int8"),
        ("onnxruntime-tensorrt/fp16", "has no fp16"),
        pytest.param(
            *("onnxruntime-cuda/fp32", str(why_not("onnxruntime-cuda/fp32"))),
            marks=pytest.mark.skipif(why_not("onnxruntime-cuda/fp32") is None, reason="a GPU"),
        ),
    ],
)
def test_a_pinned_engine_that_fails_leaves_the_reference_and_a_warning(
    box: Box, pinned: str, why: str
) -> None:
    model = box.model(pinned)
    search(model)
    assert model.scorer.engine.name == REFERENCE
    assert model.problem.startswith(f"engine {pinned} is refused, {REFERENCE} judges: ")
    assert why in model.problem


class Failing:
    """An engine that fails on every frame."""

    name = OTHER

    def run(self, inputs: NDArray[np.uint8]) -> Any:
        raise EngineError(f"no answer for {len(inputs)}")


@needs_openvino
def test_an_engine_that_fails_on_a_frame_is_replaced_and_that_very_frame_is_judged(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials(monkeypatch, onnxruntime_cpu_fp32=9.0, openvino_fp32=2.0)
    model = box.model()
    search(model)
    monkeypatch.setattr(model.scorer, "engine", Failing())
    model.is_changed = False
    assert score(model).raw == pytest.approx(100 / 255, abs=1e-6)
    assert model.is_changed
    search(model)
    assert model.scorer.engine.name == REFERENCE
    assert model.problem.endswith("no answer for 1")


def test_a_reference_that_fails_on_a_frame_has_nothing_to_fall_back_to(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = box.model(REFERENCE)
    failing = Failing()
    failing.name = REFERENCE
    monkeypatch.setattr(model.scorer, "engine", failing)
    with pytest.raises(EngineError, match="no answer"):
        score(model)


@needs_openvino
def test_an_engine_that_killed_the_process_is_left_out_once(box: Box) -> None:
    model = box.model(OTHER)
    note = box.files.engine_starting(model.scorer.bundle.digest)
    note.write_text(OTHER)  # as a process leaves it that dies while it loads
    after = box.model(OTHER)
    search(after)
    assert after.scorer.engine.name == REFERENCE
    assert "the process died" in after.problem
    again = box.model(OTHER)
    search(again)
    assert (again.scorer.engine.name, again.problem) == (OTHER, "")


def test_an_orderly_end_leaves_no_note_of_an_engine_that_was_being_loaded(box: Box) -> None:
    model = box.model(REFERENCE)
    note = box.files.engine_starting(model.scorer.bundle.digest)
    note.write_text(OTHER)
    model.close()
    assert not note.exists()


@needs_openvino
def test_an_orderly_end_waits_for_an_engine_that_is_being_loaded(box: Box) -> None:
    model = box.model(OTHER)
    model.search()
    loading = model._loading
    assert loading is not None
    model.close()
    assert loading.done()
    assert not box.files.engine_starting(model.scorer.bundle.digest).exists()


def test_damaged_records_are_a_reason_to_try_anew(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trials(monkeypatch, onnxruntime_cpu_fp32=1.0, openvino_fp32=2.0)
    search(box.model())
    [record] = box.settings().engine_dir.glob("*/trials.json")
    record.write_text("[")
    search(box.model())
    assert len(found.run) == 4
    assert len(record.read_text()) > 1


def test_records_that_cannot_be_written_cost_the_next_start_its_time_alone(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file in the way")
    findings = Findings(tmp_path / "engines" / "deeper")
    findings.keep([Trial(engine=REFERENCE, median_ms=1.0)])
    assert findings.recall() is None


def test_what_long_unused_bundles_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    in_use = tmp_path / "in use"
    for age, name in enumerate(["in use", "a", "b", "c", "d", "e", "f"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of TensorRT.engine").write_bytes(b"large")
        os.utime(tmp_path / name, (age, age))  # the one in use is the oldest
    (tmp_path / "0123.json").write_text("of an earlier version")
    os.utime(tmp_path / "0123.json", (0, 0))
    for _ in range(2):  # an agent that starts again has no more to remove
        tidy(tmp_path, {in_use})
        assert {path.name for path in tmp_path.iterdir()} == {"in use", "c", "d", "e", "f"}
    tidy(tmp_path, {tmp_path / "f"})  # the bundle before comes back: what it has was used last
    assert {path.name for path in tmp_path.iterdir()} == {"in use", "c", "d", "e", "f"}
    tidy(tmp_path / "absent", {in_use})


def test_trials_are_for_one_bundle_one_set_of_engines_and_their_versions_and_threads() -> None:
    first = circumstances("ab", {REFERENCE: "1.0"}, 1)
    assert first == circumstances("ab", {REFERENCE: "1.0"}, 1)
    others = [
        circumstances("cd", {REFERENCE: "1.0"}, 1),
        circumstances("ab", {REFERENCE: "1.1"}, 1),
        circumstances("ab", {REFERENCE: "1.0", OTHER: "1.0"}, 1),
        circumstances("ab", {REFERENCE: "1.0"}, 2),
    ]
    assert len({first, *others}) == 5


def test_on_a_gpu_trials_are_also_for_one_driver_and_for_the_libraries_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, libraries = tmp_path / "version", tmp_path / "ld.so.cache"
    driver.write_text("NVRM version: 550.54")
    libraries.touch()
    monkeypatch.setattr(available, "why_not", lambda _: None)
    monkeypatch.setattr(versions, "_DRIVER", (driver, tmp_path / "absent"))
    monkeypatch.setattr(versions, "_LIBRARIES", libraries)
    before = available.available_engines()
    assert before == available.available_engines()
    driver.write_text("NVRM version: 570.00")
    newer = available.available_engines()
    os.utime(libraries, (1, 1))  # as when TensorRT is installed
    installed = available.available_engines()
    for one, other in ((before, newer), (newer, installed)):
        changed = {name.partition("/")[0] for name in one if one[name] != other[name]}
        assert changed == {"onnxruntime-cuda", "onnxruntime-tensorrt"}


def test_a_trial_in_its_process_tells_the_time_of_a_frame(box: Box) -> None:
    process = TrialProcess(box.model(REFERENCE).scorer.bundle, REFERENCE, 1, box.files.root)
    trial = _outcome(process)
    assert trial.problem is None
    assert trial.median_ms is not None
    assert 0 < trial.median_ms < 1000


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV])
def test_a_trial_that_is_killed_costs_its_engine_the_job_and_nobody_else(
    box: Box, sign: signal.Signals
) -> None:
    process = TrialProcess(box.model(REFERENCE).scorer.bundle, REFERENCE, 1, box.files.root)
    process._process.send_signal(sign)
    trial = _outcome(process)
    assert (trial.median_ms, trial.is_cut_off) == (None, True)
    assert f"signal {sign.value}" in str(trial.problem)


def test_a_trial_that_does_not_end_is_killed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssn_agent.inference.trial.TIMEOUT_S", 0.0)
    process = TrialProcess(box.model(REFERENCE).scorer.bundle, REFERENCE, 1, box.files.root)
    assert "took over 0 s" in str(_outcome(process).problem)
    assert process._process.returncode == -signal.SIGKILL


@needs_openvino
def test_a_trial_that_cannot_be_started_costs_its_engine_the_job_and_serving_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr("subprocess.Popen", refuse)
    model = box.model()
    search(model)
    assert model.scorer.engine.name == REFERENCE
    assert "cannot be started (no more processes)" in model.problem


def test_a_trial_of_another_bundle_than_the_one_in_force_says_so(box: Box) -> None:
    trial = run_trial(box.bundle, "00" * 32, REFERENCE, 1, box.files.root)
    assert "no longer the bundle" in str(trial.problem)


def test_an_engine_with_another_answer_than_the_vectors_fails_its_trial(box: Box) -> None:
    vectors = [{**manifest()["vectors"][0], "score": 0.9}]
    digest = box.model(REFERENCE).scorer.bundle.digest
    write_brightness_bundle(box.bundle)
    assert run_trial(box.bundle, digest, REFERENCE, 1, box.files.root).problem is None
    write_brightness_bundle(box.bundle, vectors=vectors)
    wrong = Bundle.open(box.bundle).digest
    trial = run_trial(box.bundle, wrong, REFERENCE, 1, box.files.root)
    assert "does not reproduce" in str(trial.problem)


def _outcome(process: TrialProcess) -> Trial:
    trials: list[Trial] = []

    def ended() -> bool:
        trial = process.poll()
        trials.extend(() if trial is None else (trial,))
        return trial is not None

    wait_until(ended, 60, "the trial does not end")
    return trials[0]
