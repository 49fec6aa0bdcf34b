"""A paper's table beside ours, as text for a terminal, Markdown, CSV, a web page, or JSON."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchspaces.errors import ConfigError, nearest_name
from searchspaces.files import write_text

from .paper_tables import PaperTable
from .run import flatten

LONGEST_CELL = 30  # characters of a reason that stays in its cell on a terminal; longer ones stand below the table


@dataclass(frozen=True)
class Block:
    """A part of a table that fits a screen: headings, and lines of text."""

    title: str
    headings: tuple[str, ...]
    lines: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Computed:
    """A paper's table with what we computed.

    Attributes:
        table: the paper's.
        rows: for each row ``row``, ``paper`` (as printed), ``ours`` (exact) and ``remarks``.
        blocks: the same for reading.
        notes: how ours came about, and what limits it.
        device: where something was measured, or None.
    """

    table: PaperTable
    rows: list[dict[str, Any]]
    blocks: tuple[Block, ...]
    notes: Sequence[str]
    device: Mapping[str, Any] | None

    @property
    def sentences(self) -> list[str]:
        """The source, the paper's remark, our notes and the device, in the order in which they are shown."""
        device = self.device
        where = [f"Device: {device['cpu']}, {device['usable_cores']} cores, {device['os']}."] if device else []
        return [f"Source: {self.table.source}.", *filter(None, [self.table.remark]), *self.notes, *where]


def as_text(computed: Computed) -> str:
    """For a terminal."""
    from rich.console import Console
    from rich.table import Table

    buffer = io.StringIO()
    console = Console(file=buffer, width=max(100, Console().width), highlight=False)
    for block in computed.blocks:
        title = f"{computed.table.name}: {block.title}"
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, heading in enumerate(block.headings):
            words = index == 0 or heading.startswith("deviation")
            table.add_column(heading, justify="left" if words else "right", no_wrap=index == 0)
        reasons: dict[str, list[str]] = {}
        for line in block.lines:
            short, _, reason = line[-1].partition(": ")
            if reason and len(line[-1]) > LONGEST_CELL:
                reasons.setdefault(reason, []).append(line[0])
                line = (*line[:-1], short)
            table.add_row(*line)
        console.print(table)
        for reason, names in reasons.items():
            console.print(f"  {', '.join(names)}: {reason}", markup=False, soft_wrap=True)
    for sentence in computed.sentences:
        console.print(sentence, markup=False, soft_wrap=True)
    return buffer.getvalue()


def as_markdown(computed: Computed) -> str:
    """For a README."""
    parts = [f"# {computed.table.name}: {computed.table.title}"]
    for block in computed.blocks:
        lines = [block.headings, ("---",) * len(block.headings), *block.lines]
        rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        parts += [f"**{block.title}**", "\n".join(rows)]
    parts.append("\n".join(f"- {sentence}" for sentence in computed.sentences))
    return "\n\n".join(parts) + "\n"


def as_csv(computed: Computed) -> str:
    """Exact values, one line a row; the notes are not in it."""
    flat = [flatten(row) for row in computed.rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def as_html(computed: Computed) -> str:
    """A page of its own, in the style of the reports."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    title = html.escape(f"{computed.table.name}: {computed.table.title}")
    body = []
    for block in computed.blocks:
        head = "".join(f"<th>{html.escape(text)}</th>" for text in block.headings)
        rows = "\n".join(_html_row(block.headings, line) for line in block.lines)
        table = f'<table class="stack"><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>'
        body.append(
            f'<section class="card"><h2>{html.escape(block.title)}</h2><div class="scroll">{table}</div></section>'
        )
    notes = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in computed.sentences)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style></head>\n"
        f'<body><main><h1>{title}</h1>{"".join(body)}<ul class="notes">{notes}</ul></main></body></html>\n'
    )


def _html_row(headings: Sequence[str], line: Sequence[str]) -> str:
    cells = "".join(
        f'<td data-label="{html.escape(heading)}">{html.escape(cell)}</td>'
        for heading, cell in zip(headings[1:], line[1:], strict=True)
    )
    return f'<tr><th scope="row">{html.escape(line[0])}</th>{cells}</tr>'


def as_json(computed: Computed) -> str:
    """Everything, for other programs."""
    table = computed.table
    value: dict[str, Any] = {key: getattr(table, key) for key in ("source", "title", "remark")}
    value |= {"table": table.name, "slips": [vars(slip) for slip in table.slips]}
    value |= {"rows": computed.rows, "notes": list(computed.notes), "device": computed.device}
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Computed], str]] = {
    ".md": as_markdown,
    ".csv": as_csv,
    ".html": as_html,
    ".json": as_json,
}


def check_suffix(out: Path) -> None:
    """Refuse a file that we cannot write, before anything is computed.

    Raises:
        ConfigError: naming the suffixes that can be written.
    """
    if out.suffix.lower() not in FORMATS:
        near = nearest_name(out.suffix.lower(), FORMATS)
        hint = f" Did you mean {near}?" if near else ""
        raise ConfigError(f"--out {out} must end in {', '.join(FORMATS)}.{hint}")


def write_computed(computed: Computed, out: Path) -> Path:
    """Writes the table in the format of the file's suffix.

    Raises:
        ConfigError: for a suffix without a format.
        RunFolderError: if the file cannot be written.
    """
    check_suffix(out)
    return write_text(out, FORMATS[out.suffix.lower()](computed))
