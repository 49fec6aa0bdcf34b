"""Prepared data: faces cut out of videos once, and kept in few compact files.

Layout of the folder::

    prepared.json      data set, options, counts, what was skipped and why, the checksum of index.csv; written last
    index.csv          a row a picture: clip, person, kind, part, frame, pack, offset, length, crc32
    packs/**/*.faces   a line of JSON (what is inside, and of what file), then JPEG files one after another
    lists/             the published protocol files

Pictures are `SIDE` pixels a side; the face box is the middle seven eighths, so that a network of S pixels is trained
on crops of S out of 8/7 S, and judged on the box itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from searchspaces.errors import ConfigError, DatasetError
from searchspaces.files import read_json, write_bytes, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
INFO, INDEX, PACKS, LISTS = "prepared.json", "index.csv", "packs", "lists"
TABLES = ("options", "frames", "left_out")  # of prepared.json
COLUMNS = ("clip", "person", "kind", "part", "frame", "pack", "offset", "length", "crc32")
SIDE = 256  # pixels: HaTFAS resizes to this before it judges 224
CONTEXT = 8 / 7  # a stored picture's side in face boxes
QUALITY = 95  # of JPEG, without colour subsampling: fine colour patterns tell screens and prints
LONGEST_HEADER = 1 << 26
MOST_BYTES = 1 << 22  # of a picture: twenty times what its pixels take


def encode(pixels: np.ndarray) -> bytes:
    """A picture (3, S, S) uint8 as a JPEG file."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes, size: int) -> np.ndarray:
    """A JPEG file of `SIDE` pixels a side as (3, size, size) uint8, scaled if that is another size.

    Raises:
        ValueError: if it is none; a larger one is refused by its header, before it can fill the memory.
        OSError: if it is damaged.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as file:
            if file.size != (SIDE, SIDE):
                raise ValueError(f"it has {file.size[0]} x {file.size[1]} pixels, not {SIDE} x {SIDE}")
            picture = file.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


# ---- packs


def write_pack(path: Path, header: dict[str, Any], pictures: list[tuple[str, int, bytes]]) -> None:
    """Write a pack atomically.

    Args:
        header: what a later run compares, see `read_header`.
        pictures: clip, number of the frame, JPEG file.
    """
    rows, offset = [], 0
    for clip, frame, data in pictures:
        rows.append([clip, frame, offset, len(data), zlib.crc32(data)])
        offset += len(data)
    first = json.dumps({**header, "format": FORMAT, "pictures": rows}) + "\n"
    write_bytes(path, first.encode() + b"".join(data for _, _, data in pictures))


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a pack, with ``start``, where its pictures begin; None if the pack is missing or damaged."""
    try:
        with path.open("rb") as file:
            line = file.readline(LONGEST_HEADER)
            header = json.loads(line)
            size = file.seek(0, io.SEEK_END)
        if header["format"] != FORMAT or not line.endswith(b"\n"):
            return None
        if size != len(line) + sum(row[3] for row in header["pictures"]):
            return None
        return {**header, "start": len(line)}
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def pack_is_whole(path: Path, header: dict[str, Any]) -> bool:
    """Whether every picture of a pack has its checksum."""
    data = path.read_bytes()[header["start"] :]
    return all(zlib.crc32(data[start : start + length]) == crc for _, _, start, length, crc in header["pictures"])


