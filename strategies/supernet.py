"""Mixed cells: how a model space becomes trainable, and back.

A strategy replaces every `searchspaces.cells.MutableCell` by a `MixedCell`, in which every edge computes a weighted
sum of all candidate operations (Eq. 2 of the Auto-FAS paper, Eq. 2 of DARTS). Cells of one name share their
architecture parameters: ``alpha`` of shape ``(edges, operations)`` and, with edge normalisation, ``beta`` of shape
``(edges,)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.cells import EDGES_KEPT, INPUTS, CellShape, MutableCell, edges
from searchspaces.errors import ConfigError
from searchspaces.operations import OPERATIONS, Zero

from .fused import Plan, Term, begin_cell, is_fused
from .pixels import channel_shuffle
from .stand_in import StandIn

INITIAL_SCALE = 1e-3  # standard deviation of fresh architecture parameters, as in DARTS


def edge_softmax(beta: Tensor, targets: Sequence[int]) -> Tensor:
    """PC-DARTS Eq. 4: softmax of ``beta (edges,)`` over the edges that enter the same node. Returns ``(edges,)``."""
    weights = torch.empty_like(beta)
    for target in sorted(set(targets)):
        members = [index for index, other in enumerate(targets) if other == target]
        weights[members] = F.softmax(beta[members], dim=0)
    return weights


def derive_cell(
    name: str, probabilities: Tensor, edge_weights: Tensor, operations: Sequence[str], nodes: int
) -> dict[str, Any]:
    """The discrete cell: for each node the two incoming edges with the largest weight that is not of ``none``.

    Auto-FAS section 2.1.2; with edge normalisation the weight is multiplied by the edge's (PC-DARTS section 3.3).
    Ties go to the earlier edge and operation.

    Args:
        probabilities: ``(edges, operations)``, rows sum to 1.
        edge_weights: ``(edges,)``, all ones without edge normalisation.

    Returns:
        The choices of the cell called ``name``, as NNI samples write them.
    """
    allowed = [index for index, operation in enumerate(operations) if operation != "none"]
    values = probabilities.detach().cpu()[:, allowed].double()
    best = values.argmax(dim=1).tolist()
    strengths = (values.max(dim=1).values * edge_weights.detach().cpu().double()).tolist()
    choices: dict[str, Any] = {}
    pairs = edges(nodes)
    for target in range(INPUTS, INPUTS + nodes):
        incoming = [index for index, (_, to) in enumerate(pairs) if to == target]
        kept = sorted(sorted(incoming, key=lambda index: -strengths[index])[:EDGES_KEPT])
        choices[f"{name}/input_{target}"] = [pairs[index][0] for index in kept]
        for slot, index in enumerate(kept):
            choices[f"{name}/op_{target}_{slot}"] = operations[allowed[best[index]]]
    return choices


class MixedEdge(nn.Module):
    """All candidate operations of an edge: ``x (N, C, H, W), weights (operations,) -> (N, C, H', W')``.

    ``none`` contributes exactly zero, so it is not computed; its weight still acts through the softmax. As in DARTS,
    pools are followed by a batch norm and no batch norm learns a scale, which could undo the weights.
    """

    def __init__(self, operations: Sequence[str], channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.computed = [index for index, operation in enumerate(operations) if operation != "none"]
        self.operations = nn.ModuleList(self.build(operations[index], channels, stride) for index in self.computed)

    @staticmethod
    def build(operation: str, channels: int, stride: int) -> nn.Module:
        """A candidate as it is in a supernet."""
        module = OPERATIONS[operation](channels, stride, affine=False)
        return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False)) if "pool" in operation else module

    def one(self, x: Tensor, index: int) -> Tensor:
        """The result of a single candidate; nothing else is computed."""
        return self.operation(index)(x) if index in self.computed else Zero(self.stride)(x)

    def operation(self, index: int) -> nn.Module:
        """The module of a candidate that is computed."""
        return self.operations[self.computed.index(index)]

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        first, *rest = zip(self.computed, self.operations, strict=True)
        total = weights[first[0]] * first[1](x)
        for index, operation in rest:
            total = total + weights[index] * operation(x)
        return total


class PartialEdge(nn.Module):
    """PC-DARTS Eq. 3: the operations see 1/K of the channels, the others pass by; then the channels are shuffled.

    At stride 2 the passing channels are max-pooled, rounding odd sizes up as the operations do.
    """

    def __init__(self, operations: Sequence[str], channels: int, stride: int, partial_channels: int) -> None:
        super().__init__()
        if channels % partial_channels or channels // partial_channels < 2:
            raise ConfigError(
                f"partial_channels is {partial_channels}: the {channels} channels of a cell cannot be split "
                f"into {partial_channels} equal parts of at least 2."
            )
        self.parts, self.stride, self.sampled = partial_channels, stride, channels // partial_channels
        self.mixed = MixedEdge(operations, self.sampled, stride)

    def one(self, x: Tensor, index: int) -> Tensor:
        """The result with a single candidate on the sampled channels."""
        return self._beside(x, self.mixed.one(x[:, : self.sampled], index))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return self._beside(x, self.mixed(x[:, : self.sampled], weights))

    def _beside(self, x: Tensor, changed: Tensor) -> Tensor:
        """The channels that operations have seen and those that pass by, shuffled."""
        rest = x[:, self.sampled :]
        if self.stride == 2:
            rest = F.max_pool2d(rest, 2, 2, ceil_mode=True)
        return channel_shuffle(torch.cat([changed, rest], dim=1), self.parts)


def mixed_of(edge: Any) -> MixedEdge:
    """The operations of an edge, a `MixedEdge` or a `PartialEdge`."""
    return edge.mixed if isinstance(edge, PartialEdge) else edge


def build_edge(operations: Sequence[str], channels: int, stride: int, partial_channels: int) -> nn.Module:
    """An edge whose operations see all channels, or 1/K of them: ``x, weights (operations,) -> (N, C, H', W')``."""
    if partial_channels > 1:
        return PartialEdge(operations, channels, stride, partial_channels)
    return MixedEdge(operations, channels, stride)


def shared_parameter(memo: dict[str, Any], key: str, shape: tuple[int, ...]) -> nn.Parameter:
    """A fresh architecture parameter, or the one that another module has made under the same name."""
    if key not in memo:
        memo[key] = nn.Parameter(INITIAL_SCALE * torch.randn(shape))
    return memo[key]


class MixedCell(StandIn):
    """A cell with all its edges and operations: ``(N, C0, H, W), (N, C1, H, W) -> (N, nodes * C, H', W')``.

    Attributes:
        alpha: ``(edges, operations)``, shared by all cells of the same name.
        beta: ``(edges,)`` with edge normalisation, else None.
    """

    def __init__(
        self, cell: MutableCell, memo: dict[str, Any], partial_channels: int = 1, edge_normalisation: bool = False
    ) -> None:
        super().__init__(cell)
        self.name, self.candidates = cell.name, cell.candidates
        self.frame = CellShape(cell.name, *cell.widths, **{**cell.shape, "affine": False})
        self.nodes, self.pairs = self.frame.nodes, edges(self.frame.nodes)
        self.mixed_edges = nn.ModuleList(
            build_edge(self.candidates, self.frame.channels, self.frame.stride(source), partial_channels)
            for source, _ in self.pairs
        )
        shape = (len(self.pairs), len(self.candidates))
        self.alpha = shared_parameter(memo, f"alpha/{self.name}", shape)
        self.beta = shared_parameter(memo, f"beta/{self.name}", shape[:1]) if edge_normalisation else None

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        run = self.fused if is_fused(self, previous) else self.plain
        return run(before, previous)

    def fused(self, before: Tensor, previous: Tensor) -> Tensor:
        """`plain`, cheaper (see `fused`)."""
        probabilities, edge_weights = self.probabilities(), self.edge_weights()
        weights = probabilities if self.beta is None else probabilities * edge_weights[:, None]
        computed = [index for index, operation in enumerate(self.candidates) if operation != "none"]
        run = begin_cell(self.frame, before, previous)
        run.run(self._plan, weights[:, computed].flatten(), self._edges, edge_weights)
        run.statistics.update()
        return torch.cat(run.states[INPUTS:], dim=1)

    @cached_property
    def _edges(self) -> list[tuple[int, int, Any]]:
        return [(*pair, edge) for pair, edge in zip(self.pairs, self.mixed_edges, strict=True)]

    @cached_property
    def _plan(self) -> Plan:
        return Plan([Term(*edge, each) for edge in self._edges for each in mixed_of(edge[2]).operations])

    def plain(self, before: Tensor, previous: Tensor) -> Tensor:
        """The formula as it is written, a layer after the other."""
        probabilities, edge_weights = self.probabilities(), self.edge_weights()
        states: list[Tensor] = [self.frame.preprocess_before(before), self.frame.preprocess_previous(previous)]
        sums: dict[int, Tensor] = {}
        for index, (source, target) in enumerate(self.pairs):
            if len(states) == source:  # the edges are sorted by target, so this node's sum is complete
                states.append(sums[source])
            value = self.mixed_edges[index](states[source], probabilities[index])
            if self.beta is not None:
                value = edge_weights[index] * value
            sums[target] = sums[target] + value if target in sums else value
        return torch.cat([sums[target] for target in sorted(sums)], dim=1)

    def probabilities(self) -> Tensor:
        """Weights of the operations, ``(edges, operations)``: softmax of alpha (Auto-FAS Eq. 2)."""
        return F.softmax(self.alpha, dim=-1)

    def edge_weights(self) -> Tensor:
        """Weights of the edges, ``(edges,)``: all ones without edge normalisation."""
        if self.beta is None:
            return self.alpha.new_ones(len(self.pairs))
        return edge_softmax(self.beta, [target for _, target in self.pairs])

    def named_arch_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The architecture parameters by name: ``alpha/normal``, ``beta/normal``."""
        yield f"alpha/{self.name}", self.alpha
        if self.beta is not None:
            yield f"beta/{self.name}", self.beta

    def arch_parameters(self) -> list[nn.Parameter]:
        """The architecture parameters, as NNI's modules list them."""
        return [parameter for _, parameter in self.named_arch_parameters()]

    # ---- the protocol of NNI's supernet modules

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        """The derived cell (see `derive_cell`)."""
        return derive_cell(self.name, self.probabilities(), self.edge_weights(), self.candidates, self.nodes)

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Per edge the weight of each operation, ``normal/0_2``; per node those of its edges, ``normal/beta_3``."""
        rows = self.probabilities().tolist()
        result: dict[str, Any] = {
            f"{self.name}/{source}_{target}": dict(zip(self.candidates, row, strict=True))
            for (source, target), row in zip(self.pairs, rows, strict=True)
        }
        if self.beta is not None:
            for (source, target), weight in zip(self.pairs, self.edge_weights().tolist(), strict=True):
                result.setdefault(f"{self.name}/beta_{target}", {})[source] = weight
        return result

    @classmethod
    def mutate(
        cls, module: nn.Module, name: str, memo: dict[str, Any], mutate_kwargs: Mapping[str, Any]
    ) -> BaseSuperNetModule | None:
        """NNI's hook: turns a MutableCell into a mixed one, leaves other modules to the next hook."""
        if not isinstance(module, MutableCell):
            return None
        options = {
            key: mutate_kwargs[key] for key in ("partial_channels", "edge_normalisation") if key in mutate_kwargs
        }
        return cls(module, memo, **options)
