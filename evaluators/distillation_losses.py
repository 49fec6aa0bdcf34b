"""What a student's outputs and features lose against a teacher's (HaTFAS, Zhang et al., Applied Soft Computing 2024).

All compute in float32 whatever they get, under autocast too.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from searchspaces.errors import ConfigError

Mode = Literal["repo", "gram_mean", "headwise"]
MODES: tuple[Mode, ...] = ("repo", "gram_mean", "headwise")
SHARPNESS = 10.0  # of the softmax over a student's heads: cosines are within [-1, 1], a plain one would hardly choose


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss of two tensors that computes in float32: autocast would round its matrix products to half precision."""

    @wraps(loss)
    def computed(student: Tensor, teacher: Tensor, *options: Any, **more: Any) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            return loss(student.float(), teacher.float(), *options, **more)

    return computed


@in_float32
def soft_logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``tau^2 KL(p_teacher || p_student)`` at temperature tau (Hinton et al., 2015), a scalar.

    Args:
        student, teacher: logits of classes ``(N, C)``, the divergence summed over classes and averaged over pictures;
            or maps of logits of one class ``(N, 1, m, n)``, the divergence of two outcomes averaged over the map. Of
            maps of different size the larger is averaged down.
        temperature: tau.
    """
    if student.ndim == 4:
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        student, teacher = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
        student, teacher = (torch.stack([torch.zeros_like(x), x], dim=-1).flatten(0, -2) for x in (student, teacher))
    own, wanted = (F.log_softmax(x / temperature, dim=-1) for x in (student, teacher))
    return temperature**2 * F.kl_div(own, wanted, reduction="batchmean", log_target=True)


@in_float32
def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``1 - cos`` of the embeddings ``(N, d)``, a scalar.

    The AirFace paper (section 3.3) guides a small network's embedding by a large one's and does not say how.

    Raises:
        ConfigError: for embeddings of different length.
    """
    if student.shape != teacher.shape:
        raise ConfigError(
            f"The student's embeddings have length {student.shape[1]}, the teacher's {teacher.shape[1]}: give a "
            "teacher with embeddings of the same length."
        )
    return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


@in_float32
def head_aware_loss(student: Tensor, teacher: Tensor, mode: Mode = "repo") -> Tensor:
    """How badly a layer of the student tells what the same layer of the teacher does, a scalar.

    ``repo`` is the loss of the released code. With normalised tokens S ``(N, Ds)`` and T ``(N, Dt)``::

        M = S^T T        L = mean((T - S M)^2)

    M is called the correlation matrix of the attention heads; no head occurs in it. As ``S M = (S S^T) T``, L is
    ``|(G - I) T|^2 / (N Dt)`` with the Gram matrix G of the student's tokens: it is 0 for a student with orthonormal
    tokens whatever the teacher says, and grows with N^2 where tokens are alike, as those of one class should be. It
    does not draw the student to the teacher. Two others do:

    ``gram_mean`` divides each row of G, without its negative entries, by its sum: the teacher's token of a picture is
    told by those of the pictures that the student finds similar.

    ``headwise`` takes tokens by head, ``(N, heads, d)``: each of the teacher's heads is told by a mixture of the
    student's, weighted by the softmax of their mean cosine over the batch; L is the mean squared error.

    Args:
        student, teacher: ``(N, Ds)`` and ``(N, Dt)``; for ``headwise`` ``(N, heads, d)`` with the same d. The teacher
            gets no gradient.

    Raises:
        ConfigError: for an unknown mode, or heads of different size.
    """
    student, teacher = F.normalize(student, dim=-1), F.normalize(teacher.detach(), dim=-1)
    if mode == "headwise":
        if student.ndim != 3 or teacher.ndim != 3 or student.shape[2] != teacher.shape[2]:
            raise ConfigError(
                f"headwise distillation needs heads of one size, but the student has {tuple(student.shape[1:])} and "
                f"the teacher {tuple(teacher.shape[1:])} (heads, channels): use features gram_mean."
            )
        cosines = torch.einsum("nid,njd->ij", student, teacher) / len(student)
        told = torch.einsum("ij,nid->njd", F.softmax(SHARPNESS * cosines, dim=0), student)
        return (teacher - told).square().mean()
    student, teacher = student.flatten(1), teacher.flatten(1)
    if mode == "repo":
        return (teacher - student @ (student.T @ teacher)).square().mean()
    if mode == "gram_mean":
        gram = (student @ student.T).clamp_min(0)
        return (teacher - (gram / gram.sum(dim=1, keepdim=True)) @ teacher).square().mean()
    raise ConfigError(f"features are {mode!r}; expected {', '.join(MODES)}.")
