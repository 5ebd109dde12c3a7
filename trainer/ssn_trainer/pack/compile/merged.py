"""Convolutions over the merged features, done on each layer's own grid where that is less work."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssn_trainer.pack.compile.affine import Convolution
from ssn_trainer.pack.compile.grids import Merge, merging, shifted

_PRODUCT_COST = 4
"""What a multiply-add costs in the small matrix products between grids, against one in a
convolution: of 2, 4, 8 the best in ONNX Runtime and OpenVINO, fp32 and bf16."""


@dataclass(frozen=True)
class Grid:
    """A layer of the backbone, and the merged grid that it is brought to."""

    channels: int
    size: tuple[int, int]
    merged: tuple[int, int]


class Merged:
    """The layers of some images, each brought to the merged grid once, when first asked for."""

    def __init__(self, layers: Sequence[Tensor], merges: Sequence[nn.Module]) -> None:
        """Take layers [N, C, h, w] and what brings each of them to the merged grid."""
        self.layers = layers
        self._merges = merges
        self._whole: dict[int, Tensor] = {}

    def whole(self, index: int) -> Tensor:
        """Return a layer's features on the merged grid."""
        if index not in self._whole:
            self._whole[index] = self._merges[index](self.layers[index])
        return self._whole[index]


class MergedConvolution(nn.Module):
    """A zero-padded convolution over all merged features, layer by layer.

    Merged features are M_1 x_1 and M_2 x_2, concatenated: M_l acts on each channel alone. A
    convolution over them is the sum of two, over the channels of each. For a 1 x 1 convolution
    W_l (M_l x_l) = M_l (W_l x_l): one mixes channels, the other cells. A k x k convolution is k * k
    of 1 x 1, each on cells shifted by a tap, so it can be brought before M_l as well. The bias is
    added last: M_l, whose pool is zero-padded, would make it smaller near the border.
    """

    bias: Tensor | None

    def __init__(self, whole: Convolution, grids: Sequence[Grid], *, merged_anyway: bool) -> None:
        """Cut `whole` at the layers' channels.

        `merged_anyway`: layers are brought to the merged grid for something else, too.
        """
        super().__init__()
        weights = torch.split(whole.weight, [grid.channels for grid in grids], dim=1)
        # One that is the same in all cells costs nothing in a convolution that comes last.
        bias, nothing = whole.bias, torch.zeros_like(whole.bias)
        self.parts = nn.ModuleList()
        for weight, grid in zip(weights, grids, strict=True):
            if _on_own_grid_is_less(weight, grid, merged_anyway=merged_anyway):
                self.parts.append(OnOwnGrid(weight, grid))
            elif bias.dim() == 1:
                self.parts.append(Convolution(weight, bias).module())
                bias = nothing
            else:
                self.parts.append(Convolution(weight, nothing[:, 0, 0]).module())
        # [O] -> [O, 1, 1]
        bias = bias if bias.dim() == 3 else bias[:, None, None]
        self.register_buffer("bias", bias.float() if bias.any() else None)

    def forward(self, merged: Merged) -> Tensor:
        """Both layers to the convolution's answer [N, O, h, w] on the merged grid."""
        first, second = (
            part(merged.layers[index] if isinstance(part, OnOwnGrid) else merged.whole(index))
            for index, part in enumerate(self.parts)
        )
        total: Tensor = first + second
        return total if self.bias is None else total + self.bias


class OnOwnGrid(nn.Module):
    """A k x k convolution over one layer's merged features, mixing channels on the layer's grid.

    With merged features R x C of each channel, and R_i, C_j as tap (i, j) sees them (`shifted`):
    y = sum over i, j of R_i (W_ij x) C_j. The columns are summed for each j; then the rows of all i
    are one product, [R_1 R_2 ...] over the answers of all i, one under the other.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, weight: Tensor, grid: Grid) -> None:
        """Take weight [O, C, k, k], without a bias."""
        super().__init__()
        self.out, channels, self.taps, _ = weight.shape
        (height, width), (merged_height, merged_width) = grid.size, grid.merged
        self.stacked = self.taps * height
        rows = shifted(merging(height, merged_height), self.taps)
        columns = shifted(merging(width, merged_width), self.taps)
        # [k, h', h] -> [h', k, h] -> [h', k * h]
        self.register_buffer("rows", rows.permute(1, 0, 2).flatten(1).float())
        # [k, w', w] -> [k, w, w']
        self.register_buffer("columns", columns.permute(0, 2, 1).float().contiguous())
        self.mixes = nn.ModuleList()
        for tap in range(self.taps):
            mix = nn.Conv2d(channels, self.out * self.taps, kernel_size=1, bias=False)
            # [O, C, k] -> [O, k, C] -> [O * k, C, 1, 1]
            mix.weight.copy_(weight[..., tap].permute(0, 2, 1).flatten(0, 1)[..., None, None])
            self.mixes.append(mix)

    def forward(self, layer: Tensor) -> Tensor:
        """One layer [N, C, h, w] to [N, O, h', w']."""
        wide = self.mixes[0](layer) @ self.columns[0]  # [N, O * k, h, w']
        for tap in range(1, self.taps):
            wide = wide + self.mixes[tap](layer) @ self.columns[tap]
        # [N, O * k, h, w'] -> [N, O, k * h, w']
        stacked = wide.reshape(-1, self.out, self.stacked, wide.shape[-1])
        answer: Tensor = self.rows @ stacked
        return answer


def merge_modules(grids: Sequence[Grid]) -> nn.ModuleList:
    """What brings each layer to the merged grid."""
    return nn.ModuleList(Merge(grid.size, grid.merged) for grid in grids)


def _on_own_grid_is_less(weight: Tensor, grid: Grid, *, merged_anyway: bool) -> bool:
    """Compare the work of both orders. A layer that is not enlarged is only pooled: never less."""
    if grid.size == grid.merged:
        return False
    out, channels, taps, _ = weight.shape
    mixing = taps * taps * out * channels
    late = mixing * math.prod(grid.merged)
    if not merged_anyway:
        late += _PRODUCT_COST * _products(grid, channels, 1)
    early = mixing * math.prod(grid.size) + _PRODUCT_COST * _products(grid, out, taps)
    return early < late


def _products(grid: Grid, maps: int, taps: int) -> int:
    """Multiply-adds of the products that bring maps to the merged grid, for all taps of each."""
    (height, width), (merged_height, merged_width) = grid.size, grid.merged
    columns = taps * taps * height * width * merged_width
    rows = merged_height * taps * height * merged_width
    return maps * (columns + rows)
