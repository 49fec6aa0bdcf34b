"""Cuts faces out of clips: ``python -m evaluators.datasets.prepare_worker``, with a job as JSON on its standard input.

Prints a line for each pack. Started by `preparation.prepare`; several work side by side, each on packs of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from searchspaces.errors import DatasetError

from ..pictures import read_rgb
from ..video import BrokenVideoError, count_frames, read_frames
from .crops import Region, cut_region, enlarge, has_area
from .face_finder import find_face
from .layouts import VIDEO_SUFFIXES, Clip, find_layout, read_positions
from .prepared import CONTEXT, PACKS, SIDE, encode, write_pack

BROKEN, NO_FACE, NO_POSITIONS = (
    "cannot be decoded",
    "no face in any of its frames",
    "no published positions, and no detector was to be used",
)


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        out: the prepared folder. layout: the data set's name.
        frames: most frames of a clip. enlarge: factor on the face box.
        detector: what finds faces without positions, a key of `DETECTORS`, or none.
        stamp: of the options, kept in every pack.
        packs: file to its clips, with what `stamp_of` says of each.
    """

    out: str
    layout: str
    frames: int
    enlarge: float
    detector: str
    stamp: str
    packs: list[tuple[str, list[tuple[Clip, list[int]]]]]

    def to_json(self) -> dict[str, Any]:
        packs = [(pack, [(asdict(clip), stamp) for clip, stamp in clips]) for pack, clips in self.packs]
        return json.loads(json.dumps({**vars(self), "packs": packs}, default=str))


def from_json(values: dict[str, Any]) -> Job:
    """A job as its process reads it."""

    def clip(fields: dict[str, Any]) -> Clip:
        paths = {key: Path(fields[key]) for key in ("path", "positions") if fields[key] is not None}
        return Clip(**{**fields, **paths})

    packs = [(pack, [(clip(fields), stamp) for fields, stamp in clips]) for pack, clips in values["packs"]]
    return Job(**{**values, "packs": packs})


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of the numbers, evenly spread over them.

    >>> spread(range(10), 3)
    [1, 5, 8]
    """
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[int((place + 0.5) * len(numbers) / most)] for place in range(most)]


def in_pixels(box: Region, pixels: np.ndarray) -> Region:
    """A box that is given in parts of a picture's width and height."""
    height, width = pixels.shape[:2]
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def whole_frame(pixels: np.ndarray) -> Region:
    """The box around which the middle square of a frame is kept, for videos that were cut to the face already."""
    height, width = pixels.shape[:2]
    reach = min(height, width) / CONTEXT / 2
    return width / 2 - reach, height / 2 - reach, width / 2 + reach, height / 2 + reach


DETECTORS = {"auto": find_face, "frame": whole_frame}


def clip_frames(clip: Clip, job: Job, counts: dict[str, int]) -> Iterator[tuple[int, np.ndarray, Region | None]]:
    """Frames of a clip to cut a face from: number, picture (H, W, 3) and the face box; ``counts`` is added to.

    Raises:
        DatasetError: if the clip cannot be used.
    """
    if clip.path.suffix.lower() not in VIDEO_SUFFIXES:
        pixels = read_rgb(clip.path).transpose(1, 2, 0)
        yield 0, pixels, None if clip.box is None else in_pixels(clip.box, pixels)
        return
    total, regions = count_frames(clip.path), None
    layout = find_layout(job.layout)
    if clip.positions is not None:
        found, nowhere = read_positions(clip.positions, layout.fields)
        regions = {number: region for number, values in found.items() if (region := layout.region(*values)) is not None}
        counts["without_face"] += nowhere + len(found) - len(regions)
    elif job.detector not in DETECTORS:
        raise DatasetError(NO_POSITIONS)
    usable = range(total) if regions is None else sorted(number for number in regions if 0 <= number < total)
    wanted = spread(usable, job.frames)
    decoded = 0
    for number, pixels in read_frames(clip.path, wanted) if wanted else ():
        decoded += 1
        yield number, pixels, DETECTORS[job.detector](pixels) if regions is None else regions[number]
    counts["not_decoded"] += len(wanted) - decoded


def cut_clip(clip: Clip, job: Job) -> tuple[list[tuple[str, int, bytes]], dict[str, int], str]:
    """The faces of a clip as clip, frame and JPEG file; what was counted; and why there are none, or nothing."""
    counts, pictures = {"without_face": 0, "not_decoded": 0}, []
    try:
        for number, pixels, region in clip_frames(clip, job, counts):
            if region is None or not has_area(region, pixels.shape[1], pixels.shape[0]):
                counts["without_face"] += 1
                continue
            square = enlarge(region, CONTEXT * job.enlarge)
            pictures.append((clip.name, number, encode(cut_region(Image.fromarray(pixels), square, SIDE))))
    except BrokenVideoError:
        return [], counts, BROKEN
    except DatasetError as error:  # a damaged list of positions, or a damaged picture
        return [], counts, str(error)
    return pictures, counts, "" if pictures else NO_FACE


def work(job: Job) -> Iterator[str]:
    """Write all packs of a job; gives the name of each."""
    for pack, clips in job.packs:
        pictures, records = [], []
        for clip, stamp in clips:
            own, counts, reason = cut_clip(clip, job)
            pictures += own
            records.append([clip.name, stamp, counts, reason])
        header = {"stamp": job.stamp, "clips": records}
        write_pack(Path(job.out) / PACKS / pack, header, pictures)
        yield pack


if __name__ == "__main__":
    for _ in work(from_json(json.load(sys.stdin))):  # importing this package has registered the layouts
        print(flush=True)
