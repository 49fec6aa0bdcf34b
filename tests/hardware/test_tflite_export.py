"""LiteRT files that facenas writes itself: every operator gives what torch gives, float32 and in the form for int8."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hardware.runtimes import calibration, tflite
from hardware.runtimes.litert import RUNTIME
from hardware.runtimes.recording import UnknownOperatorError, record
from hardware.runtimes.tflite_export import network_bytes
from searchspaces.airface import Attention
from searchspaces.errors import CostError


class Function(nn.Module):
    """A function of a map as a network."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def normed(channels, seed=0):
    torch.manual_seed(seed)
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def shuffled(x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def conv(*arguments, **options):
    torch.manual_seed(1)
    return nn.Conv2d(*arguments, **options)


SHARED = conv(4, 4, 1)
NETWORKS = {
    "largest of each map": Function(lambda x: F.adaptive_max_pool2d(x, 1)),
    "mean and largest over channels": Function(lambda x: torch.cat([x.mean(1, True), x.amax(1, True)], 1)),
    "attention with tanh": Function(lambda x, layer: layer(x, [("tanh", 1.0)]), Attention(4)),
    "attention with sigmoid": Function(lambda x, layer: layer(x, [("sigmoid", 1.0)]), Attention(4)),
    "conv, stride 2, even": conv(4, 6, 3, stride=2, padding=1),
    "conv, unequal sides": conv(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), bias=False),
    "conv, dilated": conv(4, 6, 3, padding=2, dilation=2),
    "conv, grouped": conv(4, 6, 3, groups=2),
    "depthwise, two of each": conv(4, 8, 5, padding=2, groups=4),
    "conv, norm, relu": nn.Sequential(conv(4, 6, 3, padding=1), normed(6), nn.ReLU(inplace=True)),
    "depthwise, norm, relu6": nn.Sequential(conv(4, 4, 3, groups=4), normed(4), nn.ReLU6()),
    "norm alone": nn.Sequential(normed(4), nn.ReLU()),
    "norm of a map read twice": Function(lambda x, c, n: (y := c(x)) + n(y), conv(4, 4, 1), normed(4)),
    "one convolution twice": Function(lambda x, c, a, b: a(c(x)) + b(c(x + 1)), SHARED, normed(4), normed(4, 1)),
    "relu of a map read twice": Function(lambda x, c: F.relu(c(x)) + c(x), conv(4, 4, 1)),
    "relu in place": Function(lambda x, c: F.relu_(c(x)) * 2 - 1, conv(4, 4, 1)),
    "clamp": Function(lambda x: x.clamp(-0.5, 0.7) + F.hardtanh(x) + x.clamp(min=0) + F.relu6(x * 9)),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool, stride 1": nn.MaxPool2d(3, 1, 1),
    "average pool": nn.AvgPool2d(2),
    "average pool, padding counted": nn.AvgPool2d(3, 1, 1),
    "average pool, padding counted, stride 2": nn.AvgPool2d(3, 2, 1),
    "average pool, padding left out": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "average pool, padding left out, stride 2": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "global pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    "pool to 3x5": nn.AdaptiveAvgPool2d((3, 5)),
    "means": Function(lambda x: (x.mean((2, 3)), x.mean((2, 3), keepdim=True), x.mean(1, keepdim=True))),
    "concatenation": Function(lambda x: torch.cat([x, x * 2, F.relu(x)], 1)),
    "concatenation of rows": Function(lambda x: torch.cat([x, x + 1], 2)),
    "strided view": Function(lambda x: x[:, :, ::2, ::2]),
    "shifted strided view": Function(lambda x: x[:, :, 1:, 1:][:, :, ::2, ::3] + 0),
    "strided view read twice": Function(lambda x: (y := x[:, :, ::2]) [:, :, :, ::2].mean() + y),
    "channels cut": Function(lambda x: x[:, 1:3, :-2] - x[:, -2:, 2:]),
    "every second channel": Function(lambda x: x[:, ::2]),
    "pad": Function(lambda x: F.pad(x, (1, 2, 0, 3))),
    "pad with a value": Function(lambda x: F.pad(x, (1, 1, 1, 1), value=-2.5)),
    "pad and cut": Function(lambda x: F.pad(x, (-1, 1, 1, -2))),
    "flatten": Function(lambda x, f: f(x.flatten(1)), nn.Linear(4 * 12 * 15, 3, bias=False)),
    "flatten after a pool": nn.Sequential(nn.MaxPool2d(4), nn.Flatten()),
    "shuffle": Function(shuffled),
    "tokens": Function(lambda x: x.flatten(2).transpose(1, 2).softmax(-1)),
    "permuted": Function(lambda x: x.permute(0, 2, 3, 1) * 2),
    "split": Function(lambda x: torch.split(x, [1, 3], 1)[1] + sum(x.chunk(2, 1))[:, :1]),
    "broadcasts": Function(lambda x: x * torch.arange(4.0).view(4, 1, 1) + torch.ones(15) - x.mean((2, 3), True)),
    "division": Function(lambda x: (x + 5) / (x * x + 1)),
    "softmax over channels": Function(lambda x: x.softmax(1)),
    "prelu": nn.PReLU(4),
    "one prelu": nn.PReLU(),
    **{kind.__name__: kind() for kind in (nn.Sigmoid, nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.GELU)},
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(size=(17, 20), mode="bilinear"),
    "bilinear, corners": nn.Upsample(size=(17, 20), mode="bilinear", align_corners=True),
    "activation of a copy": Function(lambda x: (F.relu((y := x * 2).clone()), y)),
    "activation of all of a map": Function(lambda x: (F.relu((y := x * 2)[:, :, 0:12]), y + 1)),
    "norm of a copy": Function(lambda x, c, n: (n((y := c(x)).clone()), y), conv(4, 4, 1), normed(4)),
    "relu between strides": Function(lambda x: F.relu(x[:, :, ::2])[:, :, :, ::2]),
    "norm between strides": Function(lambda x, n: n(x[:, :, ::2])[:, :, :, ::2], normed(4)),
    "several outputs": Function(lambda x, c: {"maps": c(x), "mean": x.mean((2, 3)), "given": x}, conv(4, 3, 1)),
    "a constant output": Function(lambda x: (x, torch.arange(6.0).view(2, 3))),
}  # fmt: skip


