"""The heads over both layers of the backbone, in place of merged and standardised features."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn

from ssn_trainer.model.heads import (
    AnyHead,
    GapCamHead,
    LeanHead,
    Novelty,
    SuperSimpleNetHead,
    window_grid,
    window_steps,
)
from ssn_trainer.pack.compile.affine import Affine, Convolution, after, convolution
from ssn_trainer.pack.compile.grids import Enlarge
from ssn_trainer.pack.compile.merged import Grid, Merged, MergedConvolution


def compile_head(head: AnyHead, cells: Affine, grids: Sequence[Grid]) -> nn.Module:
    """Return a module from `Merged` to raw scores [N] and raw maps [N, 1, h, w], as `head`'s.

    `cells`: the standardisation of merged features, which the head is to take in itself.
    """
    if isinstance(head, LeanHead):
        return _Lean(head, cells, grids)
    if isinstance(head, SuperSimpleNetHead):
        return _SuperSimpleNet(head, cells, grids)
    return _GapCam(head, cells, grids)


class _Segmentation(nn.Module):
    """Adaptor and segmentation head.

    A linear adaptor, the standardisation before it and the convolution after it are one
    convolution. Over a non-linear one the segmentation head stays as it is.
    """

    def __init__(
        self,
        head: LeanHead | SuperSimpleNetHead,
        cells: Affine,
        grids: Sequence[Grid],
        *,
        merged_anyway: bool,
    ) -> None:
        super().__init__()
        size = grids[0].merged
        first, norm, self.activation, self.last = head.segmentation
        mix = convolution(_conv(first), _norm(norm))
        self.adapt: MergedConvolution | None = None
        self.first: nn.Module
        if isinstance(head.adaptor, nn.Sequential):
            whole = after(cells, convolution(_conv(head.adaptor[0]), _norm(head.adaptor[1])), size)
            self.adapt = MergedConvolution(whole, grids, merged_anyway=merged_anyway)
            self.first = mix.module()
        else:
            whole = after(linearly_adapted(head.adaptor, cells), mix, size)
            self.first = MergedConvolution(whole, grids, merged_anyway=merged_anyway)

    def forward(self, merged: Merged) -> tuple[Tensor, Tensor | Merged]:
        """Raw map [N, 1, h, w], and adapted features [N, C, h, w] where the adaptor makes them."""
        adapted = merged if self.adapt is None else F.relu(self.adapt(merged))
        anomaly_map: Tensor = self.last(self.activation(self.first(adapted)))
        return anomaly_map, adapted


class _Lean(nn.Module):
    """LeanHead. The pooled term is left out where it has no weight.

    Novelty of windows n is enlarged bilinearly, which is rows @ n @ columns (`grids`).
    """

    def __init__(self, head: LeanHead, cells: Affine, grids: Sequence[Grid]) -> None:
        super().__init__()
        weight = head.pooled.weight
        self.pooled = PooledTerm(head.pooled, cells) if weight.any() else None
        self.segmentation = _Segmentation(head, cells, grids, merged_anyway=self.pooled is not None)
        self.highest = head.highest
        self.spread: Enlarge | None = None
        if isinstance(head.pooled, Novelty):
            # A Gaussian of one value smoothes nothing.
            self.spread = Enlarge(window_grid(grids[0].merged), grids[0].merged, torch.ones(1))

    def forward(self, merged: Merged) -> tuple[Tensor, Tensor]:
        anomaly_map, _ = self.segmentation(merged)
        score: Tensor = self.highest(anomaly_map)
        if self.pooled is None:
            return score, anomaly_map
        term = self.pooled([merged.whole(index) for index in range(len(merged.layers))])
        if self.spread is not None:
            # [N, r, c] -> [N, 1, r, c] -> [N, h, w] -> [N, 1, h, w]
            anomaly_map = anomaly_map + self.spread(term[:, None])[:, None]
        return score + term.flatten(1).amax(dim=1), anomaly_map


class PooledTerm(nn.Module):
    """LeanHead's term over pooled statistics, over features that are not standardised.

    With z = (x - m) / s in every cell, s > 0: mean(z) = (mean(x) - m) / s, std(z) = std(x) / s and
    max(z) = (max(x) - m) / s. So statistics of z are (those of x - shift) * gain, and the gain goes
    into the weights. The shift stays: its difference is small where both its terms may be large.
    What holds for the whole grid holds for each window of it.
    """

    shift: Tensor

    def __init__(self, pooled: nn.Linear | Novelty, cells: Affine) -> None:
        super().__init__()
        gain = cells.weight.diagonal()
        mean = -cells.bias / gain
        shift = torch.cat([mean, torch.zeros_like(mean), mean])  # mean, deviation, maximum: [3C]
        gain = gain.repeat(3)
        self.term: nn.Linear | Novelty
        if isinstance(pooled, Novelty):
            # ((x - shift) * gain - mean) / scale = (x - shift - mean / gain) / (scale / gain)
            self.term = Novelty(len(shift), len(pooled.basis))
            self.term.mean.copy_(shift + pooled.mean / gain)
            self.term.scale.copy_(pooled.scale / gain)
            self.term.basis.copy_(pooled.basis)
            self.term.weight.copy_(pooled.weight)
            shift = torch.zeros(())
        else:
            # w ((x - shift) * gain) + b = (w * gain) (x - shift) + b
            self.term = nn.Linear(len(shift), 1)
            self.term.weight.copy_(pooled.weight * gain)
            self.term.bias.copy_(pooled.bias)
        self.register_buffer("shift", shift.float())

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Layers [N, C, h, w] on the merged grid, not standardised, to [N, 1] or [N, r, c]."""
        pool = _window_statistics if isinstance(self.term, Novelty) else _statistics
        means, deviations, maxima = zip(*map(pool, layers), strict=True)
        statistics = torch.cat([*means, *deviations, *maxima], dim=-1)
        term: Tensor = self.term(statistics - self.shift)
        return term


