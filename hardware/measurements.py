"""Measured latencies in files: the CSV that a device's owner writes, and the architectures that it names.

docs/latency.md describes the columns.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import ArchitectureError, CostError, FacenasError, nearest_name
from searchspaces.features import KINDS, Features, Kernel, feature_row
from searchspaces.reference import REFERENCE_SPACES

UNITS = {"latency_ms": 1.0, "latency_us": 1e-3, "latency_s": 1e3}  # column -> milliseconds
CONDITIONS = ("device", "runtime", "threads", "dtype")  # the same in every row, or the figures do not compare
OPTIONAL = (
    *(*CONDITIONS, "repetitions", "iqr_ms", "source"),
    *("space", "version", "clock", "p25_ms", "p75_ms", "noisy"),  # as hardware.measure writes them
    *("slow_operators", "operators", "slow_mac_share", "slow_names"),
)
KERNEL_COLUMNS = ("kind", "macs", "read_bytes", "written_bytes", "weight_bytes")
LONGEST_NUMBER = 18  # digits of operations and bytes
LARGEST_FILE = 1 << 28  # bytes, unpacked
SHORTEST_MS, LONGEST_MS = 1e-5, 6e5  # ten nanoseconds, ten minutes


@dataclass(frozen=True)
class Measurements:
    """What a CSV holds.

    Attributes:
        rows: the architecture of each measurement as written, or its kernel.
        lines: the line of the file that each stands on.
        latency_ms: (n,) milliseconds.
        conditions: device, runtime, threads, dtype and source, as far as the file tells.
    """

    rows: list[Any]
    lines: list[int]
    latency_ms: NDArray[np.float64]
    conditions: Mapping[str, str]


def read_measurements(path: str | Path) -> Measurements:
    """Read measured networks.

    Raises:
        CostError: naming the line and the column of what cannot be used.
    """
    return _read(path, ("architecture",), lambda row, where: _filled(row, "architecture", where))


def read_kernels(path: str | Path) -> Measurements:
    """Read measured kernels; each of ``rows`` is a `Kernel`.

    Raises:
        CostError: naming the line and the column of what cannot be used.
    """
    return _read(path, KERNEL_COLUMNS, _kernel)


def is_kernel_file(path: str | Path) -> bool:
    """Whether a CSV is of kernels rather than of networks."""
    try:
        return "kind" in next(csv.reader(_text(path).splitlines()[:1]), [])
    except csv.Error as error:
        raise CostError(f"{path} is no CSV: {error}.") from error


def measured_features(space: str, measurements: Measurements, path: str | Path) -> Features:
    """Features of the measured networks.

    Raises:
        CostError: naming the line of an architecture that is none of the space.
    """
    for line, architecture in zip(measurements.lines, measurements.rows, strict=True):
        try:
            check_architecture(space, architecture)
        except FacenasError as error:
            raise CostError(f"{path}, line {line}: {error}") from error
    return features_for(space, measurements.rows)


def features_for(space: str, architectures: Sequence[Any]) -> Features:
    """Features of architectures: strings of a reference space, or facenas architectures as JSON, which are traced.

    Raises:
        FacenasError: for one that is none of the space.
    """
    if space in REFERENCE_SPACES:
        return REFERENCE_SPACES[space].features([str(entry) for entry in architectures])
    from .kernels import features_of

    return features_of(space, networks_for(space, architectures))


def networks_for(space: str, architectures: Sequence[Any]) -> list[tuple[Any, tuple[int, ...]]]:
    """Networks of facenas architectures as JSON, with random weights, and their input sizes.

    Raises:
        FacenasError: for one that is none of the space.
    """
    found = [_architecture(space, entry) for entry in architectures]
    return [(one.build(seed=0), one.input_size) for one in found]


def check_architecture(space: str, architecture: Any) -> None:
    """Refuse an architecture that is none of the space, and a space that does not exist."""
    if space in REFERENCE_SPACES:
        REFERENCE_SPACES[space].parse(str(architecture))
    else:
        _architecture(space, architecture)


def read_architectures(path: str | Path) -> list[Any]:
    """The architectures of a JSON-lines file: each line a string, a facenas architecture, or either under
    ``"architecture"``.

    Raises:
        ArchitectureError: naming the line that is not JSON.
    """
    entries = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ArchitectureError(f"{path}, line {number}: not JSON: {error}.") from error
        entries.append(value["architecture"] if isinstance(value, dict) and "architecture" in value else value)
    if not entries:
        raise ArchitectureError(f"{path} holds no architectures.")
    return entries


def _architecture(space: str, entry: Any) -> Any:
    """A facenas architecture from JSON text or its value, or from the path of its file."""
    from searchspaces import Architecture
    from searchspaces.registry import find_space

    find_space(space)
    if isinstance(entry, str) and not entry.strip().startswith("{"):
        path = Path(entry.strip())
        if path.is_absolute() or ".." in path.parts or "\0" in entry:
            raise ArchitectureError(f"{entry[:80]!r} is not below this folder: the list could be a stranger's.")
        found = Architecture.load(path)
    else:
        try:
            found = Architecture.from_dict(json.loads(entry) if isinstance(entry, str) else entry)
        except (ValueError, RecursionError) as error:
            raise ArchitectureError(f"The architecture is not valid JSON: {error}.") from error
    if found.space != space:
        raise ArchitectureError(f"The architecture is of space {found.space!r}, not of {space!r}.")
    return found


def _read(path: str | Path, needed: Sequence[str], parse: Any) -> Measurements:
    rows: list[Any] = []
    lines: list[int] = []
    latencies: list[float] = []
    conditions: dict[str, tuple[str, int]] = {}
    for line, row, unit in _table(path, needed):
        where = f"{path}, line {line}"
        rows.append(parse(row, where))
        lines.append(line)
        latencies.append(_latency(row, unit, where))
        for name in (*CONDITIONS, "source"):
            _same(conditions, name, row, line, where)
    if not rows:
        raise CostError(f"{path} holds no measurements.")
    return Measurements(rows, lines, np.array(latencies), {name: value for name, (value, _) in conditions.items()})


def _table(path: str | Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str], str]]:
    """Lines of a CSV with their number and the column of their latency."""
    reader = csv.DictReader(_text(path).splitlines())
    columns = _columns(reader, path)
    for name in needed:
        if name not in columns:
            raise CostError(f"{path} has no column {name!r}; it has {', '.join(columns) or 'none'}.")
    units = [name for name in UNITS if name in columns]
    if len(units) != 1:
        state = f"both {' and '.join(units)}" if units else "no column of latencies with its unit"
        raise CostError(f"{path} has {state}: exactly one of {', '.join(UNITS)} is needed.")
    known = (*needed, *UNITS, *OPTIONAL)
    for name in columns:
        if name not in known:
            near = nearest_name(name, known)
            raise CostError(f"{path} has an unknown column {name!r}.{f' Did you mean {near!r}?' if near else ''}")
    for row in _rows(reader, path):
        if None in row or None in row.values():
            raise CostError(f"{path}, line {reader.line_num}: it has not as many fields as the first line.")
        yield reader.line_num, row, units[0]


def _columns(reader: csv.DictReader[str], path: str | Path) -> list[str]:
    try:
        return list(reader.fieldnames or ())
    except csv.Error as error:
        raise CostError(f"{path} is no CSV: {error}.") from error


def _rows(reader: csv.DictReader[str], path: str | Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise CostError(f"{path}, line {reader.line_num}: it is no CSV: {error}.") from error


def _text(path: str | Path) -> str:
    path = Path(path)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise CostError(f"{path} holds more than {LARGEST_FILE >> 20} MiB: too large for measurements.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise CostError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (UnicodeDecodeError, EOFError, zlib.error) as error:
        raise CostError(f"{path} is no UTF-8 text.") from error


def _filled(row: Mapping[str, str], name: str, where: str) -> str:
    value = row[name].strip()
    if not value:
        raise CostError(f"{where}: the column {name!r} is empty.")
    return value


def _latency(row: Mapping[str, str], unit: str, where: str) -> float:
    text = row[unit].strip()
    try:
        value = float(text) * UNITS[unit]
    except ValueError as error:
        raise CostError(f"{where}: {unit} is {text!r}, which is no number.") from error
    if not math.isfinite(value) or not SHORTEST_MS <= value <= LONGEST_MS:
        raise CostError(f"{where}: {unit} is {text}, which cannot be a latency ({SHORTEST_MS} to {LONGEST_MS:.0f} ms).")
    return value


def _same(conditions: dict[str, tuple[str, int]], name: str, row: Mapping[str, str], line: int, where: str) -> None:
    value = (row.get(name) or "").strip()
    if not value:
        return
    first, its_line = conditions.setdefault(name, (value, line))
    if name in CONDITIONS and value != first:
        raise CostError(
            f"{where}: {name} is {value!r}, but {first!r} in line {its_line}. A profile is of one {name}: "
            "split the file."
        )


def _kernel(row: Mapping[str, str], where: str) -> Kernel:
    kind = _filled(row, "kind", where)
    if kind not in KINDS:
        raise CostError(f"{where}: kind {kind!r} is not known. Known: {', '.join(KINDS)}.")
    numbers = []
    for name in KERNEL_COLUMNS[1:]:
        text = row[name].strip()
        if not text.isdecimal() or len(text) > LONGEST_NUMBER:
            raise CostError(f"{where}: {name} is {text!r}, but must be a whole number.")
        numbers.append(int(text))
    return Kernel(kind, *numbers)


def kernel_rows(kernels: Sequence[Kernel]) -> NDArray[np.float64]:
    """(k, F) features of measured kernels, each alone."""
    return np.array([feature_row([kernel]) for kernel in kernels])