def outputs_of(path, x):
    loaded = RUNTIME.load(path, threads=1)
    loaded.feed(x.numpy())
    loaded.invoke()
    return loaded.outputs()


def assert_equal(network, x, path, for_int8=False):
    """The file gives what the network gives, in the network's layout."""
    network = network.eval()
    path.write_bytes(network_bytes(network, x, for_int8))
    with torch.no_grad():
        expected = [leaf for leaf in torch.utils._pytree.tree_leaves(network(x)) if isinstance(leaf, torch.Tensor)]
    found = outputs_of(path, x)
    assert [array.shape for array in found] == [tuple(tensor.shape) for tensor in expected]
    for array, tensor in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, tensor.numpy(), atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("for_int8", [False, True], ids=["float32", "for int8"])
def test_a_file_computes_what_the_network_does(name, for_int8, tmp_path):
    x = torch.randn(1, 4, 12, 15, generator=torch.Generator().manual_seed(0))
    assert_equal(NETWORKS[name], x, tmp_path / "network.tflite", for_int8)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_windows_of_any_kind(data, tmp_path_factory):
    """Kernel, stride, padding and dilation against torch, also where TensorFlow's "SAME" would pad elsewhere."""
    size = [data.draw(st.integers(7, 12)) for _ in "hw"]
    kernel = [data.draw(st.integers(1, 4)) for _ in "hw"]
    stride = [data.draw(st.integers(1, 3)) for _ in "hw"]
    dilation = [data.draw(st.integers(1, 2)) for _ in "hw"]
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    kind = data.draw(st.sampled_from(["conv", "max", "average", "average, counted"]))
    network = {
        "conv": conv(3, 2, kernel, stride, padding, dilation if stride == [1, 1] else 1),
        "max": nn.MaxPool2d(kernel, stride, padding),
        "average": nn.AvgPool2d(kernel, stride, padding, count_include_pad=False),
        "average, counted": nn.AvgPool2d(kernel, stride, padding),
    }[kind]
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert_equal(network, x, tmp_path_factory.mktemp("files") / "network.tflite")


def test_equal_operators_are_computed_once(tmp_path):
    network = Function(lambda x: F.max_pool2d(x, 2) + F.max_pool2d(x, 2) * F.relu(F.max_pool2d(x, 2)))
    names = [call.name for call in record(network, torch.randn(1, 4, 8, 8)).calls]
    assert names.count("max_pool2d_with_indices") == 1
    assert_equal(network, torch.randn(1, 4, 8, 8), tmp_path / "network.tflite")


def test_what_nothing_reads_is_not_written():
    def function(x):
        F.max_pool2d(x, 2)
        return x + 1

    assert [call.name for call in record(Function(function), torch.randn(1, 4, 8, 8)).calls] == ["add"]


def part_in_place(x):
    y = x * 1
    y[:, :2].relu_()
    return y


def into_a_constant(x):
    y = torch.zeros(1, 4, 8, 8)
    y[:, :2] = x[:, :2]
    return y + 1


