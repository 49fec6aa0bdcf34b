"""The protocol of WIDER FACE: average precision of its official evaluation (`eval_tools`, MATLAB), with its quirks.

In words: the scores of the whole set are brought to [0, 1]. In each picture, detections are looked at in the order of
their scores. Each belongs to the face with which its IoU is largest, if that is at least 0.5. A detection of a face
that does not count is left out altogether; any other one is a proposal, and the first one of a face also finds it.
Proposals and found faces are summed over pictures at 1,000 thresholds, 0.999 to 0; precision is found faces over
proposals, recall found faces over faces that count. AP is the area under the precision's envelope.

The quirks, all kept: box sides are one pixel longer than the difference of their ends; the thresholds are even in
the normalised score, so that a set's AP depends on its best and its worst score, and an outlier makes it coarser; a
second detection of a face is wrong even where another face, less well covered, is still free; detections in a picture
without any annotated face are not counted (here a choice, `skip_empty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Detection = tuple[Array, Array]  # boxes (n, 4) and scores (n,) of one picture


@dataclass(frozen=True)
class Matches:
    """Which face each detection of a set belongs to; the faces of all pictures are numbered through.

    Attributes:
        pictures: ``(D,)`` the detection's picture.
        scores: ``(D,)``, descending within a picture.
        faces: ``(D,)`` the face, -1 for none.
        face_pictures: ``(F,)`` the face's picture.
    """

    pictures: NDArray[np.int64]
    scores: Array
    faces: NDArray[np.int64]
    face_pictures: NDArray[np.int64]

    def found(self, counted: Mask) -> tuple[Mask, Mask]:
        """Of each detection: is it a proposal, and does it find a face that counts? ``counted`` is ``(F,)``."""
        matched = self.faces >= 0
        counts = np.zeros(len(self.faces), dtype=bool)
        counts[matched] = counted[self.faces[matched]]
        hits = np.flatnonzero(counts)
        first = np.zeros(len(self.faces), dtype=bool)
        first[hits[np.unique(self.faces[hits], return_index=True)[1]]] = True
        return counts | ~matched, first


def box_overlaps(boxes: Array, others: Array, pixel: float = 1.0) -> Array:
    """IoU ``(n, m)`` of boxes ``(n, 4)`` and ``(m, 4)`` whose sides are ``x1 - x0 + pixel`` long.

    WIDER FACE's evaluation adds 1, as if ends were the last pixels inside; 0 gives the areas of the plain boxes.
    """
    boxes, others = np.asarray(boxes, dtype=np.float64), np.asarray(others, dtype=np.float64)
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = np.clip(high - low + pixel, 0, None).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2] + pixel).prod(axis=1) for each in (boxes, others)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def match_detections(detections: Sequence[Detection], boxes: Sequence[Array], iou: float = 0.5) -> Matches:
    """Each detection's face: that of its picture with the largest IoU (ties: the first), if it is at least ``iou``."""
    pictures, scores, faces = [], [], []
    starts = np.concatenate([[0], np.cumsum([len(own) for own in boxes], dtype=np.int64)])
    for picture, ((found, confidence), own) in enumerate(zip(detections, boxes, strict=True)):
        order = np.argsort(-confidence, kind="stable")
        face = np.full(len(order), -1, dtype=np.int64)
        if len(own) and len(order):
            overlaps = box_overlaps(found[order], own)
            nearest = overlaps.argmax(axis=1)
            face = np.where(overlaps.max(axis=1) >= iou, nearest + starts[picture], -1)
        pictures.append(np.full(len(order), picture, dtype=np.int64))
        scores.append(np.asarray(confidence, dtype=np.float64)[order])
        faces.append(face)
    owners = np.repeat(np.arange(len(boxes)), np.diff(starts))
    if not pictures:
        return Matches(owners, np.zeros(0), owners, owners)
    return Matches(np.concatenate(pictures), np.concatenate(scores), np.concatenate(faces), owners)


