"""Scores of anti-spoofing, and the text files that they are kept in.

A score file is UTF-8 text with tabs between its columns::

    # facenas scores 1: a higher score means live
    split   video       frame   person  kind    score
    val     1_1_21_1    0       21      live    0.9731
    test    3_2_36_2    12      36      print   0.0442

``split`` is val, which chooses thresholds, or test, which is judged. ``video`` is empty for pictures that stand alone.
``kind`` is live, or the attack's type. Scores are any finite numbers, written so that reading gives the same number.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import DatasetError
from searchspaces.files import write_text

if TYPE_CHECKING:
    from .datasets.base import Split

FIRST_LINE = "# facenas scores 1: a higher score means live"
COLUMNS = ("split", "video", "frame", "person", "kind", "score")
FILE = "scores.tsv"  # in a run folder


@dataclass(frozen=True)
class Scores:
    """What a network says of a split's pictures, an array entry a picture.

    Attributes:
        values: float64, high for live. labels: 1 live, 0 attack. kinds: "live" or the attack's type.
        people: who is shown. videos: of which video it is a frame; None where pictures stand alone.
        frames: the frame's number.
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64]
    kinds: NDArray[np.str_]
    people: NDArray[np.str_]
    videos: NDArray[np.str_] | None
    frames: NDArray[np.int64]

    @classmethod
    def of_split(cls, values: NDArray[np.float64], split: Split, videos: bool) -> Scores:
        """The scores of a split's pictures; with ``videos`` those of its videos, or of its people, each one video."""
        names = (split.people if split.videos is None else split.videos) if videos else None
        frames = np.zeros(len(split), dtype=np.int64) if split.frames is None else split.frames
        return cls(values, split.labels, split.kinds, split.people, names, frames)

    def by_video(self) -> Scores:
        """A score a video: the mean of its frames'.

        Raises:
            DatasetError: if there are no videos, or a video is live and an attack, or of two people.
        """
        if self.videos is None:
            raise DatasetError("These scores are of pictures that stand alone: there are no videos to judge.")
        names, first, place = np.unique(self.videos, return_index=True, return_inverse=True)
        for what, column in (("kinds", self.kinds), ("people", self.people)):
            mixed = np.flatnonzero(column != column[first][place])
            if len(mixed):
                raise DatasetError(f"The video {str(self.videos[mixed[0]])!r} has frames of several {what}.")
        values = np.bincount(place, self.values) / np.bincount(place)
        labels, kinds, people = self.labels[first], self.kinds[first], self.people[first]
        return Scores(values, labels, kinds, people, names, np.zeros(len(names), dtype=np.int64))


def write_scores(path: str | Path, splits: Mapping[str, Scores]) -> Path:
    """Write a score file, atomically."""
    import pandas as pd

    tables = []
    for split, scores in splits.items():
        columns: dict[str, Any] = {
            "split": split,
            "video": "" if scores.videos is None else scores.videos,
            "frame": scores.frames,
            "person": scores.people,
            "kind": scores.kinds,
            "score": [repr(value) for value in scores.values.tolist()],
        }
        tables.append(pd.DataFrame(columns, columns=list(COLUMNS)))
    text = pd.concat(tables).to_csv(sep="\t", index=False, lineterminator="\n")
    return write_text(path, f"{FIRST_LINE}\n{text}")


def read_scores(path: str | Path) -> dict[str, Scores]:
    """The splits of a score file, or of the one in a run folder.

    Raises:
        DatasetError: naming the file and what is wrong with it.
    """
    import pandas as pd

    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"Cannot read the score file {file}: {getattr(error, 'strerror', None) or error}."
        ) from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or tuple(lines[0].split("\t")) != COLUMNS:
        raise DatasetError(f"{file} is no score file: its first line should be {' '.join(COLUMNS)}, with tabs between.")
    try:
        table = pd.read_csv(io.StringIO("\n".join(lines)), sep="\t", dtype=str, keep_default_na=False)
        values = np.array([float(value) for value in table["score"]])
        frames = np.array([int(value) for value in table["frame"]], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{file} is no score file: {error}.") from error
    if not np.isfinite(values).all() or (table[["split", "kind"]] == "").any(axis=None):
        raise DatasetError(f"{file} has a score that is not finite, or a line without split or kind.")
    found = {}
    for split in table["split"].unique():
        rows = np.flatnonzero(table["split"] == split)
        kinds, people, videos = (table[name].to_numpy(dtype=str)[rows] for name in ("kind", "person", "video"))
        labels = (kinds == "live").astype(np.int64)
        found[str(split)] = Scores(
            values[rows], labels, kinds, people, None if (videos == "").any() else videos, frames[rows]
        )
    return found
