"""Cross-validation judges every part once, unseen, and says what a given file lets leak."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ssn_contract.manifest import Regime
from ssn_trainer import cli
from ssn_trainer.data.samples import load, load_all
from ssn_trainer.errors import UsageError
from ssn_trainer.fit.crossval import CrossValidation, crossval

from .conftest import SIZE, draw_parts, order


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_parts(tmp_path_factory.mktemp("crossval") / "data", good=15, bad=15)


def run(
    data: Path, out: Path, folds: Path | None = None, console: Console | None = None
) -> CrossValidation:
    wanted = order(data, out, Regime.FULL, epochs=1)
    count = None if folds else 3
    return crossval(wanted, folds, count, console or Console(quiet=True))


def test_every_image_is_tested_once_and_the_figures_are_the_folds_means(
    data: Path, tmp_path: Path
) -> None:
    result = run(data, tmp_path)
    assert len(result.folds) == 3
    assert sum(fold.test for fold in result.folds) == 30
    assert all(fold.train + fold.tune + fold.test == 30 for fold in result.folds)
    assert result.untested == ()
    figures = [fold.figures.values["p_auroc"] for fold in result.folds]
    assert None not in figures
    assert result.mean()["p_auroc"] == pytest.approx(sum(f or 0 for f in figures) / 3)
    assert result.mean() == result.mean(leaks=False)
    assert (result.spread()["p_auroc"] or 0) > 0
    assert not list(tmp_path.glob("*.ssn"))
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_given_file_is_followed_and_figures_without_its_leaks_stand_beside(
    data: Path, tmp_path: Path
) -> None:
    names = sorted(s.name for s in load(data, ".*").samples)
    test = [n for n in names if n.endswith(("0.png", "1.png", "2.png"))]
    train = [n for n in names if n not in test]
    file = tmp_path / "folds.json"
    leak = test[0]
    sides = [{"train": [*train, leak], "test": test}]
    file.write_text(json.dumps({"folds": sides}))
    console = Console(file=io.StringIO(), record=True, width=200)
    (fold,) = run(data, tmp_path / "out", file, console).folds
    assert f"1 test images are trained on, too: {leak}" in console.export_text()
    with pytest.raises(UsageError, match="leave one of them out"):
        crossval(order(data, tmp_path, None), file, 3, console)
    assert fold.test == len(test)
    assert fold.leaks == (leak,)
    assert fold.without_leaks.values != fold.figures.values


def test_a_marked_test_part_is_in_the_folds_and_counted_where_none_tests_it(
    tmp_path: Path,
) -> None:
    marked = tmp_path / "marked"
    for number, part in enumerate(("train", "test")):
        draw_parts(marked / part, good=6, bad=6, seed=number)
    names = [s.name for s in load_all(marked, ".*").samples]
    train, (untested, *test) = names[12:], names[:12]
    file = tmp_path / "folds.json"
    file.write_text(json.dumps({"folds": [{"train": train, "test": test}]}))
    result = run(marked, tmp_path / "out", file)
    assert result.folds[0].test == len(test)
    assert result.untested == (untested, *train)


def test_the_command_answers_with_the_keys_of_fit_and_the_folds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--weights", "none", "--image-size", str(SIZE), "--epochs", "1", "--count", "2"]
    given += ["--group-by", ".*", "--regime", "weak", "--json"]
    program = ["ssn-trainer", "crossval", str(data), "--out", str(tmp_path), *given]
    monkeypatch.setattr(sys, "argv", program)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"i_auroc", "ap_det", "p_auroc", "aupro", "ap_loc", "threshold", "seconds"} <= set(
        answer
    )
    assert answer["bundle"] is None
    assert [fold["regime"] for fold in answer["folds"]] == ["weak", "weak"]
    assert answer["folds"][0]["masks"] == 0
