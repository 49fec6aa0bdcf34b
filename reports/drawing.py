"""The cells of an architecture as pictures: left to right, operations named and coloured, stride 2 marked.

Drawing starts from the graph of `Architecture.graph()` alone: a networkx MultiDiGraph whose nodes have ``cell``,
``kind`` (input, node, output) and ``label``, and whose edges have ``operation`` (None: concatenation) and ``stride``.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.text import Text

from searchspaces.errors import ArchitectureError

from .branches import branches_figure, has_branches
from .figures import save_figure
from .layout import Box, Layout, Route, layered_layout
from .palette import INK, MUTED, NODE, PAPER, operation_colour, text_colour
from .pyramid import draw_pyramid, pyramid_size
from .stages import has_stages, stages_figure
from .strokes import add_box, add_text, text_width

POINTS = 9.5  # of an operation's name where a cell is drawn at its natural size
NODE_HEIGHT, ARROW = 0.36, 0.09  # inches
PYRAMID = "fpn"  # the cell of its nodes
TITLES = {
    "normal": "Normal cell: keeps the resolution",
    "reduce": "Reduction cell: halves the resolution",
    "fpn": "Pyramid",
}


@dataclass
class CellDrawing:
    """What was drawn, for whoever wants to check or decorate it: places in inches of the cell's natural size."""

    layout: Layout
    scale: float
    labels: list[tuple[Box, list[Text]]] = field(default_factory=list)
    nodes: list[tuple[Box, list[Text]]] = field(default_factory=list)
    curves: list[tuple[Route, Curve]] = field(default_factory=list)


def cells_of(graph: nx.MultiDiGraph) -> list[str]:
    """The cells of a graph, in the order of their first nodes."""
    return list(dict.fromkeys(cell for _, cell in graph.nodes(data="cell") if cell is not None))


def draw_cell(graph: nx.MultiDiGraph, cell: str, ax: Axes) -> CellDrawing:
    """Draws one cell into the axes, as large as they allow.

    Raises:
        ArchitectureError: if the graph has no such cell, or the cell feeds itself.
    """
    part = _subgraph(graph, cell)
    layout, names = _lay_out(graph, cell), part.nodes(data="label")
    weights = {(source, target): weight for source, target, weight in part.edges(data="weight")}
    scale = _fit(ax, layout)
    drawing = CellDrawing(layout, scale)
    for route in sorted(layout.routes, key=lambda route: route.operation is not None):
        drawing.curves.append((route, _draw_route(ax, layout, route, scale)))
    for name, index in layout.nodes.items():
        box = layout.boxes[index]
        add_box(ax, box.edges, NODE, INK, 1.1 * scale, rounding=0.06)
        text = add_text(ax, box.x, box.y, _node_text(names[name], name), POINTS * scale, INK)
        drawing.nodes.append((box, [text]))
    for route in layout.routes:
        if route.label is not None:
            box = layout.boxes[route.label]
            drawing.labels.append((box, _draw_label(ax, box, route, scale, weights.get(route_ends(layout, route)))))
    return drawing


