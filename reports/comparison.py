"""Whether a run is better than its baseline, in words that the numbers carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .numbers import duration, entry, interval, number, percent, scaled
from .run import Run

BUDGET_TOLERANCE = 0.1  # relative difference of two budgets that is still called the same budget
CAVEAT = (
    "The intervals cover the choice of test pictures only. Each side is one search and one training from one seed, "
    "so how much luck either had is not known."
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a comparison.

    Attributes:
        code: ``better``, ``worse``, ``undecided`` (intervals overlap) or ``impossible`` (something is missing).
        sentence: the verdict in plain words, with the numbers.
        notes: what limits it.
    """

    code: str
    sentence: str
    notes: tuple[str, ...] = ()


def compare_metric(
    mine: Any, other: Any, name: str = "ACER", rival: str = "random search", higher: bool = False
) -> Verdict:
    """Compares a metric by its 95 % intervals.

    Intervals that are apart show a difference. Intervals that overlap show nothing: neither that one is better nor
    that both are equal (two 95 % intervals can overlap a little although a paired test would find a difference).

    Args:
        mine: value, low and high of the run, as fractions.
        other: the same of the baseline.
        name: what the metric is called.
        rival: what the baseline is called.
        higher: whether more is better, as of an average precision; of an error rate less is.
    """
    values = [number(entry(metric, key)) for metric in (mine, other) for key in ("value", "low", "high")]
    if any(value is None for value in values):
        side = "this run" if None in values[:3] else rival
        return Verdict("impossible", f"No comparison is possible: {side} has no {name} with an interval.")
    numbers = f"{name} {percent(entry(mine, 'value'))} ({interval(mine)}) against {percent(entry(other, 'value'))}"
    numbers += f" ({interval(other)}) of {rival}"
    low, high, other_low, other_high = (value or 0.0 for value in (values[1], values[2], values[4], values[5]))
    below, above = high < other_low, low > other_high
    if below or above:
        code = "better" if above == higher else "worse"
        sentence = f"{code.capitalize()} than {rival}: the 95 % intervals do not overlap. {numbers}."
        return Verdict(code, sentence, (CAVEAT,))
    overlap = "Overlap does not show that the two are equal: a larger test set or several seeds could tell them apart."
    sentence = f"No ranking is justified: the 95 % intervals overlap. {numbers}."
    return Verdict("undecided", sentence, (overlap, CAVEAT))


def compare_runs(run: Run, baseline: Run) -> Verdict:
    """The verdict on the headline; two runs that differ in what must be equal get none."""
    verdict = compare_headlines(run, baseline, "random search")
    told = Verdict(verdict.code, verdict.sentence, (*budget_notes(run, baseline), *verdict.notes))
    return differing_runs(run, baseline, ("space", "data")) or told


def compare_headlines(run: Run, other: Run, rival: str) -> Verdict:
    """The verdict on the figure that decides for the run's task."""
    task = run.task
    mine, its = (each.metrics.get(task.headline) for each in (run, other))
    return compare_metric(mine, its, task.label, rival, task.higher)


def differing_runs(run: Run, other: Run, equal: Sequence[str]) -> Verdict | None:
    """Why two runs cannot be compared, if one of these options differs."""
    differing = [key for key in equal if _differs(run.config.get(key), other.config.get(key))]
    pairs = ", ".join(f"{key}: {run.config[key]} against {other.config[key]}" for key in differing)
    sentence = f"The two runs cannot be compared: they differ in {pairs}."
    return Verdict("impossible", sentence) if differing else None


def spent(run: Run) -> tuple[float | None, float | None]:
    """Multiply-accumulates and seconds that the search took; ``macs_spent`` counts from the start of the search."""
    table = run.search
    total = run.provenance.get("search_macs")
    if total is None and "macs_spent" in table:
        total = float(table["macs_spent"].max())
    macs = number(total)
    seconds = number(entry(run.provenance, "seconds", "search"))
    if seconds is None and "seconds" in table:
        seconds = number(float(table["seconds"].sum()))
    return macs, seconds


def budget_notes(run: Run, baseline: Run) -> list[str]:
    """What the two searches spent, and whether that is the same budget."""
    notes = []
    (macs, seconds), (other_macs, other_seconds) = spent(run), spent(baseline)
    if macs and other_macs:
        text = f"The searches spent {scaled(macs)} and {scaled(other_macs)} MACs"
        unequal = abs(macs / other_macs - 1) > BUDGET_TOLERANCE
        notes.append(f"{text}: not the same budget, so read the verdict with care." if unequal else f"{text}.")
    else:
        notes.append("Whether both searches had the same budget is not known: search_macs is missing.")
    if seconds is not None and other_seconds is not None:
        notes.append(f"They took {duration(seconds)} and {duration(other_seconds)}.")
    return notes


def _differs(mine: Any, other: Any) -> bool:
    return mine is not None and other is not None and mine != other
