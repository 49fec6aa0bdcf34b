"""Maps ``(N, C, H, W)`` as matrices of pixels ``(n, C)``, n = N * H * W, which channels-last maps are without a copy.

Narrow pixels are taken several at a time, so that they fill a vector register.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LANES = 16  # channels that fill a vector register; narrower pixels or blocks are taken several at a time
LINE = (
    64  # numbers that a pass for statistics takes at once: several registers, so that sums do not wait for each other
)
SMALL = 2**16  # numbers of a map up to which a pass costs less than a call
ONE_PASS = 2**18  # from here on a map does not stay near the core: what is summed is not written first


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def pixels(x: Tensor) -> Tensor:
    """``(N, C, H, W) -> (n, C)``; a view if the channels are last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def picture(rows: Tensor, like: Tensor) -> Tensor:
    """``(n, C) -> (N, C, H, W)`` with the sides of ``like``; a view."""
    number, _, height, width = like.shape
    return rows.view(number, height, width, rows.shape[1]).permute(0, 3, 1, 2)


def pixels_at_once(rows: Tensor, lanes: int = LANES) -> int:
    """How many neighbouring pixels to take as one row, so that it fills a register (or has ``lanes`` numbers)."""
    count, channels = rows.shape
    several = lanes // channels if channels < lanes and lanes % channels == 0 else 1
    return several if count % several == 0 and rows.is_contiguous() else 1


def packed(rows: Tensor, several: int) -> Tensor:
    """``(n, C) -> (n / several, several * C)``; a view."""
    return rows.view(-1, several * rows.shape[1]) if several > 1 else rows


def tiled(row: Tensor, several: int) -> Tensor:
    """``(C,) -> (several * C,)``: the row for each of the pixels of a packed one."""
    return row.repeat(several) if several > 1 else row


def column_sums(rows: Tensor) -> Tensor:
    """``(n, C) -> (C,)``."""
    several = pixels_at_once(rows)
    sums = packed(rows, several).sum(0)
    return sums.view(several, -1).sum(0) if several > 1 else sums


def subtract_row_(rows: Tensor, row: Tensor) -> Tensor:
    """``rows (n, C) - row (C,)`` in place."""
    several = pixels_at_once(rows)
    packed(rows, several).sub_(tiled(row, several))
    return rows


def add_scaled_(rows: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """``rows (n, C) + other (n, C) * scale (C,)`` in place."""
    several = min(pixels_at_once(rows), pixels_at_once(other))
    packed(rows, several).addcmul_(packed(other, several), tiled(scale, several))
    return rows


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Every column's mean and biased variance ``(C,)``, by torch's own batch norm, which writes no other map.

    Of several pixels that are taken as one row, the variance is that within their columns and that between those.
    """
    several = pixels_at_once(rows, LINE if rows.numel() >= SMALL else LANES)
    means, variances = torch.ops.aten.batch_norm_update_stats(one_picture(packed(rows, several)), None, None, 0.0)
    if several == 1:
        return means, variances
    means, variances = means.view(several, -1), variances.view(several, -1)
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)


def centre_(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract every column's mean in place: the means, and the biased variances ``(C,)``."""
    mean, variance = moments(rows)
    subtract_row_(rows, mean)
    return mean, variance


def sums_along(gradient: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The sums ``(C,)`` of the columns of ``gradient * rows``, and of ``gradient``, both ``(n, C)``.

    Of large maps by the first half of torch's batch norm gradient: one pass that writes nothing.
    """
    if rows.numel() < ONE_PASS:
        return column_sums(gradient * rows), column_sums(gradient)
    several = min(pixels_at_once(gradient, LINE), pixels_at_once(rows, LINE))
    maps = [one_picture(packed(each, several)) for each in (gradient, rows)]
    one = rows.new_ones(maps[0].shape[1])
    options = (None, None, None, torch.zeros_like(one), one, True, 0.0, [False, True, True])
    _, *found = torch.ops.aten.native_batch_norm_backward(*maps, *options)
    along, plain = (each.view(several, -1).sum(0) if several > 1 else each for each in found)
    return along, plain


def one_picture(rows: Tensor) -> Tensor:
    """``(n, C) -> (1, C, n, 1)``, a channels-last view."""
    return rows.t()[None, :, :, None]


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """``(n, C) @ (C, C') -> (n, C')``; narrow pixels with a block-diagonal matrix of several."""
    several = pixels_at_once(rows) if matrix.shape[1] <= LANES else 1
    if several == 1:
        return torch.mm(rows, matrix)
    return torch.mm(packed(rows, several), torch.block_diag(*[matrix] * several)).view(len(rows), -1)


def gram(left: Tensor, right: Tensor) -> Tensor:
    """``(n, C), (n, C') -> (C, C')``: the left one transposed times the right one."""
    several = min(pixels_at_once(left), pixels_at_once(right))
    if several == 1:
        return torch.mm(left.t(), right)
    wide = torch.mm(packed(left, several).t(), packed(right, several))
    return wide.view(several, left.shape[1], several, right.shape[1]).diagonal(dim1=0, dim2=2).sum(-1)


def group_products(rows: Tensor, matrices: Tensor) -> Tensor:
    """Each group of channels by its own matrix: ``(n, T * C), (T, C, C') -> (n, T * C')``."""
    groups, before, after = matrices.shape
    if groups == 1:
        return product(rows, matrices[0])
    together = max(1, LANES // before)  # narrow blocks are multiplied as one that is block-diagonal
    if together >= groups:
        return product(rows, torch.block_diag(*matrices))
    result = rows.new_empty(len(rows), groups * after)
    for first in range(0, groups, together):
        chosen = matrices[first : first + together]
        block = torch.block_diag(*chosen) if together > 1 else chosen[0]
        end = first + len(chosen)
        torch.mm(rows[:, first * before : end * before], block, out=result[:, first * after : end * after])
    return result


def group_grams(left: Tensor, right: Tensor, groups: int) -> Tensor:
    """Each group of channels of the left transposed times that of the right: ``(T, C, C')``."""
    if groups == 1:
        return gram(left, right)[None]
    before, after = left.shape[1] // groups, right.shape[1] // groups
    together = min(groups, max(1, LANES // before))
    found = []
    for first in range(0, groups, together):
        number = min(together, groups - first)
        wide = gram(
            left[:, first * before : (first + number) * before], right[:, first * after : (first + number) * after]
        )
        found.append(wide.view(number, before, number, after).diagonal(dim1=0, dim2=2).permute(2, 0, 1))
    return torch.cat(found)


def repeated(x: Tensor, times: int) -> Tensor:
    """``(N, C, H, W) -> (N, times * C, H, W)``: a copy for each group."""
    return torch.cat([x] * times, dim=1) if times > 1 else x


def combination(maps: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """``sum_m w_m u_m`` of maps of one shape and layout."""
    total = maps[0] * weights[0]
    for u, weight in zip(maps[1:], weights[1:], strict=True):
        total.add_(u, alpha=weight)
    return total


def numbers(x: Tensor) -> Tensor:
    """All elements of a channels-last map in a row."""
    return x.permute(0, 2, 3, 1).reshape(-1)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` blocks of channels, so that the next edge samples other ones. ``(N, C, H, W)`` both ways.

    Done with the channels last in memory, which is how the supernet runs fastest on a CPU.
    """
    last = x.permute(0, 2, 3, 1)
    return last.unflatten(3, (groups, -1)).transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
