"""ONNX Runtime on the CPU: float32 and int8."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from hardware.messages import failing_as
from hardware.tracing import evaluating, example_input, run
from searchspaces.errors import CostError
from searchspaces.files import write_bytes

from . import REPETITIONS, WARMUP, PathLike
from .base import SAMPLES, TOLERANCE, Array, check_threads, compare_with_network, existing, output_tensors, quiet
from .kernels import RuntimeKernel
from .timing import Latency, summarise, time_interleaved

NAME = "onnxruntime"
SUFFIX = ".onnx"
DTYPES = ("float32", "int8")
OPSET = 17
# what torch says about its older exporter, and what that exporter says about its own insides
LEGACY_EXPORTER = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
)

NUMBER_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def export(model: nn.Module, input_size: Sequence[int], path: PathLike) -> Path:
    """Write the network in evaluation mode as an ONNX file of fixed input size and batch size 1.

    Raises:
        CostError: if the network does not run on the input, or uses an operator that ONNX cannot express.
        RunFolderError: if the file cannot be written.
    """
    x = example_input(model, input_size, seed=0)
    with evaluating(model), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        outputs = output_tensors(run(model, x))
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
        # the newer exporter takes ten times as long and one more package for the same graph
        for message in LEGACY_EXPORTER:
            warnings.filterwarnings("ignore", message, DeprecationWarning)
        file = Path(folder) / "network.onnx"
        with failing_as(f"Cannot export {type(model).__name__} to ONNX"):
            torch.onnx.export(
                model, (x,), file, dynamo=False, opset_version=OPSET, input_names=["input"], output_names=names
            )
        return write_bytes(path, file.read_bytes())


def export_int8(model: nn.Module, input_size: Sequence[int], path: PathLike, calibration: Sequence[Array]) -> Path:
    """The same, quantised after training: QuantizeLinear and DequantizeLinear around each operator (QDQ).

    Weights are int8 with a scale for each output channel, activations uint8; inputs and outputs stay float32.

    Args:
        model: the network.
        input_size: channels, height, width.
        path: where to write.
        calibration: inputs that show the ranges, (1, C, H, W) float32 each.

    Raises:
        CostError: as `export` does, or if the network cannot be quantised.
    """
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        plain = export(model, input_size, Path(folder) / "float.onnx")
        prepared, file = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        with failing_as(f"ONNX Runtime's quantiser cannot make {type(model).__name__} int8"), quiet():
            quantization.quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                file,
                _reader(quantization.CalibrationDataReader, calibration),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        return write_bytes(path, file.read_bytes())


def kernels(path: PathLike) -> list[RuntimeKernel]:
    """The kernels of a file (see `hardware.runtimes.kernels.KernelRuntime`, as the next two)."""
    from .onnx_kernels import kernels

    return kernels(path)


def kernel_alone(kernel: RuntimeKernel, replicas: int) -> bytes:
    """A file of copies of one kernel."""
    from .onnx_kernels import kernel_alone

    return kernel_alone(kernel, replicas)


def runner(content: bytes, threads: int, whole: bool = False) -> Callable[[], object]:
    """One inference of a file: of one kernel, or of a whole network."""
    from .onnx_kernels import runner

    return runner(content, threads, whole)


def version() -> str:
    """The version of ONNX Runtime."""
    return str(ort.__version__)


def load(path: PathLike, threads: int) -> LoadedSession:
    """Load a file with one input, of fixed size."""
    return LoadedSession(path, threads)


class LoadedSession:
    """A session as a `hardware.runtimes.base.LoadedFile`."""

    def __init__(self, path: PathLike, threads: int) -> None:
        self.session = open_session(path, threads)
        entry = self.session.get_inputs()[0]
        self.name, self.kind = entry.name, NUMBER_TYPES[entry.type]
        self.input_shape = tuple(fixed_shape(entry.shape, None) or ())
        self.results: list[Any] = []

    def feed(self, x: Array) -> None:
        self.x = x.astype(self.kind)

    def invoke(self) -> None:
        self.results = self.session.run(None, {self.name: self.x})

    def outputs(self) -> list[Array]:
        return self.results


def check(
    model: nn.Module, path: PathLike, input_size: Sequence[int], *, samples: int = SAMPLES, tolerance: float = TOLERANCE
) -> float:
    """Run the ONNX file and the model on the same random inputs.

    Args:
        model: the network that the file was exported from.
        path: the ONNX file.
        input_size: channels, height, width.
        samples: number of random inputs.
        tolerance: largest difference allowed, as a fraction of the largest absolute value of the output.

    Returns:
        The largest absolute difference of any output.

    Raises:
        CostError: if the file cannot be run, or its outputs differ by more than the tolerance.
    """
    inputs = [example_input(model, input_size, seed=seed + 1) for seed in range(samples)]
    return compare_with_network(model, _outputs(path), inputs, path, tolerance).largest


def measure(
    path: PathLike,
    threads: int = 1,
    *,
    warmup: int = WARMUP,
    repetitions: int = REPETITIONS,
    input_size: Sequence[int] | None = None,
) -> Latency:
    """Time an ONNX file on this machine; see `measure_interleaved`."""
    return measure_interleaved([path], threads, warmup=warmup, repetitions=repetitions, input_size=input_size)[0]


def measure_interleaved(
    paths: Sequence[PathLike],
    threads: int = 1,
    *,
    warmup: int = WARMUP,
    repetitions: int = REPETITIONS,
    input_size: Sequence[int] | None = None,
) -> list[Latency]:
    """Time several ONNX files side by side in shuffled rounds: compare networks with this, not with two measures.

    Args:
        paths: the ONNX files.
        threads: threads that the runtime may use for one inference.
        warmup: untimed runs of each file before the first round.
        repetitions: timed runs of each file.
        input_size: size of inputs that a file leaves open, without the batch.

    Returns:
        A latency for each file, in the same order.

    Raises:
        CostError: if a file cannot be loaded or run.
    """
    check_threads(threads)
    sessions = [open_session(path, threads) for path in paths]
    feeds = [_random_inputs(session, path, input_size) for session, path in zip(sessions, paths, strict=True)]
    for session, feed, path in zip(sessions, feeds, paths, strict=True):
        run_session(session, feed, path)  # tells a bad file before the clock starts

    def runner(session: Any, feed: dict[str, Any]) -> Any:
        return lambda: session.run(None, feed)

    runs = [runner(session, feed) for session, feed in zip(sessions, feeds, strict=True)]
    samples = time_interleaved(runs, warmup=warmup, repetitions=repetitions)
    return [
        summarise(
            sample,
            runtime=NAME,
            version=ort.__version__,
            threads=threads,
            dtype=str(next(iter(feed.values())).dtype),
            warmup=warmup,
        )
        for sample, feed in zip(samples, feeds, strict=True)
    ]


def open_session(path: PathLike, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU.

    Raises:
        CostError: if the file is missing or damaged.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors reach us as exceptions
    name = existing(path)
    with failing_as(f"ONNX Runtime cannot load {path}", then=" Export the network again."):
        return ort.InferenceSession(name, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, feed: Mapping[str, Any], path: PathLike) -> list[Any]:
    """The outputs for these inputs.

    Raises:
        CostError: naming the file, if it cannot be run.
    """
    with failing_as(f"ONNX Runtime cannot run {path}"):
        return session.run(None, feed)


def _outputs(path: PathLike) -> Callable[[Array], list[Array]]:
    """An ONNX file as a function from its first input to its outputs."""
    session = open_session(path, threads=1)
    name = session.get_inputs()[0].name
    return lambda x: run_session(session, {name: x}, path)


def _reader(base: Any, calibration: Sequence[Array]) -> Any:
    """Calibration inputs in the shape that ONNX Runtime asks for: a feed at a time, None at the end."""
    feeds = iter([{"input": x} for x in calibration])
    return type("Reader", (base,), {"get_next": lambda self: next(feeds, None)})()


def _random_inputs(session: Any, path: PathLike, input_size: Sequence[int] | None) -> dict[str, Any]:
    """A random value for each input of a session; an open batch axis becomes 1."""
    generator = np.random.default_rng(0)
    feed = {}
    for entry in session.get_inputs():
        if entry.type not in NUMBER_TYPES:
            raise CostError(f"{path}: input {entry.name!r} is a {entry.type}, which cannot be filled with numbers.")
        shape = fixed_shape(entry.shape, input_size)
        if shape is None:
            raise CostError(
                f"{path} leaves the size of input {entry.name!r} open ({entry.shape}): give the input size."
            )
        kind = np.dtype(NUMBER_TYPES[entry.type])
        noise = generator.standard_normal(shape)
        feed[entry.name] = (noise if kind.kind == "f" else noise > 0).astype(kind)
    return feed


def fixed_shape(shape: Sequence[Any], input_size: Sequence[int] | None) -> list[int] | None:
    """A shape without open axes: the batch becomes 1, the others come from ``input_size``; None if they cannot."""
    known = [size if isinstance(size, int) and size > 0 else None for size in shape]
    wanted = [1, *(input_size or [])]
    if len(known) == len(wanted):
        known = [size or want for size, want in zip(known, wanted, strict=True)]
    elif known and known[0] is None:
        known[0] = 1
    return None if None in known else [size for size in known if size is not None]
