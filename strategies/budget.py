"""What a search costs, in multiply-accumulates of all its passes, so that a baseline can be given the same."""

from __future__ import annotations

from typing import Literal

Gradient = Literal["first", "exact", "difference"]

# passes over the supernet for one picture of a batch: a forward pass is 1, a backward pass to the inputs 1 (which also
# gives the architecture's gradient), and to the weights 1 more
WEIGHT_STEP = 3
ARCHITECTURE_STEP: dict[Gradient, int] = {
    "first": 2,  # L_val, back to the architecture only
    # L_train to the weights, L_val to both; then L_train to the weights with a graph and back through it (about 4) ...
    "exact": 3 + 3 + 3 + 4,
    # ... or twice L_train back to the architecture
    "difference": 3 + 3 + 2 * 2,
}


def one_shot_macs(
    supernet_macs: int,
    batch_size: int,
    steps: int,
    searched_steps: int,
    gradient: Gradient,
) -> float:
    """Multiply-accumulates of a differentiable search.

    Args:
        supernet_macs: of one forward pass of one picture through the supernet.
        batch_size: pictures in each half step.
        steps: weight steps.
        searched_steps: steps after the warm-up, which also have an architecture step.
        gradient: ``first`` order, or how the second order takes its mixed derivative.

    >>> one_shot_macs(10, batch_size=2, steps=3, searched_steps=1, gradient="first")
    220.0
    """
    return float(supernet_macs * batch_size * (WEIGHT_STEP * steps + ARCHITECTURE_STEP[gradient] * searched_steps))
