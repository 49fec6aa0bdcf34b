"""MACs of ONNX operators, standard, quantised and fused, against sums made by hand."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hardware.onnx_graph import profile_onnx
from hardware.onnx_operators import COUNTED, FREE, MICROSOFT, einsum_macs

from .onnx_files import branch, floats, model_of, node, save

U8, I8 = np.zeros((), np.uint8), np.zeros((), np.int8)
SCALE = np.array(0.1, np.float32)
SCALES = {"s": SCALE, "z": U8}


def q8(*size: int) -> np.ndarray:
    return np.ones(size, np.int8)


def profile(tmp_path: Path, model: Any, *size: Any) -> dict[str, Any]:
    return profile_onnx(save(tmp_path / "network.onnx", model), *size)


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "mac", "products"),
    [
        ([node("Conv", "x w", strides=[2, 2])], {"x": [1, 4, 9, 9]}, {"w": floats(8, 4, 3, 3)}, 8 * 16 * 36, 0),
        ([node("Conv", "x w", group=4)], {"x": [1, 4, 9, 9]}, {"w": floats(4, 1, 3, 3)}, 4 * 49 * 9, 0),
        ([node("ConvTranspose", "x w")], {"x": [1, 4, 5, 5]}, {"w": floats(4, 6, 2, 2)}, 25 * 4 * 6 * 4, 0),
        ([node("MatMul", "x w")], {"x": [1, 7, 4]}, {"w": floats(4, 6)}, 7 * 24, 0),
        ([node("MatMul", "x v")], {"x": [1, 7, 4], "v": [1, 4, 7]}, {}, 0, 7 * 4 * 7),
        ([node("Gemm", "x w", transB=1)], {"x": [1, 4]}, {"w": floats(6, 4)}, 24, 0),
        ([node("Einsum", "x w", equation="bij,jk->bik")], {"x": [1, 7, 4]}, {"w": floats(4, 6)}, 7 * 24, 0),
        ([node("Einsum", "x v", equation="...ij,...kj->...ik")], {"x": [1, 2, 7, 4], "v": [1, 2, 5, 4]}, {}, 0, 280),
        ([node("LSTM", "x w r", "y", hidden_size=5)], {"x": [3, 1, 6]},
         {"w": floats(1, 20, 6), "r": floats(1, 20, 5)}, 3 * 20 * 11, 0),
        ([node("GRU", "x w r", "_ y".replace("_", "seq"), hidden_size=5)], {"x": [3, 1, 6]},
         {"w": floats(1, 15, 6), "r": floats(1, 15, 5)}, 3 * 15 * 11, 0),
        ([node("RNN", "x w r", "y", hidden_size=5)], {"x": [3, 1, 6]},
         {"w": floats(1, 5, 6), "r": floats(1, 5, 5)}, 3 * 5 * 11, 0),
    ],
)  # fmt: skip
def test_standard_operators(
    nodes: list[Any], inputs: dict[str, Any], weights: dict[str, Any], mac: int, products: int, tmp_path: Path
) -> None:
    found = profile(tmp_path, model_of(nodes, inputs, weights))
    assert found["operations"] == {"mac": mac, "flops": 2 * (mac + products)}
    assert found["parameters"] == dict.fromkeys(("stored", "active"), sum(w.size for w in weights.values()))
    assert len([text for text in found["warnings"] if "first axis" not in text]) == bool(products)


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "mac", "products"),
    [
        ([node("QLinearConv", "x s z w s k s z b")], {"x": [1, 4, 9, 9]},
         {**SCALES, "w": q8(8, 4, 3, 3), "k": I8, "b": np.ones(8, np.int32)}, 8 * 49 * 36, 8),
        ([node("ConvInteger", "x w z", "c"), node("Cast", "c", to=1)], {"x": [1, 4, 9, 9]},
         {"w": q8(8, 4, 3, 3), "z": U8}, 8 * 49 * 36, 0),
        ([node("MatMulInteger", "x w", "c"), node("Cast", "c", to=1)], {"x": [1, 4]}, {"w": q8(4, 6)}, 24, 0),
        ([node("QLinearMatMul", "x s z w s k s z")], {"x": [1, 4]}, {**SCALES, "k": I8, "w": q8(4, 6)}, 24, 0),
        ([node("QGemm", "x s z w s k b s z", domain=MICROSOFT, transB=1)], {"x": [1, 4]},
         {**SCALES, "k": I8, "w": q8(6, 4), "b": np.ones(6, np.int32)}, 24, 6),
        ([node("MatMulIntegerToFloat", "x w s s", domain=MICROSOFT)], {"x": [1, 4]},
         {"s": SCALE, "w": q8(4, 6)}, 24, 0),
        ([node("QLinearAdd", "x s z x s z s z", "a", domain=MICROSOFT),
          node("QLinearGlobalAveragePool", "a s z s z", "g", domain=MICROSOFT),
          node("DequantizeLinear", "g s z", "f", domain=MICROSOFT),
          node("Conv", "f w")], {"x": [1, 4, 9, 9]}, {**SCALES, "w": floats(8, 4, 1, 1)}, 32, 0),
    ],
)  # fmt: skip
def test_quantised_operators(
    nodes: list[Any], inputs: dict[str, Any], weights: dict[str, Any], mac: int, products: int, tmp_path: Path
) -> None:
    found = profile(tmp_path, model_of(nodes, inputs, weights, kind=TensorProto.UINT8))
    biases = products
    assert found["operations"]["mac"] == mac
    assert found["parameters"]["stored"] == weights["w"].size + biases  # neither scales nor zero points
    assert found["weight_bytes"]["stored"] == sum(weight.nbytes for weight in weights.values())
    assert found["warnings"] == []


def test_quantised_and_dequantised_network_is_that_of_its_floats(tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("DequantizeLinear", "q s z", "f"),
        node("DequantizeLinear", "w8 ws wz", "w", axis=0),
        node("DequantizeLinear", "b32 ws _", "b", axis=0),
        node("Conv", "f w b"),
    ]
    weights = {
        **{"s": SCALE, "z": U8, "w8": q8(8, 4, 3, 3), "ws": floats(8), "wz": np.zeros(8, np.int8)},
        "b32": np.ones(8, np.int32),
    }
    found = profile(tmp_path, model_of(nodes, {"x": [1, 4, 9, 9]}, weights))
    assert found["operations"]["mac"] == 8 * 49 * 36
    assert found["parameters"]["stored"] == 288 + 8
    assert found["weight_bytes"]["int8_estimate"] == 288 + 4 * 8 + 4 * 8
    # the quantised input is 324 bytes, all other tensors are float32
    assert found["activation_bytes"] == {"peak": 4 * (324 + 392), "total": 324 * 9 + 4 * 392}


def test_half_precision_takes_half_the_bytes(tmp_path: Path) -> None:
    weights = {"w": np.ones((4, 6), np.float16)}
    found = profile(tmp_path, model_of([node("MatMul", "x w")], {"x": [1, 4]}, weights, kind=TensorProto.FLOAT16))
    assert found["weight_bytes"] == {"stored": 48, "float32": 96, "int8_estimate": 24 + 16}
    assert found["activation_bytes"]["peak"] == 2 * 4 + 2 * 6


@pytest.mark.parametrize(
    ("nodes", "inputs", "weights", "mac", "products"),
    [
        ([node("FusedConv", "x w b", domain=MICROSOFT, activation="Relu")], {"x": [1, 4, 9, 9]},
         {"w": floats(8, 4, 3, 3), "b": floats(8)}, 8 * 49 * 36, 0),
        ([node("FusedMatMul", "x v", domain=MICROSOFT, transB=1)], {"x": [1, 7, 4], "v": [1, 7, 4]}, {}, 0, 7 * 4 * 7),
        ([node("FusedMatMul", "x w", domain=MICROSOFT, transB=1)], {"x": [1, 7, 4]}, {"w": floats(6, 4)}, 7 * 24, 0),
        ([node("FusedGemm", "x w b", domain=MICROSOFT)], {"x": [1, 4]}, {"w": floats(4, 6), "b": floats(6)}, 24, 0),
        ([node("Attention", "x w b", domain=MICROSOFT, num_heads=2)], {"x": [1, 5, 8]},
         {"w": floats(8, 24), "b": floats(24)}, 5 * 8 * 24, 2 * 5 * 5 * 8),
        ([node("MultiHeadAttention", "x v v", domain=MICROSOFT, num_heads=2)], {"x": [1, 5, 8], "v": [1, 7, 8]}, {},
         0, 2 * 5 * 7 * 8),
        ([node("SkipLayerNormalization", "x x g", "n", domain=MICROSOFT), node("FastGelu", "n", "h", domain=MICROSOFT),
          node("MatMul", "h w")], {"x": [1, 5, 8]}, {"g": floats(8), "w": floats(8, 3)}, 5 * 24, 0),
    ],
)  # fmt: skip
def test_fused_operators_of_onnx_runtime(
    nodes: list[Any], inputs: dict[str, Any], weights: dict[str, Any], mac: int, products: int, tmp_path: Path
) -> None:
    found = profile(tmp_path, model_of([*nodes, node("Relu", "y", "r")], inputs, weights, ["r"]))
    assert found["operations"] == {"mac": mac, "flops": 2 * (mac + products)}
    assert found["parameters"]["stored"] == sum(weight.size for weight in weights.values())
    assert len(found["warnings"]) == bool(products)  # the size of y is known: its bytes are counted


@pytest.mark.parametrize("axes", [3, 4])
def test_attention_of_opset_23(axes: int, tmp_path: Path) -> None:
    sizes = {"q": [1, 2, 5, 4], "k": [1, 2, 7, 4], "v": [1, 2, 7, 3]}
    attributes = {}
    if axes == 3:
        sizes = {"q": [1, 5, 8], "k": [1, 7, 8], "v": [1, 7, 6]}
        attributes = {"q_num_heads": 2, "kv_num_heads": 2}
    found = profile(tmp_path, model_of([node("Attention", "q k v", **attributes)], sizes, {}, opset=23))
    assert found["operations"] == {"mac": 0, "flops": 2 * 2 * 5 * 7 * (4 + 3)}


def test_deformable_convolution(tmp_path: Path) -> None:
    sizes = {"x": [1, 4, 9, 9], "o": [1, 18, 7, 7]}
    found = profile(tmp_path, model_of([node("DeformConv", "x w o")], sizes, {"w": floats(8, 4, 3, 3)}, opset=19))
    assert found["operations"]["mac"] == 8 * 49 * 36


# Subgraphs and functions


def test_costlier_branch_of_an_if_is_counted(tmp_path: Path) -> None:
    heavy = branch("heavy", [node("MatMul", "x w1", "a"), node("MatMul", "a w2", "h")], "h")
    light = branch("light", [node("MatMul", "x w3", "l")], "l", {"w3": floats(4, 4)})
    model = model_of(
        [node("If", "c", then_branch=heavy, else_branch=light)],
        {"x": [1, 4]},
        {"w1": floats(4, 9), "w2": floats(9, 4)},
    )
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    found = profile(tmp_path, model)
    assert found["operations"] == {"mac": 72, "flops": 144}
    assert found["parameters"] == {"stored": 88, "active": 72}
    assert found["warnings"] == ["If 'y': the costlier branch is counted (72 MACs against 16)."]
    assert found["activation_bytes"]["peak"] == 4 * (4 + 4 + 9 + 4) + 1  # x, y; in the branch a and h; c


@pytest.mark.parametrize(("rounds", "mac"), [(5, 80), (None, 16)])
def test_body_of_a_loop_counts_every_round(rounds: int | None, mac: int, tmp_path: Path) -> None:
    def info(name: str, kind: int, size: list[int]) -> Any:
        return helper.make_tensor_value_info(name, kind, size)

    body = helper.make_graph(
        [node("MatMul", "state w", "next"), node("Identity", "go", "on")],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("state", 1, [1, 4])],
        [info("on", TensorProto.BOOL, []), info("next", 1, [1, 4])],
    )
    weights = {"w": floats(4, 4), "yes": np.array(True)}
    if rounds:
        weights["n"] = np.array(rounds)
    model = model_of([node("Loop", "n yes x", body=body)], {"x": [1, 4]}, weights)
    if not rounds:
        model.graph.input.append(info("n", TensorProto.INT64, []))
    found = profile(tmp_path, model)
    assert found["operations"]["mac"] == mac
    told = [] if rounds else ["Loop 'y': one of an unknown number of rounds is counted."]
    assert found["warnings"][:-1] == told
    assert "'y'" in found["warnings"][-1]  # the state could change its size: its bytes are not counted


def test_local_function_is_counted_where_it_is_called(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17)]
    body = [node("MatMul", "a b", "c"), node("Relu", "c", "d")]
    function = helper.make_function("local", "Dense", ["a", "b"], ["d"], body, opsets)
    nodes = [node("Dense", "x w", "h", domain="local"), node("Dense", "h w", domain="local")]
    found = profile(tmp_path, model_of(nodes, {"x": [1, 4]}, {"w": floats(4, 4)}, functions=[function]))
    assert found["operations"]["mac"] == 32
    assert found["warnings"] == []


# Sizes


def test_sizes_that_an_exporter_computes(tmp_path: Path) -> None:
    """Half of the channels, as older exporters write it: Shape, Gather, Div, Slice."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "channels", axis=0),
        node("Div", "channels two", "half"),
        node("Unsqueeze", "half axis", "end"),
        node("Slice", "x start end one1", "left"),
        node("Conv", "left w"),
    ]
    numbers = {"one": 1, "two": 2, "axis": [0], "start": [0], "one1": [1]}
    weights = {"w": floats(8, 3, 1, 1), **{name: np.array(value) for name, value in numbers.items()}}
    found = profile(tmp_path, model_of(nodes, {"x": [1, 6, 5, 5]}, weights))
    assert found["operations"]["mac"] == 25 * 24
    assert found["parameters"]["stored"] == 24


