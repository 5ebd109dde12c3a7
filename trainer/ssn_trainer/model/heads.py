"""Merged features to a raw score and a raw map: SuperSimpleNet's heads, and GAP+CAM."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn

from ssn_contract.manifest import Head

Variant = Literal["icpr", "jims"]
Adaptor = Literal["linear", "nonlinear", "none"]
_WINDOWS = 4
"""Rows and columns of windows that novelty is looked for in."""


class SuperSimpleNetHead(nn.Module):
    """Adaptor, segmentation head and classification head (SuperSimpleNet, sections 3.2 and 3.4).

    `variant`: the classification head sees adapted features (icpr) or unadapted ones (jims).
    """

    kind = Head.SUPERSIMPLENET

    def __init__(
        self,
        channels: int,
        hidden: int,
        cls_channels: int,
        variant: Variant,
        adaptor: Adaptor = "linear",
    ) -> None:
        super().__init__()
        self.variant = variant
        self.adaptor = _adaptor(channels, adaptor)
        self.segmentation = _segmentation(channels, hidden)
        self.classification = nn.Sequential(
            nn.Conv2d(channels + 1, cls_channels, kernel_size=5, padding=2),
            nn.BatchNorm2d(cls_channels),
            nn.ReLU(),
        )
        self.decision = nn.Linear(2 * cls_channels + 2, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Merged features [N, C, h, w] to raw scores [N] and raw maps [N, 1, h, w]."""
        adapted = self.adaptor(features)
        anomaly_map = self.segmentation(adapted)
        return self.classify(features, adapted, anomaly_map), anomaly_map

    def classify(self, features: Tensor, adapted: Tensor, anomaly_map: Tensor) -> Tensor:
        """Raw score [N] from features and map; cut the map's gradient before it where wanted."""
        seen = adapted if self.variant == "icpr" else features
        hidden = self.classification(torch.cat([seen, anomaly_map], dim=1))
        pooled = [pool(t) for t in (hidden, anomaly_map) for pool in (_average, _maximum)]
        score: Tensor = self.decision(torch.cat(pooled, dim=1)).squeeze(1)
        return score


class LeanHead(nn.Module):
    """Adaptor and segmentation head as published, and a score that needs no convolution.

    The score is the mean of the highest map values, of `highest_share` of the cells, so that no
    small defect is averaged away. A second term over pooled features is added, which sees what no
    single cell shows (uneven light, a wrong grain). With `labels` it is a linear one over the whole
    image. Without them it is how far the features of windows lie from those of good parts: the most
    of any window is added to the score, and that of each to the map. Its weights are set from
    outside, not by gradients.
    """

    kind = Head.LEAN

    def __init__(
        self,
        channels: int,
        hidden: int,
        highest_share: float,
        adaptor: Adaptor = "linear",
        *,
        labels: bool,
        directions: int = 0,
    ) -> None:
        super().__init__()
        self.highest_share = highest_share
        self.adaptor = _adaptor(channels, adaptor)
        self.segmentation = _segmentation(channels, hidden)
        self.pooled = nn.Linear(3 * channels, 1) if labels else Novelty(3 * channels, directions)
        for parameter in self.pooled.requires_grad_(requires_grad=False).parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Merged features [N, C, h, w] to raw scores [N] and raw maps [N, 1, h, w]."""
        anomaly_map: Tensor = self.segmentation(self.adaptor(features))
        score = self.highest(anomaly_map)
        term: Tensor = self.pooled(self.statistics(features))
        if isinstance(self.pooled, Novelty):
            anomaly_map = anomaly_map + F.interpolate(
                term[:, None], anomaly_map.shape[-2:], mode="bilinear", align_corners=False
            )
        return score + term.flatten(1).amax(dim=1), anomaly_map

    def statistics(self, features: Tensor) -> Tensor:
        """What the pooled term looks at: [N, C, h, w] -> [N, 3C], or of windows [N, r, c, 3C]."""
        novelty = isinstance(self.pooled, Novelty)
        return pooled_statistics(windows(features) if novelty else features)

    def highest(self, anomaly_map: Tensor) -> Tensor:
        """Mean over the highest `highest_share` of the map's values: [N, 1, h, w] -> [N]."""
        cells = anomaly_map.flatten(1)  # [N, 1, h, w] -> [N, h * w]
        k = max(1, round(self.highest_share * cells.shape[1]))
        return cells.topk(k, dim=1).values.mean(dim=1)


def sum_head(heads: Sequence[LeanHead], weights: Sequence[float]) -> LeanHead:
    """One head whose map is the weighed sum of several heads' maps: exact, a stack of their units.

    Each begins with linear layers, W (A x + a) + w, which are one: (W A) x + (W a + w). Stacked,
    they feed one batch norm, and the last layer weighs what each would give. The heads have a
    linear adaptor or none; the term over pooled features is that of an untrained first head.
    """
    first = heads[0]
    fused = [_fuse(head.adaptor, head.segmentation[0]) for head in heads]
    hidden, channels = torch.cat([weight for weight, _ in fused]).shape
    labels = isinstance(first.pooled, nn.Linear)
    directions = 0 if isinstance(first.pooled, nn.Linear) else len(first.pooled.basis)
    share = first.highest_share
    head = LeanHead(channels, hidden, share, "none", labels=labels, directions=directions)
    norms = [one.segmentation[1].state_dict() for one in heads]
    lasts = [one.segmentation[3].state_dict()["weight"] for one in heads]
    state = {
        # [hidden, C] -> [hidden, C, 1, 1]
        "0.weight": torch.cat([weight for weight, _ in fused])[:, :, None, None],
        "0.bias": torch.cat([bias for _, bias in fused]),
        "3.weight": torch.cat([k * last for k, last in zip(weights, lasts, strict=True)], dim=1),
    }
    for name, value in norms[0].items():
        stacked = torch.cat([norm[name] for norm in norms]) if value.ndim else value
        state[f"1.{name}"] = stacked
    head.segmentation.load_state_dict(state)
    return head.to(fused[0][0].device).eval()


