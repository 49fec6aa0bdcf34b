"""The protocols of WIDER FACE and FDDB against hand-made cases and slow calculations of another structure."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from evaluators.detection_metrics import (
    ap_by_width,
    average_precision,
    detection_metrics,
    fddb_curves,
    followed_precision,
    rates_at,
    wider_ap,
)
from evaluators.fddb import ellipse_box_area, ellipse_overlaps, fddb_steps, weighted_rates
from evaluators.wider import box_overlaps, match_detections, threshold_bins, voc_ap
from searchspaces.errors import DatasetError

A, B, C = [0.0, 0, 20, 20], [40.0, 0, 60, 20], [0.0, 50, 30, 90]  # faces far from each other
NOWHERE = [200.0, 200, 220, 220]


def picture(*pairs):
    """Detections from (box, score)."""
    return (
        np.array([box for box, _ in pairs], dtype=np.float32).reshape(-1, 4),
        np.array([score for _, score in pairs], dtype=np.float32),
    )


def faces(*boxes):
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def all_of(boxes, value=True):
    return [np.full(len(own), value) for own in boxes]


def random_set(seed, pictures=6, quality=0.7, digits=3):
    """Faces, and detections that are moved faces, repeated ones and ones of nothing; rounded scores make ties."""
    random = np.random.default_rng(seed)
    detections, boxes, counted = [], [], []
    for _ in range(pictures):
        corners = random.uniform(0, 200, (random.integers(0, 7), 2))
        own = np.concatenate([corners, corners + random.uniform(8, 60, corners.shape)], axis=1)
        moved = np.repeat(own, random.integers(0, 3, len(own)), axis=0)
        moved = moved + random.normal(0, 3, moved.shape)
        low = random.uniform(0, 200, (random.integers(0, 5), 2))
        wrong = np.concatenate([low, low + random.uniform(8, 60, low.shape)], axis=1)
        found = np.concatenate([moved, wrong])
        scores = np.round(random.normal(quality * (np.arange(len(found)) < len(moved)), 0.4), digits)
        order = np.argsort(-scores, kind="stable")
        detections.append((found[order], scores[order]))
        boxes.append(own)
        counted.append(random.random(len(own)) < 0.7)
    return detections, boxes, counted


def random_split(seed=0, pictures=30, **changes):
    detections, boxes, counted = random_set(seed, pictures)
    split = SimpleNamespace(
        boxes=boxes,
        ignored=[~mask for mask in counted],
        groups=np.array([f"group {index // 3}" for index in range(pictures)]),
        subsets={},
        ellipses=None,
        sizes=np.full((pictures, 2), 260),
    )
    split.__dict__.update(changes)
    return split, detections


# ---- WIDER FACE


def iou_with_plus_one(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - shared)


def slow_wider_ap(detections, boxes, counted, iou=0.5, thresholds=1000, skip_empty=True):
    """Threshold by threshold, from sets of (picture, face), with nothing carried over."""
    scores = [float(score) for _, confidence in detections for score in confidence]
    low, high = min(scores), max(scores)
    total = sum(int(mask.sum()) for mask in counted)
    points = []
    for t in range(1, thresholds + 1):
        found, proposals = set(), 0
        for index, ((rectangles, confidence), own, mask) in enumerate(zip(detections, boxes, counted, strict=True)):
            if skip_empty and not len(own):
                continue
            for rectangle, score in zip(rectangles, confidence, strict=True):
                if (float(score) - low) / (high - low) < 1 - t / thresholds:
                    continue
                overlaps = [iou_with_plus_one(rectangle, face) for face in own]
                best = max(range(len(own)), key=lambda face: overlaps[face], default=None)
                if best is None or overlaps[best] < iou:
                    proposals += 1
                elif mask[best]:
                    proposals += 1
                    found.add((index, best))
        points.append((len(found) / total, len(found) / proposals if proposals else 0.0))
    area, before = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points if recall > 0}):
        area += (recall - before) * max(precision for other, precision in points if other >= recall)
        before = recall
    return area


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("skip_empty", [True, False])
def test_wider_ap_equals_a_slow_calculation(seed, skip_empty):
    detections, boxes, counted = random_set(seed)
    found = wider_ap(detections, boxes, counted, thresholds=100, skip_empty=skip_empty)
    assert found == pytest.approx(slow_wider_ap(detections, boxes, counted, 0.5, 100, skip_empty), abs=1e-12)


def test_wider_ap_has_1000_thresholds():
    detections, boxes, counted = random_set(50, digits=6)
    assert wider_ap(detections, boxes, counted) == pytest.approx(slow_wider_ap(detections, boxes, counted))


def test_wider_ap_by_hand():
    """Right, wrong, right of three faces: precision 1 at recall 1/3, 2/3 at recall 2/3."""
    detections = [picture((A, 0.9), (NOWHERE, 0.5), (B, 0.1))]
    boxes = [faces(A, B, C)]
    assert wider_ap(detections, boxes, all_of(boxes)) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)


def test_faces_that_do_not_count_are_neither_missed_nor_wrong():
    boxes, counted = [faces(A, B)], [np.array([True, False])]
    assert wider_ap([picture((B, 0.9), (A, 0.5), (NOWHERE, 0.1))], boxes, counted) == 1
    assert wider_ap([picture((NOWHERE, 0.9), (A, 0.5), (B, 0.1))], boxes, counted) == 0.5


def test_a_second_detection_of_a_face_is_wrong():
    boxes = [faces(A, B)]
    detections = [picture((A, 0.9), (A, 0.8), (B, 0.1))]
    assert wider_ap(detections, boxes, all_of(boxes)) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_a_second_detection_is_wrong_though_another_face_is_free():
    """Both overlap the first face most; the second face, with an IoU of 0.6, is free. Plain AP gives it away."""
    near, wide = [0.0, 0, 100, 100], [0.0, 0, 100, 160]
    boxes = [faces(near, wide)]
    detections = [picture((near, 0.9), (near, 0.5), (NOWHERE, 0.1))]
    assert box_overlaps(faces(near), faces(wide))[0, 0] > 0.5
    assert wider_ap(detections, boxes, all_of(boxes)) == 0.5
    assert average_precision(detections, boxes, all_of(boxes, False)) == 1


def test_sides_are_a_pixel_longer():
    assert box_overlaps(faces([0, 0, 9, 9]), faces([0, 0, 9, 4]))[0, 0] == 0.5
    boxes, detections = [faces([0, 0, 9, 9])], [picture(([0, 0, 9, 4], 0.9), (NOWHERE, 0.1))]
    assert wider_ap(detections, boxes, all_of(boxes)) == 1
    assert average_precision(detections, boxes, all_of(boxes, False)) == 0  # 4 / 9


def test_thresholds_are_even_in_the_normalised_score():
    scores = np.array([-3.0, 7.0, 2.0, 1.999])
    assert threshold_bins(scores).tolist() == [999, 0, 499, 500]
    assert threshold_bins(np.array([0.4, 0.4])).tolist() == [0, 0]
    assert len(threshold_bins(np.zeros(0))) == 0


def test_two_detections_between_two_thresholds_enter_together():
    boxes = [faces(A)]
    detections = [picture((NOWHERE, 0.5001), (A, 0.5), (NOWHERE, 0.0), (NOWHERE, 1.0))]
    fine = wider_ap(detections, boxes, all_of(boxes), thresholds=100000)
    assert fine == pytest.approx(1 / 3)
    detections = [picture((A, 0.5001), (NOWHERE, 0.5), (NOWHERE, 0.0), (NOWHERE, 1.0))]
    assert wider_ap(detections, boxes, all_of(boxes), thresholds=100000) == pytest.approx(1 / 2)
    assert wider_ap(detections, boxes, all_of(boxes), thresholds=100) == pytest.approx(1 / 3)


def test_detections_in_pictures_without_faces_are_skipped_only_where_asked():
    boxes = [faces(A), faces()]
    detections = [picture((A, 0.5)), picture((NOWHERE, 0.9), (NOWHERE, 0.1))]
    assert wider_ap(detections, boxes, all_of(boxes)) == 1
    assert wider_ap(detections, boxes, all_of(boxes), skip_empty=False) == 0.5


def test_detections_need_not_be_sorted():
    detections, boxes, counted = random_set(3, digits=9)
    turned = [(found[::-1], scores[::-1]) for found, scores in detections]
    assert wider_ap(turned, boxes, counted) == wider_ap(detections, boxes, counted)
    ignored = [~mask for mask in counted]
    assert average_precision(turned, boxes, ignored) == average_precision(detections, boxes, ignored)
    ellipses = random_ellipses(boxes, 3)
    np.testing.assert_array_equal(fddb_curves(turned, ellipses), fddb_curves(detections, ellipses))


def test_nothing_to_find_is_not_a_number_and_nothing_found_is_0():
    boxes = [faces(A)]
    assert np.isnan(wider_ap([picture((A, 0.5))], boxes, all_of(boxes, False)))
    assert wider_ap([picture()], boxes, all_of(boxes)) == 0
    assert np.isnan(wider_ap([], [], []))


def test_the_envelope_of_precision():
    recall, precision = np.array([0.25, 0.5, 0.5, 0.75]), np.array([0.2, 0.6, 0.4, 0.5])
    assert voc_ap(recall, precision) == pytest.approx(0.25 * 0.6 + 0.25 * 0.6 + 0.25 * 0.5)


# ---- plain average precision


def test_plain_ap_by_hand():
    boxes, ignored = [faces(A, B), faces(C)], [np.array([False, True]), np.array([False])]
    detections = [picture((NOWHERE, 0.9), (A, 0.8), (A, 0.7), (B, 0.6)), picture((C, 0.5))]
    assert average_precision(detections, boxes, ignored) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 1 / 2)
    assert np.isnan(average_precision(detections, boxes, all_of(boxes)))
    assert average_precision([picture(), picture()], boxes, ignored) == 0


@pytest.mark.parametrize("seed", range(6))
def test_plain_ap_without_envelope_is_scikit_learns(seed, monkeypatch):
    """One detection a face, all faces found: ranking is all there is, and scikit-learn has no envelope."""
    random = np.random.default_rng(seed)
    right = random.random(60) < 0.4
    scores = np.round(random.normal(right, 1.0), 1)
    boxes = [faces(A) if each else faces() for each in right]
    detections = [picture((A, score)) for score in scores]
    ignored = all_of(boxes, False)
    expected = average_precision_score(right, scores)
    assert average_precision(detections, boxes, ignored) >= expected - 1e-12
    monkeypatch.setattr(
        "evaluators.detection_metrics.voc_ap", lambda recall, precision: np.sum(np.diff(recall, prepend=0) * precision)
    )
    assert average_precision(detections, boxes, ignored) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_both_aps_agree_where_the_protocols_do(seed):
    """Faces and detections that leave no choice, scores of a thousandth: the remaining difference is the pixel."""
    random = np.random.default_rng(seed)
    grid = np.array([[x, y, x + 50, y + 50] for x in range(0, 400, 100) for y in range(0, 400, 100)], dtype=float)
    levels = random.permutation(1000)[: 3 * 16].reshape(3, 16) / 999
    levels[0, :2] = 0, 1
    detections = [(grid + 4 * random.integers(0, 2, (16, 1)) * 10, own) for own in levels]
    boxes = [grid[random.random(16) < 0.8] for _ in range(3)]
    plain = average_precision(detections, boxes, all_of(boxes, False))
    assert 0.1 < plain < 0.9
    assert wider_ap(detections, boxes, all_of(boxes), thresholds=999) == pytest.approx(plain, abs=1e-9)


# ---- widths


def test_ap_by_width_leaves_out_faces_of_other_widths():
    narrow, wide = [0.0, 0, 20, 30], [100.0, 0, 150, 80]
    boxes = [faces(narrow, wide)]
    detections = [picture((wide, 0.9), (NOWHERE, 0.5), (narrow, 0.1))]
    found = ap_by_width(detections, boxes, all_of(boxes, False), bands=[(18, 32), (32, 64), (64, 150)])
    assert found == {"18_32": 0.5, "32_64": 1.0, "64_150": None}
    assert ap_by_width(detections, boxes, [np.array([True, False])], bands=[(18, 32)]) == {"18_32": None}


def test_a_band_has_its_lower_end_and_lacks_its_upper():
    boxes = [faces([0, 0, 32, 40])]
    found = ap_by_width([picture((boxes[0][0], 0.9))], boxes, all_of(boxes, False))
    assert found == {"18_32": None, "32_64": 1.0, "64_150": None}


# ---- FDDB


def pixel_area(ellipse, box, step=0.05):
    major, minor, angle, x, y = ellipse
    xs, ys = np.arange(box[0] + step / 2, box[2], step), np.arange(box[1] + step / 2, box[3], step)
    u, v = np.meshgrid(xs - x, ys - y)
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    return ((along / major) ** 2 + (across / minor) ** 2 <= 1).sum() * step**2


def test_areas_of_ellipses_in_boxes_by_formula():
    ellipse = np.array([[30.0, 20, 0.4, 100, 80]])
    whole = np.pi * 600
    assert ellipse_box_area(ellipse, np.array([[0.0, 0, 200, 200]]))[0, 0] == pytest.approx(whole)
    assert ellipse_box_area(ellipse, np.array([[0.0, 0, 100, 200]]))[0, 0] == pytest.approx(whole / 2)
    assert ellipse_box_area(ellipse, np.array([[95.0, 78, 103, 85]]))[0, 0] == pytest.approx(8 * 7)
    assert ellipse_box_area(ellipse, np.array([[0.0, 0, 60, 60]]))[0, 0] == 0
    upright = np.array([[30.0, 20, 0.0, 100, 80]])
    assert ellipse_box_area(upright, np.array([[100.0, 80, 200, 200]]))[0, 0] == pytest.approx(whole / 4)
    cap = 20 * 30 * (np.arccos(0.5) - 0.5 * np.sqrt(1 - 0.5**2))  # beyond half of the major radius
    assert ellipse_box_area(upright, np.array([[115.0, 0, 200, 200]]))[0, 0] == pytest.approx(cap)


@pytest.mark.parametrize("seed", range(15))
def test_areas_of_ellipses_in_boxes_are_those_of_counted_pixels(seed):
    random = np.random.default_rng(seed)
    ellipse = [random.uniform(10, 30), random.uniform(5, 20), random.uniform(-2, 2), *random.uniform(20, 60, 2)]
    corner = random.uniform(0, 50, 2)
    box = np.concatenate([corner, corner + random.uniform(2, 50, 2)])
    found = ellipse_box_area(np.array([ellipse]), box[None])[0, 0]
    assert found == pytest.approx(pixel_area(ellipse, box), abs=3)


def test_regions_end_at_the_picture_s_edge():
    ellipse, box = np.array([[20.0, 20, 0, 0, 50]]), np.array([[-20.0, 30, 20, 70]])
    whole, cut = ellipse_overlaps(ellipse, box)[0, 0], ellipse_overlaps(ellipse, box, (100, 100))[0, 0]
    assert whole == pytest.approx(np.pi / 4) and cut == pytest.approx(np.pi / 4)
    outside = np.array([[-40.0, 30, 20, 70]])
    assert ellipse_overlaps(ellipse, outside)[0, 0] < ellipse_overlaps(ellipse, outside, (100, 100))[0, 0]


def random_ellipses(boxes, seed):
    random = np.random.default_rng(seed)
    result = []
    for own in boxes:
        centre, half = (own[:, :2] + own[:, 2:]) / 2, (own[:, 2:] - own[:, :2]) / 2
        result.append(np.column_stack([half.max(1), half.min(1), random.normal(np.pi / 2, 0.3, len(own)), centre]))
    return result


def slow_fddb(detections, ellipses, size):
    """At each threshold of the set: every one-to-one assignment of every picture is tried."""
    points = []
    for threshold in sorted({float(s) for _, scores in detections for s in scores}, reverse=True):
        discrete, continuous, reached = 0, 0.0, 0
        for (boxes, scores), own in zip(detections, ellipses, strict=True):
            kept = boxes[scores >= threshold]
            reached += len(kept)
            table = ellipse_overlaps(own, kept, size)
            rows, columns = table.shape
            if rows > columns:
                table, rows, columns = table.T, columns, rows
            best = max(
                (
                    [table[row, column] for row, column in enumerate(chosen)]
                    for chosen in itertools.permutations(range(columns), rows)
                ),
                key=sum,
            )
            discrete += sum(value > 0.5 for value in best)
            continuous += sum(best)
        points.append((threshold, reached - discrete, discrete, continuous))
    return np.array(points)


@pytest.mark.parametrize("seed", range(5))
def test_fddb_equals_a_slow_calculation(seed):
    detections, boxes, _ = random_set(seed, pictures=4, digits=1)
    detections = [(found[:7], scores[:7]) for found, scores in detections]
    ellipses = random_ellipses([own[:4] for own in boxes], seed)
    curves = fddb_curves(detections, ellipses, np.full((4, 2), 220))
    expected = slow_fddb(detections, ellipses, (220, 220))
    number = sum(len(own) for own in ellipses)
    np.testing.assert_allclose(curves.thresholds, expected[:, 0])
    np.testing.assert_allclose(curves.false_positives, expected[:, 1])
    np.testing.assert_allclose(curves.discrete * number, expected[:, 2], atol=1e-12)
    np.testing.assert_allclose(curves.continuous * number, expected[:, 3])


def test_fddb_by_hand():
    """Two round faces; a good box of the first, a box of nothing, then a poor box of the second."""
    ellipses = [np.array([[10.0, 10, 0, 50, 50], [10, 10, 0, 150, 50]])]
    detections = [picture(([40, 40, 60, 60], 0.9), (NOWHERE, 0.8), ([150, 40, 160, 60], 0.7))]
    curves = fddb_curves(detections, ellipses)
    good, poor = np.pi / 4, 50 * np.pi / (200 + 50 * np.pi)
    assert poor < 0.5
    assert curves.false_positives.tolist() == [0, 1, 2]
    assert curves.discrete.tolist() == [0.5, 0.5, 0.5]
    assert curves.continuous.tolist() == pytest.approx([good / 2, good / 2, (good + poor) / 2])
    assert rates_at(curves, 1) == (0.5, pytest.approx(good / 2))
    assert rates_at(curves) == (0.5, pytest.approx((good + poor) / 2))
    assert rates_at(curves, -1) == (0, 0)


def test_detections_of_one_score_enter_fddb_s_curve_together():
    ellipses = [np.array([[10.0, 10, 0, 50, 50]]), np.zeros((0, 5))]
    detections = [picture(([40, 40, 60, 60], 0.9)), picture((NOWHERE, 0.9))]
    steps, groups = fddb_steps(detections, ellipses), np.array([0, 1])
    weights = np.array([[1.0, 1], [1, 0], [0, 1]])
    for limit, expected in [(0, [0, 1, np.nan]), (1, [1, 1, np.nan])]:
        np.testing.assert_array_equal(weighted_rates(steps, groups, weights, limit)[:, 0], expected)
    assert rates_at(fddb_curves(detections, ellipses), 0)[0] == 0


def test_fddb_of_nothing():
    empty = fddb_curves([picture()], [np.zeros((1, 5)) + 5])
    assert len(empty.thresholds) == 0 and rates_at(empty) == (0, 0)
    assert np.isnan(fddb_curves([picture((A, 0.5))], [np.zeros((0, 5))]).discrete).all()


# ---- all figures of a split


def test_figures_are_those_of_the_functions():
    split, detections = random_split(1)
    split.subsets = {"easy": [np.arange(len(own)) < 2 for own in split.boxes]}
    split.ellipses = random_ellipses(split.boxes, 0)
    found = detection_metrics(split, detections, resamples=20)
    counted = [~mask for mask in split.ignored]
    assert found["ap"]["value"] == pytest.approx(wider_ap(detections, split.boxes, counted, skip_empty=False))
    easy = wider_ap(detections, split.boxes, split.subsets["easy"], skip_empty=False)
    assert found["ap_easy"]["value"] == pytest.approx(easy) and easy != found["ap"]["value"]
    for band, value in ap_by_width(detections, split.boxes, split.ignored).items():
        assert found[f"ap_width_{band}"]["value"] == (None if value is None else pytest.approx(value))
    rates = rates_at(fddb_curves(detections, split.ellipses, split.sizes))
    assert (found["tpr_discrete"]["value"], found["tpr_continuous"]["value"]) == pytest.approx(rates)
    assert 0 < found["tpr_continuous"]["value"] < found["tpr_discrete"]["value"]
    assert found["threshold"] == {"value": 0.5, "low": None, "high": None}
    assert followed_precision(split, detections) == average_precision(detections, split.boxes, split.ignored)


def test_recall_and_precision_at_a_score_by_hand():
    boxes = [faces(A, B), faces(C)]
    split, _ = random_split(0, 2, boxes=boxes, ignored=[np.array([False, True]), np.array([False])])
    detections = [picture((NOWHERE, 0.9), (A, 0.8), (B, 0.7), (A, 0.5)), picture((C, 0.4))]
    found = detection_metrics(split, detections, resamples=5)
    assert found["recall"]["value"] == 1 / 2 and found["precision"]["value"] == 1 / 3
    assert detection_metrics(split, detections, resamples=5, score=0.95)["precision"]["value"] is None
    assert detection_metrics(split, detections, resamples=5, score=0.4)["recall"]["value"] == 1


def test_intervals_are_those_of_repeated_pictures():
    """Resamples with whole numbers of groups are sets in which these groups' pictures are repeated."""
    split, detections = random_split(2, 12)
    found = detection_metrics(split, detections, resamples=40, seed=5)
    groups = np.unique(split.groups)
    draws = np.random.default_rng(5).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), 40)
    low = min(scores.min(initial=9) for _, scores in detections)
    high = max(scores.max(initial=-9) for _, scores in detections)
    ends = (np.array([A, A]), np.array([high, low]))  # of a face that does not count: they keep the scores' range
    values = []
    for draw in draws:
        rows = [
            row
            for group, times in zip(groups, draw, strict=True)
            for row in np.flatnonzero(split.groups == group).tolist() * int(times)
        ]
        kept = [detections[row] for row in rows]
        boxes, counted = [split.boxes[row] for row in rows], [~split.ignored[row] for row in rows]
        values.append(wider_ap([*kept, ends], [*boxes, np.array([A])], [*counted, np.array([False])], skip_empty=False))
    assert found["ap"]["low"] == pytest.approx(np.quantile(values, 0.025))
    assert found["ap"]["high"] == pytest.approx(np.quantile(values, 0.975))
    assert found["ap"]["low"] < found["ap"]["value"] < found["ap"]["high"]


