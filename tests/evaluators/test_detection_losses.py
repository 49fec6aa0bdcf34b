"""The DRMC loss against its equations written out."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from evaluators.anchors import BACKGROUND, anchor_boxes, decode, match
from evaluators.detection_losses import (
    distance_iou_loss,
    drmc_loss,
    hard_negatives,
    margin_classification_loss,
    shot_loss,
)

NOTHING = torch.zeros(0, dtype=torch.bool)


# ---- Eq. 6


def slow_distance_iou(b, g):
    width, height = min(b[2], g[2]) - max(b[0], g[0]), min(b[3], g[3]) - max(b[1], g[1])
    shared = max(width, 0) * max(height, 0)
    union = (b[2] - b[0]) * (b[3] - b[1]) + (g[2] - g[0]) * (g[3] - g[1]) - shared
    distance = ((b[0] + b[2] - g[0] - g[2]) / 2) ** 2 + ((b[1] + b[3] - g[1] - g[3]) / 2) ** 2
    diagonal = (max(b[2], g[2]) - min(b[0], g[0])) ** 2 + (max(b[3], g[3]) - min(b[1], g[1])) ** 2
    return 1 - shared / union + distance / diagonal


def random_boxes(count, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator, dtype=dtype) * 40
    return torch.cat([corners, corners + 3 + torch.rand(count, 2, generator=generator, dtype=dtype) * 40], dim=1)


def test_distance_loss_is_equation_6():
    boxes, targets = random_boxes(50, 1), random_boxes(50, 2)
    expected = [slow_distance_iou(b, g) for b, g in zip(boxes.tolist(), targets.tolist(), strict=True)]
    torch.testing.assert_close(distance_iou_loss(boxes, targets), torch.tensor(expected, dtype=torch.float64))


def test_distance_loss_is_0_for_equal_boxes_and_towards_2_for_far_ones():
    boxes = random_boxes(20, 0).float()
    torch.testing.assert_close(distance_iou_loss(boxes, boxes), torch.zeros(20), rtol=0, atol=1e-6)
    far = distance_iou_loss(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[1e4, 0, 1e4 + 1, 1]])).item()
    assert 1.999 < far < 2


def test_distance_loss_pulls_boxes_that_do_not_overlap_together():
    box = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    distance_iou_loss(box, torch.tensor([[50.0, 0, 60, 10]])).sum().backward()
    step = box.detach() - 10 * box.grad
    assert (step[0, 0] + step[0, 2]) / 2 > 5  # the centre moves towards the target
    assert distance_iou_loss(step, torch.tensor([[50.0, 0, 60, 10]])) < distance_iou_loss(
        box, torch.tensor([[50.0, 0, 60, 10]])
    )


# ---- Eq. 7


@pytest.mark.parametrize("shape", [(7,), (3, 5)])
def test_without_margin_it_is_cross_entropy(shape):
    torch.manual_seed(0)
    logits, classes = torch.randn(*shape, 4), torch.randint(0, 4, shape)
    expected = F.cross_entropy(logits.reshape(-1, 4), classes.flatten(), reduction="none").view(shape)
    assert torch.equal(margin_classification_loss(logits, classes, 0.0), expected)


def test_margin_loss_is_equation_7_of_the_true_class():
    logits, classes, m = [[0.3, -1.0], [2.0, 1.5], [-0.5, 0.1]], [0, 1, 1], 0.35
    expected = []
    for row, true in zip(logits, classes, strict=True):
        lowered = [x - m if index == true else x for index, x in enumerate(row)]
        expected.append(-math.log(math.exp(lowered[true]) / sum(math.exp(x) for x in lowered)))
    found = margin_classification_loss(torch.tensor(logits), torch.tensor(classes), m)
    assert found.tolist() == pytest.approx(expected)


def test_the_margin_s_derivative_is_that_of_the_true_logit_with_the_other_sign():
    torch.manual_seed(1)
    logits = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    classes, step = torch.tensor([0, 1, 1, 0, 1, 0]), 1e-5
    above = margin_classification_loss(logits, classes, 0.5 + step)
    below = margin_classification_loss(logits, classes, 0.5 - step)
    gradient = torch.autograd.grad(margin_classification_loss(logits, classes, 0.5).sum(), logits)[0]
    by_margin = (above - below) / (2 * step)
    torch.testing.assert_close(by_margin, -gradient[torch.arange(6), classes], rtol=1e-6, atol=1e-9)
    assert (by_margin > 0).all()


def test_the_margin_is_a_lead_of_the_true_logit():
    logits = torch.tensor([[1.35, 1.0], [1.0, 1.35]])
    found = margin_classification_loss(logits, torch.tensor([0, 1]), 0.35)
    torch.testing.assert_close(found, torch.full((2,), math.log(2)))


# ---- hard negatives


def test_three_negatives_of_largest_loss_for_each_positive():
    losses = torch.tensor([0.1, 9.0, 0.3, 0.9, 0.2, 0.8, 0.7, 0.6, 8.0])
    positive = torch.tensor([0, 1, 0, 0, 0, 0, 0, 0, 0]).bool()
    candidate = torch.tensor([1, 0, 1, 1, 1, 1, 1, 1, 0]).bool()
    assert torch.nonzero(hard_negatives(losses, positive, candidate)).flatten().tolist() == [3, 5, 6]
    assert torch.nonzero(hard_negatives(losses, positive, candidate, 1)).flatten().tolist() == [3]


def test_negatives_are_counted_for_each_picture_by_itself():
    torch.manual_seed(0)
    losses = torch.rand(4, 50)
    positive = torch.zeros(4, 50, dtype=torch.bool)
    for picture, count in enumerate([0, 1, 5, 14]):
        positive[picture, :count] = True
    chosen = hard_negatives(losses, positive, ~positive)
    assert chosen.sum(dim=1).tolist() == [3, 3, 15, 36]  # none positive counts as one; 36 are all there are
    assert not (chosen & positive).any()
    for picture in range(3):
        rest = ~positive[picture] & ~chosen[picture]
        assert losses[picture][chosen[picture]].min() >= losses[picture][rest].max()
        assert torch.equal(chosen[picture], hard_negatives(losses[picture], positive[picture], ~positive[picture]))


def test_no_candidate_no_negative():
    none = torch.zeros(5, dtype=torch.bool)
    assert not hard_negatives(torch.rand(5), ~none, none).any()


# ---- Eq. 8


def anchors_of_two():
    return anchor_boxes([(4, 4)], [16], 2.0), anchor_boxes([(4, 4)], [16], 4.0)


def slow_shot(logits, offsets, anchors, boxes, ignored, margin, weight):
    """One shot over a batch, by loops."""
    total, positives = 0.0, 0
    for picture in range(len(logits)):
        assigned = match(anchors, boxes[picture], ignored[picture]).tolist()
        own = [index for index, face in enumerate(assigned) if face >= 0]
        classification = margin_classification_loss(
            logits[picture], torch.tensor([int(face >= 0) for face in assigned]), margin
        ).tolist()
        negatives = sorted(
            (classification[index] for index, face in enumerate(assigned) if face == BACKGROUND), reverse=True
        )
        total += sum(classification[index] for index in own) + sum(negatives[: 3 * max(len(own), 1)])
        for index in own:
            box = decode(anchors[index], offsets[picture, index]).tolist()
            total += weight * slow_distance_iou(box, boxes[picture][assigned[index]].tolist())
        positives += len(own)
    return total / max(positives, 1), positives


def toy_batch():
    torch.manual_seed(0)
    outputs = torch.randn(3, 2, 16, 6, dtype=torch.float64)
    boxes = [
        torch.tensor([[0.0, 0, 30, 40], [33, 20, 60, 64]]),
        torch.zeros(0, 4),
        torch.tensor([[10.0, 5, 50, 60], [0, 0, 25, 30]]),
    ]
    return outputs, boxes, [torch.zeros(2).bool(), NOTHING, torch.tensor([False, True])]


def test_drmc_is_equation_8_by_loops():
    outputs, boxes, ignored = toy_batch()
    first, second = (anchors.double() for anchors in anchors_of_two())
    boxes = [picture.double() for picture in boxes]
    found = drmc_loss(outputs, first, second, boxes, ignored, margin=0.2, regression_weight=1.7, first_shot_weight=0.6)
    one, n1 = slow_shot(outputs[:, 0, :, :2], outputs[:, 0, :, 2:], first, boxes, ignored, 0.2, 1.7)
    two, n2 = slow_shot(outputs[:, 1, :, :2], outputs[:, 1, :, 2:], second, boxes, ignored, 0.2, 1.7)
    assert found["loss"].item() == pytest.approx(two + 0.6 * one)
    assert found["first_loss"].item() == pytest.approx(one)
    assert (found["first_positives"].item(), found["positives"].item()) == (n1, n2) and n1 > 0 and n2 > 0
    parts = found["classification"] + 1.7 * found["regression"]
    assert parts.item() == pytest.approx(two)


def test_a_shot_by_hand():
    """One face on the first of two anchors, which is 16 pixels wide and far from the other."""
    anchors = torch.tensor([[0.0, 0, 16, 16], [100, 100, 116, 116]])
    logits, offsets = torch.tensor([[[0.0, 1.0], [0.0, -2.0]]]), torch.zeros(1, 2, 4)
    face = torch.tensor([[0.0, 0, 16, 8]])
    found = shot_loss(logits, offsets, anchors, [face], [torch.zeros(1).bool()], margin=0.5, regression_weight=2.0)
    distance = 1 - 0.5 + 4**2 / (16**2 + 16**2)
    classification = math.log(1 + math.exp(-0.5)) + math.log(1 + math.exp(-1.5))
    assert found["regression"].item() == pytest.approx(distance)
    assert found["classification"].item() == pytest.approx(classification)
    assert found["loss"].item() == pytest.approx(2 * distance + classification)


NO_FACES = (torch.zeros(0, 4), NOTHING)
IGNORED = (torch.tensor([[0.0, 0, 30, 40], [10, 10, 50, 60]]), torch.ones(2).bool())
EVERYWHERE = (torch.tensor([[0.0, 0, 64, 64]]), torch.zeros(1).bool())
OUTSIDE = (torch.tensor([[900.0, 900, 950, 950]]), torch.zeros(1).bool())


@pytest.mark.parametrize("case", [NO_FACES, IGNORED, EVERYWHERE, OUTSIDE], ids=["empty", "ignored", "large", "outside"])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e4])
def test_the_loss_is_finite_and_reaches_every_output(case, size):
    torch.manual_seed(0)
    outputs = (size * torch.randn(2, 2, 16, 6)).requires_grad_()
    first, second = anchors_of_two()
    found = drmc_loss(outputs, first, second, [case[0]] * 2, [case[1]] * 2)
    found["loss"].backward()
    assert torch.isfinite(found["loss"]) and torch.isfinite(outputs.grad).all()
    if size < 2:
        assert (outputs.grad[:, :, :, :2].abs().sum(dim=(2, 3)) > 0).all()  # both shots of both pictures teach
    if case is not EVERYWHERE:
        assert found["positives"] == 0 and found["regression"] == 0


def test_an_ignored_face_is_not_blamed():
    outputs, _, _ = toy_batch()
    anchors = anchors_of_two()[1].double()
    face, logits, offsets = anchors[5:6], outputs[:1, 1, :, :2].clone(), outputs[:1, 1, :, 2:]
    logits[0, 5] = torch.tensor([-9.0, 9.0])  # the detector is sure of the ignored face
    options = {"margin": 0.0, "regression_weight": 1.0}
    kept = shot_loss(logits, offsets, anchors, [face], [torch.ones(1).bool()], **options)
    blamed = shot_loss(logits, offsets, anchors, [face[:0]], [NOTHING], **options)
    assert blamed["loss"] - kept["loss"] > 9


def test_half_precision_is_summed_in_float32():
    outputs, boxes, ignored = toy_batch()
    first, second = anchors_of_two()
    half = drmc_loss(outputs.bfloat16(), first, second, boxes, ignored)
    full = drmc_loss(outputs.bfloat16().float(), first, second, boxes, ignored)
    assert half["loss"].dtype == torch.float32 and torch.equal(half["loss"], full["loss"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(drmc_loss(outputs.bfloat16(), first, second, boxes, ignored)["loss"], full["loss"])


def test_gradient_steps_find_the_faces():
    torch.manual_seed(0)
    first, second = anchors_of_two()
    boxes, ignored = [torch.tensor([[2.0, 1, 30, 44], [30, 20, 64, 63]])], [torch.zeros(2).bool()]
    outputs = torch.zeros(1, 2, 16, 6, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        found = drmc_loss(outputs, first, second, boxes, ignored)
        found["loss"].backward()
        optimizer.step()
    assert found["regression"] < 0.02 and found["classification"] < 0.1
    scores = torch.softmax(outputs[0, 1, :, :2], dim=-1)[:, 1]
    assert torch.equal(scores > 0.5, match(second, boxes[0]) >= 0)
