"""A computing budget for NNI's strategies that train one candidate after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nni.mutable import SampleValidationError
from nni.nas.execution.event import FinalMetricEvent, ModelEventType, TrainingEndEvent
from nni.nas.strategy.utils import DeduplicationHelper

from searchspaces.errors import ConfigError


class AcceptedOnce(DeduplicationHelper):
    """NNI's check that a sample is new, and ours that it is accepted; NNI draws again after a refusal."""

    def __init__(self, accepts: Callable[[Mapping[str, Any]], bool]) -> None:
        super().__init__(raise_on_dup=True)
        self.accepts = accepts

    def dedup(self, sample: Any) -> bool:
        if not self.accepts(sample):
            raise SampleValidationError("outside the budget")
        return super().dedup(sample)


class Budgeted:
    """Put before a strategy of NNI among the bases: it then also ends when a budget is spent.

    The budget is in multiply-accumulates of all passes, forward and backward, so it means the same on every machine
    and two searches can be given equal shares. Evaluators report what a candidate cost as ``macs_spent``.

    Args:
        budget_macs: no new candidate is started once so much is spent; None for no such limit. The last candidate
            may go over, so a baseline never gets less than its budget.
        max_candidates: no more candidates than this; None for no limit. Without any limit it is 20.
        accepts: whether a candidate with these choices may be tried at all, for example within a budget of its own.
        options: of NNI's strategy.

    Attributes:
        spent: multiply-accumulates so far; candidates: how many have been judged.
    """

    def __init__(
        self,
        *,
        budget_macs: float | None = None,
        max_candidates: int | None = None,
        accepts: Callable[[Mapping[str, Any]], bool] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if accepts is not None:
            self._dedup_helper = AcceptedOnce(accepts)
        if budget_macs is None and max_candidates is None:
            max_candidates = 20
        self.budget_macs, self.max_candidates = budget_macs, max_candidates
        self.spent, self.candidates = 0.0, 0

    def _initialize(self, model_space: Any, engine: Any) -> Any:
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._add_cost)
        engine.register_model_event_callback(ModelEventType.TrainingEnd, self._add_candidate)
        return super()._initialize(model_space, engine)  # type: ignore[misc]

    def _cleanup(self) -> None:
        for kind, callback in (("FinalMetric", self._add_cost), ("TrainingEnd", self._add_candidate)):
            self.engine.unregister_model_event_callback(getattr(ModelEventType, kind), callback)  # type: ignore[attr-defined]
        super()._cleanup()  # type: ignore[misc]

    def _add_cost(self, event: FinalMetricEvent) -> None:
        cost = event.metric.get("macs_spent") if isinstance(event.metric, dict) else None
        if cost is None and self.budget_macs is not None:
            raise ConfigError("budget_macs needs an evaluator that reports macs_spent; give max_candidates instead.")
        self.spent += cost or 0.0

    def _add_candidate(self, event: TrainingEndEvent) -> None:
        self.candidates += 1

    def wait_for_resource(self) -> bool:
        """NNI's strategies ask before they start a candidate, and end at a no."""
        return self._affordable() and super().wait_for_resource()  # type: ignore[misc]

    def _affordable(self) -> bool:
        within_count = self.max_candidates is None or self.candidates < self.max_candidates
        return within_count and (self.budget_macs is None or self.spent < self.budget_macs)
