"""NAS-Bench-201 and FBNet as known ground for estimators: what each network costs, without building it.

Every network is described by the kernels that a runtime executes, with convolution and batch norm fused. An activation
before its convolution (NAS-Bench-201) is a kernel of its own, one after it (FBNet) is fused.

>>> cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
>>> f"{REFERENCE_SPACES['nasbench201'].features([cell]).macs[0]:.1f} M"
'114.0 M'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations, pairwise

import numpy as np

from .errors import ArchitectureError, nearest_name
from .features import FLOAT32, KINDS, QUANTITIES, Codes, Features, Kernel, Matrix, convolution_kind, feature_row
from .naming import Registry


def convolution(
    channels_in: int, channels_out: int, size: int, kernel: int, stride: int = 1, groups: int = 1
) -> Kernel:
    """A convolution with its batch norm folded in, on a square map of ``size`` pixels a side; "same" padding."""
    out = -(-size // stride)
    weights = channels_in // groups * kernel**2 * channels_out
    kind = convolution_kind(channels_in, kernel, groups)
    read, written = channels_in * size**2 * FLOAT32, channels_out * out**2 * FLOAT32
    # the folded batch norm leaves a bias
    return Kernel(kind, weights * out**2, read, written, (weights + channels_out) * FLOAT32)


def elementwise(channels: int, size: int, inputs: int = 1) -> Kernel:
    """An addition of several maps, an activation on its own, a copy."""
    elements = channels * size**2 * FLOAT32
    return Kernel("elementwise", 0, inputs * elements, elements, 0)


def pooling(channels: int, size: int, kernel: int, stride: int = 1) -> Kernel:
    """A pooling with a window of ``kernel`` pixels a side."""
    out = size // stride
    results = channels * out**2
    return Kernel("pool", results * kernel**2, channels * size**2 * FLOAT32, results * FLOAT32, 0)


def linear(features_in: int, features_out: int) -> Kernel:
    """A linear layer with a bias."""
    weights = features_in * features_out
    return Kernel("linear", weights, features_in * FLOAT32, features_out * FLOAT32, (weights + features_out) * FLOAT32)


@dataclass(frozen=True)
class ReferenceSpace:
    """A published space whose architectures are strings. Subclasses say what each choice executes.

    Attributes:
        name: the name that measurements and profiles carry.
        operations: the names that may stand at each place.
        places: how many choices an architecture has.
        example: an architecture, for messages.
    """

    name: str
    operations: tuple[str, ...]
    places: int
    example: str

    def parse(self, architecture: str) -> list[int]:
        """The choice at each place, as an index into ``operations``.

        Raises:
            ArchitectureError: if the string is no architecture of this space.
        """
        names = self.split(architecture)
        for name in names:
            if name not in self.operations:
                near = nearest_name(name, self.operations)
                hint = f" Did you mean {near!r}?" if near else f" Known: {', '.join(self.operations)}."
                raise ArchitectureError(f"{self.name} has no operation {name!r}.{hint}")
        if len(names) != self.places:
            raise ArchitectureError(
                f"An architecture of {self.name} has {self.places} operations, but {architecture!r} has {len(names)}."
            )
        return [self.operations.index(name) for name in names]

    def codes(self, architectures: Sequence[str]) -> Codes:
        """(n, S) the choices of many architectures (see `parse`).

        Raises:
            ArchitectureError: naming the first architecture that cannot be read, and its place in the list.
        """
        rows = []
        for number, architecture in enumerate(architectures):
            try:
                rows.append(self.parse(architecture))
            except ArchitectureError as error:
                raise ArchitectureError(f"Architecture {number + 1} of {len(architectures)}: {error}") from error
        return np.array(rows, dtype=np.int64).reshape(-1, self.places)

    def features(self, architectures: Sequence[str]) -> Features:
        """The features of many architectures (see `Features`)."""
        return self.features_of_codes(self.codes(architectures))

    def features_of_codes(self, codes: Codes) -> Features:
        """The features of (n, S) choices."""
        spread = np.std(self._tables.sum(2) @ _SIZE, axis=1)
        weights = spread / spread.sum()
        return Features(self.name, self._variants(codes), codes, len(self.operations), weights, self.pairs())

    def random(self, n: int, seed: int) -> list[str]:
        """n random architectures, each choice alike likely."""
        codes = np.random.default_rng(seed).integers(len(self.operations), size=(n, self.places))
        return [self.join([self.operations[code] for code in row]) for row in codes]

    def kernels(self, architecture: str) -> list[Kernel]:
        """Everything that one network executes, if nothing is pruned."""
        chosen = (self.choice_kernels(place, self.operations[i]) for place, i in enumerate(self.parse(architecture)))
        return [*self.fixed_kernels(), *(kernel for kernels in chosen for kernel in kernels)]

    def split(self, architecture: str) -> list[str]:
        raise NotImplementedError

    def join(self, names: Sequence[str]) -> str:
        raise NotImplementedError

    def fixed_kernels(self) -> list[Kernel]:
        """What every network executes."""
        raise NotImplementedError

    def choice_kernels(self, place: int, operation: str) -> list[Kernel]:
        """What one choice adds to the whole network."""
        raise NotImplementedError

    def pairs(self) -> list[tuple[int, int]]:
        """Places that may influence one another's cost."""
        raise NotImplementedError

    @cached_property
    def _fixed(self) -> Matrix:
        return feature_row(self.fixed_kernels())

    @cached_property
    def _tables(self) -> Matrix:
        """(S, operations, kinds, quantities) what each choice adds."""
        rows = [[feature_row(self.choice_kernels(s, name)) for name in self.operations] for s in range(self.places)]
        return np.array(rows).reshape(self.places, len(self.operations), len(KINDS), len(QUANTITIES))

    def _sum(self, codes: Codes, used: np.ndarray | None = None) -> Matrix:
        """(n, F) features, of the used choices only if (n, S) ``used`` is given."""
        total = np.tile(self._fixed, (len(codes), 1))
        for place in range(self.places):
            rows = self._tables[place].reshape(len(self.operations), -1)[codes[:, place]]
            total += rows if used is None else rows * used[:, place, None]
        return total

    def _variants(self, codes: Codes) -> dict[str, Matrix]:
        return {"executed": self._sum(codes)}


