"""A chain of stages whose blocks fork into branches, drawn from left to right: what runs, and what stands by.

Drawing starts from the graph of `Architecture.graph()` alone: nodes have ``kind`` (input, stage, branch, mean,
output), ``label``, ``channels`` and ``used``; branches also ``block`` and ``branch``. Sizes follow from the input's
label (``128x128``) and the strides that the labels name.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.text import Text

from .palette import INK, MUTED, NODE, OPERATIONS, PAPER, text_colour
from .strokes import add_box, add_text, text_width

Edges = tuple[float, float, float, float]  # left, bottom, right, top
POINTS, LINE = 9.0, 0.17  # size of the text, and inches from line to line
GAP, ROW_GAP, MARGIN, RETURN = 0.32, 0.5, 0.15, 0.26  # inches: between units, between rows, around, for a return
WIDEST, LEGEND_WIDTH = 8.6, 6.2  # inches of a row, and of the legend
COLOURS = {"light": OPERATIONS["sep_conv_3x3"], "heavy": OPERATIONS["sep_conv_5x5"]}
UNUSED = (0, (4, 2.5))  # dashes
TIMES = "\u00d7"


@dataclass
class Unit:
    """A stage, or a block with its branches; places are set by `_place`, in inches, y upwards.

    Attributes:
        lines: text of a stage, or of the frame of a block: its title and its output.
        branches: name, text and use of each branch; empty for a stage.
        mean: whether the branches' outputs are averaged.
    """

    lines: list[str]
    branches: list[tuple[str, str, bool]] = field(default_factory=list)
    mean: bool = False
    x: float = 0.0
    y: float = 0.0

    @property
    def branch_width(self) -> float:
        return max(text_width(text, POINTS) for _, text, _ in self.branches) + 0.2

    @property
    def ends(self) -> tuple[float, float]:
        """Inches from the frame of a block to its branches: before them, and behind them."""
        return 0.42, (text_width("mean", POINTS) + 0.56 if self.mean else 0.42)

    @property
    def width(self) -> float:
        widths = [text_width(line, POINTS) + 0.2 for line in self.lines]
        return max(*widths, sum(self.ends) + self.branch_width if self.branches else 0.0, 0.5)

    @property
    def height(self) -> float:
        return 0.36 * len(self.branches) + 0.16 * (len(self.branches) - 1) + 0.62 if self.branches else self._stack

    @property
    def _stack(self) -> float:
        return LINE * len(self.lines) + 0.18

    @property
    def edges(self) -> Edges:
        return self.x, self.y - self.height / 2, self.x + self.width, self.y + self.height / 2


@dataclass
class BranchesDrawing:
    """What was drawn, for whoever wants to check it: boxes with their texts, the frames of blocks, the lines."""

    boxes: list[tuple[Edges, list[Text]]] = field(default_factory=list)
    frames: list[tuple[Edges, list[Text]]] = field(default_factory=list)
    lines: list[tuple[list[tuple[float, float]], bool]] = field(default_factory=list)


def has_branches(graph: nx.MultiDiGraph) -> bool:
    """Whether the graph is a chain with branches, as that of ``pta``."""
    return any(kind == "branch" for _, kind in graph.nodes(data="kind"))


def branches_figure(graph: nx.MultiDiGraph) -> Figure:
    """The chain, wrapped into rows, with a legend."""
    rows = _wrap(units_of(graph))
    width, height = _place(rows)
    legend, left = 0.72, MARGIN + (RETURN if len(rows) > 1 else 0)
    size = (max(width + left + MARGIN, LEGEND_WIDTH), height + 2 * MARGIN + legend)
    figure = Figure(figsize=size, facecolor=PAPER)
    ax = figure.add_axes((0, legend / size[1], 1, 1 - legend / size[1]))
    ax.set_xlim(-left, size[0] - left)
    ax.set_ylim(-height - MARGIN, MARGIN)
    ax.set_axis_off()
    draw_branches(ax, rows)
    _legend(figure, MARGIN / size[0], 0.08 / size[1])
    return figure


def draw_branches(ax: Axes, rows: Sequence[Sequence[Unit]]) -> BranchesDrawing:
    """Draws rows of placed units into axes whose unit is an inch."""
    drawing = BranchesDrawing()
    for row in rows:
        for unit in row:
            _draw_block(ax, unit, drawing) if unit.branches else _draw_stage(ax, unit, drawing)
        for first, second in itertools.pairwise(row):
            _line(ax, drawing, [(first.edges[2], first.y), (second.edges[0], second.y)], True)
    for upper, lower in itertools.pairwise(rows):
        last, first = upper[-1], lower[0]
        between = (min(unit.edges[1] for unit in upper) + max(unit.edges[3] for unit in lower)) / 2
        turn, back = last.edges[2] + GAP / 2, -RETURN
        path = [(last.edges[2], last.y), (turn, last.y), (turn, between), (back, between), (back, first.y)]
        _line(ax, drawing, [*path, (first.edges[0], first.y)], True)
    return drawing


# --- from the graph to placed units ----------------------------------------------------------------------------------


def units_of(graph: nx.MultiDiGraph) -> list[Unit]:
    """The chain in order; a block is one unit."""
    units: list[Unit] = []
    size: tuple[int, ...] = ()
    drawn: set[str] = set()
    for name in nx.lexicographical_topological_sort(graph, key=list(graph).index):
        node = graph.nodes[name]
        if name in drawn or node["kind"] == "mean":
            continue
        if node["kind"] == "branch":
            members = [n for n, data in graph.nodes(data=True) if data.get("block") == node["block"]]
            drawn.update(members)
            units.append(_block([graph.nodes[member] for member in members], size))
            continue
        label = str(node["label"])
        if node["kind"] == "input":
            size = tuple(int(side) for side in re.findall(r"\d+", label))
        size = _shrink(size, label)
        units.append(Unit(list(_stage_lines(node, label, size))))
    return units


def _stage_lines(node: dict[str, Any], label: str, size: tuple[int, ...]) -> Iterator[str]:
    if node["kind"] == "output":
        yield label
        return
    if node["kind"] == "input":
        yield "input"
    else:
        yield from _pretty(label).replace(", stride 1", "").split(", ")
    yield from (f"{node['channels']} ch", TIMES.join(map(str, size)))


def _block(members: list[dict[str, Any]], size: tuple[int, ...]) -> Unit:
    branches = [(str(m["branch"]), f"{m['branch']}: {_pretty(str(m['label']))}", bool(m["used"])) for m in members]
    runs = [name for name, _, used in branches if used]
    title = f"Block {members[0]['block']} runs {'both' if len(runs) > 1 else ''.join(runs)}"
    return Unit([title, f"{members[0]['channels']} ch, {TIMES.join(map(str, size))}"], branches, len(runs) > 1)


def _pretty(label: str) -> str:
    return re.sub(r"(\d) ?x ?(?=[\dA-Z])", lambda match: match[0].replace("x", TIMES), label)


def _shrink(size: tuple[int, ...], label: str) -> tuple[int, ...]:
    stride = re.search(r"stride (\d+)", label)
    if "pool" in label:
        return tuple(1 for _ in size)
    return tuple(-(-side // int(stride[1])) for side in size) if stride else size


def _wrap(units: list[Unit]) -> list[list[Unit]]:
    """As few rows as fit, and then as even ones as they can be."""
    fewest = len(_fill(units, WIDEST))
    widest = max(unit.width for unit in units)
    limits = [widest + step * 0.1 for step in range(int((max(WIDEST, widest) - widest) / 0.1) + 1)]
    return next((rows for limit in limits if len(rows := _fill(units, limit)) == fewest), _fill(units, WIDEST))


def _fill(units: list[Unit], limit: float) -> list[list[Unit]]:
    rows: list[list[Unit]] = []
    used = limit + 1
    for unit in units:
        if used + GAP + unit.width > limit:
            rows.append([])
            used = -GAP
        rows[-1].append(unit)
        used += GAP + unit.width
    return rows


def _place(rows: list[list[Unit]]) -> tuple[float, float]:
    """Sets every unit's place; returns the width and the height of all."""
    width, y = 0.0, 0.0
    for row in rows:
        x, height = 0.0, max(unit.height for unit in row)
        for unit in row:
            unit.x, unit.y = x, y - height / 2
            x += unit.width + GAP
        width, y = max(width, x - GAP), y - height - ROW_GAP
    return width + GAP / 2, -(y + ROW_GAP)