def architecture_figure(graph: nx.MultiDiGraph) -> Figure:
    """An architecture: all its cells below each other at one scale with a legend, or its chain of branches or stages.

    Raises:
        ArchitectureError: if the graph has none of these.
    """
    if has_branches(graph):
        return branches_figure(graph)
    if has_stages(graph):
        return stages_figure(graph)
    cells = cells_of(graph)
    if not cells:
        raise ArchitectureError("This architecture has no cells to draw: no node of its graph names a cell.")
    sizes = [pyramid_size(graph) if cell == PYRAMID else _lay_out(graph, cell).size for cell in cells]
    margin, heading, legend = 0.15, 0.5, 1.0 + 0.18 * (len(_operations(graph)) // 4)
    width = max(7.2, *(w for w, _ in sizes)) + 2 * margin
    height = sum(h + heading + 2 * margin for _, h in sizes) + legend
    figure = Figure(figsize=(width, height), facecolor=PAPER)
    top = height
    for cell, (w, h) in zip(cells, sizes, strict=True):
        figure.text(margin / width, (top - 0.32) / height, title_of(cell), size=12, weight="bold", color=INK)
        top -= heading + h + 2 * margin
        frame = (0.0, top / height, (w + 2 * margin) / width, (h + 2 * margin) / height)
        if cell == PYRAMID:
            draw_pyramid(graph, figure.add_axes((frame[0], frame[1], w / width, h / height)))
        else:
            draw_cell(graph, cell, figure.add_axes(frame))
    _legend(figure, graph, margin / width, 0.1 / height)
    return figure


def title_of(cell: str) -> str:
    """What stands above a cell, a pyramid or a level's tree.

    >>> title_of("cpm_5")
    'Tree of level 5 (stride 32)'
    """
    tree = re.fullmatch(r"cpm_(\d+)", cell)
    return f"Tree of level {tree[1]} (stride {2 ** int(tree[1])})" if tree else TITLES.get(cell, cell)


def draw_architecture(graph: nx.MultiDiGraph, path: str | Path) -> Path:
    """Writes the whole architecture as one picture; the suffix of the path (.png, .svg, .pdf) decides the format."""
    return save_figure(architecture_figure(graph), path)


# --- sizes -----------------------------------------------------------------------------------------------------------


def _subgraph(graph: nx.MultiDiGraph, cell: str) -> nx.MultiDiGraph:
    chosen = graph.subgraph([node for node, name in graph.nodes(data="cell") if name == cell])
    if not chosen:
        known = ", ".join(cells_of(graph)) or "none"
        raise ArchitectureError(f"This architecture has no cell {cell!r}. It has: {known}.")
    ordered = nx.MultiDiGraph()  # a view's order is that of a set: it would differ from run to run
    ordered.add_nodes_from((node, data) for node, data in graph.nodes(data=True) if node in chosen)
    ordered.add_edges_from((u, v, d) for u, v, d in graph.edges(data=True) if u in chosen and v in chosen)
    return ordered


def _lay_out(graph: nx.MultiDiGraph, cell: str) -> Layout:
    part = _subgraph(graph, cell)
    nodes = {
        name: (max(NODE_HEIGHT, text_width(_node_text(label, name), POINTS) + 0.2), NODE_HEIGHT)
        for name, label in part.nodes(data="label")
    }
    operations = [operation for *_, operation in part.edges(data="operation") if operation is not None]
    width = max((text_width(operation, POINTS) for operation in operations), default=0.5) + 0.24
    strides = {int(stride or 1) for *_, stride in part.edges(data="stride")}
    plain = 0.27 if all(weight is None for *_, weight in part.edges(data="weight")) else 0.42
    return layered_layout(part, nodes, {stride: (width, plain if stride == 1 else 0.42) for stride in strides})


def _node_text(label: Any, name: str) -> str:
    text = str(label if label is not None else name.rpartition("/")[2])
    match = re.fullmatch(r"\$?(\w+)_\{([\w+-]+)\}\$?", text)
    return rf"${match[1]}_{{{match[2]}}}$" if match else text.replace("$", r"\$")


def _fit(ax: Axes, layout: Layout, margin: float = 0.15) -> float:
    """Makes the axes' unit an inch of the layout; returns how many real inches that is."""
    frame = ax.get_position()
    dpi = ax.figure.dpi  # the axes may stand in a subfigure, whose size is known in pixels only
    width, height = frame.width * ax.figure.bbox.width / dpi, frame.height * ax.figure.bbox.height / dpi
    wanted = [side + 2 * margin for side in layout.size]
    scale = float(min(width / wanted[0], height / wanted[1]))
    low = min(box.edges[1] for box in layout.boxes) - margin
    spare = height / scale - wanted[1]
    ax.set_xlim(-margin, width / scale - margin)
    ax.set_ylim(low - spare / 2, low + wanted[1] + spare / 2)
    ax.set_axis_off()
    return scale


# --- strokes ---------------------------------------------------------------------------------------------------------


def route_curve(layout: Layout, route: Route) -> Curve:
    """The line of a route: level across each column, bent only in the gaps between columns."""
    points: list[tuple[float, float]] = []
    codes: list[Any] = []
    for a, b in itertools.pairwise(route.stops):
        first, second = layout.boxes[a], layout.boxes[b]
        y0 = route.leaves if a == route.stops[0] else first.y
        y1 = route.enters if b == route.stops[-1] else second.y
        left, right = layout.columns[first.column][1], layout.columns[second.column][0]
        end = second.edges[0] - (ARROW if second.kind == "node" else 0)
        right = min(right, end)
        reach = 0.55 * (right - left)
        points += [(first.edges[2], y0), (left, y0), (left + reach, y0), (right - reach, y1), (right, y1), (end, y1)]
        codes += [Curve.LINETO if points[:-6] else Curve.MOVETO, Curve.LINETO, *[Curve.CURVE4] * 3, Curve.LINETO]
    return Curve(points, codes)


def _draw_route(ax: Axes, layout: Layout, route: Route, scale: float) -> Curve:
    curve = route_curve(layout, route)
    joins = route.operation is None
    colour = MUTED if joins else operation_colour(str(route.operation))
    style: dict[str, Any] = {"linestyle": (0, (4, 2.5))} if joins or route.operation == "none" else {}
    if not joins:  # a rim in the colour of the page keeps crossing lines apart
        ax.add_patch(PathPatch(curve, fill=False, edgecolor=PAPER, linewidth=4.6 * scale, capstyle="butt"))
    width = (1.1 if joins else 2.2) * scale
    ax.add_patch(PathPatch(curve, fill=False, edgecolor=colour, linewidth=width, capstyle="butt", **style))
    x, y = layout.boxes[route.stops[-1]].edges[0], route.enters
    long, half = (ARROW * 1.1, 0.04) if joins else (ARROW * 1.4, 0.06)
    tip = [(x, y), (x - long, y + half), (x - long, y - half)]
    ax.add_patch(Polygon(tip, closed=True, facecolor=colour, edgecolor="none", zorder=3))
    return curve


def route_ends(layout: Layout, route: Route) -> tuple[str, str]:
    """The names of the nodes that a route joins."""
    names = {index: name for name, index in layout.nodes.items()}
    return names[route.stops[0]], names[route.stops[-1]]


def _draw_label(ax: Axes, box: Box, route: Route, scale: float, weight: float | None) -> list[Text]:
    """An operation's name, and below it its stride if it is not 1, or the weight of its path if that is known."""
    colour = operation_colour(str(route.operation))
    ink = text_colour(colour)
    add_box(ax, box.edges, colour, colour, 0.8 * scale, rounding=0.1)
    below = f"stride {route.stride}" if route.stride != 1 else "" if weight is None else f"path {weight:.2f}"
    if not below:
        return [add_text(ax, box.x, box.y, str(route.operation), POINTS * scale, ink)]
    lower = add_text(ax, box.x, box.y - 0.095, below, (POINTS - 2) * scale, ink, style="italic")
    return [add_text(ax, box.x, box.y + 0.075, str(route.operation), POINTS * scale, ink), lower]


def _operations(graph: nx.MultiDiGraph) -> list[str]:
    return sorted({operation for *_, operation in graph.edges(data="operation") if operation is not None})


def _legend(figure: Figure, graph: nx.MultiDiGraph, x: float, y: float) -> None:
    used, cells = _operations(graph), cells_of(graph)
    entries = [Line2D([], [], color=operation_colour(operation), linewidth=5, label=operation) for operation in used]
    joined = "joined as it is" if PYRAMID in cells else "concatenated into the output"
    entries.append(Line2D([], [], color=MUTED, linewidth=1.1, linestyle=(0, (4, 2.5)), label=joined))
    columns = min(len(entries), 4)
    legend = figure.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=(x, y),
        ncols=columns,
        frameon=False,
        fontsize=9,
        title=_note(graph),
    )
    legend.set_alignment("left")
    legend.get_title().set(fontsize=9, color=MUTED)
    for text in legend.get_texts():
        text.set_color(INK)


def _note(graph: nx.MultiDiGraph) -> str:
    """What the boxes and the numbers of a drawing mean."""
    cells, notes = cells_of(graph), []
    weighted = {
        graph.nodes[target].get("cell") for _, target, weight in graph.edges(data="weight") if weight is not None
    }
    if PYRAMID in cells:
        notes.append("Up and down the chains maps are resized")
        if PYRAMID in weighted:
            origin = {"trained": ", as trained", "searched": " in the search"}
            notes[-1] += f"; numbers beside the paths are their weights{origin.get(graph.graph.get('weights'), '')}"
    if any(cell.startswith("cpm_") for cell in cells):
        leaves = "leaves" if graph.graph.get("output") == "leaves" else "nodes"
        notes.append(f"Box 0 is the level's map; the {leaves} are concatenated")
        if weighted - {PYRAMID}:
            notes[-1] += "; path: how sure the search was of a parent"
    if not notes:
        notes.append("Numbered boxes add up what arrives")
    if "c_{k-2}" in dict(graph.nodes(data="label")).values():
        notes[-1] += ";\n$c_{k-1}$ and $c_{k-2}$ are the outputs of the cell before and of the one before that"
    return "\n".join(notes)
