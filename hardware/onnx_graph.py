"""Counting an ONNX file of unknown origin: parameters and MACs from its graph, without the network's source."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import onnx
from onnx import shape_inference

from searchspaces.errors import CostError

from .messages import failing_as

Shapes = dict[str, tuple[int, ...]]

STANDARD_DOMAINS = ("", "ai.onnx")
COUNTED_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Operators that hold no convolution and no matrix product: their MACs are zero by definition.
FREE_OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Cos
    CumSum DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid
    HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax
    LpNormalization Max MaxPool Mean Min Mish Mod Mul Neg NonMaxSuppression NonZero Not Or PRelu Pad Pow
    QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Upsample
    Where
    """.split()  # noqa: SIM905 (a list of literals would take a line each)
)


def profile_onnx(path: str | Path, input_size: Sequence[int] | None = None) -> dict[str, Any]:
    """Parameters and `mac` of an ONNX file, batch size 1.

    Args:
        path: the file.
        input_size: channels, height and width, for a file that leaves them open.

    Returns:
        ``input``, ``parameters`` (``stored``: entries of the floating-point weights; exporters fold batch norms into
        convolutions, so there are fewer than in the network's source), ``operations`` (``mac``), ``layers``,
        ``warnings``.

    Raises:
        CostError: if the file is not ONNX, or its sizes are open or contradict ``input_size``.
    """
    model = _load(path)
    size = _fix_input(model, path, input_size)
    with failing_as(f"{path} holds a graph whose sizes do not fit together"):
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = inferred.graph
    shapes, constants = _shapes(graph), _constants(graph)
    layers, products = [], 0
    for node in graph.node:
        macs = _node_macs(node, shapes, path)
        if macs is None:
            continue
        if not any(name in constants for name in node.input[:2]):
            products += macs  # both factors are activations: not a linear layer, so not in `mac`
            continue
        layers.append(
            {
                "name": node.name or node.output[0],
                "type": node.op_type,
                "output": list(shapes[node.output[0]]),
                "parameters": sum(constants.get(name, 0) for name in node.input),
                "macs": macs,
            }
        )
    return {
        "input": size,
        "parameters": {"stored": _stored_parameters(graph)},
        "operations": {"mac": sum(layer["macs"] for layer in layers)},
        "layers": layers,
        "warnings": _warnings(graph, products),
    }


def _load(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise CostError(f"No file {path}.")
    # protobuf's own error, or a missing file of external weights
    with failing_as(f"{path} is not a readable ONNX file", then=". Export the network again."):
        model = onnx.load(str(path))
    if not model.graph.node:
        raise CostError(f"{path} is not an ONNX file, or holds an empty graph. Export the network again.")
    return model


def _fix_input(model: Any, path: str | Path, input_size: Sequence[int] | None) -> list[int]:
    """Write the sizes of all inputs into the graph and forget the stored sizes of all other tensors."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    for entry in inputs:
        axes = entry.type.tensor_type.shape.dim
        wanted = [1, *(input_size or [])]
        for index, axis in enumerate(axes):
            size = axis.dim_value or None
            asked = wanted[index] if len(wanted) == len(axes) else (1 if index == 0 else None)
            if index > 0 and size and asked and size != asked:
                fixed = "x".join(str(other.dim_value) for other in axes[1:])
                raise CostError(f"{path} is made for an input of {fixed}; export the network again for another size.")
            if size is None and asked is None:
                raise CostError(f"{path} leaves the size of input {entry.name!r} open: give the input size.")
            axis.dim_value = asked if index == 0 and asked else (size or asked or 1)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return [axis.dim_value for axis in inputs[0].type.tensor_type.shape.dim[1:]] if inputs else []


def _shapes(graph: Any) -> Shapes:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for entry in (*graph.input, *graph.value_info, *graph.output):
        dims = [axis.dim_value for axis in entry.type.tensor_type.shape.dim]
        if all(dims):
            shapes[entry.name] = tuple(dims)
    return shapes


def _constants(graph: Any) -> dict[str, int]:
    """Names of tensors that do not depend on the input, with their numbers of entries if they are weights."""
    constants = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = _constant_entries(node)
        elif node.input and all(name in constants for name in node.input if name):
            # a transposed or dequantised weight: its largest source holds the entries
            entries = max(constants.get(name, 0) for name in node.input)
            constants.update(dict.fromkeys(node.output, entries))
    return constants


def _constant_entries(node: Any) -> int:
    return sum(prod(attribute.t.dims) for attribute in node.attribute if attribute.name == "value")


def _stored_parameters(graph: Any) -> int:
    """Entries of all weights. Integers are sizes and indices, except the small types of quantised weights."""
    small = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
    tensors = list(graph.initializer)
    tensors += [a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
    return sum(prod(tensor.dims) for tensor in tensors if tensor.dims and tensor.data_type in (*small, *floating))


def _node_macs(node: Any, shapes: Shapes, path: str | Path) -> int | None:
    """MACs of one node, or None if its operator has none.

    Conv: output entries x weight entries per output channel. ConvTranspose: input entries x weight entries per input
    channel. Gemm and MatMul: output entries x length of the summed axis.
    """
    if node.op_type not in COUNTED_OPERATORS or node.domain not in STANDARD_DOMAINS:
        return None
    try:
        first, second, output = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    except KeyError as error:
        raise CostError(
            f"{path}: the size of tensor {error.args[0]!r} of {node.op_type} {node.name!r} depends on the input's "
            "values, so it cannot be counted. Export the network for a fixed input size."
        ) from error
    if node.op_type == "Conv":
        return prod(output) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * first[0 if transposed else -1]


def _warnings(graph: Any, products: int) -> list[str]:
    known = FREE_OPERATORS | COUNTED_OPERATORS
    unknown = sorted(
        {node.op_type for node in graph.node if node.op_type not in known or node.domain not in STANDARD_DOMAINS}
    )
    messages = []
    if unknown:
        messages.append(f"Operators of unknown cost are not counted: {', '.join(unknown)}.")
    if products:
        messages.append(f"mac misses {products:,} MACs of products of two activations (attention).")
    return messages
