"""LatencyModel: what a network takes on one device, learned from few measurements of it.

    t(network) = sum over kernel kinds of (a MMACs + b megabytes + c kernels) + g(choices),   a, b, c >= 0

The prior of a, b, c is a plain roofline, the same for every device up to one factor; the measurements move it, in three
widths: a quantity for all kinds, a kind for all its quantities, and each on its own. g, from 50 measurements on, is a
Gaussian process over the choices: what each place adds, and pairs of places. Where a space knows several treatments of
the graph by a runtime (`searchspaces.features.Features.variants`), one model is fitted for each and they are averaged
by their marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import CostError
from searchspaces.features import NAMES, Features
from searchspaces.files import read_json, write_json

from .latency_fit import (
    FEWEST_SAMPLES,
    LEVELS,
    NEGLIGIBLE,
    Fit,
    Prior,
    Treatment,
    conformal_quantiles,
    learn_kernels,
    probabilities,
)

if TYPE_CHECKING:
    from torch import nn

Matrix = NDArray[np.float64]

FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """(n,) milliseconds each: the expected latency and the ends of its interval."""

    ms: Matrix
    low: Matrix
    high: Matrix


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
        fitted = {name: Fit(start, x, y, features) for name, x in features.variants.items()}
        first = probabilities(fitted)
        kept = {name: fit.finished() for name, fit in fitted.items() if first[name] > NEGLIGIBLE**3}
        weights = probabilities(kept)
        kept = {name: fit for name, fit in kept.items() if weights[name] > NEGLIGIBLE}
        treatments = {name: fit.treatment(weights[name]) for name, fit in kept.items()}
        errors = sum(weights[name] * fit.loo_error for name, fit in kept.items())
        spread = np.sqrt(sum(weights[name] * fit.loo_variance for name, fit in kept.items()))
        quantiles = conformal_quantiles(np.abs(errors) / spread)
        return cls(features.space, treatments, quantiles, len(y), n_kernels, dict(provenance or {}))

    @classmethod
    def _from_kernels(cls, prior: Prior, kernels: int, provenance: dict[str, Any]) -> LatencyModel:
        from scipy.stats import t as student

        covariance = sum(prior.widths[name] ** 2 * part for name, part in prior.covariances.items())
        only = Treatment(1.0, prior.mean, np.asarray(covariance), np.zeros((0, 0)), np.zeros((0, 0, 0)), 0.0, 0.0)
        quantiles = {level: float(student.ppf((1 + level) / 2, 4)) for level in LEVELS}
        return cls("", {"executed": only}, quantiles, 0, kernels, provenance)

    def as_prior(self) -> Prior:
        """What this device teaches of another."""
        best = max(self.treatments.values(), key=lambda treatment: treatment.weight)
        return Prior.learned(best.coefficients, best.covariance)

    def transferred(self, space: str) -> LatencyModel:
        """The same device for networks of another space: the coefficients of the kernels and how sure they are, without
        what was learned of the choices of this one. Ratios carry over better than milliseconds."""
        carried = LatencyModel._from_kernels(self.as_prior(), self.kernels, dict(self.provenance))
        return replace(carried, space=space, measurements=self.measurements)

    def predict(self, features: Features, level: float = 0.9) -> Prediction:
        """Latency of n networks with intervals that hold a new measurement with probability ``level``.

        Raises:
            CostError: if the networks are of another space, or no interval of this level is known.
        """
        self._check(features, level)
        means, seconds = [], []
        for name, treatment in self.treatments.items():
            x = features.variants[name]
            try:
                mean = treatment.mean(x, features)
            except (IndexError, TypeError, ValueError) as error:
                raise CostError(f"Its table of choices is not of the space {self.space!r}: {error}.") from error
            means.append(treatment.weight * mean)
            seconds.append(treatment.weight * (treatment.variance(x) + mean**2))
        total = sum(t.weight for t in self.treatments.values())
        ms = np.sum(means, axis=0) / total
        spread = np.sqrt(np.maximum(np.sum(seconds, axis=0) / total - ms**2, 0))
        half = self.quantiles[level] * spread
        return Prediction(ms, np.maximum(ms - half, 0), ms + half)

    def predict_networks(
        self, networks: Iterable[tuple[nn.Module, Sequence[int]]], level: float = 0.9, space: str | None = None
    ) -> Prediction:
        """The same for networks with their input sizes; of another space than the profile's, by its kernels alone
        (see `transferred`)."""
        from .kernels import features_of

        space = space or self.space
        model = self if self.space in ("", space) else self.transferred(space)
        return model.predict(features_of(space, networks), level)

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
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
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
