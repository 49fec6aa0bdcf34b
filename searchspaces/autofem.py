"""AutoFEM (Zhang et al., *ASFD: Automatic and Scalable Face Detector*, 2020, section 3.2): what a detector does with
the maps of its backbone before its heads see them.

Both modules take the maps of a pyramid, each half as large as the one before, all with W channels, and return as many:

- `Pyramid` (AutoFEM-FPN) fuses every map with its neighbours along two given chains (Eq. 2); the operations on the
  chains are searched.
- `Tree` (AutoFEM-CPM) widens the context of one level; a tree of operations, all of it searched.

Choices, with level 5 for example: ``fpn/lateral_5``, ``fpn/top_down_5`` (the operation on T_6 on its way to level 5),
``fpn/bottom_up_5`` (on B_4); ``cpm_5/input_3`` (the parent of node 3 of the tree, 0 is the map itself) and
``cpm_5/op_3``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import networkx as nx
import torch
from nni.mutable import Categorical, label_scope
from nni.nas.nn.pytorch import MutableModule
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .operations import OPERATIONS

FPN_OPERATIONS = (
    "conv_1x1",
    "dw_conv_3x3",
    "dw_conv_5x5",
    "dil_conv_3x3_r2",
    "dil_conv_3x3_r3",
    "dil_conv_5x5_r2",
)
CPM_OPERATIONS = (
    "conv_1x1",
    "dw_conv_3x3",
    "dw_conv_5x5",
    "dw_conv_1x3",
    "dw_conv_3x1",
    "dw_conv_1x3_3x1",
    "dw_conv_1x5",
    "dw_conv_5x1",
    "dw_conv_1x5_5x1",
    "dil_conv_3x3_r2",
    "dil_conv_3x3_r3",
    "dil_conv_5x5_r2",
)
PATHS = ("lateral", "top_down", "bottom_up")
FPN = "fpn"

Operate = Callable[[str, Tensor], Tensor]  # runs the operation of an edge of the pyramid, such as "top_down_5"


# ---- AutoFEM-FPN


def pyramid_edges(levels: Sequence[int]) -> list[str]:
    """The edges of a pyramid that have an operation: one lateral a level, and a step of each chain between two.

    >>> pyramid_edges([5, 6])
    ['lateral_5', 'lateral_6', 'top_down_5', 'bottom_up_6']
    """
    lateral = [f"lateral_{level}" for level in levels]
    return [*lateral, *(f"top_down_{level}" for level in levels[:-1]), *(f"bottom_up_{level}" for level in levels[1:])]


def paths_of(levels: Sequence[int], level: int) -> list[str]:
    """The paths that meet at a level: the top has no level above it, the bottom none below."""
    absent = {"top_down": levels[-1], "bottom_up": levels[0]}
    return [path for path in PATHS if absent.get(path) != level]


class PyramidShape(nn.Module):
    """What a pyramid is before its operations are chosen: ``F_c`` of every level, and the weights of the paths.

    Args:
        channels: W of all maps.
        levels: of the maps, ascending; level i has 1 / 2^i of the picture's side.
        chain: how a chain joins the map of a level, ``product`` (Eq. 2) or ``sum``.
        affine: whether the batch norms learn a scale and a shift.

    Attributes:
        betas: by level ``(paths,)``, whose softmax are the weights of `paths_of` the level.
    """

    def __init__(self, channels: int, levels: Sequence[int], chain: str = "product", affine: bool = True) -> None:
        super().__init__()
        self.channels, self.levels, self.chain = channels, list(levels), chain
        self.betas = nn.ParameterDict(
            {str(level): nn.Parameter(torch.zeros(len(paths_of(levels, level)))) for level in levels}
        )
        self.merge = nn.ModuleDict(
            {
                str(level): nn.Sequential(
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, affine=affine)
                )
                for level in levels
            }
        )

    def shares(self, level: int) -> Tensor:
        """Weights of the paths that meet at a level, in the order of `paths_of`; they sum to 1."""
        return F.softmax(self.betas[str(level)], dim=0)

    def run(self, maps: Sequence[Tensor], operate: Operate) -> list[Tensor]:
        """The enhanced maps, Eq. 2 as the chains it stands for::

            T_7 = X_7    T_i = X_i * Up(O_i^td(T_i+1))      B_2 = X_2    B_i = X_i * Down(O_i^bu(B_i-1))
            P_i = F_c(beta_i^0 O_i^0(X_i) + beta_i^td T_i + beta_i^bu B_i)

        Args:
            maps: X, ``(N, W, H_i, W_i)`` in the order of the levels.
            operate: runs O of an edge.
        """
        x = dict(zip(self.levels, maps, strict=True))
        top_down, bottom_up = {self.levels[-1]: x[self.levels[-1]]}, {self.levels[0]: x[self.levels[0]]}
        for level in reversed(self.levels[:-1]):
            upper = operate(f"top_down_{level}", top_down[level + 1])
            size = x[level].shape[-2:]
            top_down[level] = self._join(x[level], F.interpolate(upper, size=size, mode="bilinear"))
        for level in self.levels[1:]:
            lower = operate(f"bottom_up_{level}", bottom_up[level - 1])
            bottom_up[level] = self._join(x[level], F.max_pool2d(lower, 3, stride=2, padding=1))
        found = {"top_down": top_down, "bottom_up": bottom_up}
        result = []
        for level in self.levels:
            terms = [
                operate(f"lateral_{level}", x[level]) if path == "lateral" else found[path][level]
                for path in paths_of(self.levels, level)
            ]
            weighted = [share * term for share, term in zip(self.shares(level).unbind(), terms, strict=True)]
            result.append(self.merge[str(level)](sum(weighted[1:], start=weighted[0])))
        return result

    def _join(self, x: Tensor, chained: Tensor) -> Tensor:
        return x * chained if self.chain == "product" else x + chained


class Pyramid(PyramidShape):
    """A pyramid with chosen operations: maps ``(N, W, H_i, W_i)`` in, as many of the same sizes out."""

    def __init__(self, choices: Mapping[str, Any], *shape: Any, **options: Any) -> None:
        super().__init__(*shape, **options)
        self.operations = nn.ModuleDict(
            {
                edge: OPERATIONS[choices[f"{FPN}/{edge}"]](self.channels, 1, options.get("affine", True))
                for edge in pyramid_edges(self.levels)
            }
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return self.run(maps, lambda edge, x: self.operations[edge](x))


class MutablePyramid(MutableModule):
    """A pyramid of a search space: every edge has one of `FPN_OPERATIONS`. All pyramids share their choices.

    Args:
        shape, options: of `PyramidShape`.
    """

    name, candidates = FPN, FPN_OPERATIONS

    def __init__(self, *shape: Any, **options: Any) -> None:
        super().__init__()
        self.shape, self.options = shape, options
        with label_scope(FPN):
            for edge in pyramid_edges(shape[1]):
                self.add_mutable(Categorical(list(FPN_OPERATIONS), label=edge))

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], *shape: Any, **options: Any) -> Pyramid:
        """What NNI builds in place of this pyramid inside ``model_context(sample)``."""
        return Pyramid(sample, *shape, **options)

    def freeze(self, sample: dict[str, Any]) -> Pyramid:
        """The chosen pyramid, with new weights."""
        self.validate(sample)
        return Pyramid(sample, *self.shape, **self.options)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        raise RuntimeError("A search space has no forward pass: freeze it with choices, or give it to a strategy.")


# ---- AutoFEM-CPM


def tree_edges(nodes: int) -> list[tuple[int, int]]:
    """All (parent, node) pairs that a tree may have, in the order of the architecture parameters.

    >>> tree_edges(2)
    [(0, 1), (0, 2), (1, 2)]
    """
    return [(parent, node) for node in range(1, nodes + 1) for parent in range(node)]


def tree_parents(choices: Mapping[str, Any], name: str, nodes: int) -> list[int]:
    """Parents of nodes 1, 2, ...; node 1 can only have the input, 0."""
    return [0, *(choices[f"{name}/input_{node}"] for node in range(2, nodes + 1))]


def leaves(parents: Sequence[int]) -> list[int]:
    """The nodes that are nobody's parent.

    >>> leaves([0, 1, 1, 0])
    [2, 3, 4]
    """
    return [node for node in range(1, len(parents) + 1) if node not in parents]


def tree_count(nodes: int, operations: int) -> int:
    """How many trees a level has: n! choices of parents and one operation a node."""
    return math.factorial(nodes) * operations**nodes


class Tree(nn.Module):
    """One level's tree: ``(N, W, H, W') `` both ways. The output is a 1x1 convolution of the concatenated leaves.

    The paper does not say how the leaves, whose number varies, become W channels again.

    Args:
        name: prefix of the choices, such as ``cpm_5``.
        channels: W.
        nodes: how many nodes the choices describe.
        used: only the first so many nodes are built; they are a tree too, since parents come before their children.
        output: ``leaves``, or ``all`` for the concatenation of all nodes (Table 3's cat_all).
        affine: whether the batch norms learn a scale and a shift.
    """

    def __init__(
        self,
        choices: Mapping[str, Any],
        name: str,
        channels: int,
        nodes: int,
        used: int,
        output: str = "leaves",
        affine: bool = True,
    ) -> None:
        super().__init__()
        self.parents = tree_parents(choices, name, nodes)[:used]
        self.joined = joined_nodes(self.parents, output)
        self.operations = nn.ModuleList(
            OPERATIONS[choices[f"{name}/op_{node}"]](channels, 1, affine) for node in range(1, used + 1)
        )
        self.fuse = fusion(len(self.joined) * channels, channels, affine)

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for parent, operation in zip(self.parents, self.operations, strict=True):
            states.append(operation(states[parent]))
        return self.fuse(torch.cat([states[node] for node in self.joined], dim=1))


def joined_nodes(parents: Sequence[int], output: str) -> list[int]:
    """The nodes whose concatenation is the output."""
    return leaves(parents) if output == "leaves" else list(range(1, len(parents) + 1))


def fusion(channels_in: int, channels: int, affine: bool) -> nn.Sequential:
    """The convolution that makes W channels of the concatenated nodes, and its batch norm."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)
    )


