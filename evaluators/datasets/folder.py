"""`folder`: a user's own pictures, in ``root/{train,val,test}/{live,attack}/``.

- The type of an attack is the first folder below ``attack/`` (``attack/print/x.jpg``: "print"); without one, "attack".
- The person is the part of the file's name before the first "_", or all of it where there is none (``anna_03.jpg``:
  "anna"). A person who is in two splits is refused: the figures would be too good.
- Pictures are turned upright (EXIF), converted to RGB, scaled so that the shorter side fits, and cut square.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from searchspaces.errors import ConfigError, DatasetError, nearest_name

from ..pictures import open_picture, to_rgb, unreadable
from . import register_dataset

if TYPE_CHECKING:
    from .base import FaceData, Split

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"}
IMAGE_SIZE = 128
SMALLEST_SIDE = 64  # pixels: below half the stored size there is nothing left of print dots or of skin
KEEP_IN_MEMORY = 4096  # pictures (200 MB at 128 x 128): a set this small is decoded once


@dataclass(frozen=True)
class Picture:
    """One file and what its place says about it."""

    path: Path
    kind: str
    person: str


class FileSource:
    """Pictures decoded when they are read; kept in memory if they are few."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files, self.size = files, size
        self._kept: dict[int, np.ndarray] = {}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, size, size) uint8."""
        pictures = np.empty((len(rows), 3, self.size, self.size), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            pictures[place] = self._picture(row)
        return pictures

    def _picture(self, row: int) -> np.ndarray:
        if row in self._kept:
            return self._kept[row]
        picture = read_picture(self.files[row], self.size)
        if len(self.files) <= KEEP_IN_MEMORY:
            self._kept[row] = picture
        return picture

    def __getstate__(self) -> dict[str, Any]:
        # a copy for another process decodes for itself
        return {"files": self.files, "size": self.size, "_kept": {}}


def open_face(path: Path) -> Image.Image:
    """`pictures.open_picture` for a picture that is large enough to show a face.

    Raises:
        DatasetError: if the file is no picture, or too large or too small.
    """
    picture = open_picture(path)
    width, height = picture.size
    if min(width, height) < SMALLEST_SIDE:
        picture.close()
        raise DatasetError(
            f"{path} is too small a picture: {width} x {height} pixels. A face needs at least {SMALLEST_SIDE} on the "
            "shorter side. Remove it or take a larger cut-out."
        )
    return picture


def check_picture(path: Path) -> None:
    """Find a damaged file without the cost of its full decoding.

    Raises:
        DatasetError: naming the file.
    """
    with open_face(path) as picture:
        try:
            if picture.format == "JPEG":
                picture.draft("L", (picture.width // 8, picture.height // 8))  # an eighth of the size, all of the data
                picture.load()
            else:
                picture.verify()
        except Exception as error:
            raise unreadable(path, error) from error


def read_picture(path: Path, size: int) -> np.ndarray:
    """One picture (3, size, size) uint8 RGB, upright, scaled by its shorter side and cut square about its centre.

    Raises:
        DatasetError: naming the file.
    """
    with open_face(path) as picture:
        try:
            picture.draft("RGB", (2 * size, 2 * size))  # a JPEG is decoded no larger than is needed
            upright = to_rgb(ImageOps.exif_transpose(picture))
            square = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
        except Exception as error:
            raise unreadable(path, error) from error
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


def scan_class(folder: Path, live: bool) -> tuple[list[Picture], int]:
    """The pictures in and below one class's folder, sorted by path, and how many other files were passed over.

    Raises:
        DatasetError: if a type of attack is called "live".
    """
    pictures, others = [], 0
    for where, folders, files in os.walk(folder):
        folders.sort()
        below = Path(where).relative_to(folder).parts
        kind = "live" if live else (below[0] if below else "attack")
        if not live and kind == "live":
            raise DatasetError(f"{where}: a type of attack cannot be called 'live'. Rename the folder.")
        for file in sorted(files):
            path = Path(where, file)
            if file.startswith("."):
                continue
            if path.suffix.lower() in SUFFIXES:
                pictures.append(Picture(path, kind, path.stem.split("_", 1)[0]))
            else:
                others += 1
    return pictures, others


def scan_split(folder: Path) -> tuple[list[Picture], int]:
    """All pictures of one split, and how many other files were passed over.

    Raises:
        DatasetError: if the split or one of its classes is missing or empty.
    """
    _require_folder(folder, "split")
    pictures, others = [], 0
    for name in ("live", "attack"):
        _require_folder(folder / name, "class")
        found, passed_over = scan_class(folder / name, name == "live")
        if not found:
            raise DatasetError(
                f"{folder / name} has no pictures ({passed_over} other files). Every split needs live faces and "
                f"attacks, as files ending in {', '.join(sorted(SUFFIXES))}."
            )
        pictures += found
        others += passed_over
    return pictures, others


def _require_folder(folder: Path, what: str) -> None:
    if folder.is_dir():
        return
    there = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir())
    nearest = nearest_name(folder.name, there)
    hint = f" Should {nearest!r} be called {folder.name!r}?" if nearest else ""
    raise DatasetError(
        f"The {what} folder {folder} is missing; {folder.parent} has {', '.join(there) or 'no folders'}.{hint} The "
        "data set 'folder' needs {train,val,test}/{live,attack}/ below its root."
    )


def refuse_leaks(splits: dict[str, list[Picture]]) -> None:
    """Refuse a person who is in two splits.

    Raises:
        DatasetError: naming the person and a file in each split.
    """
    seen: dict[str, tuple[str, Path]] = {}
    for split, pictures in splits.items():
        for picture in pictures:
            before, path = seen.setdefault(picture.person, (split, picture.path))
            if before != split:
                raise DatasetError(
                    f"The person {picture.person!r} is in {before} ({path}) and in {split} ({picture.path}): a test "
                    "on people "
                    "seen in training says nothing. Keep each person in one split, or rename the files: the person is "
                    "the part of the name before the first '_'."
                )


def _make_split(pictures: list[Picture]) -> Split:
    from .base import Split

    kinds = np.array([picture.kind for picture in pictures])
    people = np.array([picture.person for picture in pictures])
    source = FileSource([picture.path for picture in pictures], IMAGE_SIZE)
    return Split(kinds == "live", kinds, people, source, np.arange(len(pictures)))


@register_dataset("folder")
def folder(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> FaceData:
    """A user's own pictures; nothing is drawn at random and nothing is cached, so seed and cache have no effect."""
    from .base import SPLITS, FaceData, make_card

    if root is None:
        raise ConfigError("The data set 'folder' needs the folder of your pictures: give it as root (--data-root DIR).")
    if people is not None:
        raise ConfigError(f"people={people!r}: the data set 'folder' shows everybody in its folders. Leave people out.")
    base = Path(root).expanduser().absolute()
    if not base.is_dir():
        raise DatasetError(f"The root folder {base} of the data set 'folder' does not exist. Check root.")
    found = {split: scan_split(base / split) for split in SPLITS}
    pictures = {split: listed for split, (listed, _) in found.items()}
    refuse_leaks(pictures)
    for listed in pictures.values():
        for picture in listed:
            check_picture(picture.path)
    splits = {split: _make_split(listed) for split, listed in pictures.items()}
    card = make_card(
        "folder",
        splits,
        simulated=False,
        image_size=IMAGE_SIZE,
        credit="The user's own pictures.",
        description="Live faces and attacks from a folder; types of attack, people and splits as its files say.",
        limits="facenas knows nothing of how these pictures were taken.",
        seed=seed,
        files_passed_over=sum(others for _, others in found.values()),
    )
    return FaceData("folder", splits, IMAGE_SIZE, card)
