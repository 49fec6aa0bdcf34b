"""Every figure of a paper's table beside ours: deviation, reason, and how a row fares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from searchspaces.errors import ConfigError, FacenasError, UnknownNameError
from searchspaces.files import read_json

from .paper_catalog import ALL_TABLES, KNOWN_ERRORS, NEEDS, TARGETS, Needs, shown
from .paper_rates import DEVIATION
from .paper_tables import Column, PaperTable

NEAR = 0.05  # relative deviation up to which a row is near
NOT_EXPLAINED = "not explained"
# of figures that deviate a little: what is known of the table as a whole
FITTED = "the paper lists no operations of its modules; one structure was fitted to all members, none to a member alone"
EQUAL, CLOSE, REASONED, UNEXPLAINED, WANTING = "equal", "near", "reason", "unexplained", "needs"
STATES = (EQUAL, CLOSE, REASONED, UNEXPLAINED, WANTING)


@dataclass(frozen=True)
class Given:
    """A figure of ours, in the column's unit; ``spread`` is its deviation over folds."""

    value: float
    reason: str = ""
    spread: float | None = None


@dataclass(frozen=True)
class Figure:
    """A figure of a paper's table.

    Attributes:
        key, column: where it stands.
        paper, spread: as printed, None if it is not.
        ours: None if this code or this machine has none.
    """

    key: str
    column: Column
    paper: float | None
    spread: float | None = None
    ours: Given | None = None

    @property
    def deviation(self) -> float | None:
        """Ours over the paper's, less 1; None without both, and where the paper has 0 and ours is another."""
        if self.paper is None or self.ours is None:
            return None
        if self.paper == 0:
            return 0.0 if self.is_equal else None
        return self.ours.value / self.paper - 1

    @property
    def is_equal(self) -> bool:
        """Whether ours, rounded as the paper's figure is, is the paper's."""
        if self.paper is None or self.ours is None:
            return False
        return math.isclose(round(self.ours.value, self.column.decimals), self.paper, abs_tol=1e-9)

    @property
    def reason(self) -> str:
        """Why ours differs; empty if it does not."""
        if self.paper is None or self.ours is None or self.is_equal:
            return ""
        return self.ours.reason or NOT_EXPLAINED


@dataclass(frozen=True)
class ComparedRow:
    """A row of a paper's table with ours beside it."""

    name: str
    figures: Mapping[str, Figure]
    errors: tuple[str, ...] = ()

    @property
    def compared(self) -> list[Figure]:
        """Its figures that both sides have."""
        return [figure for figure in self.figures.values() if figure.paper is not None and figure.ours is not None]

    @property
    def state(self) -> str:
        """One of `STATES`, by the figure that deviates most."""
        if not self.compared:
            return WANTING
        far = [figure for figure in self.compared if not figure.is_equal]
        if not far:
            return EQUAL
        if all(figure.deviation is not None and abs(figure.deviation) <= NEAR for figure in far):
            return CLOSE
        return UNEXPLAINED if any(figure.reason == NOT_EXPLAINED for figure in far) else REASONED

    @property
    def reasons(self) -> list[str]:
        """Why its figures differ, each reason once, with the figures that it is of."""
        found: dict[str, list[str]] = {}
        for figure in self.figures.values():
            if figure.reason:
                found.setdefault(figure.reason, []).append(figure.column.heading)
        return [f"{', '.join(headings)}: {reason}" for reason, headings in found.items()]


@dataclass(frozen=True)
class Compared:
    """A paper's table, compared."""

    table: PaperTable
    rows: tuple[ComparedRow, ...]
    notes: tuple[str, ...] = ()
    needs: Needs | None = None
    device: Mapping[str, Any] | None = field(default=None)

    def count(self, state: str) -> int:
        """How many rows fare so."""
        return sum(row.state == state for row in self.rows)

    @property
    def ours(self) -> list[str]:
        """Columns in which a figure of ours stands."""
        return [key for key in self.table.columns if any(row.figures[key].ours is not None for row in self.rows)]


Figures = dict[str, dict[str, Given]]  # by row and column

# where a computed table has ours under another key, or in another unit: column -> key and unit
KEYS: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "pta-table4": {"parameters": ("parameters", 1e6), "operations": ("ptflops", 1e6), "relative": ("relative", 1.0)},
    "asfd-table5": {"parameters": ("parameters", 1e6), "macs": ("macs", 1e9)},
    "airface": {"parameters": ("parameters", 1e6), "macs": ("macs", 1e6), "flops": ("flops", 1e6)},
    "hatfas": {"parameters": ("parameters", 1e6)},
}


def compare(name: str, repetitions: int, results: Mapping[str, Figures] | None = None) -> Compared:
    """A table of a paper with everything that this code, this machine and given results have beside it.

    Args:
        name: the table, of `ALL_TABLES`.
        repetitions: timed runs of each network, where something is timed.
        results: by table, figures of result files.
    """
    from .papers import COMPUTED, compute

    table = shown(ALL_TABLES[name])
    figures: Figures = {}
    notes: tuple[str, ...] = ()
    device = None
    if name in COMPUTED:
        computed = compute(name, repetitions)
        figures, device = figures_of(table, computed.rows), computed.device
        notes = tuple(note for note in computed.notes if not note.startswith("Column "))  # that we do not compare
    for row, cells in (results or {}).get(name, {}).items():
        figures.setdefault(row, {}).update(cells)
    return beside(table, figures, notes, device)


