"""The tables of runs for papers and programs: exact values as CSV, read ones as Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import numbers
from .configurations import bare_ms, reference_of, rows_of
from .layers import joined_layers, times_by_layer
from .numbers import MISSING, NARROW, entry, number, plain
from .overview import rows
from .run import Run
from .waterfall import sides_of, waterfall

Value = str | float | bool | None
Show = Callable[[Value], str]


@dataclass(frozen=True)
class Column:
    """A column: its key with the unit in its name, its heading, and how a person reads its values."""

    key: str
    heading: str
    show: Show = plain
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table by the name of its files; ``lines`` hold a value for each key, in SI units and fractions."""

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: Sequence[Mapping[str, Value]]


def _figure(key: str, heading: str, show: Show) -> Column:
    return Column(key, heading, show, is_number=True)


def _in_ms(seconds: Value) -> str:
    value = number(seconds)
    return MISSING if value is None else bare_ms(1e3 * value)


def _in_us(seconds: Value) -> str:
    value = number(seconds)
    return "" if value is None else f"{1e6 * value:,.1f}"


def _four(value: Value) -> str:
    """A fraction or a score with four digits."""
    return MISSING if number(value) is None else f"{value:.4g}"


MERIT = tuple(_figure(key, heading, numbers.percent) for key, heading in
              (("value", "value"), ("low", "95 % from"), ("high", "to")))  # fmt: skip
TIMES = tuple(_figure(key, heading, _in_ms) for key, heading in
              (("time_s", "time, ms"), ("time_p25_s", "p25, ms"), ("time_p75_s", "p75, ms")))  # fmt: skip
COUNTS = (_figure("parameters", "parameters", numbers.scaled), _figure("macs", "MACs", numbers.scaled))
OVERVIEW = (
    *(Column(key, key) for key in ("run", "what", "kind", "space", "strategy", "data", "task")),
    Column("metric", "metric"), *MERIT, *COUNTS, *TIMES, Column("conditions", "measured on"),
    _figure("size_bytes", "size", numbers.size), _figure("search_s", "search", numbers.duration),
    Column("simulated", "simulated data"),
)  # fmt: skip
METRICS = (
    Column("metric", "key"), Column("name", "metric"),
    *(_figure(column.key, column.heading, _four) for column in MERIT), Column("meaning", "meaning"),
)  # fmt: skip
LAYERS = (
    Column("name", "layer"), Column("kind", "kind"), Column("output", "output"),
    _figure("parameters", "parameters", numbers.exact), _figure("macs", "MACs", numbers.exact),
    _figure("predicted_s", "predicted µs", _in_us), _figure("measured_s", "measured µs", _in_us),
)  # fmt: skip
ERRORS = ("acer", "acer_low", "acer_high", "apcer", "bpcer", "accuracy")
CONFIGURATIONS = (
    Column("configuration", "configuration"), Column("drawn", "drawn in training"), Column("selected", "selected"),
    *COUNTS,
    *(_figure(key, name, numbers.percent) for key, name in
      zip(ERRORS, ("ACER", "95 % from", "to", "APCER", "BPCER", "accuracy"), strict=True)),
    *TIMES,
)  # fmt: skip


def overview_table(runs: Sequence[Run]) -> Table:
    """Every architecture of the runs, a line each; of several times the first that was measured."""
    lines: list[dict[str, Value]] = []
    for row in rows(runs):
        line: dict[str, Value] = {c.key: getattr(row, c.key, None) for c in OVERVIEW}
        where, time = next(iter(row.times.items()), (None, None))
        line |= {"metric": row.label, "conditions": where, "search_s": row.search_seconds}
        if time is not None:
            line |= {"time_s": seconds(time.ms), "time_p25_s": seconds(time.low), "time_p75_s": seconds(time.high)}
        lines.append(line)
    return Table("overview", "Architectures", OVERVIEW, lines)


def tables_of(run: Run) -> list[Table]:
    """The tables of a run that have any lines."""
    made = (
        Table("metrics", f"Metrics of {run.name}", METRICS, metric_lines(run)),
        Table("layers", f"Layers of {run.name}", LAYERS, layer_lines(run)),
        Table("configurations", f"Configurations of {run.name}", CONFIGURATIONS, configuration_lines(run)),
    )
    return [table for table in made if table.lines]


def metric_lines(run: Run) -> list[dict[str, Value]]:
    """Each metric with its interval; rates are fractions."""
    task, lines = run.task, []
    for key in task.order(run.metrics):
        name, meaning = task.describe(key)
        merit = {end: number(entry(run.metrics[key], end)) for end in ("value", "low", "high")}
        lines.append({"metric": key, "name": name, **merit, "meaning": meaning})
    return lines


