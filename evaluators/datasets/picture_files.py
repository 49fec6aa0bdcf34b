"""Pictures with boxes that lie in files of their own: reading them, and what is done about damaged ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from searchspaces.errors import DatasetError

from ..pictures import read_rgb

LONGEST_NAME, LONGEST = 255, 4000  # bytes of a file's name and of a path, which no file system exceeds


class PictureFiles:
    """A reader over files. One that cannot be decoded is reported once and comes back grey, so that hours of training
    do not end with it. A training ignores its faces, a test counts them as missed.

    Args:
        paths: the files.
        sizes: (N, 2) height and width of each, from its header.

    Attributes:
        damaged: rows that could not be decoded.
    """

    decodes = True  # each picture costs time: processes read them, see `batches.reading_workers`

    def __init__(self, paths: Sequence[Path], sizes: np.ndarray) -> None:
        self.paths, self.sizes = list(paths), np.asarray(sizes)
        self.damaged: set[int] = set()

    def read(self, row: int) -> np.ndarray:
        """The picture of a row, (3, H, W) uint8."""
        try:
            picture = read_rgb(self.paths[row])
        except DatasetError as error:
            if row not in self.damaged:
                self.damaged.add(row)
                count = f"{len(self.damaged)} of {len(self.paths)} pictures so far"
                print(f"facenas: {error} A grey picture takes its place ({count}).", file=sys.stderr)
            height, width = self.sizes[row].tolist()
            picture = np.full((3, height, width), 127, dtype=np.uint8)
        return picture


def below(folder: Path, name: str, where: str | Path) -> Path:
    """The file that a list names below a folder. The list may be a stranger's: it must not name others.

    Raises:
        DatasetError: with ``where`` the name stands.
    """
    path = Path(name)
    too_long = any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in path.parts) or len(name) > LONGEST
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name or too_long:
        raise DatasetError(f"{where}: {name[:80]!r} is no file below {folder}.")
    return folder / path


def annotation_lines(path: Path) -> list[str]:
    """The lines of a file of annotations.

    Raises:
        DatasetError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error


def require_root(name: str, root: str | Path | None, expected: str) -> Path:
    """The folder of a data set that a user has.

    Raises:
        DatasetError: if it is not given or does not exist.
    """
    if root is None:
        raise DatasetError(f"The data set {name!r} needs its folder: give it with --data-root DIR. {expected}")
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DatasetError(f"The folder {folder} of the data set {name!r} does not exist. {expected}")
    return folder


def require_file(path: Path, name: str, expected: str) -> Path:
    """A file that a data set must have.

    Raises:
        DatasetError: if it is missing.
    """
    if not path.is_file():
        raise DatasetError(f"The data set {name!r} has no file {path}. {expected}")
    return path
