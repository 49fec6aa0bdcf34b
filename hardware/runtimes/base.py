"""What the runtimes share: comparing a file with its network, timing it, and what a runtime tells about it."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hardware.messages import failing_as
from hardware.tracing import evaluating, example_input, run
from searchspaces.errors import CostError

from . import REPETITIONS, WARMUP, PathLike
from .timing import Latency, summarise, time_interleaved

TOLERANCE = 1e-4  # of the largest output; exporters stay below 1e-6 for float32
DAMAGED = ". It may be damaged: export the network again."  # said of a file that cannot be loaded
SAMPLES = 3  # random inputs of a check
Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How far a file's outputs are from the network's.

    Attributes:
        largest: largest absolute difference of any output.
        relative: the same as a fraction of the largest absolute value of that output; the worst output counts.
        rms: root mean square of the differences, as a fraction of that of the outputs; the worst output counts.
    """

    largest: float
    relative: float
    rms: float


@dataclass(frozen=True)
class Fallback:
    """Operators that a runtime executes outside of its fast kernels.

    Attributes:
        operators: how many of the file's operators.
        total: how many operators the file has.
        mac_share: their share of the MACs that the runtime tells, from 0 to 1; None if it tells none.
        names: their types, each once.
    """

    operators: int
    total: int
    mac_share: float | None
    names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        return asdict(self)


class LoadedFile(Protocol):
    """An exported file, ready to run. Arrays are float32 in torch's layout: (1, C, H, W)."""

    input_shape: tuple[int, ...]

    def feed(self, x: Array) -> None:
        """Set the input; layout and number type become those of the file."""

    def invoke(self) -> object:
        """One inference: what is timed."""

    def outputs(self) -> list[Array]:
        """The outputs of the last inference, in the network's order."""


class LocalRuntime(ABC):
    """A runtime with one input and float32 or int8 files; a subclass exports and loads, the rest is here."""

    NAME: str
    SUFFIX: str
    DTYPES: tuple[str, ...] = ("float32",)

    def export(self, model: nn.Module, input_size: Sequence[int], path: PathLike) -> Path:
        """Write the network in evaluation mode, float32, batch size 1; operators that fall off are told as warnings.

        Raises:
            CostError: if the network does not run on the input, or the runtime cannot express it.
        """
        self._tell_cliffs(model, input_size, "float32")
        return self._loadable(self._export(model, input_size, Path(path)), model, "float32")

    def export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: PathLike, calibration: Sequence[Array]
    ) -> Path:
        """The same, quantised to int8 after training with ranges seen on ``calibration``: (1, C, H, W) float32 each.

        Raises:
            CostError: as `export` does, or if the runtime cannot quantise the network.
        """
        self._tell_cliffs(model, input_size, "int8")
        return self._loadable(self._export_int8(model, input_size, Path(path), calibration), model, "int8")

    @abstractmethod
    def version(self) -> str:
        """The version of the runtime's library."""

    @abstractmethod
    def load(self, path: PathLike, threads: int) -> LoadedFile:
        """Load a file. Raises `CostError` if it cannot be loaded."""

    @abstractmethod
    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path) -> Path: ...

    def _export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: Path, calibration: Sequence[Array]
    ) -> Path:
        raise CostError(f"Runtime {self.NAME!r} has no int8 here: its package does not hold the quantiser.")

    def files(self, path: PathLike) -> list[Path]:
        """All files that belong to an exported file, itself included."""
        return [Path(path)]

    def fallback(self, path: PathLike) -> Fallback | None:
        """What runs outside of the runtime's fast kernels; None if it does not tell."""
        return None

    def check(
        self,
        model: nn.Module,
        path: PathLike,
        input_size: Sequence[int],
        *,
        samples: int = SAMPLES,
        tolerance: float = TOLERANCE,
    ) -> float:
        """Run the file and the model on the same random inputs; see `compare_with_network`."""
        loaded = self.load(path, threads=1)
        inputs = [example_input(model, input_size, seed=seed + 1) for seed in range(samples)]
        return compare_with_network(model, loaded_outputs(loaded, path), inputs, path, tolerance).largest

    def measure(
        self, path: PathLike, threads: int = 1, *, warmup: int = WARMUP, repetitions: int = REPETITIONS
    ) -> Latency:
        """Time a file on this machine; see `measure_interleaved`."""
        return self.measure_interleaved([path], threads, warmup=warmup, repetitions=repetitions)[0]

    def measure_interleaved(
        self,
        paths: Sequence[PathLike],
        threads: int = 1,
        *,
        warmup: int = WARMUP,
        repetitions: int = REPETITIONS,
    ) -> list[Latency]:
        """Time several files side by side in shuffled rounds: compare networks with this, not with two measures.

        Raises:
            CostError: if a file cannot be loaded or run.
        """
        check_threads(threads)
        loaded = [self.load(path, threads) for path in paths]
        for one, path in zip(loaded, paths, strict=True):
            loaded_outputs(one, path)(random_input(one))  # tells a bad file before the clock starts
        runs = [one.invoke for one in loaded]
        return [
            summarise(sample, runtime=self.NAME, version=self.version(), threads=threads, warmup=warmup)
            for sample in time_interleaved(runs, warmup=warmup, repetitions=repetitions)
        ]

    def _loadable(self, path: Path, model: nn.Module, dtype: str) -> Path:
        """The path of a new file, after loading it: some are written without an error, but cannot be prepared."""
        try:
            self.load(path, threads=1)
        except CostError as error:
            for file in self.files(path):
                file.unlink(missing_ok=True)
            kind = type(model).__name__
            raise CostError(f"{self.NAME} converts {kind} to {dtype}, but cannot load the result: {error}") from error
        return path

    def _tell_cliffs(self, model: nn.Module, input_size: Sequence[int], dtype: str) -> None:
        from hardware.cliffs import find_cliffs, messages

        for message in messages(find_cliffs(model, input_size, self.NAME, dtype)):
            warnings.warn(message, stacklevel=3)


