"""Where a face is cut out of a picture, and how. Regions are x0, y0, x1, y1 in pixels, and may leave the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

Region = tuple[float, float, float, float]

# of a square face box around two eyes, as parts of their distance and of its side: our choice, no paper says
EYE_DISTANCES, EYE_LEVEL = 2.5, 0.38


def cut_region(picture: Image.Image, region: Sequence[float], size: int) -> np.ndarray:
    """A region scaled to ``size`` pixels a side, (3, size, size) uint8; beyond the edge its outermost pixels repeat.

    Args:
        picture: RGB, upright. region: has area inside the picture.
    """
    x0, y0, x1, y1 = region
    spans = []  # per axis: pixels of the result beyond either edge, and the span of the picture for those between
    for start, end, side in ((x0, x1, picture.width), (y0, y1, picture.height)):
        step = (end - start) / size  # picture pixels a pixel of the result
        before = max(0, math.ceil(-start / step - 1e-9))
        after = max(0, math.ceil((end - side) / step - 1e-9))
        spans.append((before, after, max(0.0, start + before * step), min(float(side), end - after * step)))
    (left, right, x0, x1), (top, bottom, y0, y1) = spans
    inside = (size - left - right, size - top - bottom)
    scaled = picture.resize(inside, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
    return np.pad(np.asarray(scaled).transpose(2, 0, 1), ((0, 0), (top, bottom), (left, right)), mode="edge")


def has_area(region: Sequence[float], width: int, height: int) -> bool:
    """Whether at least a quarter of a region's width and height lies inside a picture: less is no face."""
    x0, y0, x1, y1 = region
    across, down = min(x1, width) - max(x0, 0.0), min(y1, height) - max(y0, 0.0)
    return x1 > x0 and y1 > y0 and across >= 0.25 * (x1 - x0) and down >= 0.25 * (y1 - y0)


def eyes_region(x1: float, y1: float, x2: float, y2: float) -> Region | None:
    """The square face box of two eyes; None if they are at one place.

    >>> eyes_region(40, 38, 80, 38)
    (10.0, 0.0, 110.0, 100.0)
    """
    distance = math.hypot(x2 - x1, y2 - y1)
    if not (math.isfinite(distance) and distance >= 1.0):
        return None
    side = EYE_DISTANCES * distance
    left, top = (x1 + x2) / 2 - side / 2, (y1 + y2) / 2 - EYE_LEVEL * side
    return left, top, left + side, top + side


def square_region(x: float, y: float, width: float, height: float) -> Region | None:
    """The square with the centre and the longer side of a box; None for a box without area.

    >>> square_region(10, 0, 20, 40)
    (0.0, 0.0, 40.0, 40.0)
    """
    if not (all(map(math.isfinite, (x, y, width, height))) and width > 0 and height > 0):
        return None
    side = float(max(width, height))
    left, top = x + (width - side) / 2, y + (height - side) / 2
    return left, top, left + side, top + side


def enlarge(region: Region, factor: float) -> Region:
    """A region scaled about its centre.

    >>> enlarge((10.0, 0.0, 110.0, 100.0), 1.5)
    (-15.0, -25.0, 135.0, 125.0)
    """
    x0, y0, x1, y1 = region
    dx, dy = (x1 - x0) * (factor - 1) / 2, (y1 - y0) * (factor - 1) / 2
    return x0 - dx, y0 - dy, x1 + dx, y1 + dy
