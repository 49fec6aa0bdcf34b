"""How a latency model is fitted: what is thought beforehand, and what one treatment of the graph learns.

`hardware.latency` says what the model is; the arithmetic is in `hardware.gaussian`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import CostError
from searchspaces.features import KINDS, QUANTITIES, Features

from . import gaussian

Matrix = NDArray[np.float64]

# a phone's core in round figures: 10 GMAC/s, 5 GB/s, 10 us to start a kernel; in milliseconds for each quantity
ROOFLINE = {"mmac": 0.1, "megabyte": 0.2, "kernel": 0.01}
WIDTHS = {"quantity": 0.7, "kind": 0.5, "own": 0.5, "place": 0.03, "pair": 0.03, "noise": 0.08}
LEARNED_WIDTHS = {"learned": 1.0, "own": 0.2, "place": 0.03, "pair": 0.03, "noise": 0.08}
KERNEL_NOISE = 0.3  # a kernel's own time differs by this share from what its kind, MACs and bytes tell
GP_SAMPLES = 50
FEWEST_SAMPLES = 5
MOST_FOR_WIDTHS = 300  # measurements that the widths are fitted on; all go into the coefficients
OUTLIER = 3.0  # standard deviations from which a measurement loses weight
NEGLIGIBLE = 1e-3  # weight of a treatment of the graph that is left out
LEVELS = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Prior:
    """What is thought of the coefficients before any network is measured, up to one factor for all.

    Attributes:
        mean: (F,) milliseconds for a unit of each feature.
        covariances: name of a width -> (F, F).
        widths: name of a width -> its expected value.
    """

    mean: Matrix
    covariances: Mapping[str, Matrix]
    widths: Mapping[str, float]

    @classmethod
    def roofline(cls) -> Prior:
        """Knows nothing of any device."""
        mean = np.tile([ROOFLINE[quantity] for quantity in QUANTITIES], len(KINDS))
        quantity = np.tile(np.arange(len(QUANTITIES)), len(KINDS))
        kind = np.repeat(np.arange(len(KINDS)), len(QUANTITIES))
        scale = np.outer(mean, mean)
        shared = {"quantity": quantity[:, None] == quantity, "kind": kind[:, None] == kind, "own": np.eye(len(mean))}
        return cls(mean, {name: scale * mask for name, mask in shared.items()}, WIDTHS)

    @classmethod
    def learned(cls, mean: Matrix, covariance: Matrix) -> Prior:
        """Knows what other measurements left."""
        floor = np.maximum(mean, 0.1 * Prior.roofline().mean * mean.sum() / Prior.roofline().mean.sum())
        return cls(mean, {"learned": covariance, "own": np.diag(floor**2)}, LEARNED_WIDTHS)


@dataclass(frozen=True)
class Treatment:
    """The model of one treatment of the graph.

    Attributes:
        weight: its probability.
        coefficients: (F,) milliseconds for a unit of each feature, none negative.
        covariance: (F, F) of the coefficients.
        place: (S, levels) milliseconds that a choice at a place adds beyond its kernels; empty without measurements.
        pair: (P, levels, levels) the same for two choices together.
        noise_ms: standard deviation of a measurement.
        residual_ms: standard deviation of what ``place`` and ``pair`` do not know of a new network.
    """

    weight: float
    coefficients: Matrix
    covariance: Matrix
    place: Matrix
    pair: Matrix
    noise_ms: float
    residual_ms: float

    def mean(self, x: Matrix, features: Features) -> Matrix:
        """(n,) milliseconds; never less than a tenth of what the kernels alone would take."""
        physical = x @ self.coefficients
        total = physical.copy()
        for place, table in enumerate(self.place):
            total += table[features.choices[:, place]]
        for (first, second), table in zip(features.pairs, self.pair, strict=False):
            total += table[features.choices[:, first], features.choices[:, second]]
        return np.maximum(total, 0.1 * physical)

    def variance(self, x: Matrix) -> Matrix:
        """(n,) square milliseconds, the noise of a measurement included."""
        known = np.einsum("nf,fg,ng->n", x, self.covariance, x)
        return np.maximum(known, 0) + self.residual_ms**2 + self.noise_ms**2


class Fit:
    """One treatment fitted to (n, F) features x and (n,) milliseconds y."""

    def __init__(self, prior: Prior, x: Matrix, y: Matrix, features: Features) -> None:
        self.prior, self.x, self.y, self.features = prior, x, y, features
        self.scale = float(np.median(y))
        # the one factor by which this device is slower than the prior's
        self.factor = float(np.median(y / (x @ prior.mean)))
        self.kernels = {name: self.factor**2 * x @ part @ x.T for name, part in prior.covariances.items()}
        self.process = process_kernels(features, features) if len(y) >= GP_SAMPLES else {}
        self.doubt = np.ones(len(y))
        self._fit_widths()

    def finished(self) -> Fit:
        """The same, with outliers doubted and everything solved for."""
        self._doubt_outliers()
        self._fit_widths()
        self._solve()
        return self

    def _fit_widths(self) -> None:
        rows = np.random.default_rng(0).permutation(len(self.y))[:MOST_FOR_WIDTHS]
        parts = {**self.kernels, **{name: self.scale**2 * part for name, part in self.process.items()}}
        parts = {name: part[np.ix_(rows, rows)] for name, part in parts.items()}
        parts["noise"] = self.scale**2 * np.diag(self.doubt[rows])
        residual = (self.y - self.factor * self.x @ self.prior.mean)[rows]
        fitted = gaussian.fit_widths(residual, parts, {name: self.prior.widths[name] for name in parts})
        self.widths, self.log_evidence = fitted.values, fitted.log_evidence

    def _covariances(self) -> tuple[Matrix, Matrix, Matrix]:
        """(n, n) of the linear model, of the process, and of the noise."""
        linear = sum(self.widths[name] ** 2 * part for name, part in self.kernels.items())
        process = sum((self.widths[name] ** 2 * part for name, part in self.process.items()), np.zeros_like(linear))
        return np.asarray(linear), self.scale**2 * process, self._noise() * np.diag(self.doubt)

    def _noise(self) -> float:
        return (self.widths["noise"] * self.scale) ** 2

    def _leave_one_out(self) -> tuple[Matrix, Matrix]:
        error, variance = gaussian.leave_one_out(
            self.y - self.factor * self.x @ self.prior.mean, np.sum(self._covariances(), axis=0)
        )
        return error, variance - self._noise() * (self.doubt - 1)

    def _doubt_outliers(self) -> None:
        """A measurement that the others do not predict counts as noisier than they are (Huber's weights)."""
        error, variance = self._leave_one_out()
        robust = 1.4826 * np.median(np.abs(error / np.sqrt(variance)))
        distance = np.abs(error) / (np.sqrt(variance) * max(robust, 0.1))
        self.doubt = np.maximum(distance / OUTLIER, 1) ** 2

    def _solve(self) -> None:
        _, process, noise = self._covariances()
        mean = self.factor * self.prior.mean
        parts = self.prior.covariances.items()
        before = self.factor**2 * np.asarray(sum(self.widths[name] ** 2 * part for name, part in parts))
        self.coefficients = gaussian.coefficients(self.x, self.y, mean, before, process + noise)
        self.covariance = gaussian.coefficient_covariance(self.x, before, process + noise)
        left = self.y - self.x @ self.coefficients
        self.alpha: Matrix = np.asarray(np.linalg.solve(process + noise, left) * self.scale**2, dtype=float)
        self.loo_error, self.loo_variance = self._leave_one_out()

    def treatment(self, weight: float) -> Treatment:
        known = np.einsum("nf,fg,ng->n", self.x, self.covariance, self.x)
        unknown = float(np.mean(self.loo_variance - self._noise() - known)) if self.process else 0.0
        place, pair = process_tables(self.features, self.alpha, self.widths)
        noise_ms, residual_ms = np.sqrt(self._noise()), np.sqrt(max(unknown, 0.0))
        return Treatment(weight, self.coefficients, self.covariance, place, pair, float(noise_ms), float(residual_ms))


def learn_kernels(prior: Prior, x: Matrix, y: Matrix) -> Prior:
    """A prior that has seen (k, F) kernels that took (k,) milliseconds, each with an error relative to its time."""
    if len(y) < FEWEST_SAMPLES:
        raise CostError(f"{len(y)} measured kernels are too few: at least {FEWEST_SAMPLES} are needed.")
    factor = float(np.median(y / (x @ prior.mean)))
    before = factor**2 * np.asarray(sum(prior.widths[name] ** 2 * part for name, part in prior.covariances.items()))
    noise = np.diag((KERNEL_NOISE * y) ** 2)
    mean = gaussian.coefficients(x, y, factor * prior.mean, before, noise)
    return Prior.learned(mean, gaussian.coefficient_covariance(x, before, noise))


def process_kernels(first: Features, second: Features) -> dict[str, Matrix]:
    """Covariance of the process between networks, (n, m) each: the share of places, and of pairs, that agree."""
    a, b = first.choices, second.choices
    same = [a[:, place, None] == b[:, place] for place in range(a.shape[1])]
    kernels = {}
    if same:
        kernels["place"] = np.asarray(sum(w * equal for w, equal in zip(first.weights, same, strict=True)))
    if first.pairs:
        kernels["pair"] = np.asarray(sum(1.0 * (same[i] & same[j]) for i, j in first.pairs)) / len(first.pairs)
    return kernels


def process_tables(features: Features, alpha: Matrix, widths: Mapping[str, float]) -> tuple[Matrix, Matrix]:
    """The process as tables: what a choice at a place, and two at a pair of places, add; alpha (n,): S a = r."""
    codes, levels = features.choices, features.levels
    place = np.zeros((codes.shape[1] if "place" in widths else 0, levels))
    pair = np.zeros((len(features.pairs) if "pair" in widths else 0, levels, levels))
    for row, table in enumerate(place):
        np.add.at(table, codes[:, row], alpha * features.weights[row] * widths["place"] ** 2)
    for table, (i, j) in zip(pair, features.pairs, strict=False):
        np.add.at(table, (codes[:, i], codes[:, j]), alpha * widths["pair"] ** 2 / len(features.pairs))
    return place, pair


def conformal_quantiles(scores: Matrix) -> dict[float, float]:
    """Half widths that hold a new score with each probability of `LEVELS`, from n leave-one-out scores.

    The score of rank ``ceil((n + 1) level)`` (Vovk et al.'s conformal prediction, here with leave-one-out errors as in
    Barber et al. 2021); where there are too few scores for that rank, the greatest, or Student's quantile if greater.
    """
    from scipy.stats import t as student  # as heavy as all the rest, and a prediction needs none of it

    n, ordered = len(scores), np.sort(scores)
    quantiles = {}
    for level in LEVELS:
        rank = int(np.ceil((n + 1) * level))
        fallback = max(float(ordered[-1]), float(student.ppf((1 + level) / 2, n - 1)))
        quantiles[level] = float(ordered[rank - 1]) if rank <= n else fallback
    return quantiles


def probabilities(fits: Mapping[str, Fit]) -> dict[str, float]:
    """Probabilities of the treatments, alike likely beforehand."""
    values = np.array([fit.log_evidence for fit in fits.values()])
    shares = np.exp(values - values.max())
    return dict(zip(fits, (shares / shares.sum()).tolist(), strict=True))
