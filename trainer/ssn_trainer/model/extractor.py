"""The feature extractor: pixels to merged features (SuperSimpleNet, section 3.1)."""

from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor, nn

from ssn_trainer.errors import WeightsError


class Extractor(nn.Module):
    """uint8 pixels to features of a backbone that is frozen, unless `fit.end_to_end` trains it."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, upscale: int) -> None:
        """`upscale` is the merged grid over layer2's own: 2 as published, 1 for a coarser grid."""
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(requires_grad=False)
        untyped = cast("Any", backbone)  # as timm is
        self.channels: int = sum(untyped.feature_info.channels())
        self.upscale = upscale
        self.pixel_mean: tuple[float, float, float] = tuple(untyped.pretrained_cfg["mean"])
        """Mean of each colour, of 1: the backbone's own preprocessing."""
        self.pixel_std: tuple[float, float, float] = tuple(untyped.pretrained_cfg["std"])
        """Standard deviation of each colour, likewise."""
        self.register_buffer("mean", torch.tensor(self.pixel_mean) * 255)
        self.register_buffer("std", torch.tensor(self.pixel_std) * 255)

    def train(self, mode: bool = True) -> "Extractor":
        """Stay in eval mode: the backbone's batch norm statistics are part of its weights."""
        super().train(mode)
        self.backbone.eval()
        return self

    def layers(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [N, H, W, 3] to layer2 [N, C2, H/8, W/8] and layer3 [N, C3, H/16, W/16].

        Called so after ResNet's: any backbone's stages of stride 8 and 16.
        """
        normalised = (image.float() - self.mean) / self.std
        # [N, H, W, 3] -> [N, 3, H, W]
        layer2, layer3 = self.backbone(normalised.permute(0, 3, 1, 2))
        return layer2, layer3

    def layer_shapes(self, height: int, width: int) -> tuple[torch.Size, torch.Size]:
        """Shapes [C, h, w] of layer2 and layer3 for one input of height x width pixels.

        Raises WeightsError where the backbone takes no such input, or gives something else.
        """
        blank = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=self.mean.device)
        wanted = [(-(-height // stride), -(-width // stride)) for stride in (8, 16)]
        try:
            with torch.inference_mode():
                layers = self.layers(blank)
        except (AssertionError, RuntimeError) as error:
            msg = f"the backbone takes no input of {width} x {height} pixels ({error})"
            raise WeightsError(
                f"{msg}; give another --image-size, or another --backbone"
            ) from error
        shapes = [layer.shape[1:] for layer in layers]
        if [tuple(s[1:]) for s in shapes] != wanted or sum(s[0] for s in shapes) != self.channels:
            msg = f"the backbone gives features of {shapes}, where grids of {wanted} are needed"
            raise WeightsError(f"{msg}; use another --backbone, as resnet18")
        return shapes[0], shapes[1]

    def merge(self, layer2: Tensor, layer3: Tensor) -> Tensor:
        """Both layers on one grid, concatenated, each cell averaged with its 8 neighbours.

        Returns [N, C2 + C3, H/8 * upscale, W/8 * upscale].
        """
        size = (layer2.shape[-2] * self.upscale, layer2.shape[-1] * self.upscale)
        grids = [
            F.interpolate(layer, size, mode="bilinear", align_corners=False)
            if layer.shape[-2:] != size
            else layer
            for layer in (layer2, layer3)
        ]
        return F.avg_pool2d(torch.cat(grids, dim=1), kernel_size=3, stride=1, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """uint8 RGB [N, H, W, 3] to merged features [N, C, h, w]."""
        return self.merge(*self.layers(image))