# rough milliseconds of a million MACs, a megabyte and a kernel: only to see which places matter more than others
_SIZE = np.array([0.1, 0.2, 0.01])

_STAGES = ((16, 32), (32, 16), (64, 8))  # width and side of the maps
_CELLS = 5  # in a stage
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # in the order of the architecture string


class NasBench201(ReferenceSpace):
    """NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell of four nodes and six edges, 15 times, for 32x32 pictures.

    Stem 3x3 to 16 channels; three stages of five cells of 16, 32 and 64 channels; a basic residual block of stride 2
    between the stages; batch norm and ReLU, global average, linear to 10 classes. A convolution is ReLU, convolution,
    batch norm.
    """

    def split(self, architecture: str) -> list[str]:
        groups = architecture.strip().split("+")
        edges = [edge.rpartition("~") for group in groups for edge in group.strip("|").split("|")]
        sources = [source for _, _, source in edges]
        if sources != [str(source) for source, _ in _EDGES]:
            raise ArchitectureError(f"{architecture!r} is no cell of nasbench201; one is written as {self.example}.")
        return [name for name, _, _ in edges]

    def join(self, names: Sequence[str]) -> str:
        edges = [f"{name}~{source}|" for name, (source, _) in zip(names, _EDGES, strict=True)]
        return f"|{edges[0]}+|{''.join(edges[1:3])}+|{''.join(edges[3:])}"

    def fixed_kernels(self) -> list[Kernel]:
        kernels = [convolution(3, 16, 32, 3)]
        for channels, size in _STAGES:
            # the second node adds up two edges, the third three
            kernels += _CELLS * 3 * [elementwise(channels, size, inputs=2)]
        for (channels, size), (wider, smaller) in pairwise(_STAGES):
            kernels += [
                elementwise(channels, size),
                convolution(channels, wider, size, 3, stride=2),  # with the next one's activation
                convolution(wider, wider, smaller, 3),
                pooling(channels, size, 2, stride=2),
                convolution(channels, wider, smaller, 1),
                elementwise(wider, smaller, 2),
            ]
        channels, size = _STAGES[-1]
        # the last norm and activation are part of the last cell's addition
        return [*kernels, pooling(channels, size, size, stride=size), linear(channels, 10)]

    def choice_kernels(self, place: int, operation: str) -> list[Kernel]:
        kernels: list[Kernel] = []
        for channels, size in _STAGES:
            layer = {
                "none": [elementwise(channels, size)],  # as published: multiplied by zero
                "skip_connect": [],
                "nor_conv_1x1": [elementwise(channels, size), convolution(channels, channels, size, 1)],
                "nor_conv_3x3": [elementwise(channels, size), convolution(channels, channels, size, 3)],
                "avg_pool_3x3": [pooling(channels, size, 3)],
            }
            kernels += _CELLS * layer[operation]
        return kernels

    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(self.places), 2))

    def _variants(self, codes: Codes) -> dict[str, Matrix]:
        return {"executed": self._sum(codes), "pruned": self._sum(codes, self.needed(codes))}

    def needed(self, codes: Codes) -> np.ndarray:
        """(n, 6) whether the cell's output depends on the edge; an edge `none` never counts as needed."""
        connected = codes != self.operations.index("none")
        node_needed = np.zeros((len(codes), 4), dtype=bool)
        node_needed[:, 3] = True
        needed = np.zeros_like(connected)
        for edge in reversed(range(len(_EDGES))):
            source, target = _EDGES[edge]
            needed[:, edge] = connected[:, edge] & node_needed[:, target]
            node_needed[:, source] |= needed[:, edge]
        return needed