# --- strokes ---------------------------------------------------------------------------------------------------------


def _draw_stage(ax: Axes, unit: Unit, drawing: BranchesDrawing) -> None:
    add_box(ax, unit.edges, NODE, INK, 1.0, 0.06)
    top = unit.y + (len(unit.lines) - 1) * LINE / 2
    texts = [
        add_text(ax, unit.x + unit.width / 2, top - i * LINE, text, POINTS, INK) for i, text in enumerate(unit.lines)
    ]
    drawing.boxes.append((unit.edges, texts))


def _draw_block(ax: Axes, unit: Unit, drawing: BranchesDrawing) -> None:
    left, bottom, right, top = unit.edges
    add_box(ax, unit.edges, "none", MUTED, 0.8, 0.1, zorder=1)
    centre = (left + right) / 2
    title = add_text(ax, centre, top - 0.15, unit.lines[0], POINTS, INK, weight="bold")
    output = add_text(ax, centre, bottom + 0.15, unit.lines[1], POINTS, INK)
    drawing.frames.append((unit.edges, [title, output]))
    before, behind = unit.ends
    spare = (unit.width - before - behind - unit.branch_width) / 2
    start, end = left + before + spare, left + before + spare + unit.branch_width
    fork, join = left + 0.16, (end + 0.2 + text_width("mean", POINTS) / 2 if unit.mean else right - 0.16)
    y = top - 0.31 - 0.18
    for name, text, used in unit.branches:
        colour = COLOURS.get(name, OPERATIONS["skip_connect"])
        box = (start, y - 0.18, end, y + 0.18)
        add_box(
            ax, box, colour if used else PAPER, colour if used else MUTED, 1.0, 0.08, linestyle="-" if used else UNUSED
        )
        ink = text_colour(colour) if used else MUTED
        drawing.boxes.append((box, [add_text(ax, (start + end) / 2, y, text, POINTS, ink)]))
        _line(ax, drawing, [(left, unit.y), (fork, unit.y), (fork, y), (start, y)], used)
        tail = [(end, y), (join, y), (join, unit.y + (0.15 if y > unit.y else -0.15))]
        _line(ax, drawing, tail if unit.mean else [*tail[:2], (join, unit.y), (right, unit.y)], used, head=unit.mean)
        y -= 0.36 + 0.16
    if unit.mean:
        half = text_width("mean", POINTS) / 2 + 0.08
        box = (join - half, unit.y - 0.15, join + half, unit.y + 0.15)
        add_box(ax, box, NODE, INK, 1.0, 0.15)
        drawing.boxes.append((box, [add_text(ax, join, unit.y, "mean", POINTS, INK)]))
        _line(ax, drawing, [(box[2], unit.y), (right, unit.y)], True, head=False)


