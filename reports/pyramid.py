"""The pyramid of a detector as a picture: a row a level, its map's input, its two chains and its output.

Drawing starts from the graph of `Architecture.graph()` alone: nodes whose ``part`` is ``fpn``, with ``level`` and
``kind`` (input, top_down, bottom_up, output), and edges with ``operation``, ``path`` and ``weight``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.text import Text

from .palette import INK, MUTED, NODE, PAPER, operation_colour, text_colour
from .strokes import add_box, add_text, text_width

POINTS = 9.5
ROW, NODE_SIZE, LABEL_HEIGHT, ARROW = 1.34, (0.62, 0.36), 0.27, 0.11  # inches
COLUMNS = {"top_down": 1.9, "input": 4.1, "bottom_up": 6.3, "output": 9.7}  # x of the nodes
HEADINGS = {"top_down": "top-down chain", "input": "input", "bottom_up": "bottom-up chain", "output": "output"}
TRACKS = {"top_down": 0.30, "bottom_up": 0.0, "lateral": -0.30}  # where a path of a level runs, above its row
LABELS_AT = 7.95  # x of the operation on a lateral path
WEIGHTS_AT = 9.02  # x of the paths' weights
WIDTH, BELOW, ABOVE = 10.3, 0.5, 0.75  # of the drawing; below the lowest row, above the highest


@dataclass
class PyramidDrawing:
    """What was drawn, for whoever wants to check it: boxes (left, bottom, right, top) in inches with their texts."""

    size: tuple[float, float]
    nodes: list[tuple[tuple[float, float, float, float], Text]] = field(default_factory=list)
    labels: list[tuple[tuple[float, float, float, float], Text]] = field(default_factory=list)
    weights: list[Text] = field(default_factory=list)


def has_pyramid(graph: nx.MultiDiGraph) -> bool:
    """Whether a graph has a pyramid to draw."""
    return any(part == "fpn" for _, part in graph.nodes(data="part"))


def pyramid_size(graph: nx.MultiDiGraph) -> tuple[float, float]:
    """Width and height of the drawing, inches."""
    return WIDTH, ROW * (len(_levels(graph)) - 1) + BELOW + ABOVE


def draw_pyramid(graph: nx.MultiDiGraph, ax: Axes) -> PyramidDrawing:
    """Draw the pyramid; the axes' unit becomes an inch of `pyramid_size`."""
    width, height = pyramid_size(graph)
    ax.set_xlim(0, width)
    ax.set_ylim(0, height)
    ax.set_axis_off()
    levels = _levels(graph)
    rows = {level: BELOW + index * ROW for index, level in enumerate(levels)}
    places = {
        name: (COLUMNS[data["kind"]], rows[data["level"]])
        for name, data in graph.nodes(data=True)
        if data.get("part") == "fpn"
    }
    drawing = PyramidDrawing((width, height))
    for kind, x in COLUMNS.items():
        add_text(ax, x, height - 0.1, HEADINGS[kind], POINTS, MUTED)
    for level, y in rows.items():
        ax.text(0.1, y + 0.1, f"level {level}", size=POINTS + 0.5, weight="bold", color=INK, va="center")
        ax.text(0.1, y - 0.12, f"stride {2**level}", size=POINTS - 1, color=MUTED, va="center")
    for source, target, data in graph.edges(data=True):
        if source in places and target in places:
            _draw_edge(ax, drawing, graph.nodes[source], graph.nodes[target], places[source], places[target], data)
    for name, (x, y) in places.items():
        half = NODE_SIZE[0] / 2, NODE_SIZE[1] / 2
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        add_box(ax, box, NODE, INK, 1.1, rounding=0.06)
        letter, _, number = str(graph.nodes[name]["label"]).partition("_")
        drawing.nodes.append((box, add_text(ax, x, y, rf"${letter}_{{{number}}}$", POINTS, INK)))
    return drawing


def _levels(graph: nx.MultiDiGraph) -> list[int]:
    return sorted({data["level"] for _, data in graph.nodes(data=True) if data.get("part") == "fpn"})


