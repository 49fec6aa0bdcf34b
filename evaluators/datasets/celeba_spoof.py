"""`celeba-spoof`: the data set of the PTA paper (Zhang et al. 2020), read from the user's copy; intra-test protocol.

Layout below the root, as published::

    metas/intra_test/{train_label,test_label}.json   {"Data/train/1/live/000001.jpg": [44 integers], ...}
    Data/{train,test}/PERSON/{live,spoof}/NNNNNN.{png,jpg} and NNNNNN_BB.txt

- Of the integers, 40 is the type of attack (`KINDS`), 43 is 0 for live and 1 for an attack; the folder does not count.
- The box file's line "x y w h score" is in a frame of 224 x 224: pixels are x * width / 224 and y * height / 224.
- Width and height are those of the upright picture: the reader that the authors published uses OpenCV, which applies
  the EXIF orientation before the box is scaled, and so do we.
- Faces are cut out when they are read; only box files are read beforehand, once, into an index in the cache folder. A
  folder that ``evaluators.prepare`` made of a copy is read, too: it is compact, and nothing large is decoded again.
"""

from __future__ import annotations

import hashlib
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from searchspaces.errors import ConfigError, DatasetError

from ..pictures import FORMATS, MOST_PIXELS, to_rgb
from . import register_dataset
from .celeba_spoof_index import (
    FAULTS,
    FRAME,
    KINDS,
    MOST_LEFT_OUT,
    NAME,
    NO_FAULT,
    Index,
    clamp_box,
    find_root,
    load_index,
)
from .crops import cut_region
from .layouts import LAYOUTS, Clip, Layout, Scan
from .prepared import PackSource, Prepared, is_prepared, load_prepared

if TYPE_CHECKING:
    from .base import FaceData

FACE, MARGIN = 128, 8  # pixels: the paper's crop, the box and no more; and what random crops may take around it
IMAGE_SIZE = FACE + 2 * MARGIN
VAL_TURN = 5  # every fifth person of the training list is for validation
IN_BOTH = "a person of the training list is in the test list, too"  # a person is in one split only
FEWEST_PEOPLE = 5  # one to test, one to validate, three to train

CREDIT = "CelebA-Spoof: Zhang, Yin, Li, Yin, Yan, Shao and Liu, ECCV 2020 (arXiv 2007.12342). The user's own copy."
LICENCE = "For non-commercial research only; copies are to be asked of its authors. facenas contains none of it."
DESCRIPTION = (
    f"Face boxes of the intra-test protocol, scaled to {FACE}x{FACE} pixels without regard to their shape, and "
    f"{MARGIN} pixels around them for random crops; the centre crop of {FACE} is the box."
)
LIMITS = (
    "Live faces are pictures of celebrities, attacks were taken later with other cameras: part of what tells them "
    "apart is the camera. A picture that cannot be decoded is shown as another one of the same person and class, with "
    "a line on the error output."
)
DEVIATIONS = (
    "The PTA paper splits the training pictures 80/20 into train and val at random; here people are split 80/20, "
    "because pictures of one person on both sides would flatter the validation.",
    "Training crops are shifted by up to 8 pixels and half of them mirrored; the paper names neither.",
)


def cut_face(picture: Image.Image, box: Sequence[float], face: int, margin: int) -> np.ndarray:
    """The box scaled to ``face`` pixels, with ``margin`` pixels around it, (3, face + 2 margin, ...) uint8.

    Beyond the picture's edge its outermost pixels are repeated.

    Args:
        picture: RGB, upright. box: x, y, width, height in the frame, with area inside it.
    """
    x0, y0, x1, y1 = (
        corner / FRAME * side for corner, side in zip(clamp_box(box), (picture.width, picture.height) * 2, strict=True)
    )
    across, down = (x1 - x0) / face * margin, (y1 - y0) / face * margin
    return cut_region(picture, (x0 - across, y0 - down, x1 + across, y1 + down), face + 2 * margin)


class BrokenPictureError(DatasetError):
    """A file that is there but is no picture."""


