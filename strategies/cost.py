"""What a network costs as a function of the architecture parameters, and the best network within a budget.

The counts of our spaces' networks are sums: a fixed part, and a part for each choice; a latency nearly is one.
`CostTable` holds these parts, taken as differences between whole networks that are counted, and fitted to random
networks whose latency a device profile predicts. From it follow

- the expected cost of a supernet, differentiable by the architecture parameters (ProxylessNAS, Cai et al., ICLR 2019,
  Eq. 5, where the cost is a latency), equal to the true cost where the parameters are one-hot;
- the most likely network that keeps a budget (`best_within`).

NNI's own profiler penalty has no gradient, so its searches never feel it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

import numpy as np
import torch
from numpy.random import RandomState
from torch import Tensor

from searchspaces.autofas import AutoFas
from searchspaces.cells import EDGES_KEPT, INPUTS, edges
from searchspaces.errors import ConfigError
from searchspaces.pta import Pta
from searchspaces.sampling import random_choices

from .branches import MODES, MixedBlock
from .expected_cost import ExpectedCellCost
from .supernet import MixedCell

Choices = Mapping[str, Any]
COUNTS = ("macs", "parameters")  # costs that are sums of whole numbers
ATTEMPTS = 20
NETWORKS_PER_PART = 3  # random ones that costs which are no sums are fitted to
RIDGE = 0.3
FAR = 0.25  # above the limit; further than any sum is off
STEP = 0.25  # of what a network has above the table's sum: by so much a limit is lowered before the next try
ROUNDING = 1e-12  # of sums of milliseconds; far below one count
Costs = dict[str, float]  # by the name of what is limited: macs, parameters, latency_ms


@dataclass(frozen=True)
class Option:
    """One way to decide one group of choices: what it costs above the fixed part, and its log-probability."""

    choices: dict[str, Any]
    cost: tuple[float, ...]
    score: float = 0.0


def figure(cost: float) -> str:
    """A cost for people, counts in full.

    >>> figure(81_966_592), figure(2.07079256)
    ('81,966,592', '2.07079')
    """
    return f"{cost:,.0f}" if cost >= 1000 else f"{cost:.6g}"


def has_additive_costs(space_class: type) -> bool:
    """Whether the costs of a space's networks are known to be sums over its choices."""
    return issubclass(space_class, AutoFas | Pta)


