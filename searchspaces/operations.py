"""Candidate operations, by the names that the papers use.

An operation is built from ``(channels, stride, affine)`` and maps ``(N, C, H, W)`` to
``(N, C, ceil(H / stride), ceil(W / stride))``: odd sizes are rounded up (27 to 14), which is what makes the
14x14 map of Auto-FAS from a 108x108 picture.

The convolutions follow DARTS (Liu et al., ICLR 2019): ReLU, convolution, batch norm, in this order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .naming import Registry


class OperationFactory(Protocol):
    """Builds one operation; ``affine`` says whether its batch norms learn a scale and a shift."""

    def __call__(self, channels: int, stride: int, affine: bool) -> nn.Module: ...


OPERATIONS = Registry[OperationFactory]("operation")
register_operation = OPERATIONS.register


class Zero(nn.Module):
    """``none``: zeros of the right size, so that an edge can vanish."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorizedReduce(nn.Module):
    """Halves the resolution: two 1x1 convolutions see the even and the odd pixels, each makes half the channels.

    The shifted view of an odd-sized map is one pixel shorter, so it is padded (DARTS crashes there). The pixels are
    taken by slicing before a convolution of stride 1: the backward pass of a strided 1x1 convolution with few output
    channels corrupts memory in torch 2.14 on a CPU in channels-last layout.
    """

    def __init__(self, channels_in: int, channels_out: int, affine: bool = True) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        height, width = x.shape[-2:]
        shifted = F.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(shifted[:, :, ::2, ::2])], dim=1))


class ReLUConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: brings a cell's input to the cell's width."""

    def __init__(self, channels_in: int, channels_out: int, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels_in, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out, affine=affine),
        )


class SeparableConv(nn.Sequential):
    """ReLU, depthwise kxk, pointwise 1x1, batch norm, and all of it again; the first depthwise has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(*self._half(channels, kernel, stride, affine), *self._half(channels, kernel, 1, affine))

    @staticmethod
    def _half(channels: int, kernel: int, stride: int, affine: bool) -> list[nn.Module]:
        return [
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        ]


@register_operation("none")
def none(channels: int, stride: int, affine: bool) -> nn.Module:
    return Zero(stride)


@register_operation("max_pool_3x3")
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.MaxPool2d(3, stride, padding=1)


@register_operation("avg_pool_3x3")
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


@register_operation("skip_connect")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


@register_operation("sep_conv_3x3")
def sep_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 3, stride, affine)


@register_operation("sep_conv_5x5")
def sep_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 5, stride, affine)


class DepthwiseSeparable(nn.Sequential):
    """ReLU, then for each kernel a depthwise and a pointwise convolution, then one batch norm (ASFD, section 3.2).

    Args:
        kernels: height and width of each kernel in turn; a pointwise convolution alone is ``(1, 1)``.
        dilation: of all of them.
    """

    def __init__(
        self, channels: int, stride: int, affine: bool, kernels: Sequence[tuple[int, int]], dilation: int = 1
    ) -> None:
        layers: list[nn.Module] = [nn.ReLU()]
        for index, kernel in enumerate(kernels):
            step = stride if index == 0 else 1
            if kernel != (1, 1):
                padding = tuple(side // 2 * dilation for side in kernel)
                options: dict[str, Any] = {"padding": padding, "dilation": dilation, "groups": channels, "bias": False}
                layers.append(nn.Conv2d(channels, channels, kernel, step, **options))
                step = 1
            layers.append(nn.Conv2d(channels, channels, 1, step, bias=False))
        super().__init__(*layers, nn.BatchNorm2d(channels, affine=affine))


# name: kernels (height, width) in turn, and dilation: S_FPN and S_CPM of ASFD, section 3.2
DEPTHWISE_SEPARABLE: dict[str, tuple[list[tuple[int, int]], int]] = {
    "conv_1x1": ([(1, 1)], 1),
    "dw_conv_3x3": ([(3, 3)], 1),
    "dw_conv_5x5": ([(5, 5)], 1),
    "dw_conv_1x3": ([(1, 3)], 1),
    "dw_conv_3x1": ([(3, 1)], 1),
    "dw_conv_1x3_3x1": ([(1, 3), (3, 1)], 1),
    "dw_conv_1x5": ([(1, 5)], 1),
    "dw_conv_5x1": ([(5, 1)], 1),
    "dw_conv_1x5_5x1": ([(1, 5), (5, 1)], 1),
    "dil_conv_3x3_r2": ([(3, 3)], 2),
    "dil_conv_3x3_r3": ([(3, 3)], 3),
    "dil_conv_5x5_r2": ([(5, 5)], 2),
}


def _depthwise_separable(name: str) -> OperationFactory:
    kernels, dilation = DEPTHWISE_SEPARABLE[name]

    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        return DepthwiseSeparable(channels, stride, affine, kernels, dilation)

    return build


for _name in DEPTHWISE_SEPARABLE:
    register_operation(_name)(_depthwise_separable(_name))
