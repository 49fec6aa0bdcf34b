"""The losses are the formulas of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from evaluators.losses import binary_loss, cross_entropy_loss, pixel_wise_binary_loss


def test_pixel_wise_loss_is_equation_6_written_out():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 1, 2, 4).double(), torch.tensor([1, 0, 1])
    total = 0.0
    for n in range(3):
        for i in range(2):
            for j in range(4):
                p = 1 / (1 + math.exp(-logits[n, 0, i, j].item()))
                y = labels[n].item()
                total += (-y * math.log(p) - (1 - y) * math.log(1 - p)) / (2 * 4)
    assert pixel_wise_binary_loss(logits, labels).item() == pytest.approx(total / 3)


def test_binary_loss_sees_the_mean_of_the_map_only():
    logits, labels = torch.tensor([[[[3.0, -1.0]]], [[[0.0, 2.0]]]]), torch.tensor([1.0, 0.0])
    expected = (-math.log(1 / (1 + math.exp(-1))) - math.log(1 - 1 / (1 + math.exp(-1)))) / 2
    assert binary_loss(logits, labels).item() == pytest.approx(expected)
    assert binary_loss(logits.flip(-1), labels) == binary_loss(logits, labels)
    assert pixel_wise_binary_loss(logits, labels) != binary_loss(logits, labels)


@pytest.mark.parametrize("loss", [pixel_wise_binary_loss, binary_loss])
def test_large_logits_stay_finite(loss):
    logits = torch.tensor([200.0, -200.0]).view(2, 1, 1, 1).requires_grad_()
    value = loss(logits, torch.tensor([0, 1]))
    value.backward()
    assert value.item() == pytest.approx(200.0) and torch.isfinite(logits.grad).all()


def test_cross_entropy_is_equation_1_with_a_sum_of_exponentials():
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 2).double(), torch.tensor([1, 0, 1, 1, 0])
    total = sum(
        -math.log(math.exp(row[label]) / (math.exp(row[0]) + math.exp(row[1])))
        for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    )
    assert cross_entropy_loss(logits, labels).item() == pytest.approx(total / 5)
    assert cross_entropy_loss(logits, labels.float()) == cross_entropy_loss(logits, labels)


def test_cross_entropy_takes_class_1_for_live_and_stays_finite():
    logits = torch.tensor([[-300.0, 300.0], [300.0, -300.0]]).requires_grad_()
    assert cross_entropy_loss(logits, torch.tensor([1.0, 0.0])).item() == 0
    wrong = cross_entropy_loss(logits, torch.tensor([0.0, 1.0]))
    wrong.backward()
    assert wrong.item() == pytest.approx(600) and torch.isfinite(logits.grad).all()
