"""Merged features to a raw score and a raw map: SuperSimpleNet's heads, and GAP+CAM."""

from typing import Literal

import torch
from torch import Tensor, nn

Variant = Literal["icpr", "jims"]


class SuperSimpleNetHead(nn.Module):
    """Adaptor, segmentation head and classification head (SuperSimpleNet, sections 3.2 and 3.4).

    `variant`: the classification head sees adapted features (icpr) or unadapted ones (jims).
    `top_share`: with 0 the score is the classification head's alone, as published; otherwise the
    mean over that share of the map's highest values is added, which averages no small defect away.
    `cls_channels`: with 0 there is no classification head, and that mean alone is the score.
    """

    def __init__(
        self, channels: int, hidden: int, cls_channels: int, variant: Variant, top_share: float
    ) -> None:
        super().__init__()
        self.variant = variant
        self.top_share = top_share
        self.adaptor = nn.Conv2d(channels, channels, kernel_size=1)
        self.segmentation = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=1),
            nn.BatchNorm2d(hidden),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden, 1, kernel_size=1, bias=False),
        )
        self.classifies = cls_channels > 0
        if self.classifies:
            self.classification = nn.Sequential(
                nn.Conv2d(channels + 1, cls_channels, kernel_size=5, padding=2),
                nn.BatchNorm2d(cls_channels),
                nn.ReLU(),
            )
            self.decision = nn.Linear(2 * cls_channels + 2, 1)
        for layer in (self.adaptor, self.segmentation[0], self.segmentation[3]):
            nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]  # convolutions all

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Merged features [N, C, h, w] to raw scores [N] and raw maps [N, 1, h, w]."""
        adapted = self.adaptor(features)
        anomaly_map = self.segmentation(adapted)
        return self.classify(features, adapted, anomaly_map), anomaly_map

    def classify(self, features: Tensor, adapted: Tensor, anomaly_map: Tensor) -> Tensor:
        """Raw score [N] from features and map; cut the map's gradient before it where wanted."""
        terms = []
        if self.classifies:
            seen = adapted if self.variant == "icpr" else features
            hidden = self.classification(torch.cat([seen, anomaly_map], dim=1))
            pooled = [pool(t) for t in (hidden, anomaly_map) for pool in (_average, _maximum)]
            terms.append(self.decision(torch.cat(pooled, dim=1)).squeeze(1))
        if self.top_share:
            # [N, 1, h, w] -> [N, h * w] -> [N, k]
            cells = anomaly_map.flatten(1)
            k = max(1, round(self.top_share * cells.shape[1]))
            terms.append(cells.topk(k, dim=1).values.mean(dim=1))
        return torch.stack(terms).sum(dim=0)


class GapCamHead(nn.Module):
    """Weak head of SuperSimpleNet-Evolved: convolution, global average pooling, linear classifier.

    Average pooling and the classifier commute, so the class activation map is computed first and
    the score is its mean. Needs no masks.
    """

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


def _average(values: Tensor) -> Tensor:
    """Average pooling over the grid: [N, C, h, w] -> [N, C]."""
    return values.mean(dim=(2, 3))


def _maximum(values: Tensor) -> Tensor:
    """Maximum pooling over the grid: [N, C, h, w] -> [N, C]."""
    return values.amax(dim=(2, 3))
