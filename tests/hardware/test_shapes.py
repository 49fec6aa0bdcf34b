"""A run on shapes alone says what a run with values says, and gives way to it where it cannot."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import mobilenet_v2
from torchvision.ops import DeformConv2d

from hardware import tracing
from hardware.counters import count, profile_model, register_layer
from hardware.shapes import ShapeTensor
from hardware.tracing import Trace, example_input, trace
from reports.paper_structure import auxiliary_depth
from searchspaces.errors import CostError

from .cost_networks import Branches, mobilefacenet


def with_values(network: nn.Module, size: tuple[int, ...]) -> Trace:
    return tracing._Watcher(network, memory=True).run(network, example_input(network, size))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each watched run, whether it was one on shapes alone."""
    found: list[bool] = []
    run = tracing._Watcher.run

    def noted(self: Any, model: nn.Module, x: Tensor) -> Trace:
        found.append(isinstance(x, ShapeTensor))
        return run(self, model, x)

    monkeypatch.setattr(tracing._Watcher, "run", noted)
    return found


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(6, 5, bidirectional=True), nn.GRU(10, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.lstm(x)[0])[0]


class Views(nn.Module):
    """Views, in-place operators, constants made on the way, a buffer and an integer result."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.ones(1, 1, 4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.flatten(2).transpose(1, 2)[:, 1:]
        y = y + torch.arange(3.0) + self.shift[..., :3]
        z = y.clone().relu_().mul_(2)
        z[..., 0] = 1.0
        parts = z.chunk(3, dim=1)
        return torch.cat([parts[0], parts[1]], 1), z.argmax(-1)


class Attention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (mobilefacenet(), (3, 112, 112)),
        (Branches(in_place=True), (2, 4, 4)),
        (auxiliary_depth(), (3, 32, 32)),
        (nn.LSTM(6, 5, bidirectional=True), (3, 6)),
        (Views(), (3, 2, 5)),
        (nn.Sequential(nn.Bilinear(4, 5, 6)), (4,)),
        (nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ConvTranspose3d(4, 2, 2)), (2, 5, 5, 5)),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_shapes_alone_say_the_same(network: nn.Module, size: tuple[int, ...], runs: list[bool]) -> None:
    if isinstance(network[0] if isinstance(network, nn.Sequential) else None, nn.Bilinear):
        network = Twice(network[0])
    found = trace(network, size)
    assert runs == [True]  # it did not give way
    expected = with_values(network, size)
    assert found.calls == expected.calls
    assert (found.operator_macs, found.outside, found.unknown) == (expected.operator_macs, expected.outside, {})
    assert found.activations.bytes() == expected.activations.bytes()


class Twice(nn.Module):
    def __init__(self, bilinear: nn.Bilinear) -> None:
        super().__init__()
        self.bilinear = bilinear

    def forward(self, x: Tensor) -> Tensor:
        return self.bilinear(x, F.pad(x, (0, 1)))


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if x.sum() > 1 else x * 2,
        lambda x: x * x.mean().item(),
        lambda x: x[x > 0].sum() + x,
        lambda x: x + len(x.tolist()),
        lambda x: x + float(x.detach().numpy().mean()),
        lambda x: x.unsqueeze_(0)[0],
        lambda x: x + torch.nonzero(x).shape[0],
    ],
)
def test_network_that_looks_at_values_is_run_with_values(look: Any, runs: list[bool]) -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return look(self.conv(x))

    assert count(Looking(), (3, 5, 5)) == 3 * 4 * 25
    assert runs == [True, False]


def test_network_that_keeps_tensors_keeps_real_ones(runs: list[bool]) -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.grid = torch.zeros(())
            self.register_buffer("mean", torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            self.grid = torch.arange(y.shape[-1], device=y.device)
            self.seen = [y]
            self.mean.mul_(0.5).add_(1)
            return y * self.grid

    network = Keeping()
    assert count(network, (3, 5, 5)) == 3 * 4 * 25
    assert runs == [True, False]
    assert type(network.seen[0]) is Tensor and network.grid.tolist() == [0, 1, 2, 3, 4]
    network(torch.zeros(1, 3, 5, 5))


def test_buffer_that_the_network_writes_gets_values(runs: list[bool]) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("last", torch.full((1, 3, 2, 2), 7.0))

        def forward(self, x: Tensor) -> Tensor:
            self.last.copy_(x)
            return x

    network = Writing()
    count(network, (3, 2, 2))
    assert runs == [True, False] and network.last.eq(0).all()


def test_failure_of_the_network_is_told_as_such() -> None:
    with pytest.raises(CostError, match=r"Conv2d fails on an input of 5x8x8"):
        count(nn.Conv2d(3, 4, 1), (5, 8, 8))


def test_repeated_counting_gives_the_same() -> None:
    network = mobilenet_v2()
    assert profile_model(network, (3, 64, 64)) == profile_model(network, (3, 64, 64))


# What only some counters see


def test_kernels_of_a_cpu_are_counted() -> None:
    profile = profile_model(Attention(8, 2, batch_first=True), (5, 8))
    assert profile["operations"]["flops"] == 2 * (4 * 5 * 8 * 8 + 2 * 5 * 5 * 8)
    recurrent = profile_model(Recurrent(), (3, 6))["operations"]
    assert recurrent["mac"] == 3 * 2 * (4 * 5 * 6 + 4 * 5 * 5) + 3 * 3 * 4 * (10 + 4) == recurrent["flops"] // 2


def test_deformable_convolution_counts_as_a_convolution() -> None:
    class Deformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset, self.conv = nn.Conv2d(3, 18, 3, padding=1), DeformConv2d(3, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.offset(x))

    profile = profile_model(Deformed(), (3, 6, 6))
    assert profile["operations"]["mac"] == 36 * 27 * (18 + 4) == profile["operations"]["flops"] // 2
    assert profile["warnings"] == []


@torch.library.custom_op("facenas_test::mystery", mutates_args=())
def mystery(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight


@mystery.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[1])


class Mystery(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return mystery(x, self.weight.t())


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x).abs()


def test_unknown_operators_are_named() -> None:
    profile = profile_model(nn.Sequential(Spectrum()), (3, 8, 8))
    assert profile["warnings"][0] == "Operators of unknown cost are not counted: aten::_fft_r2c (in 0)."
    with pytest.warns(UserWarning, match="aten::_fft_r2c"):
        assert count(Spectrum(), (3, 8, 8), "flops") == 0

    class Calling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return mystery(x, torch.ones(8, 2))

    assert "facenas_test::mystery (in Calling)" in profile_model(Calling(), (3, 8, 8))["warnings"][0]


def test_formula_of_a_layer_speaks_for_the_operators_in_it() -> None:
    register_layer(Mystery, mac=lambda layer, inputs, output: layer.in_features * output[-1] * inputs[0][1])
    profile = profile_model(Mystery(4, 5), (7, 4))
    assert (profile["operations"]["mac"], profile["operations"]["flops"]) == (140, 280)
    assert profile["warnings"] == []
