"""Losses of face recognition against their formulas, and where they are safe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evaluators.recognition_losses import (
    RECOGNITION_LOSSES,
    all_alike,
    arcface,
    arcface_false_optimum,
    arcface_logits,
    combined,
    li_arcface,
    li_arcface_at_opposite,
    li_arcface_logits,
)

MARGINS = {"li_arcface": 0.4, "arcface": 0.5, "cosface": 0.35, "n_softmax": 0.0}


def by_hand(name, cosines, labels, s=64.0):
    """Eq. 3 to 5 in float64, one picture after the other."""
    m, losses = MARGINS[name], []
    for row, label in zip(cosines.double().numpy(), labels.tolist(), strict=True):
        angles = np.arccos(row)
        if name == "li_arcface":
            logits = s * (np.pi - 2 * angles) / np.pi
            logits[label] = s * (np.pi - 2 * (angles[label] + m)) / np.pi
        else:
            logits = s * row
            logits[label] = s * (np.cos(angles[label] + m) if name == "arcface" else row[label] - m)
        top = logits.max()
        losses.append(top + np.log(np.exp(logits - top).sum()) - logits[label])
    return float(np.mean(losses))


@pytest.mark.parametrize("name", list(MARGINS))
def test_losses_are_their_formulas(name):
    cosines = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    labels = torch.tensor([0, 8, 3, 3, 5, 1])
    assert RECOGNITION_LOSSES[name](cosines, labels).item() == pytest.approx(by_hand(name, cosines, labels), rel=1e-5)


def test_the_combined_loss_is_the_mean_of_two():
    cosines, labels = torch.rand(4, 5), torch.arange(4)
    expected = (li_arcface(cosines, labels) + arcface(cosines, labels)) / 2
    assert torch.allclose(combined(cosines, labels), expected)
    same = (li_arcface(cosines, labels, margin=0.3) + arcface(cosines, labels, margin=0.3)) / 2
    assert torch.allclose(combined(cosines, labels, margin=0.3), same)


def test_li_arcface_falls_with_the_angle_at_one_rate():
    """d logit / d theta = -2 s / pi, at every angle: the paper's second advantage."""
    angles = torch.linspace(0.1, math.pi - 0.1, 50, dtype=torch.float64, requires_grad=True)
    labels = torch.zeros(50, dtype=torch.long)
    logits = li_arcface_logits(angles.cos()[:, None], labels)
    (slope,) = torch.autograd.grad(logits.sum(), angles)
    assert torch.allclose(slope, torch.full_like(slope, -2 * 64 / math.pi), rtol=1e-3)
    assert -2 * 64 / math.pi == pytest.approx(-40.7, abs=0.05)


def test_arcface_rises_again_beyond_pi_minus_m_and_li_arcface_does_not():
    angles, labels = torch.linspace(0.01, math.pi - 0.01, 400), torch.zeros(400, dtype=torch.long)
    rising = arcface_logits(angles.cos()[:, None], labels)[:, 0].diff() > 0
    assert not rising[angles[1:] < math.pi - 0.5].any() and rising[angles[:-1] > math.pi - 0.5].all()
    assert (li_arcface_logits(angles.cos()[:, None], labels)[:, 0].diff() < 0).all()


@pytest.mark.parametrize("people", [10, 1000])
def test_the_closed_forms_are_the_losses_of_these_configurations(people):
    centre, labels = F.normalize(torch.randn(16), dim=0), torch.arange(8)
    for sign, of_arcface, of_li in (
        (-1, arcface_false_optimum(people), li_arcface_at_opposite(people)),
        (1, all_alike("arcface", people), all_alike("li_arcface", people)),
    ):
        cosines = (sign * centre @ centre).expand(8, people)
        # both are kept a tenth of a degree away from where the angle has no derivative
        assert arcface(cosines, labels).item() == pytest.approx(of_arcface, rel=0.15)
        assert li_arcface(cosines, labels).item() == pytest.approx(of_li, rel=1e-3)
    assert arcface_false_optimum(1000) == pytest.approx(0.33, abs=0.01)


@pytest.mark.parametrize("name", list(RECOGNITION_LOSSES))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_losses_are_finite_where_cosines_are_one(name, dtype):
    cosines = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0]]).to(dtype).requires_grad_()
    loss = RECOGNITION_LOSSES[name](cosines, torch.tensor([0, 0]))
    loss.backward()
    assert loss.dtype == torch.float32 and torch.isfinite(loss)
    assert cosines.grad is not None and torch.isfinite(cosines.grad).all()


def test_the_benchmark_of_convergence_tells_the_losses_apart(capsys):
    import json

    from benchmarks.li_arcface import main

    main(seeds=1, steps=70, people=40, layers=3, noise=0.3, json=True)
    found = json.loads(capsys.readouterr().out)
    rows = {row["loss"]: row for row in found["rows"]}
    assert set(rows) == {"li_arcface", "arcface", "n_softmax"} and len(rows["arcface"]["accuracy"]) == 3
    assert rows["li_arcface"]["accuracy"][-1] > 0.5  # this easy toy is learnt
    assert found["places"]["arcface"]["opposite"] == pytest.approx(math.log1p(39 * math.exp(-64 * (1 - math.cos(0.5)))))
