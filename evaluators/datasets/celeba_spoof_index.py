"""What is known of a copy of CelebA-Spoof without opening its pictures: the intra-test lists and the face boxes.

Box files are read once; the result is kept in the cache folder as an .npz file of plain arrays, named after the copy's
place and the checksums of its lists.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from searchspaces.errors import ConfigError, DatasetError, FacenasError
from searchspaces.files import read_json, write_bytes

from .cache import cache_folder, sha256_file

NAME = "celeba-spoof"
LISTS = {"train": "metas/intra_test/train_label.json", "test": "metas/intra_test/test_label.json"}
KINDS = (
    "live", "photo", "poster", "a4", "face-mask", "upper-body-mask", "region-mask", "pc", "pad", "phone", "3d-mask",
)  # fmt: skip
LABELS, KIND_LABEL, ATTACK_LABEL = 44, 40, 43
ROW = re.compile(r"Data/\w+/(\w+)/\w+/[\w-]+\.(?:png|jpe?g)", re.IGNORECASE | re.ASCII)
FRAME = 224.0  # side of the frame that boxes are given in
MOST_LEFT_OUT = 0.01  # share of pictures that may be damaged before the whole copy counts as damaged
INDEX_FORMAT = 1
BLOCK, THREADS = 2048, 8  # box files that a thread reads in a row; threads, which hide a slow disk's latency

FAULTS = (
    "none",
    "the picture is missing or empty",
    "the box file is missing",
    "the box file is not 'x y w h score'",
    "the box has no area inside the picture",
    "labels 40 and 43 contradict each other",
)
NO_FAULT, NO_PICTURE, NO_BOX, BROKEN_BOX, EMPTY_BOX, CONTRADICTION = range(len(FAULTS))


@dataclass(frozen=True)
class Index:
    """What is known of every row of the lists, an array entry a row, in the order of the lists.

    Attributes:
        paths: bytes, relative to the root; people: bytes, the subject's number.
        kinds: index into `KINDS`; test: whether the row is of the test list.
        boxes: (N, 4) x, y, width, height in the frame; faults: index into `FAULTS`.
    """

    paths: np.ndarray
    people: np.ndarray
    kinds: np.ndarray
    test: np.ndarray
    boxes: np.ndarray
    faults: np.ndarray

    def rows(self, chosen: np.ndarray) -> Index:
        """The index of these rows only; ``chosen`` is a mask (N,)."""
        return Index(**{name: array[chosen] for name, array in vars(self).items()})


def find_root(root: str | Path | None) -> Path:
    """The folder that holds ``Data`` and ``metas``: the root or a folder in it.

    Raises:
        ConfigError: without a root. DatasetError: if the folders are not there.
    """
    if root is None:
        raise ConfigError(
            f"The data set {NAME!r} needs the folder of your copy of CelebA-Spoof: give it as root (--data-root DIR). "
            "The copy is to be asked of its authors."
        )
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise DatasetError(f"The root folder {base} of the data set {NAME!r} does not exist. Check root.")
    for folder in (base, *sorted(entry for entry in base.iterdir() if entry.is_dir())):
        if (folder / "Data").is_dir() and (folder / "metas").is_dir():
            return folder
    raise DatasetError(
        f"Neither {base} nor a folder in it has both 'Data' and 'metas'. The data set {NAME!r} needs the layout of the "
        "published archive: give the folder CelebA_Spoof that holds the two."
    )


def clamp_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """Corners x0, y0, x1, y1 of a box x, y, width, height, cut off at the frame. Without area: x1 <= x0 or y1 <= y0."""
    x, y, width, height = box
    return max(x, 0.0), max(y, 0.0), min(x + width, FRAME), min(y + height, FRAME)


def read_list(file: Path) -> Iterator[tuple[str, str, int, int]]:
    """Path, person, kind and fault of every row of a list.

    Raises:
        DatasetError: naming the file and the row.
    """
    listed = read_json(file, DatasetError)
    if not isinstance(listed, dict) or not listed:
        raise DatasetError(f"{file} is not a list of pictures: expected an object of paths and labels.")
    for path, labels in listed.items():
        match = ROW.fullmatch(path)
        if match is None:
            raise DatasetError(f"{file}: row {path!r} is no path of the form Data/train/1/live/000001.jpg.")
        if not isinstance(labels, list) or len(labels) != LABELS:
            found = f"{len(labels)} labels" if isinstance(labels, list) else "no list of labels"
            raise DatasetError(f"{file}: row {path!r} has {found}; expected {LABELS} integers.")
        kind, attack = labels[KIND_LABEL], labels[ATTACK_LABEL]
        if type(kind) is not int or not 0 <= kind < len(KINDS):
            raise DatasetError(f"{file}: row {path!r} has the unknown spoof type {kind!r}; known: 0 to 10.")
        if type(attack) is not int or attack not in (0, 1):
            raise DatasetError(f"{file}: row {path!r} has the last label {attack!r}; expected 0 (live) or 1 (spoof).")
        yield path, match[1], kind, NO_FAULT if (kind > 0) == (attack == 1) else CONTRADICTION


def read_lists(root: Path) -> Index:
    """The rows of both lists; boxes are zero and no file has been looked for."""
    columns: list[list[Any]] = [[], [], [], [], []]
    for name, file in LISTS.items():
        for row in read_list(root / file):
            for column, value in zip(columns, (*row, name == "test"), strict=True):
                column.append(value)
    paths, people, kinds, faults, test = columns
    return Index(
        np.array(paths, dtype=bytes),
        np.array(people, dtype=bytes),
        np.array(kinds, dtype=np.uint8),
        np.array(test, dtype=bool),
        np.zeros((len(paths), 4), dtype=np.float32),
        np.array(faults, dtype=np.uint8),
    )


def read_box(picture: str) -> tuple[int, tuple[float, ...]]:
    """Fault and box of a picture, from the file beside it; the picture is looked for but not opened.

    Raises:
        DatasetError: if a file cannot be read for another reason than its absence.
    """
    nothing = (0.0, 0.0, 0.0, 0.0)
    fault = NO_PICTURE
    try:
        if os.stat(picture).st_size == 0:
            return NO_PICTURE, nothing
        fault = NO_BOX
        with open(os.path.splitext(picture)[0] + "_BB.txt", encoding="ascii", errors="replace") as file:
            words = file.readline(1000).split()
    except (FileNotFoundError, NotADirectoryError):
        return fault, nothing
    except OSError as error:
        raise DatasetError(f"Cannot read {error.filename}: {error.strerror}.") from error
    try:
        x, y, width, height = (float(word) for word in words[:4])
    except ValueError:
        return BROKEN_BOX, nothing
    if not all(map(math.isfinite, (x, y, width, height))):
        return BROKEN_BOX, nothing
    x0, y0, x1, y1 = clamp_box((x, y, width, height))
    return (NO_FAULT if x1 > x0 and y1 > y0 else EMPTY_BOX), (x, y, width, height)


def read_boxes(root: Path, index: Index, rows: np.ndarray, progress: bool = False) -> Index:
    """The index with the boxes and faults of these rows as their files say now."""
    boxes, faults = index.boxes.copy(), index.faults.copy()

    def read(block: np.ndarray) -> list[tuple[int, tuple[float, ...]]]:
        return [read_box(f"{root}/{path.decode()}") for path in index.paths[block].tolist()]

    blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    with ThreadPoolExecutor(THREADS) as pool:
        text = f"Reading the face boxes of {NAME!r} ({len(rows)} files, once)"
        results = _followed(pool.map(read, blocks), [len(block) for block in blocks], text, progress)
        for block, found in zip(blocks, results, strict=True):
            faults[block] = [fault for fault, _ in found]
            boxes[block] = [box for _, box in found]
    return replace(index, boxes=boxes, faults=faults)


def _followed(results: Iterable[Any], sizes: list[int], text: str, progress: bool) -> Iterator[Any]:
    """The results, while a bar moves by the size of each (one line where the output is no terminal)."""
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    if progress and not shown:
        print(f"facenas: {text} ...", file=sys.stderr)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task(text, total=sum(sizes))
        for result, size in zip(results, sizes, strict=True):
            bar.advance(task, size)
            yield result


def load_index(root: Path, cache: str | Path | None, progress: bool) -> Index:
    """The index of a copy: from the cache folder, or from its files. Faults are looked at again every time.

    Raises:
        DatasetError: if a list is damaged, or more than `MOST_LEFT_OUT` of the pictures are.
    """
    key = [INDEX_FORMAT, str(root), *(_checksum(root / file) for file in LISTS.values())]
    file = cache_folder(cache) / f"{NAME}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.npz"
    kept = _read_index(file)
    listed = read_lists(root) if kept is None else kept
    unread = listed.faults != CONTRADICTION
    if kept is not None:
        unread &= listed.faults != NO_FAULT
    index = read_boxes(root, listed, np.flatnonzero(unread), progress and kept is None)
    _refuse_damage(index, root)
    if kept is None or not np.array_equal(kept.faults, index.faults):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(index))
        try:
            write_bytes(file, buffer.getvalue())
        except FacenasError as error:
            print(f"facenas: {error} The face boxes will be read again next time.", file=sys.stderr)
    return index


def _checksum(file: Path) -> str:
    try:
        return sha256_file(file)
    except OSError as error:
        raise DatasetError(
            f"Cannot read the list {file}: {error.strerror}. The data set {NAME!r} needs both intra-test lists."
        ) from error


def _read_index(file: Path) -> Index | None:
    """A kept index; None if there is none that is whole."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            index = Index(**arrays)
        return index if _is_whole(index) else None
    except Exception:  # zipfile, zlib and NumPy's reader of headers raise many kinds for a damaged file
        return None


