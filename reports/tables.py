"""The tables of a report: metrics with intervals and definitions, costs with conventions and conditions."""

from __future__ import annotations

from collections.abc import Mapping
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


@dataclass(frozen=True)
class Row:
    """A row: what, the cells beside it, and a remark in smaller type."""

    name: str
    cells: tuple[str, ...]
    note: str = ""


METRICS: dict[str, tuple[str, str]] = {
    "acer": ("ACER (paper)", "mean of APCER and BPCER, all attacks pooled, as the papers compute it"),
    "acer_iso": ("ACER (ISO)", "mean of BPCER and the APCER of the worst attack type, after ISO/IEC 30107-3"),
    "apcer": ("APCER, pooled", "share of all attacks that were accepted as live"),
    "apcer_max": (
        "APCER, worst type (ISO)",
        "the largest APCER of any one attack type, which ISO/IEC 30107-3 asks for",
    ),
    "bpcer": ("BPCER", "share of live faces that were rejected"),
    "hter": ("HTER", "mean of false acceptance and false rejection rate at the threshold"),
    "eer": ("EER", "error where both rates are equal; the threshold is chosen on these very samples"),
    "accuracy": ("Accuracy", "share of all pictures decided rightly; depends on how many attacks there are"),
    "auc": ("AUC", "chance that a live face scores above an attack, at any threshold"),
    "threshold": ("Threshold", "score above which a face counts as live"),
}
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
    """Value, 95 % interval and definition of each metric: known ones first, then each attack type, then the rest."""
    rows = []
    kinds = [key for key in metrics if key.startswith("apcer_") and key != "apcer_max"]
    order = ["acer", "acer_iso", "apcer", *kinds, "apcer_max", "bpcer", "hter", "eer", "accuracy", "auc", "threshold"]
    for key in [*order, *(key for key in metrics if key not in order)]:
        if key not in metrics:
            continue
        kind = key.removeprefix("apcer_")
        attack = (f"APCER, {kind}", f"share of {kind} attacks that were accepted as live")
        name, meaning = METRICS.get(key) or (attack if key in kinds else (key, ""))
        value = number(entry(metrics[key], "value"))
        if key == "threshold":
            rows.append(Row(name, (MISSING if value is None else f"{value:.4g}", "a score, not a rate"), meaning))
        elif key == "auc":
            rows.append(
                Row(name, (MISSING if value is None else f"{value:.3f}", _plain_interval(metrics[key])), meaning)
            )
        else:
            rows.append(Row(name, (percent(value), interval(metrics[key])), meaning))
    return rows


def _plain_interval(metric: Any) -> str:
    low, high = number(entry(metric, "low")), number(entry(metric, "high"))
    return "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def comparison_rows(run: Run, baseline: Run) -> list[Row]:
    """This run and its baseline side by side: value with interval, then costs."""
    rows = []
    for key in ("acer", "acer_iso", "apcer_max", "bpcer"):
        cells = tuple(_with_interval(side.metrics.get(key)) for side in (run, baseline))
        rows.append(Row(METRICS[key][0], cells))
    sides = (run.cost, baseline.cost)
    rows.append(Row("Parameters", tuple(exact(parameters(cost)) for cost in sides)))
    rows.append(Row("MACs", tuple(scaled(entry(cost, "operations", "mac")) for cost in sides)))
    rows.append(Row("Median time", tuple(latency_phrase(cost) for cost in sides)))
    return rows


def _with_interval(metric: Any) -> str:
    value = percent(entry(metric, "value"))
    return value if value == MISSING else f"{value} ({interval(metric)})"


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
    if isinstance(width, Mapping):
        counts = f"{scaled(width.get('parameters'))} parameters, {scaled(width.get('mac'))} MACs"
        rows.append(
            Row(f"At {plain(width.get('channels'))} channels", (counts,), "the same cells at the paper's width")
        )
    return rows


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
