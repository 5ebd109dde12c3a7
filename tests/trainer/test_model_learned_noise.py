"""The learned noise keeps within its limits and climbs the loss that the head descends."""

import pytest
import torch
from torch import nn

from ssn_contract.manifest import Regime
from ssn_trainer.fit.loss import batch_loss
from ssn_trainer.fit.recipe import make_recipe
from ssn_trainer.fit.truth import Truth
from ssn_trainer.model.heads import LeanHead
from ssn_trainer.model.noise import LATENT_CHANNELS, NoiseGenerator

CHANNELS, SIDE = 24, 8


@pytest.fixture
def maker() -> NoiseGenerator:
    torch.manual_seed(0)
    return NoiseGenerator(CHANNELS, beta=0.5)


@pytest.fixture
def head() -> LeanHead:
    torch.manual_seed(1)
    return LeanHead(CHANNELS, 16, 0.02, labels=False).eval()


def features() -> torch.Tensor:
    return torch.randn(8, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def good() -> Truth:
    nothing = torch.zeros(8, SIDE, SIDE, dtype=torch.bool)
    return Truth(torch.zeros(8, dtype=torch.bool), nothing, ~nothing, nothing.float())


def loss_of(head: LeanHead, maker: NoiseGenerator, *, adversarial: bool) -> torch.Tensor:
    recipe = make_recipe("default", None, Regime.UNSUPERVISED, None, None, noise="learned")
    draws = torch.Generator().manual_seed(3)
    return batch_loss(
        *(head, features(), good(), recipe, draws),
        supervised=False,
        learned=maker,
        adversarial=adversarial,
    )


def test_it_is_three_layers_over_features_and_a_latent_of_32_channels(
    maker: NoiseGenerator,
) -> None:
    layers = [layer for layer in maker.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size for layer in layers] == [(1, 1)] * 3
    assert layers[0].in_channels == CHANNELS + LATENT_CHANNELS == CHANNELS + 32


def test_it_stays_below_beta_and_inside_the_masks(
    maker: NoiseGenerator, generator: torch.Generator
) -> None:
    masks = torch.zeros(8, SIDE, SIDE, dtype=torch.bool)
    masks[3, 2:5, 2:5] = True
    noise = maker(1000 * features(), masks, generator)
    assert noise.abs().max() <= 0.5
    assert noise.abs().sum(dim=1).bool().equal(masks)  # [N, C, h, w] -> [N, h, w]


def test_the_same_features_get_other_noise_with_another_latent(
    maker: NoiseGenerator, generator: torch.Generator
) -> None:
    masks = torch.ones(8, SIDE, SIDE, dtype=torch.bool)
    first, second = (maker(features(), masks, generator) for _ in range(2))
    assert not torch.allclose(first, second)


def test_only_an_adversarial_step_teaches_it(maker: NoiseGenerator, head: LeanHead) -> None:
    loss_of(head, maker, adversarial=False).backward()  # type: ignore[no-untyped-call]  # torch's
    assert all(p.grad is None for p in maker.parameters())
    loss_of(head, maker, adversarial=True).backward()  # type: ignore[no-untyped-call]  # torch's
    assert all(p.grad is not None for p in maker.parameters())


def test_the_head_learns_the_same_from_a_step_whether_or_not_it_is_adversarial(
    maker: NoiseGenerator, head: LeanHead
) -> None:
    gradients = []
    for adversarial in (False, True):
        head.zero_grad()
        loss_of(head, maker, adversarial=adversarial).backward()  # type: ignore[no-untyped-call]  # torch's
        gradients.append([p.grad.clone() for p in head.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for first, second in zip(*gradients, strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_its_steps_make_the_heads_loss_larger(
    maker: NoiseGenerator, head: LeanHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssn_trainer.fit.loss._NOISE_PENALTY", 0.0)
    before = loss_of(head, maker, adversarial=False).item()
    optimizer = torch.optim.SGD(maker.parameters(), lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(head, maker, adversarial=True).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    assert loss_of(head, maker, adversarial=False).item() > before + 1e-3


def test_the_penalty_makes_its_noise_smaller(maker: NoiseGenerator, head: LeanHead) -> None:
    def strength() -> float:
        masks = torch.ones(8, SIDE, SIDE, dtype=torch.bool)
        noise: torch.Tensor = maker(features(), masks, torch.Generator().manual_seed(4))
        return noise.abs().mean().item()

    before = strength()
    optimizer = torch.optim.SGD(maker.parameters(), lr=0.1)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)  # nothing to climb: the penalty alone acts
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(head, maker, adversarial=True).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    assert strength() < 0.8 * before
