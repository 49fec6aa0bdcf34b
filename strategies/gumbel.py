"""Gumbel single path (ASFD, Zhang et al. 2020, Eq. 4 and 5): of the candidates of a choice only one, sampled, runs.

    i* = argmax_k (gamma_k + g_k),  g_k ~ Gumbel(0, 1)        forward: x = O_i*(x_i*)
    d x / d gamma_k = L * O_i*(x_i*) * d softmax(gamma)_i* / d gamma_k      L: number of candidates

Only the sampled candidate is computed, so only it gives the architecture a signal and only its weights are trained.
The paper prints ``exp(gamma + g / tau)``; the temperature does not change an arg-max, so there is none here.

What is sampled, by the option of that name:

- ``edges``: the node that an edge comes from, as in the paper; the operations of the edge that runs are mixed. A node
  of a tree has one parent. A node of a cell keeps two edges, so the two of the largest gamma + g run, each with the
  gradient above.
- ``operations``: of every edge one operation, as GDAS does (Dong and Yang, CVPR 2019, Eq. 5 and 6), whose gradient is
  that of the softmax with the noise at a temperature that falls while the search goes on; edges are weighted.
- ``both``: one edge, and on it one operation.

A choice of branches (PTA) or of sizes (AirFace, HaTFAS) has neither edges nor operations on them: one branch, or one
size of each choice, runs.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("gumbel"))

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.autofem import MutablePyramid, MutableTree, joined_nodes
from searchspaces.cells import EDGES_KEPT, INPUTS, MutableCell
from searchspaces.elastic import Kept, MutableElastic
from searchspaces.errors import ConfigError
from searchspaces.pta import MutableBlock, run_branches

from .autofem import MixedPyramid, MixedTree
from .bilevel import BilevelModule
from .branches import MODES, MixedBlock
from .darts import DARTS
from .elastic import MixedElastic
from .fused import Plan, Term, begin_cell
from .supernet import MixedCell, mixed_of

Sampled = Literal["auto", "edges", "operations", "both"]
TEMPERATURES = (10.0, 0.1)  # of sampled operations, from the first epoch to the last; GDAS, section 4.1
PARTIAL_CHANNELS = 4  # where operations are mixed; ASFD, section 4.1


def gumbel_noise(logits: Tensor) -> Tensor:
    """Independent draws of Gumbel(0, 1) in the shape of ``logits``, from torch's generator."""
    return -torch.log(torch.empty_like(logits).exponential_())


def gumbel_index(gamma: Tensor) -> int:
    """The sampled candidate: ``argmax (gamma + g)``, which is k with probability softmax(gamma)_k.

    Args:
        gamma: ``(L,)``.
    """
    return gumbel_indices(gamma, 1)[0]


def gumbel_indices(gamma: Tensor, number: int) -> list[int]:
    """``number`` different candidates, ascending: a sample without replacement with chances softmax(gamma) (Kool et
    al., ICML 2019, section 3)."""
    return sorted(torch.topk(gamma.detach() + gumbel_noise(gamma.detach()), min(number, len(gamma))).indices.tolist())


def straight_through_weight(gamma: Tensor, index: int) -> Tensor:
    """A factor that is 1 and has the gradient of Eq. 5: ``L * d softmax(gamma)_index / d gamma``, a scalar."""
    probability = F.softmax(gamma, dim=0)[index]
    return 1 + len(gamma) * (probability - probability.detach())


def nested_straight_through(alpha: Tensor, index: int) -> Tensor:
    """Weights of the sizes up to a sampled one: 0, ..., 0, 1 with the gradient of a mixture of all sizes, of which
    those beyond the sampled one are cut to it. Returns ``(index + 1,)``.

    The straight-through estimator of FBNetV2's channel masks (Wan et al., CVPR 2020, Eq. 4): what all sizes share has
    a weight of 1 whatever alpha is, and hence no gradient.

    Args:
        alpha: ``(sizes,)``, ascending.
    """
    soft = F.softmax(alpha, dim=0)
    soft = torch.cat([soft[:index], soft[index:].sum(0, keepdim=True)])
    hard = F.one_hot(torch.tensor(index), index + 1).to(alpha)
    return hard + soft - soft.detach()


def gdas_weight(alpha: Tensor, temperature: float) -> tuple[int, Tensor]:
    """The sampled operation, and a factor that is 1 and has the gradient of GDAS' Eq. 6, ``d softmax((alpha + g) /
    temperature)_index / d alpha``.

    Args:
        alpha: ``(operations,)``.
    """
    noisy = alpha + gumbel_noise(alpha.detach())
    index = int(noisy.detach().argmax())
    probability = F.softmax(noisy / temperature, dim=0)[index]
    return index, 1 + probability - probability.detach()


