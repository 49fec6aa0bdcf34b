"""A cell's forward pass by `kernels`: the same function of the same weights as the plain one, several times cheaper.

What operations of several edges have in common is computed once: all that leave a node share its ReLU, its pools with
their batch norms and the pixels that a factorised reduction takes, and those of a kind are one group; all that enter a
node are one sum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.sharing import processes
from searchspaces.cells import CellShape
from searchspaces.operations import FactorizedReduce, ReLUConvNorm, SeparableConv

from . import kernels
from .kernels import channels_last

GROUP_BYTES = 2**21  # of a group's map, in the cache beside a few others; larger ones gain nothing from being together


class Arithmetic:
    """Which arithmetic supernets use now."""

    plain = False


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Inside the block supernets run their layers one by one: the reference, and what can be differentiated twice."""
    before, Arithmetic.plain = Arithmetic.plain, True
    try:
        yield
    finally:
        Arithmetic.plain = before


def is_fused(module: nn.Module, x: Tensor) -> bool:
    """Whether a supernet's module computes an input with `kernels`.

    On CPUs, where that was measured; in training, since it is about batch statistics; not in mixed precision, nor where
    processes share a batch, as both change what the layers do.
    """
    return (
        module.training
        and x.device.type == "cpu"
        and not Arithmetic.plain
        and processes() == 1
        and not torch.is_autocast_enabled("cpu")
    )


class Statistics:
    """The batch norms that a pass has used, with what they have seen, to update their running statistics together."""

    def __init__(self) -> None:
        self.norms: list[nn.BatchNorm2d] = []
        self.means: list[Tensor] = []
        self.variances: list[Tensor] = []
        self.counts: list[int] = []

    def add(self, norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, count: int) -> None:
        """Note means and biased variances ``(norms * C,)`` of ``count`` numbers a channel."""
        self.norms += norms
        self.means += mean.chunk(len(norms))
        self.variances += variance.chunk(len(norms))
        self.counts += [count] * len(norms)

    @torch.no_grad()
    def update(self) -> None:
        """As `nn.BatchNorm2d` does after a batch."""
        if not self.norms:
            return
        unbiased = torch._foreach_mul(self.variances, [count / (count - 1) for count in self.counts])
        momentum = self.norms[0].momentum
        torch._foreach_add_([norm.num_batches_tracked for norm in self.norms], 1)
        torch._foreach_lerp_([norm.running_mean for norm in self.norms], self.means, momentum)
        torch._foreach_lerp_([norm.running_var for norm in self.norms], unbiased, momentum)


class Term(NamedTuple):
    """An operation of an edge that runs: from the state ``source`` to the node ``target``."""

    source: int
    target: int
    edge: Any  # a MixedEdge or PartialEdge
    operation: nn.Module


class Result(NamedTuple):
    """What a term adds to its node: a map, times a factor ``(C,)`` if it is of `kernels.Last`, else its weight."""

    map: Tensor
    factor: Tensor | None
    weight: Tensor


