"""Pyramids and trees that hold the weights of every operation on every edge, of which the sampled ones run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from searchspaces.autofem import (
    FPN,
    MutablePyramid,
    MutableTree,
    Pyramid,
    PyramidShape,
    Tree,
    joined_nodes,
    pyramid_edges,
    tree_edges,
    tree_parents,
)
from searchspaces.operations import OPERATIONS

from .autofem import NodeFusion
from .stand_in import SampledStandIn


class SampledPyramid(SampledStandIn):
    """Maps ``(N, W, H_i, W_i)`` in, as many out; every edge runs its sampled operation."""

    def __init__(self, pyramid: MutablePyramid) -> None:
        super().__init__(pyramid)
        self.frame = PyramidShape(*pyramid.shape, **pyramid.options)
        self.weights = nn.ModuleDict(
            {
                f"{edge}_{operation}": OPERATIONS[operation](self.frame.channels, 1, True)
                for edge in pyramid_edges(self.frame.levels)
                for operation in pyramid.candidates
            }
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        path = self.path
        return self.frame.run(maps, lambda edge, x: self.weights[f"{edge}_{path[f'{FPN}/{edge}']}"](x))

    def freeze(self, sample: dict[str, Any]) -> Pyramid:
        """The chosen pyramid with the weights that it has here."""
        pyramid = self._declared[0].freeze(sample)
        pyramid.load_state_dict(self.frame.state_dict(), strict=False)
        for edge, operation in pyramid.operations.items():
            operation.load_state_dict(self.weights[f"{edge}_{sample[f'{FPN}/{edge}']}"].state_dict())
        return pyramid


class SampledTree(SampledStandIn):
    """One level's tree, ``(N, W, H, W')`` both ways; every node runs its sampled operation on its sampled parent."""

    def __init__(self, tree: MutableTree) -> None:
        tree.check_whole()
        super().__init__(tree)
        self.name, self.nodes, self.output = tree.name, tree.nodes, tree.output
        self.weights = nn.ModuleDict(
            {
                f"{parent}_{node}_{operation}": OPERATIONS[operation](tree.channels, 1, True)
                for parent, node in tree_edges(tree.nodes)
                for operation in tree.candidates
            }
        )
        self.fuse = NodeFusion(tree.nodes, tree.channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        parents, states = tree_parents(self.path, self.name, self.nodes), [x]
        for node, parent in enumerate(parents, start=1):
            operation = self.weights[f"{parent}_{node}_{self.path[f'{self.name}/op_{node}']}"]
            states.append(operation(states[parent]))
        return self.fuse(states, joined_nodes(parents, self.output))

    def freeze(self, sample: dict[str, Any]) -> Tree:
        """The chosen tree with the weights that it has here."""
        tree = self._declared[0].freeze(sample)
        for node, (parent, operation) in enumerate(zip(tree.parents, tree.operations, strict=True), start=1):
            own = self.weights[f"{parent}_{node}_{sample[f'{self.name}/op_{node}']}"]
            operation.load_state_dict(own.state_dict())
        tree.fuse.load_state_dict(self.fuse.of_nodes(tree.joined))
        return tree