def read_face(path: str, box: Sequence[float], face: int = FACE, margin: int = MARGIN) -> np.ndarray:
    """The face of a picture, (3, face + 2 margin, ...) uint8 RGB.

    Raises:
        BrokenPictureError: if the file cannot be decoded.
        DatasetError: if it cannot be opened; both name the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise ValueError(f"it has {picture.width} x {picture.height} pixels")
                x0, y0, x1, y1 = clamp_box(box)
                across = min(x1 - x0, y1 - y0) / FRAME * min(picture.size)  # the face's shorter side, or less
                scale = min(1.0, 2 * face / across)  # a large JPEG is decoded no larger than is needed
                picture.draft("RGB", (math.ceil(picture.width * scale), math.ceil(picture.height * scale)))
                upright = to_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        reason = str(error).replace(path, "the file")
        if isinstance(error, OSError) and error.errno is not None:
            raise DatasetError(f"Cannot read {path}: {error.strerror}. Is the disk of {NAME!r} still there?") from error
        raise BrokenPictureError(f"{path} cannot be read as a picture: {reason}. Get it again or remove it.") from error
    return cut_face(upright, box, face, margin)


class FaceSource:
    """Faces cut out of their pictures when they are read.

    A picture that cannot be decoded is shown as the nearest readable one of the same person and class, always the same
    one, so that neither a batch nor a split changes. More than `MOST_LEFT_OUT` of such pictures end in an error.
    """

    decodes = True  # worth several processes

    def __init__(self, root: Path, index: Index, face: int = FACE) -> None:
        self.root, self.index = root, index
        self.face, self.margin = face, face * MARGIN // FACE
        self.size = face + 2 * self.margin
        self._stand_ins: dict[int, int] = {}

    def fitted(self, image_size: int) -> FaceSource:
        """The same faces for a network of another size."""
        return FaceSource(self.root, self.index, image_size)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The faces of these rows, (n, 3, size, size) uint8.

        Raises:
            DatasetError: naming the file, if a file is gone or too many are damaged.
        """
        faces = np.empty((len(rows), 3, self.size, self.size), dtype=np.uint8)
        for place, row in enumerate(rows.tolist()):
            faces[place] = self._face(row)
        return faces

    def _read_row(self, row: int) -> np.ndarray:
        path = self.root / self.index.paths[row].decode()
        return read_face(str(path), self.index.boxes[row].tolist(), self.face, self.margin)

    def _face(self, row: int) -> np.ndarray:
        try:
            return self._read_row(self._stand_ins.get(row, row))
        except BrokenPictureError as error:
            if len(self._stand_ins) + 1 > MOST_LEFT_OUT * len(self.index.paths):
                raise
            if not self._stand_ins:
                print(f"facenas: {error} Meanwhile another one of the same person is shown.", file=sys.stderr)
            face, self._stand_ins[row] = self._stand_in(row, error)
            return face

    def _stand_in(self, row: int, error: BrokenPictureError) -> tuple[np.ndarray, int]:
        """The nearest row of the same person and class that can be read, and its face."""
        index = self.index
        alike = (index.people == index.people[row]) & ((index.kinds == 0) == (index.kinds[row] == 0))
        others = np.setdiff1d(np.flatnonzero(alike), [row])
        for other in sorted(others.tolist(), key=lambda other: (abs(other - row), other)):
            try:
                return self._read_row(other), other
            except BrokenPictureError:
                continue
        raise error

    def __getstate__(self) -> dict[str, Any]:
        # a copy for another process finds damaged pictures for itself
        return {**vars(self), "_stand_ins": {}}


def choose_people(index: Index, people: int | str | None, seed: int) -> dict[str, list[bytes]]:
    """Who is in which split: the test list's people, and those of the training list 80/20.

    People come in a seeded order in which asking for more moves nobody to another split. A number of people is shared
    between the lists in proportion.

    Raises:
        ConfigError: for a number that is too small, too large or no number.
    """

    def drawn(names: np.ndarray) -> list[bytes]:
        return sorted(names.tolist(), key=lambda name: hashlib.sha256(b"%d:%s" % (seed, name)).digest())

    test = drawn(np.unique(index.people[index.test]))
    train = drawn(np.setdiff1d(index.people[~index.test], test))
    available = len(test) + len(train)
    if people not in (None, "all"):
        try:
            number = int(str(people))
        except ValueError:
            number = 0
        if not FEWEST_PEOPLE <= number <= available:
            raise ConfigError(
                f"people={people!r}: this copy of {NAME!r} can show from {FEWEST_PEOPLE} to {available} people. Give "
                "such a number, or 'all' or nothing for everybody."
            )
        tested = max(1, round(number * len(test) / available))
        test, train = test[:tested], train[: number - tested]
    val = train[1::VAL_TURN]
    return {"train": [name for turn, name in enumerate(train) if turn % VAL_TURN != 1], "val": val, "test": test}