def beside(
    table: PaperTable, figures: Figures, notes: tuple[str, ...] = (), device: Mapping[str, Any] | None = None
) -> Compared:
    """A table with figures of ours in it."""
    rows = []
    for name, printed in table.rows.items():
        ours = figures.get(name, {})
        cells = {
            key: Figure(key, column, printed.get(key), printed.get(key + DEVIATION), ours.get(key))
            for key, column in table.columns.items()
        }
        rows.append(ComparedRow(name, cells, _errors(table, name)))
    return Compared(table, tuple(rows), notes, NEEDS.get(table.name), device)


def _errors(table: PaperTable, row: str) -> tuple[str, ...]:
    slips = [
        f"{column.heading} must be {slip.correct:.{column.decimals}f}: {slip.why}"
        for slip in table.slips
        if slip.row == row and (column := table.columns[slip.column])
    ]
    known = KNOWN_ERRORS.get(table.name, {}).get(row)
    return (*slips, known) if known else tuple(slips)


def figures_of(table: PaperTable, rows: Iterable[Mapping[str, Any]]) -> Figures:
    """Ours out of a computed table's rows, in the units of its columns and with its reasons."""
    if table.name == "pta-table2":
        from searchspaces.pta import SAMPLING

        return {row: {"probability": Given(SAMPLING.get(row, 0.0))} for row in table.rows}
    keys = KEYS.get(table.name, {key: (key, 1.0) for key in table.columns})
    return {
        row["row"]: {
            column: Given(row["ours"][key] / unit, reason_of(table, row, column))
            for column, (key, unit) in keys.items()
            if key in row["ours"]
        }
        for row in rows
    }


def reason_of(table: PaperTable, row: Mapping[str, Any], column: str) -> str:
    """Why a computed figure deviates, as the table's own remarks have it; empty if they have nothing."""
    slip = table.slip(row["row"], column)
    if slip:
        return f"a slip of the paper: {slip.why}"
    if table.name == "pta-table4":
        return str(row["remarks"]["time"]).partition(": ")[2] if column == "relative" else ""
    why = str(row["remarks"].get("why", ""))
    return why or (FITTED if table.name == "asfd-table5" else "")


def read_results(files: Iterable[Path]) -> dict[str, Figures]:
    """Figures of result files that `facenas.reproduce` wrote, by table; fractions become percent.

    Raises:
        RunFolderError: if a file cannot be read, or is not JSON.
        ConfigError: if it is no such result, or two files fill the same figure.
    """
    found: dict[str, Figures] = {}
    filled: dict[tuple[str, str, str], Path] = {}
    for file in files:
        file = file / "table.json" if file.is_dir() else file
        for target, given in _figures_in(file, read_json(file)):
            if target in filled:
                raise ConfigError(f"{file} and {filled[target]} both have {target[0]}, {target[1]}: give one of them.")
            filled[target] = file
            table, row, column = target
            found.setdefault(table, {}).setdefault(row, {})[column] = given
    return found


def _figures_in(file: Path, content: Any) -> Iterable[tuple[tuple[str, str, str], Given]]:
    """The figures of a result file and where they stand."""
    try:
        experiment, rows, recipe = content["table"], content["rows"], content["recipe"]
        remarks = [str(remark) for remark in content["remarks"]]
        if experiment not in TARGETS:
            raise UnknownNameError("table", str(experiment), TARGETS)
        how = "; ".join([*([] if recipe == "paper" else [f"recipe {recipe}, not the paper's"]), *remarks])
        for row in rows:
            for heading, cell in row["ours"].items():
                for target in TARGETS[experiment].get((row["row"], heading), ()):
                    yield target, _given(cell, how)
    except FacenasError as error:
        raise ConfigError(f"{file} is no result of facenas.reproduce: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{file} is no result of facenas.reproduce ({type(error).__name__}: {error}). Give the table.json that it "
            "writes into its folder."
        ) from error


def _given(cell: Mapping[str, Any], how: str) -> Given:
    mean, spread = cell["mean"], cell["deviation"]
    for value in (mean, spread):
        if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"{value!r} is no fraction from 0 to 1")
    if mean is None:
        raise ValueError("a mean is missing")
    return Given(100 * mean, how, None if spread is None else 100 * spread)


def compare_all(
    repetitions: int, results: Mapping[str, Figures] | None = None, tick: Callable[[str], None] = lambda name: None
) -> dict[str, Compared]:
    """All tables of all papers.

    Args:
        repetitions: timed runs of each network, where something is timed.
        results: see `compare`.
        tick: is told each table's name before it is computed.
    """
    found = {}
    for name in ALL_TABLES:
        tick(name)
        found[name] = compare(name, repetitions, results)
    return found
