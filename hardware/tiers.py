"""Latency tiers: which configuration of a network to run for a latency budget, as a value and as tiers.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from searchspaces.errors import CostError, nearest_name
from searchspaces.files import read_json, write_json

FORMAT = 1
LARGEST = 1e12  # of a figure, far above any
STATISTIC = "median_ms"
PROTOCOL = ("runtime", "version", "threads", "dtype", "clock", "statistic", "repetitions")
LATENCY_KEYS = ("device", "unit", "latency_ms", *PROTOCOL)  # of a file for --latencies


def make_tiers(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The best choice for every latency budget, by ascending budget.

    Args:
        rows: each with ``configuration``, ``latency_ms`` (of its slim file) and ``error`` (a fraction); optionally
            ``spread_ms`` and ``switchable_ms``, the latency within the file of all configurations.

    Returns:
        Tiers with ``budget_ms`` and the row's entries. A budget is the larger latency of the two files, so it holds
        for both. From its budget up to the next tier's, no configuration that fits has a lower error; of equal ones
        the faster is taken.

    Raises:
        CostError: if there are no rows, two of one configuration, or a figure that is none.
    """
    if not rows:
        raise CostError("There are no configurations to make tiers of.")
    seen: set[str] = set()
    for row in rows:
        _check_row(row, seen)
    tiers: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (_budget(row), row["error"], row["configuration"])):
        if not tiers or row["error"] < tiers[-1]["error"]:
            kept = {key: row.get(key) for key in ("configuration", "latency_ms", "switchable_ms", "spread_ms", "error")}
            tiers.append({"budget_ms": _budget(row), **kept})
    return tiers


def pick(tiers: Sequence[Mapping[str, Any]], budget_ms: float) -> str:
    """The configuration with the lowest error whose latency fits a budget.

    Args:
        tiers: of `make_tiers`, or the entry ``tiers`` of tiers.json.
        budget_ms: milliseconds of one inference.

    Raises:
        CostError: if no configuration is fast enough; the message names the fastest.

    >>> pick([{"budget_ms": 2.0, "configuration": "LLL"}, {"budget_ms": 2.5, "configuration": "HHH"}], 2.4)
    'LLL'
    """
    if not tiers:
        raise CostError("There are no tiers to pick from.")
    fitting = [tier for tier in tiers if tier["budget_ms"] <= budget_ms]
    if not fitting:  # also for NaN
        fastest = min(tiers, key=lambda tier: tier["budget_ms"])
        raise CostError(
            f"No configuration runs within {budget_ms:g} ms: the fastest, {fastest['configuration']}, takes "
            f"{fastest['budget_ms']:.3f} ms. Allow more time, or use a smaller or narrower network."
        )
    return max(fitting, key=lambda tier: tier["budget_ms"])["configuration"]


def write_tiers(
    path: str | Path,
    tiers: Sequence[Mapping[str, Any]],
    *,
    network: str,
    slim: Mapping[str, str],
    device: Mapping[str, Any],
    protocol: Mapping[str, Any],
    simulated: bool | None,
) -> Path:
    """Write tiers.json atomically.

    Args:
        path: where.
        tiers: of `make_tiers`.
        network: name of the file that holds all configurations.
        slim: configuration -> name of its own file.
        device: what the latencies were taken on.
        protocol: how they were taken: the entries of `PROTOCOL`, None where it is not known.
        simulated: whether the errors are of simulated data; None if that is not known.
    """
    from .switchable import CODES, CONFIGURATION, DTYPE

    content = {
        "format": FORMAT,
        "network": network,
        "slim": dict(slim),
        "configuration_input": {"name": CONFIGURATION, "dtype": DTYPE, "codes": CODES},
        "device": dict(device),
        **{key: protocol.get(key) for key in PROTOCOL},
        "error": {"name": "val_eer", "simulated": simulated},
        "tiers": [dict(tier) for tier in tiers],
    }
    return write_json(path, content)


def read_latencies(path: str | Path, wanted: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Latencies that were taken elsewhere, on a phone for example.

    Args:
        path: a JSON file: ``{"device": ..., "unit": "ms", "latency_ms": {"HHH": 21.27, ...}}``, and the entries of
            `PROTOCOL` where they are known. The device is a name, or an object that describes it.
        wanted: configurations that must be there.
        known: all configurations of the network.

    Returns:
        The file's content; a device that is a name became ``{"name": ...}``.

    Raises:
        CostError: naming the file and the entry that is missing or wrong.
    """
    value = read_json(path, CostError)
    if not isinstance(value, dict):
        raise CostError(f"{path} must be a JSON object with device, unit and latency_ms.")
    for key in value:
        if key not in LATENCY_KEYS:
            near = nearest_name(key, LATENCY_KEYS)
            raise CostError(f"{path}: unknown entry {key!r}.{f' Did you mean {near!r}?' if near else ''}")
    device, unit, latencies = value.get("device"), value.get("unit"), value.get("latency_ms")
    if not device or not isinstance(device, str | dict):
        raise CostError(f"{path}: entry 'device' must say what the latencies were taken on.")
    if unit != "ms":
        raise CostError(f"{path}: the unit is {unit!r}; convert the latencies to 'ms'.")
    if not isinstance(latencies, dict):
        raise CostError(f"{path}: entry 'latency_ms' must be an object such as {{\"HHH\": 21.27}}.")
    unknown = [name for name in latencies if name not in known]
    if unknown:
        raise CostError(f"{path}: {', '.join(unknown)}: no such configuration. Known: {', '.join(known)}.")
    missing = [name for name in wanted if name not in latencies]
    if missing:
        raise CostError(f"{path}: latency_ms lacks {', '.join(missing)}. Measure them, or leave them out.")
    for name, latency in latencies.items():
        check_figure(latency, f"{path}: latency_ms of {name}", positive=True)
    return {**value, "device": {"name": device} if isinstance(device, str) else device}


def _budget(row: Mapping[str, Any]) -> float:
    return max(row["latency_ms"], row.get("switchable_ms") or 0.0)


def _check_row(row: Mapping[str, Any], seen: set[str]) -> None:
    name = row["configuration"]
    if name in seen:
        raise CostError(f"Configuration {name} appears twice among the rows of the tiers.")
    seen.add(name)
    check_figure(row["latency_ms"], f"latency_ms of {name}", positive=True)
    if row.get("switchable_ms") is not None:
        check_figure(row["switchable_ms"], f"switchable_ms of {name}", positive=True)
    check_figure(row["error"], f"The error of {name}", positive=False)


def check_figure(value: Any, what: str, *, positive: bool) -> None:
    """Refuse what is no finite number from 0, or above 0 if it must be positive.

    Raises:
        CostError: naming it.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not abs(value) < LARGEST or value < 0 or (positive and value == 0):
        raise CostError(f"{what} is {value!r}, but must be a number{' above 0' if positive else ' from 0'}.")
