"""Mobile runtimes: each exports a network to its own file format, checks the file, and measures it.

A runtime is a module (or any object) with the functions of `Runtime`. Built-in ones are imported when they are asked
for, because their libraries are heavy. Add your own under a name of its choice::

    register_runtime("myruntime")(lambda: importlib.import_module("mypackage.myruntime"))

Commands find one that is not registered by its module: ``--runtime mypackage.myruntime``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from searchspaces.errors import CostError
from searchspaces.naming import Registry

if TYPE_CHECKING:
    from torch import nn

    from .timing import Latency

__all__ = ["REPETITIONS", "ROUNDS", "RUNTIMES", "WARMUP", "PathLike", "Runtime", "get_runtime", "register_runtime"]

PathLike = str | Path
WARMUP = 10  # untimed runs before the first timed one
REPETITIONS = 100  # timed runs
ROUNDS = 8  # of a few runs each, where many files take turns


class Runtime(Protocol):
    """What every runtime can do; a failure of any of these is a `CostError`.

    `hardware.runtimes.base.LocalRuntime` does the common part, and has what `hardware.bench` asks beyond this:
    int8, the version, the share of slow operators.
    """

    SUFFIX: str
    """How the runtime's files end, for example ``.onnx``."""

    def export(self, model: nn.Module, input_size: Sequence[int], path: PathLike) -> Path:
        """Write the network in evaluation mode to one file, atomically."""

    def check(self, model: nn.Module, path: PathLike, input_size: Sequence[int]) -> float:
        """Run the file and the model on the same random inputs; the largest absolute difference of the outputs."""

    def measure(
        self, path: PathLike, threads: int = 1, *, warmup: int = WARMUP, repetitions: int = REPETITIONS
    ) -> Latency:
        """Time the file on this machine."""

    def measure_interleaved(
        self, paths: Sequence[PathLike], threads: int = 1, *, warmup: int = WARMUP, repetitions: int = REPETITIONS
    ) -> list[Latency]:
        """Time several files side by side, so that their ratios are honest."""


RUNTIMES = Registry[Callable[[], object]]("runtime")
register_runtime = RUNTIMES.register
register_runtime("onnxruntime")(lambda: import_module("hardware.runtimes.onnxruntime"))
register_runtime("litert")(lambda: import_module("hardware.runtimes.litert").RUNTIME)
register_runtime("openvino")(lambda: import_module("hardware.runtimes.openvino").RUNTIME)
register_runtime("ncnn")(lambda: import_module("hardware.runtimes.ncnn").RUNTIME)
register_runtime("executorch")(lambda: import_module("hardware.runtimes.executorch").RUNTIME)


def get_runtime(name: str) -> Runtime:
    """The runtime of this name, imported.

    Args:
        name: a registered name, or a module that has the functions of `Runtime` or a ``RUNTIME`` that has them,
            written with its package.

    Raises:
        UnknownNameError: if there is no such runtime.
        CostError: if a module of this name cannot be imported.
    """
    if "." not in name or name in RUNTIMES:
        return cast(Runtime, RUNTIMES[name]())
    try:
        module = import_module(name)
    except ImportError as error:
        raise CostError(f"Cannot import the runtime {name!r}: {error}. Write it as package.module.") from error
    return cast(Runtime, getattr(module, "RUNTIME", module))
