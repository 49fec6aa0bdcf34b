"""Lists of labelled pairs of pictures, to judge by: `lfw`, Labelled Faces in the Wild, and `pairs`, your own.

`read_pairs` takes LFW's ``pairs.txt`` (``NAME 1 2`` for one person, ``NAME 1 OTHER 2`` for two; its first line says how
many folds there are and how many pairs of each kind are in one) and plain lists: ``FILE OTHER_FILE 1|0 [FOLD]`` a line,
separated by commas, tabs or blanks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from ..alignment import SIDE
from . import register_dataset
from .identities import LANDMARKS, PAIRS, FaceFiles, pictures_in, read_landmarks
from .picture_files import below, require_file, require_root

if TYPE_CHECKING:
    from .recognition import Pairs, RecognitionData

LFW_FACE = 112  # of LFW's 250 pixels a side, the middle ones show the face in its aligned versions
EXPECTED = {
    "lfw": "It needs pairs.txt and NAME/NAME_0001.jpg below its root.",
    "pairs": "It needs pairs.txt, with FILE OTHER_FILE 1|0 a line, and the files below its root.",
}
Row = tuple[str, str, bool, int]


def parse_pairs(file: Path) -> list[Row]:
    """The pairs of a list: both files as they are written, whether they show one person, the fold.

    Raises:
        DatasetError: naming the line that is no pair.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"Cannot read {file}: {error}.") from error
    rows: list[Row] = []
    folds, each = 1, 0
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        parts = re.split(r"[,\t]\s*|\s+", line)
        if not rows and not each and len(parts) <= 2 and all(map(_is_number, parts)):
            folds, each = (int(parts[0]), int(parts[1])) if len(parts) == 2 else (1, int(parts[0]))
            continue
        fold = len(rows) // (2 * each) if each and folds > 1 else 0
        rows.append(_parse(parts, fold, f"{file}, line {number}"))
    if not rows:
        raise DatasetError(f"{file} lists no pairs.")
    if each and len(rows) != 2 * each * folds:
        raise DatasetError(f"{file} lists {len(rows)} pairs, but its first line announces {2 * each * folds}.")
    return rows


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def _parse(parts: list[str], fold: int, where: str) -> Row:
    def numbered(name: str, number: str) -> str:
        return f"{name}/{name}_{int(number):04d}.jpg"

    if len(parts) == 3 and _is_number(parts[1]) and _is_number(parts[2]):
        return numbered(parts[0], parts[1]), numbered(parts[0], parts[2]), True, fold
    if len(parts) == 4 and _is_number(parts[1]) and _is_number(parts[3]) and parts[2] not in ("0", "1"):
        return numbered(parts[0], parts[1]), numbered(parts[2], parts[3]), False, fold
    if len(parts) in (3, 4) and parts[2] in ("0", "1") and (len(parts) == 3 or _is_number(parts[3])):
        return parts[0], parts[1], parts[2] == "1", int(parts[3]) if len(parts) == 4 else fold
    raise DatasetError(f"{where}: {' '.join(parts)!r} is no pair. Write FILE OTHER_FILE 1|0 [FOLD], or LFW's form.")


def read_pairs(file: Path, base: Path, places: Mapping[Path, int] | None = None) -> Pairs:
    """Pairs of a list, as places of pictures.

    Args:
        base: the folder that the files are below.
        places: of each picture; pictures of a pair that are missing here are refused.

    Raises:
        DatasetError: if pictures are missing, with their number and the first ones.
    """
    from .recognition import Pairs

    rows = parse_pairs(file)
    if places is None:
        places = {path: place for place, path in enumerate(pictures_in(base))}
    missing = sorted({name for one, other, _, _ in rows for name in (one, other) if base / name not in places})
    _refuse(missing, file)
    first = np.array([places[base / one] for one, _, _, _ in rows])
    second = np.array([places[base / other] for _, other, _, _ in rows])
    return Pairs(first, second, np.array([row[2] for row in rows]), np.array([row[3] for row in rows]))


def _refuse(missing: list[str], file: Path) -> None:
    """Refuse a list of pictures of which some are missing."""
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DatasetError(f"{file} names {len(missing)} pictures that are not there: {shown}.")


class MiddleOfFile(FaceFiles):
    """LFW's pictures: without landmarks the middle of 250 pixels a side is the face."""

    def _picture(self, row: int) -> np.ndarray:
        from PIL import Image

        if self.files[row] in self.points:
            return super()._picture(row)
        from ..pictures import read_rgb

        picture = read_rgb(self.files[row])
        side = round(min(picture.shape[1:]) * LFW_FACE / 250)
        top, left = ((length - side) // 2 for length in picture.shape[1:])
        face = Image.fromarray(picture[:, top : top + side, left : left + side].transpose(1, 2, 0))
        return np.ascontiguousarray(np.asarray(face.resize((self.size, self.size))).transpose(2, 0, 1))


def _judged(name: str, root: Any, people: Any, source_class: type[FaceFiles], **texts: str) -> RecognitionData:
    from .recognition import IdentitySplit, RecognitionData, recognition_card

    if people is not None:
        raise ConfigError(f"people={people!r}: the data set {name!r} has no such option.")
    base = require_root(name, root, EXPECTED[name])
    rows = parse_pairs(require_file(base / PAIRS, name, EXPECTED[name]))
    wanted = sorted({below(base, side, base / PAIRS) for row in rows for side in row[:2]})
    _refuse([str(path.relative_to(base)) for path in wanted if not path.is_file()], base / PAIRS)
    pairs = read_pairs(base / PAIRS, base, {path: place for place, path in enumerate(wanted)})
    points = read_landmarks(base / LANDMARKS) if (base / LANDMARKS).is_file() else {}
    owners = [path.parent.name for path in wanted] if name == "lfw" else _owners(len(wanted), pairs)
    split = IdentitySplit(
        np.array(owners), source_class(wanted, points), np.arange(len(wanted)), {name: pairs}, name == "lfw"
    )
    splits = {"test": split}
    card = recognition_card(name, splits, simulated=False, image_size=SIDE, **texts)
    return RecognitionData(name, splits, SIDE, card)


def _owners(size: int, pairs: Pairs) -> list[str]:
    """Who is on each picture, as far as pairs of one person say: pictures that they join are of one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = pairs.first[pairs.same], pairs.second[pairs.same]
    joined = coo_array((np.ones(len(first)), (first, second)), shape=(size, size))
    return [f"person {number}" for number in connected_components(joined, directed=False)[1]]


@register_dataset("lfw")
def lfw(*, root: Any = None, people: Any = None, seed: int = 0, cache: Any = None, progress: bool = True) -> Any:
    """Labelled Faces in the Wild (Huang et al., 2007) with its ten folds, to judge by."""
    return _judged(
        "lfw",
        root,
        people,
        MiddleOfFile,
        credit="Labelled Faces in the Wild (Huang et al., 2007).",
        description="Ten folds of pairs; aligned by landmarks.csv, else the middle 112 of 250 pixels a side.",
        limits="Pictures of public figures found by a frontal face detector.",
    )


@register_dataset("pairs")
def pairs(*, root: Any = None, people: Any = None, seed: int = 0, cache: Any = None, progress: bool = True) -> Any:
    """A user's own list of labelled pairs, to judge by."""
    return _judged(
        "pairs",
        root,
        people,
        FaceFiles,
        credit="The user's own pictures.",
        description="A list of labelled pairs; aligned by landmarks.csv, else cut square about the centre.",
        limits="facenas knows nothing of how these pictures were taken.",
    )
