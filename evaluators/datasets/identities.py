"""`identities`: a user's own pictures, a folder for each person.

- ``root/{train,val,test}/PERSON/*.jpg``, or ``root/PERSON/*.jpg``, whose people are then split 60 / 20 / 20.
- ``root/landmarks.csv`` with five points for each picture (see `read_landmarks`) aligns the faces; without it pictures
  are cut square about their centre, so cut them to the face before.
- ``root/pairs.txt`` (see `pair_lists`) says which pairs of the test split are compared; all by default.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from ..alignment import SIDE, align
from ..pictures import read_rgb
from . import register_dataset
from .folder import SUFFIXES, check_picture, read_picture
from .picture_files import below, require_root

if TYPE_CHECKING:
    from .recognition import IdentitySplit, RecognitionData

SPLIT_TURN = ("train", "val", "train", "test", "train")
LANDMARKS, PAIRS = "landmarks.csv", "pairs.txt"
FARTHEST = 1e5  # pixels
POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
KEEP_IN_MEMORY = 4096  # pictures: a set this small is decoded once
EXPECTED = "It needs PERSON/*.jpg, or {train,val,test}/PERSON/*.jpg, below its root."


class FaceFiles:
    """Faces in files: aligned where there are landmarks, else cut square about the centre; kept if they are few.

    Args:
        files: (N,) paths; points: by path ``(5, 2)``; size: of the pictures that are read.
    """

    decodes = True

    def __init__(self, files: Sequence[Path], points: Mapping[Path, np.ndarray], size: int = SIDE) -> None:
        self.files, self.points, self.size = list(files), dict(points), size
        self._kept: dict[int, np.ndarray] = {}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, size, size) uint8."""
        return np.stack([self._picture(int(row)) for row in rows])

    def _picture(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        path = self.files[row]
        if path in self.points:
            picture = align(read_rgb(path), self.points[path], self.size)
        else:
            picture = read_picture(path, self.size)
        if len(self.files) <= KEEP_IN_MEMORY:
            self._kept[row] = picture
        return picture

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # a copy for another process decodes for itself


def read_landmarks(file: Path) -> dict[Path, np.ndarray]:
    """Five points of each picture, ``(5, 2)`` in its pixels, from a CSV file with the columns ``file`` (below the CSV's
    folder) and for each of left_eye, right_eye, nose, left_mouth and right_mouth ``NAME_x`` and ``NAME_y``.

    Raises:
        DatasetError: naming the column or the line.
    """
    columns = [f"{name}_{axis}" for name in POINTS for axis in "xy"]
    found = {}
    try:
        with file.open(newline="") as text:
            table = csv.DictReader(text)
            missing = [name for name in ("file", *columns) if name not in (table.fieldnames or [])]
            if missing:
                raise DatasetError(f"{file} has no column {missing[0]!r}; it needs file, {', '.join(columns)}.")
            for number, row in enumerate(table, start=2):
                try:
                    values = np.array([float(row[name]) for name in columns]).reshape(5, 2)
                    if not (np.abs(values) < FARTHEST).all():
                        raise ValueError("a point is not in a picture")
                except (TypeError, ValueError) as error:
                    raise DatasetError(f"{file}, line {number}: {error}.") from error
                found[below(file.parent, row["file"] or "", f"{file}, line {number}")] = values
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"Cannot read {file}: {error}.") from error
    return found


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder and of those below it, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def scan_people(folder: Path) -> dict[str, list[Path]]:
    """The pictures of each person: a folder each."""
    people = {entry.name: pictures_in(entry) for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return {name: files for name, files in people.items() if files and not name.startswith(".")}


def split_people(names: Sequence[str], seed: int) -> dict[str, list[str]]:
    """People dealt to train, val and test by turns along a seeded order, in which more people move nobody before."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    dealt: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for place, name in enumerate(order):
        dealt[SPLIT_TURN[place % len(SPLIT_TURN)]].append(name)
    return dealt


def check_people(splits: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    """Refuse splits that nothing can be learnt or judged from.

    Raises:
        DatasetError: naming the split, or the person who is in two.
    """
    seen: dict[str, str] = {}
    for split, people in splits.items():
        if len(people) < 2:
            who = next(iter(people), "nobody")
            raise DatasetError(
                f"The split {split} shows {len(people)} people ({who}): telling people apart needs at least two in "
                "each of train, val and test."
            )
        if max(map(len, people.values())) < 2:
            raise DatasetError(f"Nobody in the split {split} has two pictures: there is no pair of one person.")
        for name in people:
            if name in seen:
                raise DatasetError(
                    f"The person {name!r} is in {seen[name]} and in {split}: a test on people seen in training says "
                    "nothing."
                )
            seen[name] = split


@register_dataset("identities")
def identities(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> RecognitionData:
    """A user's own pictures of people; nothing is cached, so cache has no effect."""
    from searchspaces.console import track

    from .pair_lists import read_pairs
    from .recognition import RecognitionData, recognition_card

    if people is not None:
        raise ConfigError(f"people={people!r}: the data set 'identities' shows everybody in its folders. Leave it out.")
    base = require_root("identities", root, EXPECTED)
    points = read_landmarks(base / LANDMARKS) if (base / LANDMARKS).is_file() else {}
    named = {split: base / split for split in ("train", "val", "test") if (base / split).is_dir()}
    if named:
        missing = {"train", "val", "test"} - named.keys()
        if missing:
            raise DatasetError(f"The folder {base / min(missing)} is missing. {EXPECTED}")
        found = {split: scan_people(folder) for split, folder in named.items()}
    else:
        everybody = scan_people(base)
        if len(everybody) < 2:
            raise DatasetError(f"{base} shows {len(everybody)} people in folders of their own. {EXPECTED}")
        dealt = split_people(list(everybody), seed)
        found = {split: {name: everybody[name] for name in names} for split, names in dealt.items()}
    check_people(found)
    files = [path for split in found.values() for own in split.values() for path in own]
    for path in track(files, "checking pictures") if progress else files:
        check_picture(path)
    source = FaceFiles(files, points)
    splits: dict[str, IdentitySplit] = {}
    row = 0
    for split, own in found.items():
        splits[split], row = _split(own, source, row)
    if (base / PAIRS).is_file():
        start = len(files) - len(splits["test"])
        places = {path: place for place, path in enumerate(files[start:])}
        splits["test"].lists = {"pairs": read_pairs(base / PAIRS, base, places)}
    card = recognition_card(
        "identities",
        splits,
        simulated=False,
        image_size=SIDE,
        credit="The user's own pictures.",
        description=f"People by folder; {len(points)} of {len(files)} aligned by landmarks, the others cut square.",
        limits="facenas knows nothing of how these pictures were taken.",
        seed=seed,
    )
    return RecognitionData("identities", splits, SIDE, card)


def _split(people: Mapping[str, Sequence[Path]], source: FaceFiles, row: int) -> tuple[IdentitySplit, int]:
    """A split of the next rows of the source."""
    from .recognition import IdentitySplit

    names = np.array([name for name, files in people.items() for _ in files])
    return IdentitySplit(names, source, np.arange(row, row + len(names))), row + len(names)
