"""The modules of AutoFEM in a differentiable search.

A pyramid's edges are given, so every edge is a mixed operation, and the weights of the paths that meet at a level are
PC-DARTS' edge normalisation (ASFD, section 3.2). A tree's nodes may have any earlier node as their parent:

    x_j = sum_{i<j} softmax(gamma_:j)_i O_ij(x_i)                        (Eq. 3, PC-DARTS Eq. 4)

with O_ij the mixed operation of the edge; what is kept of it is the parent of the largest gamma with the operation of
the largest alpha on that edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.autofem import (
    FPN,
    MutablePyramid,
    MutableTree,
    PyramidShape,
    paths_of,
    pyramid_edges,
    tree_edges,
)

from .stand_in import StandIn
from .supernet import build_edge, edge_softmax, shared_parameter


class MixedPyramid(StandIn):
    """A pyramid with all operations of every edge: maps ``(N, W, H_i, W_i)`` in, as many out.

    Attributes:
        alpha: ``(edges, operations)``, shared by all pyramids.
        edge_normalisation: whether the weights of the paths are architecture parameters, shared by all pyramids, and
            not ordinary weights.
    """

    def __init__(
        self, pyramid: MutablePyramid, memo: dict[str, Any], partial_channels: int = 1, edge_normalisation: bool = False
    ) -> None:
        super().__init__(pyramid)
        self.name, self.candidates = pyramid.name, pyramid.candidates
        self.frame = PyramidShape(*pyramid.shape, **{**pyramid.options, "affine": False})
        self.edges = pyramid_edges(self.frame.levels)
        self.mixed_edges = nn.ModuleDict(
            {edge: build_edge(self.candidates, self.frame.channels, 1, partial_channels) for edge in self.edges}
        )
        self.alpha = shared_parameter(memo, f"alpha/{FPN}", (len(self.edges), len(self.candidates)))
        self.edge_normalisation = edge_normalisation
        if edge_normalisation:
            for level, beta in self.frame.betas.items():
                self.frame.betas[level] = shared_parameter(memo, f"beta/{FPN}_{level}", tuple(beta.shape))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        probabilities = dict(zip(self.edges, self.probabilities(), strict=True))
        return self.frame.run(maps, lambda edge, x: self.mixed_edges[edge](x, probabilities[edge]))

    def probabilities(self) -> Tensor:
        """Weights of the operations, ``(edges, operations)``: softmax of alpha."""
        return F.softmax(self.alpha, dim=-1)

    def named_arch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The architecture parameters by name: ``alpha/fpn``, ``beta/fpn_5``."""
        yield f"alpha/{FPN}", self.alpha
        if self.edge_normalisation:
            for level, beta in self.frame.betas.items():
                yield f"beta/{FPN}_{level}", beta

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, as NNI's modules list them."""
        return [parameter for _, parameter in self.named_arch_parameters()]

    # ---- the protocol of NNI's supernet modules

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Of every edge the operation with the largest weight; ties go to the earlier one."""
        best = self.alpha.detach().argmax(dim=1).tolist()
        return {f"{FPN}/{edge}": self.candidates[index] for edge, index in zip(self.edges, best, strict=True)}

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Per edge the weight of each operation, ``fpn/top_down_5``; per level those of its paths, ``fpn/beta_5``."""
        rows = self.probabilities().tolist()
        result: dict[str, Any] = {
            f"{FPN}/{edge}": dict(zip(self.candidates, row, strict=True))
            for edge, row in zip(self.edges, rows, strict=True)
        }
        for level in self.frame.levels:
            shares = self.frame.shares(level).tolist()
            result[f"{FPN}/beta_{level}"] = dict(zip(paths_of(self.frame.levels, level), shares, strict=True))
        return result

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]
    ) -> BaseSuperNetModule | None:
        """NNI's hook: turns a MutablePyramid into this one, leaves other modules to the next hook."""
        return cls(module, memo, **mutate_kwargs) if isinstance(module, MutablePyramid) else None


