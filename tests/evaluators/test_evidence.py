"""What a report draws of scores: at the edges, and what of a long curve is left."""

from __future__ import annotations

import json

import numpy as np
import pytest

from evaluators.evidence import BINS, POINTS, error_curve, score_evidence
from searchspaces.errors import DatasetError


def test_a_hand_made_example():
    scores, same = np.array([0.9, 0.4, 0.6, 0.1]), np.array([True, True, False, False])
    found = json.loads(json.dumps(score_evidence(scores, same, names=("live", "attack"), score="s", threshold=0.5)))
    # thresholds above all, then at 0.9, 0.6, 0.4, 0.1; the last two points before the end lie on one row
    assert found["roc"] == {"far": [0, 0, 0.5, 0.5, 1], "frr": [1, 0.5, 0.5, 0, 0]}
    assert found["counts"] == {"positive": 2, "negative": 2} and found["threshold"] == 0.5
    assert (found["positive"], found["negative"], found["score"]) == ("live", "attack", "s")
    bins = found["histogram"]
    assert bins["edges"][0] == 0.1 and bins["edges"][-1] == 0.9 and len(bins["edges"]) == BINS + 1
    assert bins["positive"][-1] == bins["negative"][0] == 0.5 and sum(bins["positive"]) == 1


def test_equal_scores_are_one_step():
    far, frr = error_curve(np.ones(7), np.arange(7) < 3)
    assert far.tolist() == [0, 1] and frr.tolist() == [1, 0]
    assert sum(score_evidence(np.ones(7), np.arange(7) < 3)["histogram"]["positive"]) == pytest.approx(1)


@pytest.mark.parametrize("positive", [True, False])
def test_one_side_may_be_empty(positive):
    found = score_evidence(np.linspace(0, 1, 9), np.full(9, positive))
    empty = "negative" if positive else "positive"
    assert found["counts"][empty] == 0 and sum(found["histogram"][empty]) == 0


def test_a_thinned_curve_is_part_of_the_whole_and_follows_it():
    random = np.random.default_rng(0)
    same = np.arange(30_000) < 10_000
    scores = random.normal(same * 1.5, 1)
    far, frr = error_curve(scores, same)
    assert len(far) <= POINTS and (far[0], frr[0], far[-1], frr[-1]) == (0, 1, 1, 0)
    impostors, genuine = np.sort(scores[~same]), np.sort(scores[same])
    # a point's threshold is the lowest score with that FAR or, on a vertical part, one that FRR names
    for rate, missed in zip(far[1:-1], frr[1:-1], strict=True):
        accepted, rejected = round(rate * len(impostors)), round(missed * len(genuine))
        highest = genuine[rejected] if rejected < len(genuine) else np.inf
        low = max(
            impostors[len(impostors) - accepted - 1] if accepted < len(impostors) else -np.inf,
            genuine[rejected - 1] if rejected else -np.inf,
        )
        high = min(impostors[len(impostors) - accepted] if accepted else np.inf, highest)
        assert low < high  # a threshold with both rates exists
    area = np.mean(np.searchsorted(impostors, genuine)) / len(impostors)
    assert np.trapezoid(1 - frr, far) == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("scores", [[], [0.1, np.nan], [np.inf, 0.2]])
def test_scores_that_cannot_be_drawn_are_refused(scores):
    with pytest.raises(DatasetError, match="not finite"):
        score_evidence(np.array(scores), np.arange(len(scores)) < 1)