_FBNET_STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
_FBNET_STEM, _FBNET_HEAD, _FBNET_SIZE, _FBNET_CLASSES = 16, 1504, 224, 1000


class FBNet(ReferenceSpace):
    """FBNet (Wu et al., CVPR 2019, Tables 1 and 2): 22 blocks for 224x224 pictures.

    Stem 3x3 of stride 2 to 16 channels; blocks of 16, 4x24, 4x32, 4x64, 4x112, 4x184, 352 channels, with stride 2 at
    the first of 24, 32, 64 and 184; 1x1 to 1504 channels, global average, linear to 1000 classes. A block
    ``kK_eE[_gG]`` is 1x1 to E times the width, depthwise KxK, 1x1, with a shortcut where the shapes allow it; its 1x1
    convolutions have G groups. ``skip`` is nothing where the shapes allow it, else a 1x1 convolution.
    """

    def split(self, architecture: str) -> list[str]:
        return architecture.split()

    def join(self, names: Sequence[str]) -> str:
        return " ".join(names)

    def fixed_kernels(self) -> list[Kernel]:
        _, _, channels, size, stride = fbnet_places()[-1]
        size //= stride
        return [
            convolution(3, _FBNET_STEM, _FBNET_SIZE, 3, stride=2),
            convolution(channels, _FBNET_HEAD, size, 1),
            pooling(_FBNET_HEAD, size, size, stride=size),
            linear(_FBNET_HEAD, _FBNET_CLASSES),
        ]

    def choice_kernels(self, place: int, operation: str) -> list[Kernel]:
        _, channels_in, channels_out, size, stride = fbnet_places()[place]
        same = channels_in == channels_out and stride == 1
        if operation == "skip":
            return [] if same else [convolution(channels_in, channels_out, size, 1, stride)]
        kernel, expansion, *rest = (int(part[1:]) for part in operation.split("_"))
        groups = rest[0] if rest else 1
        wide = channels_in * expansion
        kernels = [convolution(channels_in, wide, size, 1, groups=groups)]
        if groups > 1:
            kernels.append(elementwise(wide, size))  # the channel shuffle
        kernels.append(convolution(wide, wide, size, kernel, stride, groups=wide))
        kernels.append(convolution(wide, channels_out, size // stride, 1, groups=groups))
        return [*kernels, elementwise(channels_out, size, 2)] if same else kernels

    def pairs(self) -> list[tuple[int, int]]:
        return [(place, place + 1) for place in range(self.places - 1)]


@lru_cache
def fbnet_places() -> list[tuple[int, int, int, int, int]]:
    """Of each of the 22 blocks: its place, channels in and out, side of its input, stride."""
    places: list[tuple[int, int, int, int, int]] = []
    channels, size = _FBNET_STEM, _FBNET_SIZE // 2
    for width, blocks, first_stride in _FBNET_STAGES:
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            places.append((len(places), channels, width, size, stride))
            channels, size = width, size // stride
    return places


REFERENCE_SPACES = Registry[ReferenceSpace]("reference space")
REFERENCE_SPACES.register("nasbench201")(
    NasBench201(
        name="nasbench201",
        operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
        places=len(_EDGES),
        example="|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
    )
)
REFERENCE_SPACES.register("fbnet")(
    FBNet(
        name="fbnet",
        operations=("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip"),
        places=22,
        example="k3_e1 k3_e6 skip k5_e3 ... (22 blocks)",
    )
)
