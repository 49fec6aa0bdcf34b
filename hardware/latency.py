"""LatencyModel: what a network takes on one device, learned from few measurements of it.

    t(network) = sum over kernel kinds of (a MMACs + b megabytes + c kernels) + g(choices),   a, b, c >= 0

The prior of a, b, c is a plain roofline, the same for every device up to one factor; the measurements move it, in three
widths: a quantity for all kinds, a kind for all its quantities, and each on its own. g, from `GP_SAMPLES` measurements
on, is a Gaussian process over the choices: what each place adds, and pairs of places. Where a space knows several
treatments of the graph by a runtime (`searchspaces.features.Features.variants`), one model is fitted for each and they
are averaged by their marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from searchspaces.errors import CostError
from searchspaces.features import KINDS, NAMES, QUANTITIES, Features
from searchspaces.files import read_json, write_json

from . import gaussian

Matrix = NDArray[np.float64]

FORMAT = 1
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
class Prediction:
    """(n,) milliseconds each: the expected latency and the ends of its interval."""

    ms: Matrix
    low: Matrix
    high: Matrix


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


@dataclass(frozen=True)
class LatencyModel:
    """The latency of the networks of one space on one device with one runtime.

    Attributes:
        space: the space's name.
        treatments: name -> model (see `Treatment`).
        quantiles: level of an interval -> its half width in predicted standard deviations.
        measurements: number of measured networks.
        kernels: number of measured kernels.
        provenance: device, runtime, threads, dtype, source, accuracy on held-out networks.
    """

    space: str
    treatments: Mapping[str, Treatment]
    quantiles: Mapping[float, float]
    measurements: int
    kernels: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        features: Features | None = None,
        latency_ms: Sequence[float] | Matrix | None = None,
        *,
        kernels: Matrix | None = None,
        kernel_ms: Sequence[float] | Matrix | None = None,
        prior: LatencyModel | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> LatencyModel:
        """Learn a device from whole networks, from single kernels, or from both.

        Args:
            features: n measured networks.
            latency_ms: (n,) what they took.
            kernels: (k, F) features of measured kernels, a row each (`searchspaces.features.feature_row`).
            kernel_ms: (k,) what they took. They shape the prior; networks, if there are any, correct their sum.
            prior: another device's model to start from; by default a roofline that knows no device.
            provenance: what is told of the device and of the measurements.

        Raises:
            CostError: for too few measurements, or ones that are no positive numbers.
        """
        start = Prior.roofline() if prior is None else prior.as_prior()
        n_kernels = 0
        if kernels is not None and kernel_ms is not None:
            seconds = _checked(kernel_ms, len(kernels), "kernels")
            n_kernels = len(seconds)
            start = learn_kernels(start, np.asarray(kernels, dtype=float), seconds)
        if features is None or latency_ms is None:
            if not n_kernels:
                raise CostError("There is nothing to fit: give measurements of networks, of kernels, or of both.")
            return cls._from_kernels(start, n_kernels, dict(provenance or {}))
        y = _checked(latency_ms, len(features), "networks")
        fitted = {name: _Fit(start, x, y, features) for name, x in features.variants.items()}
        first = _weights(fitted)
        kept = {name: fit.finished() for name, fit in fitted.items() if first[name] > NEGLIGIBLE**3}
        weights = _weights(kept)
        kept = {name: fit for name, fit in kept.items() if weights[name] > NEGLIGIBLE}
        treatments = {name: fit.treatment(weights[name]) for name, fit in kept.items()}
        errors = sum(weights[name] * fit.loo_error for name, fit in kept.items())
        spread = np.sqrt(sum(weights[name] * fit.loo_variance for name, fit in kept.items()))
        quantiles = conformal_quantiles(np.abs(errors) / spread)
        return cls(features.space, treatments, quantiles, len(y), n_kernels, dict(provenance or {}))

    @classmethod
    def _from_kernels(cls, prior: Prior, kernels: int, provenance: dict[str, Any]) -> LatencyModel:
        covariance = sum(prior.widths[name] ** 2 * part for name, part in prior.covariances.items())
        only = Treatment(1.0, prior.mean, np.asarray(covariance), np.zeros((0, 0)), np.zeros((0, 0, 0)), 0.0, 0.0)
        quantiles = {level: float(student.ppf((1 + level) / 2, 4)) for level in LEVELS}
        return cls("", {"executed": only}, quantiles, 0, kernels, provenance)

    def as_prior(self) -> Prior:
        """What this device teaches of another."""
        best = max(self.treatments.values(), key=lambda treatment: treatment.weight)
        return Prior.learned(best.coefficients, best.covariance)

    def predict(self, features: Features, level: float = 0.9) -> Prediction:
        """Latency of n networks with intervals that hold a new measurement with probability ``level``.

        Raises:
            CostError: if the networks are of another space, or no interval of this level is known.
        """
        self._check(features, level)
        means, seconds = [], []
        for name, treatment in self.treatments.items():
            x = features.variants[name]
            mean = treatment.mean(x, features)
            means.append(treatment.weight * mean)
            seconds.append(treatment.weight * (treatment.variance(x) + mean**2))
        total = sum(t.weight for t in self.treatments.values())
        ms = np.sum(means, axis=0) / total
        spread = np.sqrt(np.maximum(np.sum(seconds, axis=0) / total - ms**2, 0))
        half = self.quantiles[level] * spread
        return Prediction(ms, np.maximum(ms - half, 0), ms + half)

    def _check(self, features: Features, level: float) -> None:
        if self.space and features.space != self.space:
            raise CostError(f"The profile was fitted on {self.space!r}, but the networks are of {features.space!r}.")
        if level not in self.quantiles:
            known = ", ".join(str(known) for known in self.quantiles)
            raise CostError(f"The profile has no intervals of level {level}; it has {known}.")
        for name in self.treatments:
            if name not in features.variants:
                raise CostError(f"The profile needs features of the graph {name!r}, which the networks lack.")

    def save(self, path: str | Path) -> Path:
        """Write the profile atomically (see docs/latency.md for the format)."""
        return write_json(path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of the profile's file, numbers rounded to six digits."""
        used = used_features(self.treatments)
        return {
            "format": FORMAT,
            "kind": "latency profile",
            "space": self.space,
            "measurements": self.measurements,
            "kernels": self.kernels,
            **self.provenance,
            "features": [NAMES[i] for i in used],
            "interval_quantiles": {str(level): _round(value) for level, value in self.quantiles.items()},
            "treatments": {name: _treatment_dict(t, used) for name, t in self.treatments.items()},
        }

    @classmethod
    def load(cls, path: str | Path, *, space: str | None = None, runtime: str | None = None) -> LatencyModel:
        """Read a profile; ``space`` and ``runtime`` refuse one of another space or runtime.

        Raises:
            CostError: naming the file and what is wrong with it.
        """
        value = read_json(path, CostError)
        try:
            model = cls.from_dict(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CostError(f"{path} is no latency profile: {type(error).__name__} {error}.") from error
        except CostError as error:
            raise CostError(f"{path}: {error}") from error
        for what, wanted, found in (
            ("space", space, model.space),
            ("runtime", runtime, model.provenance.get("runtime")),
        ):
            if wanted is not None and found and found != wanted:
                raise CostError(f"{path} is a profile of {what} {found!r}, not of {wanted!r}.")
        return model

    @classmethod
    def from_dict(cls, value: Any) -> LatencyModel:
        """A model from the content of its file (see `load`)."""
        if not isinstance(value, dict) or value.get("kind") != "latency profile":
            raise CostError("It is no latency profile.")
        if value.get("format") != FORMAT:
            raise CostError(f"Format {value.get('format')!r} is not known; this version reads format {FORMAT}.")
        unknown = set(value["features"]) - set(NAMES)
        if unknown:
            raise CostError(f"Features {sorted(unknown)} are not known to this version.")
        used = [NAMES.index(name) for name in value["features"]]
        treatments = {name: _treatment_from(entry, used) for name, entry in value["treatments"].items()}
        quantiles = {float(level): float(q) for level, q in value["interval_quantiles"].items()}
        own = ("format", "kind", "space", "measurements", "kernels", "features", "interval_quantiles", "treatments")
        provenance = {key: entry for key, entry in value.items() if key not in own}
        return cls(value["space"], treatments, quantiles, value["measurements"], value["kernels"], provenance)

    def with_provenance(self, **entries: Any) -> LatencyModel:
        """The same model with more told about it."""
        return replace(self, provenance={**self.provenance, **entries})


class _Fit:
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

    def finished(self) -> _Fit:
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
    n, ordered = len(scores), np.sort(scores)
    quantiles = {}
    for level in LEVELS:
        rank = int(np.ceil((n + 1) * level))
        fallback = max(float(ordered[-1]), float(student.ppf((1 + level) / 2, n - 1)))
        quantiles[level] = float(ordered[rank - 1]) if rank <= n else fallback
    return quantiles


def used_features(treatments: Mapping[str, Treatment]) -> list[int]:
    """Features whose coefficient or variance is not zero in some treatment."""
    used = sum((np.abs(t.coefficients) + np.diag(t.covariance) for t in treatments.values()), np.zeros(len(NAMES)))
    return np.flatnonzero(used).tolist()


def _checked(values: Sequence[float] | Matrix, n: int, what: str) -> Matrix:
    y = np.asarray(values, dtype=float)
    if len(y) != n:
        raise CostError(f"There are {n} {what}, but {len(y)} latencies.")
    if n < FEWEST_SAMPLES:
        raise CostError(f"{n} measured {what} are too few: at least {FEWEST_SAMPLES} are needed.")
    bad = np.flatnonzero(~(np.isfinite(y) & (y > 0)))
    if len(bad):
        raise CostError(f"Latency {bad[0] + 1} of {n} {what} is {y[bad[0]]}: it must be a positive number.")
    return y


def _weights(fits: Mapping[str, _Fit]) -> dict[str, float]:
    """Probabilities of the treatments, alike likely beforehand."""
    values = np.array([fit.log_evidence for fit in fits.values()])
    shares = np.exp(values - values.max())
    return dict(zip(fits, (shares / shares.sum()).tolist(), strict=True))


def _round(value: Any) -> Any:
    """Six significant digits."""
    if isinstance(value, list):
        return [_round(entry) for entry in value]
    return float(f"{value:.6g}")


def _treatment_dict(treatment: Treatment, used: list[int]) -> dict[str, Any]:
    return {
        "weight": _round(treatment.weight),
        "coefficients_ms": dict(
            zip([NAMES[i] for i in used], _round(treatment.coefficients[used].tolist()), strict=True)
        ),
        "covariance": _round(treatment.covariance[np.ix_(used, used)].tolist()),
        "noise_ms": _round(treatment.noise_ms),
        "residual_ms": _round(treatment.residual_ms),
        "place_ms": _round(treatment.place.tolist()),
        "pair_ms": _round(treatment.pair.tolist()),
    }


def _treatment_from(entry: Mapping[str, Any], used: list[int]) -> Treatment:
    coefficients, covariance = np.zeros(len(NAMES)), np.zeros((len(NAMES), len(NAMES)))
    coefficients[used] = [entry["coefficients_ms"][NAMES[i]] for i in used]
    covariance[np.ix_(used, used)] = entry["covariance"]
    place, pair = np.array(entry["place_ms"], dtype=float), np.array(entry["pair_ms"], dtype=float)
    arrays = (coefficients, covariance, place, pair)
    numbers = [float(entry[name]) for name in ("weight", "noise_ms", "residual_ms")]
    if not all(np.isfinite(array).all() for array in (*arrays, numbers)) or (coefficients < 0).any():
        raise CostError("Its numbers are not finite, or a coefficient is negative.")
    weight, noise, residual = numbers
    return Treatment(weight, coefficients, covariance, place, pair, noise, residual)
