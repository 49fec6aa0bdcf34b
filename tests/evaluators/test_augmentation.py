"""Colour jitter against torchvision, HLS against colorsys, ISO noise against its formula, and batches that repeat."""

from __future__ import annotations

import colorsys
import time

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from evaluators.antispoofing import AntiSpoofing
from evaluators.augmentation import (
    AUGMENTATIONS,
    affine,
    colour_and_noise,
    colour_jitter,
    exposure,
    hls_to_rgb,
    iso_noise,
    pose,
    rgb_to_hls,
)
from evaluators.batches import BatchKey, TrainingBatches, normalise, training_loader
from searchspaces.errors import UnknownNameError

from ..faces import texture_data


def pictures(number: int = 4, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (number, 3, size, size), dtype=np.uint8))


# ---- HLS --------------------------------------------------------------------------------------------------------


def test_hls_is_that_of_colorsys():
    corners = [[r, g, b] for r in (0.0, 0.5, 1.0) for g in (0.0, 0.5, 1.0) for b in (0.0, 0.5, 1.0)]
    colours = np.concatenate([corners, np.random.default_rng(0).random((500, 3))])
    grid = torch.from_numpy(colours.T[None, :, :, None].copy())
    expected = np.array([colorsys.rgb_to_hls(*colour) for colour in colours.tolist()])
    found = rgb_to_hls(grid)[0, :, :, 0].T.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)
    back = np.array([colorsys.hls_to_rgb(*colour) for colour in expected.tolist()])
    np.testing.assert_allclose(
        hls_to_rgb(torch.from_numpy(expected.T[None, :, :, None].copy()))[0, :, :, 0].T, back, atol=1e-12
    )


def test_a_pose_turns_by_its_matrix_and_repeats_the_edge():
    """A picture whose value is its own column: an affine map of it is an affine function of the columns."""
    columns = torch.linspace(0, 1, 33).expand(1, 3, 33, 33)
    still = affine(columns, np.random.default_rng(0), turn=0, scale=0, stretch=0, shear=0, shift=0)
    assert torch.allclose(still, columns, atol=1e-6)
    shifted = affine(columns, np.random.default_rng(0), turn=0, scale=0, stretch=0, shear=0, shift=0.2)
    step = (shifted - columns)[0, 0, :, 10:20]
    assert step.std() < 1e-5 and 0 < abs(step.mean()) <= 0.1 * 33 / 32 + 1e-6
    assert shifted.min() >= 0 and shifted.max() <= 1


