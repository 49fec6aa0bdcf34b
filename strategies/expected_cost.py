"""The expected cost of mixed cells with its gradient, both written down, since a search asks for them in every step.

`CostTable.expected` says what the expectation is. Left to autograd it is a hundred operations on a few numbers, each of
which costs a call; here it is a few calls for all cells together, and the gradient comes with the value. In double
precision. ``c`` is a cell, ``e`` and ``f`` are edges, ``o`` is an operation, ``k`` a cost.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .kernels import once

Array = NDArray[np.float64]


class ExpectedCellCost(torch.autograd.Function):
    """Expected costs ``(k,)`` of all cells; differentiable once.

    Args:
        alpha: ``(c, e, o)``.
        beta: ``(c, e)``, logarithms of the edges' weights up to a constant for each node.
        costs: ``(c, e, o, k)``.
        barred: ``(o,)``, minus infinity for an operation that no kept edge has, else 0.
        targets: of each e, the node that it enters.
    """

    @staticmethod
    def forward(ctx: Any, alpha: Tensor, beta: Tensor, costs: Array, barred: Array, targets: tuple[int, ...]) -> Tensor:
        ctx.like = alpha, beta
        numbers = [tensor.detach().cpu().double().numpy() for tensor in (alpha, beta)]
        value, ctx.by_alpha, ctx.by_beta = expected_cell_costs(numbers[0], numbers[1], costs, barred, targets)
        return torch.from_numpy(value)

    @staticmethod
    @once
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        felt, (alpha, beta) = gradient.numpy(), ctx.like
        by_alpha, by_beta = (torch.from_numpy(jacobian @ felt) for jacobian in (ctx.by_alpha, ctx.by_beta))
        return by_alpha.to(alpha), by_beta.to(beta), None, None, None


def expected_cell_costs(
    alpha: Array, beta: Array, costs: Array, barred: Array, targets: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Expected costs, arguments as of `ExpectedCellCost`.

    With q_eo the probability of operation o if edge e is kept, and r_e that it is kept, the expectation is
    ``sum_e r_e sum_o q_eo c_eok``. A node keeps the pair {e, f} with a probability proportional to ``exp(s_e + s_f)``
    (conditional Poisson sampling, see `CostTable.expected`), so ``d r_f / d s_e = P(e and f) - r_e r_f`` for two edges
    of a node, and ``r_e - r_e^2`` for e itself.

    Returns:
        The costs (k,), and their derivatives by alpha (c, e, o, k) and by beta (c, e, k).
    """
    every, of_every = _softmax(alpha)
    kept_one, of_kept = _softmax(alpha + barred)
    pairs, kept = _kept_pairs(of_kept - of_every + beta, targets)
    of_edge = np.einsum("ceo,ceok->cek", kept_one, costs)
    felt = kept[..., None] * of_edge
    by_strength = pairs @ of_edge + felt - kept[..., None] * (_same_node(targets) @ felt)
    inner = costs - of_edge[:, :, None]
    inner *= kept[..., None, None]
    inner += by_strength[:, :, None]
    inner *= kept_one[..., None]
    inner -= every[..., None] * by_strength[:, :, None]
    return felt.sum(axis=(0, 1)), inner, by_strength


def _softmax(logs: Array) -> tuple[Array, Array]:
    """Softmax over the last axis, and the logarithm of its denominator."""
    top = logs.max(axis=-1, keepdims=True)
    shares = np.exp(logs - top)
    total = shares.sum(axis=-1, keepdims=True)
    return shares / total, (top + np.log(total))[..., 0]


@functools.cache
def _same_node(targets: tuple[int, ...]) -> Array:
    """(e, e): 1 where two edges, or an edge and itself, enter one node."""
    nodes = np.asarray(targets)
    return (nodes[:, None] == nodes).astype(float)


@functools.cache
def _barred_pairs(targets: tuple[int, ...]) -> tuple[Array, Array]:
    """(e, e): minus infinity where edges are no pair of one node, else 0; without and with an edge and itself."""
    same = _same_node(targets) > 0
    apart = same & ~np.eye(len(targets), dtype=bool)
    return np.where(apart, 0.0, -np.inf), np.where(same, 0.0, -np.inf)


def _kept_pairs(strengths: Array, targets: tuple[int, ...]) -> tuple[Array, Array]:
    """Probabilities that a node keeps two edges together, (c, e, e) with zeros on the diagonal, and each, (c, e)."""
    apart, same = _barred_pairs(targets)
    together = strengths[:, :, None] + strengths[:, None, :] + apart
    best = (together.max(axis=2)[:, None, :] + same).max(axis=2)  # of the node that an edge enters
    weights = np.exp(together - best[:, :, None])
    pairs = weights / (weights.sum(axis=2) @ _same_node(targets) / 2)[:, :, None]
    return pairs, pairs.sum(axis=2)
