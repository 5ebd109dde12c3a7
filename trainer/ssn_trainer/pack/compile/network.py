"""The whole compiled network: the same function as `Network`, for one size of image."""

import torch
from torch import Tensor, nn

from ssn_trainer.model.network import Network
from ssn_trainer.pack.compile.affine import standardisation
from ssn_trainer.pack.compile.grids import Enlarge
from ssn_trainer.pack.compile.heads import compile_head
from ssn_trainer.pack.compile.merged import Grid, Merged, merge_modules
from ssn_trainer.pack.compile.pixels import PixelBackbone


class Compiled(nn.Module):
    """What `compile_network` returns; for inference alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.height, self.width = network.height, network.width
        extractor = network.extractor
        shapes = extractor.layer_shapes(network.height, network.width)
        height, width = (side * extractor.upscale for side in shapes[0][1:])
        grids = [Grid(c, (h, w), (height, width)) for c, h, w in shapes]
        cells = standardisation(network.feature_mean, network.feature_std)
        size = network.height, network.width
        self.backbone = PixelBackbone(extractor.backbone, extractor.mean, extractor.std, size)
        self.merges = merge_modules(grids)
        self.head = compile_head(network.head, cells, grids)
        self.enlarge = Enlarge((height, width), size, network.kernel)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [N, H, W, 3] to raw scores [N] and raw maps [N, H, W]."""
        score, anomaly_map = self.head(Merged(self.backbone(image), list(self.merges)))
        return score, self.enlarge(anomaly_map)


def compile_network(network: Network) -> Compiled:
    """Return a network that computes what `network` does, up to rounding, with less work.

    `network` is on the CPU and in evaluation, and is left as it is. Weights are combined in float64
    and rounded once. Batch norms inside the backbone are left to the exporter, which folds them.
    """
    with torch.no_grad():
        return Compiled(network).eval().requires_grad_(requires_grad=False)
