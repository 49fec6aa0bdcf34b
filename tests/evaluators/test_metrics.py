"""Error rates against hand-made examples, brute force, scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from evaluators.metrics import (
    apcer,
    area_under_curve,
    bpcer,
    equal_error_rate,
    equal_error_threshold,
    metrics_with_intervals,
    point_metrics,
    swap_error_names,
)
from searchspaces.errors import DatasetError


def random_scores(seed, n=200):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    scores = np.round(random.normal(labels * 1.2, 1.0), 1 + seed % 3)  # rounding makes ties
    kinds = np.where(labels == 1, "live", np.where(random.random(n) < 0.5, "print", "replay"))
    return scores, labels, kinds


def test_rates_of_a_hand_made_example():
    scores = np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.6, 0.3, 0.05])
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    kinds = ["live"] * 3 + ["print", "print", "replay", "replay", "replay"]
    found = point_metrics(scores, labels, kinds, threshold=0.5)
    assert found["apcer_print"] == 1 / 2 and found["apcer_replay"] == 1 / 3
    assert found["apcer"] == 2 / 5 and found["apcer_max"] == 1 / 2 and found["bpcer"] == 1 / 3
    assert found["acer"] == found["hter"] == pytest.approx((2 / 5 + 1 / 3) / 2)
    assert found["acer_iso"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert found["accuracy"] == 5 / 8


def test_a_score_at_the_threshold_passes():
    assert apcer(np.array([0.5]), 0.5) == 1.0 and bpcer(np.array([0.5]), 0.5) == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_rates_equal_scikit_learns(seed):
    scores, labels, kinds = random_scores(seed)
    found = point_metrics(scores, labels, kinds.tolist(), threshold=0.4)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["acer"] == pytest.approx(1 - balanced_accuracy_score(labels, scores >= 0.4))


@pytest.mark.parametrize("seed", range(6))
def test_equal_error_threshold_equals_brute_force(seed):
    scores, labels, _ = random_scores(seed)
    values = np.unique(scores)
    candidates = [values[0] - 1, *((values[1:] + values[:-1]) / 2), values[-1] + 1]
    gaps = [abs(apcer(scores[labels == 0], t) - bpcer(scores[labels == 1], t)) for t in candidates]
    threshold = equal_error_threshold(scores, labels)
    assert abs(apcer(scores[labels == 0], threshold) - bpcer(scores[labels == 1], threshold)) == pytest.approx(
        min(gaps)
    )


def test_perfect_and_reversed_scores():
    labels = np.array([0, 0, 1, 1])
    assert equal_error_rate(np.array([0.1, 0.2, 0.8, 0.9]), labels) == 0.0
    assert equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), labels) == 1.0
    assert area_under_curve(np.array([0.5, 0.5, 0.5, 0.5]), labels) == 0.5


def test_intervals_hold_the_value_and_widen_when_pictures_of_a_person_agree():
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 5).astype(str)
    labels = np.tile([1, 0, 0, 1, 0], 40)
    kinds = np.where(labels == 1, "live", "print")
    noise = random.normal(0, 1.0, 40)
    dependent = labels + np.repeat(noise, 5) * np.where(labels == 1, 1, -1)
    together = metrics_with_intervals(dependent, labels, kinds.tolist(), people.tolist(), 0.5)
    apart = metrics_with_intervals(dependent, labels, kinds.tolist(), np.arange(200).astype(str).tolist(), 0.5)
    for name, metric in together.items():
        if name != "threshold":
            assert metric["low"] <= metric["value"] <= metric["high"], name
    assert together["threshold"] == {"value": 0.5, "low": None, "high": None}
    width = [m["acer"]["high"] - m["acer"]["low"] for m in (together, apart)]
    assert width[0] > 1.3 * width[1]


def test_interval_of_a_rate_has_the_binomial_width():
    """One picture a person: the bootstrap of BPCER must agree with the normal approximation of a proportion."""
    random = np.random.default_rng(1)
    labels = np.repeat([1, 0], 400)
    scores = random.random(800)
    found = metrics_with_intervals(scores, labels, ["x"] * 800, np.arange(800).astype(str).tolist(), 0.3)["bpcer"]
    half = 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / 400)
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.15)


def test_one_class_alone_has_no_error_rates():
    with pytest.raises(DatasetError, match="only one"):
        metrics_with_intervals(np.ones(3), np.ones(3, int), ["live"] * 3, ["a", "b", "c"], 0.5)


PTA_TABLE_3 = {  # as printed in the PTA paper, percent: accuracy, APCER, BPCER, ACER
    "No PTA": (96.74, 1.07, 4.18, 2.63),
    "PTA-HHH": (96.89, 0.72, 4.12, 2.42),
    "PTA-LHH": (96.84, 0.70, 4.20, 2.45),
    "PTA-HLH": (97.04, 0.80, 3.88, 2.34),
    "PTA-HHL": (97.83, 2.30, 2.11, 2.21),
    "PTA-LLL": (97.85, 2.53, 1.98, 2.26),
    "PTA-BBB": (97.49, 1.21, 3.05, 2.13),
}
SPOOF_SHARE = 0.703  # of the test split; about 47 thousand of 67 thousand pictures


@pytest.mark.parametrize("name", PTA_TABLE_3)
def test_the_pta_papers_accuracies_need_its_error_names_swapped(name):
    printed = dict(zip(("accuracy", "apcer", "bpcer", "acer"), PTA_TABLE_3[name], strict=True))
    iso = swap_error_names(printed)

    def accuracy(row):
        return 100 - (SPOOF_SHARE * row["apcer"] + (1 - SPOOF_SHARE) * row["bpcer"])

    # each printed figure is rounded to 0.01, so that the two sides may differ by 0.01
    assert abs(accuracy(iso) - printed["accuracy"]) <= 0.0101
    assert abs(accuracy(printed) - printed["accuracy"]) > 0.05
    assert (iso["apcer"], iso["bpcer"]) == (printed["bpcer"], printed["apcer"])
    assert (iso["accuracy"], iso["acer"]) == (printed["accuracy"], printed["acer"])
    assert swap_error_names(iso) == printed


def test_a_row_without_both_error_rates_is_refused():
    with pytest.raises(KeyError):
        swap_error_names({"accuracy": 96.7, "apcer": 1.0})
