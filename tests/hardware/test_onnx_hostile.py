"""ONNX files that are damaged or mean harm end in one clear error, and never reach outside of their folder."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from hardware.onnx_file import bytes_on_disk
from hardware.onnx_graph import profile_onnx
from searchspaces.errors import CostError

from .onnx_files import external, floats, model_of, node, save


def refused(path: Path, message: str) -> None:
    with pytest.raises(CostError, match=message) as caught:
        profile_onnx(path)
    assert "\n" not in str(caught.value)
    assert "network.onnx" in str(caught.value)


def matmul(**fields: Any) -> Any:
    return model_of([node("MatMul", "x w")], {"x": [1, 4]}, {"w": floats(4, 4)}, **fields)


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "link.bin", "/etc/hostname", ""):
        refused(external(folder / "network.onnx", location), "not in its folder")


def test_weights_beside_the_file_are_counted_without_being_read(tmp_path: Path) -> None:
    size = (4096, 4096)
    path = external(tmp_path / "network.onnx", "weights.bin", size)
    with (tmp_path / "weights.bin").open("wb") as file:
        file.truncate(4 * 4096 * 4096)
    tracemalloc.start()
    found = profile_onnx(path)
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    assert found["operations"]["mac"] == found["parameters"]["active"] == 4096 * 4096
    assert found["weight_bytes"]["stored"] == 4 * 4096 * 4096
    assert bytes_on_disk(path) == path.stat().st_size + 4 * 4096 * 4096


@pytest.mark.parametrize(
    "fields", [{}, {"offset": "8"}, {"length": "63"}, {"offset": "-4"}, {"length": "many"}, {"length": "9" * 30}]
)
def test_weights_that_are_not_whole(fields: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64 if fields else 60))
    refused(external(tmp_path / "network.onnx", "weights.bin", **fields), "not whole")


def test_weight_with_too_few_bytes(tmp_path: Path) -> None:
    model = matmul()
    model.graph.initializer[0].dims[:] = [4, 2**40]
    refused(save(tmp_path / "network.onnx", model), "needs 17,592,186,044,416 bytes and holds 64")
    model.graph.initializer[0].dims[:] = [-4, 4]
    refused(save(tmp_path / "network.onnx", model), "negative size")


def test_truncated_at_any_place(tmp_path: Path) -> None:
    whole = matmul().SerializeToString()
    path = tmp_path / "network.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        try:
            profile_onnx(path)
        except CostError as error:
            assert "network.onnx" in str(error)


def test_graph_without_outputs(tmp_path: Path) -> None:
    refused(save(tmp_path / "network.onnx", model_of([node("Relu", "x")], {"x": [1, 4]}, {}, [])), "without outputs")


def test_graph_that_goes_in_a_circle(tmp_path: Path) -> None:
    nodes = [node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b")]
    refused(save(tmp_path / "network.onnx", model_of(nodes, {"x": [1, 4]}, {})), "depends on itself")


def test_nodes_in_any_order(tmp_path: Path) -> None:
    nodes = [node("MatMul", "h w"), node("Relu", "x", "h")]
    found = profile_onnx(save(tmp_path / "network.onnx", model_of(nodes, {"x": [1, 4]}, {"w": floats(4, 4)})))
    assert found["operations"]["mac"] == 16


def test_tensor_from_nowhere_or_made_twice(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    refused(save(path, model_of([node("Add", "x ghost")], {"x": [1, 4]}, {})), "'ghost' is used, but nothing makes it")
    refused(save(path, model_of([node("Relu", "x"), node("Neg", "x")], {"x": [1, 4]}, {})), "two nodes make")


def test_function_that_calls_itself(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    function = helper.make_function("local", "Self", ["a"], ["b"], [node("Self", "a", "b", domain="local")], opsets)
    model = model_of([node("Self", "x", domain="local")], {"x": [1, 4]}, {}, functions=[function])
    refused(save(tmp_path / "network.onnx", model), "'Self' calls itself")


@pytest.mark.parametrize("size", [2**62, -1])
def test_sizes_that_cannot_be(size: int, tmp_path: Path) -> None:
    model = model_of([node("Relu", "x")], {"x": [1, 4, size]}, {})
    refused(save(tmp_path / "network.onnx", model), "which cannot be")


def test_constant_of_a_huge_shape_is_not_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["c"]),
        node("Shape", "c", "s"),
        node("Cast", "s", to=TensorProto.FLOAT),
    ]
    import numpy as np

    weights = {"size": np.array([2**20, 2**20])}
    found = profile_onnx(save(tmp_path / "network.onnx", model_of(nodes, {"x": [1, 4]}, weights)))
    assert found["operations"]["mac"] == 0
