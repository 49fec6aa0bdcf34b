"""Random search with a budget: the baseline that every search is shown beside."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("random_search"))

from typing import Any

import nni.nas.strategy
from nni.nas.execution.event import FinalMetricEvent, ModelEventType

from searchspaces.errors import ConfigError


class RandomSearch(nni.nas.strategy.Random):
    """NNI's random strategy that also ends when a computing budget is spent.

    The budget is in multiply-accumulates of all passes, forward and backward, so it means the same on every machine
    and two searches can be given equal shares. Evaluators report what a candidate cost as ``macs_spent``.

    Args:
        budget_macs: no new candidate is started once so much is spent; None for no such limit. The last candidate
            may go over, so the baseline never gets less than its budget.
        max_candidates: no more candidates than this; None for no limit.
        seed: seed of the choices.
    """

    def __init__(
        self, *, budget_macs: float | None = None, max_candidates: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__(seed=seed)
        if budget_macs is None and max_candidates is None:
            max_candidates = 20
        self.budget_macs, self.max_candidates = budget_macs, max_candidates
        self.spent, self.candidates = 0.0, 0

    def _initialize(self, model_space: Any, engine: Any) -> Any:
        engine.register_model_event_callback(ModelEventType.FinalMetric, self._add_cost)
        return super()._initialize(model_space, engine)

    def _cleanup(self) -> None:
        self.engine.unregister_model_event_callback(ModelEventType.FinalMetric, self._add_cost)
        super()._cleanup()

    def _add_cost(self, event: FinalMetricEvent) -> None:
        cost = event.metric.get("macs_spent") if isinstance(event.metric, dict) else None
        if cost is None and self.budget_macs is not None:
            raise ConfigError("budget_macs needs an evaluator that reports macs_spent; give max_candidates instead.")
        self.spent += cost or 0.0

    def _run(self) -> None:
        while self._affordable():
            model = self._retry_helper.retry(self.random, self.model_space)
            if model is None or not self.wait_for_resource():
                return  # every point has been tried, or the engine's own budget is spent
            self.candidates += 1
            self.engine.submit_models(model)

    def _affordable(self) -> bool:
        within_count = self.max_candidates is None or self.candidates < self.max_candidates
        return within_count and (self.budget_macs is None or self.spent < self.budget_macs)
