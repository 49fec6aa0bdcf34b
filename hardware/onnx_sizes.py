"""The sizes of all tensors of an ONNX graph, for an input of one sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper, shape_inference

from searchspaces.errors import CostError

from .messages import failing_as
from .onnx_file import KEPT_VALUES, all_graphs
from .onnx_operators import MICROSOFT, Shape, is_known, kind_of
from .onnx_values import fold

MOST_ROUNDS = 200
"""Turns of inferring sizes and working out those that depend on them."""
LARGEST = 2**62
"""Entries of the largest tensor that is believed."""


class Sizes:
    """Sizes and element types of tensors, by name, in all subgraphs."""

    def __init__(self, graph: Any) -> None:
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}
        for inner in all_graphs(graph):
            for tensor in inner.initializer:
                self.shapes[tensor.name], self.types[tensor.name] = tuple(tensor.dims), tensor.data_type
            for entry in (*inner.input, *inner.value_info, *inner.output):
                kind = entry.type.tensor_type
                self.types.setdefault(entry.name, kind.elem_type)
                if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
                    self.shapes[entry.name] = tuple(axis.dim_value for axis in kind.shape.dim)


def sizes_of(model: Any, path: str | Path, input_size: Sequence[int] | int | None) -> tuple[Sizes, list[int], str]:
    """Write the sizes of the inputs into a model and infer all others.

    Args:
        model: is changed.
        path: for messages.
        input_size: see `hardware.onnx_graph.profile_onnx`.

    Returns:
        The sizes, those of the first input without its batch axis, and a warning ("" if there is none). The batch
        becomes 1 unless the graph itself forbids it.

    Raises:
        CostError: if sizes are open, contradict ``input_size`` or one another, or are too large to be true.
    """
    inputs = _inputs(model)
    own = [_first_axis(entry) for entry in inputs]
    _fix_inputs(inputs, path, input_size)
    try:
        sizes = _inferred(model, path)
    except CostError:
        if own == [_first_axis(entry) for entry in inputs] or not all(own):
            raise
        # the batch is written down inside of the graph as well
        for entry, size in zip(inputs, own, strict=True):
            entry.type.tensor_type.shape.dim[0].dim_value = size
        sizes = _inferred(model, path)
    kept = [entry for entry in inputs if len(entry.type.tensor_type.shape.dim) > 1 and _first_axis(entry) > 1]
    warning = ""
    if kept:
        many = ", ".join(f"{entry.name!r} of {_first_axis(entry)}" for entry in kept[:3])
        warning = f"All of the first axis is counted, be it a batch or not: {many}."
    first = inputs[0].type.tensor_type.shape.dim if inputs else ()
    return sizes, [axis.dim_value for axis in first[1:]], warning


def _inputs(model: Any) -> list[Any]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in weights]


def _first_axis(entry: Any) -> int:
    axes = entry.type.tensor_type.shape.dim
    return axes[0].dim_value if axes else 1


def _fix_inputs(inputs: Sequence[Any], path: str | Path, input_size: Sequence[int] | int | None) -> None:
    for entry in inputs:
        kind = entry.type.tensor_type
        if entry.type.HasField("tensor_type") and not kind.HasField("shape"):
            axes_given = 0 if input_size is None else 4 if isinstance(input_size, int) else len(input_size) + 1
            for _ in range(axes_given):
                kind.shape.dim.add()
            if not axes_given:
                raise CostError(f"{path} leaves the size of input {entry.name!r} open: give the input size.")
        axes = kind.shape.dim
        asked = _asked(axes, input_size)
        for index, (axis, size) in enumerate(zip(axes, asked, strict=True)):
            given = axis.dim_value
            if given < 0 or given > LARGEST:
                raise CostError(f"{path}: the input {entry.name!r} has a size of {given}, which cannot be.")
            if index > 0 and given and size and given != size:
                fixed = "x".join(str(other.dim_value or "?") for other in axes[1:])
                raise CostError(f"{path} is made for an input of {fixed}; export the network again for another size.")
            # an open first axis is the batch, and a fixed one is if the rest is a picture or a film
            chosen = 1 if index == 0 and (not given or len(axes) > 3) else given or size
            if not chosen:
                raise CostError(f"{path} leaves the size of input {entry.name!r} open: give the input size.")
            axis.dim_value = chosen


def _asked(axes: Sequence[Any], input_size: Sequence[int] | int | None) -> list[int | None]:
    """The size that was asked for each axis, or None."""
    if input_size is None:
        return [None] * len(axes)
    if isinstance(input_size, int):  # the pixels of a picture; of any other input only what is open
        if len(axes) == 4:
            return [None, None if axes[1].dim_value else 3, input_size, input_size]
        return [None if axis.dim_value else input_size for axis in axes]
    return [1, *input_size] if len(axes) == len(input_size) + 1 else [None] * len(axes)


def _inferred(model: Any, path: str | Path) -> Sizes:
    stand_in = type(model)()
    stand_in.CopyFrom(model)
    unknown = {name for g in all_graphs(stand_in.graph) for n in g.node if not is_known(n) for name in n.output}
    for output in stand_in.graph.output:
        output.ClearField("type")
    for graph in all_graphs(stand_in.graph):
        # what an exporter wrote down holds for its own input size; all that is known of a stranger's operators
        kept = [entry for entry in graph.value_info if entry.name in unknown]
        del graph.value_info[:]
        graph.value_info.extend(kept)
        _replace_known_extensions(graph)
    _drop_values(stand_in.graph)
    names = {name for node in stand_in.graph.node for name in node.output if name}
    for _ in range(MOST_ROUNDS):
        with failing_as(f"{path} holds a graph whose sizes do not fit together"):
            inferred = shape_inference.infer_shapes(stand_in, strict_mode=True, data_prop=True)
        sizes = Sizes(inferred.graph)
        if names <= sizes.shapes.keys() or not fold(stand_in, sizes.shapes, path):
            break
    for name, shape in list(sizes.shapes.items()):
        if min(shape, default=0) < 0:
            del sizes.shapes[name]  # how the inference says that it does not know
        elif prod(shape) > LARGEST:
            raise CostError(f"{path}: the tensor {name!r} has a size of {list(shape)}, which cannot be.")
    return sizes


def _drop_values(graph: Any) -> None:
    """Weights whose values were not read become inputs: the inference must not look for what is not there."""
    for inner in all_graphs(graph):
        large = [(node, node.output[0], node.attribute[0].t) for node in inner.node if node.op_type == "Constant"]
        large = [entry for entry in large if prod(entry[2].dims) > KEPT_VALUES]
        for node, *_ in large:
            inner.node.remove(node)
        empty = [(tensor.name, tensor) for tensor in inner.initializer if prod(tensor.dims) > KEPT_VALUES]
        for _, tensor in empty:
            inner.initializer.remove(tensor)
        given = {entry.name for entry in graph.input}
        for name, tensor in (*empty, *((name, tensor) for _, name, tensor in large)):
            if name not in given:
                graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))


# com.microsoft: operators of ONNX Runtime, which ONNX's own inference does not know. Each is replaced by standard
# operators whose results have the same sizes, not the same values.

_StandIn = Callable[[Any, Any], list[Any]]


def _renamed(name: str, *inputs: int) -> _StandIn:
    def stand_in(node: Any, graph: Any) -> list[Any]:
        chosen = [node.input[index] for index in inputs] or list(node.input)
        made = helper.make_node(name, chosen, node.output[:1])
        made.attribute.extend(node.attribute)
        return [made]

    return stand_in


def _like_first(node: Any, graph: Any) -> list[Any]:
    return [helper.make_node("Identity", node.input[:1], node.output[:1])]


def _concat(node: Any, graph: Any) -> list[Any]:
    made = helper.make_node("Concat", node.input[2::3], node.output[:1])
    made.attribute.extend(node.attribute)
    return [made]


def _matrices(node: Any, graph: Any) -> list[Any]:
    """A product of the last two axes, each of which may be transposed."""
    flags = {entry.name: entry.i for entry in node.attribute}
    first = "...ji" if flags.get("transA") else "...ij"
    # ONNX wants as many hidden axes in both factors: a weight has none
    is_weight = any(tensor.name == node.input[1] and len(tensor.dims) == 2 for tensor in graph.initializer)
    second = ("" if is_weight else "...") + ("kj" if flags.get("transB") else "jk")
    cast, product = f"{node.output[0]}/cast", f"{node.output[0]}/product"
    return [
        helper.make_node("CastLike", [node.input[1], node.input[0]], [cast]),
        helper.make_node("Einsum", [node.input[0], cast], [product], equation=f"{first},{second}->...ik"),
        helper.make_node("Cast", [product], node.output[:1], to=TensorProto.FLOAT),
    ]


def _by_weight(columns: Callable[[Any, dict[str, Any]], int]) -> _StandIn:
    """A product of the first input with a matrix of so many columns: (node, its attributes) -> columns."""

    def stand_in(node: Any, graph: Any) -> list[Any]:
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        weight = weights.get(node.input[1])
        if weight is None:
            return [node]
        rows = attributes.get("K", weight.dims[0])
        name = f"{node.output[0]}/weight"
        graph.initializer.append(
            TensorProto(name=name, dims=[rows, columns(weight, attributes)], data_type=TensorProto.FLOAT)
        )
        product = f"{node.output[0]}/product"
        first = f"{node.output[0]}/cast"
        return [
            helper.make_node("Cast", node.input[:1], [first], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [first, name], [product]),
            helper.make_node("Identity", [product], node.output[:1]),
        ]

    return stand_in


def _values(weight: Any, attributes: dict[str, Any]) -> int:
    sizes = attributes.get("qkv_hidden_sizes")
    return int(sizes[2]) if sizes else int(weight.dims[1]) // 3


_STAND_INS: dict[str, _StandIn] = {
    **dict.fromkeys(
        """
        BiasAdd BiasDropout BiasGelu BiasSoftmax FastGelu Gelu QuickGelu GroupNorm SkipGroupNorm RotaryEmbedding
        SkipLayerNormalization SkipSimplifiedLayerNormalization SimplifiedLayerNormalization MultiHeadAttention
        GroupQueryAttention QLinearSigmoid QLinearLeakyRelu QLinearSoftmax
        """.split(),  # noqa: SIM905
        _like_first,
    ),
    "FusedConv": _renamed("Conv", 0, 1),
    "FusedGemm": _renamed("Gemm"),
    "QLinearConv": _renamed("QLinearConv"),
    "QGemm": _renamed("Gemm", 0, 3),
    **{
        name: _renamed(name) for name in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Pad", "Trilu")
    },
    **{name: _renamed("Add", 0, 3) for name in ("QLinearAdd", "QLinearMul")},
    "QLinearAveragePool": _renamed("AveragePool", 0),
    "QLinearGlobalAveragePool": _renamed("GlobalAveragePool", 0),
    "QLinearReduceMean": _renamed("ReduceMean", 0),
    "QLinearConcat": _concat,
    "EmbedLayerNormalization": _renamed("Gather", 2, 0),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", "GemmFastGelu"), _matrices),
    **dict.fromkeys(("MatMulInteger16", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _matrices),
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4", "MatMulFpQ4"), _by_weight(lambda weight, a: a["N"])),
    **dict.fromkeys(("Attention", "QAttention"), _by_weight(_values)),
}
_RUNTIME_ONLY = frozenset({"SimplifiedLayerNormalization"})  # ONNX Runtime puts it into the standard domain


def _replace_known_extensions(graph: Any) -> None:
    nodes: list[Any] = []
    for node in graph.node:
        domain, name = kind_of(node)
        ours = domain == MICROSOFT or name in _RUNTIME_ONLY
        nodes += _STAND_INS[name](node, graph) if ours and name in _STAND_INS else [node]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
