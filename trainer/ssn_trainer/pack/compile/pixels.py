"""The backbone on pixels less their mean: the scale is part of its first convolution."""

import copy

import torch
from torch import Tensor, nn


class PixelBackbone(nn.Module):
    """uint8 pixels to the backbone's layers.

    W * ((p - m) / s) = (W / s) * (p - m): the scale of each colour goes into the first
    convolution's weights. The mean does not: its padding is zero, which is the mean's place. Taken
    into the bias, pixels beyond the border would be black.
    """

    mean: Tensor
    scale: Tensor | None

    def __init__(
        self, backbone: nn.Module, mean: Tensor, std: Tensor, size: tuple[int, int]
    ) -> None:
        """Take mean and std [3], of 255, and the height and width of the images."""
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        # [3] -> [3, 1, 1]
        self.register_buffer("mean", mean[:, None, None])
        first = _first_convolution(self.backbone, size)
        if first is None:
            self.register_buffer("scale", 1 / std[:, None, None])
        else:
            self.register_buffer("scale", None)
            first.weight.div_(std[:, None, None])  # of each input channel

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [N, H, W, 3] to layer2 and layer3, as `Extractor.layers`."""
        # [N, H, W, 3] -> [N, 3, H, W], while a pixel is still one byte
        pixels = image.permute(0, 3, 1, 2).float() - self.mean
        layer2, layer3 = self.backbone(pixels if self.scale is None else pixels * self.scale)
        return layer2, layer3


def _first_convolution(backbone: nn.Module, size: tuple[int, int]) -> nn.Conv2d | None:
    """The plain convolution that alone takes the backbone's input; None where there is none.

    Plain: a subclass may do something else to its weights or input first.
    """
    image = torch.zeros(1, 3, *size)
    takers: list[nn.Module] = []

    def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and inputs[0] is image and not list(module.children()):
            takers.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in backbone.modules()]
    try:
        backbone(image)
    finally:
        for hook in hooks:
            hook.remove()
    first = takers[0] if len(takers) == 1 else None
    return first if type(first) is nn.Conv2d and first.groups == 1 else None
