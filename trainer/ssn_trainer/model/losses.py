"""The losses of SuperSimpleNet (ICPR 2024, section 3.5), with an optional mask of what counts."""

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that PyTorch's own documentation uses
from torch import Tensor


def truncated_l1(values: Tensor, target: Tensor, counts: Tensor, margin: float = 0.5) -> Tensor:
    """Truncated L1: normal values are pushed below -margin, anomalous ones above +margin.

    Mean of max(0, margin + value) over normal cells plus mean of max(0, margin - value) over
    anomalous cells. `values`: any shape; `target`, `counts`: bool of that shape, the latter says
    which cells take part. A side without cells adds nothing.
    """
    normal = values[counts & ~target]
    anomalous = values[counts & target]
    loss = values.new_zeros(())
    if normal.numel():
        loss = loss + (normal + margin).clamp(min=0).mean()
    if anomalous.numel():
        loss = loss + (margin - anomalous).clamp(min=0).mean()
    return loss


def coverage_loss(logits: Tensor, coverage: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of cells against the share of them that is defect.

    A map learned from such shares is finer than its grid: interpolated between cells, shares place
    an edge, where yes or no would make every cell that a thin defect touches as bad as its middle.
    `logits`, `coverage`: float of any shape; `counts`: bool of that shape. No cell gives 0.
    """
    if not counts.any():
        return logits.sum() * 0
    return F.binary_cross_entropy_with_logits(logits[counts], coverage[counts])


def focal(logits: Tensor, target: Tensor, counts: Tensor | None = None, gamma: float = 4) -> Tensor:
    """Focal loss: mean of -(1 - p)^gamma log(p), p the probability given to the true class.

    `logits`: any shape; `target`, `counts`: bool of that shape. No cell that counts gives 0.
    """
    if counts is not None:
        logits, target = logits[counts], target[counts]
    if not logits.numel():
        return logits.sum()
    # log(p) of the true class, stable for large logits
    log_p = F.logsigmoid(torch.where(target, logits, -logits))
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()
