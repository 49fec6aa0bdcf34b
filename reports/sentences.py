"""What a page says of a run in words, and the commands that make its parts again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from . import numbers, tables
from .choices import is_by_choice
from .numbers import MISSING, entry, number, percent, plain
from .run import Run


def can_collapse(run: Run) -> bool:
    """Whether operations compete of which one is a skip connection."""
    choices = run.architecture.get("choices")
    return not (run.finds_faces or is_by_choice(run.history, choices if isinstance(choices, Mapping) else {}))


def summary(run: Run) -> list[tuple[str, str, str]]:
    """The figures at the top: name, value, conditions."""
    task, cost, count = run.task, run.cost, tables.parameters(run.cost)
    merit = run.metrics.get(task.headline)
    measured = tables.latencies(cost)
    speed = numbers.milliseconds(entry(measured[0], "median_ms")) if measured else MISSING
    how = f"median; {tables.conditions(measured[0])}; on {tables.device_name(cost)}" if measured else "not measured"
    noisy = ". Noisy: the machine was not idle" if measured and measured[0].get("noisy") else ""
    shape = run.cost.get("input")
    picture = f"one picture of {numbers.dimensions(shape)}" if shape else "one picture"
    interval = numbers.interval(merit)
    return [
        (
            task.label,
            percent(entry(merit, "value")),
            interval if interval == "no interval" else f"95 % interval {interval}",
        ),
        ("Parameters", numbers.scaled(count), f"{numbers.exact(count)} exactly" if count else "not counted"),
        ("MACs", numbers.scaled(entry(cost, "operations", "mac")), f"convolutions and linear layers, {picture}"),
        ("Time", speed, how + noisy),
    ]


def guard_sentence(run: Run) -> tuple[str, str] | None:
    """The verdict of the guard against collapse: its code, and what it means."""
    verdict, reason = entry(run.provenance, "guard", "verdict"), entry(run.provenance, "guard", "reason")
    meaning = {
        "healthy": "The guard against collapse saw nothing wrong.",
        "warned": "The guard against collapse warned: look at the curves before you trust this architecture.",
        "stopped": "The guard against collapse stopped the search: the architecture is that of the last healthy epoch.",
    }
    # nothing can collapse where no operations compete, or none of them is a skip connection
    if verdict is None or (verdict == "healthy" and (run.trained_once or not can_collapse(run))):
        return None
    return str(verdict), meaning.get(str(verdict), f"The guard says {plain(verdict)}.") + (
        f" {reason}" if reason else ""
    )


UNDECIDED = 0.9  # normalised entropy at the end of a search
SAMPLED = {
    "edges": "where a node's input comes from was sampled at every step; all operations of that edge ran, mixed",
    "operations": "of every edge that ran one operation was sampled at every step, and no other one ran",
    "both": "where a node's input comes from was sampled at every step, and one operation of that edge",
    "branches": "of every block one mode was sampled at every step",
    "sizes": "of every choice one candidate was sampled at every step, and nothing beyond that size ran",
}


def sampling_sentence(run: Run) -> str | None:
    """What a search of sampled single paths has sampled."""
    sampled = entry(run.architecture, "found_by", "sampled") or run.provenance.get("sampled")
    if sampled is None:
        return None
    kinds = str(sampled).split(" and ")  # a pyramid's operations and a tree's edges
    told = "; ".join(f"{kind}: {SAMPLED[kind]}" if kind in SAMPLED else kind for kind in kinds)
    return f"Single path. Sampled were {told}."


def undecided_sentence(run: Run) -> str | None:
    """Said of a detector whose operations had nearly equal shares to the end: what was kept leads by little."""
    shares = run.search.get("entropy")
    last = None if shares is None or shares.dropna().empty else float(shares.dropna().iloc[-1])
    if not run.finds_faces or last is None or last < UNDECIDED:
        return None
    return (
        f"The search has hardly decided: the entropy of its operations ends at {percent(last)} of that of equal "
        "shares. What was kept leads by little, and another seed may keep something else."
    )


def shortcut_sentence(run: Run) -> str | None:
    """Whether the network beats what global colour and sharpness alone reach."""
    pixels = number(entry(run.data, "pixels", "eer"))
    if pixels is not None:
        return _against("raw pixels, compared as embeddings are, reach EER", pixels, run.metrics.get("eer"))
    bar = number(entry(run.data, "shortcut", "acer"))
    if bar is None:
        return None
    metric = run.metrics.get("acer")
    value, high = number(entry(metric, "value")), number(entry(metric, "high"))
    text = f"The bar to beat: a logistic regression on global colour and sharpness reaches ACER {percent(bar)}"
    auc = number(entry(run.data, "shortcut", "auc"))
    text += f" (AUC {auc:.3f})" if auc is not None else ""
    if value is None:
        return text + "."
    if high is not None and high < bar:
        return f"{text}; the network's {percent(value)} and its whole interval lie below that."
    if value < bar:
        return f"{text}; the network's {percent(value)} is lower, but its interval reaches the bar."
    return f"{text}; the network's {percent(value)} does not beat it: it may have learned no more than that."


def _against(what: str, bar: float, metric: Any) -> str:
    """Whether an error rate and its whole interval lie below a bar."""
    text, value, high = (
        f"The bar to beat: {what} {percent(bar)}",
        number(entry(metric, "value")),
        number(entry(metric, "high")),
    )
    if value is None:
        return text + "."
    if value >= bar:
        return f"{text}; the network's {percent(value)} does not beat it."
    whole = " and its whole interval lie" if high is not None and high < bar else " lies"
    return f"{text}; the network's {percent(value)}{whole} below that" + (
        "." if "whole" in whole else ", its interval not."
    )


def teacher_rows(run: Run) -> list[tables.Row]:
    """The network beside its teacher: its task's metrics, then parameters."""
    taught = run.teacher.get("metrics")
    metrics = taught if isinstance(taught, Mapping) else {}
    keys = run.task.comparable(metrics)
    rows = [
        tables.Row(
            run.task.describe(key)[0],
            tuple(tables.metric_with_interval(side.get(key), run.task) for side in (run.metrics, metrics)),
        )
        for key in keys
        if key in metrics
    ]
    counts = tables.parameters(run.cost), number(run.teacher.get("parameters"))
    return [*rows, tables.Row("Parameters", tuple(numbers.exact(count) if count else MISSING for count in counts))]


