"""Where everything in the drawing of a cell goes: a layered layout (Sugiyama) in which labels have places of their own.

Columns alternate: nodes, operation labels, nodes, ... An edge becomes a chain of boxes, one a column: its label in the
column before its target, invisible bends elsewhere. Boxes of one column never overlap and edges cross a column only in
a box of their own, so labels, nodes and foreign edges keep apart by construction, not by luck.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import networkx as nx
import numpy as np
from scipy.optimize import linprog

from searchspaces.errors import ArchitectureError

STARTS, SWEEPS = 12, 6  # random orders tried, and passes over each: ample for cells of a dozen edges


@dataclass
class Box:
    """A node, a label or a bend; sizes and centre in inches, y upwards."""

    kind: str  # "node", "label" or "bend"
    column: int
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top."""
        w, h = self.width / 2, self.height / 2
        return self.x - w, self.y - h, self.x + w, self.y + h


@dataclass
class Route:
    """An edge: the boxes it passes, from its source to its target, and where it leaves and enters them."""

    source: str
    target: str
    operation: str | None
    stride: int
    stops: list[int] = field(default_factory=list)
    leaves: float = 0.0
    enters: float = 0.0

    @property
    def label(self) -> int | None:
        """The box of the label: the last stop before the target."""
        return self.stops[-2] if self.operation is not None else None


@dataclass
class Layout:
    """Boxes, routes, and the left and right end of each column."""

    boxes: list[Box]
    nodes: dict[str, int]
    routes: list[Route]
    columns: list[tuple[float, float]]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        bottoms, tops = zip(*((box.edges[1], box.edges[3]) for box in self.boxes), strict=True)
        return self.columns[-1][1], max(tops) - min(bottoms)


def layered_layout(
    graph: nx.MultiDiGraph, node_sizes: dict[str, tuple[float, float]], label_sizes: dict[int, tuple[float, float]]
) -> Layout:
    """Places one cell.

    Args:
        graph: the nodes and edges of one cell; an edge has ``operation`` (None: no label) and ``stride``.
        node_sizes: width and height in inches of each node; nodes grow in height with the edges they join.
        label_sizes: width and height in inches of a label, by stride.

    Raises:
        ArchitectureError: if the graph is empty or has a cycle.
    """
    if not graph or not nx.is_directed_acyclic_graph(graph):
        raise ArchitectureError("A cell cannot be drawn that is empty or feeds itself: its graph must be acyclic.")
    boxes, nodes, routes = _boxes_and_routes(graph, node_sizes, label_sizes)
    order = _best_order(boxes, routes)
    _straighten(boxes, routes, order)
    inputs = [boxes[i].y for i in nodes.values() if boxes[i].column == 0]
    if inputs[0] < inputs[-1]:  # a mirror image is as good, and readers expect the first input on top
        for box in boxes:
            box.y = -box.y
    _set_x(boxes, columns := _columns(boxes, routes, order))
    _set_ports(boxes, routes)
    return Layout(boxes, nodes, routes, columns)


def _boxes_and_routes(
    graph: nx.MultiDiGraph, node_sizes: dict[str, tuple[float, float]], label_sizes: dict[int, tuple[float, float]]
) -> tuple[list[Box], dict[str, int], list[Route]]:
    depth = _columns_of_nodes(graph)
    boxes: list[Box] = []
    nodes: dict[str, int] = {}
    routes: list[Route] = []
    for name in graph.nodes:
        width, height = node_sizes[name]
        ports = max(graph.in_degree(name), graph.out_degree(name))
        nodes[name] = len(boxes)
        boxes.append(Box("node", depth[name], width, max(height, 0.17 * ports)))
    for source, target, data in graph.edges(data=True):
        route = Route(source, target, data.get("operation"), int(data.get("stride") or 1), [nodes[source]])
        for column in range(depth[source] + 1, depth[target]):
            route.stops.append(len(boxes))
            if route.operation is not None and column == depth[target] - 1:
                width, height = label_sizes[route.stride]
                boxes.append(Box("label", column, width, height))
            else:
                boxes.append(Box("bend", column))
        route.stops.append(nodes[target])
        routes.append(route)
    return boxes, nodes, routes


def _columns_of_nodes(graph: nx.MultiDiGraph) -> dict[str, int]:
    """The column of each node: after all that feed it, with a column for labels between where there are any."""
    columns: dict[str, int] = {}
    column = 0
    for members in nx.topological_generations(graph):
        operations = [operation for *_, operation in graph.in_edges(members, data="operation")]
        column += 1 if any(operation is not None for operation in operations) else 0
        columns.update(dict.fromkeys(members, column))
        column += 1
    return columns


# --- order within the columns ----------------------------------------------------------------------------------------

Link = tuple[int, int, float]  # two boxes in neighbouring columns, and how much a crossing of the link disturbs


