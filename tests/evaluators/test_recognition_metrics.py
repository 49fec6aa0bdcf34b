"""Verification and identification against slow calculations of another structure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from evaluators.datasets.recognition import Pairs
from evaluators.evidence import POINTS, error_curve, score_evidence
from evaluators.metrics import equal_error_rate, equal_error_threshold
from evaluators.recognition_metrics import (
    Comparisons,
    best_threshold,
    compare,
    fold_hits,
    pair_scores,
    rank1_hits,
    recognition_metrics,
)
from searchspaces.errors import DatasetError


def people_and_embeddings(people=6, pictures=5, noise=0.8, seed=0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 8))
    embeddings = np.repeat(centres, pictures, axis=0) + noise * random.normal(size=(people * pictures, 8))
    return embeddings, np.repeat([f"p{n}" for n in range(people)], pictures)


def all_pairs(embeddings, people):
    scores, same = [], []
    for i, j in itertools.combinations(range(len(people)), 2):
        a, b = embeddings[i], embeddings[j]
        scores.append(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))
        same.append(people[i] == people[j])
    return np.array(scores), np.array(same)


def test_all_pairs_are_compared_by_their_cosine():
    embeddings, people = people_and_embeddings()
    scores, same = pair_scores(embeddings, people, {})
    expected, truth = all_pairs(embeddings, people)
    assert np.allclose(scores, expected) and (same == truth).all()


def test_values_are_those_of_other_libraries_and_of_the_task_of_anti_spoofing():
    embeddings, people = people_and_embeddings()
    scores, same = all_pairs(embeddings, people)
    found = recognition_metrics(embeddings, people, {}, resamples=20)
    assert found["eer"]["value"] == pytest.approx(equal_error_rate(scores, same.astype(np.int64)))
    assert found["threshold"]["value"] == pytest.approx(equal_error_threshold(scores, same.astype(np.int64)))
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(same, scores))
    assert (~same).sum() == 375 and "tar_far_1e-2" not in found  # 3.75 impostors would decide it


def test_rates_are_told_as_far_as_the_pairs_reach():
    embeddings, people = people_and_embeddings(people=20, pictures=6)
    found = recognition_metrics(embeddings, people, {}, resamples=5)
    scores, same = all_pairs(embeddings, people)
    assert (~same).sum() == 6840 and "tar_far_1e-2" in found and "tar_far_1e-3" not in found
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    assert found["tar_far_1e-2"]["value"] == pytest.approx(tar[far <= 0.01].max())


def test_ties_count_half_and_do_not_break_the_rates():
    embeddings = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    people = np.array(["a", "a", "b", "b", "c", "c"])
    found = recognition_metrics(embeddings, people, {}, resamples=5)
    scores, same = all_pairs(embeddings, people)
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(same, scores))


def test_rank_one_is_by_the_first_picture_of_each_person():
    embeddings = np.array([[1.0, 0], [0.9, 0.1], [0, 1], [0.8, 0.2], [0.5, 0.5]])
    people = np.array(["a", "a", "b", "b", "lonely"])
    hits, numbers = rank1_hits(embeddings, people)
    # b's second picture is nearest to a's first
    assert hits.tolist() == [True, False] and numbers.tolist() == [0, 1]
    hits, _ = rank1_hits(embeddings[[0, 2]], people[[0, 2]])
    assert len(hits) == 0


def test_bootstrap_weights_are_those_of_people_drawn_with_all_their_pictures():
    """An interval of two people's draws by enumeration: with both drawn twice over nothing changes."""
    embeddings, people = people_and_embeddings(people=4, pictures=3, noise=1.5)
    pairs = compare(embeddings, people, {})
    counts = np.array([2, 1, 0, 1])
    weights = counts[pairs.first] * np.where(pairs.same, 1, counts[pairs.second])
    repeated = np.repeat(np.arange(len(pairs)), weights)
    from evaluators.recognition_metrics import _figures, _ranked

    weighted = _figures(_ranked(pairs), pairs.same, weights.astype(float), [])
    scores, same = pairs.scores[repeated], pairs.same[repeated].astype(np.int64)
    assert weighted["auc"] == pytest.approx(roc_auc_score(same, scores))
    # thresholds at scores that nobody of the drawn has are allowed too: the rate is the same within one pair
    assert weighted["eer"] == pytest.approx(equal_error_rate(scores, same), abs=1 / same.sum())


