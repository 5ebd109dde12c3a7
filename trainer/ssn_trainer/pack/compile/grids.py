"""What moves values between grids, as constant matrices.

Bilinear enlargement, average pooling, border repetition and Gaussian smoothing are linear, act on
each channel alone, and on rows and columns alike. So any chain of them is `rows @ x @ columns` for
a channel x [h, w], with two small matrices that are made once.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn


def matrix(operation: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """Matrix [out, size], float64, of a linear operation on lines, [N, 1, size] -> [N, 1, out].

    Column j is what the operation makes of the j-th unit vector.
    """
    units = torch.eye(size, dtype=torch.float64)[:, None]  # [size, size] -> [size, 1, size]
    answers = operation(units).squeeze(1)  # [size, 1, out] -> [size, out]
    return answers.T.contiguous()


def merging(size: int, merged: int) -> Tensor:
    """Matrix [merged, size] of `Extractor.merge` along one axis: enlarged, then pooled by 3.

    The two-dimensional pool divides by 9 also at the border, so by 3 along each axis.
    """
    return matrix(lambda lines: _pool(_enlarge(lines, merged)), size)


def smoothing(size: int, enlarged: int, kernel: Tensor) -> Tensor:
    """Matrix [enlarged, size] of `Network.enlarge` along one axis; `kernel`: its Gaussian, [K]."""
    radius = kernel.numel() // 2

    def smooth(lines: Tensor) -> Tensor:
        padded = F.pad(_enlarge(lines, enlarged), (radius, radius), mode="replicate")
        # [K] -> [1, 1, K]
        return F.conv1d(padded, kernel.double().reshape(1, 1, -1))

    return matrix(smooth, size)


def shifted(rows: Tensor, taps: int) -> Tensor:
    """What each tap of a zero-padded convolution of odd length sees: [out, in] -> [taps, out, in].

    The convolution is y_i = sum over d of w_d x_(i + d - taps // 2). Where x = A z, tap d sees the
    rows of A moved by d - taps // 2, and zeros from beyond the border.
    """
    radius = taps // 2
    padded = F.pad(rows, (0, 0, radius, radius))
    return torch.stack([padded[tap : tap + len(rows)] for tap in range(taps)])


class Merge(nn.Module):
    """One layer of the backbone on the merged grid: [N, C, h, w] -> [N, C, merged h, merged w]."""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: tuple[int, int], merged: tuple[int, int]) -> None:
        super().__init__()
        self.same = size == merged
        self.register_buffer("rows", merging(size[0], merged[0]).float())
        self.register_buffer("columns", merging(size[1], merged[1]).T.float().contiguous())

    def forward(self, layer: Tensor) -> Tensor:
        """As `Extractor.merge`, for this layer's channels."""
        if self.same:  # nothing is enlarged, and pooling alone is cheaper than two products
            return F.avg_pool2d(layer, kernel_size=3, stride=1, padding=1)
        merged: Tensor = self.rows @ (layer @ self.columns)
        return merged


class Enlarge(nn.Module):
    """The map on the grid to the smoothed map at the image's size."""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: tuple[int, int], enlarged: tuple[int, int], kernel: Tensor) -> None:
        super().__init__()
        rows, columns = (smoothing(a, b, kernel) for a, b in zip(size, enlarged, strict=True))
        self.register_buffer("rows", rows.float())
        self.register_buffer("columns", columns.T.float().contiguous())

    def forward(self, anomaly_map: Tensor) -> Tensor:
        """[N, 1, h, w] -> [N, H, W], as `Network.enlarge`."""
        enlarged: Tensor = self.rows @ (anomaly_map.squeeze(1) @ self.columns)
        return enlarged


def _enlarge(lines: Tensor, size: int) -> Tensor:
    return F.interpolate(lines, size, mode="linear", align_corners=False)


def _pool(lines: Tensor) -> Tensor:
    return F.avg_pool1d(lines, kernel_size=3, stride=1, padding=1)
