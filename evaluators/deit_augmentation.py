"""What DeiT's training does to pictures and labels, which the released code of HaTFAS takes over.

Random resized crops, RandAugment (``rand-m9-mstd0.5-inc1``, timm's), random erasing, then mixup or cutmix of whole
batches with smoothed labels. All randomness comes from the generator that is given.
"""

from __future__ import annotations

import random as python_random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: noise that erases is of this kind
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop: share of the area, width to height
ERASED, ERASED_RATIO, ERASING = (0.02, 1 / 3), (0.3, 3.3), 0.25  # share of the area, its ratio, the probability
MIXUP, CUTMIX, SWITCH = 0.8, 1.0, 0.5  # alphas of both Beta distributions, probability of cutmix
SMOOTHING = 0.1
ATTEMPTS = 10


def deit(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """`resized_crops`, RandAugment, then `erase`: ``(N, 3, H, W)`` uint8, or float from 0 to 1, to the same."""
    if pictures.is_floating_point():
        return deit((pictures * 255 + 0.5).clamp(0, 255).to(torch.uint8), random).to(pictures.dtype) / 255
    return erase(rand_augment(resized_crops(pictures, random), random), random)


def resized_crops(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """A part of each picture, scaled to its size, ``(N, 3, H, W)`` uint8."""
    height, width = pictures.shape[-2:]
    crops = []
    for picture in pictures:
        top, left, tall, wide = draw_box(random, (height, width), SCALE, RATIO) or (0, 0, height, width)
        box = (top, left, tall, wide)
        crops.append(tv.resized_crop(picture, *box, [height, width], InterpolationMode.BICUBIC, antialias=True))
    return torch.stack(crops)


def draw_box(
    random: np.random.Generator, size: tuple[int, int], share: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int] | None:
    """Top, left, height and width of a random box with so much of the area and such a ratio of width to height; None if
    no attempt fits."""
    height, width = size
    for _ in range(ATTEMPTS):
        area = random.uniform(*share) * height * width
        aspect = np.exp(random.uniform(*np.log(ratio)))
        wide, tall = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < wide <= width and 0 < tall <= height:
            return int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1)), tall, wide
    return None


def rand_augment(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """timm's RandAugment of each picture, ``(N, 3, H, W)`` uint8."""
    transform, changed = _rand_augment(pictures.shape[-1]), []
    with seeded(random):
        for picture in pictures:
            shown = transform(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()))
            changed.append(torch.from_numpy(np.array(shown)).permute(2, 0, 1))
    return torch.stack(changed)


@cache
def _rand_augment(size: int) -> Any:
    from timm.data.auto_augment import rand_augment_transform

    fill = tuple(round(255 * value) for value in MEAN)
    return rand_augment_transform("rand-m9-mstd0.5-inc1", {"translate_const": int(0.45 * size), "img_mean": fill})


@contextmanager
def seeded(random: np.random.Generator) -> Iterator[None]:
    """Python's and numpy's global generators, which timm draws from, seeded by the given one inside the block."""
    before, numpy_before = python_random.getstate(), np.random.get_state()
    seed = int(random.integers(2**32))
    python_random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        python_random.setstate(before)
        np.random.set_state(numpy_before)


def erase(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """Noise in a box of some of the pictures, ``(N, 3, H, W)`` uint8."""
    changed = pictures.clone()
    for picture in changed:
        box = draw_box(random, (picture.shape[-2], picture.shape[-1]), ERASED, ERASED_RATIO)
        if random.random() >= ERASING or box is None:
            continue
        top, left, tall, wide = box
        noise = np.array(MEAN)[:, None, None] + np.array(STD)[:, None, None] * random.standard_normal((3, tall, wide))
        picture[:, top : top + tall, left : left + wide] = torch.from_numpy((255 * noise).clip(0, 255).astype(np.uint8))
    return changed


def mix(pictures: Tensor, labels: Tensor, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix of a batch with itself in reverse, one strength for all, and smoothed labels.

    Args:
        pictures: ``(N, 3, H, W)`` float. labels: ``(N,)`` float, 1 live, 0 attack.

    Returns:
        Both mixed; a label is now the probability of live, with `SMOOTHING` shared by the two classes.
    """
    smooth = labels * (1 - SMOOTHING) + SMOOTHING / 2
    if random.random() < SWITCH:
        height, width = pictures.shape[-2:]
        cut = np.sqrt(1 - random.beta(CUTMIX, CUTMIX))
        y, x = random.integers(height), random.integers(width)
        top, bottom = np.clip([y - int(height * cut) // 2, y + int(height * cut) // 2], 0, height).tolist()
        left, right = np.clip([x - int(width * cut) // 2, x + int(width * cut) // 2], 0, width).tolist()
        mixed = pictures.clone()
        mixed[..., top:bottom, left:right] = pictures.flip(0)[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        share = float(random.beta(MIXUP, MIXUP))
        mixed = pictures * share + pictures.flip(0) * (1 - share)
    return mixed, smooth * share + smooth.flip(0) * (1 - share)
