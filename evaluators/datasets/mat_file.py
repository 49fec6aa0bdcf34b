"""MATLAB files of version 5: cells, texts and numbers, which is what WIDER FACE's evaluation tools write.

SciPy's reader, compiled code, crashes the process on damaged files. This one is Python, and reads no more than
there is. Source: MathWorks, MAT-File Format, chapter 1 (level 5).
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HEADER, LARGEST = 128, 1 << 28  # bytes
MATRIX, COMPRESSED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8", 16: "u1",
         17: "<u2"}  # fmt: skip
CELL, TEXT, NUMBERS = 1, 4, range(6, 16)
MOST_CELLS, DEEPEST = 1_000_000, 10


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a file: cells as arrays of objects, texts as str, numbers as arrays, in MATLAB's shapes.

    Raises:
        ValueError: if the file is none, is damaged, or holds something else.
        OSError, zlib.error, struct.error: if it cannot be read.
    """
    data = path.read_bytes()
    if len(data) < HEADER or data[126:128] != b"IM":
        raise ValueError("it is no MATLAB file of version 5 in little-endian order")
    found, at = {}, HEADER
    while at < len(data):
        kind, content, at = _element(data, at)
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, LARGEST)
            kind, content, _ = _element(unpacked, 0)
        if kind == MATRIX:
            name, value = _matrix(content, 0)
            found[name] = value
    return found


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Type and content of the element at a place, and where the next one is."""
    kind, size = struct.unpack_from("<II", data, at)
    if kind >> 16:  # a small one, whose content lies in its tag
        kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if size > 4:
            raise ValueError("a small element has more than four bytes")
    else:
        start = at + 8
        end = start + size + (-size % 8 if kind != COMPRESSED else 0)
    if start + size > len(data):
        raise ValueError("it is truncated")
    return kind, data[start : start + size], end


def _matrix(data: bytes, depth: int) -> tuple[str, Any]:
    """Name and value of a matrix."""
    if depth > DEEPEST:
        raise ValueError("it is nested too deeply")
    if not data:
        return "", np.zeros((0, 0))
    _, flags, at = _element(data, 0)
    _, sizes, at = _element(data, at)
    _, name, at = _element(data, at)
    shape = np.frombuffer(sizes, "<i4").tolist()
    count = math.prod(shape)
    if not flags or min(shape, default=-1) < 0:
        raise ValueError("a matrix has no shape")
    if flags[0] == CELL:
        if count > min(MOST_CELLS, len(data) // 8 + 1):
            raise ValueError("it has more cells than bytes")
        cells = np.empty(count, dtype=object)
        for place in range(count):
            _, content, at = _element(data, at)
            cells[place] = _matrix(content, depth + 1)[1]
        return name.decode("ascii"), cells.reshape(shape, order="F")
    if flags[0] != TEXT and flags[0] not in NUMBERS:
        raise ValueError(f"it holds a matrix of the class {flags[0]}")
    kind, content, _ = _element(data, at)
    values = np.frombuffer(content, TYPES[kind]) if kind in TYPES else np.zeros(0)
    if flags[0] == TEXT:
        return name.decode("ascii"), "".join(map(chr, values.tolist()))
    return name.decode("ascii"), values.reshape(shape, order="F")
