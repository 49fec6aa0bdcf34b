"""DeiT's augmentation as HaTFAS takes it: boxes, erasing, mixing, and what it leaves alone."""

from __future__ import annotations

import random as python_random

import numpy as np
import pytest
import torch

from evaluators import tasks
from evaluators.antispoofing import AntiSpoofing
from evaluators.augmentation import AUGMENTATIONS, MIXINGS
from evaluators.batches import BatchKey, TrainingBatches
from evaluators.deit_augmentation import ERASED, ERASED_RATIO, deit, draw_box, erase, mix, rand_augment, resized_crops
from evaluators.losses import cross_entropy_loss
from evaluators.recipes import find_recipe
from searchspaces.errors import ConfigError

from ..faces import texture_data

PICTURES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 48, 48), dtype=np.uint8))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("step", [deit, resized_crops, rand_augment, erase])
def test_the_same_generator_gives_the_same_pictures_and_global_ones_are_left_alone(step):
    python_random.seed(5)
    np.random.seed(5)
    expected = python_random.random(), np.random.random()
    python_random.seed(5)
    np.random.seed(5)
    first = step(PICTURES, generator(1))
    assert (python_random.random(), np.random.random()) == expected
    assert torch.equal(first, step(PICTURES, generator(1))) and not torch.equal(first, step(PICTURES, generator(2)))
    assert first.shape == PICTURES.shape and first.dtype == torch.uint8


def test_float_pictures_stay_from_0_to_1():
    changed = deit(PICTURES.float() / 255, generator())
    assert changed.dtype == torch.float32 and changed.min() >= 0 and changed.max() <= 1
    assert torch.equal((changed * 255).round().to(torch.uint8), deit(PICTURES, generator()))


def test_boxes_have_the_share_and_the_ratio_that_is_asked_for():
    random, shares, ratios = generator(), [], []
    for _ in range(400):
        top, left, tall, wide = draw_box(random, (100, 120), ERASED, ERASED_RATIO)
        assert 0 <= top <= 100 - tall and 0 <= left <= 120 - wide
        shares.append(tall * wide / 12000)
        ratios.append(wide / tall)
    assert 0.015 < min(shares) < 0.04 and 0.25 < max(shares) < 0.35
    assert 0.25 < min(ratios) < 0.5 and 2 < max(ratios) < 3.7
    assert draw_box(random, (10, 1000), (0.9, 1.0), (0.01, 0.02)) is None


def test_a_quarter_of_the_pictures_loses_a_box_to_noise():
    black = torch.zeros(400, 3, 32, 32, dtype=torch.uint8)
    erased = erase(black, generator())
    touched = (erased > 0).flatten(1).any(1)
    assert 0.18 < touched.float().mean() < 0.32 and not black.any()
    noise = erased[erased > 0].float()
    assert 90 < noise.mean() < 150 and noise.std() > 30  # ImageNet's mean and deviation


def test_mixing_keeps_pictures_and_labels_in_step():
    """Pictures that are their own label: after mixing, a picture's mean is what its label says."""
    labels = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0, 0.0])
    pictures = labels.view(-1, 1, 1, 1).expand(-1, 3, 40, 40).contiguous()
    smoothed, kinds = set(), set()
    for seed in range(60):
        mixed, soft = mix(pictures, labels, generator(seed))
        expected = mixed.mean((1, 2, 3)) * 0.9 + 0.05
        assert torch.allclose(soft, expected, atol=1e-5)
        kinds.add(bool(((mixed > 1e-6) & (mixed < 1 - 1e-6)).any()))
        smoothed.update(soft.tolist())
    assert kinds == {True, False} and min(smoothed) >= 0.05 and max(smoothed) <= 0.95 + 1e-6
    assert torch.equal(pictures.mean((1, 2, 3)), labels)


def test_the_loss_of_a_mixed_label_is_the_mixture_of_both_losses():
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    attack, live = (cross_entropy_loss(logits, torch.full((2,), value)) for value in (0.0, 1.0))
    assert cross_entropy_loss(logits, torch.full((2,), 0.3)).item() == pytest.approx((0.7 * attack + 0.3 * live).item())
    whole = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 0]))
    assert cross_entropy_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(whole.item(), abs=1e-15)


def test_a_process_that_shares_a_batch_sees_its_rows_of_the_whole():
    split = texture_data(people=4, size=36).splits["train"]
    batches = TrainingBatches(split, 32, seed=3, augmentation="deit")
    indices = list(range(8))
    pictures, labels = batches[BatchKey(0, 1, indices)]
    assert pictures.shape == (8, 3, 32, 32) and pictures.min() >= -1 and pictures.max() <= 1
    assert ((labels > 0) & (labels < 1)).all() and labels.shape == (8,)
    half = batches[BatchKey(0, 1, indices, slice(4, 8))]
    assert torch.equal(half[0], pictures[4:]) and torch.equal(half[1], labels[4:])


def test_it_is_hatfas_recipe_and_is_refused_for_identities():
    assert (
        find_recipe("hatfas", "paper").augmentation == "deit" and find_recipe("hatfas", "quick").augmentation == "crop"
    )
    assert set(MIXINGS) <= set(AUGMENTATIONS)
    assert AntiSpoofing(texture_data(), 20, augmentation="deit").augmentation == "deit"
    with pytest.raises(ConfigError, match="'deit' mixes two pictures"):
        tasks.refuse_mixing("deit")
