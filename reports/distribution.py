"""How a search moved: for every edge of a cell, the shares of its operations over the epochs, as small multiples.

A panel's row is the node that its edge comes from, its column the node that it goes to, so the triangle of panels is
the cell itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from .numbers import number
from .palette import INK, MUTED, PAPER, operation_colour

_EDGE = re.compile(r"(.+)/(\d+)_(\d+)")
_WEIGHTS = re.compile(r"(.+)/beta_(\d+)")
SOURCES = ("#1b7f79", "#e0a458", "#7b6cc4", "#c8553d", "#86a873", "#4d5a6a")  # of edge weights: no operation's colour
_INPUTS = ("$c_{k-2}$", "$c_{k-1}$")


def distribution_figure(history: Sequence[Mapping[str, Any]], choices: Mapping[str, Any]) -> Figure | None:
    """All edges of all cells; None if no epoch has probabilities.

    Args:
        history: the lines of architectures.jsonl.
        choices: of the architecture that was found; its edges get a bold frame.
    """
    lines = [line for line in history if isinstance(line.get("probabilities"), Mapping)]
    names = next((line.get("operations") for line in lines), None)
    operations = [str(name) for name in names] if isinstance(names, list) else []
    edges, weights = _series(lines, _EDGE, len(operations)), _series(lines, _WEIGHTS, None)
    cells = list(dict.fromkeys(cell for cell, *_ in edges))
    if not operations or not cells:
        return None
    epochs = np.array([number(line.get("epoch")) or i for i, line in enumerate(lines)])
    heights = [_rows(edges, weights, cell) * 0.92 + 0.8 for cell in cells]
    figure = Figure(figsize=(8.6, sum(heights)), facecolor=PAPER, layout="constrained")
    parts = figure.subfigures(len(cells), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, cell in zip(parts, cells, strict=True):
        part.set_facecolor(PAPER)
        _draw_cell(part, cell, epochs, edges, weights, operations, choices)
    return figure


Series = dict[tuple[str, ...], np.ndarray]


def _series(lines: Sequence[Mapping[str, Any]], pattern: re.Pattern[str], length: int | None) -> Series:
    """Values by the parts of their name, ``(epochs, values)``; what is missing or of another length is NaN."""
    matches = {key: match for line in lines for key in line["probabilities"] if (match := pattern.fullmatch(str(key)))}
    series: Series = {}
    for key, match in matches.items():
        size = int(match[2]) if length is None else length
        rows = [floats_or_nan(line["probabilities"].get(key), size) for line in lines]
        series[match.groups()] = np.array(rows, dtype=float).reshape(len(lines), size)
    return series


def floats_or_nan(values: Any, size: int) -> list[float]:
    """The values of a list of that size; NaN for all of anything else."""
    numbers = [number(value) for value in values] if isinstance(values, list) else []
    if len(numbers) != size or any(value is None for value in numbers):
        return [float("nan")] * size
    return [value or 0.0 for value in numbers]


def _targets(edges: Series, cell: str) -> list[int]:
    return sorted({int(target) for name, _, target in edges if name == cell})


def _rows(edges: Series, weights: Series, cell: str) -> int:
    return max(_targets(edges, cell)) + any(name == cell for name, _ in weights)


def _draw_cell(
    part: SubFigure,
    cell: str,
    epochs: np.ndarray,
    edges: Series,
    weights: Series,
    operations: list[str],
    choices: Mapping[str, Any],
) -> None:
    titles = {"normal": "Normal cell", "reduce": "Reduction cell"}
    part.suptitle(
        f"{titles.get(cell, cell)}: share of each operation", x=0.01, ha="left", size=11, weight="bold", color=INK
    )
    targets, rows = _targets(edges, cell), _rows(edges, weights, cell)
    grid = part.subplots(rows, len(targets), squeeze=False, sharex=True, sharey=True)
    kept = kept_operations(choices, cell)
    for column, target in enumerate(targets):
        for row in range(rows):
            ax = grid[row, column]
            values = edges.get((cell, str(row), str(target)))
            if row == rows - 1 and (cell, str(target)) in weights:
                shades = [SOURCES[i % len(SOURCES)] for i in range(target)]
                stack_shares(ax, epochs, weights[cell, str(target)], shades, f"β of node {target}", None)
            elif values is not None and row < target:
                colours = [operation_colour(operation) for operation in operations]
                stack_shares(ax, epochs, values, colours, f"{_node(row)} → {target}", kept.get((row, target)))
            else:
                ax.set_axis_off()
            above_nothing = row == rows - 1 or (row == target - 1 and rows == max(targets))
            ax.tick_params(labelbottom=above_nothing)
    _legends(part, grid, operations, rows if any(name == cell for name, _ in weights) else 0)


def stack_shares(
    ax: Axes, epochs: np.ndarray, values: np.ndarray, colours: list[str], title: str, chosen: str | None
) -> None:
    """Stacked shares; each epoch holds until the next, so that one epoch alone is visible too."""
    step = epochs[-1] - epochs[-2] if len(epochs) > 1 else 1.0
    x = np.append(epochs, epochs[-1] + step)
    top = np.nancumsum(np.vstack([values, values[-1:]]), axis=1)
    bottom = np.zeros(len(x))
    for layer, colour in enumerate(colours):
        ax.fill_between(x, bottom, top[:, layer], step="post", facecolor=colour, edgecolor="none", linewidth=0)
        bottom = top[:, layer]
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(0, 1)
    ax.set_yticks([])
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    ax.tick_params(colors=MUTED, labelsize=7, length=2)
    ax.set_facecolor(PAPER)
    style: dict[str, Any] = {"color": INK, "weight": "bold"} if chosen else {"color": MUTED}
    ax.set_title(f"{title}:  {chosen}" if chosen else title, fontsize=7.5, loc="left", pad=3.5, **style)
    for spine in ax.spines.values():
        spine.set(color=INK if chosen else MUTED, linewidth=2.2 if chosen else 0.5)


def kept_operations(choices: Mapping[str, Any], cell: str) -> dict[tuple[int, int], str]:
    """The operation of each edge that the found architecture keeps."""
    kept = {}
    for key, sources in choices.items():
        match = re.fullmatch(rf"{re.escape(cell)}/input_(\d+)", str(key))
        if match and isinstance(sources, list):
            for slot, source in enumerate(sources):
                if isinstance(source, int):
                    kept[source, int(match[1])] = str(choices.get(f"{cell}/op_{match[1]}_{slot}"))
    return kept


def _node(index: int) -> str:
    return _INPUTS[index] if index < len(_INPUTS) else str(index)


def _legends(part: SubFigure, grid: np.ndarray, operations: list[str], beta_rows: int) -> None:
    """In the empty lower left corner of the triangle where there is one, else below."""
    entries = [Patch(facecolor=operation_colour(name), label=name) for name in operations]
    entries.append(Patch(facecolor="none", edgecolor=INK, linewidth=2, label="edge kept in the result"))
    room = grid[2, 0] if len(grid) > 2 and not grid[2, 0].axison else None
    style: dict[str, Any] = {"fontsize": 7.5, "frameon": False, "labelcolor": INK}
    if room is not None:
        as_stacked = [*entries[-2::-1], entries[-1]]  # from the top band to the lowest: told without colours too
        legend = room.legend(
            handles=as_stacked, loc="upper left", bbox_to_anchor=(-0.02, 1.15), borderaxespad=0, **style
        )
        legend.set_in_layout(False)  # it hangs over empty panels and must not stretch its own
    else:
        part.legend(handles=entries, loc="outside lower left", ncols=4, **style)
    if beta_rows:
        sources = [Patch(facecolor=SOURCES[i % len(SOURCES)], label=f"from {_node(i)}") for i in range(beta_rows - 1)]
        title = "edge weights β: how much of a node comes from where"
        legend = part.legend(
            handles=sources, loc="outside lower left", ncols=6, title=title, title_fontsize=7.5, **style
        )
        legend.set_alignment("left")
        legend.get_title().set_color(MUTED)
