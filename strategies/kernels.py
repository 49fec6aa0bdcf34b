"""The arithmetic of a supernet with gradients written by hand: what torch's own layers compute, cheaper.

A supernet is hundreds of small operations over maps of few channels. A layer's passes over memory cost as much as its
arithmetic there, and its call as much as either. So

- operations that leave one node are taken together, as groups of channels: T maps of C channels are one of T * C;
- a batch norm is no layer but part of what is around it. The result of a convolution of 1x1 is centred in place, and
  its scale becomes a factor of the weights that follow; no normalised map is ever written. A ReLU between them is taken
  of the centred map, since ``relu(a x) = a relu(x)`` for a scale a > 0 (`Middle`);
- all that enters a node has one gradient, which is centred once (`NodeSum`).

Maps ``(N, C, H, W)`` are channels-last, and then matrices of pixels ``(n, C)`` (see `pixels`).
Gradients can be taken once: for second derivatives use the plain layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .pixels import (
    add_scaled_,
    centre_,
    channels_last,
    column_sums,
    combination,
    gram,
    group_grams,
    group_products,
    numbers,
    packed,
    picture,
    pixels,
    pixels_at_once,
    product,
    repeated,
    subtract_row_,
    sums_along,
    tiled,
)

EPSILON = 1e-5  # of torch's batch norms, unless they are made with another

convolution_gradients = torch.ops.aten.convolution_backward


def once(backward: Callable[..., Any]) -> Callable[..., Any]:
    """A gradient that refuses to be part of a graph; torch's `once_differentiable` can leave a part out unsaid."""

    @wraps(backward)
    def checked(ctx: Any, *gradients: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "This gradient cannot be differentiated again (create_graph=True). A supernet's layers can: compute "
                "the loss inside strategies.fused.plain_arithmetic()."
            )
        return backward(ctx, *gradients)

    return checked


# ---- depthwise convolutions


