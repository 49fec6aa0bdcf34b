"""KernelTable: a device learned kernel by kernel, which then predicts any network made of them.

    t(network) = factor * sum of its kernels' own times + gap * number of kernels + overhead

A kernel's time is measured alone, several copies in one file, or told by a regression on log(t / roofline) where its
shape was never measured. ``factor`` and ``gap`` (what the runtime takes between two kernels) are fitted to few measured
networks: the factor alone below `FEWEST_FOR_GAP` of them. The kernels are those of the runtime's own optimised graph.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import CostError
from searchspaces.files import read_json, write_json

from .latency import Prediction
from .latency_fit import conformal_quantiles
from .runtimes import RUNTIMES
from .runtimes.kernels import QUANTITIES, RuntimeKernel

if TYPE_CHECKING:
    from torch import nn

Matrix = NDArray[np.float64]

FORMAT = 1
KIND = "kernel table"
FEWEST_NETWORKS = 3
FEWEST_FOR_GAP = 10  # with fewer networks a second parameter can go astray
FEWEST_FOR_REGRESSION = 20
LARGEST = 1e15  # of any number in a profile
SHORTEST_MS = 1e-6  # of a kernel: below what a clock tells
ROOFLINE = {"macs": 1e-7, "bytes": 2e-7, "kernel": 1e-4}  # ms: 10 GMAC/s, 5 GB/s, 100 ns to start
MULTIPLES = (8, 16)  # channels that do not fill a vector are slower
CALIBRATION_INPUTS = 4  # of int8
SMALLEST_SPREAD = 0.015  # relative, of a network: so far are measurements of one network in two processes apart


@dataclass(frozen=True)
class Measured:
    """A measured kernel: the operator's name, `QUANTITIES`, and milliseconds."""

    kind: str
    quantities: tuple[float, ...]
    ms: float


