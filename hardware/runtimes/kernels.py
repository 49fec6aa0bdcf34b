"""The kernels that a runtime executes, read from its own file: what a table of measured kernels is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import PathLike

# what of a kernel tells how long it takes, for kernels that were never measured
QUANTITIES = (
    *("macs", "read_bytes", "written_bytes", "weight_bytes"),
    *("window", "stride", "dilation", "inputs", "channels_in", "channels_out", "pixels_in", "pixels_out"),
)


@dataclass(frozen=True)
class RuntimeKernel:
    """One kernel of a file.

    Attributes:
        key: what it computes on which shapes; kernels with the same key are taken to take the same time.
        kind: the operator's name in its runtime.
        quantities: a number for each of `QUANTITIES`.
        source: what its runtime needs to build it alone; not compared.
    """

    key: str
    kind: str
    quantities: tuple[float, ...]
    source: Any = field(default=None, compare=False, repr=False)


class KernelRuntime(Protocol):
    """A runtime whose files can be taken apart."""

    def kernels(self, path: PathLike) -> list[RuntimeKernel]:
        """The kernels of a file in order of execution."""

    def kernel_alone(self, kernel: RuntimeKernel, replicas: int) -> bytes:
        """A file of so many copies of one kernel, each with weights of its own, all reading the same inputs."""

    def runner(self, content: bytes, threads: int, whole: bool = False) -> Callable[[], object]:
        """One inference of a file on random inputs: of one kernel, or of a whole network."""


def pixels(shape: Sequence[int], channels_last: bool) -> int:
    """Height times width of a map; 1 for what is none."""
    if len(shape) < 4:
        return 1
    rows, columns = shape[1:3] if channels_last else shape[2:4]
    return rows * columns
