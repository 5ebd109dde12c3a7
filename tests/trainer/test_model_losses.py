"""The losses give what their formulas say, worked out by hand."""

import math

import pytest
import torch

from ssn_trainer.model.losses import focal, truncated_l1


def test_truncated_l1_pushes_both_sides_out_to_the_margin_and_no_further() -> None:
    values = torch.tensor([-0.7, 0.2, 0.9, 0.1])
    target = torch.tensor([False, False, True, True])
    everywhere = torch.ones(4, dtype=torch.bool)
    # normal: max(0, 0.5 - 0.7) = 0 and 0.5 + 0.2 = 0.7; anomalous: 0 and 0.5 - 0.1 = 0.4
    expected = (0 + 0.7) / 2 + (0 + 0.4) / 2
    assert truncated_l1(values, target, everywhere).item() == pytest.approx(expected)


def test_truncated_l1_leaves_out_cells_nobody_knows_about() -> None:
    values = torch.tensor([0.2, 5.0], requires_grad=True)
    known = torch.tensor([True, False])
    loss = truncated_l1(values, torch.tensor([False, False]), known)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss.item() == pytest.approx(0.7)
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 0.0]


def test_losses_without_any_known_cell_are_zero_and_not_nan() -> None:
    values, nothing = torch.zeros(3, requires_grad=True), torch.zeros(3, dtype=torch.bool)
    loss = truncated_l1(values, nothing, nothing) + focal(values, nothing, nothing)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss.item() == 0


def test_focal_weighs_down_what_is_already_right() -> None:
    logits = torch.tensor([0.0, 2.0])
    target = torch.tensor([True, False])
    p = 1 / (1 + math.exp(2.0))  # given to the true class of the second
    expected = (-(0.5**4) * math.log(0.5) - (1 - p) ** 4 * math.log(p)) / 2
    assert focal(logits, target).item() == pytest.approx(expected)


def test_focal_with_gamma_zero_is_cross_entropy() -> None:
    logits, target = torch.tensor([0.3, -1.2, 4.0]), torch.tensor([True, False, False])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, target.float())
    assert focal(logits, target, gamma=0).item() == pytest.approx(expected.item())


def test_focal_stays_finite_for_hopelessly_wrong_logits() -> None:
    logits = torch.tensor([-500.0, 500.0], requires_grad=True)
    loss = focal(logits, torch.tensor([True, False]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
