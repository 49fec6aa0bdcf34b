"""Verification and identification of people, with intervals over people.

A pair of pictures is accepted as one person if the cosine of its embeddings is at least a threshold. Protocols: all
pairs of the pictures, or the pairs of lists such as LFW's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError

from .datasets.recognition import Pairs
from .metrics import Metric

Array = NDArray[np.float64]
RESAMPLES, LEVEL = 1000, 0.95
MOST_PAIRS = 4_000_000  # of all pairs so many impostors are compared at most, drawn with a fixed seed
MANY_PAIRS, FEWER_RESAMPLES = 200_000, 200
RATES = ("1e-2", "1e-3", "1e-4", "1e-5", "1e-6")  # false acceptance rates that may be told
PER_RATE = 10  # impostors that a rate must expect, or its TAR is of a few pairs
FOLDS = 10


@dataclass(frozen=True)
class Comparisons:
    """Pairs that were compared.

    Attributes:
        scores: (P,) cosines; same: (P,) bool; folds: (P,).
        first, second: (P,) numbers of the people of both pictures.
    """

    scores: Array
    same: NDArray[np.bool_]
    folds: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Ranked:
    """Comparisons by the rank of their score: ``rank (P,)`` among ``size`` different scores, ascending."""

    rank: NDArray[np.int64]
    size: int

    def rates(self, same: NDArray[np.bool_], weights: Array) -> tuple[Array, Array, Array, Array]:
        """Mass of genuine and of impostor pairs at each score ``(size,)``, and at each of the ``size + 1`` thresholds
        that lie between them the false acceptance and the false rejection rate."""
        genuine: Array = np.bincount(self.rank[same], weights[same], self.size).astype(np.float64)
        impostor: Array = np.bincount(self.rank[~same], weights[~same], self.size).astype(np.float64)
        accepted = np.concatenate([[0.0], np.cumsum(impostor[::-1])])[::-1] / impostor.sum()
        rejected = np.concatenate([[0.0], np.cumsum(genuine)]) / genuine.sum()
        return genuine, impostor, accepted, rejected


def pair_scores(
    embeddings: NDArray[Any], people: NDArray[Any], lists: Mapping[str, Pairs]
) -> tuple[Array, NDArray[np.bool_]]:
    """Cosine of each pair that is compared, and whether both pictures show one person, both ``(P,)``.

    Args:
        embeddings: ``(N, d)``.
        people: ``(N,)`` names.
        lists: protocols; all pairs without any.

    Raises:
        DatasetError: if an embedding is not finite, or there are no pairs of one kind.
    """
    pairs = compare(embeddings, people, lists)
    return pairs.scores, pairs.same


def compare(embeddings: NDArray[Any], people: NDArray[Any], lists: Mapping[str, Pairs]) -> Comparisons:
    """All comparisons of the lists one after the other, or of all pairs of pictures."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    if not np.isfinite(vectors).all():
        raise DatasetError(
            f"{int((~np.isfinite(vectors)).any(axis=1).sum())} of {len(vectors)} embeddings are not finite: the "
            "network's weights are damaged, or its training has diverged."
        )
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    numbers = np.unique(people, return_inverse=True)[1].astype(np.int64)
    first, second, same, folds = _all_pairs(numbers) if not lists else _listed(lists)
    for wanted, name in ((True, "of one person"), (False, "of different people")):
        if not np.any(same == wanted):
            raise DatasetError(f"Verification needs pairs {name}; among these {len(vectors)} pictures there are none.")
    scores = np.concatenate(
        [np.einsum("pd,pd->p", vectors[first[part]], vectors[second[part]]) for part in _blocks(len(first))]
    )
    return Comparisons(scores, same, folds, numbers[first], numbers[second])


def _blocks(size: int, length: int = 100_000) -> Iterator[slice]:
    for start in range(0, size, length):
        yield slice(start, start + length)


def _listed(lists: Mapping[str, Pairs]) -> tuple[Any, Any, Any, Any]:
    given = list(lists.values())
    columns = [np.concatenate([getattr(pairs, name) for pairs in given]) for name in ("first", "second")]
    same = np.concatenate([np.asarray(pairs.same, dtype=bool) for pairs in given])
    return columns[0], columns[1], same, np.concatenate([pairs.folds for pairs in given])