def check_threads(threads: int) -> None:
    """Refuse a number of threads that is none."""
    if threads < 1:
        raise CostError(f"Cannot measure with {threads} threads: it takes at least 1.")


def existing(path: PathLike) -> str:
    """The path of a file that is there, for libraries that want a string."""
    if not Path(path).is_file():
        raise CostError(f"No file {path}.")
    return str(path)


def random_input(loaded: LoadedFile) -> Array:
    """Normal noise in the shape that a loaded file takes."""
    return np.random.default_rng(0).standard_normal(loaded.input_shape).astype(np.float32)


def loaded_outputs(loaded: LoadedFile, path: PathLike) -> Callable[[Array], list[Array]]:
    """A loaded file as a function from its input to its outputs; what the library raises becomes a `CostError`."""

    def outputs(x: Array) -> list[Array]:
        with failing_as(f"Cannot run {path}"):
            loaded.feed(x)
            loaded.invoke()
            return loaded.outputs()

    return outputs


def compare_with_network(
    model: nn.Module,
    outputs: Callable[[Array], list[Array]],
    inputs: Sequence[Tensor],
    path: PathLike,
    tolerance: float = TOLERANCE,
) -> Difference:
    """Run a file and its network on the same inputs.

    Args:
        model: the network that the file was exported from.
        outputs: runs the file.
        inputs: (1, C, H, W) each.
        path: the file, for messages.
        tolerance: largest difference allowed, as a fraction of the largest absolute value of the output.

    Raises:
        CostError: if the file cannot be run, its outputs are of other sizes or not numbers, or differ by more than
            the tolerance.
    """
    worst = relative = rms = 0.0
    for x in inputs:
        with evaluating(model):
            expected = [tensor.detach().cpu().double().numpy() for tensor in output_tensors(run(model, x))]
        actual = outputs(x.cpu().numpy())
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
            relative = max(relative, difference / scale if scale else 0.0)
            rms = max(rms, float(np.linalg.norm(want - got) / np.linalg.norm(want)) if scale else 0.0)
    return Difference(worst, relative, rms)


def output_tensors(value: Any) -> list[Tensor]:
    """The tensors of a network's output, in order."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class FlatOutputs(nn.Module):
    """A network whose outputs are a tuple of tensors, whatever held them before: converters refuse some containers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = output_tensors(self.model(x))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that converters print, from C++ either, reaches the user; Python's own warnings neither."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as sink, io.StringIO() as text, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            with redirect_stdout(text), redirect_stderr(text):  # a notebook's streams are no file descriptors
                yield
        finally:
            for target, original in enumerate(kept, start=1):
                os.dup2(original, target)
                os.close(original)