class NodeFusion(nn.Module):
    """`searchspaces.autofem.fusion` of all nodes of a tree, of which some are joined: ``(N, W, H, W')``.

    A 1x1 convolution of a concatenation is the sum of one convolution a node, so the nodes that are not joined cost
    nothing.
    """

    def __init__(self, nodes: int, channels: int, affine: bool) -> None:
        super().__init__()
        parts = [nn.Conv2d(channels, channels, 1, bias=False) for _ in range(nodes)]
        for part in parts:  # as the one convolution of all nodes is
            nn.init.uniform_(part.weight, -((nodes * channels) ** -0.5), (nodes * channels) ** -0.5)
        self.parts = nn.ModuleList(parts)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, states: Sequence[Tensor], nodes: Sequence[int]) -> Tensor:
        """Join these nodes; ``states`` are of nodes 0, 1, ..., each ``(N, W, H, W')``."""
        terms = [self.parts[node - 1](F.relu(states[node])) for node in nodes]
        return self.norm(sum(terms[1:], start=terms[0]))

    def of_nodes(self, nodes: Sequence[int]) -> dict[str, Tensor]:
        """The state dict of a `fusion` of these nodes with the weights that they have here."""
        weight = torch.cat([self.parts.get_parameter(f"{node - 1}.weight").detach() for node in nodes], dim=1)
        return {"1.weight": weight, **{f"2.{name}": value for name, value in self.norm.state_dict().items()}}


class MixedTree(StandIn):
    """All trees of a level at once, a directed acyclic graph: ``(N, W, H, W')`` both ways.

    Every node feeds later ones, so the output joins all nodes, as in PC-DARTS.

    Attributes:
        alpha: ``(edges, operations)``; gamma: ``(edges,)``, of which those into one node compete. A tree cannot be
            found without gamma, so it is learned with edge normalisation or without.
    """

    def __init__(self, tree: MutableTree, memo: dict[str, Any], partial_channels: int = 1) -> None:
        tree.check_whole()
        super().__init__(tree)
        self.name, self.candidates, self.nodes, self.output = tree.name, tree.candidates, tree.nodes, tree.output
        self.pairs, self.targets = tree_edges(tree.nodes), [node for _, node in tree_edges(tree.nodes)]
        self.mixed_edges = nn.ModuleList(
            build_edge(self.candidates, tree.channels, 1, partial_channels) for _ in self.pairs
        )
        self.fuse = NodeFusion(tree.nodes, tree.channels, affine=False)
        self.alpha = shared_parameter(memo, f"alpha/{self.name}", (len(self.pairs), len(self.candidates)))
        self.gamma = shared_parameter(memo, f"gamma/{self.name}", (len(self.pairs),))

    def forward(self, x: Tensor) -> Tensor:
        probabilities, weights = self.probabilities(), self.edge_weights()
        states, terms = [x], []
        for index, (parent, node) in enumerate(self.pairs):
            terms.append(weights[index] * self.mixed_edges[index](states[parent], probabilities[index]))
            if len(terms) == node:  # all candidates of a node follow each other
                states.append(sum(terms[1:], start=terms[0]))
                terms = []
        return self.fuse(states, range(1, self.nodes + 1))

    def probabilities(self) -> Tensor:
        """Weights of the operations, ``(edges, operations)``: softmax of alpha."""
        return F.softmax(self.alpha, dim=-1)

    def edge_weights(self) -> Tensor:
        """Weights of the edges, ``(edges,)``: softmax of gamma over the parents that a node may have (Eq. 3)."""
        return edge_softmax(self.gamma, self.targets)

    def named_arch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The architecture parameters by name: ``alpha/cpm_5``, ``gamma/cpm_5``."""
        yield f"alpha/{self.name}", self.alpha
        yield f"gamma/{self.name}", self.gamma

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, as NNI's modules list them."""
        return [parameter for _, parameter in self.named_arch_parameters()]

    # ---- the protocol of NNI's supernet modules

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Each node's parent with the largest gamma, and the operation with the largest alpha on that edge; ties go to
        the earlier one."""
        gamma, best = self.gamma.detach().tolist(), self.alpha.detach().argmax(dim=1).tolist()
        choices: dict[str, Any] = {}
        for node in range(1, self.nodes + 1):
            kept = max((i for i, target in enumerate(self.targets) if target == node), key=lambda i: gamma[i])
            if node > 1:
                choices[f"{self.name}/input_{node}"] = self.pairs[kept][0]
            choices[f"{self.name}/op_{node}"] = self.candidates[best[kept]]
        return choices

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Per edge the weight of each operation, ``cpm_5/0_2``; per node those of its parents, ``cpm_5/beta_2``."""
        result: dict[str, Any] = {
            f"{self.name}/{parent}_{node}": dict(zip(self.candidates, row, strict=True))
            for (parent, node), row in zip(self.pairs, self.probabilities().tolist(), strict=True)
        }
        for (parent, node), weight in zip(self.pairs, self.edge_weights().tolist(), strict=True):
            result.setdefault(f"{self.name}/beta_{node}", {})[parent] = weight
        return result

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]
    ) -> BaseSuperNetModule | None:
        """NNI's hook: turns a MutableTree into this one, leaves other modules to the next hook."""
        if not isinstance(module, MutableTree):
            return None
        return cls(module, memo, **{k: v for k, v in mutate_kwargs.items() if k != "edge_normalisation"})