class PackSource:
    """Pictures in packs, checked and decoded when they are read.

    Args:
        root: the prepared folder.
        packs: (N,) str, the pack of each picture. spans: (N, 3) its offset, length and checksum.
        size: pixels a side of what `read` gives.
    """

    decodes = True

    def __init__(self, root: Path, packs: np.ndarray, spans: np.ndarray, size: int) -> None:
        self.root, self.packs, self.spans, self.size = root, packs, spans, size

    def fitted(self, image_size: int) -> PackSource:
        """The same pictures, scaled so that the face box is what a network of this size takes."""
        return PackSource(self.root, self.packs, self.spans, min(SIDE, round(image_size * CONTEXT)))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, size, size) uint8.

        Raises:
            DatasetError: naming the pack that is missing or damaged.
        """
        pictures = np.empty((len(rows), 3, self.size, self.size), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            pictures[place] = self._picture(row)
        return pictures

    def _picture(self, row: int) -> np.ndarray:
        path = self.root / PACKS / str(self.packs[row])
        start, length, crc = self.spans[row].tolist()
        try:
            if not 0 < length <= MOST_BYTES:
                raise ValueError(f"it is said to have {length} bytes")
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(length)
            if zlib.crc32(data) != crc:
                raise ValueError("its checksum differs")
            return decode(data, self.size)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DatasetError(
                f"A picture in {path} cannot be read: {reason}. Prepare the data set again with --check, which makes "
                "what is damaged once more."
            ) from error


# ---- the folder


@dataclass(frozen=True)
class Prepared:
    """A prepared folder, read.

    Attributes:
        root: the folder. info: the content of prepared.json. table: the content of index.csv, a row a picture.
    """

    root: Path
    info: dict[str, Any]
    table: pd.DataFrame

    def list_file(self, *names: str) -> Path:
        """A published list.

        Raises:
            DatasetError: if this copy had none.
        """
        path = self.root.joinpath(LISTS, *names)
        if not path.is_file():
            raise DatasetError(
                f"The prepared folder {self.root} has no list {'/'.join(names)}: the copy that it was made of had none."
            )
        return path

    def source(self, table: pd.DataFrame, size: int = SIDE) -> PackSource:
        """A reader of the pictures of some rows."""
        spans = table[["offset", "length", "crc32"]].to_numpy(dtype=np.int64)
        return PackSource(self.root, table["pack"].to_numpy(dtype=str), spans, size)


def is_prepared(folder: Path) -> bool:
    """Whether a folder was begun by ``evaluators.prepare``."""
    return (folder / INFO).is_file()


def read_info(folder: Path) -> dict[str, Any]:
    """The content of prepared.json.

    Raises:
        DatasetError: if it is damaged or of another version.
    """
    info = read_json(folder / INFO, DatasetError)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DatasetError(f"{folder / INFO} is of another version. Prepare the data set again into a new folder.")
    wrong = [key for key in TABLES if not isinstance(info.get(key, {}), dict)]
    if wrong or (info.get("complete") and not info.keys() >= set(TABLES)):
        raise DatasetError(f"{folder / INFO} is damaged: {', '.join(wrong or TABLES)}. Prepare the data set again.")
    return info


def load_prepared(name: str, root: str | Path | None) -> Prepared:
    """A prepared folder.

    Raises:
        ConfigError: without a root.
        DatasetError: if it is none, of another data set, unfinished or damaged; with the command that makes it.
    """
    command = f"python -m evaluators.prepare {name} --root COPY --out FOLDER"
    if root is None:
        raise ConfigError(
            f"The data set {name!r} needs a prepared folder: give it with --data-root FOLDER. Make it of your licensed "
            f"copy with: {command}"
        )
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DatasetError(f"The prepared folder {folder} does not exist. Make it with: {command}")
    if not is_prepared(folder):
        raise DatasetError(f"{folder} is not a prepared folder, it has no {INFO}. Make one with: {command}")
    info = read_info(folder)
    if info.get("dataset") != name:
        raise DatasetError(f"{folder} holds {info.get('dataset')!r}, not {name!r}. Give another --data or --data-root.")
    if not info.get("complete"):
        raise DatasetError(f"The preparation of {folder} has not come to its end. Go on with: {command}")
    return Prepared(folder, info, _read_index(folder, info))


def _read_index(folder: Path, info: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    again = "Run the preparation again, which writes it anew."
    try:
        data = (folder / INDEX).read_bytes()
    except OSError as error:
        raise DatasetError(f"Cannot read {folder / INDEX}: {error.strerror or error}. {again}") from error
    if hashlib.sha256(data).hexdigest() != info.get("index_sha256"):
        raise DatasetError(f"{folder / INDEX} is damaged, its checksum differs. {again}")
    types: dict[str, Any] = dict.fromkeys(COLUMNS, np.int64)
    types |= dict.fromkeys(("clip", "person", "kind", "part", "pack"), str)
    try:
        with np.errstate(invalid="ignore"):  # pandas compares what it has cast
            table = pd.read_csv(io.BytesIO(data), dtype=types, keep_default_na=False, index_col=False)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{folder / INDEX} is damaged: {error}. {again}") from error
    if tuple(table.columns) != COLUMNS or any(leads_out(pack) for pack in table["pack"].unique()):
        raise DatasetError(f"{folder / INDEX} is not an index of prepared data. {again}")
    return table


def leads_out(pack: str) -> bool:
    """Whether a path leads out of the folder of packs."""
    return not pack or Path(pack).is_absolute() or ".." in Path(pack).parts


def write_index(folder: Path, rows: list[tuple[Any, ...]], info: dict[str, Any]) -> None:
    """Write index.csv and then prepared.json, which completes the folder."""
    import pandas as pd

    text = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n")
    write_text(folder / INDEX, text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    write_json(folder / INFO, {**info, "complete": True, "pictures": len(rows), "index_sha256": sha256})


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write the prepared.json of a folder that is not complete yet.

    Raises:
        FacenasError: if the folder cannot be written.
    """
    write_json(folder / INFO, {**info, "format": FORMAT, "complete": False})
