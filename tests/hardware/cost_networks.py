"""Networks whose cost is published or can be worked out by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.PReLU(outputs)) if act else nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """MobileFaceNet's block: ``t`` multiplies the input channels."""

    def __init__(self, inputs: int, t: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            conv_norm(inputs, t * inputs, 1),
            conv_norm(t * inputs, t * inputs, 3, stride, 1, groups=t * inputs),
            conv_norm(t * inputs, outputs, 1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


MOBILEFACENET_ROWS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
# InsightFace's y2, blocks [2, 8, 16, 4]: two bottlenecks with t = 1 in place of the depthwise convolution
Y2_ROWS = ((1, 64, 2, 1), (2, 64, 9, 2), (4, 128, 1, 2), (2, 128, 16, 1), (4, 128, 1, 2), (2, 128, 4, 1))


def mobilefacenet(
    rows: Iterable[Sequence[int]] = MOBILEFACENET_ROWS, embedding: int = 128, depthwise: bool = True
) -> nn.Sequential:
    """MobileFaceNet (Chen et al. 2018, Table 1) for 112x112."""
    layers = [conv_norm(3, 64, 3, 2, 1)]
    if depthwise:
        layers.append(conv_norm(64, 64, 3, 1, 1, groups=64))
    channels = 64
    for t, outputs, repeats, stride in rows:
        for index in range(repeats):
            layers.append(Bottleneck(channels, t, outputs, stride if index == 0 else 1))  # type: ignore[arg-type]
            channels = outputs
    layers += [
        conv_norm(channels, 512, 1),
        conv_norm(512, 512, 7, groups=512, act=False),
        conv_norm(512, embedding, 1, act=False),
    ]
    return nn.Sequential(*layers)


class Chain(nn.Sequential):
    """3x8x8 -> conv 4 -> in-place ReLU -> pool -> view -> linear 10: 768, 1024, (same), 256, (same), 40 bytes."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
        )


class Branches(nn.Module):
    """2x4x4 (128 bytes) -> a: 8 channels (512); b: 4 channels (256) -> c: 8 channels (512); a + c (512)."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 8, 1), nn.Conv2d(2, 4, 1), nn.Conv2d(4, 8, 1)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        c = self.c(self.b(x))
        return a.add_(c) if self.in_place else a + c


def tiny_network() -> nn.Sequential:
    """Something to export: convolution, norm, activation, pooling, linear."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


def save_architecture(folder: Path) -> Path:
    """A small point of the Auto-FAS space: every node pools its first two inputs, except one separable convolution."""
    from searchspaces import Architecture

    nodes = range(2, 4)
    choices = {f"{cell}/input_{node}": [0, 1] for cell in ("normal", "reduce") for node in nodes}
    choices |= {
        f"{cell}/op_{node}_{slot}": "max_pool_3x3" for cell in ("normal", "reduce") for node in nodes for slot in (0, 1)
    }
    choices["reduce/op_2_0"] = "sep_conv_3x3"
    options = {"channels": 8, "layout": "RN", "image_size": 32, "nodes": 2}
    return Architecture("autofas", options, choices).save(folder / "architecture.json")
