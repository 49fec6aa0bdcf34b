"""What a report draws of a verification: how the scores of both sides lie, and what every threshold would give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError

BINS = 60
POINTS = 400  # of the ROC curve at most


def score_evidence(
    scores: NDArray[Any],
    positive: NDArray[np.bool_],
    *,
    names: tuple[str, str] = ("same person", "different people"),
    score: str = "cosine similarity",
    threshold: float | None = None,
) -> dict[str, Any]:
    """Histograms and ROC of scores, JSON-able.

    Args:
        scores: ``(P,)``; high speaks for the positive side.
        positive: ``(P,)``.
        names: of the positive and the negative side.
        score: what a score is.
        threshold: from which a score counts as positive.

    Returns:
        ``positive, negative, score, threshold``; ``counts`` of both sides; ``histogram`` with ``edges`` and for each
        side the share in each bin; ``roc`` with ``far``, the share of negatives at or above a threshold, ascending,
        and ``frr``, the share of positives below it.

    Raises:
        DatasetError: if there are no scores, or one is not finite.
    """
    values, sides = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not len(values) or not np.isfinite(values).all():
        raise DatasetError(
            f"Of {len(values)} scores {int((~np.isfinite(values)).sum())} are not finite; a drawing needs at least one "
            "score, and all finite: the split is empty, or the network's weights are damaged."
        )
    edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-9), BINS + 1)
    groups = {names[0]: values[sides], names[1]: values[~sides]}
    shares = [np.histogram(group, edges)[0] / max(1, len(group)) for group in groups.values()]
    far, frr = error_curve(values, sides)
    return {
        "positive": names[0],
        "negative": names[1],
        "score": score,
        "threshold": threshold,
        "counts": {"positive": int(sides.sum()), "negative": int((~sides).sum())},
        "histogram": {
            "edges": _rounded(edges),
            "positive": _rounded(shares[0]),
            "negative": _rounded(shares[1]),
        },
        "roc": {"far": _rounded(far), "frr": _rounded(frr)},
    }


def error_curve(scores: NDArray[Any], positive: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """False acceptance and false rejection rate at every threshold, thinned to `POINTS`; FAR ascends from 0 to 1."""
    order = np.argsort(-scores, kind="stable")
    ranked, sides = scores[order], positive[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # the last of each group of equal scores
    accepted = np.cumsum(~sides)[ends] / max(1, int((~sides).sum()))
    rejected = 1 - np.cumsum(sides)[ends] / max(1, int(sides.sum()))
    far, frr = np.concatenate([[0.0], accepted]), np.concatenate([[1.0], rejected])
    # corners of the staircase: points between two of the same row or column say nothing
    corner = np.ones(len(far), dtype=bool)
    corner[1:-1] = ~(
        ((far[1:-1] == far[:-2]) & (far[1:-1] == far[2:])) | ((frr[1:-1] == frr[:-2]) & (frr[1:-1] == frr[2:]))
    )
    far, frr = far[corner], frr[corner]
    if len(far) <= POINTS:
        return far, frr
    # dense where FAR is small, as the axis of the drawing is logarithmic
    half = np.unique(np.geomspace(1, len(far), POINTS // 2).astype(int) - 1)
    kept = np.union1d(half, np.linspace(0, len(far) - 1, POINTS - len(half)).astype(int))
    return far[kept], frr[kept]


def _rounded(values: NDArray[Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
