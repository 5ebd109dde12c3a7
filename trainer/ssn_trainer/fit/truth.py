"""What is known of each cell: from labels, from masks where they may be seen, and from noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssn_trainer.data.images import load_coverage
from ssn_trainer.data.samples import Sample
from ssn_trainer.fit.features import FLIP_AXES


@dataclass(frozen=True)
class Truth:
    """What is known of a batch."""

    bad: Tensor
    """bool [N]: the image shows a defect, or has noise in it."""
    anomalous: Tensor
    """bool [N, h, w]: the cell is known to be anomalous."""
    known: Tensor
    """bool [N, h, w]: the cell is known to be anomalous or known to be normal."""
    coverage: Tensor
    """float [N, h, w]: the share of the cell that is known to be defect, also where that is too
    little to call the cell anomalous and too much to call it normal."""

    def with_noise(self, masks: Tensor) -> "Truth":
        """Truth of the images and behind them of the same images with noise in `masks` [N, h, w].

        Under the noise a cell is anomalous, whatever was known of it before.
        """
        return Truth(
            torch.cat([self.bad, self.bad | masks.flatten(1).any(dim=1)]),
            torch.cat([self.anomalous, self.anomalous | masks]),
            torch.cat([self.known, self.known | masks]),
            torch.cat([self.coverage, self.coverage.masked_fill(masks, 1.0)]),
        )

    def cells(self, drawn: Tensor) -> "Truth":
        """Truth of some cells, long [M] into all of them [N * h * w], as of one image [1, M, 1]."""

        def of(values: Tensor) -> Tensor:
            return values.flatten()[drawn][None, :, None]  # [M] -> [1, M, 1]

        bad = self.bad.any(dim=0, keepdim=True)
        return Truth(bad, of(self.anomalous), of(self.known), of(self.coverage))

    def window(self, rows: slice, columns: slice) -> "Truth":
        """Return what is known of some rows and columns of cells; of the image what it was."""

        def of(values: Tensor) -> Tensor:
            return values[:, rows, columns]

        return Truth(self.bad, of(self.anomalous), of(self.known), of(self.coverage))

    @staticmethod
    def join(truths: "Sequence[Truth]") -> "Truth":
        """Return several batches of one grid as one."""
        return Truth(
            torch.cat([one.bad for one in truths]),
            torch.cat([one.anomalous for one in truths]),
            torch.cat([one.known for one in truths]),
            torch.cat([one.coverage for one in truths]),
        )

    def to(self, device: torch.device) -> "Truth":
        """Return the same on a device."""
        return Truth(
            self.bad.to(device),
            self.anomalous.to(device),
            self.known.to(device),
            self.coverage.to(device),
        )


class Truths:
    """What is known of some samples, on the feature grid; a mask is opened where a sample has one.

    All cells of a good image are known to be normal. In a bad image with a mask a cell is anomalous
    where the mask covers `mask_share` of it or more, normal where it covers nothing, and unknown
    between. A mask too fine for any cell marks those that it covers most. In a bad image without a
    mask nothing is known of any cell.
    """

    def __init__(self, samples: Sequence[Sample], grid: tuple[int, int], mask_share: float) -> None:
        """Read the masks on a grid of (h, w) cells. Raises DataError for one that does not fit."""
        self._grid = grid
        self._cells = {s.name: _cells(s, grid, mask_share) for s in samples if s.mask is not None}

    def batch(self, samples: Sequence[Sample], flips: Sequence[int]) -> Truth:
        """Return what is known of samples; `flips` says which mirror image of each."""
        nothing, everything = torch.zeros(self._grid).bool(), torch.ones(self._grid).bool()
        clear = torch.zeros(self._grid)
        anomalous, known, coverage = [], [], []
        for sample, flip in zip(samples, flips, strict=True):
            if sample.label == "good":
                cells = nothing, everything, clear
            else:
                cells = self._cells.get(sample.name, (nothing, nothing, clear))
            # The same axes as those of the image: [N, h, w]
            anomalous.append(cells[0][None].flip(FLIP_AXES[flip]))
            known.append(cells[1][None].flip(FLIP_AXES[flip]))
            coverage.append(cells[2][None].flip(FLIP_AXES[flip]))
        bad = torch.tensor([s.label == "bad" for s in samples])
        return Truth(bad, torch.cat(anomalous), torch.cat(known), torch.cat(coverage))


def _cells(
    sample: Sample, grid: tuple[int, int], mask_share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells are anomalous, which are known, bool [h, w] each, and the coverage [h, w]."""
    coverage = torch.from_numpy(load_coverage(sample, *grid))
    anomalous = (coverage > 0) & (coverage >= min(mask_share, float(coverage.max())))
    return anomalous, anomalous | (coverage == 0), coverage