def _line(ax: Axes, drawing: BranchesDrawing, points: list[tuple[float, float]], used: bool, head: bool = True) -> None:
    """A line with an arrow at its end; one that nothing runs along is thin and dashed."""
    style: dict[str, Any] = (
        {"color": INK, "linewidth": 1.5} if used else {"color": MUTED, "linewidth": 0.9, "linestyle": UNUSED}
    )
    ax.plot(*zip(*points, strict=True), zorder=3 if used else 2, solid_joinstyle="round", **style)
    if head:
        (x0, y0), (x, y) = points[-2:]
        if abs(x - x0) >= abs(y - y0):
            side = 0.1 if x > x0 else -0.1
            tip = [(x, y), (x - side, y + 0.045), (x - side, y - 0.045)]
        else:
            side = 0.1 if y > y0 else -0.1
            tip = [(x, y), (x - 0.045, y - side), (x + 0.045, y - side)]
        ax.add_patch(Polygon(tip, closed=True, facecolor=INK if used else MUTED, edgecolor="none", zorder=3))
    drawing.lines.append((points, used))


def _legend(figure: Figure, x: float, y: float) -> None:
    entries: list[Any] = [Patch(facecolor=colour, label=f"{name} branch, runs") for name, colour in COLOURS.items()]
    entries.append(
        Line2D([], [], color=MUTED, linewidth=0.9, linestyle=UNUSED, label="stored or left out, does not run")
    )
    note = "IR: inverted residual block of MobileNetV2. ch: channels of the output, then its size."
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "ncols": 3, "labelcolor": INK}
    legend = figure.legend(
        handles=entries, loc="lower left", bbox_to_anchor=(x, y), title=note, borderaxespad=0, **style
    )
    legend.set_alignment("left")
    legend.get_title().set(fontsize=9, color=MUTED)