def test_exposure_is_a_gain_and_an_offset_of_each_picture():
    pictures = torch.rand(4, 3, 5, 5) * 0.2 + 0.4
    changed = exposure(pictures, np.random.default_rng(1))
    for old, new in zip(pictures, changed, strict=True):
        gain, offset = np.polyfit(old.flatten().numpy(), new.flatten().numpy(), 1)
        assert 0.7 <= gain <= 1.3 and -0.1 <= offset <= 0.1
        assert torch.allclose(old * gain + offset, new, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_pose_keeps_the_type_and_depends_on_the_generator_alone(dtype):
    pictures = (torch.rand(3, 3, 16, 16) * 255).to(dtype) if dtype == torch.uint8 else torch.rand(3, 3, 16, 16)
    first, second = (pose(pictures, np.random.default_rng(5)) for _ in range(2))
    assert first.dtype == dtype and torch.equal(first, second) and not torch.equal(first, pictures)


def test_every_byte_colour_survives_hls():
    values = torch.arange(0, 256, 5)
    grid = torch.stack(torch.meshgrid(values, values, values, indexing="ij")).flatten(1)[None, :, :, None]
    back = hls_to_rgb(rgb_to_hls(grid.float() / 255))
    assert torch.equal((back * 255).round().long(), grid)


# ---- ISO noise --------------------------------------------------------------------------------------------------


def test_luminance_noise_has_the_moments_of_the_formula():
    """Grey pictures keep saturation 0, so that RGB is L: the counts can be read back, and are of a Poisson law."""
    random = np.random.default_rng(0)
    stripes = torch.where(torch.arange(256) % 2 == 0, 0.3, 0.5).expand(2, 3, 256, 256).double()
    intensity, deviation = 0.4, 0.1
    mean = 255 * deviation * intensity
    noisy = iso_noise(stripes, random, intensity=(intensity, intensity), probability=1)
    for column, luminance in ((0, 0.3), (1, 0.5)):
        counts = (noisy[..., column::2] - luminance) / (1 - luminance) * 255
        assert torch.equal(noisy[:, 0], noisy[:, 1])
        np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
        assert counts.mean().item() == pytest.approx(mean, rel=0.01)
        assert counts[:, 0].var().item() == pytest.approx(mean, rel=0.03)


def test_hue_noise_is_normal_with_the_deviation_of_the_formula():
    flat = torch.tensor([0.8, 0.4, 0.4]).view(1, 3, 1, 1).expand(1, 3, 256, 256).double()  # hue 0, no spread in L
    shift, intensity = 0.05, 0.5
    noisy = iso_noise(
        flat, np.random.default_rng(0), colour_shift=(shift, shift), intensity=(intensity, intensity), probability=1
    )
    hue, luminance, saturation = rgb_to_hls(noisy)[0]
    degrees = ((hue + 0.5) % 1.0 - 0.5) * 360
    expected = 360 * shift * intensity
    assert degrees.mean().abs().item() < 0.1 and degrees.std().item() == pytest.approx(expected, rel=0.02)
    assert (degrees.abs() < expected).double().mean().item() == pytest.approx(0.683, abs=0.01)
    torch.testing.assert_close(luminance, torch.full_like(luminance, 0.6), atol=1e-6, rtol=0)
    assert saturation.min().item() == pytest.approx(saturation.max().item(), abs=1e-6)


def test_strengths_are_drawn_from_their_ranges_for_each_picture():
    """Of a two-tone grey picture, the mean count over 255 and the deviation is the intensity."""
    stripes = torch.where(torch.arange(64) % 2 == 0, 0.2, 0.6).expand(400, 3, 64, 64)
    noisy = iso_noise(stripes, np.random.default_rng(1), probability=1)
    found = ((noisy[:, 0] - stripes[:, 0]) / (1 - stripes[:, 0])).mean(dim=(1, 2)) / 0.2
    assert (
        0.09 < found.min() < 0.12 and 0.48 < found.max() < 0.52 and found.mean().item() == pytest.approx(0.3, abs=0.02)
    )


def test_half_of_the_pictures_are_changed():
    before = pictures(400, 8)
    for augment in (iso_noise, colour_jitter):
        changed = (augment(before, np.random.default_rng(0)) != before).flatten(1).any(1).float().mean()
        assert 0.42 < changed < 0.58
        assert torch.equal(augment(before, np.random.default_rng(0), probability=0.0), before)


# ---- colour jitter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "adjust", "middle"),
    [
        ("brightness", tv.adjust_brightness, 1),
        ("contrast", tv.adjust_contrast, 1),
        ("saturation", tv.adjust_saturation, 1),
        ("hue", tv.adjust_hue, 0),
    ],
)
def test_one_adjustment_alone_is_torchvisions_with_a_strength_of_its_own(name, adjust, middle):
    only = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, name: 0.2}
    before = pictures(6).float() / 255
    after = colour_jitter(before, np.random.default_rng(0), **only, probability=1)
    strengths = np.linspace(middle - 0.2, middle + 0.2, 401)
    nearest = []
    for old, new in zip(before, after, strict=True):
        errors = [(adjust(old, float(strength)) - new).abs().mean().item() for strength in strengths]
        assert min(errors) < 2e-3
        nearest.append(strengths[int(np.argmin(errors))])
    assert len(set(nearest)) == 6


def test_jitter_applies_the_adjustments_in_different_orders():
    """Brightness that clips, then contrast, is not contrast, then brightness: with one strength both occur."""
    before = (pictures(1, 16).float() / 255).expand(64, 3, 16, 16)
    after = colour_jitter(
        before, np.random.default_rng(0), brightness=0.9, contrast=0.9, saturation=0, hue=0, probability=1
    )
    assert after.min() >= 0 and after.max() <= 1
    random = np.random.default_rng(0)
    random.random(64)
    values = random.uniform([-0.9, -0.9, 0, 0], [0.9, 0.9, 0, 0], (64, 4)) + np.array([1, 1, 1, 0])
    orders = []
    for old, new, (light, contrast, _, _) in zip(before, after, values.tolist(), strict=True):
        first = tv.adjust_contrast(tv.adjust_brightness(old, light), contrast)
        second = tv.adjust_brightness(tv.adjust_contrast(old, contrast), light)
        errors = [(new - one).abs().max().item() for one in (first, second)]
        assert min(errors) < 1e-5
        if abs(errors[0] - errors[1]) > 1e-3:
            orders.append(int(np.argmin(errors)))
    assert {0, 1} == set(orders)


