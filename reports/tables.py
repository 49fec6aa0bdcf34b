"""The tables of a report: metrics with intervals and definitions, costs with conventions and conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .numbers import (
    MISSING,
    NARROW,
    dimensions,
    entry,
    exact,
    interval,
    milliseconds,
    number,
    percent,
    plain,
    scaled,
    size,
)
from .run import Run
from .task_metrics import TaskMetrics, task_of


@dataclass(frozen=True)
class Row:
    """A row: what, the cells beside it, and a remark in smaller type."""

    name: str
    cells: tuple[str, ...]
    note: str = ""


CONVENTIONS: dict[str, tuple[str, str]] = {
    "mac": ("MACs", "multiply-accumulates of convolutions and linear layers; the main figure"),
    "flops": ("FLOPs", "twice the MACs of all operators, attention and functions included"),
    "ptflops": ("ptflops convention", "MACs, biases, batch norms and activations, as in the PTA paper"),
    "lfr": (
        "InsightFace (LFR) convention",
        "multiplications and additions apart: about twice the MACs, as in the AirFace paper",
    ),
    "nni": ("NNI convention", "NNI's FlopsProfiler: MACs, biases, 4 per batch-norm element, activations"),
}


def metric_rows(metrics: Mapping[str, Any]) -> list[Row]:
    """Value, 95 % interval and definition of each metric: known ones first, then the rest."""
    task = task_of(metrics)
    rows = []
    for key in task.order(metrics):
        name, meaning = task.describe(key)
        value = number(entry(metrics[key], "value"))
        if key.endswith("threshold"):
            cells = (MISSING if value is None else f"{value:.4g}", "a score, not a rate")
        elif key in task.plain:
            cells = (MISSING if value is None else f"{value:.3f}", _plain_interval(metrics[key]))
        else:
            cells = (_share(metrics[key], task), interval(metrics[key]))
        rows.append(Row(name, cells, meaning))
    return rows


def _share(metric: Any, task: TaskMetrics) -> str:
    """In percent; a value that is given as None is undefined, not forgotten."""
    known = isinstance(metric, Mapping) and "value" in metric and metric["value"] is None
    return task.undefined if known else percent(entry(metric, "value"))


def _plain_interval(metric: Any) -> str:
    low, high = number(entry(metric, "low")), number(entry(metric, "high"))
    return "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def comparison_rows(*runs: Run) -> list[Row]:
    """Runs of one task side by side: values with intervals, then costs."""
    task = runs[0].task
    keys = task.comparable(dict.fromkeys(key for run in runs for key in run.metrics))
    rows = [
        Row(task.describe(key)[0], tuple(metric_with_interval(run.metrics.get(key), task) for run in runs))
        for key in keys
    ]
    costs = [run.cost for run in runs]
    rows.append(Row("Parameters", tuple(exact(parameters(cost)) for cost in costs)))
    rows.append(Row("MACs", tuple(scaled(entry(cost, "operations", "mac")) for cost in costs)))
    rows.append(Row("Median time", tuple(latency_phrase(cost) for cost in costs)))
    return rows


def metric_with_interval(metric: Any, task: TaskMetrics) -> str:
    value = _share(metric, task)
    return value if number(entry(metric, "value")) is None else f"{value} ({interval(metric)})"


def parameters(cost: Mapping[str, Any]) -> float | None:
    """Parameters on the executed path, or all that are stored."""
    return number(entry(cost, "parameters", "active")) or number(entry(cost, "parameters", "stored"))


def cost_rows(cost: Mapping[str, Any]) -> list[Row]:
    """Parameters, operations in each convention, memory."""
    rows = []
    notes = {
        "stored": "all that the file holds",
        "trainable": "changed by training",
        "active": "on the path that is executed",
    }
    for key, note in notes.items():
        rows.append(Row(f"Parameters, {key}", (exact(entry(cost, "parameters", key)),), note))
    for key, (name, note) in CONVENTIONS.items():
        rows.append(Row(name, (scaled(entry(cost, "operations", key)),), note))
    activations, weights = entry(cost, "activation_bytes"), entry(cost, "weight_bytes")
    rows.append(Row("Activations, peak", (size(entry(activations, "peak")),), "largest set alive at one time"))
    rows.append(Row("Activations, total", (size(entry(activations, "total")),), "every layer's output once"))
    rows.append(Row("Weights, float32", (size(entry(weights, "float32")),)))
    rows.append(Row("Weights, int8", (size(entry(weights, "int8_estimate")),), "an estimate: nothing was quantised"))
    rows.append(Row("ONNX file", (size(entry(cost, "export", "onnx_bytes")),)))
    difference = number(entry(cost, "export", "max_abs_difference"))
    exported = MISSING if difference is None else f"{difference:.1e}"
    rows.append(Row("ONNX against PyTorch", (exported,), "largest absolute difference of the outputs"))
    width = entry(cost, "paper_width")
    return [*rows, _paper_width(width)] if isinstance(width, Mapping) else rows


def _paper_width(width: Mapping[str, Any]) -> Row:
    """The same choices in a network of the paper's size: of cells the channels say it, of detectors all options."""
    counts = f"{scaled(width.get('parameters'))} parameters, {scaled(width.get('mac'))} MACs"
    options = {key: value for key, value in width.items() if key not in ("parameters", "mac")}
    if "backbone" in options:
        return Row("At the paper's size", (counts,), f"the same choices with {plain(options)}")
    return Row(f"At {plain(width.get('channels'))} channels", (counts,), "the same cells at the paper's width")


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def warnings(cost: Mapping[str, Any]) -> list[str]:
    """What the counting of the costs warned about."""
    value = cost.get("warnings")
    return [plain(item) for item in value] if isinstance(value, list) else []


