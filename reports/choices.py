"""How a search among sizes, gates and branches moved: the share of each candidate of each choice over the epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .distribution import SOURCES, floats_or_nan, stack_shares
from .numbers import number
from .palette import PAPER, text_colour

COLUMNS, PANEL = 4, 1.25  # panels in a row; inches of its height
READABLE = 0.09  # share from which a candidate's name fits into its band


def is_by_choice(history: Sequence[Mapping[str, Any]], choices: Mapping[str, Any]) -> bool:
    """Whether the probabilities of a search are those of the choices themselves, not of edges between nodes."""
    keys = {key for line in history if isinstance(line.get("probabilities"), Mapping) for key in line["probabilities"]}
    return bool(keys) and keys <= set(choices)


def choices_figure(history: Sequence[Mapping[str, Any]], choices: Mapping[str, Any]) -> Figure | None:
    """A panel for each choice with more than one candidate; None if no epoch has probabilities by name.

    Args:
        history: the lines of architectures.jsonl.
        choices: of the architecture that was found.
    """
    lines = [line for line in history if isinstance(line.get("probabilities"), Mapping)]
    names: Mapping[str, Any] = next(
        (line["names"] for line in reversed(lines) if isinstance(line.get("names"), Mapping)), {}
    )
    labels = [label for label in choices if isinstance(names.get(label), list) and len(names[label]) > 1]
    if not labels:
        return None
    rows = -(-len(labels) // COLUMNS)
    figure = Figure(figsize=(8.6, rows * PANEL + 0.3), facecolor=PAPER, layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    epochs = np.array([number(line.get("epoch")) or i for i, line in enumerate(lines)])
    for ax, label in zip(grid.flat, labels, strict=False):
        own = [str(name) for name in names[label]]
        colours = [SOURCES[i % len(SOURCES)] for i in range(len(own))]
        values = np.array([floats_or_nan(line["probabilities"].get(label), len(own)) for line in lines], dtype=float)
        stack_shares(ax, epochs, values, colours, label.replace("_", " "), str(choices[label]))
        _name_bands(ax, values[-1], own, colours)
    for ax in list(grid.flat)[len(labels) :]:
        ax.set_axis_off()
    for column in grid.T:
        shown = [ax for ax in column if ax.axison]
        for ax in shown:
            ax.tick_params(labelbottom=ax is shown[-1])
    return figure


def _name_bands(ax: Axes, shares: np.ndarray, names: Sequence[str], colours: Sequence[str]) -> None:
    """Each candidate's name in its band at the last epoch, where there is room."""
    bottom = 0.0
    for share, name, colour in zip(np.nan_to_num(shares), names, colours, strict=True):
        if share >= READABLE:
            style: dict[str, Any] = {"size": 7, "ha": "right", "va": "center", "color": text_colour(colour)}
            ax.text(0.97, bottom + share / 2, name, transform=ax.transAxes, **style)
        bottom += share
