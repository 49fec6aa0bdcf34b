"""RecordIO (``.rec`` with ``.idx``), in which InsightFace distributes CASIA-WebFace and MS1M, read without MXNet.

A record is: magic number, length with a 3-bit flag, data, padding to 4 bytes. Data that holds the magic number itself
are split there into parts (flags 1, 2, 3). A picture's record begins with a header: flag, label, two ids; with a flag
above 0 so many labels follow. Record 0 says where the records of people begin, which are no pictures.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from searchspaces.errors import DatasetError

from ..pictures import decode_rgb

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")
LENGTH = (1 << 29) - 1
MOST_LABELS = 64


class RecordFile:
    """Pictures of a .rec file, decoded when they are read; survives pickling.

    Args:
        path: the .rec file.
        offsets: (N,) where the records of the pictures begin.
        size: side of the pictures.

    Attributes:
        decodes: each picture costs time, so processes read them.
    """

    decodes = True

    def __init__(self, path: Path, offsets: np.ndarray, size: int) -> None:
        self.path, self.offsets, self.size = path, offsets, size

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, size, size) uint8."""
        pictures = np.empty((len(rows), 3, self.size, self.size), dtype=np.uint8)
        with self.path.open("rb") as file:
            for place, row in enumerate(np.asarray(rows).tolist()):
                _, data = unpack(read_record(file, int(self.offsets[row]), self.path), self.path)
                pictures[place] = sized(decode_rgb(data, f"record {row} of {self.path}"), self.size)
        return pictures


def sized(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture ``(3, H, W)`` scaled to ``(3, size, size)`` if it has another size."""
    if picture.shape[1:] == (size, size):
        return picture
    from PIL import Image, ImageOps

    image = ImageOps.fit(Image.fromarray(picture.transpose(1, 2, 0)), (size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_record(file: Any, offset: int, path: Path) -> bytes:
    """The data of the record at an offset, its parts joined.

    Raises:
        DatasetError: if there is none, or it is longer than the file.
    """
    parts: list[bytes] = []
    file.seek(offset)
    while True:
        head = file.read(8)
        if len(head) < 8 or struct.unpack("<I", head[:4])[0] != MAGIC:
            raise DatasetError(
                f"{path} has no record at byte {offset}: it is truncated, or its .idx is of another file."
            )
        word = struct.unpack("<I", head[4:])[0]
        part, length = word >> 29, word & LENGTH
        data = file.read(padded(length))
        if len(data) < padded(length):
            raise DatasetError(f"{path} is truncated: the record at byte {offset} should have {length} more bytes.")
        parts.append(data[:length])
        if part in (0, 3):
            return struct.pack("<I", MAGIC).join(parts)


def padded(length: int) -> int:
    """The length with its padding."""
    return length + -length % 4


def unpack(data: bytes, path: Path) -> tuple[np.ndarray, bytes]:
    """Labels ``(n,)`` float of a record, and the bytes of its picture.

    Raises:
        DatasetError: if the record has no header.
    """
    if len(data) < HEADER.size:
        raise DatasetError(f"{path} has a record of {len(data)} bytes, which is too short for a label.")
    flag, label, _, _ = HEADER.unpack_from(data)
    if flag == 0:
        return np.array([label], dtype=np.float32), data[HEADER.size :]
    end = HEADER.size + 4 * flag
    if flag > MOST_LABELS or len(data) < end:
        raise DatasetError(f"{path} has a record with {flag} labels in {len(data)} bytes: it is damaged.")
    return np.frombuffer(data[HEADER.size : end], dtype="<f4"), data[end:]


def read_index(path: Path, size: int) -> dict[int, int]:
    """Where each record begins, by its number, from a .idx file.

    Args:
        size: bytes of the .rec file.

    Raises:
        DatasetError: if a line is no pair of numbers, or an offset lies beyond the file.
    """
    found = {}
    try:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            key, _, offset = line.partition("\t")
            found[int(key)] = int(offset)
            if not 0 <= int(offset) < size:
                raise DatasetError(
                    f"{path}, line {number}: record {key} begins at byte {offset}, but the .rec file has {size}: it is "
                    "truncated."
                )
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is no index of records: {error}.") from error
    return found


def scan(path: Path) -> dict[int, int]:
    """Where each record begins, for a .rec file without .idx: its records are numbered as they lie.

    Raises:
        DatasetError: if the file is damaged.
    """
    found: dict[int, int] = {}
    end = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < end:
            found[len(found)] = offset
            read_record(file, offset, path)
            offset = file.tell()
    return found


def open_records(path: Path, size: int) -> tuple[RecordFile, np.ndarray]:
    """The pictures of a .rec file and the number of the person on each, ``(N,)``.

    Every header is read, so that a file that is truncated anywhere is refused now.

    Raises:
        DatasetError: naming the file and what is wrong with it.
    """
    if not path.is_file():
        raise DatasetError(f"There is no file {path}.")
    index = path.with_suffix(".idx")
    offsets = read_index(index, path.stat().st_size) if index.is_file() else scan(path)
    if not offsets:
        raise DatasetError(f"{path} has no records.")
    end = path.stat().st_size
    labels, places = [], []
    with path.open("rb") as file:
        numbers = sorted(offsets)
        first = unpack(read_record(file, offsets[numbers[0]], path), path)
        if (
            len(first[0]) == 2 and np.isfinite(first[0]).all() and not first[1]
        ):  # InsightFace: record 0 tells where the records of people begin
            numbers = [number for number in numbers if 1 <= number < int(first[0][0])]
        for number in numbers:
            label, has_picture = _label_at(file, offsets[number], end, path)
            if has_picture:
                labels.append(label)
                places.append(offsets[number])
    if not places:
        raise DatasetError(f"{path} has no record with a picture.")
    return RecordFile(path, np.array(places), size), np.array(labels)


def _label_at(file: Any, offset: int, end: int, path: Path) -> tuple[int, bool]:
    """The label of a record, from its first bytes alone, and whether a picture follows."""
    file.seek(offset)
    head = file.read(8 + HEADER.size + 4)
    if len(head) < 8 + HEADER.size or struct.unpack_from("<I", head)[0] != MAGIC:
        raise DatasetError(f"{path} has no record at byte {offset}: it is truncated, or its .idx is of another file.")
    length = struct.unpack_from("<I", head, 4)[0] & LENGTH
    beyond = offset + 8 + padded(length) - end
    if beyond > 0:
        raise DatasetError(f"{path} is truncated: the record at byte {offset} ends {beyond} bytes after it.")
    flag, label, _, _ = HEADER.unpack_from(head, 8)
    if flag > MOST_LABELS:
        raise DatasetError(f"{path} has a record with {flag} labels at byte {offset}: it is damaged.")
    if flag:
        label = struct.unpack_from("<f", head, 8 + HEADER.size)[0]
    if not (np.isfinite(label) and label == int(label) and label >= 0):
        raise DatasetError(f"{path} has a record at byte {offset} whose label {label} is no person's number.")
    return int(label), length > HEADER.size + 4 * flag
