"""Curves over epochs, and the candidates of a random search."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .palette import INK, MUTED, OPERATIONS, PAPER

BLUE, ORANGE, GREEN = OPERATIONS["sep_conv_5x5"], OPERATIONS["max_pool_3x3"], OPERATIONS["skip_connect"]
Line = tuple[str, str, str]  # column, what the legend calls it, colour

Panel = tuple[str, str, Sequence[Line]]  # title, scale, lines
COLLAPSE: Panel = (
    "Is it collapsing?",
    "share",
    [("skip_share", "derived edges: skip_connect", GREEN), ("none_share", "edges: none leads", MUTED)],
)
SEARCH_PANELS: list[Panel] = [
    ("Loss", "loss", [("train_loss", "training", BLUE), ("val_loss", "validation", ORANGE)]),
    (
        "Accuracy of the supernet",
        "share",
        [("val_accuracy", "validation", ORANGE), ("train_accuracy", "training", BLUE)],
    ),
    ("Has the search decided?", "share", [("entropy", "entropy (100 %: undecided)", BLUE)]),
    COLLAPSE,
    ("MACs of the derived network, millions", "millions", [("derived_macs", "", BLUE)]),
]
REFERENCE = "reference_"  # before a column's name: the same of the plain network that was trained beside it
SAMPLED_PANELS: list[Panel] = [
    ("Loss", "loss", [("train_loss", "training, sampled", BLUE), ("val_loss", "validation", ORANGE)]),
    ("Accuracy of the sampled paths", "share", [("train_accuracy", "training", BLUE)]),
    (
        "Validation equal error rate",
        "share",
        [("val_eer", "sampled training", ORANGE), (f"{REFERENCE}val_eer", "MobileNetV2 alone", INK)],
    ),
    (
        "Validation AUC",
        "auc",
        [("val_auc", "sampled training", GREEN), (f"{REFERENCE}val_auc", "MobileNetV2 alone", INK)],
    ),
    ("Learning rate", "count", [("learning_rate", "", MUTED)]),
]
DRAWN = "drawn_"  # before a configuration's name: how often an epoch drew it
DRAWN_COLOURS = list(OPERATIONS.values())[1:]
DASHES = ["-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1))]
TRAINING_PANELS: list[Panel] = [
    ("Loss", "loss", [("train_loss", "training", BLUE), ("val_loss", "validation", ORANGE)]),
    ("Validation equal error rate", "share", [("val_eer", "EER", ORANGE)]),
    ("Validation AUC", "auc", [("val_auc", "AUC", GREEN)]),
    (
        "Validation average precision",
        "share",
        [
            ("val_ap", "this network", GREEN),
            ("random_val_ap", "random AutoFEM", ORANGE),
            ("without_val_ap", "without AutoFEM", INK),
        ],
    ),
    ("Learning rate", "count", [("learning_rate", "", MUTED)]),
]
FOLLOWED = {"val_auc": "AUC", "val_ap": "AP"}  # columns by which a search chooses candidates


def is_random_search(table: pd.DataFrame) -> bool:
    """Whether the rows are candidates, not epochs."""
    return "candidate" in table


def is_sampled(table: pd.DataFrame) -> bool:
    """Whether the rows are epochs of a training of sampled paths, which no operation competes in."""
    return bool(_drawn_columns(table)) or ("val_eer" in table and "entropy" not in table)


def search_figure(
    table: pd.DataFrame,
    warnings: Iterable[int] = (),
    reference: pd.DataFrame | None = None,
    can_collapse: bool = True,
) -> Figure | None:
    """The course of a search; None if the table holds nothing to draw.

    Args:
        table: search.csv.
        warnings: epochs at which the guard against collapse spoke.
        reference: training.csv of the plain network that was trained beside a sampled training.
        can_collapse: whether skip_connect or none are among the operations.
    """
    if is_random_search(table):
        return candidates_figure(table)
    if is_sampled(table):
        return _panels(_with_reference(_as_shares(table), reference), [*SAMPLED_PANELS, *_drawn_panel(table)], [])
    return _panels(table, [each for each in SEARCH_PANELS if can_collapse or each is not COLLAPSE], list(warnings))


def training_figure(table: pd.DataFrame, beside: Mapping[str, pd.DataFrame] | None = None) -> Figure | None:
    """The training of the final network; None if the table holds nothing to draw.

    Args:
        table: training.csv.
        beside: the same of networks that were trained as this one was, by the prefix of their columns here.
    """
    for prefix, other in (beside or {}).items():
        table = _with_reference(table, other, f"{prefix}_")
    return _panels(table, TRAINING_PANELS, [])


def candidates_figure(table: pd.DataFrame) -> Figure | None:
    """Random search: each candidate's figure by which it chooses (`FOLLOWED`) over its MACs, and the best so far."""
    column = next((name for name in FOLLOWED if name in table and table[name].notna().any()), None)
    if column is None:
        return None
    table, merit = table.dropna(subset=[column]), FOLLOWED[column]
    best = int(table[column].to_numpy().argmax())
    figure = Figure(figsize=(8.0, 3.4), facecolor=PAPER, layout="constrained")
    left, right = figure.subplots(1, 2)
    if "macs" in table and table["macs"].notna().any():
        left.scatter(table["macs"] / 1e6, table[column], s=34, color=BLUE, alpha=0.75, linewidth=0)
        chosen = table.iloc[best]
        ring = {"s": 110, "facecolor": "none", "edgecolor": ORANGE, "linewidth": 2}
        left.scatter([chosen["macs"] / 1e6], [chosen[column]], **ring)
        left.margins(0.12)  # so that the ring is not cut
    _style(left, f"Candidates: {merit} over cost (ringed: the best)", "MACs of the candidate, millions")
    tried = np.arange(1, len(table) + 1)
    right.scatter(tried, table[column], s=18, color=BLUE, alpha=0.5, linewidth=0, label="candidate")
    right.step(tried, table[column].cummax(), where="post", color=ORANGE, linewidth=2, label="best so far")
    _style(right, "Best so far", "candidates tried")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(right)
    for ax in (left, right):
        ax.set_ylabel(f"validation {merit} (higher is better)", color=MUTED, fontsize=8)
    return figure