class Source:
    """A state ``(N, C, H, W)`` that edges leave with one stride, and what their operations share.

    Args:
        parts: K, of which operations see the first part of the channels.
    """

    def __init__(self, x: Tensor, stride: int, parts: int, statistics: Statistics) -> None:
        self.whole, self.stride, self.parts, self.statistics = x, stride, parts, statistics
        self.x = x if parts == 1 else channels_last(x[:, : x.shape[1] // parts])

    @cached_property
    def relu(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def rest(self) -> Tensor:
        """The channels that pass by the operations (see `supernet.PartialEdge`)."""
        rest = self.whole[:, self.whole.shape[1] // self.parts :]
        return channels_last(F.max_pool2d(rest, 2, 2, ceil_mode=True) if self.stride == 2 else rest)

    @cached_property
    def reduced(self) -> Tensor:
        """What both convolutions of a `FactorizedReduce` see, ``(N, 2 C, H / 2, W / 2)``."""
        return kernels.Quarters.apply(self.relu)

    @property
    def most_together(self) -> int:
        """How many operations are worth taking as one group."""
        return max(1, GROUP_BYTES // (self.x.numel() * self.x.element_size() // self.stride**2))


# ---- operations of one kind that leave one state


def separable(operations: Sequence[SeparableConv], source: Source, weights: Tensor) -> list[Result]:
    """See `kernels`: ReLU and depthwise, what is in the middle, what is last."""
    layers = [list(operation) for operation in operations]
    first = layers[0][1]
    window = first.stride, first.padding, first.dilation
    x = kernels.Depthwise.apply(source.relu, window, *[each[1].weight for each in layers])
    matrices, kernels_ = [flat(each[2].weight) for each in layers], [each[5].weight for each in layers]
    x, mean, variance = kernels.Middle.apply(x, *matrices, *kernels_)
    source.statistics.add([each[3] for each in layers], mean, variance, x.numel() // x.shape[1])
    return last(x, [flat(each[6].weight) for each in layers], [each[7] for each in layers], source.statistics, weights)


def reductions(operations: Sequence[FactorizedReduce], source: Source, weights: Tensor) -> list[Result]:
    """Both convolutions as one of all pixels that they see."""
    matrices = [torch.block_diag(flat(each.even.weight), flat(each.odd.weight)) for each in operations]
    return last(source.reduced, matrices, [each.norm for each in operations], source.statistics, weights)


def last(
    x: Tensor, matrices: Sequence[Tensor], norms: Sequence[nn.BatchNorm2d], statistics: Statistics, weights: Tensor
) -> list[Result]:
    """The end of operations (see `kernels.Last`)."""
    *maps, factors, mean, variance = kernels.Last.apply(x, weights, *matrices)
    statistics.add(norms, mean, variance, maps[0].numel() // maps[0].shape[1])
    return [Result(*each) for each in zip(maps, factors.unbind(), weights, strict=True)]


def skips(operations: Sequence[nn.Module], source: Source, weights: Tensor) -> list[Result]:
    return [Result(source.x, None, weight) for weight in weights.unbind()]


def pools(operations: Sequence[nn.Sequential], source: Source, weights: Tensor) -> list[Result]:
    """A pool and its norm, which is the same on all edges."""
    result, mean, variance = kernels.Standardise.apply(POOLS[type(operations[0][0])](source.x, source.stride))
    count = result.numel() // result.shape[1]
    for operation in operations:
        source.statistics.add([operation[1]], mean, variance, count)
    return [Result(result, None, weight) for weight in weights.unbind()]


def others(operations: Sequence[nn.Module], source: Source, weights: Tensor) -> list[Result]:
    """Anything else, by its own layers."""
    return [Result(channels_last(each(source.x)), None, w) for each, w in zip(operations, weights.unbind(), strict=True)]


LOWERINGS: dict[type[nn.Module], Callable[[Any, Source, Tensor], list[Result]]] = {
    SeparableConv: separable,
    FactorizedReduce: reductions,
    nn.Identity: skips,
    nn.MaxPool2d: pools,
    nn.AvgPool2d: pools,
}
# results that are one map, or no more than the operation's own
WHOLE = (skips, pools, others)


@lru_cache(maxsize=64)
def window_shares(height: int, width: int, stride: int, dtype: torch.dtype) -> Tensor:
    """One over the number of a map's pixels in each window of 3x3, ``(1, 1, H', W')``."""
    ones = torch.ones(1, 1, height, width, dtype=dtype)
    return 1 / F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=dtype), None, stride, 1)


def average_pool(x: Tensor, stride: int) -> Tensor:
    """3x3 average of the pixels that exist: a depthwise convolution is several times faster than torch's pool."""
    channels = x.shape[1]
    sums = F.conv2d(x, x.new_ones(channels, 1, 3, 3), None, stride, 1, 1, channels)
    return sums * window_shares(*x.shape[2:], stride, x.dtype)


def max_pool(x: Tensor, stride: int) -> Tensor:
    return F.max_pool2d(x, 3, stride, 1)


POOLS: dict[type[nn.Module], Callable[[Tensor, int], Tensor]] = {nn.MaxPool2d: max_pool, nn.AvgPool2d: average_pool}


def flat(weight: Tensor) -> Tensor:
    """``(C', C, 1, 1) -> (C', C)``."""
    return weight.flatten(1)


def kind_of(operation: nn.Module) -> tuple[type[nn.Module], Any]:
    """What operations that are computed together have in common: the type, and the window."""
    if isinstance(operation, SeparableConv):
        return SeparableConv, operation[1].kernel_size
    if isinstance(operation, nn.Sequential) and type(operation[0]) in POOLS:
        return type(operation[0]), None
    return type(operation), None


# ---- the pass


class Plan:
    """In what order the terms of a cell are computed: by source, and of one source by kind.

    Attributes:
        order: of each place the term's index.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, term in enumerate(terms):
            groups[(term.source, term.edge.stride, *kind_of(term.operation))].append(index)
        self.terms, self.groups = terms, sorted(groups.items(), key=lambda item: item[0][0])
        self.order = [index for _, members in self.groups for index in members]


class Pass:
    """One pass through the nodes of a cell or tree.

    Args:
        states: the nodes that are there, ``(N, C, H, W)``.
        statistics: of the batch norms so far.
    """

    def __init__(self, states: Sequence[Tensor], statistics: Statistics | None = None) -> None:
        self.states, self.statistics = list(states), statistics or Statistics()
        self._sources: dict[tuple[int, int], Source] = {}

    def run(self, plan: Plan, weights: Tensor, edges: Sequence[tuple[int, int, Any]], edge_weights: Tensor) -> None:
        """Compute all nodes that follow the states.

        Args:
            weights: ``(terms,)`` of the terms, the edges' own weights among their factors.
            edges: (source, target, module) of the edges that run, by target.
            edge_weights: ``(edges,)``, for the channels that pass by the operations.
        """
        weights = weights[plan.order] if plan.order != list(range(len(plan.order))) else weights
        shares = iter(weights.split([len(members) for _, members in plan.groups]))
        found: dict[int, list[Result]] = defaultdict(list)
        groups = iter(plan.groups)
        waiting = next(groups, None)
        for target in sorted({target for _, target, _ in edges}):
            while waiting is not None and waiting[0][0] < target:
                self._compute(plan, waiting, next(shares), found)
                waiting = next(groups, None)
            self.states.append(self._node(found[target], [e for e in edges if e[1] == target], edges, edge_weights))

    def _compute(self, plan: Plan, group: Any, weights: Tensor, found: dict[int, list[Result]]) -> None:
        """All terms of a group, into the lists of their targets."""
        (_, _, kind, _), members = group
        terms = [plan.terms[index] for index in members]
        source, lower = self._source(terms[0].source, terms[0].edge), LOWERINGS.get(kind, others)
        most = len(terms) if lower in WHOLE else source.most_together
        for start in range(0, len(terms), most):
            some = slice(start, start + most)
            results = lower([term.operation for term in terms[some]], source, weights[some])
            for term, result in zip(terms[some], results, strict=True):
                found[term.target].append(result)

    def _node(
        self, results: list[Result], entering: list[tuple[int, int, Any]], edges: Any, edge_weights: Tensor
    ) -> Tensor:
        finished = [each for each in results if each.factor is not None]
        maps = [each for each in results if each.factor is None]
        sources = [self._source(source, edge) for source, _, edge in entering]
        if results:
            weights = torch.stack([each.weight for each in maps]) if maps else edge_weights.new_empty(0)
            total = kernels.NodeSum.apply(
                weights, [each.factor for each in finished], *(each.map for each in (*finished, *maps))
            )
        else:  # every edge has sampled `none`
            stride = sources[0].stride
            total = channels_last(sources[0].x[:, :, ::stride, ::stride] * 0.0)
        if sources[0].parts == 1:
            return total
        places = [edges.index(edge) for edge in entering]
        rest = kernels.NodeSum.apply(edge_weights[places], [], *(source.rest for source in sources))
        return kernels.Woven.apply(total, rest)

    def _source(self, state: int, edge: Any) -> Source:
        key = state, edge.stride
        if key not in self._sources:
            self._sources[key] = Source(self.states[state], edge.stride, getattr(edge, "parts", 1), self.statistics)
        return self._sources[key]


def begin_cell(frame: CellShape, before: Tensor, previous: Tensor) -> Pass:
    """A pass with a cell's two inputs."""
    statistics = Statistics()
    inputs = [
        preprocess(module, x, statistics)
        for module, x in ((frame.preprocess_before, before), (frame.preprocess_previous, previous))
    ]
    return Pass(inputs, statistics)


def preprocess(module: ReLUConvNorm | FactorizedReduce, x: Tensor, statistics: Statistics) -> Tensor:
    """A cell's input ``(N, C', H, W)`` at the cell's width."""
    source, one = Source(channels_last(x), 1, 1, statistics), x.new_ones(1)
    if isinstance(module, FactorizedReduce):
        (result,) = reductions([module], source, one)
    else:
        (result,) = last(source.relu, [flat(module[1].weight)], [module[2]], statistics, one)
    return kernels.NodeSum.apply(x.new_empty(0), [result.factor], result.map)
