"""Working out the small tensors of an ONNX graph that hold sizes: what an exporter computes from a Shape."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .messages import failing_as
from .onnx_file import KEPT_VALUES
from .onnx_operators import Shape

_FOLDED = frozenset(
    """
    Abs Add And Cast Ceil Concat ConstantOfShape Div Equal Expand Flatten Floor Gather Greater Identity Less Max Min Mod
    Mul Neg Not Or Pow Range ReduceMax ReduceMin ReduceProd ReduceSum Reshape Round ScatterND Sign Size Slice Split Sqrt
    Squeeze Sub Tile Transpose Unsqueeze Where
    """.split()  # noqa: SIM905
)


def fold(model: Any, shapes: Mapping[str, Shape], path: str | Path) -> bool:
    """Replace nodes that work on sizes by their results, as far as the sizes are known.

    Args:
        model: is changed; only its main graph.
        shapes: the known sizes.
        path: for messages.

    Returns:
        Whether there was any: then more sizes may be known after the next inference.

    Raises:
        CostError: if the operators do not fit their inputs.
    """
    graph = model.graph
    values: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer if prod(tensor.dims) <= KEPT_VALUES}
    chosen, kept, results = [], [], {}
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
            axes = shapes[node.input[0]]
            results[node.output[0]] = helper.make_tensor(node.output[0], 7, [len(axes)], axes)
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            kept.append(node)
            if prod(node.attribute[0].t.dims) <= KEPT_VALUES:
                values[node.output[0]] = node.attribute[0].t
        elif _foldable(node, values.keys() | results.keys(), shapes):
            chosen.append(node)
            results.update(dict.fromkeys(node.output))
        else:
            kept.append(node)
    with failing_as(f"{path} holds a graph whose sizes cannot be worked out"):
        results.update(_evaluate(model, chosen, {**values, **results}))
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(results.values())
    return bool(results)


def _foldable(node: Any, known: Any, shapes: Mapping[str, Shape]) -> bool:
    small = all(name in shapes and prod(shapes[name]) <= KEPT_VALUES for name in node.output)
    return node.op_type in _FOLDED and not node.domain and small and all(name in known for name in node.input if name)


def _evaluate(model: Any, nodes: list[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Results of nodes, given the tensors that they read."""
    names = [name for node in nodes for name in node.output]
    if not names:
        return {}
    needed = {name for node in nodes for name in node.input} - set(names)
    tensors = []
    for name in needed & values.keys():
        tensor = type(values[name])()
        tensor.CopyFrom(values[name])
        tensor.name = name
        tensors.append(tensor)
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    graph = helper.make_graph(nodes, "sizes", [], outputs, tensors)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    found = ReferenceEvaluator(part).run(None, {})
    return {name: numpy_helper.from_array(value, name) for name, value in zip(names, found, strict=True)}
