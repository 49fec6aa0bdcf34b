"""Losses of face recognition: margins between people, on the cosines of normalised embeddings and centres.

Section 3.1 of the AirFace paper (Li et al., 2019). All take cosines ``(N, people)`` and labels ``(N,)``, compute in
float32 whatever they get, and are safe where a cosine is 1 or -1: it is kept `EPSILON` away from there, where the
derivative of the angle has no bound. An angle is thereby at least 0.0014 and at most pi - 0.0014.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6
SCALE = 64.0  # ArcFace's, and that of all public copies of Li-ArcFace; the AirFace paper does not give it


def _bounded(cosines: Tensor) -> Tensor:
    return cosines.float().clamp(-1 + EPSILON, 1 - EPSILON)


def _with_target(others: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """``others`` with the logit of the right person replaced, ``(N, people)``."""
    return torch.where(F.one_hot(labels, others.shape[1]).bool(), target, others)


def li_arcface_logits(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.4) -> Tensor:
    """Eq. 5: ``s (pi - 2 (theta + m)) / pi`` for the right person, ``s (pi - 2 theta) / pi`` for the others."""
    angles = _bounded(cosines).acos()
    return scale * (math.pi - 2 * (angles + margin * F.one_hot(labels, cosines.shape[1]))) / math.pi


def arcface_logits(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.5) -> Tensor:
    """Eq. 4: ``s cos(theta + m)`` for the right person, ``s cos theta`` for the others.

    As printed, also for angles above pi - m, where the target logit rises again; InsightFace's code has another
    function there. See `arcface_false_optimum`.
    """
    bounded = _bounded(cosines)
    target = bounded * math.cos(margin) - (1 - bounded.square()).sqrt() * math.sin(margin)
    return scale * _with_target(bounded, target, labels)


def cosface_logits(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.35) -> Tensor:
    """CosFace / AM-Softmax (Wang et al., 2018): ``s (cos theta - m)`` for the right person."""
    return scale * (cosines.float() - margin * F.one_hot(labels, cosines.shape[1]))


def normalised_softmax_logits(cosines: Tensor, labels: Tensor, *, scale: float = SCALE) -> Tensor:
    """Eq. 3, "N-Softmax": ``s cos theta`` for everybody."""
    return scale * cosines.float()


def li_arcface(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.4) -> Tensor:
    """Cross-entropy of `li_arcface_logits`; a scalar."""
    return F.cross_entropy(li_arcface_logits(cosines, labels, scale=scale, margin=margin), labels)


def arcface(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.5) -> Tensor:
    """Cross-entropy of `arcface_logits`; a scalar."""
    return F.cross_entropy(arcface_logits(cosines, labels, scale=scale, margin=margin), labels)


def cosface(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float = 0.35) -> Tensor:
    """Cross-entropy of `cosface_logits`; a scalar."""
    return F.cross_entropy(cosface_logits(cosines, labels, scale=scale, margin=margin), labels)


def normalised_softmax(cosines: Tensor, labels: Tensor, *, scale: float = SCALE) -> Tensor:
    """Cross-entropy of `normalised_softmax_logits`; a scalar."""
    return F.cross_entropy(normalised_softmax_logits(cosines, labels, scale=scale), labels)


def combined(cosines: Tensor, labels: Tensor, *, scale: float = SCALE, margin: float | None = None) -> Tensor:
    """The mean of `li_arcface` and `arcface`: the paper tunes with a "combined loss" (section 3.3) and says no more.

    Args:
        margin: of both; by default each has its own.
    """
    own = {} if margin is None else {"margin": margin}
    return (li_arcface(cosines, labels, scale=scale, **own) + arcface(cosines, labels, scale=scale, **own)) / 2


RECOGNITION_LOSSES: dict[str, Callable[..., Tensor]] = {
    "li_arcface": li_arcface,
    "arcface": arcface,
    "cosface": cosface,
    "n_softmax": normalised_softmax,
    "combined": combined,
}


def arcface_false_optimum(people: int, scale: float = SCALE, margin: float = 0.5) -> float:
    """Loss of ArcFace where all centres are equal and all embeddings opposite to them: ``ln(1 + (n - 1) e^(-s (1 -
    cos m)))``.

    Everybody is as far from everybody's centre as can be, yet the loss is small, because the target logit rises
    beyond pi - m. Training from scratch can end there.

    >>> round(arcface_false_optimum(1000), 2)
    0.33
    """
    return math.log1p((people - 1) * math.exp(-scale * (1 - math.cos(margin))))


def all_alike(name: str, people: int, scale: float = SCALE, margin: float | None = None) -> float:
    """Loss of ``arcface`` or ``li_arcface`` where all embeddings and all centres are equal.

    >>> round(all_alike("arcface", 1000), 1), round(all_alike("li_arcface", 1000), 1)
    (14.7, 23.2)
    """
    if name == "arcface":
        gap = scale * (1 - math.cos(0.5 if margin is None else margin))
    else:
        gap = 2 * scale * (0.4 if margin is None else margin) / math.pi
    return math.log(1 + (people - 1) * math.exp(gap))


def li_arcface_at_opposite(people: int, scale: float = SCALE, margin: float = 0.4) -> float:
    """Loss of Li-ArcFace at the same place: ``ln(1 + (n - 1) e^(2 s m / pi))``, larger than where training starts.

    >>> round(li_arcface_at_opposite(1000), 1)
    23.2
    """
    return math.log1p((people - 1) * math.exp(2 * scale * margin / math.pi))
