"""Anchors of face detection: their boxes, which face each of them learns, and the way back from outputs to detections.

Boxes are ``x0, y0, x1, y1`` in pixels. ASFD does not describe its anchors; the layout, matching and suppression here
are those of DSFD, whose pipeline it follows: one anchor a position, half as large in the first shot as in the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, clip_boxes_to_image, nms

BACKGROUND, IGNORE = -1, -2
FIRST_SHOT_SCALE, SECOND_SHOT_SCALE = 2.0, 4.0
ASPECT = 1.5  # height / width
VARIANCES = (0.1, 0.2)
LARGEST_LOG_SCALE = math.log(1000 / 16)  # of a decoded size, torchvision's BoxCoder: keeps exp() finite
BOXES_AT_A_TIME = 128  # bounds the memory of matching in crowds


def anchor_boxes(shapes: Sequence[tuple[int, int]], strides: Sequence[int], scale: float = SECOND_SHOT_SCALE) -> Tensor:
    """One box a position of every feature map: ``s / sqrt(1.5)`` wide, ``s * sqrt(1.5)`` high, ``s = scale * stride``.

    Args:
        shapes: (height, width) of the maps, finest first.
        strides: pixels between two positions of each map.
        scale: side of a square of the anchor's area, in strides.

    Returns:
        ``(A, 4)``: maps in the given order, each row by row; centres at ``(column + .5, row + .5) * stride``.

    Raises:
        ValueError: if there are not as many strides as shapes.
    """
    levels = [torch.empty(0, 4)]
    for (height, width), stride in zip(shapes, strides, strict=True):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.stack([columns, rows], dim=-1).reshape(-1, 2) + 0.5) * stride
        side = scale * stride
        sizes = torch.tensor([side / math.sqrt(ASPECT), side * math.sqrt(ASPECT)]).expand_as(centres)
        levels.append(torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1))
    return torch.cat(levels)


def match(anchors: Tensor, boxes: Tensor, ignored: Tensor | None = None, threshold: float = 0.4) -> Tensor:
    """The face that each anchor learns.

    An anchor takes the face with which its IoU is largest, if that is at least ``threshold``. Beyond that, every face
    has one anchor of its own, however small the IoU: faces choose in the order of their best IoU, each the best anchor
    that no face has chosen before (ties: lowest index). Only a face that overlaps no free anchor at all stays without.

    Args:
        anchors: ``(A, 4)``.
        boxes: ``(n, 4)``; n may be 0.
        ignored: ``(n,)`` bool, boxes that are neither a target nor an error; none if left out.
        threshold: smallest IoU of a match.

    Returns:
        ``(A,)`` long: index of the box, `BACKGROUND`, or `IGNORE` (background, if it were not for an ignored box with
        an IoU of at least ``threshold``).
    """
    ignored = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device) if ignored is None else ignored.bool()
    targets = torch.nonzero(~ignored).flatten()
    overlap, nearest, best_overlap, best_anchor = _largest_overlaps(anchors, boxes[targets])
    assigned = torch.where(overlap >= threshold, nearest, BACKGROUND)
    own = _own_anchors(anchors, boxes[targets], best_overlap, best_anchor)
    has_own = own >= 0
    assigned[own[has_own]] = torch.nonzero(has_own).flatten()
    if len(targets):
        assigned = torch.where(assigned >= 0, targets[assigned.clamp(min=0)], assigned)
    if bool(ignored.any()):
        near_ignored = _largest_overlaps(anchors, boxes[ignored])[0] >= threshold
        assigned[near_ignored & (assigned == BACKGROUND)] = IGNORE
    return assigned


def _largest_overlaps(anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each anchor the largest IoU ``(A,)`` and its box ``(A,)``; of each box the same, ``(n,)`` and ``(n,)``."""
    overlap = anchors.new_zeros(len(anchors))
    nearest = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    of_boxes = [(anchors.new_zeros(0), nearest[:0])]
    for start in range(0, len(boxes), BOXES_AT_A_TIME):
        table = box_iou(boxes[start : start + BOXES_AT_A_TIME].to(anchors.dtype), anchors)
        values, indices = table.max(dim=0)
        nearest = torch.where(values > overlap, indices + start, nearest)
        overlap = torch.maximum(values, overlap)
        of_boxes.append(tuple(table.max(dim=1)))
    best_overlap, best_anchor = (torch.cat(parts) for parts in zip(*of_boxes, strict=True))
    return overlap, nearest, best_overlap, best_anchor


