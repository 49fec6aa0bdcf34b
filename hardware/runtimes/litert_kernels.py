"""The kernels of a LiteRT file, and files of one kernel each, by taking the operators out of the file."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from hardware.messages import failing_as

from . import PathLike
from .base import DAMAGED, quiet
from .kernels import RuntimeKernel, pixels
from .libraries import library
from .tflite import operator_names, pack, read

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
PADS = ("PAD", "PADV2")
BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 7: 2, 9: 1}  # number of a type in the schema -> its bytes


@dataclass(frozen=True)
class Group:
    """Operators of a file that run as one kernel."""

    model: Any
    operators: tuple[Any, ...]


def kernels(path: PathLike) -> list[RuntimeKernel]:
    """The kernels of a file; a padding that only a convolution reads is part of it, as XNNPACK folds it.

    Raises:
        CostError: if the file is missing or damaged.
    """
    model = read(path)
    with failing_as(f"{path} is not a readable LiteRT file", then=DAMAGED):
        return _kernels(model)


def _kernels(model: Any) -> list[RuntimeKernel]:
    part = model.subgraphs[0]
    readers: dict[int, int] = {}
    for operator in part.operators:
        for number in operator.inputs:
            readers[number] = readers.get(number, 0) + 1
    names = [_name(model, operator) for operator in part.operators]
    padded = {
        int(operator.outputs[0]): operator
        for operator, name in zip(part.operators, names, strict=True)
        if name in PADS and readers.get(operator.outputs[0]) == 1
    }
    found: list[tuple[Any, tuple[Any, ...]]] = []
    taken = set()
    for operator, name in zip(part.operators, names, strict=True):
        before = padded.get(int(operator.inputs[0])) if name in CONVOLUTIONS and len(operator.inputs) else None
        if before is not None:
            taken.add(id(before))
            found.append((operator, (before, operator)))
        else:
            found.append((operator, (operator,)))
    return [_kernel(Group(model, operators)) for first, operators in found if id(first) not in taken]


def kernel_alone(kernel: RuntimeKernel, replicas: int) -> bytes:
    """See `hardware.runtimes.kernels.KernelRuntime`."""
    group: Group = kernel.source
    model, part = copy.copy(group.model), copy.copy(group.model.subgraphs[0])
    model.subgraphs, model.signatureDefs, model.metadata, model.metadataBuffer = [part], [], [], []
    model.buffers, part.tensors, part.operators, part.inputs, part.outputs = [group.model.buffers[0]], [], [], [], []
    shared: dict[int, int] = {}
    for _ in range(replicas):
        own: dict[int, int] = {}
        for operator in group.operators:
            written = copy.copy(operator)
            written.inputs = [_copied(group, model, int(number), own, shared) for number in operator.inputs]
            written.outputs = [_copied(group, model, int(number), own, shared) for number in operator.outputs]
            part.operators.append(written)
        part.outputs += [own[int(number)] for number in group.operators[-1].outputs]
    part.inputs = list(shared.values())
    return pack(model)


def _copied(group: Group, model: Any, number: int, own: dict[int, int], shared: dict[int, int]) -> int:
    """The number of a tensor in the new file: inputs are shared by all replicas, the rest is of its own."""
    if number < 0:  # an optional input that is left out
        return number
    whole, part = group.model.subgraphs[0], model.subgraphs[0]
    produced = {int(output) for operator in group.operators for output in operator.outputs}
    tensor = whole.tensors[number]
    constant = _is_constant(group.model, tensor)
    known = own if constant or number in produced else shared
    if number not in known:
        tensor = copy.copy(tensor)
        if constant:
            model.buffers.append(group.model.buffers[tensor.buffer])
            tensor.buffer = len(model.buffers) - 1
        else:
            tensor.buffer = 0
        part.tensors.append(tensor)
        known[number] = len(part.tensors) - 1
    return known[number]


def _kernel(group: Group) -> RuntimeKernel:
    main = group.operators[-1]
    tensors = group.model.subgraphs[0].tensors
    produced = {int(output) for operator in group.operators for output in operator.outputs}
    given = [int(n) for one in group.operators for n in one.inputs if n >= 0 and int(n) not in produced]
    maps = [tensors[n] for n in given if not _is_constant(group.model, tensors[n])]
    constants = [tensors[n] for n in given if _is_constant(group.model, tensors[n])]
    output = tensors[int(main.outputs[0])]
    name = "+".join(_name(group.model, one) for one in group.operators)
    options = {} if main.builtinOptions is None else vars(main.builtinOptions)
    shown = {key: np.ravel(value).tolist() for key, value in options.items() if key != "newShape"}
    told = ",".join(f"{key}={','.join(map(str, shown[key]))}" for key in sorted(shown) if any(shown[key]))
    if name == "TRANSPOSE":  # its order is a constant, and square maps have one shape in every order
        order = group.model.buffers[tensors[int(main.inputs[1])].buffer].data
        told += f"order={np.frombuffer(bytes(order), np.int32).tolist()}"
    key = (
        f"{name}({told}) "
        + " ".join(map(_told, maps))
        + " | "
        + " ".join(map(_told, constants))
        + f" > {_told(output)}"
    )
    window, macs = _window(group.model, main, options, output)
    quantities = (
        *(macs, sum(map(_size, maps)), _size(output), sum(map(_size, constants))),
        *(window, max(options.get("strideH", 1), 1), max(options.get("dilationHFactor", 1), 1), len(maps)),
        *(_channels(maps[:1]), _channels([output])),
        *(pixels(_shape(maps[0]) if maps else (), True), pixels(_shape(output), True)),
    )
    return RuntimeKernel(key, name, tuple(float(number) for number in quantities), group)


def _window(model: Any, operator: Any, options: dict[str, Any], output: Any) -> tuple[int, int]:
    """Side of a convolution's or pooling's window, and multiply-accumulates (a pooling's additions)."""
    name, entries = _name(model, operator), prod(_shape(output))
    if name in CONVOLUTIONS:
        weight = _shape(model.subgraphs[0].tensors[int(operator.inputs[1])])
        per_entry = prod(weight[1:3]) if name == "DEPTHWISE_CONV_2D" else prod(weight[1:])
        return (weight[1] if len(weight) == 4 else 1), entries * per_entry
    side = int(options.get("filterHeight", 1))
    return side, entries * side * int(options.get("filterWidth", 1))


def _name(model: Any, operator: Any) -> str:
    code = model.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return operator_names().get(number, f"operator {number}")


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data if tensor.buffer else None
    return data is not None and len(data) > 0


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in (tensor.shape if tensor.shape is not None else ()))


