"""Distillation's losses: of outputs, of embeddings, and the head-aware loss with its identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evaluators.distillation_losses import embedding_loss, head_aware_loss, soft_logits_loss
from searchspaces.errors import ConfigError


def test_soft_logits_are_hintons():
    a, b, tau = torch.randn(5, 3), torch.randn(5, 3), 3.0
    p, q = (np.exp(x.numpy() / tau) / np.exp(x.numpy() / tau).sum(1, keepdims=True) for x in (b, a))
    expected = tau**2 * (p * np.log(p / q)).sum(1).mean()
    assert soft_logits_loss(a, b, tau).item() == pytest.approx(expected, rel=1e-5)
    assert soft_logits_loss(b, b, tau).item() == pytest.approx(0, abs=1e-6)


def test_maps_of_logits_are_outcomes_of_two_and_are_averaged_to_one_size():
    a, b, tau = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), 2.0
    p, q = (torch.sigmoid(x / tau) for x in (b, a))
    expected = tau**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    assert torch.allclose(soft_logits_loss(a, b, tau), expected, rtol=1e-4)
    large = b.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(soft_logits_loss(a, large, tau), expected, rtol=1e-4)


def test_embeddings_are_compared_by_their_direction():
    a = torch.randn(4, 8)
    assert embedding_loss(a, 3 * a).item() == pytest.approx(0, abs=1e-6)
    assert embedding_loss(a, -a).item() == pytest.approx(2)


def test_the_released_loss_is_zero_for_orthonormal_students_whatever_the_teacher_says():
    tokens = torch.linalg.qr(torch.randn(192, 128)).Q.T
    assert head_aware_loss(tokens, torch.randn(128, 768), "repo").item() < 1e-12


def test_the_released_loss_of_equal_tokens_grows_with_the_square_of_the_batch():
    for batch in (16, 128):
        tokens = torch.randn(1, 192).expand(batch, -1)
        taught = torch.randn(1, 768).expand(batch, -1)
        assert head_aware_loss(tokens, taught, "repo").item() == pytest.approx((batch - 1) ** 2 / 768, rel=1e-4)
    assert pytest.approx(21.0, abs=0.01) == (128 - 1) ** 2 / 768


def test_the_released_loss_is_of_the_students_gram_matrix():
    s, t = F.normalize(torch.randn(10, 6, dtype=torch.float64), dim=1), F.normalize(torch.randn(10, 9).double(), dim=1)
    assert torch.allclose(s @ (s.T @ t), (s @ s.T) @ t)
    expected = ((s @ s.T - torch.eye(10)) @ t).square().sum() / (10 * 9)
    assert head_aware_loss(s, t, "repo").item() == pytest.approx(expected.item(), rel=1e-4)


def test_two_clean_clusters_in_both_are_what_gram_mean_wants_and_the_released_loss_does_not():
    labels = torch.arange(128) % 2
    own, taught = torch.linalg.qr(torch.randn(192, 2)).Q.T[labels], torch.linalg.qr(torch.randn(768, 2)).Q.T[labels]
    assert head_aware_loss(own, taught, "repo").item() == pytest.approx((64 - 1) ** 2 / 768, rel=1e-3)
    assert head_aware_loss(own, taught, "gram_mean").item() < 1e-4


@pytest.mark.parametrize("mode", ["gram_mean", "headwise"])
def test_the_other_two_fall_when_the_student_copies_the_teacher(mode):
    shape = (32, 3, 64) if mode == "headwise" else (32, 192)
    torch.manual_seed(0)
    taught = torch.randn(2, *shape[1:])[torch.arange(32) % 2] + 0.1 * torch.randn(shape)
    unrelated = torch.randn(shape)
    losses = [
        head_aware_loss(part * taught + (1 - part) * unrelated, taught, mode).item() for part in (0.0, 0.3, 0.6, 1.0)
    ]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("mode", ["repo", "gram_mean", "headwise"])
def test_features_teach_the_student_and_not_the_teacher(mode):
    shapes = ((6, 2, 4), (6, 3, 4)) if mode == "headwise" else ((6, 8), (6, 12))
    own, taught = (torch.randn(shape, requires_grad=True) for shape in shapes)
    head_aware_loss(own, taught, mode).backward()
    assert own.grad is not None and own.grad.abs().sum() > 0 and taught.grad is None
    half = head_aware_loss(own.half(), taught.half(), mode)
    assert half.dtype == torch.float32 and torch.isfinite(half)


def test_heads_of_different_size_and_unknown_modes_are_refused():
    with pytest.raises(ConfigError, match="heads of one size"):
        head_aware_loss(torch.randn(2, 2, 4), torch.randn(2, 2, 8), "headwise")
    with pytest.raises(ConfigError, match="expected repo"):
        head_aware_loss(torch.randn(2, 4), torch.randn(2, 4), "other")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["repo", "gram_mean", "headwise"])
def test_features_are_compared_in_float32_under_mixed_precision(mode):
    shape = (32, 3, 64) if mode == "headwise" else (32, 192)
    own, taught = torch.randn(shape), torch.randn(shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16  # it does something here
        mixed = head_aware_loss(own, taught, mode)
    assert mixed.item() == head_aware_loss(own, taught, mode).item()


def test_orthonormal_students_lose_nothing_under_mixed_precision():
    tokens = torch.linalg.qr(torch.randn(192, 128)).Q.T
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head_aware_loss(tokens, torch.randn(128, 768), "repo").item() < 1e-12


def test_embeddings_of_different_length_are_refused():
    with pytest.raises(ConfigError, match="length 8, the teacher's 16"):
        embedding_loss(torch.randn(2, 8), torch.randn(2, 16))
