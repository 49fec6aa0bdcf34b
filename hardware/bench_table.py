"""Measured rows for a human, and as lines of a measurements file (docs/latency.md, docs/runtimes.md)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from searchspaces.errors import CostError
from searchspaces.files import write_text

from .bench import Row

HEADINGS = (
    *("runtime", "dtype", "file, MiB", "differs from torch", "median, ms", "p25 to p75, ms"),
    *("memory, MiB", "slow operators"),
)
COLUMNS = (
    *("architecture", "space", "device", "runtime", "version", "threads", "dtype", "clock", "repetitions"),
    *("latency_ms", "p25_ms", "p75_ms", "noisy"),
    *("slow_operators", "operators", "slow_mac_share", "slow_names"),  # nothing where the runtime does not tell
)
FIRST_COLUMNS = COLUMNS[:-4]  # of files from before slow operators were noted; they are appended to as they are
NONE = "-"


def cells(row: Row) -> tuple[str, ...]:
    """A row in the order of `HEADINGS`; "-" for what is not known."""
    latency = row.latency
    return (
        f"{row.runtime} {row.version}".strip(),
        row.dtype,
        _mib(row.file_bytes),
        _difference(row),
        f"{latency['median_ms']:.3f}" if latency else NONE,
        f"{latency['p25_ms']:.3f} to {latency['p75_ms']:.3f}" if latency else NONE,
        _mib(row.peak_memory_bytes),
        _fallback(row.fallback),
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """What does not fit into a table: why a row failed, what to mind, what int8 was calibrated on."""
    told = []
    for row in rows:
        where = f"{row.runtime} {row.dtype}"
        if row.error:
            told.append(f"{where} failed: {row.error}")
        if row.calibration and not row.error:
            told.append(f"{where}: calibrated on {row.calibration}")
        if row.fallback and row.fallback["names"]:
            told.append(f"{where}: slow operators are {', '.join(row.fallback['names'])}")
        told += [f"{where}: {warning.removeprefix(f'{row.runtime}: ')}" for warning in row.warnings]
    return told


def print_rows(title: str, rows: Sequence[Row], device: str) -> None:
    """One table, its notes, and the protocol."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("runtime", "dtype") else "right")
    for row in rows:
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    if latencies := [row.latency for row in rows if row.latency]:
        protocol = "{clock} clock, {threads} thread(s), {repetitions} runs after {warmup}".format(**latencies[0])
        console.print(f"Batch 1, {protocol}. Device: {device}", highlight=False, markup=False, soft_wrap=True)
    for note in notes(rows):
        console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)


def csv_rows(rows: Sequence[Row], architecture: Mapping[str, Any], device: str) -> list[dict[str, Any]]:
    """The measured ones of some rows as lines of a measurements file.

    Args:
        rows: what was measured.
        architecture: the content of the architecture's file.
        device: what is told of the machine or phone; never a serial number.
    """
    kept = {key: value for key, value in architecture.items() if key != "found_by"}
    return [
        {
            "architecture": json.dumps(kept, separators=(",", ":")),
            "space": architecture["space"],
            "device": device,
            "runtime": row.runtime,
            "version": row.version,
            "threads": row.latency["threads"],
            "dtype": row.dtype,
            "clock": row.latency["clock"],
            "repetitions": row.latency["repetitions"],
            "latency_ms": f"{row.latency['median_ms']:.6g}",
            "p25_ms": f"{row.latency['p25_ms']:.6g}",
            "p75_ms": f"{row.latency['p75_ms']:.6g}",
            "noisy": str(bool(row.latency["noisy"])).lower(),
            **_slow_columns(row.fallback or {}),
        }
        for row in rows
        if row.latency
    ]


def _slow_columns(fallback: Mapping[str, Any]) -> dict[str, Any]:
    share = fallback.get("mac_share")
    return {
        "slow_operators": fallback.get("operators", ""),
        "operators": fallback.get("total", ""),
        "slow_mac_share": "" if share is None else f"{share:.6g}",
        "slow_names": " ".join(fallback.get("names", ())),
    }


def csv_path(pattern: str | Path, row: Mapping[str, Any]) -> Path:
    """The file of a line: {runtime} and {dtype} in its name are replaced, so that a profile's rows get their own.

    >>> csv_path("{runtime}-{dtype}.csv", {"runtime": "litert", "dtype": "int8"}).name
    'litert-int8.csv'
    """
    return Path(str(pattern).replace("{runtime}", str(row["runtime"])).replace("{dtype}", str(row["dtype"])))


def append_csv(pattern: str | Path, lines: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Append lines to a measurements file, which is made if it is not there; each file is replaced atomically.

    Raises:
        CostError: if a file is not one of these.
    """
    paths = list(dict.fromkeys(csv_path(pattern, line) for line in lines))
    texts = {path: _existing(path) for path in paths}  # all are looked at before one is written
    for path in paths:
        out = io.StringIO()
        columns = texts[path].split("\n", 1)[0].split(",") if texts[path] else COLUMNS
        writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
        if not texts[path]:
            writer.writeheader()
        writer.writerows(line for line in lines if csv_path(pattern, line) == path)
        write_text(path, texts[path] + out.getvalue())
    return paths


def check_csv(pattern: str | Path, runtimes: Sequence[str], dtypes: Sequence[str]) -> None:
    """Refuse a file that lines could not be appended to, before anything is measured.

    Raises:
        CostError: if a file is not a measurements file of these columns.
    """
    for runtime in runtimes:
        for dtype in dtypes:
            _existing(csv_path(pattern, {"runtime": runtime, "dtype": dtype}))


def _existing(path: Path) -> str:
    """The text of a measurements file; "" if there is none."""
    if not path.exists():
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CostError(f"Cannot read {path}: {error}.") from error
    if text and text.splitlines()[0] not in (",".join(COLUMNS), ",".join(FIRST_COLUMNS)):
        raise CostError(f"{path} is no measurements file of these columns: {', '.join(COLUMNS)}. Name another file.")
    return text if text.endswith("\n") or not text else text + "\n"


def _mib(size: int | None) -> str:
    return NONE if size is None else f"{size / 2**20:.2f}"


def _difference(row: Row) -> str:
    if row.difference is None:
        return NONE
    return f"{row.difference:.1e}" if row.rms is None else f"{row.difference:.1e} ({row.rms:.1e} rms)"


def _fallback(fallback: Mapping[str, Any] | None) -> str:
    """Slow operators of all, with their share of the MACs where it is known and not none."""
    if fallback is None:
        return NONE
    share = fallback["mac_share"]
    macs = f" ({share:.0%} of MACs)" if share else ""
    return f"{fallback['operators']} of {fallback['total']}{macs}"
