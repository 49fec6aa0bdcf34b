"""What every data set for face recognition is: pictures, and who is on each; for judging, which pairs are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from searchspaces.errors import DatasetError

from .base import PictureSource


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures that a protocol compares.

    Attributes:
        first, second: (P,) int64, places of pictures in the split.
        same: (P,) bool, whether both show one person.
        folds: (P,) int64, the protocol's fold of each pair; all 0 if it has none.
    """

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    folds: np.ndarray

    def __post_init__(self) -> None:
        sizes = {len(self.first), len(self.second), len(self.same), len(self.folds)}
        if len(sizes) != 1:
            raise DatasetError("first, second, same and folds of Pairs must have one entry a pair.")

    def __len__(self) -> int:
        return len(self.same)


@dataclass
class IdentitySplit(Dataset[tuple[torch.Tensor, int]]):
    """One of train, val and test.

    Attributes:
        people: (N,) str, who is on each picture.
        source: where the pictures are; rows: (N,) which of the source's pictures these are.
        lists: the protocols' pairs by name; without any, all pairs of pictures are compared.
        named: whether it is known of all pictures who is on them; one person may have several names otherwise.
    """

    people: np.ndarray
    source: PictureSource = field(repr=False)
    rows: np.ndarray = field(repr=False)
    lists: Mapping[str, Pairs] = field(default_factory=dict, repr=False)
    named: bool = True

    def __post_init__(self) -> None:
        self.people, self.rows = np.asarray(self.people, dtype=str), np.asarray(self.rows, dtype=np.int64)
        if len(self.people) != len(self.rows):
            raise DatasetError("people and rows of an IdentitySplit must have one entry a picture.")
        names, labels = np.unique(self.people, return_inverse=True)
        self.names: list[str] = names.tolist()
        self.labels = labels.astype(np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Picture (3, H, W) uint8 and the number of its person, from 0."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"Picture {index} of {len(self)}.")
        return self.images(np.array([index]))[0], int(self.labels[index])

    def images(self, indices: Any) -> torch.Tensor:
        """Several pictures in one read, (n, 3, H, W) uint8."""
        return torch.from_numpy(np.ascontiguousarray(self.source.read(self.rows[np.asarray(indices)])))

    def halves(self, seed: int) -> tuple[IdentitySplit, IdentitySplit]:
        """Two halves of each person's pictures: one to train a search's weights, one for its architecture.

        Both show the same people, since the loss of both tells these people apart; the test is on others. The same
        seed gives the same halves.

        Raises:
            DatasetError: if somebody has a single picture.
        """
        random, first = np.random.default_rng(seed), np.zeros(len(self), dtype=bool)
        for number, name in enumerate(self.names):
            own = random.permutation(np.flatnonzero(self.labels == number))
            if len(own) < 2:
                raise DatasetError(
                    f"A search needs two pictures of each person, one for the weights and one for the architecture, "
                    f"but {name!r} has one."
                )
            # odd ones out go to the halves by turns
            first[own[: len(own) // 2 + (len(own) % 2) * (number % 2)]] = True
        return self._part(first), self._part(~first)

    def _part(self, mask: np.ndarray) -> IdentitySplit:
        return IdentitySplit(self.people[mask], self.source, self.rows[mask])


@dataclass
class RecognitionData:
    """A data set: its splits, and a card (JSON-able) that must go wherever a figure from it goes."""

    name: str
    splits: dict[str, IdentitySplit]
    image_size: int
    card: dict[str, Any]


def recognition_card(
    name: str, splits: Mapping[str, IdentitySplit], *, simulated: bool, image_size: int, **texts: Any
) -> dict[str, Any]:
    """The card of a data set: what it is, whom to credit, what it cannot say, and what is in each split."""
    counts = {
        key: {
            "people": len(split.names),
            "pictures": len(split),
            **({"pairs": {title: len(pairs) for title, pairs in split.lists.items()}} if split.lists else {}),
        }
        for key, split in splits.items()
    }
    return {"name": name, "simulated": simulated, **texts, "image_size": image_size, "splits": counts}
