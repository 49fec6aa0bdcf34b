"""Batches of pictures whose order and augmentation depend on the seed, the epoch and the batch's number only.

Nothing is drawn from a global random generator, so an epoch after a resume is the epoch of an unbroken run, with any
number of worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from nni.nas.evaluator.pytorch.lightning import DataLoader  # a DataLoader that NNI can send to another process
from torch import Tensor
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset, Sampler

from searchspaces.errors import DatasetError

from .augmentation import MIXINGS, find_augmentation
from .sharing import own_rows


class Pictures(Protocol):
    """A split of labelled pictures of one size."""

    labels: np.ndarray
    source: Any

    def __len__(self) -> int: ...

    def images(self, indices: Any) -> Tensor:
        """(n, 3, H, W) uint8."""


class BatchKey(NamedTuple):
    """Which pictures make a batch, and when.

    Attributes:
        indices: of all pictures of the batch.
        rows: those of them that this process computes, see `sharing`.
    """

    epoch: int
    number: int
    indices: list[int]
    rows: slice = slice(None)


class EpochBatches(Sampler[BatchKey]):
    """A new order of all pictures every epoch; Lightning calls `set_epoch`. An incomplete last batch is left out,
    unless there is no other: batch norm needs several pictures."""

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, min(batch_size, size), seed, 0
        self.rows = slice(None)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def share(self, rank: int, processes: int) -> None:
        """From now on, give each batch's rows of one process of several.

        Raises:
            ConfigError: for batches that have no equal shares.
        """
        self.rows = own_rows(self.batch_size, rank, processes)

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[BatchKey]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        for number in range(len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield BatchKey(self.epoch, number, chosen.tolist(), self.rows)


class TrainingBatches(Dataset):
    """Random crops and mirror images: ``BatchKey -> pictures (N, 3, S, S) in [-1, 1], labels (N,) float``, which are
    shares of live where an augmentation mixes pictures.

    Args:
        augmentation: what is done to the crops after that, see `augmentation.AUGMENTATIONS`.
    """

    def __init__(self, split: Pictures, image_size: int, seed: int, augmentation: str = "crop") -> None:
        find_augmentation(augmentation)
        self.split, self.image_size, self.seed, self.augmentation = split, image_size, seed, augmentation

    def __getitem__(self, key: BatchKey) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng([self.seed, key.epoch, key.number])
        augment = find_augmentation(self.augmentation)
        # a share is drawn with its whole batch; an augmentation may draw by what the pictures are, so it sees all
        rows = key.rows if augment is None else slice(None)
        pictures = self.split.images(np.asarray(key.indices)[rows])
        room = pictures.shape[-1] - self.image_size
        tops, lefts = random.integers(0, room + 1, (2, len(key.indices)))[:, rows]
        flips = random.random(len(key.indices))[rows] < 0.5
        crops = []
        for picture, top, left, flip in zip(pictures, tops, lefts, flips, strict=True):
            crop = picture[:, top : top + self.image_size, left : left + self.image_size]
            crops.append(crop.flip(-1) if flip else crop)
        batch = torch.stack(crops)
        if augment is not None:
            # after the crops, whose draws stay the same with any augmentation
            batch = augment(batch, random)
        mixing = MIXINGS.get(self.augmentation)
        if mixing is not None:  # of the whole batch, which an augmentation has had to see
            labels = torch.from_numpy(self.split.labels[key.indices]).float()
            mixed, labels = mixing(normalise(batch), labels, random)
            return mixed[key.rows].contiguous(memory_format=torch.channels_last), labels[key.rows]
        if augment is not None:
            batch = batch[key.rows]
        return normalise(batch), torch.from_numpy(self.split.labels[key.indices[key.rows]]).float()


def normalise(pictures: Tensor) -> Tensor:
    """uint8 to [-1, 1], in the channels-last layout, in which a CPU is twice as fast on these networks."""
    return (pictures.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def centre_crop(pictures: Tensor, image_size: int) -> Tensor:
    """The middle ``image_size`` pixels of ``(N, 3, H, W)``."""
    top, left = ((side - image_size) // 2 for side in pictures.shape[-2:])
    return pictures[..., top : top + image_size, left : left + image_size]


class JudgingBatches(Dataset):
    """A split in its order, cropped in the middle: ``number -> pictures (n, 3, S, S) in [-1, 1]``."""

    def __init__(self, split: Pictures, image_size: int, batch_size: int) -> None:
        self.split, self.image_size, self.batch_size = split, image_size, batch_size

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < len(self):
            raise IndexError(f"Batch {number} of {len(self)}.")
        start = number * self.batch_size
        rows = np.arange(start, min(start + self.batch_size, len(self.split)))
        return normalise(centre_crop(self.split.images(rows), self.image_size))


def judging_loader(split: Pictures, image_size: int, batch_size: int, workers: int | None = None) -> TorchLoader:
    """A loader of all pictures of a split in their order."""
    batches = JudgingBatches(split, image_size, batch_size)
    return TorchLoader(batches, batch_size=None, num_workers=reading_workers(split, workers))


def reading_workers(split: Pictures, workers: int | None) -> int:
    """How many processes read pictures: the given number; by default none, where pictures are ready in memory or in a
    map, and up to eight where each is decoded from a file of its own."""
    if workers is not None:
        return workers
    return min(8, torch.get_num_threads()) if getattr(split.source, "decodes", False) else 0


def training_loader(
    split: Pictures,
    image_size: int,
    batch_size: int,
    seed: int,
    workers: int | None = None,
    augmentation: str = "crop",
) -> DataLoader:
    """A loader of augmented batches, new every epoch (see `EpochBatches`)."""
    workers = reading_workers(split, workers)
    batches = EpochBatches(len(split), batch_size, seed)
    return DataLoader(
        TrainingBatches(split, image_size, seed, augmentation),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def check_size(stored: int, image_size: int, name: str) -> None:
    """Refuse pictures that are smaller than what the network takes.

    Raises:
        DatasetError: naming both sizes.
    """
    if stored < image_size:
        raise DatasetError(
            f"The pictures of {name!r} have {stored}x{stored} pixels, but the network takes {image_size}x{image_size}. "
            f"Choose an image_size of at most {stored}."
        )
