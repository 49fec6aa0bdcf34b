"""One web page with every table of the papers beside ours, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from markupsafe import Markup

from searchspaces.errors import ConfigError
from searchspaces.files import write_text

from .numbers import NARROW
from .page import HERE, policy, template
from .paper_catalog import ALL_TABLES, TABLES_OF, TARGETS
from .paper_comparison import CLOSE, EQUAL, NEAR, REASONED, UNEXPLAINED, WANTING, Compared, Figure, compare_all
from .papers import printed_figure
from .tables import Row

FORMAT = 1
SUFFIXES = (".html", ".json")
TITLE = "The papers' tables beside ours"
ROUNDED = 0.0005  # a relative deviation that shows as 0.0 %
WITHIN = f"within {100 * NEAR:g}{NARROW}%"
STATES: Mapping[str, str] = {
    EQUAL: "equal as printed",
    CLOSE: WITHIN,
    REASONED: "further off, with a reason",
    UNEXPLAINED: "further off, not explained",
    WANTING: "need data or a device",
}
NOTES = (
    f"A row counts by its figure that deviates most: equal as printed, {WITHIN}, or further off. Each row says why it "
    "deviates, or “not explained”. A row needs data or a device if none of its figures can be had here.",
    "Deviation is ours over the paper's, less 1, before rounding.",
    "ASFD's ratios are compared with quotients of the paper's own figures: they are no counts and no times of ours.",
    "Times of this machine are not the phones': only relative times are compared. They vary from call to call.",
)


def check_page(out: Path) -> None:
    """Refuse a file that we cannot write, before anything is computed.

    Raises:
        ConfigError: naming what can be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"--out {out}: all tables together go into {' or '.join(SUFFIXES)}; one, with --table, into more."
        )
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder. Name a file, for example {out / 'papers.html'}.")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A bar on the standard error that is told each table's name."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(ALL_TABLES), completed=-1)

        def tick(name: str) -> None:
            bar.update(task, description=name, advance=1)

        yield tick


def compare_with_progress(repetitions: int, results: Mapping[str, Any]) -> dict[str, Compared]:
    """All tables, with a bar."""
    with progress() as tick:
        return compare_all(repetitions, results, tick)


def render_papers(compared: Mapping[str, Compared]) -> str:
    """The page as text; every value is escaped by the template engine."""
    papers = {paper: [compared[table.name] for table in tables] for paper, tables in TABLES_OF.items()}
    body = template("page_papers.html").render(
        title=TITLE,
        papers=papers,
        tiles=tiles(compared),
        states=STATES,
        notes=NOTES,
        cells=cells,
        lacking=lacking,
        fillable={table for targets in TARGETS.values() for places in targets.values() for table, _, _ in places},
    )
    style = Markup((HERE / "page.css").read_text(encoding="utf-8"))
    return template("page.html").render(title=TITLE, body=Markup(body), style=style, script="", policy=policy(style))


def tiles(compared: Mapping[str, Compared]) -> list[tuple[str, str, str]]:
    """What stands at the top: name, figure, meaning."""
    tables = compared.values()
    counts = {state: sum(each.count(state) for each in tables) for state in STATES}
    rows = sum(counts.values())
    return [
        ("papers", str(len(TABLES_OF)), f"{len(compared)} tables with {rows} rows"),
        ("computed", str(rows - counts[WANTING]), "rows with figures of ours beside the paper's"),
        ("equal", str(counts[EQUAL]), STATES[EQUAL]),
        ("near", str(counts[CLOSE]), WITHIN),
        ("deviating", str(counts[REASONED]), f"{STATES[REASONED]}; {counts[UNEXPLAINED]} not explained"),
        (
            "needing data",
            str(counts[WANTING]),
            "rows of licensed data, a phone or a long training: the paper's figures alone",
        ),
    ]


def lacking(compared: Compared) -> bool:
    """Whether some figure of a table is the paper's alone."""
    figures = (figure for row in compared.rows for figure in row.figures.values())
    return any(figure.paper is not None and figure.ours is None for figure in figures)


def cells(compared: Compared) -> tuple[list[str], list[Row]]:
    """Headings and rows: three cells for each column in which we have figures, one for each other; reasons as notes."""
    ours = compared.ours
    keys = [*ours, *(key for key in compared.table.columns if key not in ours)]
    headings = []
    for key in keys:
        headings += [f"{compared.table.columns[key].title}: paper", *(["ours", "deviation"] if key in ours else [])]
    rows = []
    for row in compared.rows:
        line = [text for key in keys for text in _cells(row.figures[key], key in ours)]
        reasons = [f"Deviates in {reason}." for reason in row.reasons]
        errors = [f"Error of the paper: {error}." for error in row.errors]
        rows.append(Row(row.name, tuple(line), " ".join(reasons + errors)))
    return headings, rows


def _cells(figure: Figure, beside: bool) -> list[str]:
    paper = printed_figure(figure.column, figure.paper, figure.spread)
    if not beside:
        return [paper]
    if figure.ours is None:
        return [paper, "", ""]
    decimals = figure.column.decimals + (0 if float(figure.ours.value).is_integer() else 1)
    spread = "" if figure.ours.spread is None else f" ± {figure.ours.spread:.{decimals}f}"
    return [paper, f"{figure.ours.value:.{decimals}f}{spread}", deviation_text(figure)]


def deviation_text(figure: Figure) -> str:
    """The deviation in percent, or that there is none."""
    if figure.deviation is None:
        return "" if figure.paper is None or figure.ours is None else "the paper has 0"
    change = f"{100 * figure.deviation:+.1f}{NARROW}%"
    if figure.is_equal:
        return "equal" if abs(figure.deviation) < ROUNDED else f"equal ({change})"
    return change


def as_json(compared: Mapping[str, Compared]) -> str:
    """Everything on the page, for other programs."""
    counts = {state: sum(each.count(state) for each in compared.values()) for state in STATES}
    tables = [_json_table(paper, compared[table.name]) for paper, found in TABLES_OF.items() for table in found]
    return json.dumps({"format": FORMAT, "rows": counts, "tables": tables}, indent=2, allow_nan=False) + "\n"


def _json_table(paper: str, compared: Compared) -> dict[str, Any]:
    table, needs = compared.table, compared.needs
    return {
        "paper": paper,
        "table": table.name,
        "title": table.title,
        "source": table.source,
        "remark": table.remark,
        "columns": {key: {"heading": column.heading, "unit": column.unit} for key, column in table.columns.items()},
        "rows": [
            {
                "row": row.name,
                "state": row.state,
                "errors": list(row.errors),
                "figures": {key: _json_figure(figure) for key, figure in row.figures.items()},
            }
            for row in compared.rows
        ],
        "notes": list(compared.notes),
        "device": compared.device,
        "needs": {"what": needs.what, "command": needs.command} if needs and lacking(compared) else None,
    }


def _json_figure(figure: Figure) -> dict[str, Any]:
    ours = figure.ours
    return {
        "paper": figure.paper,
        "paper_deviation": figure.spread,
        "ours": None if ours is None else ours.value,
        "ours_deviation": None if ours is None else ours.spread,
        "deviation": figure.deviation,
        "equal": figure.is_equal,
        "reason": figure.reason,
    }


def write_papers(compared: Mapping[str, Compared], out: Path) -> Path:
    """Writes the page, or JSON, by the file's suffix.

    Raises:
        ConfigError: for another suffix.
        RunFolderError: if the file cannot be written.
    """
    check_page(out)
    return write_text(out, as_json(compared) if out.suffix.lower() == ".json" else render_papers(compared))