def depthwise_weight_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Gradient by the weight ``(C, 1, k, k')`` of a depthwise convolution.

    oneDNN's kernel takes windows of up to three columns; for five torch falls back to a slow one (see `five_columns`).
    """
    five = weight.shape[-1] == 5 and padding[1] == 2 and tuple(dilation) == (1, 1) and stride[1] in (1, 2)
    if five and x.device.type == "cpu":
        return five_columns(gradient, x, weight, stride, padding)
    options = (None, stride, padding, dilation, False, [0, 0], len(weight), [False, True, False])
    return convolution_gradients(gradient, x, weight, *options)[1]


def five_columns(gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """`depthwise_weight_gradient` of windows of five columns by those of three.

    Two neighbouring pixels are one of twice the channels: a window of three such is one of every second column. At
    stride 1 that gives the outer columns, and the map as it is the inner ones. At stride 2 the left pixels of the pairs
    give columns 0, 2, 4 and the right ones 1 and 3.
    """
    channels, window = len(weight), weight[..., :3]

    def columns(of_result: Tensor, of_input: Tensor, step: int) -> Tensor:
        number = of_input.shape[1]
        part = window.repeat(number // channels, 1, 1, 1)
        options = (None, (stride[0], step), (padding[0], 1), (1, 1), False, [0, 0], number, [False, True, False])
        return convolution_gradients(of_result, of_input, part, *options)[1]

    if stride[1] == 2:
        left, right = columns(torch.cat([gradient, gradient], dim=1), pairs(x), 1).chunk(2)
        return torch.stack([left, right], dim=-1).flatten(-2)[..., :5]
    left, right = columns(pairs(gradient), pairs(x), 1).chunk(2)
    outer = left + right
    return torch.cat([outer[..., :1], columns(gradient, x, 1), outer[..., 2:]], dim=-1)


def pairs(x: Tensor) -> Tensor:
    """Every two pixels of a row side by side: ``(N, C, H, W) -> (N, 2 C, H, W / 2)``, a view; an odd row is filled up
    with a zero."""
    if x.shape[3] % 2:
        x = channels_last(F.pad(x, (0, 1)))
    number, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(number, height, width // 2, 2 * channels).permute(0, 3, 1, 2)


def depthwise_input_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Gradient by the input ``(N, C, H, W)`` of a depthwise convolution; of ``x`` only the shape counts.

    At stride 1 it is a convolution itself, with the window turned round, and faster as one.
    """
    if tuple(stride) == (1, 1):
        reach = [d * (side - 1) - p for d, side, p in zip(dilation, weight.shape[2:], padding, strict=True)]
        return F.conv2d(gradient, weight.flip(2, 3), None, 1, reach, dilation, len(weight))
    options = (None, stride, padding, dilation, False, [0, 0], len(weight), [True, False, False])
    return convolution_gradients(gradient, x, weight, *options)[0]


class Depthwise(torch.autograd.Function):
    """Depthwise convolutions of one map, a group each.

    ``x (N, C, H, W), T weights (C, 1, k, k') -> (N, T * C, H', W')``

    Args:
        window: stride, padding and dilation, a pair each.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Sequence[tuple[int, int]], *weights: Tensor) -> Tensor:
        together = torch.cat(weights) if len(weights) > 1 else weights[0]
        ctx.save_for_backward(x, together)
        ctx.window, ctx.groups = window, len(weights)
        stride, padding, dilation = window
        return F.conv2d(repeated(x, len(weights)), together, None, stride, padding, dilation, len(together))

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weights = ctx.saved_tensors
        gradient, groups, of_x = channels_last(gradient), ctx.groups, None
        of_weights: Sequence[Tensor | None] = [None] * groups
        if groups > 1 and not any(ctx.needs_input_grad[2:]):  # then only its shape counts
            copies = torch.empty_like(x[:, :1].expand(-1, len(weights), -1, -1), memory_format=torch.channels_last)
        else:
            copies = repeated(x, groups)
        if ctx.needs_input_grad[0]:
            of_x = depthwise_input_gradient(gradient, copies, weights, *ctx.window)
            if groups > 1:
                first, *others = of_x.chunk(groups, dim=1)
                of_x = sum(others, start=first)
        if any(ctx.needs_input_grad[2:]):
            of_weights = depthwise_weight_gradient(gradient, copies, weights, *ctx.window).chunk(groups)
        return of_x, None, *of_weights


# ---- a convolution of 1x1 with what follows it


class Middle(torch.autograd.Function):
    """Convolution 1x1, batch norm (of the batch, no scale), ReLU, depthwise convolution of stride 1, in T groups.

    ``x (N, T * C, H, W), T pointwise (C, C), T depthwise (C, 1, k, k') -> (N, T * C, H, W)``, and the norms' means and
    biased variances ``(T * C,)``, which have no gradient.

    With y the centred result of the 1x1 convolution and s the norm's scale, what the ReLU gives is ``s relu(y)``, and s
    goes into the depthwise weights. With g the gradient of ``relu(y)`` where y > 0, else 0, that of the convolution's
    result is ``g - mean(g) - y s^2 mean(g y)``. The sum of ``g y`` is, by Euler's theorem for what is linear in its
    weights, the sum of the weights times their gradient, if that is wanted anyway.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        groups = len(weights) // 2
        matrices, depthwise = torch.stack(weights[:groups]), torch.cat(weights[groups:])
        y = group_products(pixels(x), matrices.transpose(1, 2))
        mean, variance = centre_(y)
        scale = torch.rsqrt(variance + EPSILON)
        window = (1, 1), tuple(side // 2 for side in depthwise.shape[2:]), (1, 1)
        scaled = depthwise * scale.view(-1, 1, 1, 1)
        result = F.conv2d(picture(y.relu(), x), scaled, None, *window, len(scaled))
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, matrices, scaled, y, scale)
        ctx.window = window
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return result, mean, variance

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, matrices, scaled, y, scale = ctx.saved_tensors
        groups, needs = len(matrices), ctx.needs_input_grad
        gradient = channels_last(gradient)
        inside = picture(y, gradient)
        back = pixels(channels_last(depthwise_input_gradient(gradient, inside, scaled, *ctx.window)))
        torch.ops.aten.threshold_backward(back, y, 0, grad_input=back)
        of_depthwise: Sequence[Tensor | None] = [None] * groups
        if needs[1 + groups]:
            by_scaled = depthwise_weight_gradient(gradient, inside.relu(), scaled, *ctx.window)
            along = (by_scaled * scaled).sum((1, 2, 3))
            of_depthwise = (by_scaled * scale.view(-1, 1, 1, 1)).chunk(groups)
            sums = column_sums(back)
        else:
            along, sums = sums_along(back, y)
        add_scaled_(back, y, -(along / len(y)) * scale.square())
        subtract_row_(back, sums / len(y))
        of_x = picture(group_products(back, matrices), gradient) if needs[0] else None
        of_matrices = group_grams(back, pixels(x), groups).unbind() if needs[1] else [None] * groups
        return of_x, *of_matrices, *of_depthwise


class Last(torch.autograd.Function):
    """The last convolutions of 1x1 of T operations, their batch norms, and their weights in their nodes' sums.

    ``x (N, T * C', H, W), weights (T,), T matrices (C, C')``; or ``x (N, C', H, W)``, which all T take.

    Returns:
        For each operation its centred result y ``(N, C, H, W)``, then the factors ``(T, C)`` by which it has yet to be
        multiplied, the operation's weight times the norm's scale, and the norms' means and variances ``(T * C,)``. What
        flows back into y is the gradient of the finished product, whose mean does not matter (see `NodeSum`).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, *matrices: Tensor) -> tuple[Tensor, ...]:
        groups, together, rows = len(matrices), torch.stack(matrices), pixels(x)
        ctx.shared = rows.shape[1] == together.shape[2]
        turned = together.flatten(0, 1).t() if ctx.shared else together.transpose(1, 2)
        y = product(rows, turned) if ctx.shared else group_products(rows, turned)
        mean, variance = centre_(y)
        scale = torch.rsqrt(variance + EPSILON)
        factors = weights[:, None] * scale.view(groups, -1)
        ctx.save_for_backward(x if any(ctx.needs_input_grad[2:]) else None, together, y, scale, factors)
        ctx.mark_non_differentiable(factors, mean, variance)
        ctx.set_materialize_grads(False)
        return *(picture(part, x) for part in y.chunk(groups, dim=1)), factors, mean, variance

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, matrices, y, scale, factors = ctx.saved_tensors
        groups, needs = len(matrices), ctx.needs_input_grad
        like = next(g for g in gradients if g is not None)
        parts = [pixels(torch.zeros_like(like) if g is None else g) for g in gradients[:groups]]
        g = torch.cat(parts, dim=1) if groups > 1 else parts[0]
        along, _ = sums_along(g, y)
        of_weights = (along * scale).view(groups, -1).sum(1) if needs[1] else None
        of_x, of_matrices = None, [None] * groups
        if needs[0] or any(needs[2:]):
            several = pixels_at_once(y)
            shrink = tiled(-(along / len(y)) * scale.square(), several)
            # several parts are a copy, which may be written over; one is a gradient that others see, too
            where: dict[str, Any] = {"out": packed(g, several)} if groups > 1 else {}
            back = torch.addcmul(packed(g, several), packed(y, several), shrink, **where).view_as(y)
            own = matrices * factors[:, :, None]
            if needs[0]:
                of_rows = product(back, own.flatten(0, 1)) if ctx.shared else group_products(back, own)
                of_x = picture(of_rows, like)
            if any(needs[2:]):
                rows = pixels(x)
                found = gram(back, rows).view_as(own) if ctx.shared else group_grams(back, rows, groups)
                of_matrices = (found * factors[:, :, None]).unbind()
        return of_x, of_weights, *of_matrices


class Mixes(torch.autograd.Function):
    """Weighted sums of the maps that leave a node, one for each node they enter: ``sum_m w_tm u_m``.

    ``weights (T, maps), maps (N, C, H, W) -> T x (N, C, H, W)``
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weights, *(maps if ctx.needs_input_grad[0] else ()))
        return tuple(combination(maps, row) for row in weights.tolist())

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights, *maps = ctx.saved_tensors
        gradients = tuple(map(channels_last, gradients))
        of_maps = [
            combination(gradients, column) if needed else None
            for column, needed in zip(weights.t().tolist(), ctx.needs_input_grad[1:], strict=True)
        ]
        if not maps:
            return None, *of_maps
        rows = [torch.stack([torch.dot(numbers(g), numbers(u)) for u in maps]) for g in gradients]
        return torch.stack(rows), *of_maps


class NodeSum(torch.autograd.Function):
    """What a node is: the sum of the results y of `Last` times their factors, and of maps u.

    ``sum_i f_i y_i + sum_m u_m -> (N, C, H, W)``

    The norm behind a y takes the mean out of a gradient anyway. So all y get one gradient, centred here once.

    Args:
        factors: ``(C,)`` of each y.
        tensors: the y, then the maps, each ``(N, C, H, W)``.
    """

    @staticmethod
    def forward(ctx: Any, factors: Sequence[Tensor], *tensors: Tensor) -> Tensor:
        ctx.results, ctx.maps = len(factors), len(tensors) - len(factors)
        total = None
        for factor, y in zip(factors, tensors, strict=False):
            total = pixels(y) * factor if total is None else add_scaled_(total, pixels(y), factor)
        for u in tensors[ctx.results :]:
            total = pixels(u).clone() if total is None else total.add_(pixels(u))
        assert total is not None
        return picture(total, tensors[0])

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = channels_last(gradient)
        g = pixels(gradient)
        centred = picture(g - column_sums(g) / len(g), gradient) if ctx.results else None
        return None, *[centred] * ctx.results, *[gradient] * ctx.maps


class Quarters(torch.autograd.Function):
    """Every second pixel, beside the pixel that is below it to the right: what a factorised reduction sees.

    ``(N, C, H, W) -> (N, 2 C, H / 2, W / 2)``, rounded up; zeros where there is no pixel below to the right.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows, channels = x.permute(0, 2, 3, 1), x.shape[1]
        height, width = (-(-side // 2) for side in x.shape[2:])
        quarters = (rows.new_zeros if (x.shape[2] % 2 or x.shape[3] % 2) else rows.new_empty)(
            len(x), height, width, 2 * channels
        )
        quarters[..., :channels] = rows[:, ::2, ::2]
        quarters[:, : x.shape[2] // 2, : x.shape[3] // 2, channels:] = rows[:, 1::2, 1::2]
        ctx.sides = x.shape
        return quarters.permute(0, 3, 1, 2)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        number, channels, height, width = ctx.sides
        g = gradient.permute(0, 2, 3, 1)
        back = g.new_zeros(number, height, width, channels)
        back[:, ::2, ::2] = g[..., :channels]
        back[:, 1::2, 1::2] = g[:, : height // 2, : width // 2, channels:]
        return back.permute(0, 3, 1, 2)


class Standardise(torch.autograd.Function):
    """Batch norm with the batch's statistics and no scale: ``(N, C, H, W)`` both ways, and its mean and variance."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = pixels(x).clone()
        mean, variance = centre_(y)
        scale = torch.rsqrt(variance + EPSILON)
        several = pixels_at_once(y)
        packed(y, several).mul_(tiled(scale, several))
        ctx.save_for_backward(y, scale)
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return picture(y, x), mean, variance

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Tensor:
        y, scale = ctx.saved_tensors
        g = pixels(channels_last(gradient))
        several = pixels_at_once(y)
        along, mean = (each / len(g) for each in sums_along(g, y))
        back = torch.addcmul(packed(g, several), packed(y, several), tiled(-along, several))
        back.sub_(tiled(mean, several)).mul_(tiled(scale, several))
        return picture(back.view_as(y), gradient)


class Parted(torch.autograd.Function):
    """The first 1/K of the channels, and the rest: ``(N, C, H, W) -> (N, C / K, H, W), (N, C - C / K, H, W)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: int) -> tuple[Tensor, Tensor]:
        seen = x.shape[1] // parts
        return channels_last(x[:, :seen]), channels_last(x[:, seen:])

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.cat([channels_last(g) for g in gradients], dim=1), None


class Woven(torch.autograd.Function):
    """Channels that operations have seen and those that pass by, shuffled: ``(N, S, H, W), (N, (K - 1) * S, H, W) ->
    (N, K * S, H, W)``, in one copy (see `pixels.channel_shuffle`)."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, rest: Tensor) -> Tensor:
        sampled = seen.shape[1]
        parts = ctx.parts = rest.shape[1] // sampled + 1
        woven = seen.new_empty(len(seen), *seen.shape[2:], sampled, parts)
        woven[..., 0] = seen.permute(0, 2, 3, 1)
        woven[..., 1:] = rest.permute(0, 2, 3, 1).unflatten(3, (parts - 1, sampled)).transpose(3, 4)
        return woven.flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        parts = gradient.permute(0, 2, 3, 1).unflatten(3, (-1, ctx.parts)).transpose(3, 4)
        seen, rest = parts[..., 0, :], parts[..., 1:, :].flatten(3)
        return channels_last(seen.permute(0, 3, 1, 2)), channels_last(rest.permute(0, 3, 1, 2))
