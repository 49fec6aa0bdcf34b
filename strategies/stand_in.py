"""What all our supernet modules share: each stands in for a module that a space declares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nni.mutable import Mutable, Sample, SampleValidationError
from nni.nas.nn.pytorch import MutableModule
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

from .recompute import run_recomputed


class StandIn(BaseSuperNetModule):
    """Answers for the declared module it replaces: what may be chosen, and what a choice freezes to.

    Attributes:
        recompute: whether it runs again in the backward pass instead of keeping what it has computed.
    """

    recompute = False

    def __init__(self, declared: MutableModule) -> None:
        super().__init__()
        self._declared = [declared]  # in a list: not a submodule, or it would be replaced once more

    def __call__(self, *inputs: Any) -> Any:
        if self.recompute and self.training and torch.is_grad_enabled():
            return run_recomputed(self, super().__call__, *inputs)
        return super().__call__(*inputs)

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {}  # nothing is sampled from outside

    def leaf_mutables(self, is_leaf: Callable[[Mutable], bool]) -> Any:
        yield from self._declared[0].leaf_mutables(is_leaf)

    def check_contains(self, sample: Sample) -> SampleValidationError | None:
        return self._declared[0].check_contains(sample)

    def freeze(self, sample: dict[str, Any]) -> Any:
        return self._declared[0].freeze(sample)


class SampledStandIn(StandIn):
    """A stand-in that holds the weights of every candidate and runs a sampled path of them.

    Attributes:
        path: choices by label; those of a whole sample.
    """

    _path: dict[str, Any] | None = None

    @property
    def path(self) -> dict[str, Any]:
        if self._path is None:
            raise RuntimeError("No path has been sampled yet: call run_path first.")
        return self._path

    def resample(self, memo: dict[str, Any]) -> dict[str, Any]:
        """Take the path that ``memo`` holds, or draw one."""
        labels = self._declared[0].simplify()
        self._path = {label: memo.get(label, mutable.random(dict(memo))) for label, mutable in labels.items()}
        return dict(self._path)

    def export(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {} if all(label in memo for label in self._declared[0].simplify()) else self.resample(memo)

    def export_probs(self, memo: dict[str, Any]) -> dict[str, Any]:
        return {}