def latencies(cost: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The measurements that a cost file holds."""
    return _entries(cost.get("latency"))


LATENCY_HEADINGS = ("median", "middle half", "10th to 90th percentile", "wall-clock median", "repetitions")


def latency_rows(cost: Mapping[str, Any]) -> list[Row]:
    """Each measurement with its conditions and spread."""
    rows = []
    for measured in latencies(cost):
        spread = [f"{_bare(measured.get(a))} to {milliseconds(measured.get(b))}" for a, b in _SPREADS]
        repeated = f"{exact(measured.get('repetitions'))} after {exact(measured.get('warmup'))} to warm up"
        wall = milliseconds(measured.get("wall_median_ms"))
        noise = "noisy: other work disturbed the measurement; repeat it on an idle machine"
        cells = (milliseconds(measured.get("median_ms")), *spread, wall, repeated)
        rows.append(Row(conditions(measured), cells, noise if measured.get("noisy") else ""))
    return rows


_SPREADS = (("p25_ms", "p75_ms"), ("p10_ms", "p90_ms"))


def _bare(value: Any) -> str:
    return milliseconds(value).removesuffix(f"{NARROW}ms")


def conditions(measured: Mapping[str, Any]) -> str:
    """Runtime, version, threads, number type and clock of a measurement."""
    threads = number(measured.get("threads"))
    count = "threads not given" if threads is None else f"{threads:.0f} thread{'' if threads == 1 else 's'}"
    clock = {"cpu": "CPU time", "wall": "wall-clock time"}.get(str(measured.get("clock")), "clock not given")
    runtime = f"{measured.get('runtime') or 'runtime not given'} {measured.get('version') or ''}".strip()
    return ", ".join([runtime, count, plain(measured.get("dtype") or "number type not given"), clock])


def device_name(cost: Mapping[str, Any]) -> str:
    """The device of the measurements in a few words."""
    device = cost.get("device")
    if isinstance(device, Mapping):
        return plain(next((device[key] for key in ("name", "cpu", "model") if device.get(key)), None))
    return plain(device)


def latency_phrase(cost: Mapping[str, Any]) -> str:
    """The first measurement as ``12.3 ms (onnxruntime 1.20, 1 thread, float32, CPU time)``."""
    measured = latencies(cost)
    if not measured:
        return MISSING
    noisy = ", noisy" if measured[0].get("noisy") else ""
    return f"{milliseconds(measured[0].get('median_ms'))} ({conditions(measured[0])}{noisy})"


def slow_operators(measurements: Sequence[Mapping[str, str]]) -> list[Row]:
    """What each runtime fell back on, where a measurement tells: operators outside of its fast kernels.

    Args:
        measurements: lines of measurements.csv; of several of the same conditions the last counts.
    """
    rows: dict[str, Row] = {}
    for line in measurements:
        slow, total, threads, share = (
            _read(line, name) for name in ("slow_operators", "operators", "threads", "slow_mac_share")
        )
        if slow is not None and total is not None:
            where = f"{line.get('device') or 'device not given'}: {conditions({**line, 'threads': threads})}"
            cells = (f"{exact(slow)} of {exact(total)}", "not told" if share is None else percent(share))
            rows[where] = Row(where, (*cells, ", ".join((line.get("slow_names") or "").split()) or "not told"))
    return list(rows.values())


def _read(line: Mapping[str, str], name: str) -> float | None:
    try:
        return number(float(line.get(name) or ""))
    except ValueError:
        return None


def layer_rows(cost: Mapping[str, Any]) -> list[Row]:
    """Every layer: type, output, parameters, MACs."""
    return [
        Row(
            plain(layer.get("name")),
            (
                plain(layer.get("type")),
                dimensions(layer.get("output")),
                exact(layer.get("parameters")),
                exact(layer.get("macs")),
            ),
        )
        for layer in _entries(cost.get("layers"))
    ]


def split_rows(data: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Headings and rows of the splits: people, then pictures of each kind."""
    splits = data.get("splits")
    counted = {str(k): v for k, v in splits.items() if isinstance(v, Mapping)} if isinstance(splits, Mapping) else {}
    headings = list(dict.fromkeys(str(key) for counts in counted.values() for key in counts))
    rows = [Row(name, tuple(exact(counts.get(key)) for key in headings)) for name, counts in counted.items()]
    return headings, rows


def deviation_rows(provenance: Mapping[str, Any]) -> list[Row]:
    """Each open choice: what we took, what the paper says, why."""
    return [
        Row(plain(item.get("option")), (plain(item.get("value")), plain(item.get("paper")), plain(item.get("why"))))
        for item in _entries(provenance.get("deviations"))
    ]
