"""Anchors, matching, offsets and suppression against loops, hand-made cases and each other."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.anchors import (
    BACKGROUND,
    FIRST_SHOT_SCALE,
    IGNORE,
    anchor_boxes,
    decode,
    detections,
    encode,
    match,
)

STRIDES = [4, 8, 16, 32, 64, 128]


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def random_boxes(count, side=64.0, smallest=4.0, largest=30.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * (side - smallest)
    return torch.cat([corners, corners + smallest + torch.rand(count, 2, generator=generator) * largest], dim=1)


def small_anchors():
    return anchor_boxes([(16, 16), (8, 8), (4, 4)], [4, 8, 16])


# ---- anchor_boxes


def test_a_vga_picture_has_25600_anchors():
    shapes = [(math.ceil(480 / stride), math.ceil(640 / stride)) for stride in STRIDES]
    anchors = anchor_boxes(shapes, STRIDES)
    assert len(anchors) == 19200 + 4800 + 1200 + 300 + 80 + 20 == 25600


@pytest.mark.parametrize("scale", [FIRST_SHOT_SCALE, 4.0])
def test_anchors_are_those_of_a_loop_over_maps_rows_and_columns(scale):
    shapes, strides = [(3, 2), (1, 4)], [8, 16]
    expected = []
    for (height, width), stride in zip(shapes, strides, strict=True):
        for row in range(height):
            for column in range(width):
                x, y, s = (column + 0.5) * stride, (row + 0.5) * stride, scale * stride
                w, h = s / math.sqrt(1.5), s * math.sqrt(1.5)
                expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    anchors = anchor_boxes(shapes, strides, scale)
    torch.testing.assert_close(anchors, torch.tensor(expected))
    sizes = anchors[:, 2:] - anchors[:, :2]
    torch.testing.assert_close(sizes[:, 1] / sizes[:, 0], torch.full((10,), 1.5))
    torch.testing.assert_close(sizes.prod(dim=1), torch.tensor([(scale * 8) ** 2] * 6 + [(scale * 16) ** 2] * 4))


def test_anchors_of_maps_without_a_stride_are_refused():
    with pytest.raises(ValueError):
        anchor_boxes([(1, 1), (1, 1)], [4])


# ---- match


def slow_match(anchors, boxes, ignored, threshold):
    """Face by face and anchor by anchor, on Python lists."""
    anchors, boxes = anchors.tolist(), boxes.tolist()
    faces = [index for index in range(len(boxes)) if not ignored[index]]
    table = {face: [overlap(anchor, boxes[face]) for anchor in anchors] for face in faces}
    result = []
    for position in range(len(anchors)):
        best = max(faces, key=lambda face: (table[face][position], -face), default=None)
        result.append(best if best is not None and table[best][position] >= threshold else BACKGROUND)
    taken = set()
    for face in sorted(faces, key=lambda face: (-max(table[face]), face)):
        free = [position for position in range(len(anchors)) if position not in taken]
        own = max(free, key=lambda position: (table[face][position], -position))
        if table[face][own] > 0:
            taken.add(own)
            result[own] = face
    for position, anchor in enumerate(anchors):
        near = [overlap(anchor, box) >= threshold for box, skip in zip(boxes, ignored, strict=True) if skip]
        if result[position] == BACKGROUND and any(near):
            result[position] = IGNORE
    return result


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("count", [1, 5, 40])
def test_matching_is_that_of_a_loop(seed, count):
    anchors = small_anchors().double()  # in float32, two IoU that differ in the last digit could change places
    boxes = random_boxes(count, smallest=1.0 if seed % 2 else 4.0, seed=seed).double()
    ignored = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.3
    threshold = 0.35 + 0.02 * (seed % 5)
    found = match(anchors, boxes, ignored, threshold)
    assert found.dtype == torch.long
    assert found.tolist() == slow_match(anchors, boxes, ignored.tolist(), threshold)


def test_a_crowd_is_matched_in_parts_as_it_is_whole(monkeypatch):
    anchors, boxes = small_anchors(), random_boxes(35).repeat(2, 1)  # each face twice: ties between two parts
    whole = match(anchors, boxes)
    monkeypatch.setattr("evaluators.anchors.BOXES_AT_A_TIME", 7)
    assert torch.equal(match(anchors, boxes), whole)


def test_a_small_face_has_its_best_anchor_though_the_overlap_is_below_the_threshold():
    anchors = small_anchors()
    box = torch.tensor([[21.0, 21.0, 23.0, 24.0]])
    overlaps = torch.tensor([overlap(anchor, box[0].tolist()) for anchor in anchors.tolist()])
    assert overlaps.max() < 0.1
    assert torch.nonzero(match(anchors, box) == 0).flatten().tolist() == [int(overlaps.argmax())]


def test_faces_at_one_place_have_an_anchor_each():
    box = torch.tensor([[20.0, 20.0, 22.0, 23.0]])
    found = match(small_anchors(), box.repeat(4, 1))
    assert sorted(found[found >= 0].tolist()) == [0, 1, 2, 3]


def test_a_face_whose_only_anchor_is_taken_is_left_without():
    anchor = torch.tensor([[0.0, 0, 16, 24], [100, 100, 116, 124]])
    faces = torch.tensor([[0.0, 0, 16, 20], [0, 0, 16, 24]])
    assert match(anchor, faces).tolist() == [1, BACKGROUND]
    assert match(anchor, faces.flip(0)).tolist() == [0, BACKGROUND]


def test_a_face_beyond_all_anchors_is_left_without():
    found = match(small_anchors(), torch.tensor([[500.0, 500.0, 520.0, 530.0], [10.0, 10.0, 23.0, 29.0]]))
    assert set(found.tolist()) == {BACKGROUND, 1}


def test_anchors_of_ignored_faces_are_neither_positive_nor_background():
    anchors = small_anchors()
    face = anchors[100:101]
    found = match(anchors, face, torch.tensor([True]))
    assert found[100] == IGNORE and set(found.tolist()) == {BACKGROUND, IGNORE}
    both = match(anchors, face.repeat(2, 1), torch.tensor([True, False]))
    assert both[100] == 1 and IGNORE not in both.tolist()


@pytest.mark.parametrize("ignored", [None, torch.zeros(0, dtype=torch.bool)])
def test_without_faces_all_is_background(ignored):
    assert (match(small_anchors(), torch.zeros(0, 4), ignored) == BACKGROUND).all()


# ---- encode and decode

coordinates = st.floats(-500, 500, width=32)
lengths = st.floats(0.5, 400, width=32)


@settings(max_examples=200, deadline=None)
@given(st.tuples(coordinates, coordinates, lengths, lengths), st.tuples(coordinates, coordinates, lengths, lengths))
def test_decode_is_the_inverse_of_encode(anchor, box):
    def corners(values):
        x, y, w, h = values
        return torch.tensor([[x, y, x + w, y + h]], dtype=torch.float64)

    ratios = (corners(box)[0, 2:] - corners(box)[0, :2]) / (corners(anchor)[0, 2:] - corners(anchor)[0, :2])
    if ratios.max() > 62:
        return
    torch.testing.assert_close(decode(corners(anchor), encode(corners(anchor), corners(box))), corners(box))


def test_offsets_of_a_hand_made_box():
    anchor, box = torch.tensor([[10.0, 10.0, 30.0, 50.0]]), torch.tensor([[20.0, 10.0, 60.0, 50.0]])
    expected = [[(40 - 20) / 20 / 0.1, 0.0, math.log(2) / 0.2, 0.0]]
    torch.testing.assert_close(encode(anchor, box), torch.tensor(expected))
    torch.testing.assert_close(encode(anchor, box, (1.0, 1.0)), torch.tensor([[1.0, 0.0, math.log(2), 0.0]]))


def test_decoded_sizes_stay_finite():
    offsets = torch.tensor([[0.0, 0.0, 1e6, 1e6]], requires_grad=True)
    boxes = decode(torch.tensor([[0.0, 0.0, 16.0, 16.0]]), offsets)
    torch.testing.assert_close(boxes[0, 2] - boxes[0, 0], torch.tensor(1000.0))
    boxes.sum().backward()
    assert torch.isfinite(offsets.grad).all()


# ---- detections


def outputs_of(boxes, scores, anchors):
    """Logits and offsets whose detections are ``boxes`` with ``scores``, one an anchor."""
    odds = torch.log(scores / (1 - scores))
    return torch.stack([torch.zeros_like(odds), odds], dim=1), encode(anchors, boxes)


def test_detections_are_suppressed_sorted_and_cut():
    anchors = small_anchors()[:5]
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 70, 80], [100, 100, 110, 120], [20.0, 0, 30, 10]])
    scores = torch.tensor([0.6, 0.9, 0.7, 0.8, 0.005])
    found, confidence = detections(*outputs_of(boxes, scores, anchors), anchors, (64, 60))
    torch.testing.assert_close(confidence, torch.tensor([0.9, 0.7]))  # 0.6 overlaps 0.9, 0.8 is outside, 0.005 is low
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 11, 10], [30, 30, 60, 64]]))


def test_suppression_is_that_of_a_loop():
    anchors = small_anchors()
    boxes = random_boxes(len(anchors), side=200, smallest=10, seed=3)
    scores = 0.02 + 0.9 * torch.rand(len(anchors), generator=torch.Generator().manual_seed(1))
    found, confidence = detections(*outputs_of(boxes, scores, anchors), anchors, (500, 500), iou=0.4)
    kept = []
    for index in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        if all(overlap(boxes[index].tolist(), boxes[other].tolist()) <= 0.4 for other in kept):
            kept.append(index)
    assert 50 < len(kept) < len(boxes)
    torch.testing.assert_close(found, boxes[kept], rtol=0, atol=1e-3)
    torch.testing.assert_close(confidence, scores[kept])


def test_the_numbers_before_and_after_suppression_are_limits():
    anchors = small_anchors()[:6]
    boxes = torch.tensor([[20.0 * i, 0, 20 * i + 10, 10] for i in range(6)])
    outputs = outputs_of(boxes, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), anchors)
    assert detections(*outputs, anchors, (200, 200), before=4)[1].tolist() == pytest.approx([0.6, 0.5, 0.4, 0.3])
    assert detections(*outputs, anchors, (200, 200), after=2)[1].tolist() == pytest.approx([0.6, 0.5])
    assert len(detections(*outputs, anchors, (200, 200), confidence=0.99)[0]) == 0


def test_half_precision_outputs_are_detected_in_float32():
    anchors = small_anchors()[:1]
    logits, offsets = torch.tensor([[0.0, 3.0]]).half(), torch.zeros(1, 4).half()
    boxes, scores = detections(logits, offsets, anchors, (64, 64))
    assert boxes.dtype == scores.dtype == torch.float32 and len(boxes) == 1