class SampledOperations:
    """What the sampled modules share: an edge with all of its operations mixed, or with a sampled one.

    Attributes:
        sampled: ``edges``, ``operations`` or ``both``.
        temperature: of sampled operations; set before every epoch.
    """

    sampled: str
    alpha: nn.Parameter
    temperature = TEMPERATURES[0]

    @property
    def samples_edges(self) -> bool:
        return self.sampled in ("edges", "both")

    def edge(self, module: Any, index: int, x: Tensor) -> Tensor:
        """The result of an edge whose row of alpha is ``index``."""
        if self.sampled == "edges":
            return module(x, F.softmax(self.alpha[index], dim=0))
        ((operation, factor),) = self.sampled_operations(index)
        return factor * module.one(x, operation)

    def sampled_operations(self, index: int) -> list[tuple[int, Tensor]]:
        """(operation, weight) of those that run on the edge whose row of alpha is ``index``."""
        if self.sampled == "edges":
            return list(enumerate(F.softmax(self.alpha[index], dim=0)))
        return [gdas_weight(self.alpha[index], self.temperature)]


class GumbelTree(SampledOperations, MixedTree):
    """A level's tree of which one sampled path runs: ``(N, W, H, W')`` both ways; the leaves of the sample are joined.

    Attributes:
        parents: of nodes 1, 2, ... in the last pass, where edges are sampled.
    """

    parents: list[int]

    def __init__(self, tree: MutableTree, memo: dict[str, Any], sampled: str, partial_channels: int) -> None:
        super().__init__(tree, memo, partial_channels)
        self.sampled = sampled

    def forward(self, x: Tensor) -> Tensor:
        states, parents, start = [x], [], 0
        for node in range(1, self.nodes + 1):
            gamma = self.gamma[start : start + node]
            if self.samples_edges:
                parent = gumbel_index(gamma)
                parents.append(parent)
                kept = [(parent, straight_through_weight(gamma, parent))]
            else:
                kept = list(enumerate(F.softmax(gamma, dim=0)))
            states.append(weighted_sum(self, kept, start, states))
            start += node
        self.parents = parents
        joined = joined_nodes(parents, self.output) if parents else range(1, self.nodes + 1)
        return self.fuse(states, joined)


class GumbelCell(SampledOperations, MixedCell):
    """A cell of which two sampled edges a node run, or one sampled operation an edge: shapes as `MixedCell`."""

    def __init__(self, cell: MutableCell, memo: dict[str, Any], sampled: str, partial_channels: int) -> None:
        super().__init__(cell, memo, partial_channels, edge_normalisation=True)
        self.sampled = sampled

    def fused(self, before: Tensor, previous: Tensor) -> Tensor:
        """`plain`, cheaper (see `fused`); draws the same numbers in the same order."""
        kept, terms, weights = [], [], []
        for source, target, share in self.sampled_edges():
            index = self.pairs.index((source, target))
            edge = self.mixed_edges[index]
            chosen = self.sampled_operations(index)
            # a sampled operation's factor is one of the whole edge, its passing channels among it
            kept.append((source, target, edge, share if self.sampled == "edges" else share * chosen[0][1]))
            for operation, weight in chosen:
                if self.candidates[operation] != "none":
                    terms.append(Term(source, target, edge, mixed_of(edge).operation(operation)))
                    weights.append(weight * share)
        run = begin_cell(self.frame, before, previous)
        shares = torch.stack([share for *_, share in kept])
        run.run(Plan(terms), torch.stack(weights) if weights else shares[:0], [edge[:3] for edge in kept], shares)
        run.statistics.update()
        return torch.cat(run.states[INPUTS:], dim=1)

    def sampled_edges(self) -> Iterator[tuple[int, int, Tensor]]:
        """(source, target, weight) of the edges that run, by target."""
        assert self.beta is not None
        start = 0
        for target in range(INPUTS, INPUTS + self.nodes):
            beta = self.beta[start : start + target]
            for source, share in self.kept_edges(beta):
                yield source, target, share
            start += target

    def kept_edges(self, beta: Tensor) -> list[tuple[int, Tensor]]:
        """(source, weight) of the edges into a node that run, of its ``beta (sources,)``."""
        if self.samples_edges:
            return [(source, straight_through_weight(beta, source)) for source in gumbel_indices(beta, EDGES_KEPT)]
        return list(enumerate(F.softmax(beta, dim=0)))

    def plain(self, before: Tensor, previous: Tensor) -> Tensor:
        assert self.beta is not None
        states: list[Tensor] = [self.frame.preprocess_before(before), self.frame.preprocess_previous(previous)]
        start = 0
        while start < len(self.pairs):
            candidates = len(states)  # every earlier node
            kept = self.kept_edges(self.beta[start : start + candidates])
            states.append(weighted_sum(self, kept, start, states))
            start += candidates
        return torch.cat(states[2:], dim=1)


class GumbelPyramid(SampledOperations, MixedPyramid):
    """A pyramid of which every edge runs one sampled operation; its edges are given. Shapes as `MixedPyramid`."""

    sampled = "operations"

    def __init__(self, pyramid: MutablePyramid, memo: dict[str, Any]) -> None:
        super().__init__(pyramid, memo)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        place = {edge: index for index, edge in enumerate(self.edges)}
        return self.frame.run(maps, lambda edge, x: self.edge(self.mixed_edges[edge], place[edge], x))