def _size(tensor: Any) -> int:
    return prod(_shape(tensor)) * BYTES.get(tensor.type, 4)


def _channels(tensors: Sequence[Any]) -> int:
    return _shape(tensors[0])[-1] if tensors and _shape(tensors[0]) else 1


def _told(tensor: Any) -> str:
    kind = {0: "f32", 2: "i32", 9: "i8"}.get(tensor.type, f"t{tensor.type}")
    return "x".join(map(str, _shape(tensor))) + kind


def runner(content: bytes, threads: int) -> Callable[[], object]:
    """One inference of a file on random inputs."""
    interpreter = library("litert", "ai_edge_litert.interpreter")
    with failing_as("LiteRT cannot load a file"), quiet():
        loaded = interpreter.Interpreter(model_content=content, num_threads=threads)
        loaded.allocate_tensors()
        generator = np.random.default_rng(0)
        for entry in loaded.get_input_details():
            loaded.set_tensor(entry["index"], _random_input(entry, generator))
        loaded.invoke()

    def run() -> object:
        return loaded.invoke()

    return run


def _random_input(entry: dict[str, Any], generator: np.random.Generator) -> Any:
    """Values for an input as the interpreter describes it."""
    shape = [int(n) for n in entry["shape"]]
    if np.issubdtype(entry["dtype"], np.integer):
        limits = np.iinfo(entry["dtype"])
        return generator.integers(max(limits.min, -128), min(limits.max, 127), shape).astype(entry["dtype"])
    return generator.standard_normal(shape).astype(entry["dtype"])