def test_intervals_are_those_of_a_bootstrap_that_repeats_people():
    """The same draws, each carried out with lists of pairs instead of weights."""
    embeddings, people = people_and_embeddings(people=8, pictures=4, noise=1.5)
    found = recognition_metrics(embeddings, people, {}, resamples=200, seed=3)
    pairs, hits = compare(embeddings, people, {}), rank1_hits(embeddings, people)
    counts = np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 200)
    areas, shares = [], []
    for row in counts.tolist():
        kept = []
        for place, (one, other) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
            kept += [place] * (row[one] if one == other else row[one] * row[other])
        areas.append(roc_auc_score(pairs.same[kept], pairs.scores[kept]))
        probes = [hit for hit, person in zip(*hits, strict=True) for _ in range(row[person])]
        shares.append(np.mean(probes))
    for name, draws in (("auc", areas), ("rank1", shares)):
        expected = np.quantile(draws, [0.025, 0.975])
        assert [found[name]["low"], found[name]["high"]] == pytest.approx(expected.tolist())


def test_an_interval_of_accuracy_is_of_the_drawn_pairs():
    embeddings, people = people_and_embeddings(people=8, pictures=4, noise=1.5)
    first, second = np.triu_indices(len(people), 1)
    listed = Pairs(first, second, people[first] == people[second], np.arange(len(first)) % 10)
    found = recognition_metrics(embeddings, people, {"list": listed}, resamples=200, seed=3)
    pairs = compare(embeddings, people, {"list": listed})
    right, draws = fold_hits(pairs), []
    for row in np.random.default_rng(3).multinomial(8, np.full(8, 1 / 8), 200):
        times = np.where(pairs.same, row[pairs.first], row[pairs.first] * row[pairs.second])
        draws.append(np.repeat(right, times).mean())
    expected = np.quantile(draws, [0.025, 0.975]).tolist()
    assert [found["accuracy_list"]["low"], found["accuracy_list"]["high"]] == pytest.approx(expected)


def test_pairs_without_folds_get_folds_of_both_kinds():
    """Alternating pairs, dealt one after the other, would give folds of one kind."""
    random, same = np.random.default_rng(0), np.arange(400) % 2 == 0
    scores, numbers = random.normal(same * 1.0), np.arange(400)
    zeros = np.zeros(400, dtype=np.int64)
    dealt = np.arange(400) // 2 % 10
    plain, given = (fold_hits(Comparisons(scores, same, folds, numbers, numbers)) for folds in (zeros, dealt))
    assert (plain == given).all() and 0.5 < plain.mean() < 0.9


def test_many_pairs_and_people_fit_in_memory():
    """A weight of each pair in each resample at once would be 64 MB here."""
    import tracemalloc

    embeddings, people = people_and_embeddings(people=100, pictures=3)
    random = np.random.default_rng(0)
    first, second = random.integers(0, 300, (2, 40_000))
    listed = Pairs(first, second, people[first] == people[second], np.zeros(40_000, dtype=np.int64))
    tracemalloc.start()
    recognition_metrics(embeddings, people, {"list": listed}, resamples=20)
    smaller = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    recognition_metrics(embeddings, people, {"list": listed}, resamples=200)
    assert tracemalloc.get_traced_memory()[1] < 1.5 * smaller
    tracemalloc.stop()


def test_intervals_hold_the_truth_most_of_the_time():
    """Independent people, whose AUC is known: of many samples most intervals hold it."""
    truth = recognition_metrics(*people_and_embeddings(120, 4, 1.0, seed=99), {}, resamples=2)["auc"]["value"]
    held = 0
    for seed in range(20):
        found = recognition_metrics(*people_and_embeddings(15, 4, 1.0, seed=seed), {}, resamples=150)["auc"]
        held += found["low"] <= truth <= found["high"]
    assert held >= 14


def fold_accuracy(scores, same, folds):
    """LFW's protocol, written anew: all thresholds are tried on nine folds."""
    rates = []
    for fold in sorted(set(folds.tolist())):
        train, test = folds != fold, folds == fold
        candidates = [-2, *((np.sort(scores[train])[1:] + np.sort(scores[train])[:-1]) / 2), 2]
        right = [np.mean((scores[train] >= t) == same[train]) for t in candidates]
        best = [t for t, r in zip(candidates, right, strict=True) if r == max(right)]
        rates.append([np.mean((scores[test] >= t) == same[test]) for t in best])
    return rates