def _all_pairs(numbers: NDArray[np.int64]) -> tuple[Any, Any, Any, Any]:
    """All pairs of pictures; of very many the genuine ones and `MOST_PAIRS` impostors."""
    size = len(numbers)
    if size * (size - 1) // 2 <= MOST_PAIRS:
        first, second = np.triu_indices(size, 1)
    else:
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        genuine = [np.stack(np.triu_indices(len(group), 1)) for group in groups]
        own = np.concatenate([group[pairs] for group, pairs in zip(groups, genuine, strict=True)], axis=1)
        drawn = np.random.default_rng(0).integers(0, size, (2, MOST_PAIRS))
        drawn = drawn[:, numbers[drawn[0]] != numbers[drawn[1]]]
        first, second = np.concatenate([own, drawn], axis=1)
    return first, second, numbers[first] == numbers[second], np.zeros(len(first), dtype=np.int64)


def recognition_metrics(
    embeddings: NDArray[Any],
    people: NDArray[Any],
    lists: Mapping[str, Pairs],
    *,
    named: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Metric]:
    """Verification at all thresholds, and identification, with bootstrap percentile intervals over people.

    People are drawn with replacement: a pair of one person counts as often as that person is drawn, a pair of two as
    often as both together. With more than 200,000 pairs there are 200 resamples.

    Args:
        named: whether each person has one name; nobody can be identified otherwise, and there is no ``rank1``.

    Returns:
        ``eer``; ``auc``; ``tar_far_1e-2`` and lower rates, as far as ten impostor pairs are expected at one;
        ``rank1``, the share of pictures whose most similar first picture of a person is of the right one (the gallery
        is the first picture of each person, and stays whole when people are drawn); ``threshold`` of equal errors.
        With lists all of these are of the pairs of all lists together, and for each ``accuracy_NAME`` (see
        `fold_hits`), ``eer_NAME`` and ``tar_far_..._NAME``. Fractions.

    Raises:
        DatasetError: see `pair_scores`.
    """
    pairs = compare(embeddings, people, lists)
    random = np.random.default_rng(seed)
    number = int(np.unique(people).size)
    draws = resamples if len(pairs) <= MANY_PAIRS else min(resamples, FEWER_RESAMPLES)
    counts = random.multinomial(number, np.full(number, 1 / number), draws)
    result = _verification(pairs, counts, "")
    hits, probes = rank1_hits(embeddings, people)
    if len(hits) and named:
        of_person = [np.bincount(probes, weights, number) for weights in (hits, np.ones(len(hits)))]
        found, probed = (counts @ each for each in of_person)
        result["rank1"] = _interval(float(hits.mean()), found[probed > 0] / probed[probed > 0])
    for name, own in lists.items() if lists else ():
        listed = compare(embeddings, people, {name: own})
        right = fold_hits(listed)
        drawn = [weights @ right / weights.sum() for weights in _drawn_weights(listed, counts)]
        result[f"accuracy_{name}"] = _interval(float(right.mean()), np.array(drawn))
        if len(lists) > 1:
            result |= _verification(listed, counts, f"_{name}")
    result["threshold"] = {"value": _equal_error(pairs)[1], "low": None, "high": None}
    return result


def _verification(pairs: Comparisons, counts: NDArray[np.int64], suffix: str) -> dict[str, Metric]:
    """EER, AUC and TAR of comparisons, with intervals."""
    ranked, rates = _ranked(pairs), _told_rates(pairs)
    values = _figures(ranked, pairs.same, np.ones(len(pairs)), rates)
    drawn: dict[str, list[float]] = {name: [] for name in values}
    for weights in _drawn_weights(pairs, counts):
        for name, value in _figures(ranked, pairs.same, weights, rates).items():
            drawn[name].append(value)
    return {f"{name}{suffix}": _interval(value, np.array(drawn[name])) for name, value in values.items()}


def _drawn_weights(pairs: Comparisons, counts: NDArray[np.int64]) -> Iterator[Array]:
    """How often each pair counts when people are drawn as often as in a row of ``counts (R, people)``; one resample at
    a time, as all would not fit in memory. Resamples without pairs of either kind are left out."""
    for row in counts:
        weights = (row[pairs.first] * np.where(pairs.same, 1, row[pairs.second])).astype(np.float64)
        if weights[pairs.same].any() and weights[~pairs.same].any():
            yield weights


def _ranked(pairs: Comparisons) -> Ranked:
    unique, rank = np.unique(pairs.scores, return_inverse=True)
    return Ranked(rank.astype(np.int64), len(unique))


