"""How the search of a detector's pyramid and trees moved: shares over the epochs, as small multiples.

Of the pyramid a panel's column is the level, its row one of the level's edges, and below these the weights of its
paths. Of the trees a row is a level and a column a node: which parent, and which operation on the edge from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch

from .distribution import SOURCES, floats_or_nan, stack_shares
from .numbers import number
from .palette import INK, PAPER, operation_colour

PATHS = {"lateral": "lateral", "top_down": "top-down", "bottom_up": "bottom-up"}  # in the order of their weights
_EDGE = re.compile(r"fpn/(lateral|top_down|bottom_up)_(\d+)")
_TREE = re.compile(r"(cpm_\d+)/(\d+)_(\d+)")
PANEL, HEADING = 0.9, 1.15  # inches: a row of panels; a title with a legend


@dataclass(frozen=True)
class History:
    """The epochs that have probabilities, and the choices that were kept."""

    lines: Sequence[Mapping[str, Any]]
    choices: Mapping[str, Any]

    @property
    def epochs(self) -> np.ndarray:
        return np.array([number(line.get("epoch")) or i for i, line in enumerate(self.lines)])

    @property
    def keys(self) -> list[str]:
        return list(dict.fromkeys(str(key) for line in self.lines for key in line["probabilities"]))

    def values(self, key: str, size: int) -> np.ndarray:
        """``(epochs, size)``; NaN where an epoch has no such list."""
        rows = [floats_or_nan(line["probabilities"].get(key), size) for line in self.lines]
        return np.array(rows, dtype=float).reshape(len(self.lines), size)


def shares_figure(history: Sequence[Mapping[str, Any]], choices: Mapping[str, Any]) -> Figure | None:
    """The pyramid's panels, the trees' or both; None if no epoch has probabilities of either.

    Args:
        history: the lines of architectures.jsonl.
        choices: of the architecture that was found.
    """
    found = History([line for line in history if isinstance(line.get("probabilities"), Mapping)], choices)
    levels = sorted({int(match[2]) for key in found.keys if (match := _EDGE.fullmatch(key))})
    edges = [match for key in found.keys if (match := _TREE.fullmatch(key))]
    trees, nodes = sorted({match[1] for match in edges}), max((int(match[3]) for match in edges), default=0)
    parts: list[tuple[float, Callable[[SubFigure], None]]] = []
    if levels:
        parts.append((4 * PANEL + HEADING, lambda part: _draw_pyramid(part, found, levels)))
    if trees:
        parts.append((2 * len(trees) * PANEL + HEADING, lambda part: _draw_trees(part, found, trees, nodes)))
    if not parts:
        return None
    heights = [height for height, _ in parts]
    figure = Figure(figsize=(8.6, sum(heights)), facecolor=PAPER, layout="constrained")
    for part, (_, draw) in zip(
        figure.subfigures(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0], parts, strict=True
    ):
        part.set_facecolor(PAPER)
        draw(part)
    return figure


def _draw_pyramid(part: SubFigure, found: History, levels: list[int]) -> None:
    from searchspaces.autofem import FPN_OPERATIONS

    _heading(part, "Pyramid: share of each operation, and weights of a level's paths (β)")
    grid = part.subplots(len(PATHS) + 1, len(levels), squeeze=False, sharex=True, sharey=True)
    colours, epochs = [operation_colour(name) for name in FPN_OPERATIONS], found.epochs
    shades = dict(zip(PATHS, SOURCES, strict=False))
    for column, level in enumerate(levels):
        paths = [path for path in PATHS if f"fpn/{path}_{level}" in found.keys]
        for row, path in enumerate(PATHS):
            if path in paths:
                values = found.values(f"fpn/{path}_{level}", len(colours))
                kept = found.choices.get(f"fpn/{path}_{level}")
                _panel(grid[row, column], epochs, values, colours, f"{PATHS[path]} {level}", kept)
            else:
                grid[row, column].set_axis_off()
        weights = found.values(f"fpn/beta_{level}", len(paths))
        _panel(grid[-1, column], epochs, weights, [shades[path] for path in paths], f"β {level}", None)
    _show_epochs(grid)
    _legend(part, FPN_OPERATIONS, {f"β: {name}": shades[path] for path, name in PATHS.items()})


def _draw_trees(part: SubFigure, found: History, trees: list[str], nodes: int) -> None:
    from searchspaces.autofem import CPM_OPERATIONS

    _heading(part, "Trees: which parent a node has, and below it which operation leads from the parent that was kept")
    grid = part.subplots(2 * len(trees), nodes, squeeze=False, sharex=True, sharey=True)
    colours, epochs = [operation_colour(name) for name in CPM_OPERATIONS], found.epochs
    for index, tree in enumerate(trees):
        for node in range(1, nodes + 1):
            above, below = grid[2 * index : 2 * index + 2, node - 1]
            parent = 0 if node == 1 else found.choices.get(f"{tree}/input_{node}")
            weights = found.values(f"{tree}/beta_{node}", node)
            if node > 1:
                kept = None if parent is None else f"from node {parent}"
                _panel(above, epochs, weights, _shades(node), f"level {tree.removeprefix('cpm_')}, node {node}", kept)
            else:
                above.set_axis_off()
            values = found.values(f"{tree}/{parent}_{node}", len(colours))
            _panel(below, epochs, values, colours, f"{parent} → {node}", found.choices.get(f"{tree}/op_{node}"))
    _show_epochs(grid)
    _legend(part, CPM_OPERATIONS, {f"from node {node}": shade for node, shade in enumerate(_shades(nodes))})


def _shades(count: int) -> list[str]:
    return [SOURCES[i % len(SOURCES)] for i in range(count)]


def _panel(ax: Axes, epochs: np.ndarray, values: np.ndarray, colours: list[str], title: str, kept: Any) -> None:
    """Empty where no epoch has values; what was kept stands on a line of its own, for its name is long."""
    if np.isnan(values).all():
        ax.set_axis_off()
        return
    stack_shares(ax, epochs, values, colours, title, None)
    if kept is not None:
        ax.set_title(f"{title}\n{kept}", fontsize=6.5, loc="left", pad=2.5, color=INK)


def _show_epochs(grid: np.ndarray) -> None:
    """Epochs below the last panel of each column only."""
    for column in grid.T:
        shown = [ax for ax in column if ax.axison]
        for ax in shown:
            ax.tick_params(labelbottom=ax is shown[-1])


def _heading(part: SubFigure, text: str) -> None:
    part.suptitle(text, x=0.01, ha="left", size=10.5, weight="bold", color=INK)


def _legend(part: SubFigure, operations: Sequence[str], sources: Mapping[str, str]) -> None:
    colours = {name: operation_colour(name) for name in operations} | dict(sources)
    entries = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    style: dict[str, Any] = {"fontsize": 7, "frameon": False, "labelcolor": INK, "ncols": 6, "columnspacing": 1.0}
    part.legend(handles=entries, loc="outside lower left", **style)
