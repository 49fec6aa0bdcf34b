"""The configurations of a network with branches: what each reaches and costs, and whether that ranks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure

from searchspaces.pta import REPORTED

from . import comparison
from .comparison import Verdict, compare_metric
from .numbers import MISSING, NARROW, duration, entry, interval, milliseconds, number, percent, plain
from .pareto import SIZE, Point, error_figure
from .tables import conditions, device_name

RIVAL = "the separately trained MobileNetV2"
CAVEAT = (
    "The intervals are over the people of the test split. Each side is one training from one seed, so how much luck "
    "either had is not known."
)
HEADINGS = (
    "parameters, M", "MACs, M", "multiply-adds (ptflops), M", "ACER (95 % interval)", "APCER", "BPCER", "accuracy",
    "time, ms: median (p25 to p75)", "relative to MobileNetV2",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value, and in smaller type what belongs to it."""

    text: str
    small: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A row of the table of configurations."""

    name: str
    note: str
    cells: tuple[Cell, ...]
    reference: bool = False


Rows = list[Mapping[str, Any]]


def rows_of(configurations: Mapping[str, Any]) -> Rows:
    """The rows that name a configuration, each one once."""
    rows = configurations.get("rows")
    named = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    found = {str(row["configuration"]): row for row in named if isinstance(row.get("configuration"), str)}
    return list(found.values())


def reference_of(configurations: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The plain network that was trained beside it, or None."""
    reference = configurations.get("reference")
    return reference if isinstance(reference, Mapping) and reference else None


def table_lines(configurations: Mapping[str, Any]) -> tuple[list[Line], list[Line]]:
    """The reported configurations with the plain network beside HHH, and the others."""
    rows, reference = rows_of(configurations), reference_of(configurations)
    reported: list[Line] = []
    others: list[Line] = []
    for row in rows:
        name = str(row["configuration"])
        trained = "drawn in training" if row.get("trained") is True else ""
        trained = "never drawn in training" if row.get("trained") is False else trained
        selected = "selected" if name == configurations.get("selected") else ""
        line = Line(name, "; ".join(filter(None, (trained, selected))), _cells(row))
        (reported if name in REPORTED else others).append(line)
        if name == "HHH" and reference:
            reported.append(_reference_line(reference))
    if reference and not any(line.reference for line in reported):
        reported.append(_reference_line(reference))
    return reported, others


def _reference_line(reference: Mapping[str, Any]) -> Line:
    note = "the network of HHH, trained by itself"
    return Line(
        plain(reference.get("name") or "MobileNetV2"), note, _cells({**reference, "relative_latency": 1.0}), True
    )


