"""How good predicted latencies are: order, share within 10 %, and how often an interval holds the measurement."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from searchspaces.features import Features

from .latency import LatencyModel

Matrix = NDArray[np.float64]
FOLDS = 5


def rank_accuracy(predicted: Matrix, measured: Matrix) -> dict[str, float]:
    """``spearman`` and ``kendall`` (tau-b) of (n,) against (n,); 0 where a side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return {"spearman": 0.0, "kendall": 0.0}
    return {
        "spearman": float(spearmanr(predicted, measured)[0]),
        "kendall": float(kendalltau(predicted, measured)[0]),
    }


def accuracy(predicted: Matrix, measured: Matrix) -> dict[str, float]:
    """The ranks' accuracy, ``within_10`` (share of errors of at most a tenth) and ``mape``, as fractions."""
    error = np.abs(predicted - measured) / measured
    return {
        **rank_accuracy(predicted, measured),
        "within_10": float(np.mean(error <= 0.1)),
        "mape": float(np.mean(error)),
    }


def judge(model: LatencyModel, features: Features, measured: Matrix, level: float = 0.9) -> dict[str, float]:
    """Accuracy of a model on networks that it was not fitted on; ``coverage``: share inside its intervals."""
    found = model.predict(features, level)
    inside = (found.low <= measured) & (measured <= found.high)
    return {**accuracy(found.ms, measured), "level": level, "coverage": float(np.mean(inside))}


def cross_validate(features: Features, latency_ms: Matrix, prior: LatencyModel | None = None) -> dict[str, float | str]:
    """Accuracy on networks left out of the fit, each once in `FOLDS` turns; fewer than 10 networks tell nothing."""
    n = len(latency_ms)
    if n < 2 * FOLDS:
        return {"method": f"none: {n} measurements are too few to hold some out"}
    turn = np.random.default_rng(0).permutation(n) % FOLDS
    predicted, inside = np.zeros(n), np.zeros(n)
    for fold in range(FOLDS):
        held, rest = np.flatnonzero(turn == fold), np.flatnonzero(turn != fold)
        found = LatencyModel.fit(features[rest], latency_ms[rest], prior=prior).predict(features[held])
        predicted[held] = found.ms
        inside[held] = (found.low <= latency_ms[held]) & (latency_ms[held] <= found.high)
    result = accuracy(predicted, latency_ms)
    return {"method": f"{FOLDS}-fold cross-validation", **result, "level": 0.9, "coverage": float(inside.mean())}
