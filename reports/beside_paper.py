"""The PTA paper's Tables 3, 4 and 5 beside the same figures of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .configurations import bare_ms, data_kind, millions, reference_of, rows_of, took
from .numbers import MISSING, NARROW, entry, number, percent, plain
from .paper_tables import NO_PTA, PTA_TABLE3, PTA_TABLE4, PTA_TABLE5
from .papers import iso_rows
from .tables import Row
from .task_metrics import ANTISPOOFING, TASKS

PAPER_OPTIONS = {"image_size": 128, "classes": 2, "width": 1.0}  # of the network of Table 4
SIDES = ("paper", "ours")
QUALITY = ("accuracy", "apcer", "bpcer", "acer")


def _pairs(configurations: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of the paper, and ours of the same network."""
    ours = {str(row["configuration"]): row for row in rows_of(configurations)}
    for name in PTA_TABLE4.rows:
        yield name, (reference_of(configurations) or {} if name == NO_PTA else ours.get(name, {}))


def quality_beside_paper(configurations: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Headings and rows: Table 3 of the paper under ISO's names, ours beside it."""
    names = TASKS[ANTISPOOFING].names
    headings = [f"{names[key][0].partition(',')[0].partition(' (')[0]}, {side}" for key in QUALITY for side in SIDES]
    rows = []
    printed = iso_rows()
    for name, row in _pairs(configurations):
        cells = [
            cell
            for key in QUALITY
            for cell in (f"{printed[name][key]:.2f}{NARROW}%", percent(entry(row, "metrics", key, "value")))
        ]
        rows.append(Row(_paper_name(name), tuple(cells)))
    return headings, rows


def cost_beside_paper(configurations: Mapping[str, Any]) -> tuple[list[str], list[Row]]:
    """Headings and rows: Table 4 of the paper, ours beside it; wrong values of the paper are annotated."""
    headings = [
        "parameters M, paper",
        "parameters M, ours",
        "multiply-adds M, paper",
        "multiply-adds M, ours",
        "SD845 ms, paper",
        "SD800 ms, paper",
        "this machine ms, ours",
        "relative, paper",
        "relative, ours",
    ]
    rows = []
    for name, row in _pairs(configurations):
        printed = PTA_TABLE4.rows[name]
        relative = 1.0 if name == NO_PTA and row else number(row.get("relative_latency"))
        cells = (
            f"{printed['parameters']:.2f}",
            millions(row.get("parameters")),
            f"{printed['operations']:.2f}",
            millions(row.get("ptflops")),
            f"{printed['sd845']:.2f}",
            f"{printed['sd800']:.2f}",
            bare_ms(entry(row, "latency", "median_ms")),
            f"{printed['relative']:.2f}",
            MISSING if relative is None else f"{relative:.2f}",
        )
        slips = [slip for slip in PTA_TABLE4.slips if slip.row == name]
        notes = [f"{PTA_TABLE4.columns[s.column].heading}: {s.correct:.2f} by exact count; {s.why}" for s in slips]
        rows.append(Row(_paper_name(name), cells, "; ".join(notes)))
    return headings, rows


def _paper_name(name: str) -> str:
    return "MobileNetV2 (No PTA)" if name == NO_PTA else name


def paper_notes(configurations: Mapping[str, Any]) -> list[str]:
    """What keeps the two sides from being compared."""
    data, options = configurations.get("data"), configurations.get("options")
    kind = data_kind(data)
    notes = [f"The paper's error rates are of CelebA-Spoof, ours of {kind} ({plain(entry(data, 'name'))}): they cannot "
             "be compared with each other, only the differences within a column can be."]  # fmt: skip
    differing = [
        f"{key} {plain(value)} (paper: {plain(PAPER_OPTIONS[key])})"
        for key, value in (options.items() if isinstance(options, Mapping) else ())
        if key in PAPER_OPTIONS and value != PAPER_OPTIONS[key]
    ]
    if differing:
        notes.append(
            f"This run's network is not the paper's: {', '.join(differing)}. Its counts differ for that reason."
        )
    notes += [PTA_TABLE4.remark, _saving(configurations)]
    return notes


def _saving(configurations: Mapping[str, Any]) -> str:
    plain_hours, pta_hours = (PTA_TABLE5.rows[row]["overall_hours"] for row in ("MobileNetV2", "MobileNetV2+PTA"))
    text = f"Training took {pta_hours} h instead of {plain_hours} h in the paper ({_less(pta_hours, plain_hours)})"
    seconds = number(entry(configurations, "seconds", "train"))
    other = number(entry(configurations.get("reference"), "seconds"))
    if seconds and other:
        return f"{text}; here {took(seconds)} instead of {took(other)} ({_less(seconds, other)})."
    return f"{text}; here there is no pair of times."


def _less(mine: float, other: float) -> str:
    change = 100 * (mine / other - 1)
    return f"{abs(change):.1f}{NARROW}% {'less' if change < 0 else 'more'}"


def paper_caption(kind: str) -> str:
    """What a table of the paper is, for its caption.

    Args:
        kind: ``quality`` or ``cost``.
    """
    if kind == "quality":
        return (
            f"{PTA_TABLE3.source} ({PTA_TABLE3.title}), beside this run. Columns carry ISO/IEC 30107-3's names: the "
            "paper prints APCER and BPCER the other way round, so its two columns have changed places here. "
            "APCER counts attacks that pass, BPCER live faces that are turned away."
        )
    return f"{PTA_TABLE4.source} ({PTA_TABLE4.title}; Snapdragon phones), beside this run."
