"""LiteRT files as plain data: a graph of tensors and operators, to bytes and back, by the schema in ai-edge-litert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.messages import failing_as

from .base import DAMAGED
from .libraries import library

Array = NDArray[Any]
Shape = tuple[int, ...]

SCHEMA = "ai_edge_litert.schema_py_generated"
SIGNATURE = "serving_default"
IDENTIFIER = b"TFL3"
NUMBERS = {"float32": "FLOAT32", "int32": "INT32"}  # numpy's name -> the schema's
# operator -> name of its options in the schema, where it is not its own name in camel case
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "PADV2": "PadV2Options",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    **dict.fromkeys(("RELU", "RELU6", "LOGISTIC", "TANH", "PRELU")),  # have none
}
VERSIONS = {"RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3}  # those that know half-pixel centres


@dataclass
class Operator:
    """One operator: numbers of the tensors that it reads and of the one that it writes, and its options."""

    name: str
    inputs: list[int]
    output: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    """Tensors as shapes, constants among them as arrays, and the operators in order."""

    shapes: list[Shape] = field(default_factory=list)
    constants: dict[int, Array] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def tensor(self, shape: Sequence[int]) -> int:
        """A new tensor's number."""
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def constant(self, values: Array) -> int:
        """A new tensor of fixed values: float32, or int32 for sizes and axes."""
        number = self.tensor(values.shape)
        self.constants[number] = np.ascontiguousarray(values)
        return number

    def add(self, name: str, inputs: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """A new operator; the number of the tensor that it writes."""
        output = self.tensor(shape)
        self.operators.append(Operator(name, list(inputs), output, options))
        return output

    def used(self) -> Graph:
        """The same without tensors that nothing reads or writes, numbered anew."""
        numbers = [*self.inputs, *self.outputs]
        numbers += [number for one in self.operators for number in (*one.inputs, one.output)]
        new = {number: index for index, number in enumerate(sorted(set(numbers)))}
        return Graph(
            [self.shapes[number] for number in new],
            {new[number]: values for number, values in self.constants.items() if number in new},
            [
                Operator(one.name, [new[number] for number in one.inputs], new[one.output], one.options)
                for one in self.operators
            ],
            [new[number] for number in self.inputs],
            [new[number] for number in self.outputs],
        )


def to_bytes(graph: Graph) -> bytes:
    """The graph as a LiteRT file with one signature."""
    schema = _schema()
    graph = graph.used()
    codes: dict[str, int] = {}
    model = schema.ModelT()
    model.version, model.description = 3, "facenas"
    model.buffers = [schema.BufferT()]
    part = schema.SubGraphT()
    part.name = "main"
    part.tensors = [_tensor(schema, model, graph, number) for number in range(len(graph.shapes))]
    part.operators = [_operator(schema, operator, codes) for operator in graph.operators]
    part.inputs, part.outputs = graph.inputs, graph.outputs
    model.subgraphs = [part]
    model.operatorCodes = [_code(schema, name) for name in codes]
    model.signatureDefs = [_signature(schema, graph)]
    return pack(model)


def pack(model: Any) -> bytes:
    """The bytes of a file in the schema's own objects."""
    builder = library("litert", "flatbuffers").Builder(1 << 16)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def read(path: str | Path) -> Any:
    """A file as the schema's own objects (ModelT).

    Raises:
        CostError: if it is missing or damaged.
    """
    from .base import existing

    schema = _schema()
    with failing_as(f"{path} is not a readable LiteRT file", then=DAMAGED):
        data = Path(existing(path)).read_bytes()
        if data[4:8] != IDENTIFIER:
            raise ValueError("its first bytes are those of another format")
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        for buffer in model.buffers:
            if buffer.offset > 1:  # written behind the tables, as quantisers do
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
                buffer.offset = buffer.size = 0
        return model


def operator_names() -> Mapping[int, str]:
    """Number of an operator in a file -> its name."""
    return {value: name for name, value in vars(_schema().BuiltinOperator).items() if not name.startswith("_")}


def _schema() -> Any:
    return library("litert", SCHEMA)


def _tensor(schema: Any, model: Any, graph: Graph, number: int) -> Any:
    tensor = schema.TensorT()
    tensor.name = f"tensor_{number}"
    tensor.shape = list(graph.shapes[number])
    values = graph.constants.get(number)
    tensor.type = getattr(schema.TensorType, NUMBERS["float32" if values is None else values.dtype.name])
    tensor.buffer = 0
    if values is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8) if prod(values.shape) else np.zeros(0, np.uint8)
        model.buffers.append(buffer)
        tensor.buffer = len(model.buffers) - 1
    return tensor


def _operator(schema: Any, operator: Operator, codes: dict[str, int]) -> Any:
    written = schema.OperatorT()
    written.opcodeIndex = codes.setdefault(operator.name, len(codes))
    written.inputs, written.outputs = operator.inputs, [operator.output]
    camel = "".join(part.capitalize() for part in operator.name.split("_")) + "Options"
    kind = OPTIONS.get(operator.name, camel)
    if kind:
        written.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        written.builtinOptions = getattr(schema, f"{kind}T")()
        for name, value in operator.options.items():
            setattr(written.builtinOptions, name, value)
    return written


def _code(schema: Any, name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # what readers before 2020 look at
    code.version = VERSIONS.get(name, 1)
    return code


def _signature(schema: Any, graph: Graph) -> Any:
    def entry(name: str, number: int) -> Any:
        mapped = schema.TensorMapT()
        mapped.name, mapped.tensorIndex = name, number
        return mapped

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [entry(f"input_{i}", number) for i, number in enumerate(graph.inputs)]
    signature.outputs = [entry(f"output_{i}", number) for i, number in enumerate(graph.outputs)]
    return signature
