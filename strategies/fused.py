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
from itertools import groupby
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evaluators.sharing import processes
from searchspaces.cells import CellShape
from searchspaces.operations import FactorizedReduce, ReLUConvNorm, SeparableConv

from . import composed, kernels
from .kernels import EPSILON
from .pixels import channels_last

MOMENTUM = 0.1  # of torch's batch norms, unless they are made with another
GROUP_BYTES = 2**21  # of a group's map, which should stay in the cache; larger ones gain nothing from being together


KERNELS = SimpleNamespace(
    depthwise=kernels.Depthwise.apply,
    middle=kernels.Middle.apply,
    last=kernels.Last.apply,
    mixes=kernels.Mixes.apply,
    node_sum=kernels.NodeSum.apply,
    standardise=kernels.Standardise.apply,
    quarters=kernels.Quarters.apply,
    parted=kernels.Parted.apply,
    woven=kernels.Woven.apply,
)


class Arithmetic:
    """Which arithmetic the cells of supernets use now."""

    plain = False
    functions: Any = KERNELS


def use() -> Any:
    """What a cell is computed by: the functions of `kernels`, or of `composed`."""
    return Arithmetic.functions


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Inside the block supernets run their layers one by one: the reference, differentiable as often as one likes."""
    before, Arithmetic.plain = Arithmetic.plain, True
    try:
        yield
    finally:
        Arithmetic.plain = before


@contextmanager
def composed_arithmetic() -> Iterator[None]:
    """Inside the block what is fused is composed of torch's own operations (see `composed`), and leaves the running
    statistics of batch norms as they are."""
    before, Arithmetic.functions = Arithmetic.functions, composed
    try:
        yield
    finally:
        Arithmetic.functions = before


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
        """Note means and biased variances ``(norms * C,)`` of ``count`` numbers a channel.

        Raises:
            ValueError: if there is one number a channel, which has no variance; torch's layers raise it too.
        """
        if count == 1:
            raise ValueError("Expected more than 1 value per channel when training: use a larger batch or input.")
        self.norms += norms
        self.means += mean.chunk(len(norms))
        self.variances += variance.chunk(len(norms))
        self.counts += [count] * len(norms)

    @torch.no_grad()
    def update(self) -> None:
        """As `nn.BatchNorm2d` does after a batch."""
        if not self.norms or use() is composed:
            return
        unbiased = torch._foreach_mul(self.variances, [count / (count - 1) for count in self.counts])
        norms: list[Any] = self.norms
        torch._foreach_add_([norm.num_batches_tracked for norm in norms], 1)
        torch._foreach_lerp_([norm.running_mean for norm in norms], self.means, MOMENTUM)
        torch._foreach_lerp_([norm.running_var for norm in norms], unbiased, MOMENTUM)


class Term(NamedTuple):
    """An operation of an edge that runs: from the state ``source`` to the node ``target``."""

    source: int
    target: int
    edge: Any  # a MixedEdge or PartialEdge
    operation: nn.Module


class Result(NamedTuple):
    """What a term adds to its node, of `kernels.Last`: a map ``(N, C, H, W)`` times a factor ``(C,)``."""

    map: Tensor
    factor: Tensor


class Source:
    """A state ``(N, C, H, W)`` that edges leave with one stride, and what their operations share.

    Args:
        parts: K, of which operations see the first part of the channels.
    """

    def __init__(self, x: Tensor, stride: int, parts: int, statistics: Statistics) -> None:
        self.stride, self.parts, self.statistics = stride, parts, statistics
        self.x, self._rest = x, x
        if parts > 1:
            self.x, self._rest = use().parted(x, parts)

    @cached_property
    def relu(self) -> Tensor:
        return F.relu(self.x)

    @cached_property
    def rest(self) -> Tensor:
        """The channels that pass by the operations (see `supernet.PartialEdge`)."""
        return F.max_pool2d(self._rest, 2, 2, ceil_mode=True) if self.stride == 2 else self._rest

    @cached_property
    def reduced(self) -> Tensor:
        """What both convolutions of a `FactorizedReduce` see, ``(N, 2 C, H / 2, W / 2)``."""
        return use().quarters(self.relu)

    @property
    def most_together(self) -> int:
        """How many operations are worth taking as one group."""
        return max(1, GROUP_BYTES // (self.x.numel() * self.x.element_size() // self.stride**2))


# ---- operations of one kind that leave one state


def separable(operations: Sequence[SeparableConv], source: Source, weights: Tensor) -> list[Result]:
    """See `kernels`: ReLU and depthwise, what is in the middle, what is last."""
    layers: list[list[Any]] = [list(operation) for operation in operations]
    first = layers[0][1]
    window = first.stride, first.padding, first.dilation
    x = use().depthwise(source.relu, window, *[each[1].weight for each in layers])
    matrices, kernels_ = [flat(each[2].weight) for each in layers], [each[5].weight for each in layers]
    x, mean, variance = use().middle(x, *matrices, *kernels_)
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
    *maps, factors, mean, variance = use().last(x, weights, *matrices)
    statistics.add(norms, mean, variance, maps[0].numel() // maps[0].shape[1])
    return [Result(*each) for each in zip(maps, factors.unbind(), strict=True)]


LOWERINGS: dict[Any, Callable[[Any, Source, Tensor], list[Result]]] = {
    SeparableConv: separable,
    FactorizedReduce: reductions,
}


# ---- operations that are the same on all edges that leave a state: their maps are mixed


def pool(operations: Sequence[Any], source: Source) -> Tensor:
    """A pool and its norm, ``(N, C, H', W')``."""
    result, mean, variance = use().standardise(POOLS[type(operations[0][0])](source.x, source.stride))
    for operation in operations:
        source.statistics.add([operation[1]], mean, variance, result.numel() // result.shape[1])
    return result


def own_layers(operations: Sequence[Any], source: Source) -> Tensor:
    """An operation that nothing here knows, ``(N, C, H', W')``."""
    (operation,) = operations
    return channels_last(operation(source.x))


MAPS: dict[Any, Callable[[Any, Source], Tensor]] = {
    nn.Identity: lambda operations, source: source.x,
    nn.MaxPool2d: pool,
    nn.AvgPool2d: pool,
}


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


# ---- which operation is computed how. What is not exactly as `searchspaces.operations` makes it runs by its own layers


def kind_of(operation: nn.Module, stride: int) -> tuple[Any, Any]:
    """What operations that are computed together have in common: how (`LOWERINGS`, `MAPS`), and what else counts."""
    if type(operation) is SeparableConv and all(map(is_plain, norms_of(operation))):
        return SeparableConv, (operation[1].kernel_size, operation[1].stride)
    if type(operation) is FactorizedReduce and is_plain(operation.norm):
        return FactorizedReduce, None
    if type(operation) is nn.Identity and stride == 1:
        return nn.Identity, None
    if is_pool(operation, stride):
        return type(operation[0]), None  # type: ignore[index]
    return own_layers, id(operation)


def norms_of(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]


def is_plain(norm: nn.Module) -> bool:
    """Whether a norm is what `kernels` take it for: no scale, no shift, torch's constants."""
    return (
        type(norm) is nn.BatchNorm2d
        and not norm.affine
        and norm.track_running_stats
        and (norm.eps, norm.momentum) == (EPSILON, MOMENTUM)
    )