class CostTable:
    """The additive costs of all networks of a space.

    Args:
        space: an AutoFas or a Pta with the options of the network whose cost is meant.
        cost_of: the costs of the network with these choices; called once for every part of the table, and where a cost
            is no count, for some random networks more.

    Raises:
        ConfigError: if the space is none whose costs are known to be a sum.
    """

    def __init__(self, space: Any, cost_of: Callable[[Choices], Costs]) -> None:
        self.cost_of, self.space = cost_of, space
        self._known: dict[tuple[str, ...], Any] = {}  # parts as arrays, for `expected`
        if isinstance(space, Pta):
            self._measure_blocks()
        elif isinstance(space, AutoFas):
            self._measure_cells()
        else:
            raise ConfigError(
                "A budget needs a space whose cost is known to be a sum over its choices: autofas or pta. "
                f"{type(space).__name__} is neither."
            )
        if not set(self.names) <= set(COUNTS):
            self._fit_parts()

    def _parts(self, base: Choices, changes: Mapping[Any, Choices]) -> dict[Any, tuple[float, ...]]:
        """What each change of the base network costs."""
        start = self.cost_of(base)
        self.names = tuple(start)
        found = {}
        for key, change in changes.items():
            costs = self.cost_of({**base, **change})
            found[key] = tuple(costs[name] - start[name] for name in self.names)
        self._start = tuple(start[name] for name in self.names)
        return found

    def _measure_blocks(self) -> None:
        labels = [f"block_{number}" for number in range(1, len(self.space.blocks) + 1)]
        base = dict.fromkeys(labels, MODES[0])
        changes = {(label, mode): {label: mode} for label in labels for mode in MODES}
        self.parts = self._parts(base, changes)
        self.fixed = self._start

    def _measure_cells(self) -> None:
        """A part for each cell type, each source being an input of the cell or not, and each operation.

        The operations of one edge cost the same wherever it leads, and all edges from inputs have the same stride.
        """
        self.operations = [name for name in self.space.operations if name != "none"]
        nodes, cells = range(INPUTS, INPUTS + self.space.nodes), self.space.cell_names
        base: dict[str, Any] = {}
        for cell in cells:
            for node in nodes:
                base |= {f"{cell}/input_{node}": [0, 1]}
                base |= {f"{cell}/op_{node}_{slot}": self.operations[0] for slot in range(EDGES_KEPT)}
        changes: dict[Any, Choices] = {}
        last = nodes[-1]
        for cell in cells:
            for operation in self.operations:
                changes[cell, True, operation] = {f"{cell}/op_{last}_1": operation}
                if last > INPUTS:  # an edge between nodes in place of one from an input
                    changes[cell, False, operation] = {
                        f"{cell}/input_{last}": [0, last - 1],
                        f"{cell}/op_{last}_1": operation,
                    }
        self.parts = self._parts(base, changes)
        self.fixed = self._start

    def _fit_parts(self) -> None:
        """Parts of costs that are no sums, from random networks: the least squares nearest to the differences.

        A latency is more than a sum where a runtime computes equal operators of two edges once, and the base network,
        in which all edges have the same operation, is the one with the most of these.
        """
        random, keys = RandomState(0), list(self.parts)
        points = [random_choices(self.space, random) for _ in range(NETWORKS_PER_PART * len(keys))]
        where = {key: column for column, key in enumerate(keys)}
        counts = np.zeros((len(points), len(keys) + 1))
        counts[:, -1] = 1  # the fixed part
        for row, choices in enumerate(points):
            for key in self._kept_keys(choices):
                counts[row, where[key]] += 1
        true = [self.cost_of(choices) for choices in points]
        fitted = np.array([[*self.parts[key]] for key in keys] + [list(self.fixed)], dtype=float)
        for index, name in enumerate(self.names):
            if name in COUNTS:
                continue
            off = np.array([costs[name] for costs in true]) - counts @ fitted[:, index]
            # rows that hold each part where it was unless the networks say otherwise
            held = np.vstack([counts, RIDGE * np.eye(len(keys) + 1)])
            fitted[:, index] += np.linalg.lstsq(held, np.append(off, np.zeros(len(keys) + 1)), rcond=None)[0]
        as_counted = [index for index, name in enumerate(self.names) if name in COUNTS]
        for key, row in zip(keys, fitted.tolist(), strict=False):
            self.parts[key] = tuple(self.parts[key][i] if i in as_counted else row[i] for i in range(len(row)))
        self.fixed = tuple(self.fixed[i] if i in as_counted else float(fitted[-1, i]) for i in range(len(self.names)))

    def part(self, cell: str, source: int, operation: str) -> tuple[float, ...]:
        """What an operation on a kept edge costs, above the base network's edge in its place."""
        return self.parts[cell, source < INPUTS, operation]

    # ---- one network

    def groups(self, modules: Iterable[Any] = ()) -> list[list[Option]]:
        """Groups of options of which a network takes one each: the modes of a block, or the edges into a node.

        Args:
            modules: supernet modules that tell how likely each option is; without them all scores are 0.
        """
        if isinstance(self.space, Pta):
            found = {module.label: module for module in modules}
            labels = dict.fromkeys(label for label, _ in self.parts)
            return [[self._mode(label, mode, found.get(label)) for mode in MODES] for label in labels]
        cells = {module.name: module for module in modules}
        return [
            self._edges_into(cell, node, cells.get(cell))
            for cell in self.space.cell_names
            for node in range(INPUTS, INPUTS + self.space.nodes)
        ]

    def _mode(self, label: str, mode: str, module: MixedBlock | None) -> Option:
        score = 0.0 if module is None else float(module.probabilities().detach()[MODES.index(mode)].log())
        return Option({label: mode}, self.parts[label, mode], score)

    def _edges_into(self, cell: str, node: int, module: MixedCell | None) -> list[Option]:
        """The score of two edges with their operations is the sum of the logarithms of what `derive_cell` compares,
        so that the best option without a budget is the cell that it derives."""
        scores = _log_strengths(module, node, self.operations) if module else None
        options = []
        for pair in combinations(range(node), EDGES_KEPT):
            for names in product(self.operations, repeat=EDGES_KEPT):
                kept = list(zip(pair, names, strict=True))
                costs = [self.part(cell, source, name) for source, name in kept]
                choices: dict[str, Any] = {f"{cell}/input_{node}": list(pair)}
                choices |= {f"{cell}/op_{node}_{slot}": name for slot, name in enumerate(names)}
                score = sum(scores[source, name] for source, name in kept) if scores else 0.0
                options.append(Option(choices, tuple(map(sum, zip(*costs, strict=True))), score))
        return options

    def cost(self, choices: Choices) -> Costs:
        """The costs of one network as sums: what counting it would give, and near what is predicted of a latency.

        Raises:
            KeyError: if these are no choices of the space.
        """
        total = list(self.fixed)
        for key in self._kept_keys(choices):
            total = [a + b for a, b in zip(total, self.parts[key], strict=True)]
        return dict(zip(self.names, total, strict=True))

    def _kept_keys(self, choices: Choices) -> list[Any]:
        """Keys of the parts that a network has."""
        if isinstance(self.space, Pta):
            return [(label, choices[label]) for label in dict.fromkeys(label for label, _ in self.parts)]
        return [
            (cell, source < INPUTS, choices[f"{cell}/op_{node}_{slot}"])
            for cell in self.space.cell_names
            for node in range(INPUTS, INPUTS + self.space.nodes)
            for slot, source in enumerate(choices[f"{cell}/input_{node}"])
        ]

    def residual(self, choices: Choices) -> Costs:
        """What the table leaves out of a network's costs: 0 for counts, which are sums; for a latency what its
        prediction has beyond a sum of parts. Positive where the network costs more than the table says."""
        true, summed = self.cost_of(choices), self.cost(choices)
        return {name: true[name] - summed[name] for name in self.names}

    def range(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest cost of a network of the space, by name."""
        ends = {}
        for index, name in enumerate(self.names):
            groups = [[option.cost[index] for option in group] for group in self.groups()]
            ends[name] = (
                self.fixed[index] + sum(map(min, groups)),
                self.fixed[index] + sum(map(max, groups)),
            )
        return ends

    def cheapest(self, name: str) -> dict[str, Any]:
        """The network of which the table says that it costs least."""
        index = self.names.index(name)
        groups = self.groups()
        return {k: v for group in groups for k, v in min(group, key=lambda one: one.cost[index]).choices.items()}

    # ---- a supernet

    def expected(self, modules: Sequence[Any]) -> Tensor:
        """Expected costs ``(names,)`` of the networks that a supernet stands for, differentiable by its architecture
        parameters: the mean of `cost` over all networks of the space, each with a probability proportional to
        ``exp`` of its score in `groups`.

        A block has each mode with its probability. A node of a cell keeps two of its edges: a pair {d, e} with a
        probability proportional to ``s_d s_e``, where ``s_e`` is the edge's weight (of edge normalisation, else 1)
        times the probability that it is not ``none``; a kept edge then has an operation o with
        ``p_eo / (1 - p_e,none)``. The likeliest network is the one that `derive_cell` takes, so this relaxes its
        choice of the two strongest edges. Where the parameters are one-hot it is the true cost of that network, and
        everywhere it is between the costs of the smallest and the largest one.
        """
        total = torch.tensor(self.fixed, dtype=torch.float64)
        if not modules:
            return total
        if isinstance(modules[0], MixedBlock):
            probabilities = torch.stack([module.probabilities() for module in modules]).cpu().double()
            return total + probabilities.flatten() @ self._costs_of_blocks(tuple(module.label for module in modules))
        cell = modules[0]  # all are of one kind: the space's nodes, operations and edge normalisation
        alpha = torch.stack([module.alpha for module in modules])
        # the softmax of beta divides all edges of a node alike, which pairs do not see
        beta = alpha.new_zeros(alpha.shape[:2]) if cell.beta is None else torch.stack([m.beta for m in modules])
        known = self._costs_of_cells(tuple(module.name for module in modules), tuple(cell.candidates))
        return total + ExpectedCellCost.apply(alpha, beta, *known)

    def _costs_of_blocks(self, labels: tuple[str, ...]) -> Tensor:
        """Costs ``(blocks * modes, names)``; made once, as they are asked for in every step."""
        if labels not in self._known:
            rows = [self.parts[label, mode] for label in labels for mode in MODES]
            self._known[labels] = torch.tensor(rows, dtype=torch.float64)
        return self._known[labels]

    def _costs_of_cells(self, cells: tuple[str, ...], candidates: tuple[str, ...]) -> tuple[Any, ...]:
        """What `ExpectedCellCost` needs of cells beside their parameters, likewise."""
        if cells not in self._known:
            pairs, none = edges(self.space.nodes), (0.0,) * len(self.names)
            allowed = [name in self.operations for name in candidates]
            rows = [
                [
                    [self.part(cell, s, o) if a else none for o, a in zip(candidates, allowed, strict=True)]
                    for s, _ in pairs
                ]
                for cell in cells
            ]
            barred = np.where(allowed, 0.0, -np.inf)
            self._known[cells] = np.array(rows, dtype=float), barred, tuple(target for _, target in pairs)
        return self._known[cells]


def _log_strengths(module: MixedCell, node: int, operations: Sequence[str]) -> dict[tuple[int, str], float]:
    """Logarithm of weight times edge weight of each edge into a node, by source and operation."""
    probabilities, weights = module.probabilities().detach().cpu().double(), module.edge_weights().detach().cpu()
    return {
        (source, name): float((probabilities[index, module.candidates.index(name)] * weights[index].double()).log())
        for index, (source, target) in enumerate(edges(module.nodes))
        if target == node
        for name in operations
    }


def best_within(groups: Sequence[Sequence[Option]], budget: Sequence[float]) -> dict[str, Any] | None:
    """The options, one of each group, with the largest total score whose costs add up to no more than the budget.

    Exact: partial sums are kept unless another one costs no more in anything and scores no less.

    Args:
        budget: one limit for each entry of an option's cost, above the fixed part.

    Returns:
        The choices, or None if even the cheapest options cost more. Ties go to the earlier option.
    """
    rest = [[min(option.cost[i] for option in group) for group in groups] for i in range(len(budget))]
    partial: list[Option] = [Option({}, (0.0,) * len(budget))]
    for number, group in enumerate(groups):
        ahead = [sum(costs[number + 1 :]) for costs in rest]  # what the later groups cost at the least
        sums = (_join(before, option) for before in partial for option in group)
        slack = [ROUNDING * max(1.0, abs(limit)) for limit in budget]
        fitting = [
            each
            for each in sums
            if all(c + a <= b + s for c, a, b, s in zip(each.cost, ahead, budget, slack, strict=True))
        ]
        partial = _undominated(fitting)
    return dict(max(partial, key=lambda option: option.score).choices) if partial else None


def _join(before: Option, option: Option) -> Option:
    cost = tuple(a + b for a, b in zip(before.cost, option.cost, strict=True))
    return Option({**before.choices, **option.choices}, cost, before.score + option.score)


def _undominated(options: Iterable[Option]) -> list[Option]:
    kept: list[Option] = []
    for option in sorted(options, key=lambda each: (each.cost, -each.score)):
        if not any(
            other.score >= option.score and all(a <= b for a, b in zip(other.cost, option.cost, strict=True))
            for other in kept
        ):
            kept.append(option)
    return kept


@dataclass(frozen=True)
class Budget:
    """Limits on a network's costs, how a search is steered to them, and how its result is made to keep them.

    Attributes:
        table: costs of the space's networks, at the options of the network that is trained.
        limits: by name of the cost.
        weight: of the penalty in the architecture's loss.
    """

    table: CostTable
    limits: Mapping[str, float]
    weight: float = 1.0

    def penalty(self, modules: Sequence[Any]) -> Tensor:
        """``weight * sum over the limits of max(0, expected / limit - 1)``, a scalar: ProxylessNAS' expected cost,
        felt only above the budget, so that a network within it is judged by its error alone."""
        expected = self.table.expected(modules)
        over = [torch.relu(expected[self.table.names.index(name)] / limit - 1) for name, limit in self.limits.items()]
        return self.weight * torch.stack(over).sum()

    def keeps(self, choices: Choices) -> bool:
        """Whether a network keeps all limits: counts by the table, others by its whole cost, which is not asked for
        where the sum is far above the limit."""
        summed = self.table.cost(choices)
        slack = {name: ROUNDING if name in COUNTS else FAR for name in self.limits}
        if any(summed[name] > limit * (1 + slack[name]) for name, limit in self.limits.items()):
            return False
        if all(name in COUNTS for name in self.limits):
            return True
        whole = self.table.cost_of(choices)
        return all(whole[name] <= limit * (1 + ROUNDING) for name, limit in self.limits.items())

    def derive(self, modules: Sequence[Any]) -> dict[str, Any]:
        """The most likely network that keeps the limits; without need of them it is the usual one.

        Where a cost is no sum and the network found has more than the table says, the limit is lowered step by step,
        and the likeliest network is taken that keeps the limit then; at last the one that the table calls cheapest.

        Raises:
            ConfigError: if there is none.
        """
        limits = dict(self.limits)
        for _ in range(ATTEMPTS):
            found = self._likeliest(modules, limits)
            if found is None:
                break
            if self.keeps(found):
                return found
            residual = self.table.residual(found)
            limits = {name: limit - STEP * max(residual[name], 0.0) for name, limit in limits.items()}
        for name in self.limits:
            cheapest = self.table.cheapest(name)
            whole = self.table.cost_of(cheapest)
            if all(whole[other] <= limit * (1 + ROUNDING) for other, limit in self.limits.items()):
                return cheapest
        raise ConfigError("No network was found that keeps all limits of the budget together.")

    def _likeliest(self, modules: Sequence[Any], limits: Mapping[str, float]) -> dict[str, Any] | None:
        limited = [index for index, name in enumerate(self.table.names) if name in limits]
        above = [limits[self.table.names[index]] - self.table.fixed[index] for index in limited]
        groups = [
            [replace(option, cost=tuple(option.cost[index] for index in limited)) for option in group]
            for group in self.table.groups(modules)
        ]
        return best_within(groups, above)

    def _can_be_kept(self) -> bool:
        try:
            return bool(self.derive(()))
        except ConfigError:
            return False

    def check(self) -> None:
        """Refuse limits that no network of the space keeps.

        Raises:
            ConfigError: naming the smallest network's cost.
        """
        for name, (smallest, largest) in self.table.range().items():
            limit = self.limits.get(name)
            if name not in COUNTS:  # the sum is not the whole of it
                smallest = self.table.cost_of(self.table.cheapest(name))[name]
            if limit is not None and limit < smallest and (name in COUNTS or not self._can_be_kept()):
                raise ConfigError(
                    f"No network of the space has {name} of at most {figure(limit)}: the smallest has "
                    f"{figure(smallest)}, the largest {figure(largest)}. Raise the budget, or choose a narrower space "
                    "with train_options."
                )
        found = self.derive(())
        wrong = [name for name, more in self.table.residual(found).items() if name in COUNTS and more]
        if wrong:
            raise ConfigError(f"{' and '.join(wrong)} of this space's networks are no sum over its choices.")