def test_intervals_hold_the_seed_and_grow_with_fewer_groups():
    split, detections = random_split(4, 60)
    first, again = (detection_metrics(split, detections) for _ in range(2))
    assert first == again
    fewer = SimpleNamespace(**{**split.__dict__, "groups": np.array([f"{index % 5}" for index in range(60)])})
    assert detection_metrics(fewer, detections)["ap"]["value"] == first["ap"]["value"]
    assert detection_metrics(split, detections, seed=1)["ap"]["low"] != first["ap"]["low"]


def test_one_group_has_no_interval():
    split, detections = random_split(5, 6, groups=np.array(["one"] * 6))
    found = detection_metrics(split, detections)["ap"]
    assert found["value"] > 0 and found["low"] is None and found["high"] is None


def test_a_split_without_faces_is_refused():
    split, detections = random_split(6, 6)
    split.ignored = all_of(split.boxes)
    with pytest.raises(DatasetError, match="no face to find"):
        detection_metrics(split, detections)
    with pytest.raises(DatasetError, match="no face to find"):
        followed_precision(split, detections)
    with pytest.raises(DatasetError, match="5 pictures"):
        detection_metrics(random_split(6, 6)[0], detections[:5])


def test_a_hundred_pictures_take_seconds():
    random = np.random.default_rng(0)
    detections = [
        (np.concatenate([low := random.uniform(0, 300, (400, 2)), low + 30], axis=1), random.random(400))
        for _ in range(100)
    ]
    boxes = [np.concatenate([low := random.uniform(0, 300, (6, 2)), low + 30], axis=1) for _ in range(100)]
    split, _ = random_split(
        0, 100, boxes=boxes, ignored=all_of(boxes, False), groups=np.arange(100).astype(str),
        ellipses=random_ellipses(boxes, 0), sizes=np.full((100, 2), 320),
    )  # fmt: skip
    start = time.perf_counter()
    detection_metrics(split, detections)
    assert time.perf_counter() - start < 10  # 1 to 2 on a free core


def test_matches_name_the_faces_of_all_pictures():
    matches = match_detections([picture((B, 0.1), (A, 0.9)), picture((A, 0.3))], [faces(A, B), faces(A)])
    assert matches.scores.tolist() == pytest.approx([0.9, 0.1, 0.3])
    assert matches.faces.tolist() == [0, 1, 2] and matches.face_pictures.tolist() == [0, 0, 1]
