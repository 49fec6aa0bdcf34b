"""What every data set of face detection is: splits of pictures with boxes, and a card that says where from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from searchspaces.errors import DatasetError

Array = np.ndarray


class PictureReader(Protocol):
    """Where a split's pictures come from. Must survive pickling: data-loading processes get a copy."""

    def read(self, row: int) -> Array:
        """The picture of a row, (3, H, W) uint8; sizes may differ."""


@dataclass
class BoxSplit(Dataset[torch.Tensor]):
    """One of train, val and test; n is a picture's number of boxes and may be 0.

    Attributes:
        boxes: by picture (n, 4) float32: x0, y0, x1, y1 in pixels.
        ignored: by picture (n,) bool: boxes that are neither a target nor an error.
        groups: (N,) str: pictures of one group are not independent; a group is in one split and one half only.
        names: (N,) str, for messages.
        sizes: (N, 2) height and width.
        source: where the pictures are; rows: (N,) which of the source's pictures these are.
        subsets: by name, by picture (n,) bool: the boxes that count for a figure of their own.
        ellipses: FDDB's, by picture (n, 5): radii, angle, centre.
    """

    boxes: list[Array]
    ignored: list[Array]
    groups: Array
    names: Array
    sizes: Array
    source: PictureReader = field(repr=False)
    rows: Array = field(repr=False)
    subsets: dict[str, list[Array]] = field(default_factory=dict)
    ellipses: list[Array] | None = None

    def __post_init__(self) -> None:
        self.boxes = [np.asarray(own, dtype=np.float32).reshape(-1, 4) for own in self.boxes]
        self.ignored = [np.asarray(own, dtype=bool) for own in self.ignored]
        self.groups, self.names = np.asarray(self.groups, dtype=str), np.asarray(self.names, dtype=str)
        self.sizes = np.asarray(self.sizes, dtype=np.int64).reshape(-1, 2)
        self.rows = np.asarray(self.rows, dtype=np.int64)
        per_picture: list[Any] = [self.ignored, self.groups, self.names, self.sizes, self.rows]
        per_picture += list(self.subsets.values())
        if any(len(each) != len(self.boxes) for each in per_picture):
            raise ValueError("A BoxSplit needs one entry a picture everywhere.")
        if any(len(own) != len(skip) for own, skip in zip(self.boxes, self.ignored, strict=True)):
            raise ValueError("A BoxSplit needs one entry of ignored a box.")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.picture(index)

    def picture(self, index: int) -> torch.Tensor:
        """One picture, (3, H, W) uint8."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"Picture {index} of {len(self)}.")
        return torch.from_numpy(np.ascontiguousarray(self.source.read(int(self.rows[index]))))

    def subset(self, indices: Any) -> BoxSplit:
        """The split with these pictures only (integers or a mask), in this order; no picture is copied."""
        chosen = np.asarray(indices)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)

        def pick(values: list[Array]) -> list[Array]:
            return [values[index] for index in chosen]

        return BoxSplit(
            pick(self.boxes),
            pick(self.ignored),
            self.groups[chosen],
            self.names[chosen],
            self.sizes[chosen],
            self.source,
            self.rows[chosen],
            {name: pick(masks) for name, masks in self.subsets.items()},
            None if self.ellipses is None else pick(self.ellipses),
        )

    def halves(self, seed: int) -> tuple[BoxSplit, BoxSplit]:
        """Two halves with no group in both: one to train a search's weights, one for its architecture.

        Raises:
            DatasetError: if there are fewer than two groups, or a half would have no face.
        """
        names = np.unique(self.groups)
        if len(names) < 2:
            raise DatasetError(
                "This split cannot be halved: all of its pictures belong to one group, and no group may be in both "
                "halves. The search needs pictures of at least two groups (people, events)."
            )
        drawn = names[np.random.default_rng(seed).permutation(len(names))]
        counts = dict(zip(*np.unique(self.groups, return_counts=True), strict=True))
        first: list[str] = []
        sizes = [0, 0]
        for name in sorted(drawn, key=lambda name: -counts[name]):  # the largest first, each to the smaller half
            half = int(sizes[0] > sizes[1])
            sizes[half] += counts[name]
            if half == 0:
                first.append(name)
        chosen = np.isin(self.groups, first)
        halves = self.subset(chosen), self.subset(~chosen)
        for half_split in halves:
            if not any((~skip).any() for skip in half_split.ignored):
                raise DatasetError("This split cannot be halved: one half would have no face.")
        return halves


@dataclass
class DetectionData:
    """A data set of face detection: its splits, and a card (JSON-able) that goes wherever a figure from it goes."""

    name: str
    splits: dict[str, BoxSplit]
    image_size: int
    card: dict[str, Any]


def make_detection_card(
    name: str, splits: Mapping[str, BoxSplit], *, simulated: bool, image_size: int, **texts: Any
) -> dict[str, Any]:
    """The card: what the data are, whom to credit, what they cannot say, and what is in each split."""
    counts = {
        key: {
            "pictures": len(split),
            "faces": int(sum((~skip).sum() for skip in split.ignored)),
            "ignored": int(sum(skip.sum() for skip in split.ignored)),
            "groups": len(np.unique(split.groups)),
        }
        for key, split in splits.items()
    }
    return {"name": name, "simulated": simulated, **texts, "image_size": image_size, "splits": counts}


def clean_boxes(boxes: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Boxes cut at the picture's edges, and which of the given ones are left: those without an area are not.

    Args:
        boxes: (n, 4) x0, y0, x1, y1; may be outside, of no size, or no numbers.
        size: height and width.

    Returns:
        (m, 4) float32 and (n,) bool.
    """
    height, width = size
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    cut = np.clip(boxes, 0, [width, height, width, height])
    kept = np.isfinite(boxes).all(axis=1) & (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
    return cut[kept].astype(np.float32), kept
