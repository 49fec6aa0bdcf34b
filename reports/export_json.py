"""Everything that a report tells, as JSON that report.schema.json describes: SI units, fractions, never NaN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from searchspaces.files import read_json

from .export_tables import configuration_lines, layer_lines, metric_lines, seconds
from .numbers import entry, number
from .overview import Row, rows
from .page import state
from .run import Run
from .tables import device_name, latencies

FORMAT = 1
SCHEMA = Path(__file__).parent / "report.schema.json"
TIMES = {"median": "median_ms", "p10": "p10_ms", "p25": "p25_ms", "p75": "p75_ms", "p90": "p90_ms",
         "wall_median": "wall_median_ms"}  # fmt: skip
OPERATIONS = ("mac", "flops", "ptflops", "lfr", "nni")


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    value: dict[str, Any] = read_json(SCHEMA)
    return value


def as_object(runs: Sequence[Run], unread: Iterable[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Runs as one JSON object.

    Args:
        runs: the runs.
        unread: ``name`` and ``reason`` of folders that could not be read.
    """
    return {
        "format": FORMAT,
        "architectures": [_architecture(row) for row in rows(runs)],
        "runs": [_run(run) for run in runs],
        "unread": [dict(each) for each in unread],
    }


def _architecture(row: Row) -> dict[str, Any]:
    kept = ("run", "what", "kind", "space", "strategy", "data", "task", "test_set", "metric", "value", "low", "high",
            "parameters", "macs", "size_bytes", "simulated")  # fmt: skip
    times = [
        {
            "conditions": where,
            "median_s": seconds(time.ms),
            "p25_s": seconds(time.low),
            "p75_s": seconds(time.high),
            "noisy": time.noisy,
        }
        for where, time in row.times.items()
    ]
    told = {key: getattr(row, key) for key in kept}
    return {**told, "higher_is_better": row.higher, "search_s": row.search_seconds, "times": times}


def _run(run: Run) -> dict[str, Any]:
    how, reason = state(run)
    beside = {"baseline": run.baseline, **run.rivals, "reference": run.reference}
    return {
        "name": run.name,
        "state": how,
        "reason": reason,
        "problems": [vars(problem) for problem in run.problems],
        "options": clean(run.config),
        "architecture": clean(run.architecture) or None,
        "metrics": metric_lines(run),
        "costs": _costs(run.cost),
        "times": [_time(measured, device_name(run.cost)) for measured in latencies(run.cost)],
        "layers": layer_lines(run),
        "configurations": configuration_lines(run),
        "search": columns(run.search),
        "training": columns(run.training),
        "data": clean({key: value for key, value in run.data.items() if key != "format"}) or None,
        "provenance": clean(run.provenance) or None,
        "beside": {name: _run(other.read_all()) for name, other in beside.items() if other is not None},
    }


def _costs(cost: Mapping[str, Any]) -> dict[str, float | None]:
    counts = {f"parameters_{key}": number(entry(cost, "parameters", key)) for key in ("stored", "trainable", "active")}
    return {
        **counts,
        **{f"operations_{key}": number(entry(cost, "operations", key)) for key in OPERATIONS},
        "activations_peak_bytes": number(entry(cost, "activation_bytes", "peak")),
        "activations_total_bytes": number(entry(cost, "activation_bytes", "total")),
        "weights_float32_bytes": number(entry(cost, "weight_bytes", "float32")),
        "weights_int8_estimate_bytes": number(entry(cost, "weight_bytes", "int8_estimate")),
        "onnx_bytes": number(entry(cost, "export", "onnx_bytes")),
    }


def _time(measured: Mapping[str, Any], device: str) -> dict[str, Any]:
    words = {key: _text(measured.get(key)) for key in ("runtime", "version", "dtype", "clock")}
    counts = {key: number(measured.get(key)) for key in ("threads", "warmup", "repetitions")}
    ends = {f"{key}_s": seconds(measured.get(name)) for key, name in TIMES.items()}
    return {"device": device, **words, **counts, **ends, "noisy": measured.get("noisy") is True}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def columns(table: pd.DataFrame) -> dict[str, list[float | None]]:
    """A table of numbers, by column; None where an epoch has no value."""
    return {str(name): [number(float(value)) for value in table[name]] for name in table}


def clean(value: Any) -> Any:
    """A value of a file as JSON can hold it: what is no number becomes None, what is of another type its text."""
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float):
        return number(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
