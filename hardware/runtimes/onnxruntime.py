"""ONNX Runtime on the CPU, float32."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hardware.messages import reason
from hardware.tracing import evaluating, example_input, run
from searchspaces.errors import CostError
from searchspaces.files import write_bytes

from . import REPETITIONS, WARMUP
from .timing import Latency, summarise, time_interleaved

NAME = "onnxruntime"
SUFFIX = ".onnx"
OPSET = 17
TOLERANCE = 1e-4  # of the largest output; exporters stay below 1e-6 for float32
# what torch says about its older exporter, and what that exporter says about its own insides
LEGACY_EXPORTER = (
    "You are using the legacy TorchScript-based ONNX export",
    "The feature will be removed. Please remove usage of this function",
)

PathLike = str | Path

NUMBER_TYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def export(model: nn.Module, input_size: Sequence[int], path: PathLike) -> Path:
    """Write the network in evaluation mode as an ONNX file of fixed input size and batch size 1.

    Raises:
        CostError: if the network does not run on the input, or uses an operator that ONNX cannot express.
        RunFolderError: if the file cannot be written.
    """
    x = example_input(model, input_size, seed=0)
    with evaluating(model), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        outputs = _tensors(run(model, x))
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
        # the newer exporter takes ten times as long and one more package for the same graph
        for message in LEGACY_EXPORTER:
            warnings.filterwarnings("ignore", message, DeprecationWarning)
        file = Path(folder) / "network.onnx"
        try:
            torch.onnx.export(
                model, (x,), file, dynamo=False, opset_version=OPSET, input_names=["input"], output_names=names
            )
        except Exception as error:
            raise CostError(f"Cannot export {type(model).__name__} to ONNX: {reason(error)}") from error
        return write_bytes(path, file.read_bytes())


def check(
    model: nn.Module, path: PathLike, input_size: Sequence[int], *, samples: int = 3, tolerance: float = TOLERANCE
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
    session = _session(path, threads=1)
    name = session.get_inputs()[0].name
    worst = 0.0
    for seed in range(samples):
        x = example_input(model, input_size, seed=seed + 1)
        with evaluating(model):
            expected = [tensor.detach().cpu().double().numpy() for tensor in _tensors(run(model, x))]
        actual = _run(session, {name: x.cpu().numpy()}, path)
        if [e.shape for e in expected] != [a.shape for a in actual]:
            sizes = [[list(array.shape) for array in arrays] for arrays in (actual, expected)]
            raise CostError(f"{path} gives outputs of sizes {sizes[0]}, but the network {sizes[1]}: export it again.")
        for want, got in zip(expected, actual, strict=True):
            difference = float(np.abs(want - got).max(initial=0.0))
            scale = float(np.abs(want).max(initial=0.0))
            if not difference <= tolerance * scale:  # also true for NaN
                raise CostError(
                    f"{path} differs from the network by {difference:.3g} where the largest output is {scale:.3g}; "
                    f"allowed is {tolerance:g} of it. Export it again from the same weights."
                )
            worst = max(worst, difference)
    return worst


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
    if threads < 1:
        raise CostError(f"Cannot measure with {threads} threads: it takes at least 1.")
    sessions = [_session(path, threads) for path in paths]
    feeds = [_random_inputs(session, path, input_size) for session, path in zip(sessions, paths, strict=True)]
    for session, feed, path in zip(sessions, feeds, paths, strict=True):
        _run(session, feed, path)  # tells a bad file before the clock starts

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


def _session(path: PathLike, threads: int) -> Any:
    if not Path(path).is_file():
        raise CostError(f"No file {path}.")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; they reach us as exceptions
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CostError(f"ONNX Runtime cannot load {path}: {reason(error)} Export the network again.") from error


def _run(session: Any, feed: dict[str, Any], path: PathLike) -> list[Any]:
    try:
        return session.run(None, feed)
    except Exception as error:
        raise CostError(f"ONNX Runtime cannot run {path}: {reason(error)}") from error


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


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