def weighted_sum(module: Any, kept: Sequence[tuple[int, Tensor]], start: int, states: Sequence[Tensor]) -> Tensor:
    """The sum of the edges (source, weight) into one node, whose rows of alpha begin at ``start``."""
    terms = [w * module.edge(module.mixed_edges[start + source], start + source, states[source]) for source, w in kept]
    return sum(terms[1:], start=terms[0])


class GumbelBlock(MixedBlock):
    """A PTA block of which one sampled mode runs. The mode "both" is a candidate as the two branches are."""

    mode: str

    def forward(self, x: Tensor) -> Tensor:
        index = gumbel_index(self.alpha)
        self.mode = MODES[index]
        return straight_through_weight(self.alpha, index) * run_branches(self, x)


class GumbelElastic(MixedElastic):
    """A network of sizes of which one sampled candidate of every choice runs: nothing beyond it is computed.

    A sampled size holds the smaller ones, so its pass tells which of its parts the loss wants: see
    `nested_straight_through`. A factor of the whole, as Eq. 5 has it, would be lost in the batch norm after it; for the
    same reason candidates that are no sizes (gates, the layers of a stem; a small part of the network) are all run,
    and the sampled one is what comes out.
    """

    def kept(self, label: str) -> Kept:
        values = self.candidates[label]
        if label not in self.alphas:
            return super().kept(label)
        alpha = self.alphas[label]
        index = gumbel_index(alpha)
        if isinstance(values[0], str):
            hard = F.one_hot(torch.tensor(index), len(values)).to(alpha)
            soft = F.softmax(alpha, dim=0)
            return list(zip(values, (hard + soft - soft.detach()).unbind(), strict=True))
        weights = nested_straight_through(alpha, index)
        return list(zip(values[: index + 1], weights.unbind(), strict=True))


class GumbelSinglePath(DARTS):
    """Differentiable search in which one sampled candidate of every choice runs.

    Args:
        sampled: see the module; ``auto`` samples edges where the space chooses them, else operations.
        partial_channels: K, 1/K of the channels pass through operations that are mixed; by default 4 where they are,
            and all channels where one operation is sampled.
        options: those of `DARTS`; the order is the first.
    """

    def __init__(self, *, sampled: Sampled = "auto", partial_channels: int | None = None, **options: Any) -> None:
        if options.get("order", "first") != "first":
            raise ConfigError("The Gumbel single path has the first order only: a sampled step is not unrolled.")
        if sampled not in ("auto", "edges", "operations", "both"):
            raise ConfigError(f"sampled is {sampled!r}; expected auto, edges, operations or both.")
        super().__init__(**options)
        self.wanted, self.partial_channels = sampled, partial_channels
        self.sampled = ""  # what the space's modules sample, once it has been mutated

    def default_mutation_hooks(self) -> list[Any]:
        """Our modules first; NNI's hooks stay for layer choices and input choices."""

        def sampled_module(module: nn.Module, name: str, memo: dict[str, Any], kwargs: dict[str, Any]) -> Any:
            if isinstance(module, MutableTree | MutableCell):
                kind = "edges" if self.wanted == "auto" else self.wanted
                parts = self.partial_channels or (PARTIAL_CHANNELS if kind == "edges" else 1)
                self._note(kind)
                if isinstance(module, MutableTree):
                    return GumbelTree(module, memo, kind, parts)
                return GumbelCell(module, memo, kind, parts)
            if isinstance(module, MutablePyramid):
                self._check_pyramid()
                return GumbelPyramid(module, memo)
            if isinstance(module, MutableElastic):
                self._note("sizes")
                return GumbelElastic(module)
            if isinstance(module, MutableBlock):
                self._note("branches")
            return GumbelBlock.mutate(module, name, memo, kwargs)

        return [sampled_module, *super().default_mutation_hooks()]

    def _check_pyramid(self) -> None:
        if self.wanted in ("edges", "both"):
            raise ConfigError(
                f"sampled is {self.wanted!r}, but the edges of a pyramid are given: only its operations can be "
                "sampled. Use sampled=operations, or strategies.pc_darts."
            )
        self._note("operations")

    def _note(self, kind: str) -> None:
        if kind not in self.sampled.split(" and "):
            self.sampled = f"{self.sampled} and {kind}" if self.sampled else kind

    def configure_oneshot_module(self, training_module: Any) -> BilevelModule:
        return GumbelModule(training_module, **self.module_options)


class GumbelModule(BilevelModule):
    """The search step of `BilevelModule`; the temperature of sampled operations depends on the epoch alone."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.set_temperature()

    def set_temperature(self) -> None:
        """The present epoch's, of all modules: it falls linearly from the first epoch to the last."""
        first, last = TEMPERATURES
        part = self.trainer.current_epoch / max(1, (self.trainer.max_epochs or 1) - 1)
        for module in self.supernet_modules():
            if isinstance(module, SampledOperations):
                module.temperature = first + (last - first) * min(part, 1.0)