def layer_lines(run: Run) -> list[dict[str, Value]]:
    """Each layer with the norm and activation that follow it, its predicted time and its measured one."""
    layers, found = joined_layers(run.cost), waterfall(run)
    names = [layer.name for layer in layers]
    sides = {side: times_by_layer(names, found, time) for side, time in sides_of(found).items()} if found else {}
    return [
        {
            "name": layer.name,
            "kind": " + ".join(layer.kinds),
            "output": "x".join(map(str, layer.output)),
            "parameters": layer.parameters,
            "macs": layer.macs,
            **{f"{side}_s": seconds(sides.get(side, {}).get(layer.name)) for side in ("predicted", "measured")},
        }
        for layer in layers
    ]


def configuration_lines(run: Run) -> list[dict[str, Value]]:
    """Each configuration of a network with branches, then the plain network."""
    told, reference = run.configurations, reference_of(run.configurations)
    named = [*rows_of(told)]
    if reference:
        named.append({**reference, "configuration": plain(reference.get("name") or "MobileNetV2")})
    lines: list[dict[str, Value]] = []
    for row in named:
        acer, latency = entry(row, "metrics", "acer"), row.get("latency")
        drawn = row.get("trained")
        lines.append(
            {
                "configuration": str(row["configuration"]),
                "drawn": drawn if isinstance(drawn, bool) else None,
                "selected": row["configuration"] == told.get("selected"),
                "parameters": number(row.get("parameters")),
                "macs": number(row.get("mac")),
                "acer_low": number(entry(acer, "low")),
                "acer_high": number(entry(acer, "high")),
                **{key: number(entry(row, "metrics", key, "value")) for key in ("acer", "apcer", "bpcer", "accuracy")},
                "time_s": seconds(entry(latency, "median_ms")),
                "time_p25_s": seconds(entry(latency, "p25_ms")),
                "time_p75_s": seconds(entry(latency, "p75_ms")),
            }
        )
    return lines


def seconds(ms: Any) -> float | None:
    """Milliseconds as seconds, without the digits that only the division adds.

    >>> seconds(3.1620495), seconds(float("nan"))
    (0.0031620495, None)
    """
    value = number(ms)
    return None if value is None else float(f"{value / 1e3:.12g}")


# --- formats ---------------------------------------------------------------------------------------------------------


def as_csv(table: Table) -> str:
    """Exact values by key; nothing where nothing is known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows([_exact(line.get(column.key)) for column in table.columns] for line in table.lines)
    return buffer.getvalue()


def _exact(value: Value) -> str:
    if isinstance(value, float):
        return repr(int(value) if value.is_integer() else value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def as_markdown(table: Table) -> str:
    """As a person reads it."""
    heads = [markdown(column.heading) for column in table.columns]
    rule = ["---:" if column.is_number else "---" for column in table.columns]
    lines = [heads, rule, *([markdown(cell) for cell in line] for line in _shown(table))]
    return f"**{markdown(table.title)}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(text: str) -> str:
    """Text in one line with every sign that Markdown reads as a command escaped."""
    for sign in "\\|*_`<[":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split("\n"))


def as_latex(table: Table) -> str:
    """A ``tabular`` for ``\\input``, with the rules of the package booktabs."""
    letters = "".join("r" if column.is_number else "l" for column in table.columns)
    heads = " & ".join(latex(column.heading) for column in table.columns)
    body = "".join(f"{' & '.join(map(latex, line))} \\\\\n" for line in _shown(table))
    top = f"% {' '.join(latex(table.title).split())}; needs \\usepackage{{booktabs}}\n"
    begin, end = f"{top}\\begin{{tabular}}{{{letters}}}\n\\toprule\n", "\\bottomrule\n\\end{tabular}\n"
    return f"{begin}{heads} \\\\\n\\midrule\n{body}{end}"


SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", NARROW: "~", "\u00d7": r"$\times$", "→": r"$\to$", "·": r"$\cdot$",
    "µ": r"$\mu$", "β": r"$\beta$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "[": "{[}", "]": "{]}", "\n": " ",
}  # fmt: skip


def latex(text: str) -> str:
    """Text with every sign that LaTeX reads as a command, or has no letter for, written out.

    >>> print(latex("10 % of a_b & {c}"))
    10 \\% of a\\_b \\& \\{c\\}
    """
    return "".join(SIGNS.get(sign, sign) for sign in text)


def _shown(table: Table) -> list[list[str]]:
    return [[column.show(line.get(column.key)) for column in table.columns] for line in table.lines]


FORMATS: dict[str, Callable[[Table], str]] = {"csv": as_csv, "md": as_markdown, "tex": as_latex}
