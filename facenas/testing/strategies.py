"""What a strategy must do."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import nni
import torch
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace

from evaluators.antispoofing import AntiSpoofing
from evaluators.task import Task, WeightSchedule
from searchspaces import Architecture, build_space
from strategies.nni_compat import is_one_shot

from .data import striped_faces


class StrategyTestCase:
    """Tests of one strategy by tiny searches.

    Attributes:
        space: the name of a registered space, or ``package.module:ClassName``.
        options: options with which the space is quick to search.
        schedule: how a one-shot search trains the weights.
        seeded: whether torch's seed and the strategy's own say all that happens.
    """

    space = "autofas"
    options: ClassVar[Mapping[str, Any]] = {"channels": 8, "layout": "RN", "image_size": 20, "nodes": 2}
    schedule = WeightSchedule(epochs=2, batch_size=4, learning_rate=0.05)
    seeded = True

    def make_strategy(self) -> Any:
        """A new strategy, with a limit of a few candidates where it trains them one by one."""
        raise NotImplementedError("return a new strategy")

    def make_task(self) -> Task:
        """What the networks learn: stripes, which a network tells apart after an epoch or two."""
        size = build_space(self.space, **self.options).input_size[-1]
        return AntiSpoofing(striped_faces(size), image_size=size)

    def search(self) -> tuple[Any, dict[str, Any]]:
        """A whole search: the strategy and the choices that it found."""
        torch.manual_seed(0)
        strategy, space = self.make_strategy(), build_space(self.space, **self.options)
        evaluator: Any
        if is_one_shot(strategy):
            evaluator = self.make_task().search_evaluator(self.schedule, 0, accelerator="cpu")
        else:
            evaluator = FunctionalEvaluator(few_parameters)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strategy(RawFormatModelSpace.from_model(space, evaluator), SequentialExecutionEngine(max_model_count=6))
        models = list(strategy.list_models(limit=1))
        assert models, "list_models() gives the best networks, best first"
        return strategy, dict(models[0].sample)

    def test_a_search_ends_with_a_point_of_the_space(self) -> None:
        _, choices = self.search()
        network = Architecture(self.space, dict(self.options), choices).build(seed=0)
        network(torch.randn(2, *build_space(self.space, **self.options).input_size)).sum().backward()

    def test_the_given_space_can_be_searched_again(self) -> None:
        first, second = self.search()[1], self.search()[1]
        assert first.keys() == second.keys()
        assert first == second or not self.seeded, "draw from torch's generator, or from one that the strategy seeds"

    def test_a_search_starts_from_nothing(self) -> None:
        strategy, _ = self.search()
        if not is_one_shot(strategy):
            state = strategy.state_dict()
            fresh = self.make_strategy()
            fresh.load_state_dict(state)
            assert fresh.state_dict().keys() == state.keys(), "load_state_dict() takes what state_dict() gives"


def few_parameters(model: Any) -> None:
    """The judge of candidates that are not trained: fewer parameters are better."""
    number = float(sum(parameter.numel() for parameter in model.parameters()))
    nni.report_final_result({"default": -number, "macs_spent": number})
