"""What drawings are made of: rounded boxes with text in them, in inches."""

from __future__ import annotations

import functools
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.textpath import TextPath


@functools.cache
def text_width(text: str, points: float) -> float:
    """Width of a text in inches."""
    font = FontProperties(family="DejaVu Sans")
    return float(TextPath((0, 0), text, size=points, prop=font).get_extents().width / 72)


def add_box(
    ax: Axes,
    edges: tuple[float, float, float, float],
    face: str,
    edge: str,
    width: float,
    rounding: float,
    **style: Any,
) -> None:
    """A rounded box over the lines; ``edges`` are left, bottom, right, top."""
    left, bottom, right, top = edges
    shape = f"round,pad=0,rounding_size={rounding}"
    corner, size = (left, bottom), (right - left, top - bottom)
    patch = FancyBboxPatch(corner, *size, shape, facecolor=face, edgecolor=edge, linewidth=width)
    patch.set(**{"zorder": 4, **style})
    ax.add_patch(patch)


def add_text(ax: Axes, x: float, y: float, text: str, size: float, colour: str, **style: Any) -> Text:
    """A text centred at a point, over the boxes."""
    return ax.text(x, y, text, size=size, color=colour, ha="center", va="center_baseline", zorder=5, **style)