def _draw_edge(
    ax: Axes,
    drawing: PyramidDrawing,
    source: dict[str, Any],
    target: dict[str, Any],
    start: tuple[float, float],
    end: tuple[float, float],
    data: dict[str, Any],
) -> None:
    """One edge, by what it joins: a step of a chain, a map that joins a chain, or a path into an output."""
    operation, path, weight = data.get("operation"), data.get("path"), data.get("weight")
    (x0, y0), (x1, y1) = start, end
    half, up = NODE_SIZE[0] / 2, NODE_SIZE[1] / 2
    if target["kind"] == "output":
        track = TRACKS[str(path)]
        y = y0 + track
        points = [(x0 + half, y0), (x1 - half, y0)]
        if track:
            leaves = [(x0 + half, y0 + 0.1), (x0 + half + 0.18, y)] if track > 0 else [(x0, y0 - up), (x0, y)]
            points = [*leaves, (x1 - half - 0.42, y), (x1 - half, y0 + 0.36 * track)]
        _line(ax, points, operation, 1.0 + 4.0 * (weight or 0.25), joins=operation is None)
        if operation is not None:
            _label(ax, drawing, LABELS_AT, y, str(operation))
        if weight is not None:
            beside = 0.11 if track >= 0 else -0.13
            text = add_text(ax, WEIGHTS_AT, y + beside, f"{weight:.2f}", POINTS - 1.5, INK)
            drawing.weights.append(text)
    elif operation is not None:  # a step of a chain, between two levels
        step = 1 if y1 > y0 else -1
        points = [(x0, y0 + step * up), (x1, y1 - step * up)]
        if x0 != x1:  # the chain starts at the map itself
            points = [(x0 + (half if x1 > x0 else -half), y0), (x1, y0), (x1, y1 - step * up)]
        _line(ax, points, operation, 2.2)
        _label(ax, drawing, x1, (y0 + y1) / 2, str(operation))
    else:
        sign = {"product": "\N{MULTIPLICATION SIGN}", "sum": "+"}.get(str(path), "")
        side = 1 if x1 > x0 else -1
        _line(ax, [(x0 + side * half, y0), (x1 - side * half, y1)], None, 1.1, joins=True)
        add_text(ax, x1 - side * (half + 0.32), y1 + 0.13, sign, POINTS + 3, INK)


def _line(ax: Axes, points: Sequence[tuple[float, float]], operation: Any, width: float, joins: bool = False) -> None:
    colour = MUTED if operation is None else operation_colour(str(operation))
    curve = Curve(list(points))
    style: dict[str, Any] = {"linestyle": (0, (4, 2.5))} if joins else {}
    ax.add_patch(PathPatch(curve, fill=False, edgecolor=PAPER, linewidth=width + 2.4, joinstyle="round", zorder=1.5))
    ax.add_patch(PathPatch(curve, fill=False, edgecolor=colour, linewidth=width, joinstyle="round", zorder=2, **style))
    (xa, ya), (xb, yb) = points[-2:]
    length = max(1e-9, ((xb - xa) ** 2 + (yb - ya) ** 2) ** 0.5)
    dx, dy = (xb - xa) / length, (yb - ya) / length
    half = 0.045 + 0.008 * width
    tip = [
        (xb, yb),
        (xb - ARROW * dx - half * dy, yb - ARROW * dy + half * dx),
        (xb - ARROW * dx + half * dy, yb - ARROW * dy - half * dx),
    ]
    ax.add_patch(Polygon(tip, closed=True, facecolor=colour, edgecolor="none", zorder=3))


def _label(ax: Axes, drawing: PyramidDrawing, x: float, y: float, operation: str) -> None:
    colour = operation_colour(operation)
    half = (text_width(operation, POINTS) + 0.24) / 2
    box = (x - half, y - LABEL_HEIGHT / 2, x + half, y + LABEL_HEIGHT / 2)
    add_box(ax, box, colour, colour, 0.8, rounding=0.1)
    drawing.labels.append((box, add_text(ax, x, y, operation, POINTS, text_colour(colour))))
