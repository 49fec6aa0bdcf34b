"""Operators that fall off in a runtime are named, with their layer; others are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware.cliffs import RULES, find_cliffs, messages
from hardware.runtimes import RUNTIMES
from searchspaces.errors import CostError

from .cost_networks import mobilefacenet, tiny_network

SIZE = (3, 16, 16)


class Between(nn.Module):
    """A convolution, something, and nothing after it."""

    def __init__(self, something: object) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 3, padding=1)
        self.something = something

    def forward(self, x: Tensor) -> Tensor:
        return self.something(self.before(x))


def depthwise(kernel: int) -> nn.Module:
    return nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=8)


CASES = [
    ("litert", "float32", nn.AvgPool2d(3, 1, 1, count_include_pad=False), None),
    ("litert", "float32", nn.AvgPool2d(3, 2, 1), None),
    ("litert", "float32", nn.AvgPool2d(2), None),
    ("litert", "float32", depthwise(7), "7x7"),
    ("litert", "float32", depthwise(5), None),
    ("litert", "float32", nn.Conv2d(8, 8, 7, padding=3), None),
    ("litert", "int8", nn.PReLU(8), None),
    ("litert", "float32", nn.ReLU6(), None),
    ("litert", "int8", nn.ReLU(), None),
    ("litert", "float32", lambda x: F.relu(x) + x, None),
    ("litert", "float32", lambda x: x[:, :, ::2, ::2], None),
    ("litert", "int8", lambda x: F.relu(x) + x, None),
    ("litert", "int8", nn.AvgPool2d(3, 2, 1, count_include_pad=False), None),
    ("litert", "float32", lambda x: x[:, :, 1:, 1:], None),
    ("executorch", "float32", lambda x: x[:, :, ::2, ::2], "strided view"),
    ("executorch", "float32", nn.AvgPool2d(3, 1, 1), "counts its padding"),
    ("executorch", "float32", nn.AvgPool2d(3, 2, 1, count_include_pad=False), None),
    ("executorch", "float32", nn.AvgPool2d(2), None),
    ("executorch", "int8", depthwise(7), "7x7"),
    ("executorch", "float32", lambda x: x.mean((2, 3)), "mean over the map"),
    ("executorch", "float32", lambda x: x.mean((-2, -1)), "mean over the map"),
    ("executorch", "float32", lambda x: x.mean((2, 3), keepdim=True), None),
    ("executorch", "float32", nn.AdaptiveAvgPool2d(1), None),
    ("executorch", "float32", lambda x: x.mean(1), None),
    ("executorch", "float32", nn.Upsample(scale_factor=2), "nearest-neighbour"),
    ("executorch", "float32", lambda x: F.interpolate(x, size=20, mode="nearest"), "nearest-neighbour"),
    ("executorch", "float32", nn.Upsample(scale_factor=2, mode="bilinear"), None),
    ("onnxruntime", "float32", nn.PReLU(), "PReLU"),
    ("onnxruntime", "int8", nn.AvgPool2d(2), "average pooling in int8"),
    ("onnxruntime", "float32", nn.AvgPool2d(2), None),
    ("openvino", "float32", nn.PReLU(), None),
]


@pytest.mark.parametrize(("runtime", "dtype", "something", "expected"), CASES)
def test_rules(runtime: str, dtype: str, something: object, expected: str | None) -> None:
    found = find_cliffs(Between(something), SIZE, runtime, dtype)
    if expected is None:
        assert not found
    else:
        (cliff,) = found
        assert expected in cliff.operator and cliff.runtime == runtime
        assert cliff.layer == ("something" if isinstance(something, nn.Module) else "Between")


def test_every_rule_is_tried_and_of_a_runtime() -> None:
    tried = {(runtime, dtype, expected) for runtime, dtype, _, expected in CASES if expected}
    for rule in RULES:
        assert rule.runtime in RUNTIMES
        assert any(rule.runtime == name and dtype in rule.dtypes and text in rule.what for name, dtype, text in tried)
    assert len({(rule.runtime, rule.what) for rule in RULES}) == len(RULES)


def test_layers_are_grouped_into_one_message_a_kind() -> None:
    network = mobilefacenet()
    (line,) = messages(find_cliffs(network, (3, 112, 112), "onnxruntime"))
    (depthwise_line,) = messages(find_cliffs(network, (3, 112, 112), "litert"))
    prelus = sum(isinstance(module, nn.PReLU) for module in network.modules())
    assert line.startswith(f"onnxruntime: PReLU in {prelus} places, first 0.2: ") and "Use ReLU" in line
    (last,) = [name for name, layer in network.named_modules() if getattr(layer, "kernel_size", 0) == (7, 7)]
    assert f"depthwise convolution of 7x7 or more in {last}: " in depthwise_line


def test_network_is_left_as_it_was() -> None:
    network = tiny_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    find_cliffs(network, SIZE, "litert")
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(CostError, match="fails on an input"):
        find_cliffs(network, (4, 16, 16), "litert")
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
