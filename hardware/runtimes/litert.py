"""LiteRT (TensorFlow Lite) on the CPU with the XNNPACK kernels that phones use too: float32 and int8."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hardware.messages import failing_as
from hardware.tracing import evaluating, example_input
from searchspaces.errors import CostError
from searchspaces.files import write_bytes

from . import PathLike, litert_kernels
from .base import (
    DAMAGED,
    Array,
    Fallback,
    FlatOutputs,
    LocalRuntime,
    compare_with_network,
    existing,
    loaded_outputs,
    quiet,
)
from .kernels import RuntimeKernel
from .libraries import install_command, library
from .recording import UnknownOperatorError
from .tflite_export import network_bytes

WRITTEN_TOLERANCE = 1e-3  # of the largest output: tells an operator that was written wrongly, not its rounding
DELEGATE = "DELEGATE"  # the name of an XNNPACK partition among the operators


class LiteRT(LocalRuntime):
    """Files have one input, channels last as XNNPACK wants it; outputs keep the network's layout."""

    NAME = "litert"
    SUFFIX = ".tflite"
    DTYPES = ("float32", "int8")

    def version(self) -> str:
        library(self.NAME, "ai_edge_litert.interpreter")
        return metadata.version("ai-edge-litert")

    def load(self, path: PathLike, threads: int) -> _Loaded:
        return _Loaded(_interpreter(path, threads))

    def fallback(self, path: PathLike) -> Fallback | None:
        """Operators outside of XNNPACK, as the interpreter places them; None if this version does not tell."""
        interpreter = _interpreter(path, threads=1)
        if not hasattr(interpreter, "_get_ops_details"):
            return None
        operators = interpreter._get_ops_details()
        outside = {operator["index"] for operator in undelegated(operators)}
        own = [operator for operator in operators if operator["op_name"] != DELEGATE]
        shapes = {entry["index"]: entry["shape"].tolist() for entry in interpreter.get_tensor_details()}
        macs = {operator["index"]: operator_macs(operator, shapes) for operator in own}
        total = sum(macs.values())
        share = sum(macs[index] for index in outside) / total if total else None
        names = tuple(sorted({operator["op_name"] for operator in own if operator["index"] in outside}))
        return Fallback(len(outside), len(own), share, names)

    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path, for_int8: bool = False) -> Path:
        x = example_input(model, input_size, seed=0)
        try:
            content = network_bytes(model, x, for_int8)
            self._compare(model, input_size, content)
            return write_bytes(path, content)
        except UnknownOperatorError as error:
            if find_spec("litert_torch") is None:
                install = install_command(self.NAME)
                raise CostError(f"{error}. LiteRT's own converter (about 1 GB) may know it: {install}") from error
        return self._convert(model, x, path)

    def _compare(self, model: nn.Module, input_size: Sequence[int], content: bytes) -> None:
        """A file of ours is held against its network on another input than it was written from."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "network.tflite"
            file.write_bytes(content)
            try:
                outputs = loaded_outputs(self.load(file, threads=1), file)
                compare_with_network(
                    model, outputs, [example_input(model, input_size, seed=1)], file, WRITTEN_TOLERANCE
                )
            except CostError as error:
                raise UnknownOperatorError(type(model).__name__, f" correctly ({error})") from error

    def _convert(self, model: nn.Module, x: Tensor, path: Path) -> Path:
        """By LiteRT's own converter, which knows more operators and takes about ten seconds."""
        converter = self._converter()
        with tempfile.TemporaryDirectory() as folder, evaluating(model):
            file = Path(folder) / "network.tflite"
            with failing_as(f"Cannot export {type(model).__name__} to LiteRT"), quiet():
                spatial = x.dim() == 4
                flat = FlatOutputs(model).eval()
                wrapped = converter.to_channel_last_io(flat, args=[0]).eval() if spatial else flat
                sample = x.permute(0, 2, 3, 1).contiguous() if spatial else x
                converter.convert(wrapped, (sample,)).export(str(file))
            return write_bytes(path, file.read_bytes())

    def _export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: Path, calibration: Sequence[Array]
    ) -> Path:
        quantizer = library(self.NAME, "ai_edge_quantizer.quantizer")
        recipe = library(self.NAME, "ai_edge_quantizer.recipe")
        with tempfile.TemporaryDirectory() as folder:
            float_file = self._export(model, input_size, Path(folder) / "float.tflite", for_int8=True)
            name = _input_name(float_file)
            samples = [{name: _channels_last(x)} for x in calibration]
            file = Path(folder) / "int8.tflite"
            with failing_as(f"LiteRT's quantiser cannot make {type(model).__name__} int8"), quiet():
                work = quantizer.Quantizer(str(float_file))
                work.load_quantization_recipe(recipe.static_wi8_ai8())
                ranges = work.calibrate({"serving_default": samples})
                work.quantize(ranges).export_model(str(file))
            return write_bytes(path, file.read_bytes())

    # ---- kernels (see `hardware.runtimes.kernels.KernelRuntime`)

    def kernels(self, path: PathLike) -> list[RuntimeKernel]:
        return litert_kernels.kernels(path)

    def kernel_alone(self, kernel: RuntimeKernel, replicas: int) -> bytes:
        return litert_kernels.kernel_alone(kernel, replicas)

    def runner(self, content: bytes, threads: int, whole: bool = False) -> Callable[[], object]:
        return litert_kernels.runner(content, threads)

    def _converter(self) -> Any:
        with quiet():  # it logs what it imports
            return library(self.NAME, "litert_torch")