def _links(boxes: list[Box], routes: list[Route]) -> list[list[Link]]:
    """Links by the column they start from; the unlabelled edges (concatenation) are thin, so they may cross sooner."""
    links: list[list[Link]] = [[] for _ in range(max(box.column for box in boxes) + 1)]
    for route in routes:
        for a, b in itertools.pairwise(route.stops):
            links[boxes[a].column].append((a, b, 1.0 if route.operation is None else 2.0))
    return links


def _crossings(links: list[list[Link]], rank: dict[int, int]) -> float:
    return sum(
        first[2] * second[2]
        for column in links
        for first, second in itertools.combinations(column, 2)
        if (rank[first[0]] - rank[second[0]]) * (rank[first[1]] - rank[second[1]]) < 0
    )


def _best_order(boxes: list[Box], routes: list[Route]) -> list[list[int]]:
    """The order with the fewest crossings, then the shortest edges; sets every box's y for it."""
    links = _links(boxes, routes)
    columns: list[list[int]] = [[] for _ in links]
    for i, box in enumerate(boxes):
        columns[box.column].append(i)
    dice = random.Random(0)  # the same picture each time
    candidates: dict[tuple[tuple[int, ...], ...], float] = {}
    for start in range(STARTS):
        order = [list(column) for column in columns]
        if start:
            for column in order:
                dice.shuffle(column)
        for sweep in range(SWEEPS):
            _barycentres(order, links, forward=sweep % 2 == 0)
            _swap_neighbours(order, links)
            candidates[tuple(map(tuple, order))] = _crossings(links, _ranks(order))
    fewest = min(candidates.values())
    best = min((c for c, n in candidates.items() if n == fewest), key=lambda c: _set_y(boxes, c, routes))
    _set_y(boxes, best, routes)
    return [list(column) for column in best]


def _ranks(order: Sequence[Sequence[int]]) -> dict[int, int]:
    return {box: rank for column in order for rank, box in enumerate(column)}


def _barycentres(order: list[list[int]], links: list[list[Link]], forward: bool) -> None:
    """Sorts each column by the mean place of its neighbours in the column before (or after)."""
    for c in range(1, len(order)) if forward else range(len(order) - 2, -1, -1):
        rank = _ranks(order)
        near: dict[int, list[int]] = {box: [] for box in order[c]}
        for a, b, _ in links[c - 1] if forward else links[c]:
            box, other = (b, a) if forward else (a, b)
            near[box].append(rank[other])
        order[c].sort(key=lambda box: sum(near[box]) / len(near[box]) if near[box] else rank[box])


def _swap_neighbours(order: list[list[int]], links: list[list[Link]]) -> None:
    for c, column in enumerate(order):
        touching = [links[c - 1] if c else [], links[c]]
        for i in range(len(column) - 1):
            before = _crossings(touching, _ranks(order))
            column[i], column[i + 1] = column[i + 1], column[i]
            if _crossings(touching, _ranks(order)) >= before:
                column[i], column[i + 1] = column[i + 1], column[i]


# --- coordinates -----------------------------------------------------------------------------------------------------


def _gap(first: Box, second: Box) -> float:
    """Free height between two boxes of a column."""
    return {"bend": 0.2, "node": 0.3}.get(min(first.kind, second.kind), 0.14)


def _set_y(boxes: list[Box], order: Sequence[Sequence[int]], routes: list[Route]) -> float:
    """Least squares: boxes near their neighbours, order and distances kept. Returns the total climb."""
    links = [(a, b, _pull(boxes[a], boxes[b])) for route in routes for a, b in itertools.pairwise(route.stops)]
    for column in order:
        place = 0.0
        for upper, box in zip((None, *column), column, strict=False):
            place += 0 if upper is None else _distance(boxes, upper, box)
            boxes[box].y = place
    for sweep in range(24):
        _settle(boxes, links, order if sweep % 2 == 0 else order[::-1], {})
    return sum(abs(boxes[a].y - boxes[b].y) for a, b, _ in links)


def _distance(boxes: list[Box], a: int, b: int) -> float:
    return (boxes[a].height + boxes[b].height) / 2 + _gap(boxes[a], boxes[b])


