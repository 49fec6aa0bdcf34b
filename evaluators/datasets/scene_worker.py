"""Composes the pictures of the data set `scenes`, a group of people at a time, in processes that need no torch.

Run as ``python -m evaluators.datasets.scene_worker`` with a `Job` as JSON on the standard input. It writes rows of an
.npy file that its parent made and the boxes of every group into a file of its own, and prints a line for each scene.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from .colour import jpeg
from .scene_parts import (
    Array,
    CutOut,
    Layer,
    Random,
    background,
    cut_out_person,
    distractor,
    draw_placement,
    ellipse,
    paste,
    place,
    read_photograph,
    recoloured,
    relight,
)

MOST_FACES = 8
WIDTHS = (18.0, 150.0)  # of a face, pixels
NO_FACE = 0.08  # share of scenes without one
SHOWN = 0.85  # of a face's box that must be inside the picture
COVERED = 0.02  # of a face that a later cut-out may cover, matte included
TRIALS = 30
PORTRAIT_HEIGHT = 472  # larger portraits are scaled down to this


@dataclass(frozen=True)
class Job:
    """A share of the work.

    Attributes:
        groups: (number, rows of its scenes, its people as (key, file, face box in parts), its photographs).
        boxes: folder for ``GROUP.json``: ``{"boxes": {row: [...]}, "left_out": number of people without a cut-out}``.
    """

    pictures: str
    boxes: str
    seed: int
    image_size: int
    groups: list[tuple[int, list[int], list[tuple[str, str, list[float]]], list[str]]]


def compose(
    people: Sequence[CutOut], photographs: Sequence[Array], size: int, random: Random
) -> tuple[Array, list[tuple[float, float, float, float]]]:
    """A scene, (size, size, 3) uint8, and the boxes of its faces: no person twice, no face covered."""
    scene = background(photographs, size, random).copy()
    for _ in range(int(random.integers(0, 3))):
        paste(scene, distractor(size, random, people))
    boxes: list[tuple[float, float, float, float]] = []
    number = 0 if random.random() < NO_FACE or not people else _number_of_faces(random, len(people))
    widths = np.sort(
        np.exp(random.uniform(np.log(WIDTHS[0]), np.log(WIDTHS[1]), number))
    )  # the largest are nearest, so they come last
    for index, width in zip(random.permutation(len(people))[:number], widths, strict=True):
        person = trimmed(people[int(index)], random)
        for _ in range(TRIALS):
            centre = (float(random.uniform(0, size)), float(random.uniform(0, size)))
            placement = draw_placement(person, float(width), centre, random)
            if _inside(placement.box, size) < SHOWN or _meets(placement.box, boxes):
                continue
            layer = place(person, placement, size)
            if not _covers(layer, boxes):
                paste(scene, recoloured(layer, random))
                boxes.append(placement.box)
                break
    for _ in range(int(random.integers(0, 3))):  # some in front: they may cover shoulders, not faces
        layer = distractor(size, random, people)
        if not _covers(layer, boxes):
            paste(scene, layer)
    return photograph(scene, random), [_cut(box, size) for box in boxes]


def _number_of_faces(random: Random, available: int) -> int:
    chances = 1 / np.arange(1.0, MOST_FACES + 1) ** 0.7
    return min(available, 1 + int(random.choice(MOST_FACES, p=chances / chances.sum())))


def trimmed(person: CutOut, random: Random) -> CutOut:
    """The person down to the edge of the portrait, or only the head, or head and neck."""
    if random.random() < 0.6:
        return person
    x0, y0, x1, y1 = person.box
    height, width = person.pixels.shape[:2]
    grow = float(random.uniform(1.5, 2.1))
    box = (x0, y0 - 0.1 * (y1 - y0), x1, y1 + float(random.uniform(0, 0.25)) * (y1 - y0))
    kept = ndimage.gaussian_filter(ellipse(height, width, box, grow).astype(np.float32), random.uniform(1, 4))
    return CutOut(np.dstack([person.pixels[..., :3], person.pixels[..., 3] * kept]), person.box)


def _inside(box: Sequence[float], size: int) -> float:
    """Share of a box that is inside the picture."""
    x0, y0, x1, y1 = _cut(box, size)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return max(0.0, x1 - x0) * max(0.0, y1 - y0) / whole


def _cut(box: Sequence[float], size: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(np.clip(value, 0, size)) for value in box)
    return x0, y0, x1, y1


def _meets(box: Sequence[float], boxes: Sequence[Sequence[float]]) -> bool:
    """Whether a box shares a place with another one."""
    return any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes)


def _covers(layer: Layer, boxes: Sequence[Sequence[float]]) -> bool:
    """Whether a layer hides more than a little of a face that is there already."""
    for box in boxes:
        x0, x1 = (max(0, round(value) - layer.left) for value in (box[0], box[2]))
        y0, y1 = (max(0, round(value) - layer.top) for value in (box[1], box[3]))
        hidden = float(layer.pixels[y0:y1, x0:x1, 3].sum())
        if hidden > COVERED * (box[2] - box[0]) * (box[3] - box[1]):
            return True
    return False


def photograph(scene: Array, random: Random) -> Array:
    """What a camera makes of a scene: a common light, blur, noise, sometimes no colour, JPEG; (H, W, 3) uint8."""
    scene = relight(scene, random, 0.5)
    if random.random() < 0.12:
        scene = np.repeat(scene.mean(axis=2, keepdims=True), 3, axis=2)
    if random.random() < 0.35:
        scene = ndimage.gaussian_filter(scene, (s := float(random.uniform(0.3, 1.3)), s, 0))
    noise = float(np.exp(random.uniform(np.log(0.002), np.log(0.045))))
    scene = scene + random.normal(0, noise, scene.shape).astype(np.float32)
    picture = Image.fromarray((np.clip(scene, 0, 1) * 255 + 0.5).astype(np.uint8))
    if random.random() < 0.2:
        picture = picture.filter(ImageFilter.UnsharpMask(1.5, int(random.integers(40, 150)), 2))
    if random.random() < 0.7:
        picture = jpeg(picture, int(random.integers(45, 96)))
    return np.asarray(picture)


def read_person(file: str, box: Sequence[float]) -> CutOut | None:
    """The cut-out of a portrait file."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    if picture.height > PORTRAIT_HEIGHT:
        width = round(picture.width * PORTRAIT_HEIGHT / picture.height)
        picture = picture.resize((width, PORTRAIT_HEIGHT), Image.Resampling.LANCZOS)
    return cut_out_person(picture, box)


def work(job: Job) -> None:
    """Fill the job's rows of the array file."""
    pictures = np.load(job.pictures, mmap_mode="r+", allow_pickle=False)
    for number, rows, members, files in job.groups:
        found = [read_person(file, box) for _, file, box in members]
        people, photographs = [person for person in found if person], [read_photograph(Path(file)) for file in files]
        boxes = {}
        for row in rows:
            picture, faces = compose(
                people, photographs, job.image_size, np.random.default_rng([job.seed, number, row])
            )
            pictures[row] = picture.transpose(2, 0, 1)
            boxes[str(row)] = [[round(value, 2) for value in face] for face in faces]
            print(row, flush=True)
        result = {"boxes": boxes, "left_out": sum(person is None for person in found)}
        (Path(job.boxes) / f"{number}.json").write_text(json.dumps(result))
    pictures.flush()


def main() -> None:
    """Read a job and do it."""
    values: dict[str, Any] = json.load(sys.stdin)
    work(Job(**values))


if __name__ == "__main__":
    main()
