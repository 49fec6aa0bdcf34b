"""What a latency model sees of a network: its kernels, by kind, as sums of MACs, bytes and numbers of kernels.

No torch in here: features of thousands of architectures are a few sums over tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Codes = NDArray[np.int64]

KINDS = ("conv", "grouped", "depthwise", "pointwise", "linear", "pool", "elementwise", "resize", "other")
QUANTITIES = ("mmac", "megabyte", "kernel")
NAMES = tuple(f"{kind}:{quantity}" for kind in KINDS for quantity in QUANTITIES)
FLOAT32 = 4  # bytes


class Kernel(NamedTuple):
    """One fused kernel: what a runtime executes in one go.

    Attributes:
        kind: one of `KINDS`.
        macs: multiply-accumulates; for a pooling the elements that it reads for each result.
        read: bytes of activations that it reads.
        written: bytes of activations that it writes.
        weights: bytes of its parameters.
    """

    kind: str
    macs: int
    read: int
    written: int
    weights: int


def convolution_kind(channels_in: int, kernel: int, groups: int) -> str:
    """The kind of a convolution: runtimes have different code for each."""
    if groups > 1:
        return "depthwise" if groups == channels_in else "grouped"
    return "pointwise" if kernel == 1 else "conv"


def feature_row(kernels: Iterable[Kernel]) -> Matrix:
    """(F,) sums over kernels: million MACs, megabytes (read, written and weights), number of kernels of each kind."""
    row = np.zeros((len(KINDS), len(QUANTITIES)))
    for kind, macs, read, written, weights in kernels:
        row[KINDS.index(kind)] += (macs / 1e6, (read + written + weights) / 1e6, 1)
    return row.ravel()


def no_choices(n: int) -> Codes:
    return np.zeros((n, 0), dtype=np.int64)


@dataclass(frozen=True)
class Features:
    """n networks of one space.

    Attributes:
        space: the space's name.
        variants: how a runtime may treat the graph -> (n, F) sums in the order of `NAMES`, of
            which the measurements pick: ``"executed"``, every operation runs; ``"pruned"``, operations whose result
            nothing needs are left out.
        choices: (n, S) the choice at each of S places, as a number; S may be 0.
        levels: choices are numbers below this.
        weights: (S,) share of each place in what choices can change; sums to 1.
        pairs: places that may influence one another.
    """

    space: str
    variants: Mapping[str, Matrix]
    choices: Codes
    levels: int = 0
    weights: Matrix = field(default_factory=lambda: np.zeros(0))
    pairs: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def macs(self) -> Matrix:
        """(n,) million MACs of all operations, those of poolings left out."""
        counted = [i for i, name in enumerate(NAMES) if name.endswith(":mmac") and not name.startswith("pool")]
        return next(iter(self.variants.values()))[:, counted].sum(1)

    def __getitem__(self, rows: Sequence[int] | Codes | slice) -> Features:
        """The features of some of the networks."""
        variants = {name: values[rows] for name, values in self.variants.items()}
        return Features(self.space, variants, self.choices[rows], self.levels, self.weights, self.pairs)