def rebuild_commands(run: Run) -> list[tuple[str, str]]:
    """What to type to make each part of the run again."""
    folder = str(run.path)
    strategy, once = str(run.config.get("strategy", "")), run.trained_once
    config, architecture = shlex.quote(f"{folder}/config.yaml"), shlex.quote(f"{folder}/architecture.json")
    lines = []
    if re.fullmatch(r"\w+", strategy):
        again = shlex.quote(f"{folder}-again")
        lines.append(
            (
                "sampled training, judging, measuring and report" if once else "search, training, measuring and report",
                f"python -m strategies.{strategy} --config {config} --out {again}",
            )
        )
    data, recipe = run.config.get("data"), run.config.get("recipe")
    options = "".join(f" --{k} {shlex.quote(v)}" for k, v in (("data", data), ("recipe", recipe)) if isinstance(v, str))
    alone = "the selected configuration from scratch, by itself" if once else "training of the network alone"
    lines.append((alone, f"python -m evaluators.train {architecture}{options}"))
    if run.finds_faces:
        weights = shlex.quote(f"{folder}/weights.safetensors")
        lines.append(("faces in your pictures", f"python -m evaluators.detect {shlex.quote(folder)} {weights} *.jpg"))
    lines.append(("counts", f"python -m hardware.profile {architecture}"))
    lines.append(("time on your device", f"python -m hardware.measure {architecture}"))
    lines.append(("this page", f"python -m reports {shlex.quote(folder)}"))
    return lines