def test_types_are_kept_and_the_input_is_not_changed():
    before = pictures()
    copy = before.clone()
    after = colour_and_noise(before, np.random.default_rng(0))
    assert after.dtype == torch.uint8 and after.shape == before.shape and torch.equal(before, copy)
    floats = before.float() / 255
    same = colour_and_noise(floats, np.random.default_rng(0))
    assert same.dtype == torch.float32 and same.min() >= 0 and same.max() <= 1
    assert ((same * 255).round() - after.float()).abs().max() <= 1
    assert torch.equal(floats, before.float() / 255)


# ---- batches ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return texture_data()


def test_crops_alone_are_what_they_were(data):
    """Tops, lefts and flips are the first draws of the batch's generator, and with "crop" nothing else happens."""
    split, key = data.splits["train"], BatchKey(2, 3, [5, 0, 9, 14])
    random = np.random.default_rng([7, 2, 3])
    tops, lefts = random.integers(0, 5, (2, 4))
    flips = random.random(4) < 0.5
    crops = []
    for picture, top, left, flip in zip(split.images([5, 0, 9, 14]), tops, lefts, flips, strict=True):
        crop = picture[:, top : top + 20, left : left + 20]
        crops.append(crop.flip(-1) if flip else crop)
    expected = normalise(torch.stack(crops))
    for batches in (TrainingBatches(split, 20, 7), TrainingBatches(split, 20, 7, "crop")):
        assert torch.equal(batches[key][0], expected)
    coloured = normalise(colour_and_noise(torch.stack(crops), random))
    assert torch.equal(TrainingBatches(split, 20, 7, "colour")[key][0], coloured)
    assert not torch.equal(coloured, expected)


def test_coloured_batches_depend_on_seed_epoch_and_number_only(data):
    split = data.splits["train"]
    epochs = []
    for seed, workers in ((0, 0), (0, 2), (1, 0)):
        np.random.seed(len(epochs))
        torch.manual_seed(len(epochs))
        loader = training_loader(split, 20, 8, seed, workers=workers, augmentation="colour")
        epochs.append([batch[0] for batch in loader])
    assert all(torch.equal(a, b) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not torch.equal(epochs[0][0], epochs[2][0])
    assert all(batch.min() >= -1 and batch.max() <= 1 for batch in epochs[0])


def test_a_task_passes_its_augmentation_on(data):
    plain, coloured = AntiSpoofing(data, 20), AntiSpoofing(data, 20, augmentation="colour")
    split = data.splits["train"]
    first = [next(iter(task.loader(split, 8, seed=0)))[0] for task in (plain, coloured)]
    assert torch.equal(first[0], next(iter(training_loader(split, 20, 8, 0)))[0])
    assert torch.equal(first[1], next(iter(training_loader(split, 20, 8, 0, augmentation="colour")))[0])


def test_an_unknown_augmentation_is_answered_with_the_nearest(data):
    assert set(AUGMENTATIONS) == {"crop", "colour", "pose", "deit"}
    for refuse in (
        lambda: AntiSpoofing(data, 20, augmentation="color"),
        lambda: TrainingBatches(data.splits["train"], 20, 0, "color"),
    ):
        with pytest.raises(UnknownNameError, match=r"Unknown augmentation 'color'. Did you mean 'colour'\?"):
            refuse()


def test_the_cost_of_a_batch_is_bounded():
    """Measured at about 27 ms for 16 pictures of 128 pixels on one core; the bound leaves room for a busy machine."""
    batch, random = pictures(16, 128), np.random.default_rng(0)
    seconds = []
    for _ in range(8):
        started = time.process_time()
        colour_and_noise(batch, random)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.1