def _own_anchors(anchors: Tensor, boxes: Tensor, best_overlap: Tensor, best_anchor: Tensor) -> Tensor:
    """``(n,)`` the anchor that belongs to each face as `match` describes; -1 for none."""
    own = torch.where(best_overlap > 0, best_anchor, -1)
    chosen = own[own >= 0]
    if len(torch.unique(chosen)) == len(chosen):  # nearly always
        return own
    free = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    order = torch.argsort(best_overlap, descending=True, stable=True).tolist()
    wanted = own.tolist()
    for index in order:
        if wanted[index] >= 0 and not free[wanted[index]]:
            overlaps = box_iou(boxes[index : index + 1].to(anchors.dtype), anchors)[0] * free
            value, anchor = overlaps.max(dim=0)
            wanted[index] = int(anchor) if value > 0 else -1
        if wanted[index] >= 0:
            free[wanted[index]] = False
    return torch.tensor(wanted, dtype=torch.long, device=anchors.device)


def encode(anchors: Tensor, boxes: Tensor, variances: tuple[float, float] = VARIANCES) -> Tensor:
    """Boxes as offsets from anchors: ``(centre - own centre) / own size / v_0`` and ``log(size / own size) / v_1``.

    Args:
        anchors: ``(..., 4)``.
        boxes: ``(..., 4)``, width and height above 0.
        variances: v_0 and v_1, divisors of the position's and the size's offsets.

    Returns:
        ``(..., 4)``: dx, dy, dw, dh.
    """
    wanted, own = box_convert(boxes, "xyxy", "cxcywh"), box_convert(anchors, "xyxy", "cxcywh")
    position = (wanted[..., :2] - own[..., :2]) / own[..., 2:] / variances[0]
    size = torch.log(wanted[..., 2:] / own[..., 2:]) / variances[1]
    return torch.cat([position, size], dim=-1)


def decode(anchors: Tensor, offsets: Tensor, variances: tuple[float, float] = VARIANCES) -> Tensor:
    """The inverse of `encode` for sizes up to 62.5 anchors; larger ones are cut there, which keeps them finite."""
    own = box_convert(anchors, "xyxy", "cxcywh")
    centres = own[..., :2] + offsets[..., :2] * variances[0] * own[..., 2:]
    half = own[..., 2:] * torch.exp((offsets[..., 2:] * variances[1]).clamp(max=LARGEST_LOG_SCALE)) / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def detections(
    logits: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    size: tuple[int, int],
    *,
    confidence: float = 0.01,
    iou: float = 0.3,
    before: int = 5000,
    after: int = 750,
) -> tuple[Tensor, Tensor]:
    """One picture's detections from a detector's outputs.

    Args:
        logits: ``(A, 2)``, background and face.
        offsets: ``(A, 4)``, see `encode`.
        anchors: ``(A, 4)``.
        size: height and width of the picture, pixels; boxes are cut at its edges and dropped if nothing is left.
        confidence: smallest softmax score of a face.
        iou: non-maximum suppression drops a box whose IoU with a better one is larger.
        before: the best so many enter the suppression.
        after: the best so many leave it.

    Returns:
        Boxes ``(n, 4)`` and scores ``(n,)``, float32, descending scores.
    """
    scores = torch.softmax(logits.float(), dim=-1)[:, 1]
    rows = torch.nonzero(scores >= confidence).flatten()
    rows = rows[torch.argsort(scores[rows], descending=True, stable=True)[:before]]
    boxes = clip_boxes_to_image(decode(anchors[rows].float(), offsets[rows].float()), size)
    visible = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
    boxes, scores = boxes[visible], scores[rows][visible]
    kept = nms(boxes, scores, iou)[:after]
    return boxes[kept], scores[kept]
