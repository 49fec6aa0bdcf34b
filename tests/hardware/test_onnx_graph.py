"""Counting ONNX files, exported by us and made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hardware.counters import count
from hardware.onnx_graph import profile_onnx
from hardware.runtimes.onnxruntime import export
from searchspaces.errors import CostError

from .cost_networks import Branches, tiny_network


def save(path: Path, nodes: list[Any], inputs: dict[str, list[Any]], weights: dict[str, Any], output: str) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("stranger", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("network", "size"),
    [
        (tiny_network(), (3, 16, 16)),
        (Branches(), (2, 4, 4)),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), nn.Conv2d(6, 4, 3, groups=2)), (4, 5, 5)),
        (nn.Sequential(nn.Flatten(2), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 7)), (3, 4, 4)),
    ],
)
def test_exported_network_has_the_macs_of_its_source(network: nn.Module, size: tuple[int, ...], tmp_path: Path) -> None:
    profile = profile_onnx(export(network, size, tmp_path / "network.onnx"))
    assert profile["operations"]["mac"] == count(network, size)
    assert sum(layer["macs"] for layer in profile["layers"]) == count(network, size)
    assert profile["input"] == list(size)
    assert profile["warnings"] == []


def test_parameters_are_those_in_the_file(tmp_path: Path) -> None:
    profile = profile_onnx(export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx"))
    # the batch norm (8 + 8 and its statistics) has become the bias of the convolution
    assert profile["parameters"] == {"stored": 242, "active": 242}


def test_product_of_activations_is_told_but_is_no_part_of_mac(tmp_path: Path) -> None:
    class Gram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.linear(x)
            return x @ x.transpose(1, 2)

    profile = profile_onnx(export(Gram(), (5, 8), tmp_path / "network.onnx"))
    assert profile["operations"]["mac"] == 5 * 8 * 8
    assert profile["warnings"] == ["mac misses 200 MACs of products of two activations (attention)."]


def test_gemm_with_a_transposed_input(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    path = save(tmp_path / "gemm.onnx", [node], {"x": [6, 1]}, {"w": np.ones((6, 4), np.float32)}, "y")
    profile = profile_onnx(path)
    assert profile["operations"]["mac"] == 6 * 1 * 4
    assert profile["warnings"] == ["All of the first axis is counted, be it a batch or not: 'x' of 6."]
    node = helper.make_node("Gemm", ["w", "x"], ["y"], transA=1)
    path = save(tmp_path / "gemm.onnx", [node], {"x": [1, 4]}, {"w": np.ones((1, 6), np.float32)}, "y")
    assert profile_onnx(path)["operations"]["mac"] == 6 * 1 * 4


def test_open_sizes_are_filled_in(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    path = save(tmp_path / "open.onnx", [node], {"x": ["N", 3, "H", "W"]}, weights, "y")
    with pytest.raises(CostError, match="'x' open"):
        profile_onnx(path)
    assert profile_onnx(path, (3, 10, 10))["operations"]["mac"] == 27 * 4 * 100
    with pytest.raises(CostError, match="made for an input of"):
        profile_onnx(path, (1, 10, 10))


def test_fixed_size_is_not_overruled_silently(tmp_path: Path) -> None:
    path = export(tiny_network(), (3, 16, 16), tmp_path / "network.onnx")
    with pytest.raises(CostError, match="made for an input of 3x16x16"):
        profile_onnx(path, (3, 32, 32))


def test_dequantised_weights_are_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w8", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    weights = {"w8": np.ones((4, 6), np.int8), "scale": np.array(0.1, np.float32)}
    profile = profile_onnx(save(tmp_path / "int8.onnx", nodes, {"x": [1, 4]}, weights, "y"))
    assert profile["operations"]["mac"] == 24
    assert profile["parameters"]["stored"] == 24
    assert profile["warnings"] == []


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_node("Relu", ["z"], ["y"], domain="stranger"),
    ]
    path = save(tmp_path / "strange.onnx", nodes, {"x": [1, 4]}, {}, "y")
    assert profile_onnx(path)["warnings"] == [
        "Operators of unknown cost are not counted: stranger.Relu.",
        "activation_bytes misses 1 tensors whose size is not known beforehand, such as 'y'.",
    ]


def test_size_that_depends_on_values_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["index"]),
        helper.make_node("Cast", ["index"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "z"], ["y"], name="product"),
    ]
    path = save(tmp_path / "values.onnx", nodes, {"x": [1, 4]}, {"w": np.ones((3, 2), np.float32)}, "y")
    with pytest.raises(CostError, match=r"'z' of MatMul 'product' depends on the input"):
        profile_onnx(path)


def test_damaged_or_missing_file_is_a_cost_error(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    with pytest.raises(CostError, match="No file"):
        profile_onnx(path)
    whole = export(tiny_network(), (3, 16, 16), path).read_bytes()
    for content in (b"", b"not a network", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CostError, match=r"network\.onnx"):
            profile_onnx(path)


def test_missing_external_weights_are_a_cost_error(tmp_path: Path) -> None:
    path = export(nn.Conv2d(3, 64, 3), (3, 8, 8), tmp_path / "network.onnx")
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CostError, match="not a readable ONNX file"):
        profile_onnx(path)


def test_contradicting_sizes_are_a_cost_error(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save(tmp_path / "wrong.onnx", [node], {"x": [1, 5]}, {"w": np.ones((4, 6), np.float32)}, "y")
    with pytest.raises(CostError, match="do not fit together"):
        profile_onnx(path)