def is_pool(operation: nn.Module, stride: int) -> bool:
    """Whether this is ``max_pool_3x3`` or ``avg_pool_3x3`` with the norm that a supernet puts behind it."""
    layers: list[Any] = list(operation) if type(operation) is nn.Sequential else []
    if len(layers) != 2 or type(layers[0]) not in POOLS or not is_plain(layers[1]):
        return False
    shape = {"kernel_size": 3, "stride": stride, "padding": 1, "ceil_mode": False}
    own = {"dilation": 1} if type(layers[0]) is nn.MaxPool2d else {"count_include_pad": False, "divisor_override": None}
    return all(getattr(layers[0], name) == value for name, value in {**shape, **own}.items())


# ---- the pass


class Plan:
    """In what order the terms of a cell are computed: by source, and of one source by kind.

    Attributes:
        order: of each place the term's index.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, term in enumerate(terms):
            stride = term.edge.stride
            groups[(term.source, stride, *kind_of(term.operation, stride))].append(index)
        self.terms, self.groups = terms, sorted(groups.items(), key=lambda item: item[0][:2])
        self.order = [index for _, members in self.groups for index in members]


class Pass:
    """One pass through the nodes of a cell.

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
        shares = weights[plan.order].split([len(members) for _, members in plan.groups])
        waiting = list(zip(plan.groups, shares, strict=True))
        found: dict[int, list[Result]] = defaultdict(list)
        maps: dict[int, list[Tensor]] = defaultdict(list)
        for target in sorted({target for _, target, _ in edges}):
            ready = [each for each in waiting if each[0][0][0] < target]
            waiting = waiting[len(ready) :]
            for of_source in groupby(ready, lambda each: each[0][0][:2]):
                self._leave(plan, list(of_source[1]), found, maps)
            entering = [(place, *edge) for place, edge in enumerate(edges) if edge[1] == target]
            self.states.append(self._node(found[target], maps[target], entering, edge_weights))

    def _leave(
        self,
        plan: Plan,
        groups: list[tuple[Any, Tensor]],
        found: dict[int, list[Result]],
        maps: dict[int, list[Tensor]],
    ) -> None:
        """All terms that leave a state, into the lists of the nodes they enter."""
        mixed: dict[int, dict[int, Tensor]] = defaultdict(dict)  # of each target: weights by the numbers of maps
        shared: list[Tensor] = []
        for ((_, _, kind, _), members), weights in groups:
            terms = [plan.terms[index] for index in members]
            source = self._source(terms[0].source, terms[0].edge)
            if kind in LOWERINGS:
                most = source.most_together
                for start in range(0, len(terms), most):
                    some = slice(start, start + most)
                    results = LOWERINGS[kind]([term.operation for term in terms[some]], source, weights[some])
                    for term, result in zip(terms[some], results, strict=True):
                        found[term.target].append(result)
                continue
            for term, weight in zip(terms, weights.unbind(), strict=True):
                row = mixed[term.target]  # an edge can have two candidates of one kind
                row[len(shared)] = row[len(shared)] + weight if len(shared) in row else weight
            shared.append(MAPS.get(kind, own_layers)([term.operation for term in terms], source))
        if shared:
            nothing = shared[0].new_zeros(())
            table = [torch.stack([row.get(number, nothing) for number in range(len(shared))]) for row in mixed.values()]
            for target, mix in zip(mixed, use().mixes(torch.stack(table), *shared), strict=True):
                maps[target].append(mix)

    def _node(
        self,
        results: list[Result],
        maps: list[Tensor],
        entering: Sequence[tuple[int, int, int, Any]],
        edge_weights: Tensor,
    ) -> Tensor:
        sources = [self._source(source, edge) for _, source, _, edge in entering]
        if results or maps:
            total = use().node_sum([each.factor for each in results], *(each.map for each in results), *maps)
        else:  # every edge has sampled `none`
            stride = sources[0].stride
            total = channels_last(sources[0].x[:, :, ::stride, ::stride] * 0.0)
        if sources[0].parts == 1:
            return total
        weights = edge_weights[[place for place, *_ in entering]][None]
        (rest,) = use().mixes(weights, *(source.rest for source in sources))
        return use().woven(total, rest)

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
        convolution, norm = list[Any](module)[1:]
        (result,) = last(source.relu, [flat(convolution.weight)], [norm], statistics, one)
    return use().node_sum([result.factor], result.map)