def _cells(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    counts = [Cell(millions(row.get(key))) for key in ("parameters", "mac", "ptflops")]
    errors = [_error_cell(row, name) for name in ("acer", "apcer", "bpcer", "accuracy")]
    latency = row.get("latency")
    if number(entry(latency, "median_ms")) is None:
        return (*counts, *errors, Cell("not measured"), Cell("not measured"))
    spread = (f"{bare_ms(entry(latency, 'p25_ms'))} to {bare_ms(entry(latency, 'p75_ms'))}",)
    noisy = ("noisy",) if entry(latency, "noisy") is True else ()
    relative = number(row.get("relative_latency"))
    time = Cell(bare_ms(entry(latency, "median_ms")), (*spread, *noisy))
    return (*counts, *errors, time, Cell(MISSING if relative is None else f"{relative:.2f}"))


def _error_cell(row: Mapping[str, Any], name: str) -> Cell:
    trained, again = entry(row, "metrics", name), entry(row, "recalibrated", "metrics", name)
    bounds = name == "acer"
    small = [interval(trained)] if bounds else []
    if number(entry(again, "value")) is not None:
        small += [f"recal.{NARROW}{percent(entry(again, 'value'))}", *([interval(again)] if bounds else [])]
    return Cell(percent(entry(trained, "value")), tuple(small))


def has_recalibrated(configurations: Mapping[str, Any]) -> bool:
    """Whether any row was judged a second time."""
    return any(isinstance(row.get("recalibrated"), Mapping) for row in rows_of(configurations))


def millions(value: Any) -> str:
    """Millions with two decimals, as papers print them.

    >>> millions(2226434)
    '2.23'
    """
    amount = number(value)
    return MISSING if amount is None else f"{amount / 1e6:.2f}"


def bare_ms(value: Any) -> str:
    """Milliseconds without their unit."""
    return milliseconds(value).removesuffix(f"{NARROW}ms")


def took(seconds: Any) -> str:
    """A duration: seconds below ten minutes, so that two of them can be compared."""
    amount = number(seconds)
    return duration(amount) if amount is None or amount >= 600 else f"{amount:.0f}{NARROW}s"


# --- sentences -------------------------------------------------------------------------------------------------------


def introduction(configurations: Mapping[str, Any]) -> str:
    """What the table holds, and of which data it is."""
    data, selected = configurations.get("data"), configurations.get("selected")
    kind = data_kind(data)
    text = f"One training, one set of weights; the branches are switched afterwards. Test split: {kind}"
    text += f" ({plain(entry(data, 'name'))}), {plain(entry(data, 'pictures'))} pictures of "
    text += f"{plain(entry(data, 'people'))} people."
    if selected:
        by = configurations.get("selected_by")
        text += f" Selected: {plain(selected)}{f', by {plain(by)}' if by else ''}."
    return text


def data_kind(data: Any) -> str:
    """Whether data are simulated, in words."""
    simulated = entry(data, "simulated")
    if not isinstance(simulated, bool):
        return "data of unknown kind"
    return "simulated data" if simulated else "recorded data"


def time_conditions(configurations: Mapping[str, Any]) -> str:
    """Under which conditions the times were measured, in one sentence."""
    measured = [row.get("latency") for row in [*rows_of(configurations), reference_of(configurations) or {}]]
    first = next((latency for latency in measured if isinstance(latency, Mapping)), None)
    if first is None:
        return "No time was measured."
    where = device_name(configurations)
    repeated = f"{plain(first.get('repetitions'))} runs of each network in turn"
    return f"Times: {conditions(first)}, {repeated}, on {where}. This is no phone."


def ranking(configurations: Mapping[str, Any]) -> Verdict:
    """Whether the intervals of ACER put the reported configurations in an order."""
    rows = [row for row in rows_of(configurations) if row["configuration"] in REPORTED]
    known = [row for row in rows if None not in _bounds(row)]
    if len(known) < 2:
        return Verdict(
            "impossible", "No ranking is possible: fewer than two configurations have an ACER with interval."
        )
    apart = [_order(a, b) for a, b in combinations(known, 2) if _are_apart(a, b)]
    notes = (
        "The intervals are over people (95 %, bootstrap). All configurations are judged on the same pictures: a paired "
        "test could tell more than these intervals do.",
        "One training with one seed: how much luck it had is not known.",
    )
    names = f"{len(known)} reported configurations"
    if not apart:
        every = f"No ranking of the {names} is justified: the 95 % intervals of their ACER all overlap."
        return Verdict("undecided", every, notes)
    higher: dict[str, list[str]] = {}
    for lower, worse in apart:
        higher.setdefault(worse, []).append(lower)
    pairs = "; ".join(f"{worse} is worse than {', '.join(lower)}" for worse, lower in higher.items())
    count = f"{len(apart)} of {len(known) * (len(known) - 1) // 2} pairs"
    sentence = f"The {names} can be ranked in part only: the 95 % intervals of ACER are apart for {count} ({pairs})."
    return Verdict("partial", sentence, notes)


def _bounds(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    return tuple(number(entry(row, "metrics", "acer", key)) for key in ("value", "low", "high"))


def _are_apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    (_, low, high), (_, other_low, other_high) = ((value or 0.0 for value in _bounds(row)) for row in (a, b))
    return high < other_low or other_high < low


def _order(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str]:
    first, second = sorted((a, b), key=lambda row: _bounds(row)[0] or 0.0)
    return str(first["configuration"]), str(second["configuration"])


SAMPLED = {
    "better": "The sampled training beat the separately trained MobileNetV2 with the same network (HHH).",
    "worse": "The sampled training did worse than the separately trained MobileNetV2 with the same network (HHH).",
    "undecided": "The sampled training did not beat the separately trained MobileNetV2, nor lose to it, as far as this "
    "test set can tell.",
    "impossible": "Whether the sampled training beat a separately trained MobileNetV2 is not known.",
}


def against_reference(configurations: Mapping[str, Any]) -> Verdict:
    """Whether sampling made HHH better than the same network trained by itself, by the intervals of ACER."""
    heavy = next((row for row in rows_of(configurations) if row["configuration"] == "HHH"), None)
    reference = reference_of(configurations)
    if heavy is None or reference is None:
        lacking = "HHH" if heavy is None else RIVAL
        return Verdict("impossible", f"{SAMPLED['impossible']} This run holds no figures of {lacking}.")
    compared = compare_metric(entry(heavy, "metrics", "acer"), entry(reference, "metrics", "acer"), rival=RIVAL)
    notes = tuple(CAVEAT if note is comparison.CAVEAT else note for note in compared.notes)
    seconds, other = entry(configurations, "seconds", "train"), reference.get("seconds")
    if number(seconds) and number(other):
        notes = (*notes, f"The sampled training took {took(seconds)}, that of MobileNetV2 {took(other)}.")
    return Verdict(compared.code, f"{SAMPLED[compared.code]} {compared.sentence}", notes)


# --- the figure ------------------------------------------------------------------------------------------------------

KINDS = {
    "drawn": "drawn in training",
    "never": "never drawn in training",
    "reference": "MobileNetV2, trained by itself",
}


def configurations_figure(configurations: Mapping[str, Any], size: tuple[float, float] = SIZE) -> Figure | None:
    """ACER over measured time, or over MACs where fewer than two networks were timed; None without figures.

    Args:
        configurations: the content of configurations.json.
        size: width and height in inches.
    """
    rows = [(row, "never" if row.get("trained") is False else "drawn") for row in rows_of(configurations)]
    reference = reference_of(configurations)
    if reference:
        rows.append(({**reference, "configuration": plain(reference.get("name") or "MobileNetV2")}, "reference"))
    timed = [point for row, kind in rows if (point := _point(row, kind, timed=True))]
    over_time = len(timed) > 1
    points = timed if over_time else [point for row, kind in rows if (point := _point(row, kind, timed=False))]
    cost = "time of one picture, ms (median, p25 to p75)" if over_time else "MACs, millions"
    return error_figure(points, cost, "ACER on new people, 95 % interval", KINDS, size=size)


def _point(row: Mapping[str, Any], kind: str, timed: bool) -> Point | None:
    y, y_low, y_high = _bounds(row)
    if timed:
        x, x_low, x_high = (number(entry(row, "latency", key)) for key in ("median_ms", "p25_ms", "p75_ms"))
    else:
        count = number(row.get("mac"))
        x = x_low = x_high = None if count is None else count / 1e6
    if x is None or y is None:
        return None
    name = str(row["configuration"])
    ends = (x if x_low is None else x_low, x if x_high is None else x_high, y if y_low is None else y_low,
            y if y_high is None else y_high)  # fmt: skip
    return Point(name, x, y, *ends, kind, labelled=name in REPORTED or kind == "reference")
