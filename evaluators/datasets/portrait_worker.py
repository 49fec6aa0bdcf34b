"""Makes the pictures of the data set `portraits`: a person at a time, in processes that need no torch.

Run as ``python -m evaluators.datasets.portrait_worker`` with a `Job` as JSON on the standard input. It writes rows of
an .npy file that its parent made, and prints one line a finished person.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from .camera import VIEW, draw_camera, take_picture
from .colour import bytes_to_linear
from .printing import draw_print, render_print
from .replaying import draw_screen, render_screen

KINDS = ("live", "print", "replay")  # the order of a person's pictures
SCENE_SIZE = 640  # pixels of the fine grid: at least 2.5 a sensor pixel, and 2.5 a panel pixel
SEPARATION_SIZE = 256  # inks are separated on a coarser grid: the dots carry no finer detail
FACE_MARGIN = 1.2  # side of the view over the longer side of the face box


@dataclass(frozen=True)
class Job:
    """A share of the work: ``people`` are (row of the first picture, key, file, face box as parts of the picture)."""

    pictures: str
    seed: int
    image_size: int
    people: list[tuple[int, str, str, list[float]]]


def generator(seed: int, key: str, kind: str) -> np.random.Generator:
    """The random numbers of one picture: they depend on the seed, the person and the kind, and on nothing else."""
    return np.random.default_rng([seed, int(key, 16), KINDS.index(kind)])


def mirrored(start: int, length: int, size: int) -> np.ndarray:
    """The pixels start, start + 1, ... of a line of ``size`` pixels that is reflected at both ends, (length,)."""
    # repeating the last pixel instead would draw streaks, which look like the rows of a screen
    folded = np.arange(start, start + length) % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)


def cut_out(picture: Image.Image, box: list[float], margin: float, size: int) -> Image.Image:
    """A square around a face, mirrored where the picture ends, resized to ``size``.

    Args:
        box: x0, y0, x1, y1 of the face in parts of the picture's width and height.
        margin: side of the square over the longer side of the box.
    """
    x0, y0, x1, y1 = np.array(box) * np.tile(picture.size, 2)
    half = 0.5 * margin * max(x1 - x0, y1 - y0)
    left, top = round((x0 + x1) / 2 - half), round((y0 + y1) / 2 - half)
    side = max(1, round(2 * half))
    columns, rows = mirrored(left, side, picture.width), mirrored(top, side, picture.height)
    inside = np.asarray(picture)[rows][:, columns]
    return Image.fromarray(inside).resize((size, size), Image.Resampling.BICUBIC)


def vary_detail(face: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The face with its fine detail softened or strengthened at random, by a factor of 0.15 to 5.

    Skin, make-up, movement and retouching differ between people and portraits. Here they differ alike for faces that
    are live and faces that are printed or shown, so that plain sharpness says little; dots and moire come later.
    """
    smooth = face.filter(ImageFilter.GaussianBlur(float(rng.uniform(2.0, 6.0))))
    return Image.blend(smooth, face, float(np.exp(rng.uniform(np.log(0.15), np.log(5.0)))))


def photograph(face: Image.Image, kind: str, rng: np.random.Generator, image_size: int) -> np.ndarray:
    """A picture (3, image_size, image_size) uint8 of a face cut-out: itself, its print or its replay, by the camera."""
    camera = draw_camera(rng)
    face = vary_detail(face, rng)
    if kind == "live":
        return take_picture(bytes_to_linear(np.asarray(face)), camera, rng, image_size)
    if kind == "replay":
        return take_picture(render_screen(face, draw_screen(rng), SCENE_SIZE), camera, rng, image_size)
    sheet = draw_print(rng, SCENE_SIZE)
    small = face.resize((SEPARATION_SIZE, SEPARATION_SIZE), Image.Resampling.BILINEAR)
    scene = render_print(bytes_to_linear(np.asarray(small)), sheet, SCENE_SIZE, rng)
    return take_picture(scene, camera, rng, image_size, sheet.curl, sheet.curl_angle)


def person_pictures(file: str | Path, box: list[float], key: str, seed: int, image_size: int) -> np.ndarray:
    """All pictures of one person, (len(KINDS), 3, image_size, image_size) uint8, in the order of `KINDS`."""
    with Image.open(file) as picture:
        face = cut_out(picture.convert("RGB"), box, FACE_MARGIN * VIEW, SCENE_SIZE)
    return np.stack([photograph(face, kind, generator(seed, key, kind), image_size) for kind in KINDS])


def work(job: Job) -> None:
    """Fill the job's rows of the array file, with one line of output a person."""
    pictures = np.load(job.pictures, mmap_mode="r+", allow_pickle=False)
    for row, key, file, box in job.people:
        pictures[row : row + len(KINDS)] = person_pictures(file, box, key, job.seed, job.image_size)
        print(key, flush=True)
    pictures.flush()


def main() -> None:
    """Read a job and do it."""
    values: dict[str, Any] = json.load(sys.stdin)
    work(Job(**values))


if __name__ == "__main__":
    main()
