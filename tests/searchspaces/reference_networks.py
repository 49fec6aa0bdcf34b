"""NAS-Bench-201 and FBNet networks in torch, written from the papers and not from the code under test."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def relu_conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels_out))


def edge(name: str, channels: int) -> nn.Module:
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return relu_conv_norm(channels, channels, int(name[-1]))


class Cell(nn.Module):
    """Six edges in the order 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; `none` is not known here."""

    def __init__(self, names: list[str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edge(name, channels) for name in names)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f = self.edges
        one = a(x)
        two = b(x) + c(one)
        return d(x) + e(one) + f(two)


class Reduction(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = relu_conv_norm(channels, 2 * channels, 3, 2)
        self.second = relu_conv_norm(2 * channels, 2 * channels, 3)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, 2 * channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.second(self.first(x))


def nasbench201(names: list[str]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)]
    for channels in (16, 32, 64):
        layers += [Cell(names, channels) for _ in range(5)]
        layers += [Reduction(channels)] if channels < 64 else []
    return nn.Sequential(
        *layers, nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels_out)]


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)


class InvertedResidual(nn.Module):
    def __init__(self, name: str, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        kernel, expansion, groups = int(name[1]), int(name[4]), 2 if name.endswith("g2") else 1
        wide = channels_in * expansion
        self.layers = nn.Sequential(
            *conv_norm(channels_in, wide, 1, groups=groups),
            nn.ReLU(),
            *([Shuffle()] if groups == 2 else []),
            *conv_norm(wide, wide, kernel, stride, groups=wide),
            nn.ReLU(),
            *conv_norm(wide, channels_out, 1, groups=groups),
        )
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def fbnet(names: list[str]) -> nn.Module:
    layers: list[nn.Module] = [*conv_norm(3, 16, 3, 2), nn.ReLU()]
    widths = [16, *[24] * 4, *[32] * 4, *[64] * 4, *[112] * 4, *[184] * 4, 352]
    channels = 16
    for place, (name, width) in enumerate(zip(names, widths, strict=True)):
        stride = 2 if place in (1, 5, 9, 17) else 1
        if name != "skip":
            layers.append(InvertedResidual(name, channels, width, stride))
        elif stride == 2 or channels != width:
            layers += [*conv_norm(channels, width, 1, stride), nn.ReLU()]
        channels = width
    head = [*conv_norm(352, 1504, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1504, 1000)]
    return nn.Sequential(*layers, *head)


def macs_and_parameters(model: nn.Module, size: int) -> tuple[int, int]:
    """torch's own count of MACs, and the parameters that stay when each norm is folded into a bias."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model.eval()(torch.zeros(1, 3, size, size))
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    parameters = sum(m.weight.numel() + m.out_channels for m in convs)
    return counter.get_total_flops() // 2, parameters + sum(p.numel() for m in linear for p in m.parameters())
