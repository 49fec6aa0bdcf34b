"""Losses, each a pure function of a published formula."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_wise_binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Deep pixel-wise binary supervision, Eq. 6 of the Auto-FAS paper.

    ``L = 1/(m n) sum_ij [-y log p_ij - (1 - y) log(1 - p_ij)]``, p = sigmoid(logits), averaged over the batch; the
    target map is all ones for a live face and all zeros for an attack.

    Args:
        logits: ``(N, 1, m, n)``.
        labels: ``(N,)``, 1 for live, 0 for attack.
    """
    target = labels.to(logits.dtype).view(-1, 1, 1, 1).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, target)


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The alternative of the paper's Table 3: one binary cross-entropy a picture, on the mean of its logit map.

    The paper does not say how its binary network makes one number of the map; the mean keeps the networks equal.

    Args:
        logits: ``(N, 1, m, n)``.
        labels: ``(N,)``, 1 for live, 0 for attack.
    """
    return F.binary_cross_entropy_with_logits(logits.mean(dim=(1, 2, 3)), labels.to(logits.dtype))


def cross_entropy_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of two classes, Eq. 1 of the PTA paper: ``-log(exp(x_y) / sum_i exp(x_i))``, the batch's mean.

    The equation is printed with an exponential around the denominator's sum, ``exp(sum_i x_i)``, and with a sum over
    all classes in place of the true one. Taken literally it is linear in the logits and has no minimum; the text says
    "Cross Entropy", which this is.

    Args:
        logits: ``(N, 2)``; class 1 is live, 0 an attack.
        labels: ``(N,)``, 1 for live, 0 for attack; between them for mixed pictures, which makes it the cross-entropy of
            two distributions.
    """
    live = labels.to(logits.dtype)
    return F.cross_entropy(logits, torch.stack([1 - live, live], dim=1))