def _is_whole(index: Index) -> bool:
    """Whether the arrays are of the types and the ranges that `read_boxes` gives them."""
    shapes = {name: array.shape for name, array in vars(index).items()}
    types = {name: array.dtype.kind for name, array in vars(index).items()}
    rows = len(index.paths)
    return (
        shapes == {**dict.fromkeys(shapes, (rows,)), "boxes": (rows, 4)}
        and types == {"paths": "S", "people": "S", "kinds": "u", "test": "b", "boxes": "f", "faults": "u"}
        and all(array.tobytes().isascii() for array in (index.paths, index.people))
        and bool(np.char.startswith(index.paths, b"Data/").all() and (np.char.find(index.paths, b"..") < 0).all())
        and bool((index.kinds < len(KINDS)).all() and (index.faults < len(FAULTS)).all())
        and bool(np.isfinite(index.boxes).all() and _area(index.boxes[index.faults == NO_FAULT]).all())
    )


def _area(boxes: np.ndarray) -> np.ndarray:
    """Whether each box has area inside of the frame."""
    start, end = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, :2] + boxes[:, 2:], FRAME)
    return (end > start).all(axis=1)


def _refuse_damage(index: Index, root: Path) -> None:
    """Refuse a copy with too many damaged rows."""
    damaged = np.flatnonzero(index.faults != NO_FAULT)
    if len(damaged) > MOST_LEFT_OUT * len(index.faults):
        named = "; ".join(f"{index.paths[row].decode()}: {FAULTS[index.faults[row]]}" for row in damaged[:3].tolist())
        raise DatasetError(
            f"{len(damaged)} of {len(index.faults)} pictures of {NAME!r} in {root} cannot be used, more than "
            f"{MOST_LEFT_OUT:.0%}: {named}{'; ...' if len(damaged) > 3 else ''}. Unpack the published archive again."
        )
