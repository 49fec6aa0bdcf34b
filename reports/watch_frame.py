"""What ``python -m reports watch`` shows. What comes from files is plain text there: no markup, no control codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .numbers import number, plain, scaled
from .progress import Course, Genotype, Row, Snapshot

BLOCKS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
TREND = 30  # characters of a trend
BAR = 16  # characters of the bar
MOST_CHANGES = 6  # that are named
LONGEST = 500  # characters of a value
DRAWN = "drawn_"
# Column: what it is called, how its values are written; in this order. Other columns follow.
FIGURES: Mapping[str, tuple[str, str]] = {
    "train_loss": ("training loss", ".3f"),
    "val_loss": ("validation loss", ".3f"),
    "train_accuracy": ("training accuracy", ".1%"),
    "val_accuracy": ("validation accuracy", ".1%"),
    "val_eer": ("validation EER", ".1%"),
    "val_auc": ("validation AUC", ".3f"),
    "val_ap": ("validation AP", ".3f"),
    "entropy": ("entropy, 1: undecided", ".3f"),
    "skip_share": ("skip connections", ".0%"),
    "none_share": ("edges that none leads", ".0%"),
    "derived_macs": ("MACs of the network", ""),
    "expected_macs": ("MACs expected", ""),
    "expected_parameters": ("parameters expected", ""),
    "expected_latency_ms": ("latency expected, ms", ".3f"),
    "macs": ("MACs of the network", ""),
    "macs_spent": ("MACs spent", ""),
    "learning_rate": ("learning rate", ".2g"),
}
NEVER = ("epoch", "candidate", "seconds")  # shown elsewhere
ONLY_WITH = {"skip_share": "skip_connect", "none_share": "none"}  # operations that these shares are of


def safe(value: Any) -> str:
    """A value from a file as text that does nothing to a terminal: what is not printable is written as its code."""
    text = plain(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sparkline(values: Sequence[float], width: int = TREND) -> str:
    """A trend in blocks, from the smallest value to the largest; a space where there is none.

    >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7])
    '▁▂▃▄▅▆▇█'

    Args:
        values: from the first epoch to the last; of more than ``width`` some share a block, which has their mean.
        width: characters at most.
    """
    count = min(width, len(values))
    cuts = [len(values) * i // count for i in range(count + 1)] if count else [0]
    groups = [[v for v in values[a:b] if math.isfinite(v)] for a, b in itertools.pairwise(cuts)]
    means = [sum(group) / len(group) if group else math.nan for group in groups]
    known = [mean for mean in means if math.isfinite(mean)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    steps = len(BLOCKS) - 1
    return "".join(
        BLOCKS[round(steps * (mean - low) / span) if span else 0] if math.isfinite(mean) else " " for mean in means
    )


def left(seconds: float | None) -> str:
    """An estimate for people: coarse, and said as one."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min left"
    hours = seconds / 3600
    return f"about {hours:.1f} h left" if hours < 48 else f"about {hours / 24:.1f} days left"


def frame(seen: Snapshot, notes: Iterable[str] = (), trends: bool = True) -> RenderableType:
    """One picture of a run.

    Args:
        seen: the run.
        notes: sentences at its end.
        trends: whether the terminal has the characters that a trend is drawn with.
    """
    course = seen.shown
    parts: list[RenderableType] = [_title(seen)]
    if seen.stages:
        parts += [_stages(seen), _progress(seen)]
    if course is not None:
        parts += [_figures(course, trends), *_drawn(course.rows[-1]), *_guard(course)]
    parts += [Text(note) for note in notes]
    if course is not None and seen.genotype is not None:
        parts += _genotype(seen.genotype, course.kind)  # last: where the window is low, this is what is cut off
    return Group(*parts)


def _title(seen: Snapshot) -> Text:
    config, strategy = seen.config, seen.provenance.get("strategy", seen.config.get("strategy"))
    facts = [config.get("space"), strategy, config.get("data"), config.get("recipe")]
    told = [safe(fact) for fact in facts if isinstance(fact, str | int | float)]  # an alias in YAML may have no end
    told += ["simulated data"] if seen.simulated else []
    told += [f"seed {config['seed']}"] if isinstance(config.get("seed"), int) else []
    return Text.assemble((safe(str(seen.path)), "bold"), "  " if told else "", (", ".join(told), "dim"))


class Flow:
    """Pieces of text side by side, in as many lines as they need; no piece is broken."""

    def __init__(self, pieces: Sequence[Text], gap: str = "  ") -> None:
        self.pieces, self.gap = pieces, gap

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        line = Text()
        for piece in self.pieces:
            if line and line.cell_len + len(self.gap) + piece.cell_len > options.max_width:
                yield line
                line = Text()
            line = Text.assemble(line, self.gap, piece) if line else piece
        yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = [piece.cell_len for piece in self.pieces] or [0]
        return Measurement(max(widths), sum(widths) + len(self.gap) * (len(widths) - 1)).with_maximum(options.max_width)


def _stages(seen: Snapshot) -> Flow:
    pieces = []
    for stage in seen.stages:
        is_current, is_over = stage == seen.current, stage.title in seen.over
        style = "bold cyan" if is_current else "green" if is_over else "dim"
        pieces.append(Text(f"[{'>' if is_current else 'x' if is_over else ' '}] {stage.title}", style))
    return Flow(pieces)


