"""The scores of a verification: where both sides lie, and what every threshold would give (scores.json)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .curves import BLUE, ORANGE
from .numbers import entry, number
from .palette import INK, MUTED, PAPER


def scores_figure(found: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> Figure | None:
    """Histograms of both sides, and both error rates over each other; None if the file holds neither.

    Args:
        found: the content of scores.json.
        baseline: the same of random search, whose error rates are drawn beside.
    """
    histogram, curve = _histogram(found), _curve(found)
    if histogram is None or curve is None:
        return None
    figure = Figure(figsize=(8.6, 3.3), facecolor=PAPER, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_histogram(left, found, *histogram)
    _draw_rates(right, found, curve, _curve(baseline) if baseline else None)
    return figure


def _draw_histogram(
    ax: Axes, found: Mapping[str, Any], edges: np.ndarray, sides: tuple[np.ndarray, np.ndarray]
) -> None:
    looks = ((BLUE, 0.35, "-"), (ORANGE, 0.15, (0, (2, 1))))  # which differ in print without colours too
    for key, shares, (colour, filled, dash) in zip(("positive", "negative"), sides, looks, strict=True):
        count = number(entry(found, "counts", key))
        label = f"{found.get(key)}" + (f" ({count:,.0f})" if count is not None else "")
        ax.stairs(shares, edges, fill=True, alpha=filled, facecolor=colour, edgecolor="none")
        ax.stairs(shares, edges, color=colour, linewidth=1.3, linestyle=dash, label=label)
    threshold = number(found.get("threshold"))
    if threshold is not None:
        ax.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)), label="threshold")
    ax.set_title("How the scores lie", fontsize=10, weight="bold", color=INK)
    ax.set_xlabel(str(found.get("score", "score")), fontsize=8.5, color=MUTED)
    ax.set_ylabel("share of each side", fontsize=8.5, color=MUTED)
    ax.set_ylim(0)
    _finish(ax)


def _draw_rates(ax: Axes, found: Mapping[str, Any], curve: Any, baseline: Any) -> None:
    """A detection error trade-off: near zero both axes tell more than those of a ROC curve would."""
    negatives = number(entry(found, "counts", "negative")) or 1
    floor = 1 / (2 * negatives)  # half of the smallest rate that these pairs can tell
    for label, rates, colour, dash in (
        ("random search", baseline, MUTED, (0, (4, 2))),
        ("this network", curve, BLUE, "-"),
    ):
        if rates is not None:
            style: dict[str, Any] = {"color": colour, "linewidth": 1.6, "linestyle": dash, "label": label}
            ax.step(np.maximum(rates[0], floor), rates[1], where="post", **style)
    diagonal = np.geomspace(floor, 1, 60)
    ax.plot(diagonal, diagonal, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)), label="equal errors")
    ax.set_xscale("log")
    ax.set_xlim(floor, 1)
    ax.set_ylim(0, min(1.0, max(0.2, 1.05 * float(curve[1][1:].max(initial=0.0)))))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.set_title("Both errors at every threshold", fontsize=10, weight="bold", color=INK)
    ax.set_xlabel(
        f"false acceptance: {found.get('negative')} taken as {found.get('positive')}", fontsize=8.5, color=MUTED
    )
    ax.set_ylabel("false rejection", fontsize=8.5, color=MUTED)
    _finish(ax)


def _finish(ax: Axes) -> None:
    ax.tick_params(colors=MUTED, labelsize=8)
    ax.set_facecolor(PAPER)
    ax.grid(color=MUTED, alpha=0.2, linewidth=0.6)
    for name, spine in ax.spines.items():
        spine.set(color=MUTED, linewidth=0.6, visible=name in ("left", "bottom"))
    # below, where no curve can be: of few pictures the curves fill the whole panel
    ax.legend(fontsize=7.5, frameon=False, labelcolor=INK, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def _histogram(found: Mapping[str, Any]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]] | None:
    edges = _numbers(entry(found, "histogram", "edges"))
    sides = tuple(_numbers(entry(found, "histogram", key)) for key in ("positive", "negative"))
    if edges is None or any(side is None or len(side) != len(edges) - 1 for side in sides):
        return None
    return edges, (sides[0], sides[1])  # type: ignore[return-value]


def _curve(found: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    far, frr = (_numbers(entry(found, "roc", key)) for key in ("far", "frr"))
    return None if far is None or frr is None or len(far) != len(frr) or not len(far) else (far, frr)


def _numbers(values: Any) -> np.ndarray | None:
    """A list of finite numbers as an array; None for anything else."""
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        return None
    array = np.array(values, dtype=float)
    return array if np.isfinite(array).all() else None
