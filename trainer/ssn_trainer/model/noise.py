"""Latent anomaly generation, in training only (SuperSimpleNet, section 3.3)."""

import math

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 32
"""Channels of the learned generator's latent z."""


def perlin(height: int, width: int, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Perlin gradient noise [height, width] on a lattice of rows x columns cells, about [-1, 1]."""
    angles = 2 * math.pi * torch.rand(rows + 1, columns + 1, generator=generator)
    gradients = torch.stack([angles.sin(), angles.cos()])  # [2 (y, x), rows + 1, columns + 1]
    y = (torch.arange(height) + 0.5) / height * rows
    x = (torch.arange(width) + 0.5) / width * columns
    iy, ix = y.long(), x.long()
    fy, fx = (y - iy)[:, None], (x - ix)[None, :]

    def corner(dy: int, dx: int) -> Tensor:
        gradient = gradients[:, iy + dy][:, :, ix + dx]  # [2, height, width]
        return gradient[0] * (fy - dy) + gradient[1] * (fx - dx)

    def fade(t: Tensor) -> Tensor:
        return t * t * t * (t * (t * 6 - 15) + 10)

    top = torch.lerp(corner(0, 0), corner(0, 1), fade(fx))
    bottom = torch.lerp(corner(1, 0), corner(1, 1), fade(fx))
    return math.sqrt(2) * torch.lerp(top, bottom, fade(fy))


def noise_masks(
    count: int, height: int, width: int, threshold: float, generator: torch.Generator
) -> Tensor:
    """Binarised Perlin noise, bool [count, height, width]; every second mask is empty.

    The lattice has 1 to 32 cells a side (powers of two), never finer than two grid cells each.
    """
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    filled = torch.randperm(count, generator=generator)[: (count + 1) // 2]
    for index in filled.tolist():
        exponents = torch.randint(0, 6, (2,), generator=generator).tolist()
        rows = min(2 ** exponents[0], max(1, height // 2))
        columns = min(2 ** exponents[1], max(1, width // 2))
        masks[index] = perlin(height, width, rows, columns, generator) > threshold
    return masks


def draw_noise(masks: Tensor, channels: int, sigma: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise N(0, sigma^2), [N, channels, h, w], zero where `masks` [N, h, w] is false."""
    count, height, width = masks.shape
    noise = torch.zeros(count, channels, height, width)
    noise = noise.contiguous(memory_format=torch.channels_last)
    for index in masks.flatten(1).any(dim=1).nonzero().flatten().tolist():
        # Drawn for noisy cells alone: most are not, and drawing is slow.
        cells = int(masks[index].sum())
        # [cells, channels] -> [channels, cells]
        noise[index][:, masks[index]] = sigma * torch.randn(cells, channels, generator=generator).T
    return noise


class NoiseGenerator(nn.Module):
    """Learned noise of SuperSimpleNet-Evolved: tanh(G(features, z)) x beta, z ~ N(0, I).

    G is three 1 x 1 convolutions over the adapted features and the latent z, concatenated. It is
    trained against the heads and never packed.
    """

    def __init__(self, channels: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.layers = nn.Sequential(
            nn.Conv2d(channels + LATENT_CHANNELS, channels, kernel_size=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, kernel_size=1),
        )

    def forward(self, adapted: Tensor, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Noise [N, C, h, w] for adapted features, zero where `masks` bool [N, h, w] is false."""
        count, _, height, width = adapted.shape
        z = torch.randn(count, LATENT_CHANNELS, height, width, generator=generator)
        made: Tensor = self.layers(torch.cat([adapted, z.to(adapted)], dim=1))
        # [N, h, w] -> [N, 1, h, w]
        return self.beta * made.tanh() * masks[:, None].to(adapted)


class _Reversed(torch.autograd.Function):
    """The identity, with the gradient's sign turned (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return -gradient


def against(noise: Tensor) -> Tensor:
    """Noise whose maker climbs the loss that the heads descend, in one backward pass."""
    reversed_: Tensor = _Reversed.apply(noise)
    return reversed_