@dataclass(frozen=True)
class KernelTable:
    """The latency of networks on one device with one runtime, number type and number of threads.

    Attributes:
        space: the space whose networks it was calibrated on.
        runtime: the runtime's name.
        dtype: ``"float32"`` or ``"int8"``.
        threads: threads that one inference may use.
        kernels: key of a kernel (`RuntimeKernel`) -> what was measured.
        overhead_ms: of one inference without any kernel.
        factor: time of kernels in a network over their time alone.
        gap_ms: milliseconds between two kernels.
        spread: relative standard deviation of a network's prediction whose kernels were all measured.
        unseen_spread: the same of one kernel that was not.
        quantiles: level of an interval -> its half width in standard deviations.
        networks: number of measured networks.
        provenance: device, version, protocol, accuracy on held-out networks.
    """

    space: str
    runtime: str
    dtype: str
    threads: int
    kernels: Mapping[str, Measured]
    overhead_ms: float
    factor: float
    gap_ms: float
    spread: float
    unseen_spread: float
    quantiles: Mapping[float, float]
    networks: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        kernels: Mapping[str, Measured],
        overhead_ms: float,
        networks: Sequence[Sequence[RuntimeKernel]],
        network_ms: Sequence[float] | Matrix,
        again_ms: Sequence[float] | Matrix | None = None,
        *,
        space: str,
        runtime: str,
        dtype: str,
        threads: int = 1,
        provenance: Mapping[str, Any] | None = None,
    ) -> KernelTable:
        """Calibrate measured kernels by measured networks.

        Args:
            kernels: key -> measured kernel.
            overhead_ms: of one inference.
            networks: the kernels of n networks.
            network_ms: (n,) what they took.
            again_ms: (n,) what they took in another process, which tells how far two measurements of one network are
                apart; the intervals then hold such a new one.
            space: the networks' space; ``runtime``, ``dtype``, ``threads`` are the conditions of all measurements.
            provenance: what is told of the device and of the measurements.

        Raises:
            CostError: for too few networks, or latencies that are no positive numbers.
        """
        from scipy.stats import norm as normal

        y = np.asarray(network_ms, dtype=float)
        if len(y) != len(networks) or len(y) < FEWEST_NETWORKS:
            raise CostError(
                f"{len(networks)} networks with {len(y)} latencies: at least {FEWEST_NETWORKS} are needed to calibrate."
            )
        again = y if again_ms is None else np.asarray(again_ms, dtype=float)
        if not (np.isfinite([*y, *again]).all() and min(*y, *again) > 0 and len(again) == len(y)):
            raise CostError("A network's latency is no positive number.")
        if min(*y, *again) <= overhead_ms:
            raise CostError(f"A network took no longer than an inference without any kernel ({overhead_ms:.4g} ms).")
        unfitted = cls(
            *(space, runtime, dtype, threads, dict(kernels), float(overhead_ms), 1.0, 0.0, 0.0, 0.0, {}, len(y)),
            dict(provenance or {}),
        )
        unfitted = replace(unfitted, unseen_spread=unfitted._regression_error())
        sums = np.array([unfitted._sum(network) for network in networks])  # (n, 3): milliseconds, number, unseen ms²
        factor, gap = _calibrate(sums, (y + again) / 2 - overhead_ms)
        errors = np.zeros(len(y))
        for i in range(len(y)):  # fitted without it, to one process; judged by the other
            fitted = _calibrate(np.delete(sums, i, 0), np.delete(y, i) - overhead_ms)
            errors[i] = _relative(sums[i], again[i], overhead_ms, *fitted)
        spread = max(float(np.sqrt(np.mean(errors**2))), SMALLEST_SPREAD)
        return replace(
            unfitted,
            factor=factor,
            gap_ms=gap,
            spread=spread,
            quantiles={
                level: max(found, float(normal.ppf((1 + level) / 2)))
                for level, found in conformal_quantiles(np.abs(errors) / spread).items()
            },
        )

    # ---- prediction

    def predict(self, networks: Sequence[Sequence[RuntimeKernel]], level: float = 0.9) -> Prediction:
        """Latency of n networks, given as the kernels of their files, with intervals for a new measurement.

        Raises:
            CostError: if no interval of this level is known.
        """
        if level not in self.quantiles:
            known = ", ".join(map(str, self.quantiles))
            raise CostError(f"The profile has no intervals of level {level}; it has {known}.")
        sums = np.array([self._sum(network) for network in networks]).reshape(-1, 3)
        ms = self.factor * sums[:, 0] + self.gap_ms * sums[:, 1] + self.overhead_ms
        spread = np.sqrt((self.spread * ms) ** 2 + (self.factor * self.unseen_spread) ** 2 * sums[:, 2])
        half = self.quantiles[level] * spread
        return Prediction(ms, np.maximum(ms - half, 0), ms + half)

    def predict_networks(
        self, networks: Iterable[tuple[nn.Module, Sequence[int]]], level: float = 0.9, space: str | None = None
    ) -> Prediction:
        """The same for networks with their input sizes, which are exported to the runtime one after the other.

        Raises:
            CostError: if a network cannot be exported, or is of another space than the table, whose kernels are others.
        """
        if space is not None and space != self.space:
            raise CostError(
                f"The profile has the kernels of networks of {self.space!r}, not of {space!r}: learn the device for it."
            )
        return self.predict([self.kernels_of(network, size) for network, size in networks], level)

    def kernels_of(self, network: nn.Module, input_size: Sequence[int]) -> list[RuntimeKernel]:
        """The kernels that the runtime executes for a network."""
        with tempfile.TemporaryDirectory() as folder:
            path = exported(network, input_size, self.runtime, self.dtype, Path(folder))
            return kernel_runtime(self.runtime).kernels(path)

    def covered(self, network: Sequence[RuntimeKernel]) -> float:
        """Share of a network's predicted time in kernels that were measured."""
        total = self._sum(network)[0]
        known = sum(self.kernels[kernel.key].ms for kernel in network if kernel.key in self.kernels)
        return float(known / total) if total else 1.0

    def time_of(self, kernel: RuntimeKernel) -> float:
        """Milliseconds of one kernel alone, measured or told by the regression."""
        found = self.kernels.get(kernel.key)
        return found.ms if found else self._regressed(kernel)

    def _sum(self, network: Sequence[RuntimeKernel]) -> Matrix:
        """Milliseconds of all kernels, their number, and the sum of squared milliseconds of those not measured."""
        times = []
        unseen: dict[str, float] = {}  # kernels of a kind err alike: squares of their sums
        for kernel in network:
            known = self.kernels.get(kernel.key)
            ms = known.ms if known else self._regressed(kernel)
            times.append(ms)
            if not known:
                unseen[kernel.kind] = unseen.get(kernel.kind, 0.0) + ms
        return np.array([np.sum(times), len(network), sum(ms**2 for ms in unseen.values())])

    # ---- kernels that were not measured

    @cached_property
    def _regressor(self) -> _Regressor | None:
        entries = list(self.kernels.values())
        return _Regressor(entries) if len(entries) >= FEWEST_FOR_REGRESSION else None

    @cached_property
    def _told(self) -> dict[str, float]:
        return {}

    def _regressed(self, kernel: RuntimeKernel) -> float:
        if self._regressor is None:
            raise CostError(
                f"The profile has measured {len(self.kernels)} kernels, too few to tell what another one takes "
                f"({kernel.kind}). Learn the device again with more networks."
            )
        if kernel.key not in self._told:
            self._told[kernel.key] = self._regressor.ms(kernel.kind, kernel.quantities)
        return self._told[kernel.key]

    def _regression_error(self) -> float:
        """Relative error of kernels left out of the regression, each once in five turns: root mean square."""
        entries = list(self.kernels.values())
        if len(entries) < FEWEST_FOR_REGRESSION:
            return 0.0
        turn = np.random.default_rng(0).permutation(len(entries)) % 5
        errors = []
        for fold in range(5):
            fitted = _Regressor([entry for entry, own in zip(entries, turn, strict=True) if own != fold])
            for entry, own in zip(entries, turn, strict=True):
                if own == fold:
                    errors.append(fitted.ms(entry.kind, entry.quantities) / entry.ms - 1)
        return float(np.sqrt(np.mean(np.clip(errors, -1, 1) ** 2)))

    # ---- files

    def with_provenance(self, **entries: Any) -> KernelTable:
        """The same table with more told about it."""
        return replace(self, provenance={**self.provenance, **entries})

    def to_dict(self) -> dict[str, Any]:
        """The content of the profile's file, times in microseconds with five digits."""
        rows = [
            [key, entry.kind, [_digits(number) for number in entry.quantities], _digits(entry.ms * 1e3, 5)]
            for key, entry in self.kernels.items()
        ]
        return {
            "format": FORMAT,
            "kind": KIND,
            "space": self.space,
            "runtime": self.runtime,
            "dtype": self.dtype,
            "threads": self.threads,
            "networks": self.networks,
            **self.provenance,
            "overhead_us": _digits(self.overhead_ms * 1e3),
            "factor": _digits(self.factor),
            "gap_us": _digits(self.gap_ms * 1e3),
            "spread": _digits(self.spread),
            "unseen_spread": _digits(self.unseen_spread),
            "interval_quantiles": {str(level): _digits(value) for level, value in self.quantiles.items()},
            "quantities": list(QUANTITIES),
            "kernels": rows,
        }

    def save(self, path: str | Path) -> Path:
        """Write the profile atomically (see docs/latency.md for the format)."""
        return write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> KernelTable:
        """Read a profile.

        Raises:
            CostError: naming the file and what is wrong with it.
        """
        value = read_json(path, CostError)
        try:
            return cls.from_dict(value)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CostError(f"{path} is no kernel table: {type(error).__name__} {error}.") from error
        except CostError as error:
            raise CostError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, value: Any) -> KernelTable:
        """A table from the content of its file (see `load`)."""
        if not isinstance(value, dict) or value.get("kind") != KIND:
            raise CostError("It is no kernel table.")
        if value.get("format") != FORMAT or value.get("quantities") != list(QUANTITIES):
            raise CostError(f"Format {value.get('format')!r} is not known; this version reads format {FORMAT}.")
        if value["runtime"] not in RUNTIMES.names():  # the name of a module is not imported because a file says so
            raise CostError(f"Its runtime {value['runtime']!r} is not known.")
        kernels = {
            str(key): Measured(str(kind), tuple(map(float, quantities)), float(us) / 1e3)
            for key, kind, quantities, us in value["kernels"]
        }
        numbers = {
            "overhead_ms": float(value["overhead_us"]) / 1e3,
            "factor": float(value["factor"]),
            "gap_ms": float(value["gap_us"]) / 1e3,
            "spread": float(value["spread"]),
            "unseen_spread": float(value["unseen_spread"]),
        }
        quantiles = {float(level): float(q) for level, q in value["interval_quantiles"].items()}
        every = [*numbers.values(), *quantiles.values(), *(entry.ms for entry in kernels.values())]
        every += [number for entry in kernels.values() for number in entry.quantities]
        if not (np.isfinite(every).all() and min(every, default=0) >= 0 and numbers["factor"] > 0):
            raise CostError("A number is negative or not finite.")
        if max(every) > LARGEST or int(value["threads"]) < 1 or value["dtype"] not in ("float32", "int8"):
            raise CostError("A number is absurd, or its threads or dtype are none.")
        if any(len(entry.quantities) != len(QUANTITIES) or entry.ms <= 0 for entry in kernels.values()):
            raise CostError(f"A kernel has not {len(QUANTITIES)} quantities and a positive time.")
        own = (
            *("format", "kind", "space", "runtime", "dtype", "threads", "networks", "overhead_us", "factor", "gap_us"),
            *("spread", "unseen_spread", "interval_quantiles", "quantities", "kernels"),
        )
        return cls(
            space=str(value["space"]),
            runtime=str(value["runtime"]),
            dtype=str(value["dtype"]),
            threads=int(value["threads"]),
            networks=int(value["networks"]),
            kernels=kernels,
            quantiles=quantiles,
            provenance={key: entry for key, entry in value.items() if key not in own},
            **numbers,
        )