class MutableTree(MutableModule):
    """A tree of a search space: every node has one earlier node as its parent and one of `CPM_OPERATIONS`.

    Args:
        name, channels, nodes, used, output, affine: see `Tree`.
    """

    candidates = CPM_OPERATIONS

    def __init__(
        self, name: str, channels: int, nodes: int, used: int, output: str = "leaves", affine: bool = True
    ) -> None:
        super().__init__()
        self.name, self.channels, self.nodes, self.used, self.output = name, channels, nodes, used, output
        self.options = (name, channels, nodes, used, output, affine)
        with label_scope(name):
            for node in range(1, nodes + 1):
                if node > 1:
                    self.add_mutable(Categorical(list(range(node)), label=f"input_{node}"))
                self.add_mutable(Categorical(list(CPM_OPERATIONS), label=f"op_{node}"))

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], *args: Any, **kwargs: Any) -> Tree:
        """What NNI builds in place of this tree inside ``model_context(sample)``."""
        return Tree(sample, *args, **kwargs)

    def freeze(self, sample: dict[str, Any]) -> Tree:
        """The chosen tree, with new weights."""
        self.validate(sample)
        return Tree(sample, *self.options)

    def check_whole(self) -> None:
        """Refuse to search a tree of which only a part is built: the rest of its choices would be chance.

        Raises:
            ConfigError: saying what to do.
        """
        if self.used < self.nodes:
            raise ConfigError(
                f"half_nodes builds {self.used} of the {self.nodes} nodes of a tree, so the others cannot be searched: "
                "search without it, and set it in train_options."
            )

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("A search space has no forward pass: freeze it with choices, or give it to a strategy.")


