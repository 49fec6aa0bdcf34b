"""The losses of face detection: ASFD's distance-based regression and margin-based classification (DRMC, Eq. 6-8).

The mining of hard negatives, which ASFD does not mention, is DSFD's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import distance_box_iou_loss

from evaluators.anchors import BACKGROUND, decode, match
from evaluators.sharing import mean, processes


def distance_iou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Eq. 6: ``1 - IoU + d^2 / c^2``, d between the centres, c the diagonal of the smallest box around both.

    torchvision's, which adds 1e-7 to the union and to c^2: below float32's resolution for boxes of a pixel and more,
    and the reason why two equal boxes without area have loss 1 and not 0. Half precision is computed in float32.

    Args:
        boxes: ``(n, 4)``, ``x0 <= x1``, ``y0 <= y1``.
        targets: ``(n, 4)``.

    Returns:
        ``(n,)``, from 0 for equal boxes towards 2 for far ones.
    """
    return distance_box_iou_loss(boxes, targets)


def margin_classification_loss(logits: Tensor, classes: Tensor, margin: float) -> Tensor:
    """Eq. 7 as cross-entropy with the true class's logit lowered by m: ``-log softmax(x - m onehot(y))_y``.

    The equation is printed with a sum over all classes i in place of the true one. Taken literally it also pulls the
    wrong class up and is least for equal probabilities, not for right ones; the text speaks of cross-entropy with a
    margin "between the classes", which this is. Both classes get the margin. The logits are not normalised, so that the
    margin is a lead that the true class must have, and no angle.

    Args:
        logits: ``(..., C)``.
        classes: ``(...)``, indices of the true classes.
        margin: m, in logits.

    Returns:
        ``(...)``.
    """
    logits, classes = at_least_float32(logits), classes.long()
    lowered = logits - margin * F.one_hot(classes, logits.shape[-1]).to(logits.dtype)
    return F.cross_entropy(lowered.flatten(0, -2), classes.flatten(), reduction="none").view(classes.shape)


def hard_negatives(losses: Tensor, positive: Tensor, candidate: Tensor, ratio: float = 3.0) -> Tensor:
    """The candidates with the largest losses, ``ratio`` of them for each positive of the same picture.

    A picture without a positive gives as many as one with one positive, so that pictures without faces teach something
    too (DSFD takes none from them). Fewer if there are fewer candidates.

    Args:
        losses: ``(..., A)``, each row a picture.
        positive: ``(..., A)`` bool.
        candidate: ``(..., A)`` bool, the anchors to choose from.
        ratio: negatives a positive.

    Returns:
        ``(..., A)`` bool.
    """
    wanted = (ratio * positive.sum(-1, keepdim=True).clamp(min=1)).long()
    largest = min(int(wanted.max()), losses.shape[-1])
    order = losses.detach().masked_fill(~candidate, -torch.inf).topk(largest, dim=-1).indices
    ranks = torch.arange(largest, device=losses.device).expand_as(order)
    return torch.zeros_like(candidate).scatter(-1, order, ranks < wanted) & candidate


def shot_loss(
    logits: Tensor,
    offsets: Tensor,
    anchors: Tensor,
    boxes: Sequence[Tensor],
    ignored: Sequence[Tensor],
    *,
    margin: float,
    regression_weight: float,
    ratio: float = 3.0,
    threshold: float = 0.4,
) -> dict[str, Tensor]:
    """One shot's half of Eq. 8: ``sum(l1 * DR + MC) / N`` over a batch, N its positive anchors (1 if there are none).

    DR is summed over the positive anchors' decoded boxes, MC over these and the hard negatives of each picture.

    Args:
        logits: ``(N, A, 2)``, background and face.
        offsets: ``(N, A, 4)``, see `evaluators.anchors.encode`.
        anchors: ``(A, 4)``.
        boxes: for each picture ``(n, 4)``, n may be 0.
        ignored: for each picture ``(n,)`` bool.
        margin: m of Eq. 7.
        regression_weight: lambda_1 of Eq. 8.
        ratio: hard negatives a positive.
        threshold: smallest IoU of a positive anchor.

    Returns:
        ``loss``, and detached ``classification`` and ``regression`` (before lambda_1; both divided by N) and
        ``positives`` (a count). Finite, with a gradient path to both inputs, for any boxes.
    """
    logits, offsets = at_least_float32(logits), at_least_float32(offsets)
    anchors = anchors.to(logits)
    boxes = [picture.to(logits) for picture in boxes]
    assigned = torch.stack(
        [match(anchors, own, skip.to(own.device), threshold) for own, skip in zip(boxes, ignored, strict=True)]
    )
    positive = assigned >= 0
    classification = margin_classification_loss(logits, positive, margin)
    counted = positive | hard_negatives(classification, positive, assigned == BACKGROUND, ratio)
    pictures, positions = torch.nonzero(positive, as_tuple=True)
    starts = torch.tensor([0, *(len(picture) for picture in boxes)], device=logits.device).cumsum(0)
    targets = torch.cat(boxes)[starts[pictures] + assigned[pictures, positions]]
    regression = distance_iou_loss(decode(anchors[positions], offsets[pictures, positions]), targets).sum()
    classified = classification[counted].sum()
    count = len(pictures)
    # of the whole batch, so that the mean over processes that share one is its loss
    divisor = max(float(mean(torch.tensor(float(count), device=logits.device))), 1 / processes())
    return {
        "loss": (regression_weight * regression + classified) / divisor,
        "classification": classified.detach() / divisor,
        "regression": regression.detach() / divisor,
        "positives": torch.tensor(count, device=logits.device),
    }


def drmc_loss(
    outputs: Tensor,
    anchors_first: Tensor,
    anchors_second: Tensor,
    boxes: Sequence[Tensor],
    ignored: Sequence[Tensor],
    *,
    margin: float = 0.35,
    regression_weight: float = 1.0,
    first_shot_weight: float = 1.0,
    ratio: float = 3.0,
    threshold: float = 0.4,
) -> dict[str, Tensor]:
    """Eq. 8: the second shot's loss plus ``lambda_2`` times the first shot's, see `shot_loss`.

    The paper prints no m, lambda_1 and lambda_2; the defaults are ours, the equal weights of the shots DSFD's.

    Args:
        outputs: ``(N, 2, A, 6)``: first and second shot; logits of background and face, then four offsets.
        anchors_first: ``(A, 4)`` of the first shot (`FIRST_SHOT_SCALE`).
        anchors_second: ``(A, 4)`` of the second shot (`SECOND_SHOT_SCALE`).
        boxes: for each picture ``(n, 4)``, n may be 0.
        ignored: for each picture ``(n,)`` bool.
        margin: m of Eq. 7.
        regression_weight: lambda_1.
        first_shot_weight: lambda_2.
        ratio: hard negatives a positive.
        threshold: smallest IoU of a positive anchor.

    Returns:
        ``loss``, and detached ``classification``, ``regression`` and ``positives`` of the second shot and
        ``first_loss``, ``first_classification``, ``first_regression``, ``first_positives`` of the first.
    """
    first, second = (
        shot_loss(
            outputs[:, shot, :, :2],
            outputs[:, shot, :, 2:],
            anchors,
            boxes,
            ignored,
            margin=margin,
            regression_weight=regression_weight,
            ratio=ratio,
            threshold=threshold,
        )
        for shot, anchors in enumerate((anchors_first, anchors_second))
    )
    reported = {f"first_{name}": value.detach() for name, value in first.items()}
    return {**second, **reported, "loss": second["loss"] + first_shot_weight * first["loss"]}


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision as float32, which sums over thousands of anchors need; float32 and float64 as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
