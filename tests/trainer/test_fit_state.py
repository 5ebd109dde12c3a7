"""Rates, patience, the loss that picks the epoch, and whose turn it is to learn."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ssn_contract.manifest import Regime
from ssn_trainer.data.samples import Sample
from ssn_trainer.fit import loop
from ssn_trainer.fit.features import FeatureStore
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import make_recipe
from ssn_trainer.fit.state import TrainingState
from ssn_trainer.fit.truth import Truth, Truths
from ssn_trainer.fit.tune import _calibrated_log_loss, tune_loss
from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import AnyHead, LeanHead
from ssn_trainer.model.network import Network
from ssn_trainer.model.weights import build_backbone

from .conftest import draw_parts, learn_from_folder, order


def started(epochs: int) -> TrainingState:
    extractor = Extractor(build_backbone("resnet18", "none", 0), 1)
    network = Network(extractor, LeanHead(extractor.channels, 8, 0.02, labels=True), 64, 64)
    recipe = make_recipe("default", None, Regime.WEAK, epochs, None, noise="learned")
    return TrainingState(network, replace(recipe, schedule="published", patience=3), 0)


def rates(state: TrainingState, shares: list[float]) -> list[float]:
    """Rates over their first value, of the head; the learned noise has the same."""
    assert state.learned_optimizer is not None
    found = []
    for done in shares:
        state.set_rates(done)
        (learned,) = state.learned_optimizer.param_groups
        found.append(state.optimizer.param_groups[0]["lr"] / state.recipe.lr_heads)
        assert learned["lr"] == pytest.approx(found[-1] * state.recipe.lr_heads)
    return found


def test_published_rates_fall_after_eight_and_nine_tenths_of_the_training() -> None:
    shares = [0.0, 0.5, 0.79, 0.8, 0.89, 0.9, 0.99]
    assert rates(started(10), shares) == pytest.approx([1, 1, 1, 0.4, 0.4, 0.16, 0.16])


def test_rates_of_one_cycle_rise_to_their_peak_and_fall_to_nothing() -> None:
    state = started(10)
    state.recipe = replace(state.recipe, schedule="one-cycle")
    found = rates(state, [0.0, 0.15, 0.3, 0.65, 1.0])
    assert found == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])


def test_training_ends_when_patience_does_and_keeps_the_best_epoch() -> None:
    state = started(10)
    for epoch, loss in enumerate([0.5, 0.3, 0.4, 0.31, 0.3], 1):
        assert not state.finished
        with torch.no_grad():
            next(state.average.module.parameters()).fill_(epoch)
        state.finish_epoch(loss)
    assert state.finished  # three epochs no better than the second
    assert (state.best, state.best_epoch) == (0.3, 2)
    assert next(iter(state.best_weights.values())).eq(2).all()


def test_learned_noise_is_taught_in_every_fourth_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[bool] = []

    def spy(*arguments: Any, adversarial: bool, **options: Any) -> Tensor:
        turns.append(adversarial)
        return batch_loss(*arguments, adversarial=adversarial, **options)

    monkeypatch.setattr(loop, "batch_loss", spy)
    data = draw_parts(tmp_path / "data", good=6, bad=6)
    options = {"epochs": 1, "height": 32, "width": 32, "noise": "learned"}
    learn_from_folder(order(data, tmp_path / "out", Regime.FULL, **options))
    assert turns == [False, False, False, True] * 4


class Answers(nn.Module):
    """A head that gives set maps, and the mean of each as its score."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Take features of as many images as there are maps."""
        assert len(features) == len(self.maps)
        return self.maps.mean(dim=(1, 2, 3)), self.maps


class Whole:
    """Network and store in one: no features at all."""

    device = torch.device("cpu")

    def batch(self, samples: list[Sample], _: list[int]) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(samples)), torch.zeros(len(samples))

    def features(self, layer2: Tensor, _: Tensor) -> Tensor:
        return layer2

    def truths(self, truth: Truth) -> Truths:
        """What is known, whatever is asked for."""
        made = Truths([], (2, 2), 0.0)
        made.batch = lambda *_: truth  # type: ignore[method-assign]  # without files
        return made


def tuned(maps: Tensor, truth: Truth) -> float:
    whole, recipe = Whole(), make_recipe("default", None, Regime.MIXED, None, None)
    samples = [Sample(Path(), "", "good", None, None, "", None, "")] * len(maps)
    return tune_loss(
        cast("Network", whole),
        cast("AnyHead", Answers(maps)),
        cast("FeatureStore", whole),
        samples,
        whole.truths(truth),
        recipe,
        supervised=True,
    )


def maps_of(first: list[float], second: list[float], third: list[float]) -> Tensor:
    return torch.tensor([first, second, third], dtype=torch.float32).reshape(3, 1, 2, 2)


BAD = torch.tensor([False, True, True])
UNKNOWN = torch.zeros(3, 2, 2, dtype=torch.bool)


def test_without_masks_an_epoch_is_judged_by_its_scores_alone() -> None:
    truth = Truth(BAD, UNKNOWN, UNKNOWN | ~BAD[:, None, None], UNKNOWN.float())
    place = tuned(maps_of([0, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 4]), truth)
    other = tuned(maps_of([0, 0, 0, 0], [0, 4, 0, 0], [0, 4, 0, 0]), truth)
    assert place == pytest.approx(other)


def test_with_masks_it_is_judged_by_where_it_points_too() -> None:
    anomalous = UNKNOWN.clone()
    anomalous[1, 0, 0] = anomalous[2, 1, 1] = True
    truth = Truth(BAD, anomalous, ~UNKNOWN, anomalous.float())
    right = tuned(maps_of([0, 0, 0, 0], [4, 0, 0, 0], [0, 0, 0, 4]), truth)
    wrong = tuned(maps_of([0, 0, 0, 0], [0, 4, 0, 0], [0, 4, 0, 0]), truth)
    assert right < wrong - 0.1


def test_values_that_are_no_numbers_make_a_loss_that_is_none() -> None:
    truth = Truth(BAD, UNKNOWN, UNKNOWN | ~BAD[:, None, None], UNKNOWN.float())
    loss = tuned(maps_of([0, 0, 0, 0], [torch.nan, 0, 0, 0], [0, 0, 0, 4]), truth)
    assert math.isnan(loss)


def test_a_head_that_is_upside_down_is_no_better_than_knowing_nothing() -> None:
    scores, bad = torch.tensor([-3.0, -2.0, 2.0, 3.0]), torch.tensor([False, False, True, True])
    assert _calibrated_log_loss(scores, bad) < 0.1
    assert _calibrated_log_loss(-scores, bad) == pytest.approx(math.log(2))