# ---- as graphs


def add_pyramid(graph: nx.MultiDiGraph, choices: Mapping[str, Any], levels: Sequence[int], chain: str) -> None:
    """Add a pyramid to a graph that is drawn: nodes ``fpn/x_5`` (kind input), ``fpn/t_5`` (top_down), ``fpn/b_5``
    (bottom_up) and ``fpn/p_5`` (output); edges with ``operation``, ``path`` and ``weight`` (None here)."""
    bottom, top = levels[0], levels[-1]

    def name(letter: str, level: int) -> str:
        # a chain starts with the map itself
        letter = "x" if (letter, level) in (("t", top), ("b", bottom)) else letter
        return f"{FPN}/{letter}_{level}"

    def join(source: str, target: str, path: str, operation: str | None = None) -> None:
        graph.add_edge(source, target, operation=operation, path=path, weight=None, stride=1)

    kinds = {"x": "input", "t": "top_down", "b": "bottom_up", "p": "output"}
    for letter, kind in kinds.items():
        for level in levels:
            if name(letter, level) == f"{FPN}/{letter}_{level}":
                label = f"{letter.upper()}_{level}"
                graph.add_node(name(letter, level), part=FPN, cell=FPN, level=level, kind=kind, label=label)
    for level in levels:
        x, p = name("x", level), name("p", level)
        join(x, p, "lateral", choices[f"{FPN}/lateral_{level}"])
        for letter, path, before in (("t", "top_down", level + 1), ("b", "bottom_up", level - 1)):
            if path in paths_of(levels, level):
                here = name(letter, level)
                join(name(letter, before), here, path, choices[f"{FPN}/{path}_{level}"])
                join(x, here, chain)
                join(here, p, path)


