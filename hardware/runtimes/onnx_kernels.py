"""The kernels that ONNX Runtime makes of a file, and files of one kernel each, from its own optimised graph."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from hardware.messages import failing_as

from . import PathLike
from .base import existing
from .kernels import RuntimeKernel, pixels

IGNORED = ("auto_pad", "name", "doc_string")


@dataclass(frozen=True)
class Node:
    """A node of an optimised graph, with the arrays that it reads; ``constants`` are the weights among them."""

    model: Any
    node: Any
    maps: Mapping[str, Any]
    constants: Mapping[str, Any]


def kernels(path: PathLike) -> list[RuntimeKernel]:
    """The nodes of the optimised graph; shapes are those of one run on random input.

    Raises:
        CostError: if the file is missing, damaged, or cannot be run.
    """
    from .onnxruntime import _random_inputs

    with tempfile.TemporaryDirectory() as folder, failing_as(f"ONNX Runtime cannot run {path}"):
        file = Path(folder) / "optimised.onnx"
        options = session_options(1, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        options.optimized_model_filepath = str(file)
        ort.InferenceSession(existing(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(str(file))
        nodes = [node for node in model.graph.node if node.op_type != "Constant"]
        names = [name for node in nodes for name in node.output if name]
        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        del shown.graph.output[:]
        shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
        session = _session(shown.SerializeToString(), 1)
        feed = _random_inputs(session, path, None)
        arrays = {**feed, **dict(zip(names, session.run(names, feed), strict=True))}
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [_kernel(model, node, arrays, constants) for node in nodes]


def kernel_alone(kernel: RuntimeKernel, replicas: int) -> bytes:
    """See `hardware.runtimes.kernels.KernelRuntime`."""
    source: Node = kernel.source
    nodes, initializers, outputs = [], [], []
    for replica in range(replicas):
        node = onnx.NodeProto()
        node.CopyFrom(source.node)
        for index, name in enumerate(node.input):
            if name in source.constants:
                node.input[index] = f"{name}/{replica}"
                initializers.append(onnx.numpy_helper.from_array(source.constants[name], node.input[index]))
        for index, name in enumerate(node.output):
            node.output[index] = f"{name}/{replica}" if name else ""
        node.name = f"{node.name}/{replica}"
        nodes.append(node)
        outputs.append(onnx.helper.make_empty_tensor_value_info(node.output[0]))
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in source.maps.items()
    ]
    graph = onnx.helper.make_graph(nodes, "kernel", inputs, outputs, initializers)
    model = onnx.helper.make_model(graph, opset_imports=source.model.opset_import)
    model.ir_version = source.model.ir_version
    return bytes(model.SerializeToString())


def runner(content: bytes, threads: int, whole: bool = False) -> Callable[[], object]:
    """One inference on random inputs; the outputs of a file of one kernel stay where the runtime put them."""
    from .onnxruntime import _random_inputs

    if whole:
        whole_session = _session(content, threads, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        feed = _random_inputs(whole_session, "the network", None)
        return lambda: whole_session.run(None, feed)
    session = _session(content, threads)
    with failing_as("ONNX Runtime cannot run a kernel alone"):
        binding = session.io_binding()
        for name, values in _random_inputs(session, "the kernel", None).items():
            binding.bind_cpu_input(name, values)
        for entry in session.get_outputs():
            binding.bind_output(entry.name)
        session.run_with_iobinding(binding)
    return lambda: session.run_with_iobinding(binding)


def _session(content: bytes, threads: int, level: Any = ort.GraphOptimizationLevel.ORT_DISABLE_ALL) -> Any:
    """A session; a graph of kernels is optimised already."""
    with failing_as("ONNX Runtime cannot load a file"):
        return ort.InferenceSession(content, session_options(threads, level), providers=["CPUExecutionProvider"])


def session_options(threads: int, level: Any) -> Any:
    """Options of a quiet session with so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.graph_optimization_level = level
    return options


def _kernel(model: Any, node: Any, arrays: Mapping[str, Any], constants: Mapping[str, Any]) -> RuntimeKernel:
    maps = {name: arrays[name] for name in node.input if name in arrays}
    weights = {name: constants[name] for name in node.input if name in constants}
    output = arrays[node.output[0]]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute if one.name not in IGNORED}
    told = ",".join(f"{name}={value}" for name, value in sorted(attributes.items()))
    kind = f"{node.domain.rpartition('.')[2]}.{node.op_type}".lstrip(".")
    order = " ".join(_told(maps[name] if name in maps else weights[name]) for name in node.input if name)
    sizes = [array for array in weights.values() if array.dtype == np.int64]
    steps = " ".join(str(array.ravel().tolist()) for array in sizes if array.size < 16)  # of slices and pads
    key = f"{kind}({told}) {order} {steps} > {_told(output)}"
    weight = next(iter(weights.values()), None) if node.op_type in ("Conv", "FusedConv", "Gemm", "MatMul") else None
    window = int(np.prod(attributes.get("kernel_shape", [1])))
    macs = output.size * (prod(weight.shape[1:]) if weight is not None else window)
    first = next(iter(maps.values()), output)
    read, weight_bytes = (sum(array.nbytes for array in arrays.values()) for arrays in (maps, weights))
    quantities = (
        *(macs, read, output.nbytes, weight_bytes),
        *(window**0.5, _first(attributes, "strides"), _first(attributes, "dilations"), len(maps)),
        *(_channels(first), _channels(output), pixels(first.shape, False), pixels(output.shape, False)),
    )
    return RuntimeKernel(key, kind, tuple(float(number) for number in quantities), Node(model, node, maps, weights))


def _told(array: Any) -> str:
    return "x".join(map(str, array.shape)) + {"float32": "f32", "int64": "i64"}.get(array.dtype.name, array.dtype.name)


def _first(attributes: Mapping[str, Any], name: str) -> int:
    return int(attributes.get(name, [1])[0])


def _channels(array: Any) -> int:
    return int(array.shape[1]) if array.ndim > 1 else 1
