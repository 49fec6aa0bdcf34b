"""What facenas expects of a strategy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar
from unittest import mock

import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment.config import NasExperimentConfig
from nni.nas.space import RawFormatModelSpace
from nni.nas.strategy.base import Strategy
from torch import nn

from evaluators.antispoofing import AntiSpoofing
from evaluators.task import Task, WeightSchedule
from evaluators.train import fit
from evaluators.trial import CandidateTrial
from searchspaces import Architecture, build_space
from searchspaces.errors import FacenasError
from strategies.nni_compat import NasExperiment, decode, encode, is_one_shot

from .data import striped_faces


class StrategyTestCase:
    """Tests of a strategy by tiny searches; see `facenas.testing`.

    A strategy that trains one network with all candidates in it (a subclass of NNI's OneShotStrategy, as DARTS is) is
    given a Lightning evaluator, any other one trains candidates.

    Attributes:
        space: that is searched, ``package.module:ClassName`` or a registered name.
        options: of its constructor.
        schedule: how weights are trained.
        candidates: after which an experiment ends, where candidates are trained.
    """

    space: ClassVar[str] = "autofas"
    options: ClassVar[Mapping[str, Any]] = {"channels": 8, "layout": "RN", "image_size": 20, "nodes": 2}
    schedule: ClassVar[WeightSchedule] = WeightSchedule(epochs=2, batch_size=6, learning_rate=0.01)
    candidates: ClassVar[int] = 3

    def make_strategy(self) -> Strategy:
        """A new strategy, always with the same seed."""
        raise NotImplementedError("A StrategyTestCase needs make_strategy(self), which returns a new strategy.")

    def make_task(self) -> Task:
        """What the networks of the space learn; by default to tell upright stripes from lying ones."""
        size = build_space(self.space, **self.options).input_size[-1]
        return AntiSpoofing(striped_faces(size, people=6), image_size=size)

    def search(self) -> tuple[Strategy, list[dict[str, Any]]]:
        """A search on NNI's sequential engine, as the commands run it: the strategy, and the choices that it found."""
        torch.manual_seed(0)
        strategy = self.make_strategy()
        strategy(RawFormatModelSpace.from_model(self._space(), self._evaluator(strategy)), self._engine(strategy))
        return strategy, [dict(model.sample or {}) for model in strategy.list_models()]

    def test_a_search_ends_with_points_of_the_space(self) -> None:
        _, found = self.search()
        assert found, "`list_models` of the strategy gives nothing, but must give what was found, the best first."
        for choices in found:
            self._architecture(choices)

    def test_equal_seeds_give_equal_results(self) -> None:
        (_, first), (_, second) = self.search(), self.search()
        assert first == second, (
            f"Two searches with torch.manual_seed(0) and the same strategy found {first} and {second}: draw from "
            "torch's generator, or from one that the strategy's own seed starts."
        )

    def test_the_result_trains(self) -> None:
        _, found = self.search()
        network, task = self._architecture(found[0]).build(seed=0), self.make_task()
        before = [parameter.detach().clone() for parameter in network.parameters()]
        fit(network, task, self.schedule, task.data.splits["train"], seed=0, accelerator="cpu")
        assert all(parameter.isfinite().all() for parameter in network.parameters()), "Training does not stay finite."
        moved = [not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True)]
        assert any(moved), f"Training moves no weight of the network of {found[0]}."

    def test_its_state_can_be_saved_and_loaded(self) -> None:
        strategy, _ = self.search()
        if is_one_shot(strategy):
            return  # Lightning's checkpoints hold it
        try:
            state = decode(encode(strategy.state_dict()))
        except FacenasError as error:
            raise AssertionError(f"An experiment could not be resumed: {error}") from error
        fresh = self.make_strategy()
        fresh.load_state_dict(state)
        # keys alone: NNI keeps a set of what was tried, whose order says nothing
        assert fresh.state_dict().keys() == state.keys(), "`load_state_dict` must take what `state_dict` gives."

    def test_an_experiment_of_nni_runs_it(self) -> None:
        torch.manual_seed(0)
        strategy = self.make_strategy()
        # NNI keeps a list of experiments in the home folder
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"HOME": folder}):
            form = "raw" if is_one_shot(strategy) else "simplified"
            config = NasExperimentConfig("sequential", form, "local")
            config.max_trial_number, config.experiment_working_directory = self.candidates, folder
            experiment = NasExperiment(self._space(), self._evaluator(strategy), strategy, config)
            experiment.run()
            try:
                (choices,) = experiment.export_top_models(1, formatter="dict")
                (network,) = experiment.export_top_models(1, formatter="instance")
            finally:
                experiment.stop()
        self._architecture(choices)
        assert isinstance(network, nn.Module), f"The experiment exports {network!r}, which is no network."

    # ---- how

    def _space(self) -> Any:
        return build_space(self.space, **self.options)

    def _evaluator(self, strategy: Strategy) -> Any:
        if is_one_shot(strategy):
            return self.make_task().search_evaluator(self.schedule, 0, accelerator="cpu")
        return CandidateTrial(self.make_task(), self.schedule, 0, accelerator="cpu").evaluator()

    def _engine(self, strategy: Strategy) -> SequentialExecutionEngine:
        return SequentialExecutionEngine(max_model_count=None if is_one_shot(strategy) else self.candidates)

    def _architecture(self, choices: Mapping[str, Any]) -> Architecture:
        try:
            return Architecture(self.space, self.options, choices)
        except FacenasError as error:
            raise AssertionError(
                f"The strategy found {dict(choices)}, which is no point of {self.space!r}: {error} Submit models that "
                "`model_space.freeze(choices)` gives, or export whole choices."
            ) from error
