"""Kernels and networks timed on an Android phone by LiteRT's benchmark program, for a profile of the phone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import ConfigError, CostError

from .adb import Adb, temporary_folder
from .phone import PROGRAMS, Run, install, phone_name

STARTS = 3  # of the program, for each file


class PhoneTimer:
    """A `hardware.kernel_timing.Timer` that runs every file on a phone.

    Only LiteRT: its kernels are the operators of the file, the same on every processor, while those of ONNX Runtime
    depend on the processor that optimised the graph.

    Args:
        phone: from `hardware.adb.connect`.
        binary: LiteRT's benchmark program for the phone.
        run: threads, warm-up, repetitions of all starts together, and cores.
        track: shows the progress of a loop: ``track(items, what)``.
    """

    runtime = "litert"

    def __init__(self, phone: Adb, binary: Path, run: Run, track: Callable[..., Any] | None = None) -> None:
        if not binary.is_file():
            raise ConfigError(f"No file {binary}.")
        self.phone, self.binary, self.run, self.track = phone, binary, run, track
        self.warnings: list[str] = []

    def kernel_files(self, contents: Sequence[bytes]) -> list[float | None]:
        """See `Timer`."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernel.tflite"

            def written() -> Any:
                for content in contents:
                    file.write_bytes(content)
                    yield file

            return self._times(written(), len(contents), "kernels")

    def networks(self, files: Sequence[Path]) -> NDArray[np.float64]:
        """See `Timer`.

        Raises:
            CostError: if one does not run.
        """
        found = self._times(iter(files), len(files), "networks")
        missing = [str(file) for file, ms in zip(files, found, strict=True) if ms is None]
        if missing:
            raise CostError(f"The phone does not run {missing[0]}.")
        return np.array(found, dtype=float)

    def provenance(self) -> dict[str, Any]:
        """See `Timer`."""
        runs = STARTS * self.run.runs_per_start
        told: dict[str, Any] = {"statistic": f"median of {STARTS} means", "clock": "wall", "repetitions": runs}
        return {
            "device": phone_name(self.phone),
            "protocol": {**told, **({"cpu_mask": self.run.cpu_mask} if self.run.cpu_mask else {})},
        }

    def _times(self, files: Any, count: int, what: str) -> list[float | None]:
        found: list[float | None] = []
        with temporary_folder(self.phone, self.warnings) as folder:
            install(self.phone, self.binary, folder)
            numbered = range(count)
            for _ in self.track(numbered, what) if self.track else numbered:
                self.phone.push(next(files), f"{folder}/network.tflite")
                try:
                    starts = [PROGRAMS[self.runtime](self.phone, folder, ".tflite", self.run) for _ in range(STARTS)]
                    found.append(float(np.median([np.mean(start.seconds) for start in starts]) * 1e3))
                except CostError:
                    self.phone.run("get-state")  # a phone that is gone ends it all
                    found.append(None)
        return found