def _told_rates(pairs: Comparisons) -> list[str]:
    impostors = int((~pairs.same).sum())
    return [rate for rate in RATES if impostors * float(rate) >= PER_RATE]


def _figures(ranked: Ranked, same: NDArray[np.bool_], weights: Array, rates: list[str]) -> dict[str, float]:
    """EER, AUC and TAR of weighted comparisons."""
    genuine, impostor, accepted, rejected = ranked.rates(same, weights)
    best = _closest(accepted, rejected)
    below = np.concatenate([[0.0], np.cumsum(impostor)[:-1]])
    area = float((genuine * (below + impostor / 2)).sum() / (genuine.sum() * impostor.sum()))
    found = {"eer": float(accepted[best] + rejected[best]) / 2, "auc": area}
    for rate in rates:  # the lowest threshold that accepts no more impostors than the rate
        place = int(np.argmax(accepted <= float(rate) + 1e-12))
        found[f"tar_far_{rate}"] = float(1 - rejected[place])
    return found


def _closest(accepted: Array, rejected: Array) -> int:
    """The threshold of equal errors; of several the middle one, as in `metrics.equal_error_threshold`."""
    gaps = np.abs(accepted - rejected)
    best = np.flatnonzero(gaps <= gaps.min() + 1e-12)
    return int(best[len(best) // 2])


def _equal_error(pairs: Comparisons) -> tuple[float, float]:
    """EER and its threshold."""
    unique = np.unique(pairs.scores)
    _, _, accepted, rejected = _ranked(pairs).rates(pairs.same, np.ones(len(pairs)))
    best = _closest(accepted, rejected)
    middles = np.concatenate([[unique[0] - 1e-6], (unique[1:] + unique[:-1]) / 2, [unique[-1] + 1e-6]])
    return float(accepted[best] + rejected[best]) / 2, float(middles[best])


def fold_hits(pairs: Comparisons) -> NDArray[np.bool_]:
    """Whether each pair is decided rightly, ``(P,)``, by LFW's protocol: the threshold of a fold is the one that is
    best on all other folds. Pairs without folds are dealt into ten, each kind in turn, so that every fold has both."""
    folds = pairs.folds
    if len(np.unique(folds)) == 1:
        folds = np.zeros(len(pairs), dtype=np.int64)
        for side in (pairs.same, ~pairs.same):
            folds[side] = np.arange(side.sum()) % FOLDS
    right = np.zeros(len(pairs), dtype=bool)
    for fold in np.unique(folds):
        own = folds == fold
        threshold = best_threshold(pairs.scores[~own], pairs.same[~own])
        right[own] = (pairs.scores[own] >= threshold) == pairs.same[own]
    return right


def best_threshold(scores: Array, same: NDArray[np.bool_]) -> float:
    """The threshold with the most right decisions; of several the middle one, halfway between two scores."""
    if not len(scores):
        return 0.0
    unique, rank = np.unique(scores, return_inverse=True)
    genuine, impostor = (np.bincount(rank[side], minlength=len(unique)) for side in (same, ~same))
    right = np.concatenate([[0], np.cumsum(impostor)]) + np.concatenate([np.cumsum(genuine[::-1])[::-1], [0]])
    best = np.flatnonzero(right == right.max())
    place = int(best[len(best) // 2])
    edges = np.concatenate([[unique[0] - 1e-6], (unique[1:] + unique[:-1]) / 2, [unique[-1] + 1e-6]])
    return float(edges[place])


def rank1_hits(embeddings: NDArray[Any], people: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """For every picture but the first of each person, whether its most similar first picture is of the right person,
    and the number of that person; both empty if everybody has one picture."""
    vectors = np.asarray(embeddings, dtype=np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    _, gallery, numbers = np.unique(people, return_index=True, return_inverse=True)
    probes = np.setdiff1d(np.arange(len(people)), gallery)
    nearest = [np.argmax(vectors[probes[part]] @ vectors[gallery].T, axis=1) for part in _blocks(len(probes), 2000)]
    found = np.concatenate(nearest) if nearest else np.zeros(0, dtype=np.int64)
    return found == numbers[probes], numbers[probes].astype(np.int64)


def _interval(value: float, draws: Array) -> Metric:
    if not len(draws):
        return {"value": value, "low": None, "high": None}
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": value, "low": float(low), "high": float(high)}
