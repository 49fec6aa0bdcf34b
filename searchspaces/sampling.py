"""Random points of a space."""

from __future__ import annotations

from typing import Any

from nni.nas.nn.pytorch import ModelSpace
from numpy.random import RandomState


def random_choices(space: ModelSpace, random: RandomState) -> dict[str, Any]:
    """A point of the space, each choice drawn with equal chances; labels in alphabetical order, so it repeats."""
    memo: dict[str, Any] = {}
    for label, mutable in sorted(space.simplify().items()):
        memo[label] = mutable.random(memo, random)
    return memo