def test_accuracy_is_of_ten_folds():
    random = np.random.default_rng(1)
    embeddings = random.normal(size=(200, 4))
    same = np.tile([True, False], 50)
    embeddings[1::2][same] = embeddings[::2][same] + 0.7 * random.normal(size=(50, 4))
    first = np.arange(0, 200, 2)
    pairs = Pairs(first, first + 1, same, np.arange(100) // 10)
    people = np.array([f"p{n}" for n in range(200)])
    compared = compare(embeddings, people, {"list": pairs})
    hits = fold_hits(compared)
    for fold, rates in enumerate(fold_accuracy(compared.scores, same, pairs.folds)):
        assert min(rates) - 1e-9 <= hits[pairs.folds == fold].mean() <= max(rates) + 1e-9
    found = recognition_metrics(embeddings, people, {"list": pairs}, resamples=50)
    assert found["accuracy_list"]["value"] == pytest.approx(hits.mean())
    assert found["accuracy_list"]["low"] <= hits.mean() <= found["accuracy_list"]["high"]


def test_lists_are_told_together_and_each_for_itself():
    embeddings, people = people_and_embeddings()
    first, second = np.triu_indices(len(people), 1)
    same = people[first] == people[second]
    both = {
        name: Pairs(first[part], second[part], same[part], np.zeros(len(first[part]), int))
        for name, part in (("a", slice(0, 200)), ("b", slice(200, None)))
    }
    found = recognition_metrics(embeddings, people, both, resamples=10)
    whole = recognition_metrics(embeddings, people, {}, resamples=10)
    assert found["eer"]["value"] == pytest.approx(whole["eer"]["value"])
    assert {"accuracy_a", "accuracy_b", "eer_a", "eer_b", "auc_b"} <= found.keys()


def test_the_best_threshold_lies_between_the_sides():
    scores, same = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    assert best_threshold(scores, same) == pytest.approx(0.5)
    assert best_threshold(scores, np.ones(4, bool)) < 0.1 and best_threshold(scores, np.zeros(4, bool)) > 0.9


def test_nobody_is_identified_where_names_are_not_known():
    embeddings, people = people_and_embeddings()
    assert "rank1" in recognition_metrics(embeddings, people, {}, resamples=2)
    assert "rank1" not in recognition_metrics(embeddings, people, {}, resamples=2, named=False)


def test_what_cannot_be_compared_is_refused():
    embeddings, people = people_and_embeddings()
    with pytest.raises(DatasetError, match="not finite"):
        pair_scores(np.where(np.arange(30)[:, None] == 3, np.nan, embeddings), people, {})
    with pytest.raises(DatasetError, match="of different people"):
        pair_scores(embeddings, np.full(30, "same"), {})
    with pytest.raises(DatasetError, match="of one person"):
        pair_scores(embeddings, np.arange(30).astype(str), {})


def test_very_many_pairs_are_sampled(monkeypatch):
    from evaluators import recognition_metrics as module

    embeddings, people = people_and_embeddings(people=12, pictures=5)
    whole = recognition_metrics(embeddings, people, {}, resamples=2)["auc"]["value"]
    monkeypatch.setattr(module, "MOST_PAIRS", 1000)
    _, same = pair_scores(embeddings, people, {})
    assert same.sum() == 12 * 10 and 800 < (~same).sum() <= 1000
    assert recognition_metrics(embeddings, people, {}, resamples=2)["auc"]["value"] == pytest.approx(whole, abs=0.03)


def test_the_curve_of_errors_is_that_of_scikit_learn():
    random = np.random.default_rng(3)
    scores, same = random.normal(size=300).round(1), random.random(300) < 0.3
    far, frr = error_curve(scores, same)
    expected, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    points = set(zip(expected.round(9).tolist(), (1 - tar).round(9).tolist(), strict=True))
    assert set(zip(far.round(9).tolist(), frr.round(9).tolist(), strict=True)) <= points
    assert far[0] == 0 and far[-1] == 1 and frr[-1] == 0 and (np.diff(far) >= 0).all() and (np.diff(frr) <= 0).all()
    assert np.trapezoid(1 - frr, far) == pytest.approx(roc_auc_score(same, scores), abs=1e-9)


def test_evidence_is_small_and_whole():
    scores = np.concatenate(
        [np.random.default_rng(0).normal(1, 1, 5000), np.random.default_rng(1).normal(-1, 1, 50_000)]
    )
    found = score_evidence(scores, np.arange(55_000) < 5000, threshold=0.2)
    assert len(found["roc"]["far"]) <= POINTS and found["threshold"] == 0.2
    for side in ("positive", "negative"):
        assert sum(found["histogram"][side]) == pytest.approx(1, abs=1e-4)
    assert found["counts"] == {"positive": 5000, "negative": 50_000}
