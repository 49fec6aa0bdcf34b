"""What training does to a picture with boxes: the recipe of DSFD, which ASFD follows (Li et al., CVPR 2019, 3.4).

With a chance of 2 in 5 *data-anchor sampling* (PyramidBox, Tang et al., ECCV 2018, section 3.3): a face is drawn, and
the picture is scaled so that the face gets the size of a drawn anchor. Otherwise a crop as for SSD (Liu et al., ECCV
2016, section 2.2). Then a mirror image and photometric distortion. A face whose centre a crop leaves out is dropped;
what remains too small is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

Random = np.random.Generator
DATA_ANCHOR_CHANCE = 0.4
ANCHORS = (16, 32, 64, 128, 256, 512)  # of the second shot, pixels
SMALLEST_FACE = 6.0  # pixels: smaller ones are ignored
LARGEST_SCALE = 2.0  # of a picture: more shows no face better
SSD_OVERLAPS = (None, 0.1, 0.3, 0.5, 0.7, 0.9)
SSD_TRIALS = 30


class Sample(NamedTuple):
    """A picture ``(3, H, W)`` uint8 with boxes ``(n, 4)`` in pixels, of which some are ignored ``(n,)``."""

    picture: Tensor
    boxes: Tensor
    ignored: Tensor


def crop_resized(sample: Sample, left: float, top: float, side: float, image_size: int) -> Sample:
    """The square of ``side`` pixels at (left, top), scaled to ``image_size``; beyond the picture it is grey.

    Boxes whose centre is outside are dropped, those that end up smaller than `SMALLEST_FACE` are ignored.
    """
    height, width = sample.picture.shape[-2:]
    full = max(1, round(side))
    x0, y0 = round(left), round(top)
    x1, y1 = x0 + full, y0 + full
    inside = sample.picture[:, max(0, y0) : max(0, min(y1, height)), max(0, x0) : max(0, min(x1, width))]
    scale = image_size / full
    # the part of the result that the picture covers
    place = [round(scale * (bound - origin)) for bound, origin in ((max(0, x0), x0), (max(0, y0), y0))]
    ends = [round(scale * (bound - origin)) for bound, origin in ((min(x1, width), x0), (min(y1, height), y0))]
    result = torch.full((3, image_size, image_size), 127, dtype=torch.uint8)
    wanted = (ends[1] - place[1], ends[0] - place[0])
    if min(*wanted, *inside.shape[-2:]) > 0:
        part = tv.resize(inside, list(wanted), antialias=True) if inside.shape[-2:] != wanted else inside
        result[:, place[1] : ends[1], place[0] : ends[0]] = part
    boxes = (sample.boxes - torch.tensor([x0, y0, x0, y0], dtype=torch.float32)) * scale
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = ((centres > 0) & (centres < image_size)).all(dim=1)
    boxes = boxes[kept].clamp(0, image_size)
    small = (
        (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) < SMALLEST_FACE if len(boxes) else torch.zeros(0, dtype=torch.bool)
    )
    return Sample(result, boxes, sample.ignored[kept] | small)


def data_anchor_crop(sample: Sample, image_size: int, random: Random) -> Sample:
    """PyramidBox's data-anchor sampling: a drawn face of size s gets a size near a drawn anchor.

    The anchor is one of those up to the next larger than the nearest to s, and the face's new size is drawn from half
    to twice as much; the picture is not enlarged by more than `LARGEST_SCALE`. The square of ``image_size`` then is
    anywhere that shows the face.
    """
    targets = torch.nonzero(~sample.ignored).flatten()
    if not len(targets):
        return ssd_crop(sample, image_size, random)
    x0, y0, x1, y1 = sample.boxes[targets[int(random.integers(len(targets)))]].tolist()
    face = max(1.0, float(np.sqrt((x1 - x0) * (y1 - y0))))
    nearest = int(np.argmin([abs(anchor - face) for anchor in ANCHORS]))
    anchor = ANCHORS[int(random.integers(min(nearest + 1, len(ANCHORS) - 1) + 1))]
    wanted = min(float(random.uniform(anchor / 2, min(anchor * 2, image_size))), LARGEST_SCALE * face)
    side = image_size * face / wanted
    left = _start(x0, x1, side, sample.picture.shape[-1], random)
    top = _start(y0, y1, side, sample.picture.shape[-2], random)
    return crop_resized(sample, left, top, side, image_size)


def _start(low: float, high: float, side: float, length: int, random: Random) -> float:
    """A start of an interval of ``side`` that holds [low, high] if it can, and does not leave [0, length] if it can."""
    first, last = (high - side, low) if side >= high - low else (low, high - side)
    inner_first, inner_last = max(first, min(0.0, length - side)), min(last, max(0.0, length - side))
    if inner_first > inner_last:
        inner_first, inner_last = first, last
    return float(random.uniform(min(inner_first, inner_last), max(inner_first, inner_last)))


def ssd_crop(sample: Sample, image_size: int, random: Random) -> Sample:
    """A square of 0.3 to 1 of the shorter side that overlaps a face by a drawn IoU at least, or the whole picture."""
    height, width = sample.picture.shape[-2:]
    shorter = min(height, width)
    for _ in range(SSD_TRIALS):
        overlap = SSD_OVERLAPS[int(random.integers(len(SSD_OVERLAPS)))]
        if overlap is None:
            break
        side = shorter * float(random.uniform(0.3, 1.0))
        left, top = float(random.uniform(0, width - side)), float(random.uniform(0, height - side))
        if not len(sample.boxes):
            return crop_resized(sample, left, top, side, image_size)
        # SSD's overlap is that of a face with the crop; of faces much smaller than a crop, their share inside it
        lows = torch.maximum(sample.boxes[:, :2], torch.tensor([left, top], dtype=torch.float32))
        highs = torch.minimum(sample.boxes[:, 2:], torch.tensor([left + side, top + side], dtype=torch.float32))
        shared = (highs - lows).clamp(min=0).prod(dim=1) / (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(dim=1)
        if bool((shared >= overlap).any()):
            return crop_resized(sample, left, top, side, image_size)
    longer = max(height, width)
    return crop_resized(sample, (width - longer) / 2, (height - longer) / 2, longer, image_size)


def plain_crop(sample: Sample, image_size: int, random: Random) -> Sample:
    """A square of half to all of the shorter side, anywhere."""
    height, width = sample.picture.shape[-2:]
    side = min(height, width) * float(random.uniform(0.5, 1.0))
    left, top = float(random.uniform(0, width - side)), float(random.uniform(0, height - side))
    return crop_resized(sample, left, top, side, image_size)


def mirror(sample: Sample) -> Sample:
    """The mirror image."""
    width = sample.picture.shape[-1]
    boxes = sample.boxes.clone()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(sample.picture.flip(-1), boxes, sample.ignored)


def photometric(picture: Tensor, random: Random) -> Tensor:
    """SSD's distortion: brightness, contrast, saturation and hue, each with a chance of one half.

    Args:
        picture: ``(3, H, W)`` uint8.
    """
    chances, values = random.random(4) < 0.5, random.uniform(-1.0, 1.0, 4)
    if chances[0]:
        picture = tv.adjust_brightness(picture, 1 + 0.3 * float(values[0]))
    if chances[1]:
        picture = tv.adjust_contrast(picture, 1 + 0.5 * float(values[1]))
    if chances[2]:
        picture = tv.adjust_saturation(picture, 1 + 0.5 * float(values[2]))
    if chances[3]:
        picture = tv.adjust_hue(picture, 0.05 * float(values[3]))
    return picture


def dsfd(sample: Sample, image_size: int, random: Random) -> Sample:
    """The recipe of DSFD: see the module."""
    crop = data_anchor_crop if random.random() < DATA_ANCHOR_CHANCE else ssd_crop
    sample = crop(sample, image_size, random)
    if random.random() < 0.5:
        sample = mirror(sample)
    return sample._replace(picture=photometric(sample.picture, random))


def crop_and_mirror(sample: Sample, image_size: int, random: Random) -> Sample:
    """A random crop and a mirror image, no change of colours."""
    sample = plain_crop(sample, image_size, random)
    return mirror(sample) if random.random() < 0.5 else sample


AUGMENTATIONS: dict[str, Callable[[Sample, int, Random], Sample]] = {"dsfd": dsfd, "crop": crop_and_mirror}
