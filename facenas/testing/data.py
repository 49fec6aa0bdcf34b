"""Pictures that are made in a moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evaluators.datasets.base import FaceData, Split, make_card


@dataclass
class Memory:
    """Pictures in memory, (N, 3, S, S) uint8, as the source of a split."""

    pictures: np.ndarray

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The pictures of these rows."""
        return self.pictures[rows]


def striped_faces(size: int, people: int = 8) -> FaceData:
    """A data set of stripes in noise: upright ones stand for live pictures, lying ones for attacks.

    Args:
        size: height and width, pixels.
        people: how many in each split; each shows a picture of both kinds.
    """
    splits = {name: striped_split(size, seed, people) for seed, name in enumerate(("train", "val", "test"))}
    return FaceData("stripes", splits, size, make_card("stripes", splits, simulated=True, image_size=size))


def striped_split(size: int, seed: int, people: int) -> Split:
    """One split; different seeds have different noise and different people."""
    random = np.random.default_rng(seed)
    labels = np.tile([1, 0], people)
    lying, upright = np.indices((size, size)) // 3 % 2 * 150
    stripes = np.where(labels[:, None, None, None] == 1, upright, lying)
    pictures = (stripes + random.integers(0, 100, (2 * people, 3, size, size))).astype(np.uint8)
    names = np.repeat([f"person {number} of split {seed}" for number in range(people)], 2)
    kinds = np.where(labels == 1, "live", "print")
    return Split(labels, kinds, names, Memory(pictures), np.arange(2 * people))
