"""Error rates of presentation attack detection, with intervals over people.

A score is high for live. A picture passes if its score is at least the threshold. Names follow ISO/IEC 30107-3:

    APCER  share of attack pictures that pass
    BPCER  share of live (bona fide) pictures that do not pass

ISO reports the largest APCER over the attack types; the Auto-FAS paper does not say, and most papers pool all attacks.
Both are given: ``apcer`` and ``acer`` pool, ``apcer_max`` and ``acer_iso`` take the largest. The PTA paper prints the
two names the other way round, see `swap_error_names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError

if TYPE_CHECKING:
    from .scores import Scores

Array = NDArray[np.float64]
Metric = dict[str, float | None]  # value, low, high


def apcer(attack_scores: Array, threshold: float) -> float:
    """Attack presentation classification error rate: attacks accepted / attacks."""
    return float(np.mean(attack_scores >= threshold))


def bpcer(live_scores: Array, threshold: float) -> float:
    """Bona fide presentation classification error rate: live rejected / live."""
    return float(np.mean(live_scores < threshold))


def equal_error_threshold(scores: Array, labels: NDArray[np.int64]) -> float:
    """The threshold at which APCER and BPCER are closest; of several, the middle one.

    Candidates lie halfway between neighbouring scores and beyond both ends, so that a test score seldom ties.
    """
    unique = np.unique(scores)
    candidates = np.concatenate([[unique[0] - 1e-6], (unique[1:] + unique[:-1]) / 2, [unique[-1] + 1e-6]])
    attacks, live = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    accepted = 1 - np.searchsorted(attacks, candidates, side="left") / len(attacks)
    rejected = np.searchsorted(live, candidates, side="left") / len(live)
    gaps = np.abs(accepted - rejected)
    best = np.flatnonzero(gaps <= gaps.min() + 1e-12)
    return float(candidates[best[len(best) // 2]])


def equal_error_rate(scores: Array, labels: NDArray[np.int64]) -> float:
    """Mean of APCER and BPCER at `equal_error_threshold` of these very scores."""
    threshold = equal_error_threshold(scores, labels)
    return (apcer(scores[labels == 0], threshold) + bpcer(scores[labels == 1], threshold)) / 2


def area_under_curve(scores: Array, labels: NDArray[np.int64]) -> float:
    """Area under the ROC curve: the chance that a live picture scores above an attack, ties counted half."""
    attacks, live = np.sort(scores[labels == 0]), scores[labels == 1]
    below = np.searchsorted(attacks, live, side="left")
    ties = np.searchsorted(attacks, live, side="right") - below
    return float(np.mean((below + 0.5 * ties) / len(attacks)))


def point_metrics(scores: Array, labels: NDArray[np.int64], kinds: Sequence[str], threshold: float) -> dict[str, float]:
    """All error rates of one set of scores at a threshold that was chosen elsewhere; fractions.

    Returns:
        ``apcer`` (pooled), ``apcer_KIND`` for each attack type, ``apcer_max``, ``bpcer``, ``acer`` = (apcer + bpcer)
        / 2 (Eq. 7 of the Auto-FAS paper), ``acer_iso`` (with apcer_max), ``hter`` = (FAR + FRR) / 2, ``eer``, ``auc``
        and ``accuracy``. With one threshold for all, HTER and the pooled ACER are the same number.
    """
    kinds_array = np.asarray(kinds)
    attacks, live = scores[labels == 0], scores[labels == 1]
    pooled, rejected = apcer(attacks, threshold), bpcer(live, threshold)
    by_kind = {str(kind): apcer(scores[kinds_array == kind], threshold) for kind in np.unique(kinds_array[labels == 0])}
    largest = max(by_kind.values())
    return {
        "acer": (pooled + rejected) / 2,
        "acer_iso": (largest + rejected) / 2,
        "apcer": pooled,
        **{f"apcer_{kind}": value for kind, value in by_kind.items()},
        "apcer_max": largest,
        "bpcer": rejected,
        "hter": (pooled + rejected) / 2,
        "eer": equal_error_rate(scores, labels),
        "auc": area_under_curve(scores, labels),
        "accuracy": float(np.mean((scores >= threshold) == (labels == 1))),
    }


def metrics_with_intervals(
    scores: Array,
    labels: NDArray[np.int64],
    kinds: Sequence[str],
    people: Sequence[str],
    threshold: float,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Metric]:
    """`point_metrics` with bootstrap percentile intervals over people.

    People are drawn with replacement, each with all of their pictures, since pictures of one person are not
    independent; the threshold stays fixed. A resample without live pictures or attacks is drawn again.

    Returns:
        ``{"acer": {"value", "low", "high"}, ..., "threshold": {"value", None, None}}``, fractions.

    Raises:
        DatasetError: if there are no live pictures or no attacks.
    """
    if not (np.any(labels == 0) and np.any(labels == 1)):
        raise DatasetError("Error rates need live pictures and attacks; this split has only one of them.")
    kinds_array, people_array = np.asarray(kinds), np.asarray(people)
    value = point_metrics(scores, labels, kinds, threshold)
    groups = [np.flatnonzero(people_array == person) for person in np.unique(people_array)]
    random = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in value}
    drawn = 0
    while drawn < resamples:
        rows = np.concatenate([groups[index] for index in random.integers(0, len(groups), len(groups))])
        if labels[rows].min() == labels[rows].max():
            continue
        drawn += 1
        for name, number in point_metrics(scores[rows], labels[rows], kinds_array[rows].tolist(), threshold).items():
            draws[name].append(number)
    tails = [(1 - level) / 2, (1 + level) / 2]
    result: dict[str, Metric] = {}
    for name, number in value.items():
        low, high = np.quantile(draws[name], tails)
        result[name] = {"value": number, "low": float(low), "high": float(high)}
    result["threshold"] = {"value": threshold, "low": None, "high": None}
    return result


def video_metrics(judged: Scores, val: Scores, rule: float = 0.5) -> dict[str, Metric]:
    """Error rates of videos, whose score is the mean of their frames', and HTER at a fixed threshold.

    Args:
        judged: scores of the judged frames.
        val: those of the validation split, whose videos choose the threshold of equal errors.
        rule: the released code of HaTFAS calls live what its softmax gives more than half.

    Returns:
        ``video_`` and the name for each of `metrics_with_intervals` but ``auc`` and ``accuracy``; ``hter_argmax`` of
        frames and ``video_hter_argmax`` of videos at the fixed threshold. Intervals are over people.
    """
    videos, val_videos = judged.by_video(), val.by_video()
    chosen = with_intervals(videos, equal_error_threshold(val_videos.values, val_videos.labels))
    return {
        "hter_argmax": with_intervals(judged, rule)["hter"],
        **{f"video_{name}": metric for name, metric in chosen.items() if name not in ("auc", "accuracy")},
        "video_hter_argmax": with_intervals(videos, rule)["hter"],
    }


def with_intervals(scores: Scores, threshold: float) -> dict[str, Metric]:
    """`metrics_with_intervals` of scores."""
    kinds, people = scores.kinds.tolist(), scores.people.tolist()
    return metrics_with_intervals(scores.values, scores.labels, kinds, people, threshold)


def judged_metrics(judged: Scores, val: Scores) -> dict[str, Metric]:
    """All error rates of one split at thresholds that the validation split chooses: of frames, and of videos if there
    are any.

    Raises:
        DatasetError: if one of both lacks live pictures or attacks.
    """
    if val.labels.min() == val.labels.max():
        raise DatasetError("A threshold of equal errors needs live pictures and attacks; val has only one of them.")
    found = with_intervals(judged, equal_error_threshold(val.values, val.labels))
    if judged.videos is not None and val.videos is not None:
        found |= video_metrics(judged, val)
    return found


def percent_of(name: str, metric: Mapping[str, float | None]) -> str:
    """A metric with its interval, for a progress line.

    >>> percent_of("ACER", {"value": 0.125, "low": 0.05, "high": 0.2})
    'ACER 12.5 % (95 % interval 5.0 to 20.0)'
    """
    value, low, high = (100 * (metric[bound] or 0) for bound in ("value", "low", "high"))
    return f"{name} {value:.1f} % (95 % interval {low:.1f} to {high:.1f})"


def swap_error_names(row: Mapping[str, float]) -> dict[str, float]:
    """A row of the PTA paper's Table 3 under ISO's names: ``apcer`` and ``bpcer`` change places, the rest stays.

    The paper defines APCER = FP / (FP + TN) and BPCER = FN / (FN + TP) (Eq. 2 and 3) and calls a spoof positive, so its
    APCER counts live faces that are flagged, which ISO calls BPCER. Its own accuracies agree: they are
    1 - (w e_spoof + (1 - w) e_live) in all rows, w the share of attacks in the test split, with its BPCER as e_spoof.
    ACER is the mean of both and does not change.

    Raises:
        KeyError: if the row lacks one of the two.
    """
    return {**row, "apcer": row["bpcer"], "bpcer": row["apcer"]}