class _Regressor:
    """Gradient-boosted trees on log(t / roofline) of the measured kernels."""

    def __init__(self, entries: Sequence[Measured]) -> None:
        from sklearn.ensemble import GradientBoostingRegressor

        self.kinds = sorted({entry.kind for entry in entries})
        x = np.array([self._row(entry.kind, entry.quantities) for entry in entries])
        y = np.array([np.log(entry.ms / _roofline(entry.quantities)) for entry in entries])
        settings = {"n_estimators": 300, "learning_rate": 0.05, "max_depth": 5, "subsample": 0.8, "min_samples_leaf": 2}
        self.trees = GradientBoostingRegressor(random_state=0, **settings).fit(x, y)

    def ms(self, kind: str, quantities: Sequence[float]) -> float:
        ratio = float(self.trees.predict([self._row(kind, quantities)])[0])
        return max(float(np.exp(ratio)) * _roofline(quantities), SHORTEST_MS)

    def _row(self, kind: str, quantities: Sequence[float]) -> list[float]:
        named = dict(zip(QUANTITIES, quantities, strict=True))
        parts = [named[name] % n for name in ("channels_in", "channels_out") for n in MULTIPLES]
        own = [float(kind == known) for known in self.kinds]
        return [*np.log1p(quantities).tolist(), *parts, *own]