def add_tree(
    graph: nx.MultiDiGraph, choices: Mapping[str, Any], level: int, nodes: int, used: int, output: str
) -> None:
    """Add a level's tree to a graph that is drawn: nodes ``cpm_5/0`` (kind input), ``cpm_5/1`` ... (node, with
    ``leaf``), ``cpm_5/out`` (output)."""
    cell = f"cpm_{level}"
    parents = tree_parents(choices, cell, nodes)[:used]
    common = {"part": "cpm", "cell": cell, "level": level}
    graph.add_node(f"{cell}/0", kind="input", label="0", **common)
    for node in range(1, used + 1):
        graph.add_node(f"{cell}/{node}", kind="node", label=str(node), leaf=node in leaves(parents), **common)
    graph.add_node(f"{cell}/out", kind="output", label="out", **common)
    for node, parent in enumerate(parents, start=1):
        operation = choices[f"{cell}/op_{node}"]
        graph.add_edge(f"{cell}/{parent}", f"{cell}/{node}", operation=operation, path="tree", weight=None, stride=1)
    for node in joined_nodes(parents, output):
        graph.add_edge(f"{cell}/{node}", f"{cell}/out", operation=None, path="concat", weight=None, stride=1)


def path_weights(weights: Mapping[str, Mapping[Any, float]]) -> Iterator[tuple[str, str, float]]:
    """Edges (source, target, weight) of a drawn graph, from the weights of paths as strategies export them:
    ``fpn/beta_5`` by path, ``cpm_5/beta_3`` by parent."""
    for label, row in weights.items():
        cell, _, place = label.partition("/beta_")
        for key, weight in row.items():
            if cell == FPN:
                letter = {"lateral": "x", "top_down": "t", "bottom_up": "b"}[str(key)]
                yield f"{FPN}/{letter}_{place}", f"{FPN}/p_{place}", weight
            else:
                yield f"{cell}/{key}", f"{cell}/{place}", weight
