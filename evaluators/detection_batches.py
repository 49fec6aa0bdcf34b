"""Batches of pictures with boxes. As in `batches`, order and augmentation depend on the seed, the epoch and the batch's
number only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from nni.nas.evaluator.pytorch.lightning import DataLoader
from torch import Tensor
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset

from .batches import BatchKey, EpochBatches, normalise, reading_workers
from .datasets.detection import BoxSplit
from .detection_augmentation import AUGMENTATIONS, Sample

Targets = tuple[list[Tensor], list[Tensor]]  # of each picture boxes (n, 4) and ignored (n,)
AUGMENTATION_STREAM = 3  # beside the order of an epoch, which is keyed [seed, epoch]


class DetectionBatches(Dataset):
    """Augmented pictures: ``BatchKey -> pictures (N, 3, S, S) in [-1, 1], targets``."""

    def __init__(self, split: BoxSplit, image_size: int, seed: int, augmentation: str) -> None:
        self.split, self.image_size, self.seed = split, image_size, seed
        self.augment = AUGMENTATIONS[augmentation]

    def __getitem__(self, key: BatchKey) -> tuple[Tensor, Targets]:
        samples = []
        for place, index in list(enumerate(key.indices))[key.rows]:
            random = np.random.default_rng([self.seed, key.epoch, key.number, place, AUGMENTATION_STREAM])
            boxes, ignored = (torch.from_numpy(each[index]) for each in (self.split.boxes, self.split.ignored))
            picture = self.split.picture(index)
            if int(self.split.rows[index]) in getattr(self.split.source, "damaged", ()):
                ignored = torch.ones_like(ignored)  # there is nothing to see
            samples.append(self.augment(Sample(picture, boxes, ignored), self.image_size, random))
        pictures = normalise(torch.stack([sample.picture for sample in samples]))
        return pictures, ([sample.boxes for sample in samples], [sample.ignored for sample in samples])


class DetectionJudging(Dataset):
    """Pictures in their order at their own size; consecutive ones of one size make a batch:
    ``number -> indices, pictures (n, 3, H, W) in [-1, 1]``."""

    def __init__(self, split: BoxSplit, batch_size: int) -> None:
        self.split = split
        self.batches: list[list[int]] = []
        for index, size in enumerate(split.sizes.tolist()):
            last = self.batches[-1] if self.batches else []
            if last and len(last) < batch_size and split.sizes[last[0]].tolist() == size:
                last.append(index)
            else:
                self.batches.append([index])

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[list[int], Tensor]:
        if not 0 <= number < len(self):
            raise IndexError(f"Batch {number} of {len(self)}.")
        indices = self.batches[number]
        return indices, normalise(torch.stack([self.split.picture(index) for index in indices]))


def detection_training_loader(
    split: BoxSplit, image_size: int, batch_size: int, seed: int, workers: int | None = None, augmentation: str = "dsfd"
) -> DataLoader:
    """A loader of augmented batches, new every epoch (see `batches.EpochBatches`)."""
    number = reading_workers(split, workers)  # type: ignore[arg-type]
    return DataLoader(
        DetectionBatches(split, image_size, seed, augmentation),
        sampler=EpochBatches(len(split), batch_size, seed),
        batch_size=None,
        num_workers=number,
        persistent_workers=number > 0,
    )


def detection_judging_loader(
    split: BoxSplit, batch_size: int, workers: int | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """All pictures of a split in their order, see `DetectionJudging`."""
    number = reading_workers(split, workers)  # type: ignore[arg-type]
    yield from TorchLoader(DetectionJudging(split, batch_size), batch_size=None, num_workers=number)
