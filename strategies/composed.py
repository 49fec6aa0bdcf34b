"""The functions of `kernels` composed of torch's own operations: the same, differentiable as often as one likes.

For second derivatives, forward over reverse: the operations have tangents, and so have their gradients. They are also
what the gradients of `kernels` are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .kernels import EPSILON
from .pixels import channel_shuffle, picture, pixels, product, repeated


def depthwise(x: Tensor, window: Sequence[tuple[int, int]], *weights: Tensor) -> Tensor:
    """See `kernels.Depthwise`."""
    together = torch.cat(weights)
    stride, padding, dilation = window
    return F.conv2d(repeated(x, len(weights)), together, None, stride, padding, dilation, len(together))


def middle(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See `kernels.Middle`."""
    groups = len(weights) // 2
    y, mean, variance = centred(group_products(pixels(x), weights[:groups]))
    scaled = torch.cat(weights[groups:]) * torch.rsqrt(variance + EPSILON).view(-1, 1, 1, 1)
    window = 1, [side // 2 for side in scaled.shape[2:]], 1
    return F.conv2d(picture(y.relu(), x), scaled, None, *window, len(scaled)), mean, variance


def last(x: Tensor, weights: Tensor, *matrices: Tensor) -> tuple[Tensor, ...]:
    """See `kernels.Last`; here the factors have gradients too."""
    rows = pixels(x)
    shared = rows.shape[1] == matrices[0].shape[1]
    y = product(rows, torch.cat(matrices).t()) if shared else group_products(rows, matrices)
    y, mean, variance = centred(y)
    factors = weights[:, None] * torch.rsqrt(variance + EPSILON).view(len(matrices), -1)
    return *(picture(part, x) for part in y.chunk(len(matrices), dim=1)), factors, mean, variance


def mixes(weights: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
    """See `kernels.Mixes`."""
    return tuple(sum(w * u for w, u in zip(row.unbind(), maps, strict=True)) for row in weights.unbind())  # type: ignore[misc]


def node_sum(factors: Sequence[Tensor], *tensors: Tensor) -> Tensor:
    """See `kernels.NodeSum`."""
    finished = [y * factor.view(1, -1, 1, 1) for factor, y in zip(factors, tensors, strict=False)]
    first, *others = [*finished, *tensors[len(factors) :]]
    return sum(others, start=first)


def standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See `kernels.Standardise`."""
    y, mean, variance = centred(pixels(x))
    return picture(y * torch.rsqrt(variance + EPSILON), x), mean, variance


def quarters(x: Tensor) -> Tensor:
    """See `kernels.Quarters`."""
    height, width = x.shape[2:]
    shifted = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
    return torch.cat([x[:, :, ::2, ::2], shifted[:, :, ::2, ::2]], dim=1)


def parted(x: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """See `kernels.Parted`."""
    seen = x.shape[1] // parts
    return x[:, :seen], x[:, seen:]


def woven(seen: Tensor, rest: Tensor) -> Tensor:
    """See `kernels.Woven`."""
    return channel_shuffle(torch.cat([seen, rest], dim=1), rest.shape[1] // seen.shape[1] + 1)


def centred(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(n, C)`` without every column's mean, the means, and the biased variances."""
    mean = rows.mean(0)
    rows = rows - mean
    return rows, mean, (rows * rows).mean(0)


def group_products(rows: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Each group of channels by its own matrix, turned round: ``(n, T * C), T x (C', C) -> (n, T * C')``."""
    parts = rows.chunk(len(matrices), dim=1)
    found = [product(part, matrix.t()) for part, matrix in zip(parts, matrices, strict=True)]
    return torch.cat(found, dim=1) if len(found) > 1 else found[0]
