"""Error, or merit, against cost: which networks no other one beats in both, and the figure that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .palette import INK, MUTED, OPERATIONS, PAPER

FRONT, DRAWN, PLAIN = OPERATIONS["max_pool_3x3"], OPERATIONS["sep_conv_5x5"], INK
POINTS = 9.0  # of all text: readable where the figure is one column of a page
SIZE = (5.6, 4.5)  # inches
NARROW = 5.0  # inches below which labels are broken into lines and the legend has one column
PER_INCH = 12  # characters of a label that fit an inch
# where a label may stand, nearest first: how far from its point, in points, and in which direction
PLACES = [(far, angle) for far in (9, 18, 30, 44) for angle in (45, 135, 315, 225, 0, 180, 90, 270, 20, 160, 340, 200)]
LEADER = 15  # points from which on a thin line joins a label to its point


@dataclass(frozen=True)
class Point:
    """A network: its cost and its error (or merit), each with the ends of its interval, and how it is shown.

    Attributes:
        name: of the network.
        x: cost, for example milliseconds; ``x_low`` and ``x_high`` its spread.
        y: error or merit as a fraction; ``y_low`` and ``y_high`` its interval.
        kind: how it is marked: ``drawn`` (in training, or found), ``never`` drawn, or ``reference``.
        labelled: whether its name is written even where it is not on the front.
    """

    name: str
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    kind: str = "drawn"
    labelled: bool = True


def pareto_front(points: Sequence[Point], higher: bool = False) -> list[Point]:
    """The points that no other one beats: none is as good in both and better in one. In the order of their cost.

    Args:
        points: the networks.
        higher: whether more of y is better.
    """
    sign = -1.0 if higher else 1.0
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, sign * point.y)):
        equal = bool(front) and (front[-1].x, front[-1].y) == (point.x, point.y)
        if equal or not front or sign * point.y < sign * front[-1].y:
            front.append(point)
    return front


STYLES: dict[str, dict[str, Any]] = {
    "drawn": {"marker": "o", "markersize": 7, "markerfacecolor": DRAWN, "markeredgecolor": DRAWN},
    "never": {"marker": "o", "markersize": 7, "markerfacecolor": PAPER, "markeredgecolor": DRAWN},
    "reference": {"marker": "D", "markersize": 8, "markerfacecolor": PLAIN, "markeredgecolor": PLAIN},
}


def error_figure(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    names: dict[str, str],
    higher: bool = False,
    size: tuple[float, float] = SIZE,
) -> Figure | None:
    """Points with their intervals, the front among them, and a legend; None without points.

    Args:
        points: the networks.
        x_label: the cost with its unit and conditions.
        y_label: the error with its definition.
        names: what the legend calls each kind.
        higher: whether y is a merit, such as an average precision; its axis need not begin at 0.
        size: width and height in inches.
    """
    if not points:
        return None
    front = pareto_front(points, higher)
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    ax = figure.subplots()
    _draw_front(ax, front)
    for point in points:
        _draw_point(ax, point, strong=point.labelled or point in front)
    columns, longest = (1, int(PER_INCH * size[0])) if size[0] < NARROW else (2, 1000)
    _style(ax, _broken(x_label, longest), y_label)
    if not higher:
        ax.set_ylim(bottom=0)
    kinds = [kind for kind in STYLES if any(point.kind == kind for point in points)]
    entries = [Line2D([], [], linestyle="none", label=names[kind], **STYLES[kind]) for kind in kinds]
    entries.append(Line2D([], [], color=FRONT, linewidth=2, label="Pareto front of the measured values"))
    figure.legend(
        handles=entries, loc="outside lower left", ncols=columns, frameon=False, fontsize=POINTS, labelcolor=INK
    )
    _label(figure, ax, points, [point for point in points if point.labelled or point in front])
    return figure


def _broken(label: str, longest: int) -> str:
    return "\n".join(part for line in label.splitlines() for part in wrap(line, longest))


def _draw_point(ax: Axes, point: Point, strong: bool) -> None:
    """A marker with its bars; smaller and paler where it has no name."""
    style: dict[str, Any] = {**STYLES[point.kind], "ecolor": MUTED, "linestyle": "none"}
    style |= {"elinewidth": 1.1, "capsize": 2, "zorder": 3}
    if not strong:
        style |= {"markersize": 4.5, "elinewidth": 0.6, "capsize": 0, "alpha": 0.55, "zorder": 2}
    x_bar = np.maximum([[point.x - point.x_low], [point.x_high - point.x]], 0)
    y_bar = np.maximum([[point.y - point.y_low], [point.y_high - point.y]], 0)
    ax.errorbar([point.x], [point.y], xerr=x_bar, yerr=y_bar, **style)


def _draw_front(ax: Axes, front: Sequence[Point]) -> None:
    """Steps: at a cost, the least error that is to be had."""
    x, y = [point.x for point in front], [point.y for point in front]
    ax.step(x, y, where="post", color=FRONT, linewidth=2, zorder=1)
    rings: dict[str, Any] = {
        "marker": "o",
        "markersize": 13,
        "markerfacecolor": "none",
        "markeredgecolor": FRONT,
        "markeredgewidth": 1.8,
    }
    ax.plot(x, y, linestyle="none", zorder=4, **rings)


def _style(ax: Axes, x_label: str, y_label: str) -> None:
    ax.set_xlabel(x_label, color=INK, fontsize=POINTS)
    ax.set_ylabel(y_label, color=INK, fontsize=POINTS)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    ax.margins(x=0.1)
    ax.set_facecolor(PAPER)
    ax.tick_params(colors=MUTED, labelsize=POINTS)
    ax.grid(True, color=MUTED, alpha=0.2, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)


def _label(figure: Figure, ax: Axes, points: Sequence[Point], labelled: Sequence[Point]) -> None:
    """Names beside their points, where they cover the fewest other points, bars and names."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer, frame = canvas.get_renderer(), ax.get_window_extent()
    taken = [_bars(ax, point) for point in points]
    obstacles = [edges for pair in taken for edges in pair]
    centres = {point: ax.transData.transform((point.x, point.y)) for point in points}
    for point in labelled:
        found = []
        for rank, place in enumerate(PLACES):
            text = _annotate(ax, point, *place)
            box = text.get_window_extent(renderer)
            text.remove()
            edges = (box.x0, box.y0, box.x1, box.y1)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 + 4 or box.y0 < frame.y0 or box.y1 > frame.y1
            middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
            nearest = min(points, key=lambda other: np.hypot(*(centres[other] - middle)))
            astray = nearest is not point and place[0] < LEADER  # it would be read as the name of another point
            cost = sum(_area(edges, other) for other in obstacles) + 1e6 * outside + 1e3 * astray + 4 * rank
            found.append((cost, place, edges))
        _, place, edges = min(found)
        _annotate(ax, point, *place)
        obstacles.append(edges)


