"""More labels give better maps: full over weak, and a few masks are worth something."""

from pathlib import Path

import pytest
from torch import nn

from ssn_contract.manifest import Head, Regime
from ssn_trainer.fit.job import Learned
from ssn_trainer.model.heads import LeanHead, SuperSimpleNetHead
from ssn_trainer.model.noise import NoiseGenerator

from .conftest import judge_test_part, learn_from_folder, order


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, so that features are computed once."""
    return tmp_path_factory.mktemp("regimes")


def learned(plates: Path, out: Path, regime: Regime, **options: object) -> Learned:
    return learn_from_folder(order(plates, out, regime, fresh=True, **options))


def figures(trained: Learned) -> tuple[float, float]:
    """P-AUROC and AP-loc on the test part."""
    judged = judge_test_part(trained, pixels=True)
    assert judged.pixels is not None
    found = judged.pixels.metrics()
    assert found["p_auroc"] is not None
    assert found["ap_loc"] is not None
    return found["p_auroc"], found["ap_loc"]


def test_masks_sharpen_the_map_few_of_them_and_more_so_all(plates: Path, out: Path) -> None:
    weak = figures(learned(plates, out, Regime.WEAK, epochs=8))
    few = learned(plates, out, Regime.MIXED, masks=3, epochs=8)
    full = learned(plates, out, Regime.FULL, epochs=8)
    assert (few.masks, full.masks) == (3, 12)
    assert figures(few)[1] > weak[1]
    assert figures(full)[0] > weak[0]
    assert figures(full)[1] > weak[1] + 0.1


@pytest.mark.parametrize("variant", ["icpr", "jims"])
def test_the_published_head_learns_from_masks_in_both_variants(
    plates: Path, out: Path, variant: str
) -> None:
    options = {"head": Head.SUPERSIMPLENET, "variant": variant, "epochs": 2}
    trained = learned(plates, out, Regime.FULL, **options)
    assert isinstance(trained.network.head, SuperSimpleNetHead)
    assert trained.network.head.variant == variant
    assert figures(trained)[0] > 0.9


@pytest.mark.parametrize("regime", [Regime.WEAK, Regime.MIXED, Regime.FULL])
def test_labels_set_the_lean_heads_linear_term_in_every_regime_that_has_them(
    plates: Path, out: Path, regime: Regime
) -> None:
    head = learned(plates, out, regime, epochs=1).network.head
    assert isinstance(head, LeanHead)
    assert isinstance(head.pooled, nn.Linear)
    assert head.pooled.weight.abs().sum() > 0


def test_learned_noise_trains_a_map_and_is_no_part_of_the_network(plates: Path, out: Path) -> None:
    options = {"noise": "learned", "adaptor": "nonlinear", "epochs": 2}
    trained = learned(plates, out, Regime.FULL, **options)
    assert figures(trained)[0] > 0.9
    assert not any(isinstance(m, NoiseGenerator) for m in trained.network.modules())