class _Loaded:
    """An interpreter whose tensors are allocated."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self.input = interpreter.get_input_details()[0]
        self.results = interpreter.get_output_details()
        shape = tuple(int(n) for n in self.input["shape"])
        self.input_shape = (shape[0], shape[3], *shape[1:3]) if len(shape) == 4 else shape

    def feed(self, x: Array) -> None:
        self.interpreter.set_tensor(self.input["index"], quantised(_channels_last(x), self.input))

    def invoke(self) -> None:
        self.interpreter.invoke()

    def outputs(self) -> list[Array]:
        return [dequantised(self.interpreter.get_tensor(entry["index"]), entry) for entry in self.results]


def undelegated(operators: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operators of a LiteRT graph that no delegate took over.

    A delegate computes what lies between its inputs and its outputs, so those operators are found by walking back.

    Args:
        operators: as ``Interpreter._get_ops_details`` gives them: ``index``, ``op_name``, ``inputs``, ``outputs``
            (numbers of tensors); the delegates are among them.
    """
    own = [operator for operator in operators if operator["op_name"] != DELEGATE]
    writer = {tensor: operator for operator in own for tensor in operator["outputs"]}
    inside: set[int] = set()
    for delegate in operators:
        if delegate["op_name"] != DELEGATE:
            continue
        given, open_tensors = {int(t) for t in delegate["inputs"]}, [int(t) for t in delegate["outputs"]]
        while open_tensors:
            tensor = open_tensors.pop()
            if tensor in writer and tensor not in given and writer[tensor]["index"] not in inside:
                inside.add(writer[tensor]["index"])
                open_tensors += [int(t) for t in writer[tensor]["inputs"]]
    return [operator for operator in own if operator["index"] not in inside]


def operator_macs(operator: dict[str, Any], shapes: dict[int, list[int]]) -> int:
    """MACs of a LiteRT operator from the shapes of its tensors; 0 for all but convolutions and matrix products."""
    name, inputs = operator["op_name"], [int(t) for t in operator["inputs"]]
    out = prod(shapes[int(operator["outputs"][0])])
    if name in ("CONV_2D", "FULLY_CONNECTED"):  # weights (outputs, height, width, inputs) or (outputs, inputs)
        return out * prod(shapes[inputs[1]][1:])
    if name == "DEPTHWISE_CONV_2D":  # weights (1, height, width, channels)
        return out * prod(shapes[inputs[1]][1:3])
    if name == "TRANSPOSE_CONV":  # inputs: size, weights (outputs, height, width, inputs), map
        return prod(shapes[inputs[2]]) * prod(shapes[inputs[1]][:3])
    if name == "BATCH_MATMUL":
        return out * shapes[inputs[0]][-1]
    return 0


def quantised(x: Array, tensor: dict[str, Any]) -> Array:
    """float32 values in a tensor's own number type, by its scale and zero point."""
    scale, zero = tensor["quantization"]
    if not np.issubdtype(tensor["dtype"], np.integer):
        return x.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def dequantised(values: Array, tensor: dict[str, Any]) -> Array:
    """A tensor's values as float32."""
    scale, zero = tensor["quantization"]
    whole = np.issubdtype(tensor["dtype"], np.integer) and scale
    return ((values.astype(np.float32) - zero) * scale if whole else values).astype(np.float32)


def _channels_last(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def _input_name(path: Path) -> str:
    """The name of the input in the file's signature, which calibration asks for."""
    signatures = _interpreter(path, threads=1).get_signature_list()
    return str(signatures["serving_default"]["inputs"][0])


def _interpreter(path: PathLike, threads: int) -> Any:
    interpreter = library(LiteRT.NAME, "ai_edge_litert.interpreter")
    name = existing(path)
    with failing_as(f"LiteRT cannot load {path}", then=DAMAGED), quiet():  # tells that it made a delegate
        loaded = interpreter.Interpreter(name, num_threads=threads)
        loaded.allocate_tensors()
    return loaded


RUNTIME = LiteRT()
