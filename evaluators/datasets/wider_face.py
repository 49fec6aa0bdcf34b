"""`wider-face`: WIDER FACE (Yang et al., CVPR 2016) in its published layout::

    root/WIDER_train/images/EVENT/*.jpg            root/WIDER_val/images/EVENT/*.jpg
    root/wider_face_split/wider_face_train_bbx_gt.txt    wider_face_val_bbx_gt.txt
    root/eval_tools/ground_truth/wider_{easy,medium,hard}_val.mat   (or root/ground_truth, root/wider_face_split, root)

The published validation set is the test split here; a tenth of the training events is the validation split, which no
training sees. Boxes that are marked invalid are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from ..pictures import upright_size
from . import register_dataset
from .mat_file import read_mat
from .picture_files import PictureFiles, annotation_lines, below, require_file, require_root

if TYPE_CHECKING:
    from .detection import BoxSplit, DetectionData

NAME = "wider-face"
EXPECTED = (
    "It holds WIDER_train/images, WIDER_val/images and wider_face_split/wider_face_{train,val}_bbx_gt.txt, as the "
    "authors of WIDER FACE publish them."
)
FIELDS = 10  # of a face: x, y, w, h, blur, expression, illumination, invalid, occlusion, pose
INVALID = 7
LEVELS = ("easy", "medium", "hard")
GROUND_TRUTH = ("eval_tools/ground_truth", "ground_truth", "wider_face_split", "")
VALIDATION = 0.1  # of the training pictures, whole events
MOST_MISSING = 0.5  # of the annotated pictures


@dataclass(frozen=True)
class Annotation:
    """A picture of an annotation file: its name below ``images``, boxes (n, 4) x0, y0, x1, y1, and (n,) invalid."""

    name: str
    boxes: np.ndarray
    invalid: np.ndarray


def read_annotations(path: Path) -> Iterator[Annotation]:
    """The pictures of a ``wider_face_*_bbx_gt.txt``.

    A picture has a line with its name, one with the number of its faces, and one a face; a picture without faces has
    one line of zeros all the same.

    Raises:
        DatasetError: naming the line that is not as expected.
    """
    lines = annotation_lines(path)
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        name = lines[at].strip()
        try:
            count = int(lines[at + 1])
            rows = [
                [int(float(value)) for value in line.split()[:FIELDS]]
                for line in lines[at + 2 : at + 2 + max(count, 1)]
            ]
            if count < 0 or len(rows) != max(count, 1) or any(len(row) < FIELDS for row in rows):
                raise ValueError
        except (ValueError, IndexError, OverflowError) as error:
            raise DatasetError(
                f"{path}, line {at + 1}: after the name of a picture, the number of its faces and a line of {FIELDS} "
                "numbers for each are expected."
            ) from error
        below(path.parent, name, f"{path}, line {at + 1}")
        faces = np.array(rows, dtype=np.float64)[:count]
        boxes = faces[:, :4].copy()
        boxes[:, 2:] += boxes[:, :2]
        yield Annotation(name, boxes, faces[:, INVALID] != 0)
        at += 2 + max(count, 1)


def read_subset(path: Path) -> dict[str, np.ndarray]:
    """Which faces of each picture count for a level of difficulty: picture (no suffix) to indices from 0.

    Raises:
        DatasetError: if the file is not as the evaluation tools have it.
    """
    try:
        content = read_mat(path)
        found = {}
        for files, lists in zip(content["file_list"].ravel(), content["gt_list"].ravel(), strict=True):
            for file, kept in zip(files.ravel(), lists.ravel(), strict=True):
                found[str(np.asarray(file).ravel()[0])] = np.asarray(kept, dtype=np.int64).ravel() - 1
        return found
    except Exception as error:  # NumPy, zlib and struct raise many kinds for a damaged file
        raise DatasetError(
            f"{path} cannot be read as a ground truth of WIDER FACE's evaluation tools: {' '.join(str(error).split())}"
        ) from error


def find_subsets(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """Easy, medium and hard, if the ``.mat`` files are there."""
    for folder in GROUND_TRUTH:
        files = {level: root / folder / f"wider_{level}_val.mat" for level in LEVELS}
        if all(file.is_file() for file in files.values()):
            return {level: read_subset(file) for level, file in files.items()}
    return {}


def build_split(
    images: Path, annotations: list[Annotation], subsets: dict[str, dict[str, np.ndarray]], progress: bool
) -> tuple[BoxSplit, dict[str, int]]:
    """A split of the pictures that are there, and how many boxes and pictures were skipped.

    Raises:
        DatasetError: if more than half of the pictures are missing.
    """
    from searchspaces.console import track

    from .detection import BoxSplit, clean_boxes

    skipped = {"boxes": 0, "missing_pictures": 0, "damaged_pictures": 0}
    paths, sizes, boxes, ignored, names = [], [], [], [], []
    masks: dict[str, list[np.ndarray]] = {level: [] for level in subsets}
    items = track(annotations, f"reading {images.parent.name}") if progress else iter(annotations)
    for annotation in items:
        path = images / annotation.name
        if not path.is_file():
            skipped["missing_pictures"] += 1
            continue
        try:
            size = upright_size(path)
        except DatasetError:
            skipped["damaged_pictures"] += 1
            continue
        own, kept = clean_boxes(annotation.boxes, size)
        skipped["boxes"] += int((~kept).sum())
        paths.append(path)
        sizes.append(size)
        boxes.append(own)
        ignored.append(annotation.invalid[kept])
        names.append(annotation.name)
        for level, indices in subsets.items():
            mask = np.zeros(len(kept), dtype=bool)
            counting = indices.get(Path(annotation.name).stem, np.zeros(0, dtype=np.int64))
            mask[counting[(counting >= 0) & (counting < len(kept))]] = True
            masks[level].append(mask[kept])
    if skipped["missing_pictures"] > MOST_MISSING * len(annotations):
        raise DatasetError(
            f"{skipped['missing_pictures']} of {len(annotations)} annotated pictures are not below {images}. {EXPECTED}"
        )
    groups = np.array([name.partition("/")[0] for name in names])
    source = PictureFiles(paths, np.array(sizes).reshape(-1, 2))
    split = BoxSplit(boxes, ignored, groups, np.array(names), np.array(sizes), source, np.arange(len(paths)), masks)
    return split, skipped


def validation_events(groups: np.ndarray, seed: int) -> list[str]:
    """Events that make up a tenth of the pictures, drawn by the seed."""
    names, counts = np.unique(groups, return_counts=True)
    chosen: list[str] = []
    total = 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        if total + counts[index] / 2 > VALIDATION * len(groups) and chosen:
            break
        chosen.append(str(names[index]))
        total += int(counts[index])
    return chosen


@register_dataset(NAME)
def wider_face(
    *, root: str | Path | None, people: int | str | None, seed: int, cache: str | Path | None, progress: bool
) -> DetectionData:
    """WIDER FACE; nothing is cached."""
    from .detection import DetectionData, make_detection_card

    if people is not None:
        raise ConfigError(f"people={people!r}: the data set {NAME!r} has no people by name. Leave people out.")
    folder = require_root(NAME, root, EXPECTED)
    labels = folder / "wider_face_split"
    lists = {part: require_file(labels / f"wider_face_{part}_bbx_gt.txt", NAME, EXPECTED) for part in ("train", "val")}
    subsets = find_subsets(folder)
    whole, first = build_split(folder / "WIDER_train/images", list(read_annotations(lists["train"])), {}, progress)
    test, second = build_split(folder / "WIDER_val/images", list(read_annotations(lists["val"])), subsets, progress)
    held_out = np.isin(whole.groups, validation_events(whole.groups, seed))
    splits = {"train": whole.subset(~held_out), "val": whole.subset(held_out), "test": test}
    skipped = {name: first[name] + second[name] for name in first}
    if any(skipped.values()):
        print(
            "facenas: wider-face left out " + ", ".join(f"{n} {k.replace('_', ' ')}" for k, n in skipped.items() if n)
        )
    if not subsets:
        print("facenas: wider-face has no wider_{easy,medium,hard}_val.mat, so these three figures are left out.")
    card: dict[str, Any] = make_detection_card(
        NAME,
        splits,
        simulated=False,
        image_size=1024,
        credit="WIDER FACE, Yang et al., CVPR 2016: A Face Detection Benchmark.",
        description="Photographs of events with all faces marked. test is the published validation set; val is a tenth "
        "of the training events.",
        limits="For research; see the authors' terms.",
        skipped=skipped,
        subsets=sorted(subsets),
        seed=seed,
    )
    return DetectionData(NAME, splits, 1024, card)
