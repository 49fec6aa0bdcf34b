"""ONNX files made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAINS = ("stranger", "com.microsoft", "local")
Inputs = dict[str, Sequence[Any]]


def model_of(
    nodes: list[Any],
    inputs: Inputs,
    weights: dict[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    *,
    opset: int = 17,
    functions: Sequence[Any] = (),
    kind: int = TensorProto.FLOAT,
) -> Any:
    """A model of nodes; the type of its inputs is ``kind``, and its outputs are of unknown size."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, size) for name, size in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in DOMAINS)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)


def save(path: Path, model: Any) -> Path:
    """Write a model as it is, without a check."""
    path.write_bytes(model.SerializeToString())
    return path


def floats(*size: int) -> np.ndarray:
    """A weight."""
    return np.ones(size, np.float32)


def node(kind: str, inputs: str, outputs: str = "y", domain: str = "", **attributes: Any) -> Any:
    """A node; names are separated by blanks, and _ is an input that is left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(kind, names, outputs.split(), domain=domain, **attributes)


def branch(name: str, nodes: list[Any], output: str, weights: dict[str, np.ndarray] | None = None) -> Any:
    """A subgraph without inputs of its own."""
    tensors = [numpy_helper.from_array(value, key) for key, value in (weights or {}).items()]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)], tensors)


def external(path: Path, location: str, size: Sequence[int] = (4, 4), **fields: str) -> Path:
    """A product with a weight that another file holds."""
    model = model_of([node("MatMul", "x w")], {"x": [1, size[0]]}, {})
    tensor = TensorProto(name="w", dims=size, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.append(onnx.StringStringEntryProto(key=key, value=value))
    model.graph.initializer.append(tensor)
    return save(path, model)
