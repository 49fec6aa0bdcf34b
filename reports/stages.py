"""A network that is a chain of stages: each a box as wide as its channels are many, from the picture to its answer.

Drawing starts from the graph of `Architecture.graph()` alone: nodes in a row with ``kind`` (input, stage, output),
``label``, ``channels``, ``size`` and ``repeats``; the graph's ``note`` stands below.
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
from matplotlib.figure import Figure

from .palette import INK, MUTED, NODE, PAPER
from .strokes import add_box, text_width

ROW, BOX, POINTS = 0.52, 0.34, 9.0  # inches: from box to box, height of a box; size of its text
WIDTH, MIDDLE = 7.2, 3.55  # inches: of the figure, and where the boxes are centred
NARROWEST, WIDEST = 1.1, 4.3  # inches: of a box
SHADOWS, SHIFT = 2, 0.055  # boxes at most behind one that stands for several, and how far each is moved


def has_stages(graph: nx.MultiDiGraph) -> bool:
    """Whether a graph is such a chain."""
    kinds = {kind for _, kind in graph.nodes(data="kind")}
    return kinds == {"input", "stage", "output"} and all("size" in facts for _, facts in graph.nodes(data=True))


def stages_figure(graph: nx.MultiDiGraph) -> Figure:
    """The chain from top to bottom: size of the map, what is computed, channels."""
    nodes = [facts for _, facts in graph.nodes(data=True)]
    note = graph.graph.get("note")
    height = ROW * len(nodes) + (0.75 if note else 0.45)
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, height))
    ax.set_axis_off()
    most = max(math.log2(1 + facts["channels"]) for facts in nodes)
    top = height - 0.42
    for x, heading, side in ((1.12, "size", "right"), (MIDDLE, "layers", "center"), (6.1, "channels", "left")):
        ax.text(x, height - 0.14, heading, size=8, color=MUTED, ha=side, va="center")
    for place, facts in enumerate(nodes):
        y = top - ROW * place
        if place:
            arrow = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (MIDDLE, y + BOX / 2), (MIDDLE, y + ROW - BOX / 2), arrowprops=arrow)
        share = math.log2(1 + facts["channels"]) / most
        width = max(NARROWEST + (WIDEST - NARROWEST) * share, text_width(facts["label"], POINTS) + 0.25)
        left, shadows = MIDDLE - width / 2, min(SHADOWS, facts["repeats"] - 1)
        for shadow in range(shadows, -1, -1):
            move = SHIFT * shadow
            edges = (left + move, y - BOX / 2 - move, left + width + move, y + BOX / 2 - move)
            add_box(ax, edges, NODE, INK, 0.8, 0.06, zorder=4 - shadow * 0.1)
        style: dict[str, Any] = {"size": POINTS, "color": INK, "zorder": 6, "va": "center_baseline"}
        ax.text(MIDDLE, y, facts["label"], ha="center", **style)
        ax.text(1.12, y, facts["size"], ha="right", **{**style, "color": MUTED})
        ax.text(6.1, y, f"{facts['channels']:,}", ha="left", **{**style, "color": MUTED})
    if note:
        ax.text(MIDDLE, 0.2, note, size=8.5, color=INK, ha="center", va="center")
    return figure
