"""The whole network, as it is packed: pixels to a raw score and a raw map at the input's size."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn

from ssn_trainer.model.extractor import Extractor
from ssn_trainer.model.heads import AnyHead

SMOOTHING = 4.0
"""Standard deviation in pixels of the map's Gaussian for an input of 256 x 256, as published."""


class Network(nn.Module):
    """Extractor, per-channel standardisation, head, then the map enlarged and smoothed."""

    feature_mean: Tensor
    feature_std: Tensor
    kernel: Tensor

    def __init__(
        self,
        extractor: Extractor,
        head: AnyHead,
        height: int,
        width: int,
        smoothing: float = SMOOTHING,
    ) -> None:
        """Take parts that fit together, for an input of height x width pixels."""
        super().__init__()
        self.extractor = extractor
        self.head = head
        self.height, self.width = height, width
        self.register_buffer("feature_mean", torch.zeros(1, extractor.channels, 1, 1))
        self.register_buffer("feature_std", torch.ones(1, extractor.channels, 1, 1))
        self.register_buffer("kernel", _gaussian(smoothing * math.sqrt(height * width) / 256))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Standardise features by these per-channel values [C] from now on."""
        # [C] -> [1, C, 1, 1]
        self.feature_mean.copy_(mean.reshape(1, -1, 1, 1))
        self.feature_std.copy_(std.reshape(1, -1, 1, 1))

    def features(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        """Backbone layers to what the head takes, [N, C, h, w]: merged and standardised."""
        merged = self.extractor.merge(layer2, layer3)
        return (merged - self.feature_mean.to(merged)) / self.feature_std.to(merged)

    def enlarge(self, anomaly_map: Tensor) -> Tensor:
        """Map on the grid [N, 1, h, w] to [N, height, width]: bilinear, then Gaussian."""
        size = (self.height, self.width)
        enlarged = F.interpolate(anomaly_map, size, mode="bilinear", align_corners=False)
        radius = self.kernel.numel() // 2
        # Repeating the border keeps it at its own level, where zeros would pull it to "unsure".
        padded = F.pad(enlarged, (radius, radius, radius, radius), mode="replicate")
        # [K] -> [1, 1, K, 1] and [1, 1, 1, K]
        rows = F.conv2d(padded, self.kernel.reshape(1, 1, -1, 1))
        return F.conv2d(rows, self.kernel.reshape(1, 1, 1, -1)).squeeze(1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [N, H, W, 3] to raw scores [N] and raw maps [N, H, W]."""
        score, anomaly_map = self.head(self.features(*self.extractor.layers(image)))
        return score, self.enlarge(anomaly_map)


def _gaussian(sigma: float) -> Tensor:
    """Gaussian weights out to four standard deviations, [K], K odd, summing to 1."""
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return (weights / weights.sum()).float()
