"""From recorded operators to the tensors and operators of a LiteRT file; `tflite_export` has the rule of each operator.

Maps are stored channels last, as XNNPACK wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .recording import Call, Recording, UnknownOperatorError, Value
from .tflite import Graph, Operator

Array = NDArray[Any]
Shape = tuple[int, ...]

SAME, VALID = 0, 1
NO_ACTIVATION, RELU, RELU6 = 0, 1, 3
FUSING = (
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV"),
    *("AVERAGE_POOL_2D", "MAX_POOL_2D"),
)
LAST = (0, 2, 3, 1)  # axes of a map, channels last
FIRST = (0, 3, 1, 2)  # and back
AXIS = (0, 3, 1, 2)  # axis of a map in torch -> its axis here


class Lowering:
    """The graph of a recording; ``graph`` is the result.

    Args:
        recording: the operators of a network.
        rules: torch's operator -> what writes it and gives the number of its tensor, or of each of its results.
        for_int8: whether the file is to be quantised: XNNPACK has no int8 ReLU of its own and no int8 average pooling,
            so these are written as depthwise convolutions.
    """

    def __init__(
        self, recording: Recording, rules: Mapping[str, Callable[[Lowering, Call], Any]], for_int8: bool = False
    ) -> None:
        self.rules, self.for_int8 = rules, for_int8
        self.graph = Graph()
        self.readers = recording.readers()
        self.tensors: dict[int, int] = {}  # number of a value -> its tensor
        self.owners: dict[int, set[int]] = {}  # tensor -> numbers of the values that it holds
        self.strided: dict[int, tuple[int, list[int]]] = {}  # tensor -> the one that it is a strided view of, and steps
        start = self.graph.tensor(stored(recording.input.shape))
        self._hold(recording.input, start)
        self.graph.inputs = [start]
        for call in recording.calls:
            self._lower(call)
        self.graph.outputs = [self.as_torch(output) for output in recording.outputs]

    def _lower(self, call: Call) -> None:
        rule = self.rules.get(call.name)
        if rule is None:
            raise UnknownOperatorError(call.name)
        found = rule(self, call)
        results = found if isinstance(found, list) else [found]
        for value, tensor in zip(call.results, results, strict=False):
            if value is not None:
                self._hold(value, tensor)

    def _hold(self, value: Value, tensor: int) -> None:
        self.tensors[value.number] = tensor
        self.owners.setdefault(tensor, set()).add(value.number)

    def alone(self, tensor: int) -> bool:
        """Whether only one operator reads what the tensor holds, under whatever name, so that it may be fused."""
        return all(self.readers[number] == 1 for number in self.owners.get(tensor, ()))

    # ---- tensors

    def tensor(self, value: Any) -> int:
        """The tensor of an argument, in our layout; a constant becomes a new one."""
        if isinstance(value, Value):
            if value.number not in self.tensors:
                raise UnknownOperatorError("a second result")
            return self.tensors[value.number]
        values = array(value)
        return self.graph.constant(values.transpose(LAST) if values.ndim == 4 else values)

    def as_torch(self, value: Value | Tensor) -> int:
        """A tensor in torch's layout."""
        if not isinstance(value, Value):
            return self.graph.constant(array(value))
        tensor, shape = self.tensor(value), value.shape
        if len(shape) != 4:
            return tensor
        if shape[1] == 1 or shape[2] * shape[3] == 1:  # the same numbers in the same order
            return self.reshape(tensor, shape)
        return self.transpose(tensor, FIRST)

    def from_torch(self, tensor: int) -> int:
        """A tensor in torch's layout, in ours."""
        shape = self.graph.shapes[tensor]
        if len(shape) != 4:
            return tensor
        if shape[1] == 1 or shape[2] * shape[3] == 1:
            return self.reshape(tensor, stored(shape))
        return self.transpose(tensor, LAST)

    # ---- operators that several rules need

    def reshape(self, tensor: int, shape: Sequence[int]) -> int:
        if self.graph.shapes[tensor] == tuple(shape):
            return tensor
        sizes = self.graph.constant(np.array(shape, np.int32))
        return self.graph.add("RESHAPE", [tensor, sizes], shape, newShape=list(shape))

    def transpose(self, tensor: int, order: Sequence[int]) -> int:
        shape = [self.graph.shapes[tensor][axis] for axis in order]
        return self.graph.add("TRANSPOSE", [tensor, self.graph.constant(np.array(order, np.int32))], shape)

    def pad(self, tensor: int, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> int:
        shape = self.graph.shapes[tensor]
        if not any((*before, *after)):
            return tensor
        amounts = self.graph.constant(np.array(list(zip(before, after, strict=True)), np.int32))
        padded = [n + b + a for n, b, a in zip(shape, before, after, strict=True)]
        if value == 0:
            return self.graph.add("PAD", [tensor, amounts], padded)
        return self.graph.add("PADV2", [tensor, amounts, self.graph.constant(np.array(value, np.float32))], padded)

    def pad_map(self, tensor: int, rows: tuple[int, int], columns: tuple[int, int], value: float = 0.0) -> int:
        """A map with rows (before, after) and columns added."""
        return self.pad(tensor, (0, rows[0], columns[0], 0), (0, rows[1], columns[1], 0), value)

    def slice(self, tensor: int, begin: Sequence[int], end: Sequence[int]) -> int:
        size = [e - b for b, e in zip(begin, end, strict=True)]
        limits = [self.graph.constant(np.array(numbers, np.int32)) for numbers in (begin, size)]
        return self.graph.add("SLICE", [tensor, *limits], size)

    def every(self, tensor: int, steps: Sequence[int]) -> int:
        """x[::step, ...]: of a map a depthwise 1x1 convolution with weights of 1, since XNNPACK has no strided view."""
        shape = self.graph.shapes[tensor]
        shorter = [-(-n // step) for n, step in zip(shape, steps, strict=True)]
        if len(shape) != 4 or steps[3] > 1:
            limits = [self.graph.constant(np.array(numbers, np.int32)) for numbers in ([0] * len(shape), shape, steps)]
            return self.graph.add("STRIDED_SLICE", [tensor, *limits], shorter)
        return self.window_sum(tensor, shorter, (1, 1), steps[1:3], weight=1.0, padding=VALID)

    def window_sum(
        self,
        tensor: int,
        shape: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        weight: float,
        **options: int,
    ) -> int:
        """A depthwise convolution of a map with one weight everywhere."""
        channels = self.graph.shapes[tensor][3]
        weights = np.full((1, *kernel, channels), weight, np.float32)
        inputs = [tensor, self.graph.constant(weights), self.graph.constant(np.zeros(channels, np.float32))]
        options |= {"strideH": stride[0], "strideW": stride[1], "dilationHFactor": 1, "dilationWFactor": 1}
        return self.graph.add("DEPTHWISE_CONV_2D", inputs, shape, depthMultiplier=1, **options)

    def activate(self, value: Value, name: str, activation: int = NO_ACTIVATION) -> int:
        """An activation: part of the operator that wrote the map where it can be, else one of its own."""
        tensor = self.tensor(value)
        last = self.writer(tensor)
        alone = self.alone(tensor) and last is not None and last.name in FUSING
        if activation and alone and last is not None and not last.options.get("fusedActivationFunction"):
            last.options["fusedActivationFunction"] = activation
            self.strided.pop(tensor, None)  # it is no mere view any more
            return tensor
        shape = self.graph.shapes[tensor]
        if self.for_int8 and activation == RELU and len(shape) == 4:
            return self.window_sum(
                tensor, shape, (1, 1), (1, 1), 1.0, padding=VALID, fusedActivationFunction=activation
            )
        return self.graph.add(name, [tensor], shape)

    def writer(self, tensor: int) -> Operator | None:
        """The operator that writes a tensor."""
        return next((one for one in reversed(self.graph.operators) if one.output == tensor), None)


def stored(shape: Sequence[int]) -> Shape:
    """A shape in our layout."""
    return tuple(shape[axis] for axis in LAST) if len(shape) == 4 else tuple(shape)


def shape_of(call: Call) -> Shape:
    value = call.results[0]
    return value.shape if value else ()


def array(value: Any) -> Array:
    tensor = value.detach() if isinstance(value, Tensor) else torch.tensor(value)
    return np.ascontiguousarray(tensor.float().cpu().numpy())