def _annotate(ax: Axes, point: Point, far: float, angle: float) -> Any:
    right, up = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    style: dict[str, Any] = {
        "ha": "left" if right > 0.1 else "right" if right < -0.1 else "center",
        "va": "bottom" if up > 0.5 else "top" if up < -0.5 else "center",
    }
    if far >= LEADER:
        style["arrowprops"] = {"arrowstyle": "-", "color": INK, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
    offset = (far * right, far * up)
    style |= {"fontsize": POINTS, "color": INK, "weight": "bold", "zorder": 5}
    text = ax.annotate(point.name, (point.x, point.y), offset, textcoords="offset points", **style)
    text.set_path_effects([withStroke(linewidth=3, foreground=PAPER)])  # over bars that it has to cross
    return text


def _bars(ax: Axes, point: Point) -> list[tuple[float, float, float, float]]:
    """The marker with its bars, as two thin rectangles in pixels."""
    corners = ax.transData.transform(
        [(point.x_low, point.y), (point.x_high, point.y), (point.x, point.y_low), (point.x, point.y_high)]
    )
    (x0, y), (x1, _), (x, y0), (_, y1) = corners
    half = 6.0
    return [(min(x0, x - half), y - half, max(x1, x + half), y + half), (x - 2, y0, x + 2, y1)]


def _area(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)