def _roofline(quantities: Sequence[float]) -> float:
    macs, read, written, weights = quantities[:4]
    return ROOFLINE["macs"] * macs + ROOFLINE["bytes"] * (read + written + weights) + ROOFLINE["kernel"]


def _calibrate(sums: Matrix, y: Matrix) -> tuple[float, float]:
    """factor and gap of (n, 3) sums and (n,) milliseconds without the overhead, by relative errors."""
    factor = float(np.median(y / sums[:, 0]))
    if len(y) < FEWEST_FOR_GAP:
        return factor, 0.0
    from scipy.optimize import nnls  # as heavy as all the rest, and a prediction needs none of it

    x = sums[:, :2] / y[:, None]
    (factor, gap), _ = nnls(x, np.ones(len(y)))
    return (float(factor), float(gap)) if factor > 0 else (float(np.median(y / sums[:, 0])), 0.0)


def _relative(sums: Matrix, y: float, overhead: float, factor: float, gap: float) -> float:
    """What was measured over what was predicted, less 1: an interval is so many times the prediction."""
    return float(y / (factor * sums[0] + gap * sums[1] + overhead) - 1)


def _digits(value: float, digits: int = 6) -> float:
    """Rounded; whole numbers stay as they are."""
    return int(value) if float(value).is_integer() else float(f"{value:.{digits}g}")


def kernel_runtime(name: str) -> Any:
    """A runtime whose files can be taken apart into kernels (`hardware.runtimes.kernels.KernelRuntime`).

    Raises:
        CostError: naming those that can.
    """
    from .runtimes import get_runtime

    runtime = get_runtime(name)
    if not hasattr(runtime, "kernel_alone"):
        raise CostError(f"The kernels of {name!r} cannot be measured one by one; those of onnxruntime and litert can.")
    return runtime


def exported(network: nn.Module, input_size: Sequence[int], runtime: str, dtype: str, folder: Path) -> Path:
    """A network's file for a runtime; int8 is quantised on random inputs, which does for its latency."""
    from .runtimes import calibration, get_runtime

    target: Any = get_runtime(runtime)
    path = folder / f"network{target.SUFFIX}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # slow operators are no news where their time is told
        if dtype == "float32":
            return Path(target.export(network, input_size, path))
        if dtype not in getattr(target, "DTYPES", ()):
            raise CostError(f"Runtime {runtime!r} has no {dtype}.")
        samples = calibration.random_inputs(input_size, CALIBRATION_INPUTS)
        settled = copy.deepcopy(network)  # with random weights maps may vanish, and ranges of nothing have no scale
        calibration.settle_norms(settled, samples)
        return Path(target.export_int8(settled, input_size, path, samples))
