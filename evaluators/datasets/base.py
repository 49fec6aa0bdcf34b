"""What every data set is: three splits of labelled face pictures, and a card that says where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from searchspaces.errors import DatasetError

LIVE, ATTACK = 1, 0
SPLITS = ("train", "val", "test")


class PictureSource(Protocol):
    """Where a split's pictures come from. Must survive pickling: data-loading processes get a copy."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, (n, 3, H, W) uint8."""


class ArraySource:
    """Pictures in an .npy file of shape (N, 3, H, W) uint8, memory-mapped."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._array: np.ndarray | None = None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows, copied out of the map."""
        if self._array is None:
            try:
                self._array = np.load(self.path, mmap_mode="r", allow_pickle=False)
            except Exception as error:  # NumPy's reader of headers raises many kinds for a damaged file
                raise DatasetError(
                    f"Cannot read the pictures in {self.path}: {error}. Build the data set again."
                ) from error
        return self._array[rows]

    def __getstate__(self) -> dict[str, Any]:
        # a pickled memory map would carry all the pictures; the copy opens the file again
        return {"path": self.path, "_array": None}


@dataclass
class Split(Dataset[tuple[torch.Tensor, int]]):
    """One of train, val and test.

    Attributes:
        labels: (N,) int64, 1 = live, 0 = attack.
        kinds: (N,) str: "live", or the attack's type.
        people: (N,) str: who is shown; a person is in one split only.
        source: where the pictures are; rows: (N,) which of the source's pictures these are.
        videos: (N,) str, of which video each picture is a frame; None where pictures stand alone.
        frames: (N,) int64, the frame's number in it; zeros by default.
    """

    labels: np.ndarray
    kinds: np.ndarray
    people: np.ndarray
    source: PictureSource = field(repr=False)
    rows: np.ndarray = field(repr=False)
    videos: np.ndarray | None = field(default=None, repr=False)
    frames: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.labels = np.asarray(self.labels, dtype=np.int64)
        self.kinds, self.people = np.asarray(self.kinds, dtype=str), np.asarray(self.people, dtype=str)
        self.rows = np.asarray(self.rows, dtype=np.int64)
        if not len(self.labels) == len(self.kinds) == len(self.people) == len(self.rows):
            raise ValueError("labels, kinds, people and rows of a Split must have one entry a picture.")
        if self.videos is not None:
            self.videos = np.asarray(self.videos, dtype=str)
        self.frames = np.asarray(np.zeros(len(self)) if self.frames is None else self.frames, dtype=np.int64)
        if len(self.frames) != len(self) or (self.videos is not None and len(self.videos) != len(self)):
            raise ValueError("videos and frames of a Split must have one entry a picture.")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Picture (3, H, W) uint8 and label."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"Picture {index} of {len(self)}.")
        return self.images(np.array([index]))[0], int(self.labels[index])

    def images(self, indices: Any) -> torch.Tensor:
        """Several pictures in one read, (n, 3, H, W) uint8. ``indices``: integers or a boolean mask (N,)."""
        return torch.from_numpy(np.ascontiguousarray(self.source.read(self.rows[_as_indices(indices)])))

    def subset(self, indices: Any) -> Split:
        """The split with these pictures only, in this order; no picture is copied."""
        chosen = _as_indices(indices)
        assert self.frames is not None
        return Split(
            self.labels[chosen],
            self.kinds[chosen],
            self.people[chosen],
            self.source,
            self.rows[chosen],
            None if self.videos is None else self.videos[chosen],
            self.frames[chosen],
        )

    def with_source(self, source: PictureSource) -> Split:
        """The split with its pictures from elsewhere, row by row."""
        return replace(self, source=source)

    def halves(self, seed: int) -> tuple[Split, Split]:
        """Two halves with no person in both: one to train a search's weights, one for its architecture.

        People who show the same kinds of pictures are dealt out in turn, so that both halves get live faces and every
        attack whenever there are two people to show each. The same seed gives the same halves.

        Raises:
            DatasetError: if a half would lack live faces or attacks.
        """
        shown: dict[str, set[str]] = {}
        for person, kind in zip(self.people.tolist(), self.kinds.tolist(), strict=True):
            shown.setdefault(person, set()).add(kind)
        # numbers before names: the shuffle must not depend on the order of the pictures
        order = np.random.default_rng(seed).permutation(len(shown))
        drawn = [sorted(shown)[i] for i in order]
        drawn.sort(key=lambda person: sorted(shown[person]))
        first = np.isin(self.people, drawn[::2])
        halves = self.subset(np.flatnonzero(first)), self.subset(np.flatnonzero(~first))
        for half in halves:
            if len(np.unique(half.labels)) < 2:
                raise DatasetError(
                    f"A split of {len(shown)} people cannot be halved by person: one half has no live faces or no "
                    "attacks. The search needs at least two people with live faces and two with attacks."
                )
        return halves


def _as_indices(indices: Any) -> np.ndarray:
    """Integers from integers, a mask, a list or a tensor."""
    array = np.asarray(indices)
    return np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64)


@dataclass
class FaceData:
    """A data set: its splits, and a card (JSON-able) that must go wherever a figure from it goes."""

    name: str
    splits: dict[str, Split]
    image_size: int
    card: dict[str, Any]

    def for_network(self, image_size: int) -> FaceData:
        """The data with pictures of the size that a network is trained on: a little larger than what it takes.

        Only sources that can scale (they have ``fitted(image_size)`` and ``size``) give another size than they have.
        """
        if not any(hasattr(split.source, "fitted") for split in self.splits.values()):
            return self
        fitted: dict[int, Any] = {}  # splits of one source share it afterwards, too
        splits = {}
        for name, split in self.splits.items():
            if hasattr(split.source, "fitted"):
                source = fitted.setdefault(id(split.source), split.source.fitted(image_size))
                split = split.with_source(source)
            splits[name] = split
        sizes = [getattr(split.source, "size", self.image_size) for split in splits.values()]
        return FaceData(self.name, splits, min(sizes), {**self.card, "image_size": min(sizes)})


def refuse_shared_people(name: str, splits: dict[str, Split]) -> None:
    """Refuse a person who is in two splits.

    Raises:
        DatasetError: naming the person and both splits.
    """
    seen: dict[str, str] = {}
    for split, content in splits.items():
        for person in np.unique(content.people).tolist():
            before = seen.setdefault(person, split)
            if before != split:
                raise DatasetError(
                    f"The person {person!r} of {name!r} is in {before} and in {split}: a test on people seen in "
                    "training says nothing. Mend the lists: each person belongs to one split."
                )


def make_card(name: str, splits: dict[str, Split], *, simulated: bool, image_size: int, **texts: Any) -> dict[str, Any]:
    """The card of a data set: what it is, whom to credit, what it cannot say, and what is in each split."""
    counts = {
        key: {"people": len(set(split.people.tolist())), **_count(split.kinds.tolist())}
        for key, split in splits.items()
    }
    return {"name": name, "simulated": simulated, **texts, "image_size": image_size, "splits": counts}


def _count(kinds: list[str]) -> dict[str, int]:
    """How many pictures of each kind, live first."""
    return {kind: kinds.count(kind) for kind in sorted(set(kinds), key=lambda kind: (kind != "live", kind))}