def added_to_a_constant(x):
    y = torch.zeros(1, 4, 8, 8)
    y.add_(x)
    return y


def constant_changed_after_use(x):
    w = torch.ones(1, 4, 1, 1)
    a = x * w
    w.mul_(2)
    return a, x * w


@pytest.mark.parametrize("function", [part_in_place, into_a_constant, added_to_a_constant, constant_changed_after_use])
def test_what_works_in_place_on_what_is_read_elsewhere_is_refused(function):
    """Its effect would be lost, or the example input become a constant."""
    with pytest.raises(UnknownOperatorError, match="in place"):
        record(Function(function), torch.randn(1, 4, 8, 8))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (nn.BatchNorm1d(6), (1, 6, 6)), (nn.PReLU(6), (1, 6, 6)), (nn.MaxPool2d(2), (6, 6, 6)),
        (Function(lambda x: torch.div(x, 2, rounding_mode="floor")), (1, 4, 7, 7)),
        (Function(lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear")), (1, 4, 7, 7)),
        (Function(lambda x: torch.addmm(x, x, torch.ones(6, 6))), (6, 6)),
    ],
)  # fmt: skip
def test_what_would_be_written_wrongly_is_refused(function, shape):
    with pytest.raises(UnknownOperatorError):
        network_bytes(function.eval(), torch.randn(shape))


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    """Every file is held against its network on another input than it was written from."""
    from hardware.runtimes import tflite_export

    wrong = {**tflite_export.RULES, "sub": tflite_export.RULES["add"]}
    monkeypatch.setattr(tflite_export, "RULES", wrong)
    monkeypatch.setattr("hardware.runtimes.litert.find_spec", lambda _: None)
    with pytest.raises(CostError, match="correctly"):
        RUNTIME.export(Function(lambda x: x - F.relu(x)), (4, 8, 8), tmp_path / "network.tflite")
    assert not list(tmp_path.iterdir())


def test_norms_and_activations_leave_no_operator_of_their_own(tmp_path):
    file = tmp_path / "network.tflite"
    file.write_bytes(network_bytes(NETWORKS["conv, norm, relu"].eval(), torch.randn(1, 4, 8, 8)))
    model = tflite.read(file)
    names = tflite.operator_names()
    # the last one brings the outputs into torch's layout
    assert [names[code.builtinCode] for code in model.operatorCodes] == ["CONV_2D", "TRANSPOSE"]


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.LayerNorm([4, 8, 8]), "native_layer_norm"),
        (nn.ConvTranspose2d(4, 4, 2), "convolution"),
        (nn.MaxPool2d(2, ceil_mode=True), "max_pool2d_with_indices"),
        (nn.AdaptiveAvgPool2d(3), "_adaptive_avg_pool2d"),
        (nn.AdaptiveMaxPool2d(2), "adaptive_max_pool2d"),
    ],
)
def test_an_unknown_operator_is_named_with_what_to_install(layer, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(UnknownOperatorError, match=name):
        network_bytes(layer.eval(), torch.randn(1, 4, 8, 8))
    monkeypatch.setattr("hardware.runtimes.litert.find_spec", lambda _: None)
    with pytest.raises(CostError, match=r"facenas\[litert\]"):
        RUNTIME.export(layer, (4, 8, 8), tmp_path / "network.tflite")
    assert not list(tmp_path.iterdir())


def test_int8_stays_inside_of_xnnpack(tmp_path):
    """What XNNPACK lacks in int8, a ReLU of its own and average pooling, is written as convolutions; the quantised
    network gives what the network gives, but for rounding."""

    def function(x, first, second):
        y = F.relu(x)
        return first(y) + F.avg_pool2d(y, 3, 1, 1, count_include_pad=False) + second(F.relu(first(y)))

    network = Function(function, conv(8, 8, 1), conv(8, 8, 3, padding=1))
    samples = calibration.random_inputs((8, 16, 16))
    path = RUNTIME.export_int8(network, (8, 16, 16), tmp_path / "int8.tflite", samples)
    fallback = RUNTIME.fallback(path)
    assert fallback is None or fallback.operators == 0
    x = torch.as_tensor(samples[0])
    with torch.no_grad():
        expected = network(x).numpy()
    (found,) = outputs_of(path, x)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.03 * np.sqrt(np.mean(expected**2))


def test_a_file_of_another_format_is_refused(tmp_path):
    for content in (b"", b"PK", b"xxxxTFL3" + b"\xff" * 64, b"x" * 200):
        (tmp_path / "network.tflite").write_bytes(content)
        with pytest.raises(CostError, match="readable LiteRT file"):
            tflite.read(tmp_path / "network.tflite")