def _drawn_columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table if str(name).startswith(DRAWN)]


def _drawn_panel(table: pd.DataFrame) -> list[Panel]:
    names = _drawn_columns(table)
    lines = [
        (name, name.removeprefix(DRAWN), DRAWN_COLOURS[i % len(DRAWN_COLOURS)]) for i, name in enumerate(names[:12])
    ]
    return [("How often each configuration was drawn", "part", lines)] if lines else []


def _as_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Counts of draws as shares of their epoch."""
    names = _drawn_columns(table)
    table = table.copy()
    table[names] = table[names].div(table[names].sum(axis="columns").replace(0, np.nan), axis="index")
    return table


def _with_reference(table: pd.DataFrame, reference: pd.DataFrame | None, prefix: str = REFERENCE) -> pd.DataFrame:
    """The columns of a second training beside those of the first, by epoch."""
    if reference is None or "epoch" not in table or "epoch" not in reference:
        return table
    other = reference.drop_duplicates("epoch").set_index("epoch").add_prefix(prefix)
    return table.join(other, on="epoch")


def _panels(table: pd.DataFrame, panels: list[Panel], warnings: list[int]) -> Figure | None:
    drawn = [panel for panel in panels if any(c in table and table[c].notna().any() for c, _, _ in panel[2])]
    if not drawn:
        return None
    rows = -(-len(drawn) // 2)
    figure = Figure(figsize=(8.0, 2.5 * rows + 0.1), facecolor=PAPER, layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, 2)).ravel()
    for ax in axes[len(drawn) :]:
        ax.remove()
    x = table["epoch"] if "epoch" in table else pd.Series(range(len(table)))
    for ax, (title, kind, lines) in zip(axes, drawn, strict=False):
        _draw_panel(ax, table, x, lines)
        for epoch in warnings:
            named = epoch == warnings[0] and any(column == "skip_share" for column, _, _ in lines)
            ax.axvline(epoch, color=ORANGE, linewidth=1, linestyle=":", label="guard warns" if named else None)
        _style(ax, title, "epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if kind == "millions":
            ax.yaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}")
        elif kind == "count":
            ax.set_ylim(bottom=0)
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        elif kind == "part":
            ax.set_ylim(0, 1.5 * ax.dataLim.y1)  # the legend stands above the lines
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        elif kind in ("share", "auc"):
            _set_share_scale(ax, table, [column for column, _, _ in lines], in_percent=kind == "share")
        _legend(ax, 3 if kind == "part" else 1)
    return figure


def _draw_panel(ax: Axes, table: pd.DataFrame, x: Any, lines: Sequence[Line]) -> None:
    for (column, label, colour), dash in zip(lines, itertools.cycle(DASHES), strict=False):
        if column in table and table[column].notna().any():
            marker = "o" if table[column].notna().sum() < 3 else None  # one or two points make no line
            ax.plot(x, table[column], linestyle=dash, color=colour, linewidth=1.8, marker=marker, label=label or None)


def _set_share_scale(ax: Axes, table: pd.DataFrame, columns: list[str], in_percent: bool) -> None:
    """Shares keep 0 to 100 % unless an accuracy or error fills too little of it to be read."""
    values = table[[column for column in columns if column in table]].to_numpy(dtype=float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low >= 0.5 and columns != ["entropy"]:
        ax.set_ylim(0.5, 1.01)
    elif high <= 0.5 and columns[0] == "val_eer":
        ax.set_ylim(0, 0.52)
    else:
        ax.set_ylim(-0.02, 1.02)
    if in_percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))


def _style(ax: Axes, title: str, x_label: str) -> None:
    ax.set_title(title, loc="left", fontsize=9.5, color=INK, weight="bold")
    ax.set_xlabel(x_label, color=MUTED, fontsize=8)
    ax.set_facecolor(PAPER)
    ax.tick_params(colors=MUTED, labelsize=8)
    ax.grid(True, axis="y", color=MUTED, alpha=0.22, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)


def _legend(ax: Axes, columns: int = 1) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(handles, labels, fontsize=8, frameon=False, labelcolor=INK, ncols=columns)
