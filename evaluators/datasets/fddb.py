"""`fddb`: FDDB (Jain and Learned-Miller, 2010) in its published layout, to judge a detector on::

    root/FDDB-folds/FDDB-fold-01-ellipseList.txt ... FDDB-fold-10-ellipseList.txt
    root/originalPics/2002/08/11/big/img_591.jpg ...

Faces are ellipses; their bounding boxes stand in where boxes are needed. There is a test split only: FDDB's protocol
for detectors that were trained elsewhere (its ten folds together), which is the ASFD paper's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from ..pictures import upright_size
from . import register_dataset
from .picture_files import PictureFiles, annotation_lines, below, require_file, require_root

if TYPE_CHECKING:
    from .detection import DetectionData

NAME = "fddb"
FOLDS = 10
EXPECTED = (
    "It holds FDDB-folds/FDDB-fold-01-ellipseList.txt to -10 and originalPics, as the authors of FDDB publish them."
)


def read_fold(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of a fold, and their ellipses (n, 5): major and minor radius, angle in radians, centre x and y.

    Raises:
        DatasetError: naming the line that is not as expected.
    """
    lines = annotation_lines(path)
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        try:
            count = int(lines[at + 1])
            rows = [[float(value) for value in line.split()[:5]] for line in lines[at + 2 : at + 2 + count]]
            if count < 0 or len(rows) != count or any(len(row) != 5 or not np.isfinite(row).all() for row in rows):
                raise ValueError
        except (ValueError, IndexError) as error:
            raise DatasetError(
                f"{path}, line {at + 1}: after the name of a picture, the number of its faces and five numbers for "
                "each are expected."
            ) from error
        yield lines[at].strip(), np.array(rows, dtype=np.float64).reshape(-1, 5)
        at += 2 + count


def ellipse_boxes(ellipses: np.ndarray) -> np.ndarray:
    """Bounding boxes (n, 4) of ellipses (n, 5); the angle is that of the major axis."""
    major, minor, angle, x, y = np.asarray(ellipses, dtype=np.float64).reshape(-1, 5).T
    across = np.hypot(major * np.cos(angle), minor * np.sin(angle))
    down = np.hypot(major * np.sin(angle), minor * np.cos(angle))
    return np.stack([x - across, y - down, x + across, y + down], axis=1)


@register_dataset(NAME)
def fddb(
    *, root: str | Path | None, people: int | str | None, seed: int, cache: str | Path | None, progress: bool
) -> DetectionData:
    """FDDB's ten folds as one test split."""
    from searchspaces.console import track

    from .detection import BoxSplit, DetectionData, clean_boxes, make_detection_card

    if people is not None:
        raise ConfigError(f"people={people!r}: the data set {NAME!r} has no people by name. Leave people out.")
    folder = require_root(NAME, root, EXPECTED)
    pictures = []
    for fold in range(1, FOLDS + 1):
        path = require_file(folder / "FDDB-folds" / f"FDDB-fold-{fold:02d}-ellipseList.txt", NAME, EXPECTED)
        for name, ellipses in read_fold(path):
            picture = below(folder / "originalPics", f"{name}.jpg", path)
            pictures.append((fold, name, require_file(picture, NAME, EXPECTED), ellipses))
    paths, sizes, boxes, ellipses_kept, groups, names = [], [], [], [], [], []
    skipped = {"boxes": 0, "damaged_pictures": 0}
    items = track(pictures, "reading FDDB") if progress else iter(pictures)
    for fold, name, path, ellipses in items:
        try:
            size = upright_size(path)
        except DatasetError:
            skipped["damaged_pictures"] += 1
            continue
        own, kept = clean_boxes(ellipse_boxes(ellipses), size)
        skipped["boxes"] += int((~kept).sum())
        paths.append(path)
        sizes.append(size)
        boxes.append(own)
        ellipses_kept.append(ellipses[kept])
        groups.append(f"fold {fold}")
        names.append(name)
    split = BoxSplit(
        boxes,
        [np.zeros(len(own), dtype=bool) for own in boxes],
        np.array(groups),
        np.array(names),
        np.array(sizes),
        PictureFiles(paths, np.array(sizes).reshape(-1, 2)),
        np.arange(len(paths)),
        ellipses=ellipses_kept,
    )
    card = make_detection_card(
        NAME,
        {"test": split},
        simulated=False,
        image_size=450,
        credit="FDDB, Jain and Learned-Miller, 2010: Face Detection in Unconstrained Settings.",
        description="News photographs whose faces are marked by ellipses; ten folds, judged together.",
        limits="For research; see the authors' terms.",
        skipped=skipped,
    )
    return DetectionData(NAME, {"test": split}, 450, card)
