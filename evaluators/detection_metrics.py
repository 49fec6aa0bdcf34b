"""How well faces are found: average precision by the protocols of WIDER FACE and FDDB, with intervals over groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError

from .fddb import FALSE_POSITIVES, FddbCurves, fddb_curves, fddb_steps, rates_at, weighted_rates
from .metrics import Metric
from .wider import (
    Array,
    Detection,
    Mask,
    Matches,
    box_overlaps,
    match_detections,
    voc_ap,
    weighted_wider_ap,
    wider_ap,
)

if TYPE_CHECKING:
    from .datasets.detection import BoxSplit

__all__ = [
    "WIDTH_BANDS",
    "Detection",
    "FddbCurves",
    "ap_by_width",
    "average_precision",
    "detection_metrics",
    "fddb_curves",
    "followed_precision",
    "rates_at",
    "wider_ap",
]

WIDTH_BANDS = ((18, 32), (32, 64), (64, 150))  # pixels, from and below


def average_precision(
    detections: Sequence[Detection], boxes: Sequence[Array], ignored: Sequence[Mask], iou: float = 0.5
) -> float:
    """Plain average precision: the area under the envelope of precision over recall, a point for each detection.

    In the order of their scores, detections take the free face with the largest IoU, if it is at least ``iou``. One
    that finds no free face is wrong, unless it overlaps an ignored face that much. Where `wider_ap` has a grid of
    thresholds and one fixed face for each detection, this has neither, nor are boxes a pixel longer than they are.

    Args:
        detections: of each picture, boxes ``(n, 4)`` and scores ``(n,)``.
        boxes: of each picture ``(n, 4)``.
        ignored: of each picture ``(n,)`` bool.
        iou: smallest IoU of a detection with its face.

    Returns:
        A fraction; NaN if there is no face to find.
    """
    faces = sum(int((~skip).sum()) for skip in ignored)
    if not faces:
        return float("nan")
    scores: list[Array] = []
    right: list[Mask] = []
    for (found, confidence), own, skip in zip(detections, boxes, ignored, strict=True):
        order = np.argsort(-confidence, kind="stable")
        overlaps = box_overlaps(found[order], own, pixel=0)
        hits = _greedy_hits(overlaps[:, ~skip], iou)
        proposed = hits | ~(overlaps[:, skip] >= iou).any(axis=1)
        scores.append(confidence[order][proposed])
        right.append(hits[proposed])
    all_scores, all_right = np.concatenate(scores), np.concatenate(right)
    order = np.argsort(-all_scores, kind="stable")
    ranked = all_scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]  # detections of equal score enter together
    hits_so_far = np.cumsum(all_right[order])[last]
    return float(voc_ap(hits_so_far / faces, hits_so_far / (np.flatnonzero(last) + 1)))


def _greedy_hits(overlaps: Array, iou: float) -> Mask:
    """Which detections ``(n, faces)`` find a face that no earlier one has taken."""
    hits = np.zeros(len(overlaps), dtype=bool)
    free = overlaps * (overlaps >= iou)
    for row in np.flatnonzero(free.any(axis=1)):
        face = int(free[row].argmax())
        if free[row, face] > 0:
            hits[row] = True
            free[:, face] = 0
    return hits


def followed_precision(split: BoxSplit, detections: Sequence[Detection]) -> float:
    """`average_precision` of a split, the figure that trainings follow.

    Raises:
        DatasetError: if the split has no face to find.
    """
    _require_faces(split)
    return average_precision(detections, split.boxes, split.ignored)


def ap_by_width(
    detections: Sequence[Detection],
    boxes: Sequence[Array],
    ignored: Sequence[Mask],
    bands: Sequence[tuple[float, float]] = WIDTH_BANDS,
    iou: float = 0.5,
) -> dict[str, float | None]:
    """WIDER FACE's AP of faces by their width, from and below, in pixels; faces of other widths do not count.

    Returns:
        ``{"18_32": ..., ...}``, None for a band without a face.
    """
    matches = match_detections(detections, boxes, iou)
    groups, one = np.zeros(len(boxes), dtype=np.int64), np.ones((1, 1))
    result: dict[str, float | None] = {}
    for name, mask in _width_masks(boxes, ignored, bands).items():
        value = float(weighted_wider_ap(matches, mask, groups, one, skip_empty=False)[0])
        result[name] = None if np.isnan(value) else value
    return result


def detection_metrics(
    split: BoxSplit,
    detections: Sequence[Detection],
    *,
    bands: Sequence[tuple[float, float]] = WIDTH_BANDS,
    iou: float = 0.5,
    score: float = 0.5,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Metric]:
    """All figures of a detector on a split, with bootstrap percentile intervals over the split's groups.

    Groups are drawn with replacement, each with all of its pictures. Each picture's matching, and for the APs the range
    that scores are brought to, are those of the whole split. Resamples for which a figure is not defined are left out.

    Args:
        split: pictures with their faces.
        detections: of each picture, boxes ``(n, 4)`` and scores ``(n,)``.
        bands: of faces' widths, pixels.
        iou: smallest IoU of a detection with its face.
        score: threshold of ``recall`` and ``precision``.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        Each ``{"value", "low", "high"}``, fractions: ``ap`` by WIDER FACE's protocol (detections in pictures without
        faces count as wrong), ``ap_SUBSET`` for each of the split's subsets, ``ap_width_18_32`` and so on, ``recall``
        and ``precision`` at ``threshold``; for a split with ellipses, FDDB's rates at 1,000 false positives or, where
        there are fewer, at all: ``tpr_discrete`` and ``tpr_continuous``. The value is None where nothing is to be found
        (``precision``: where nothing is detected), low and high are None too if there are fewer than two groups.

    Raises:
        DatasetError: if the split has no face to find, or the detections are not of its pictures.
    """
    _require_faces(split)
    if len(detections) != len(split.boxes):
        raise DatasetError(f"Detections of {len(detections)} pictures were given for a split of {len(split.boxes)}.")
    names, groups = np.unique(split.groups, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    weights = np.concatenate([np.ones((1, len(names))), draws.astype(np.float64)])  # the first set is the split itself
    matches = match_detections(detections, split.boxes, iou)
    masks = {"ap": ~_concatenated(split.ignored)}
    masks |= {f"ap_{name}": _concatenated(subset) for name, subset in split.subsets.items()}
    masks |= {f"ap_width_{name}": mask for name, mask in _width_masks(split.boxes, split.ignored, bands).items()}
    drawn = {name: weighted_wider_ap(matches, mask, groups, weights, skip_empty=False) for name, mask in masks.items()}
    drawn |= _rates_at_score(matches, masks["ap"], groups, weights, score)
    if split.ellipses is not None:
        steps = fddb_steps(detections, split.ellipses, split.sizes)
        rates = weighted_rates(steps, groups, weights, FALSE_POSITIVES)
        drawn |= {"tpr_discrete": rates[:, 0], "tpr_continuous": rates[:, 1]}
    metrics = {name: _metric(values, level, len(names)) for name, values in drawn.items()}
    return {**metrics, "threshold": {"value": score, "low": None, "high": None}}


def _rates_at_score(
    matches: Matches, counted: Mask, groups: NDArray[np.int64], weights: Array, score: float
) -> Mapping[str, Array]:
    """Recall and precision ``(R,)`` of weighted sets at a score; NaN where there is no face, or no proposal."""
    proposed, found = matches.found(counted)
    owners, reached = groups[matches.pictures], matches.scores >= score
    count = weights.shape[1]
    proposals, hits = (weights @ np.bincount(owners[each & reached], minlength=count) for each in (proposed, found))
    faces = weights @ np.bincount(groups[matches.face_pictures[counted]], minlength=count)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which is meant
        return {"recall": hits / faces, "precision": hits / proposals}


def _metric(values: Array, level: float, groups: int) -> Metric:
    """Value and percentile interval of ``(1 + R,)`` sets, the first of which is the split itself."""
    value = None if np.isnan(values[0]) else float(values[0])
    defined = values[1:][~np.isnan(values[1:])]
    if value is None or groups < 2 or not len(defined):
        return {"value": value, "low": None, "high": None}
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def _width_masks(
    boxes: Sequence[Array], ignored: Sequence[Mask], bands: Sequence[tuple[float, float]]
) -> dict[str, Mask]:
    """``(F,)`` the faces of each band, by the band's name."""
    widths = np.concatenate([np.zeros(0), *(own[:, 2] - own[:, 0] for own in boxes)])
    counted = ~_concatenated(ignored)
    return {f"{low:g}_{high:g}": counted & (widths >= low) & (widths < high) for low, high in bands}


def _concatenated(masks: Sequence[Mask]) -> Mask:
    return np.concatenate([np.zeros(0, dtype=bool), *masks])


def _require_faces(split: BoxSplit) -> None:
    if all(skip.all() for skip in split.ignored):
        raise DatasetError(
            "This split has no face to find, so that average precision is not defined: check the annotations, or give "
            "the split more pictures."
        )