def test_open_sizes_of_any_input(tmp_path: Path) -> None:
    model = model_of([node("Conv", "x w")], {"x": ["N", 1, "H", "W"]}, {"w": floats(2, 1, 1, 1)})
    assert profile(tmp_path, model, 8)["operations"]["mac"] == 128
    assert profile(tmp_path, model, (1, 4, 8))["input"] == [1, 4, 8]
    tokens = model_of([node("MatMul", "x w")], {"x": ["N", "tokens", 4]}, {"w": floats(4, 4)})
    assert profile(tmp_path, tokens, 10)["operations"]["mac"] == 160


def test_memory_frees_a_tensor_after_its_last_use(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Relu", "a", "b"),
        node("Reshape", "b flat", "c"),
        node("Add", "c c"),
    ]
    weights = {"w": floats(8, 2, 1, 1), "flat": np.array([1, -1])}
    found = profile(tmp_path, model_of(nodes, {"x": [1, 2, 4, 4]}, weights))
    assert found["activation_bytes"] == {"peak": 2 * 512, "total": 128 + 3 * 512}


def test_nodes_without_a_use_are_not_counted(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "dead"), node("Relu", "x")]
    found = profile(tmp_path, model_of(nodes, {"x": [1, 4]}, {"w": floats(4, 4)}))
    assert found["operations"]["mac"] == 0
    assert found["parameters"] == {"stored": 16, "active": 0}
    assert found["warnings"] == ["1 nodes that no result depends on are not counted."]


# The tables


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk", [(2, 3), (3, 4)], 24),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], 24 + 40),
        ("ij->ji", [(2, 3)], 0),
        ("b h i d, b h j d -> b h i j", [(1, 2, 5, 4), (1, 2, 7, 4)], 280),
        ("i,i->", [(5,), (5,)], 5),
    ],
)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], macs: int) -> None:
    assert einsum_macs(equation, shapes) == macs


def test_every_operator_of_onnx_is_counted_free_or_named() -> None:
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    unknown = names - FREE[""] - {name for domain, name in COUNTED if domain == ""}
    assert unknown <= {
        *("AffineGrid", "CausalConvWithState", "DFT", "Det", "ImageDecoder", "LinearAttention", "MelWeightMatrix"),
        "STFT",
    }
    assert not any(name in FREE.get(domain, ()) for domain, name in COUNTED)
    assert prod(()) == 1