def _fuse(adaptor: nn.Module, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight [hidden, C] and bias [hidden] of two 1 x 1 convolutions, one behind the other."""
    outer = layer.state_dict()
    w = outer["weight"].double().squeeze(-1).squeeze(-1)  # [out, in, 1, 1] -> [out, in]
    bias = outer["bias"].double()
    if isinstance(adaptor, nn.Identity):
        return w, bias
    inner = adaptor.state_dict()
    a = inner["weight"].double().squeeze(-1).squeeze(-1)  # [in, C, 1, 1] -> [in, C]
    return w @ a, w @ inner["bias"].double() + bias


class Novelty(nn.Module):
    """How far statistics lie from what good parts span: log of the squared PCA residual, weighed.

    Principal directions of the good parts' statistics are what good parts differ in; what is left
    beside them is new. Until it is set it is nothing.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor
    weight: Tensor

    def __init__(self, statistics: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("scale", torch.ones(statistics))
        self.register_buffer("basis", torch.zeros(directions, statistics))
        self.register_buffer("weight", torch.zeros(()))

    def residual(self, statistics: Tensor) -> Tensor:
        """Statistics [..., S] to the log of the mean square beside the directions, [...]."""
        normal = (statistics.float() - self.mean) / self.scale
        beside = normal - (normal @ self.basis.T) @ self.basis
        return beside.square().mean(dim=-1).clamp(min=1e-12).log()

    def forward(self, statistics: Tensor) -> Tensor:
        """Statistics [..., S] to this term, [...]."""
        return self.weight * self.residual(statistics)


def windows(features: Tensor) -> Tensor:
    """Windows of one size, in rows and columns: [N, C, h, w] -> [N, 4, 4, C, h', w'].

    Together they hold every cell; where 4 does not divide a side, neighbours share some. A side of
    fewer cells has a window for each.
    """
    height, width = features.shape[-2:]
    rows = torch.stack([features[:, :, y] for y in _spans(height)], dim=1)
    return torch.stack([rows[..., x] for x in _spans(width)], dim=2)


def window_grid(size: tuple[int, int]) -> tuple[int, int]:
    """How many rows and columns of windows a grid of that size has."""
    return min(_WINDOWS, size[0]), min(_WINDOWS, size[1])


def window_steps(size: int) -> tuple[int, int]:
    """Cells of a window along a side of that size, and from one window to the next."""
    count = min(_WINDOWS, size)
    step = size // count
    return size - (count - 1) * step, step


def _spans(size: int) -> list[slice]:
    length, step = window_steps(size)
    return [slice(n * step, n * step + length) for n in range(min(_WINDOWS, size))]


def pooled_statistics(features: Tensor) -> Tensor:
    """Mean, standard deviation and maximum of each channel: [..., C, h, w] -> [..., 3C]."""
    grid = (-2, -1)
    deviation = features.var(dim=grid, correction=0).sqrt()
    return torch.cat([features.mean(dim=grid), deviation, features.amax(dim=grid)], dim=-1)


class GapCamHead(nn.Module):
    """Weak head of SuperSimpleNet-Evolved: convolution, global average pooling, linear classifier.

    Average pooling and the classifier commute, so the class activation map is computed first and
    the score is its mean. Needs no masks.
    """

    kind = Head.GAP_CAM

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.convolution = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.classifier = nn.Conv2d(hidden, 1, kernel_size=1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Merged features [N, C, h, w] to raw scores [N] and class activation maps [N, 1, h, w]."""
        activation: Tensor = self.classifier(self.convolution(features))
        return _average(activation).squeeze(1), activation


def _adaptor(channels: int, kind: Adaptor) -> nn.Module:
    """Feature adaptor: one linear layer for every cell, or as SuperSimpleNet-Evolved has it."""
    if kind == "none":
        return nn.Identity()
    if kind == "nonlinear":
        return nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
    adaptor = nn.Conv2d(channels, channels, kernel_size=1)
    nn.init.xavier_normal_(adaptor.weight)
    return adaptor


def _segmentation(channels: int, hidden: int) -> nn.Sequential:
    """Segmentation head: adapted features [N, C, h, w] to a map [N, 1, h, w]."""
    first = nn.Conv2d(channels, hidden, kernel_size=1)
    last = nn.Conv2d(hidden, 1, kernel_size=1, bias=False)
    for layer in (first, last):
        nn.init.xavier_normal_(layer.weight)
    return nn.Sequential(first, nn.BatchNorm2d(hidden), nn.LeakyReLU(0.2), last)


def _average(values: Tensor) -> Tensor:
    """Average pooling over the grid: [N, C, h, w] -> [N, C]."""
    return values.mean(dim=(2, 3))


def _maximum(values: Tensor) -> Tensor:
    """Maximum pooling over the grid: [N, C, h, w] -> [N, C]."""
    return values.amax(dim=(2, 3))


AnyHead = SuperSimpleNetHead | LeanHead | GapCamHead
