"""The protocol of FDDB: faces are ellipses, and found faces are counted against false positives.

From the technical report (Jain and Learned-Miller, UM-CS-2010-009, section 6) and its evaluation code. At every score
threshold, the detections of each picture are assigned to its faces one to one, so that the sum of their IoU is largest.
The discrete score of a pair is 1 if its IoU is above 0.5, the continuous score is its IoU. Both sums, divided by the
number of faces, are drawn over the number of false positives, which are the detections without a discrete score.
Regions end at the picture's edge. The evaluation code counts pixels; here, areas are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .wider import Array, Detection

FALSE_POSITIVES = 1000  # where published figures are read off


class FddbCurves(NamedTuple):
    """One entry for each score threshold, descending: ``(k,)`` each."""

    thresholds: Array
    false_positives: Array
    discrete: Array  # true positive rates
    continuous: Array


class FddbSteps(NamedTuple):
    """What each threshold of each picture adds to its sums, all pictures in the order of descending thresholds."""

    pictures: NDArray[np.int64]
    thresholds: Array
    false_positives: Array
    discrete: Array  # found faces, not yet divided
    continuous: Array
    faces: NDArray[np.int64]  # (N,) of each picture


def ellipse_box_area(ellipses: Array, boxes: Array) -> Array:
    """Area of the intersection of each ellipse with each box, exact.

    A map that makes the ellipse a unit disc makes the box a parallelogram. The area of a disc within a polygon is a sum
    over its sides of signed areas, each of a triangle with the centre where the side is inside the disc and of a
    sector where it is outside.

    Args:
        ellipses: ``(m, 5)``: major radius, minor radius, angle of the major axis (radians), centre x, centre y.
        boxes: ``(n, 4)``.

    Returns:
        ``(m, n)``, square pixels.
    """
    ellipses, boxes = np.asarray(ellipses, dtype=np.float64), np.asarray(boxes, dtype=np.float64)
    radii, angle, centre = ellipses[:, None, None, :2], ellipses[:, None, None, 2], ellipses[:, None, None, 3:]
    offset = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] - centre  # corners (m, n, 4, 2)
    cosine, sine = np.cos(angle), np.sin(angle)
    along = offset[..., 0] * cosine + offset[..., 1] * sine
    across = offset[..., 1] * cosine - offset[..., 0] * sine
    start = np.stack([along, across], axis=-1) / radii
    end = np.roll(start, -1, axis=2)
    areas = _disc_side_area(start, end).sum(axis=2) * (radii[..., 0] * radii[..., 1])[..., 0]
    return np.clip(areas, 0, None)


def _disc_side_area(start: Array, end: Array) -> Array:
    """Signed area of the unit disc within the triangle of its centre and a side, points ``(..., 2)``."""
    side = end - start
    squared = np.maximum((side**2).sum(-1), np.finfo(np.float64).tiny)
    middle = -(start * side).sum(-1) / squared
    inside = middle**2 - ((start**2).sum(-1) - 1) / squared
    half = np.sqrt(np.clip(inside, 0, None))
    entry = start + np.clip(middle - half, 0, 1)[..., None] * side
    leave = start + np.clip(middle + half, 0, 1)[..., None] * side
    return (_angle(start, entry) + _cross(entry, leave) + _angle(leave, end)) / 2


def _cross(first: Array, second: Array) -> Array:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def _angle(first: Array, second: Array) -> Array:
    return np.arctan2(_cross(first, second), (first * second).sum(-1))


def ellipse_overlaps(ellipses: Array, boxes: Array, size: tuple[int, int] | None = None) -> Array:
    """IoU ``(m, n)`` of ellipses and boxes, both cut at the edge of a picture of ``size`` (height, width) if given."""
    if not len(ellipses) or not len(boxes):
        return np.zeros((len(ellipses), len(boxes)))
    whole: Array = np.pi * ellipses[:, :1] * ellipses[:, 1:2]
    if size is not None:
        boxes = np.clip(boxes, 0, [size[1], size[0], size[1], size[0]])
        whole = ellipse_box_area(ellipses, np.array([[0, 0, size[1], size[0]]]))
    shared = ellipse_box_area(ellipses, boxes)
    union = whole + np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def fddb_steps(
    detections: Sequence[Detection], ellipses: Sequence[Array], sizes: NDArray[np.int64] | None = None
) -> FddbSteps:
    """The assignments of each picture at each of its own thresholds, as differences; arguments as `fddb_curves`."""
    parts: list[tuple[Array, ...]] = [(np.zeros(0),) * 5]
    for picture, ((boxes, scores), faces) in enumerate(zip(detections, ellipses, strict=True)):
        order = np.argsort(-scores, kind="stable")
        size = None if sizes is None else (int(sizes[picture][0]), int(sizes[picture][1]))
        values, sums = _picture_sums(ellipse_overlaps(faces, boxes[order], size), scores[order])
        owner = np.full(len(values), float(picture))
        parts.append((owner, values, *np.diff(sums, axis=0, prepend=0.0).T))
    pictures, thresholds, wrong, discrete, continuous = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-thresholds, kind="stable")
    numbers = np.array([len(faces) for faces in ellipses], dtype=np.int64)
    return FddbSteps(
        pictures[order].astype(np.int64), thresholds[order], wrong[order], discrete[order], continuous[order], numbers
    )


def _picture_sums(overlaps: Array, scores: Array) -> tuple[Array, Array]:
    """Of one picture: descending thresholds ``(k,)``; false positives, discrete and continuous sums ``(k, 3)``.

    Args:
        overlaps: ``(faces, detections)``, detections in the order of descending scores.
        scores: ``(detections,)``.
    """
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) + 1 if len(scores) else np.zeros(0, dtype=int)
    touching = np.flatnonzero(overlaps.any(axis=0)) if len(overlaps) else np.zeros(0, dtype=int)
    sums = np.zeros((len(ends), 3))
    known, discrete, continuous = 0, 0.0, 0.0
    for row, end in enumerate(ends):
        number = int(np.searchsorted(touching, end))
        if number > known:  # a detection that touches no face changes nothing but the false positives
            table = overlaps[:, touching[:number]]
            pairs = table[linear_sum_assignment(table, maximize=True)]
            known, discrete, continuous = number, float((pairs > 0.5).sum()), float(pairs.sum())
        sums[row] = end - discrete, discrete, continuous
    return scores[ends - 1].astype(np.float64), sums


def fddb_curves(
    detections: Sequence[Detection], ellipses: Sequence[Array], sizes: NDArray[np.int64] | None = None
) -> FddbCurves:
    """FDDB's discrete and continuous curve over all pictures at once, as the benchmark asks (not fold by fold).

    Args:
        detections: of each picture, boxes ``(n, 4)`` and scores ``(n,)``.
        ellipses: of each picture ``(n, 5)``, see `ellipse_box_area`.
        sizes: ``(N, 2)`` height and width of the pictures; without them, regions are not cut at the edges.

    Returns:
        True positive rates are NaN if there is no face.
    """
    steps = fddb_steps(detections, ellipses, sizes)
    last = np.append(steps.thresholds[1:] != steps.thresholds[:-1], True)[: len(steps.thresholds)]
    faces = steps.faces.sum()
    sums = [np.cumsum(each)[last] for each in (steps.false_positives, steps.discrete, steps.continuous)]
    rates = [each / faces if faces else np.full(len(each), np.nan) for each in sums[1:]]
    return FddbCurves(steps.thresholds[last], sums[0], *rates)


def rates_at(curves: FddbCurves, false_positives: float = FALSE_POSITIVES) -> tuple[float, float]:
    """Discrete and continuous true positive rate: the best with at most so many false positives, 0 without any."""
    allowed = curves.false_positives <= false_positives
    return (
        float(curves.discrete[allowed].max(initial=0.0)),
        float(curves.continuous[allowed].max(initial=0.0)),
    )


def weighted_rates(steps: FddbSteps, groups: NDArray[np.int64], weights: Array, false_positives: float) -> Array:
    """`rates_at` of many weighted sets, for a bootstrap.

    Args:
        steps: of all pictures.
        groups: ``(N,)`` the group of each picture, from 0.
        weights: ``(R, G)``, how often each set holds each group.
        false_positives: as in `rates_at`.

    Returns:
        ``(R, 2)``: discrete and continuous; NaN for a set without a face.
    """
    owners = groups[steps.pictures]
    last = np.append(steps.thresholds[1:] != steps.thresholds[:-1], True)[: len(steps.thresholds)]
    faces = weights @ np.bincount(groups, steps.faces, minlength=weights.shape[1])
    rates = np.full((len(weights), 2), np.nan)
    for row, weight in enumerate(weights):
        if not faces[row]:
            continue
        repeated = weight[owners]
        allowed = (np.cumsum(steps.false_positives * repeated) <= false_positives) & last
        for column, values in enumerate((steps.discrete, steps.continuous)):
            rates[row, column] = np.cumsum(values * repeated)[allowed].max(initial=0.0) / faces[row]
    return rates