def threshold_bins(scores: Array, thresholds: int = 1000) -> NDArray[np.int64]:
    """Index of the first threshold that each score reaches, of ``1 - t / thresholds``, t = 1 to ``thresholds``.

    Scores are first brought to [0, 1] over the whole set. If all are equal, the official evaluation divides by zero;
    here they reach every threshold.
    """
    if not len(scores):
        return np.zeros(0, dtype=np.int64)
    low, spread = scores.min(), np.ptp(scores)
    normalised = (scores - low) / spread if spread > 0 else np.ones_like(scores)
    levels = 1 - np.arange(1, thresholds + 1) / thresholds
    return np.minimum(np.searchsorted(-levels, -normalised), thresholds - 1)


def voc_ap(recall: Array, precision: Array) -> Array:
    """Area under the envelope of precision over recall, ``(..., k)``; recall does not fall along the last axis."""
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return (np.diff(recall, axis=-1, prepend=0.0) * envelope).sum(axis=-1)


def weighted_wider_ap(
    matches: Matches,
    counted: Mask,
    groups: NDArray[np.int64],
    weights: Array,
    *,
    thresholds: int = 1000,
    skip_empty: bool = True,
) -> Array:
    """WIDER FACE's AP of many weighted sets at once, which is what a bootstrap needs.

    The scores are brought to [0, 1] over all pictures, whatever their weights.

    Args:
        matches: of all pictures.
        counted: ``(F,)`` bool, the faces to find.
        groups: ``(N,)`` the group of each picture, from 0.
        weights: ``(R, G)``, how often each set holds each group.
        thresholds: their number.
        skip_empty: leave out detections in pictures without an annotated face, as the official evaluation does.

    Returns:
        ``(R,)``; NaN for a set without a face that counts.
    """
    proposed, found = matches.found(counted)
    if skip_empty:
        with_faces = np.bincount(matches.face_pictures, minlength=len(groups)) > 0
        proposed &= with_faces[matches.pictures]
    cells = groups[matches.pictures] * thresholds + threshold_bins(matches.scores, thresholds)
    count = weights.shape[1]
    tables = [
        np.bincount(cells, each.astype(np.float64), minlength=count * thresholds).reshape(count, thresholds)
        for each in (proposed, found)
    ]
    proposals, hits = (np.cumsum(weights @ table, axis=1) for table in tables)
    faces = weights @ np.bincount(groups[matches.face_pictures[counted]], minlength=count)
    precision = np.divide(hits, proposals, out=np.zeros_like(hits), where=proposals > 0)
    recall = np.divide(hits, faces[:, None], out=np.zeros_like(hits), where=faces[:, None] > 0)
    return np.where(faces > 0, voc_ap(recall, precision), np.nan)


def wider_ap(
    detections: Sequence[Detection],
    boxes: Sequence[Array],
    counted: Sequence[Mask],
    *,
    iou: float = 0.5,
    thresholds: int = 1000,
    skip_empty: bool = True,
) -> float:
    """Average precision by the official evaluation of WIDER FACE, see this module's text.

    Args:
        detections: of each picture, boxes ``(n, 4)`` and scores ``(n,)``.
        boxes: of each picture, all annotated faces ``(n, 4)``.
        counted: of each picture, ``(n,)`` bool: the faces to find; a detection of any other one is left out.
        iou: smallest IoU of a detection with its face.
        thresholds: their number.
        skip_empty: leave out detections in pictures without an annotated face.

    Returns:
        A fraction; NaN if no face counts.
    """
    matches = match_detections(detections, boxes, iou)
    mask = np.concatenate([np.zeros(0, dtype=bool), *counted])
    groups = np.zeros(len(boxes), dtype=np.int64)
    return float(
        weighted_wider_ap(matches, mask, groups, np.ones((1, 1)), thresholds=thresholds, skip_empty=skip_empty)[0]
    )