class _SuperSimpleNet(nn.Module):
    """SuperSimpleNetHead.

    Its 5 x 5 convolution is over features and map: a sum of one over each.
    """

    def __init__(self, head: SuperSimpleNetHead, cells: Affine, grids: Sequence[Grid]) -> None:
        super().__init__()
        size = grids[0].merged
        self.segmentation = _Segmentation(head, cells, grids, merged_anyway=False)
        first, norm, _ = head.classification
        whole = convolution(_conv(first), _norm(norm))
        over_features = Convolution(whole.weight[:, :-1], whole.bias)
        over_map = Convolution(whole.weight[:, -1:], torch.zeros_like(whole.bias))
        self.over_map = over_map.module()
        self.sees_adapted = head.variant == "icpr" and self.segmentation.adapt is not None
        self.over_features: nn.Module
        if self.sees_adapted:
            self.over_features = over_features.module()
        else:
            adapted = head.variant == "icpr"
            seen = linearly_adapted(head.adaptor, cells) if adapted else cells
            whole = after(seen, over_features, size)
            self.over_features = MergedConvolution(whole, grids, merged_anyway=False)
        self.decision = head.decision

    def forward(self, merged: Merged) -> tuple[Tensor, Tensor]:
        anomaly_map, adapted = self.segmentation(merged)
        seen = adapted if self.sees_adapted else merged
        hidden = F.relu(self.over_features(seen) + self.over_map(anomaly_map))
        pooled = [
            pool
            for values in (hidden, anomaly_map)
            for pool in (values.mean(dim=(2, 3)), values.amax(dim=(2, 3)))
        ]
        score: Tensor = self.decision(torch.cat(pooled, dim=1)).squeeze(1)
        return score, anomaly_map


class _GapCam(nn.Module):
    """GapCamHead."""

    def __init__(self, head: GapCamHead, cells: Affine, grids: Sequence[Grid]) -> None:
        super().__init__()
        first, norm, _ = head.convolution
        whole = after(cells, convolution(_conv(first), _norm(norm)), grids[0].merged)
        self.convolution = MergedConvolution(whole, grids, merged_anyway=False)
        self.classifier = head.classifier

    def forward(self, merged: Merged) -> tuple[Tensor, Tensor]:
        activation: Tensor = self.classifier(F.relu(self.convolution(merged)))
        return activation.mean(dim=(1, 2, 3)), activation


def linearly_adapted(adaptor: nn.Module, cells: Affine) -> Affine:
    """Cells after an adaptor that is linear, or none."""
    return cells if isinstance(adaptor, nn.Identity) else cells.then(_conv(adaptor))


def _statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and maximum of each channel, [N, C] each."""
    mean = values.mean(dim=(2, 3), keepdim=True)
    centred = values - mean
    deviation = (centred * centred).mean(dim=(2, 3)).sqrt()
    return mean.flatten(1), deviation, values.amax(dim=(2, 3))


def _window_statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and maximum of each channel in each window, [N, r, c, C] each.

    By pools, which never cut the grid into pieces: variance = mean(x^2) - mean(x)^2.
    """
    size, step = zip(*map(window_steps, values.shape[-2:]), strict=True)
    mean = F.avg_pool2d(values, size, step)
    variance = F.avg_pool2d(values * values, size, step) - mean * mean
    found = mean, variance.clamp(min=0).sqrt(), F.max_pool2d(values, size, step)
    # [N, C, r, c] -> [N, r, c, C]
    means, deviations, maxima = (one.permute(0, 2, 3, 1) for one in found)
    return means, deviations, maxima


def _conv(module: nn.Module) -> nn.Conv2d:
    return cast("nn.Conv2d", module)  # containers forget what they hold


def _norm(module: nn.Module) -> nn.BatchNorm2d:
    return cast("nn.BatchNorm2d", module)
