"""Pictures with boxes that lie in files of their own: reading them, and what is done about damaged ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from searchspaces.errors import DatasetError

from ..pictures import read_rgb


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
