"""Runtimes for tests, found by their module: they keep ONNX in their files and fail as they are told.

The name of the class to be used is in the environment, because the tests' runtimes run in processes of their own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hardware.runtimes import PathLike, onnxruntime
from hardware.runtimes.base import Array, Fallback, LoadedFile, LocalRuntime
from searchspaces.errors import CostError

MODE = "FACENAS_TEST_RUNTIME"


class Fake(LocalRuntime):
    """Works; its int8 files are float32."""

    NAME, SUFFIX, DTYPES = "fake", ".fake", ("float32", "int8")

    def version(self) -> str:
        return "1.2.3"

    def load(self, path: PathLike, threads: int) -> LoadedFile:
        return onnxruntime.load(path, threads)

    def fallback(self, path: PathLike) -> Fallback | None:
        return Fallback(2, 7, 0.25, ("SLOW",))

    def _export(self, model: nn.Module, input_size: Sequence[int], path: Path) -> Path:
        return onnxruntime.export(model, input_size, path)

    def _export_int8(
        self, model: nn.Module, input_size: Sequence[int], path: Path, calibration: Sequence[Array]
    ) -> Path:
        if os.environ.get(MODE) == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get(MODE) == "fails":
            raise CostError("this network cannot be quantised")
        if os.environ.get(MODE) == "unforeseen":
            raise KeyError("nobody thought of this")
        return onnxruntime.export(model, input_size, path)


class Doubled:
    """A loaded file whose outputs are twice what they should be."""

    def __init__(self, loaded: Any) -> None:
        self.loaded, self.input_shape = loaded, loaded.input_shape

    def feed(self, x: Array) -> None:
        self.loaded.feed(x)

    def invoke(self) -> object:
        return self.loaded.invoke()

    def outputs(self) -> list[Array]:
        return [2 * output for output in self.loaded.outputs()]


class Wrong(Fake):
    """Converts without an error, but to another network."""

    def load(self, path: PathLike, threads: int) -> LoadedFile:
        return Doubled(super().load(path, threads))


class Unloadable(Fake):
    """Writes files that it cannot load."""

    def load(self, path: PathLike, threads: int) -> LoadedFile:
        raise CostError(f"cannot prepare {Path(path).name}")


RUNTIME = {"wrong": Wrong, "unloadable": Unloadable}.get(os.environ.get(MODE, ""), Fake)()
