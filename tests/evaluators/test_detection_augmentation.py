"""Augmentation of pictures with boxes: the boxes stay on what they mark."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluators.detection_augmentation import (
    AUGMENTATIONS,
    LARGEST_SCALE,
    SMALLEST_FACE,
    Sample,
    crop_resized,
    data_anchor_crop,
    mirror,
    photometric,
    plain_crop,
    ssd_crop,
)

CROPS = {"data_anchor": data_anchor_crop, "ssd": ssd_crop, "plain": plain_crop}


def marked(height=200, width=300, seed=0, faces=4):
    """Dark noise with a square of its own bright colour at each box; none overlap."""
    random = np.random.default_rng(seed)
    picture = torch.from_numpy(random.integers(0, 40, (3, height, width), dtype=np.uint8))
    boxes = []
    for index in range(faces):
        side = int(random.integers(18, 60))
        left = index * (width // faces) + int(random.integers(0, width // faces - side + 1))
        top = int(random.integers(0, height - side))
        picture[:, top : top + side, left : left + side] = 120 + 30 * index
        boxes.append([left, top, left + side, top + side])
    return Sample(picture, torch.tensor(boxes, dtype=torch.float32), torch.zeros(faces, dtype=torch.bool))


def check(sample, image_size):
    """Every box holds its colour in the middle, and nothing of it lies far outside of its boxes."""
    assert sample.picture.shape == (3, image_size, image_size) and sample.picture.dtype == torch.uint8
    assert len(sample.boxes) == len(sample.ignored)
    assert bool((sample.boxes >= 0).all() and (sample.boxes <= image_size).all())
    for box, ignored in zip(sample.boxes.tolist(), sample.ignored.tolist(), strict=True):
        x0, y0, x1, y1 = box
        if min(x1 - x0, y1 - y0) < SMALLEST_FACE:
            assert ignored
            continue
        inside = sample.picture[0, int(y0) + 2 : int(y1) - 2, int(x0) + 2 : int(x1) - 2].float()
        assert inside.numel() == 0 or (inside.min() > 100 and inside.max() - inside.min() < 12)


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size", [(200, 300), (300, 200), (90, 400)])
def test_boxes_stay_on_their_faces(crop, size):
    for seed in range(25):
        random = np.random.default_rng(seed)
        found = CROPS[crop](marked(*size, seed=seed, faces=3 if size[1] < 300 else 4), 128, random)
        check(found, 128)


@pytest.mark.parametrize("crop", CROPS)
def test_pictures_without_a_face_are_cropped_too(crop):
    sample = marked()._replace(boxes=torch.zeros(0, 4), ignored=torch.zeros(0, dtype=torch.bool))
    found = CROPS[crop](sample, 64, np.random.default_rng(0))
    assert found.picture.shape == (3, 64, 64) and found.boxes.shape == (0, 4)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_depends_on_its_generator_only(name):
    first, second, other = (AUGMENTATIONS[name](marked(), 96, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.picture, other.picture)


def test_two_mirrors_are_none():
    sample = marked()
    again = mirror(mirror(sample))
    assert all(torch.equal(a, b) for a, b in zip(sample, again, strict=True))
    once = mirror(sample)
    assert torch.equal(once.boxes[0, [0, 2]], 300 - sample.boxes[0, [2, 0]])


def test_data_anchors_change_the_size_of_a_face_within_bounds():
    widths = []
    for seed in range(60):
        sample = marked(400, 400, faces=1, seed=seed)
        found = data_anchor_crop(sample, 256, np.random.default_rng(seed))
        assert len(found.boxes) == 1  # the drawn face is in the crop
        scale = (found.boxes[0, 2] - found.boxes[0, 0]) / (sample.boxes[0, 2] - sample.boxes[0, 0])
        assert scale <= LARGEST_SCALE * 1.03
        widths.append(float(found.boxes[0, 2] - found.boxes[0, 0]))
    assert min(widths) < 16 and max(widths) > 45


def test_a_face_whose_centre_is_outside_is_dropped_and_beyond_the_picture_is_grey():
    sample = marked(100, 100, faces=1)._replace(boxes=torch.tensor([[10.0, 10, 30, 30]]))
    found = crop_resized(sample, 25, 25, 50, 50)
    assert len(found.boxes) == 0
    found = crop_resized(sample, -50, -50, 100, 100)
    assert found.boxes.tolist() == [[60, 60, 80, 80]]
    assert (found.picture[:, :49, :] == 127).all() and (found.picture[:, 51:, 51:] != 127).any()


def test_colours_change_and_boxes_do_not():
    sample, changed = marked(), 0
    for seed in range(10):
        changed += not torch.equal(photometric(sample.picture, np.random.default_rng(seed)), sample.picture)
    assert changed >= 8
