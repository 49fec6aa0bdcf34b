"""`hatfas`: the folder layout of HaTFAS' released code, ``root/{train,val,test}/{true,attack}/VIDEO/FRAME.jpg``.

Frames of videos, faces cut out. ``true`` is live. Who is on a video is not said, so a video stands for a person:
intervals are over videos, and that nobody is in two splits is for its maker to see to. Error rates are told per frame
and per video.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from searchspaces.errors import ConfigError, DatasetError

from . import register_dataset
from .folder import SUFFIXES, FileSource, check_picture
from .picture_files import require_root

if TYPE_CHECKING:
    from .base import FaceData, Split

CLASSES = {"true": "live", "attack": "attack"}  # folder -> kind
IMAGE_SIZE = 256  # as the released code resizes, before the middle 224 are judged
EXPECTED = "It needs {train,val,test}/{true,attack}/VIDEO/*.jpg below its root."


class Frames(FileSource):
    """Frames decoded when they are read."""

    decodes = True


def scan_videos(folder: Path) -> dict[str, list[Path]]:
    """The frames of each video, a folder each; frames that lie in the class's folder itself are one video.

    Raises:
        DatasetError: if there are none.
    """
    if not folder.is_dir():
        there = sorted(entry.name for entry in folder.parent.iterdir()) if folder.parent.is_dir() else []
        raise DatasetError(
            f"The folder {folder} is missing; {folder.parent} has {', '.join(there) or 'nothing'}. {EXPECTED}"
        )
    videos: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            videos.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path)
    if not videos:
        raise DatasetError(f"{folder} has no pictures. {EXPECTED}")
    return videos


def refuse_repeats(splits: Mapping[str, list[Path]]) -> None:
    """Refuse a frame that is in two splits; videos may have the same name.

    Only files of one size are read.

    Raises:
        DatasetError: naming both files.
    """
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, paths in splits.items():
        for path in paths:
            by_size[path.stat().st_size].append((split, path))
    for alike in by_size.values():
        if len({split for split, _ in alike}) == 1:
            continue
        seen: dict[bytes, tuple[str, Path]] = {}
        for split, path in alike:
            before, first = seen.setdefault(hashlib.sha256(path.read_bytes()).digest(), (split, path))
            if before != split:
                raise DatasetError(
                    f"{path} and {first} are the same picture: a test on frames seen in training says nothing. Keep "
                    "each video in one split."
                )


@register_dataset("hatfas")
def hatfas(
    *,
    root: str | Path | None = None,
    people: int | str | None = None,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> FaceData:
    """Frames in HaTFAS' layout; nothing is drawn at random and nothing is cached, so seed and cache have no effect."""
    from searchspaces.console import track

    from .base import SPLITS, FaceData, make_card

    if people is not None:
        raise ConfigError(f"people={people!r}: the data set 'hatfas' shows all videos in its folders. Leave it out.")
    base = require_root("hatfas", root, EXPECTED)
    found = {split: {name: scan_videos(base / split / name) for name in CLASSES} for split in SPLITS}
    frames = {
        split: [path for videos in classes.values() for own in videos.values() for path in own]
        for split, classes in found.items()
    }
    files = [path for own in frames.values() for path in own]
    for path in track(files, "checking frames") if progress else files:
        check_picture(path)
    refuse_repeats(frames)
    splits = {split: _make_split(split, classes) for split, classes in found.items()}
    card = make_card(
        "hatfas",
        splits,
        simulated=False,
        image_size=IMAGE_SIZE,
        credit="The user's own pictures.",
        description="Frames of videos in the layout of HaTFAS' code, whose class 'true' is live; a video is a person.",
        limits="facenas knows nothing of how these videos were taken, nor whether a person is in two splits.",
        seed=seed,
        unit="video",
    )
    return FaceData("hatfas", splits, IMAGE_SIZE, card)


def _make_split(split: str, classes: dict[str, dict[str, list[Path]]]) -> Split:
    from .base import Split

    rows = [
        (path, CLASSES[name], f"{split}/{name}/{video}")
        for name, videos in classes.items()
        for video, frames in videos.items()
        for path in frames
    ]
    kinds = np.array([kind for _, kind, _ in rows])
    source = Frames([path for path, _, _ in rows], IMAGE_SIZE)
    return Split(kinds == "live", kinds, np.array([video for _, _, video in rows]), source, np.arange(len(rows)))
