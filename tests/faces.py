"""A data set for tests that is made in memory: "live" has a fine texture, "attack" has not."""

from __future__ import annotations

import numpy as np

from evaluators.datasets.base import FaceData, Split, make_card


class MemorySource:
    """Pictures in an array."""

    def __init__(self, pictures: np.ndarray) -> None:
        self.pictures = pictures

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.pictures[rows]


def texture_split(people: int, size: int, seed: int) -> Split:
    """Per person one live picture and two attacks, of two kinds."""
    random = np.random.default_rng(seed)
    kinds = np.array(["live", "print", "replay"] * people)
    pictures = random.integers(96, 160, (len(kinds), 3, size, size))
    pictures[kinds == "live"] += 60 * (np.arange(size) % 2)
    names = np.repeat([f"{seed}-{index}" for index in range(people)], 3)
    source = MemorySource(pictures.astype(np.uint8))
    return Split((kinds == "live").astype(np.int64), kinds, names, source, np.arange(len(kinds)))


def texture_data(people: int = 8, size: int = 24) -> FaceData:
    """Three splits of textures with different people."""
    splits = {name: texture_split(people, size, seed) for seed, name in enumerate(("train", "val", "test"))}
    return FaceData("textures", splits, size, make_card("textures", splits, simulated=True, image_size=size))