def spread(wanted: Sequence[float], weights: Sequence[float], steps: Sequence[float]) -> list[float]:
    """The places nearest to the wanted ones (weighted least squares) with place[i+1] >= place[i] + steps[i].

    Isotonic regression by pooling adjacent violators, after the steps are taken off.
    """
    offsets = list(itertools.accumulate(steps, initial=0.0))
    pools: list[list[float]] = []  # mean, weight, members
    for goal, weight, offset in zip(wanted, weights, offsets, strict=True):
        pools.append([goal - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, mass, members = pools.pop()
            total = pools[-1][1] + mass
            pools[-1] = [(pools[-1][0] * pools[-1][1] + mean * mass) / total, total, pools[-1][2] + members]
    places = [mean for mean, _, members in pools for _ in range(int(members))]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]


def _straighten(boxes: list[Box], routes: list[Route], order: list[list[int]]) -> None:
    """Levels long edges, which least squares leaves wavering: the least total climb is a linear program.

    Among equals it stays near the least-squares places, and nodes then return to the middle of their neighbours.
    """
    links = [(a, b, _pull(boxes[a], boxes[b])) for route in routes for a, b in itertools.pairwise(route.stops)]
    count, rows, limits = len(boxes), [], []
    terms = [({a: 1.0, b: -1.0}, 0.0, weight) for a, b, weight in links]
    terms += [({i: 1.0}, box.y, 0.02) for i, box in enumerate(boxes)]
    for number, (difference, goal, _) in enumerate(terms):  # |difference - goal| <= slack
        for sign in (1.0, -1.0):
            rows.append({i: sign * factor for i, factor in difference.items()} | {count + number: -1.0})
            limits.append(sign * goal)
    for column in order:
        for a, b in itertools.pairwise(column):
            rows.append({a: 1.0, b: -1.0})
            limits.append(-_distance(boxes, a, b))
    matrix = np.zeros((len(rows), count + len(terms)))
    for row, entries in enumerate(rows):
        for i, factor in entries.items():
            matrix[row, i] = factor
    costs = [0.0] * count + [weight for *_, weight in terms]
    solution = linprog(costs, A_ub=matrix, b_ub=limits, bounds=[(None, None)] * count + [(0, None)] * len(terms))
    if solution.success:  # else the least-squares places stay: they are wavering, not wrong
        for box, y in zip(boxes, solution.x, strict=False):
            box.y = float(y)
        _settle(boxes, links, order, {"node": 1.0, "label": 1e6, "bend": 1e6})


def _pull(first: Box, second: Box) -> float:
    """How much it matters that a link is level: most of all between two bends, where nothing excuses a step."""
    return (1.0, 4.0, 16.0)[(first.kind == "bend") + (second.kind == "bend")]


def _settle(
    boxes: list[Box], links: list[tuple[int, int, float]], order: Sequence[Sequence[int]], inertia: dict[str, float]
) -> None:
    """One pass that moves each box towards the mean of its neighbours, more reluctantly the higher its inertia."""
    pulls: list[list[tuple[int, float]]] = [[] for _ in boxes]
    for a, b, weight in links:
        pulls[a].append((b, weight))
        pulls[b].append((a, weight))
    for column in order:
        wanted, weights = [], []
        for box in column:
            still = inertia.get(boxes[box].kind, 0.0)
            total = sum(weight for _, weight in pulls[box])
            goal = sum(boxes[other].y * weight for other, weight in pulls[box]) / total if total else boxes[box].y
            wanted.append(boxes[box].y if still > 1 else goal)
            weights.append(still if still > 1 else total or 0.1)
        steps = [_distance(boxes, a, b) for a, b in itertools.pairwise(column)]
        for box, y in zip(column, spread(wanted, weights, steps), strict=True):
            boxes[box].y = y


def _columns(boxes: list[Box], routes: list[Route], order: list[list[int]]) -> list[tuple[float, float]]:
    """Left and right end of each column; the gap after it grows with how far its edges climb."""
    climbs = [0.0] * len(order)
    for route in routes:
        for a, b in itertools.pairwise(route.stops):
            climbs[boxes[a].column] = max(climbs[boxes[a].column], abs(boxes[a].y - boxes[b].y))
    columns, x = [], 0.0
    for column, climb in zip(order, climbs, strict=True):
        width = max(boxes[box].width for box in column)
        columns.append((x, x + width))
        x += width + min(1.2, 0.34 + 0.28 * climb)
    return columns


def _set_x(boxes: list[Box], columns: list[tuple[float, float]]) -> None:
    for box in boxes:
        left, right = columns[box.column]
        box.x = (left + right) / 2
        if box.kind == "bend":
            box.width = right - left


def _set_ports(boxes: list[Box], routes: list[Route]) -> None:
    """Spreads the edges over the side of the node that they leave or enter, in the order of where they go."""
    for node, box in enumerate(boxes):
        if box.kind != "node":
            continue
        leaving = sorted((r for r in routes if r.stops[0] == node), key=lambda r: boxes[r.stops[1]].y)
        entering = sorted((r for r in routes if r.stops[-1] == node), key=lambda r: boxes[r.stops[-2]].y)
        for i, route in enumerate(leaving):
            route.leaves = box.y + (i - (len(leaving) - 1) / 2) * 0.13
        for i, route in enumerate(entering):
            route.enters = box.y + (i - (len(entering) - 1) / 2) * 0.15