def in_both_lists(index: Index) -> np.ndarray:
    """Rows (N,) of the training list whose person is in the test list, too: they are not used."""
    return np.isin(index.people, index.people[index.test]) & ~index.test


def faults_of(index: Index) -> dict[str, int]:
    """Why rows of the lists cannot be used, and how many."""
    return {FAULTS[fault]: int(np.sum(index.faults == fault)) for fault in np.unique(index.faults) if fault}


def scan(root: Path) -> Scan:
    """The pictures of a copy, for ``evaluators.prepare``: a file of faces for each person."""
    base = find_root(root)
    index = load_index(base, None, progress=True)
    both = in_both_lists(index) & (index.faults == NO_FAULT)
    clips = []
    for row in np.flatnonzero((index.faults == NO_FAULT) & ~both).tolist():
        path, person, part = (
            index.paths[row].decode(),
            index.people[row].decode(),
            "test" if index.test[row] else "train",
        )
        box = tuple(corner / FRAME for corner in clamp_box(index.boxes[row].tolist()))
        kind = KINDS[index.kinds[row]]
        clips.append(Clip(path, base / path, person, kind, part, box=box, pack=f"{part}/{person}"))  # type: ignore[arg-type]
    return Scan(clips, {}, {**faults_of(index), IN_BOTH: int(both.sum())})


def index_of(prepared: Prepared) -> Index:
    """The index of a prepared copy; boxes are cut already."""
    table = prepared.table
    return Index(
        table["clip"].to_numpy(dtype=bytes),
        table["person"].to_numpy(dtype=bytes),
        np.array([KINDS.index(kind) for kind in table["kind"]], dtype=np.uint8),
        (table["part"] == "test").to_numpy(),
        np.zeros((len(table), 4), dtype=np.float32),
        np.full(len(table), NO_FAULT, dtype=np.uint8),
    )


LAYOUTS.register(NAME)(Layout(scan, "the folders Data and metas of the published archive"))


@register_dataset(NAME)
def celeba_spoof(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> FaceData:
    """The user's copy of CelebA-Spoof; ``seed`` draws the people of val, and the first ``people`` of all."""
    from .base import FaceData, Split, make_card

    if root is not None and is_prepared(Path(root).expanduser()):
        prepared = load_prepared(NAME, root)
        index, left_out = index_of(prepared), dict(prepared.info["left_out"])
        source: FaceSource | PackSource = prepared.source(prepared.table)
    else:
        base = find_root(root)
        whole = load_index(base, cache, progress)
        left_out = faults_of(whole)
        index = whole.rows(whole.faults == NO_FAULT)
        source = FaceSource(base, index)
    both = in_both_lists(index)
    if both.any():
        left_out[IN_BOTH] = int(both.sum())
    if left_out:
        reasons = "; ".join(f"{reason} ({number})" for reason, number in left_out.items())
        print(f"facenas: {NAME!r} leaves out {sum(left_out.values())} pictures: {reasons}.", file=sys.stderr)
    splits = {}
    for name, members in choose_people(index, people, seed).items():
        rows = np.flatnonzero(np.isin(index.people, members) & ~both)
        kinds = np.array(KINDS)[index.kinds[rows]]
        splits[name] = Split(kinds == "live", kinds, index.people[rows].astype(str), source, rows)
        if len(np.unique(splits[name].labels)) < 2:
            raise DatasetError(
                f"The {len(members)} people in the {name} split of {NAME!r} have no live faces or no attacks. Ask for "
                "more people or use another seed."
            )
    card = make_card(
        NAME,
        splits,
        simulated=False,
        image_size=source.size,
        credit=CREDIT,
        licence=LICENCE,
        description=DESCRIPTION,
        limits=LIMITS,
        deviations=list(DEVIATIONS),
        seed=seed,
        left_out=left_out,
    )
    return FaceData(NAME, splits, source.size, card)
