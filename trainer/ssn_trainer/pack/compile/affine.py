"""Linear layers in a row as one: batch norms, feature standardisation, adaptor, what follows."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


@dataclass(frozen=True)
class Affine:
    """z = weight @ x + bias in each cell; float64."""

    weight: Tensor
    """[D, C]"""
    bias: Tensor
    """[D]"""

    def then(self, layer: nn.Conv2d) -> "Affine":
        """This, then a 1 x 1 convolution: V (W x + b) + c = (V W) x + (V b + c)."""
        after = convolution(layer)
        weight = after.weight.flatten(1)  # [D', D, 1, 1] -> [D', D]
        return Affine(weight @ self.weight, weight @ self.bias + after.bias)


@dataclass(frozen=True)
class Convolution:
    """Weight and bias of a zero-padded convolution of odd size; float64."""

    weight: Tensor
    """[O, C, k, k]"""
    bias: Tensor
    """[O], or [O, h, w] where it differs near the border"""

    def module(self) -> nn.Conv2d:
        """Return it as a layer; its bias must be the same in all cells."""
        out, channels, size, _ = self.weight.shape
        layer = nn.Conv2d(channels, out, size, padding=size // 2)
        layer.load_state_dict({"weight": self.weight, "bias": self.bias})
        return layer


def standardisation(mean: Tensor, std: Tensor) -> Affine:
    """(x - mean) / std as diag(1 / std) x - mean / std; [C] each."""
    mean, std = mean.double().flatten(), std.double().flatten()
    return Affine(torch.diag(1 / std), -mean / std)


def convolution(layer: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Convolution:
    """A convolution with the batch norm after it, in evaluation.

    g (W x + b - m) / s + t = (g / s) W x + (g / s) (b - m) + t, s the root of the norm's variance
    and epsilon.
    """
    weight = layer.weight.double()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.double()
    if norm is not None:
        learned = {name: tensor.double() for name, tensor in norm.state_dict().items()}
        weight, bias = fuse_conv_bn_weights(
            weight,
            bias,
            learned["running_mean"],
            learned["running_var"],
            norm.eps,
            learned["weight"],
            learned["bias"],
        )
    return Convolution(weight.detach(), bias.detach())


def after(before: Affine, layer: Convolution, size: tuple[int, int]) -> Convolution:
    """A convolution of z = A x + a, on a grid of that size, as one of x.

    W * (A x + a) + b = (W A) * x + (W * a + b). The padding lies between them: beyond the border z
    is zero, not a. So W * a, the convolution of a grid that is a everywhere inside, is smaller near
    the border. Where k = 1 or a = 0 it is the same in all cells.
    """
    # [O, D, k, k], [D, C] -> [O, C, k, k]
    weight = torch.einsum("odyx,dc->ocyx", layer.weight, before.weight)
    taps = layer.weight.shape[-1]
    if taps == 1 or not before.bias.any():
        constant = layer.weight.sum(dim=(2, 3)) @ before.bias
        return Convolution(weight, constant + layer.bias)
    # [D] -> [1, D, h, w]
    grid = before.bias.reshape(1, -1, 1, 1).expand(-1, -1, *size)
    # [1, O, h, w] -> [O, h, w]
    constants = F.conv2d(grid, layer.weight, padding=taps // 2).squeeze(0)
    return Convolution(weight, constants + layer.bias[:, None, None])