def _progress(seen: Snapshot) -> RenderableType:
    course, current = seen.shown, seen.current
    if course is None or current != course.stage:
        doing = f"{current.title} {'at work' if seen.status == 'running' else 'not done'}" if current else ""
        last = f"below: {course.stage.title}" if course else ""
        return Text("; ".join(part for part in (doing, last) if part))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    share = course.done / course.total if course.total else course.share
    cells: list[RenderableType] = [Text(counted(course), "bold")]
    if share is not None:
        cells.append(ProgressBar(total=1, completed=min(1.0, share), width=BAR))
    cells.append(Text(_ending(course) if seen.status == "running" else ""))
    grid.add_row(*cells)
    warmup = number(seen.config.get("warmup_epochs")) or 0
    if course.done > warmup or "entropy" not in course.rows[-1]:
        return grid
    return Group(grid, Text(f"warm-up to epoch {warmup:g}: only weights learn; later epochs take longer", "dim"))


def counted(course: Course) -> str:
    """How far a stage is."""
    of = f" of {course.total}" if course.total else ""
    budget = f", {course.share:.0%} of the budget" if not of and course.share is not None else ""
    return f"{course.kind} {course.done}{of}{budget}"


def _ending(course: Course) -> str:
    if course.total is not None and course.done >= course.total:
        return "done; completing the stage"
    told = left(course.seconds_left)
    return f"{told} (estimate)" if told else ""


def columns_of(course: Course) -> list[str]:
    """The columns that are shown, in order."""
    present = dict.fromkeys(name for row in course.rows for name in row)
    known = [name for name in FIGURES if name in present]
    others = [name for name in present if name not in FIGURES and name not in NEVER and not name.startswith(DRAWN)]
    operations = course.lines[-1].get("operations") if course.lines else None
    shown = []
    for name in known + others:
        values = [row.get(name, math.nan) for row in course.rows]
        cannot_be = name in ONLY_WITH and isinstance(operations, list) and ONLY_WITH[name] not in operations
        if any(map(math.isfinite, values)) and (any(values) or not cannot_be):
            shown.append(name)
    return shown


def figure(name: str, value: float) -> str:
    """A value of a column as people read it."""
    if not math.isfinite(value):
        return "-"
    pattern = FIGURES.get(name, ("", "" if name.startswith("expected_") else ".4g"))[1]
    return format(value, pattern) if pattern else scaled(value)


def label(name: str) -> str:
    """What a column is called."""
    return FIGURES[name][0] if name in FIGURES else safe(name).replace("_", " ")


def _figures(course: Course, trends: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if trends else box.ASCII2, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("")
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("before", justify="right", style="dim", no_wrap=True)
    if trends:
        table.add_column(f"{course.kind}s 1 to {course.done}", no_wrap=True, style="cyan")
    for name in columns_of(course):
        values = [row.get(name, math.nan) for row in course.rows]
        before = figure(name, values[-2]) if len(values) > 1 else "-"
        cells = [label(name), figure(name, values[-1]), before, *([sparkline(values)] if trends else [])]
        table.add_row(*map(Text, cells))
    return table


def _drawn(row: Row) -> list[RenderableType]:
    """How often a sampled training has drawn each configuration in its last epoch."""
    counts = [f"{safe(name.removeprefix(DRAWN))} {value:g}" for name, value in row.items() if name.startswith(DRAWN)]
    return [Text(f"drawn in the last epoch: {', '.join(counts)}")] if counts else []


def _guard(course: Course) -> list[RenderableType]:
    if not any("guard" in line for line in course.lines):
        return []
    spoken = course.guard
    if spoken is None:
        return [Text("guard against collapse: nothing wrong so far")]
    return [Text(f"guard against collapse, at epoch {spoken[0]}: {safe(spoken[1])}", "bold yellow")]


def _genotype(genotype: Genotype, kind: str) -> list[RenderableType]:
    parts: list[RenderableType] = [Text("")]
    changes = genotype.changes
    if genotype.before:
        since = "the epoch before" if kind == "epoch" else "the best one before"
        count = f"{len(changes)} of {len(genotype.choices)} choices" if changes else "nothing"
        parts.append(Text(f"Changed since {since}: {count}"))
    for name, (old, new) in list(changes.items())[:MOST_CHANGES]:
        parts.append(Text.assemble(f"  {safe(name)}: {safe(old)} -> ", (safe(new), "bold yellow")))
    if len(changes) > MOST_CHANGES:
        parts.append(Text(f"  and {len(changes) - MOST_CHANGES} more"))
    parts.append(Text(f"Genotype {genotype.source}", "bold"))
    return [*parts, _choices(genotype.choices, set(changes))]


def _choices(choices: Mapping[str, Any], changed: set[str]) -> Table:
    """The choices, those of a part (a cell, a tree, a stage) side by side."""
    groups: dict[str, list[str]] = {}
    for name in choices:
        groups.setdefault(str(name).rpartition("/")[0], []).append(name)
    table = Table.grid(padding=(0, 2))
    for group, names in groups.items():
        pieces = []
        for name in names:
            own, style = safe(str(name).rpartition("/")[2]), "bold yellow" if name in changed else ""
            pieces.append(Text.assemble((f"{own} ", "dim"), (safe(choices[name]), style)))
        table.add_row(Text(safe(group), "dim"), Flow(pieces))
    return table


def as_line(course: Course, row: Row, is_running: bool) -> str:
    """A row as a line of a log.

    Args:
        course: of the stage.
        row: one of its rows.
        is_running: whether more rows of this stage will come.
    """
    index = int(row[course.kind]) + 1
    of = f"/{course.total}" if course.total else ""
    shown = [name for name in columns_of(course) if math.isfinite(row.get(name, math.nan))]
    values = ", ".join(f"{label(name)} {figure(name, row[name])}" for name in shown)
    told = left(course.seconds_left) if is_running and index == course.done and index != course.total else ""
    return f"{course.stage.title}  {course.kind} {index}{of}  {values}" + (f"  ({told}, an estimate)" if told else "")
