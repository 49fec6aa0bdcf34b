"""A hardware-aware tuner for NNI experiments: NSGA-II (Deb et al., 2002) over the error and the costs of a network."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import nni
import optuna
from nni.common.hpo_utils import validate_search_space
from nni.tuner import Tuner
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from searchspaces.errors import ConfigError
from searchspaces.files import read_json, write_json

ATTEMPTS = 1000  # to find a network that has not been tried, before every network is counted as tried
logger = logging.getLogger("nni.tuner.nsga2")  # NNI writes what its own loggers say to dispatcher.log


class NSGA2Tuner(Tuner):
    """Searches for networks of which none is better in the error and in every cost at once.

    It works on any search space of choices, such as ``facenas nni-space`` writes, and learns from the dictionaries that
    trials report. The sorting, crossover and mutation are Optuna's ``NSGAIISampler``: parents are chosen by rank and
    crowding distance among the whole generation, with constrained domination where there is a budget (a network within
    the budget beats one above it, of two above it the nearer one wins). No network is tried twice.

    In the YAML file of an experiment::

        tuner:
          codeDirectory: .
          className: strategies.nsga2.NSGA2Tuner
          classArgs: {costs: [milliseconds], budgets: {macs: 25000000}, population_size: 16}

    Args:
        costs: keys of the trials' final dictionaries that are minimised beside ``default``, the error.
        budgets: most that a network should cost, by such keys.
        population_size: networks of a generation; the first is random.
        mutation: probability that a choice of a child is drawn anew; one choice on average by default.
        crossover: probability that a child has two parents.
        swapping: probability that a choice of a child with two parents comes from the second.
        optimize_mode: "maximize" where ``default`` is better when larger, as for NNI's strategies in Python.
        seed: of all that is drawn.

    Raises:
        ConfigError: for arguments that cannot be used.
    """

    def __init__(
        self,
        costs: Sequence[str] = ("milliseconds",),
        budgets: Mapping[str, float] | None = None,
        population_size: int = 16,
        mutation: float | None = None,
        crossover: float = 0.9,
        swapping: float = 0.5,
        optimize_mode: Literal["minimize", "maximize"] = "minimize",
        seed: int | None = None,
    ) -> None:
        if optimize_mode not in ("minimize", "maximize"):
            raise ConfigError(f"optimize_mode is {optimize_mode!r}, but must be minimize or maximize.")
        check_arguments(costs, budgets or {}, population_size, mutation, crossover, swapping)
        self.costs, self.budgets, self.population_size = list(costs), dict(budgets or {}), population_size
        self.distributions: dict[str, Any] = {}  # Optuna's, all categorical
        self.running: dict[int, optuna.Trial] = {}  # by NNI's parameter id
        self.tried: set[str] = set()  # proposed, and never again
        self.judged: set[str] = set()  # of these, with a result that was imported
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.NSGAIISampler(
            population_size=population_size,
            mutation_prob=mutation,
            crossover_prob=crossover,
            swapping_prob=swapping,
            seed=seed,
        )
        directions: list[Any] = [optimize_mode, *["minimize"] * len(self.costs)]
        self.study = optuna.create_study(directions=directions, sampler=sampler)

    # ---- what NNI calls

    def update_search_space(self, search_space: dict[str, Any]) -> None:
        """The space, once at the start; a space that changes on the way is refused.

        Raises:
            ConfigError: for decisions that are no choices, or a space that differs from the one before.
        """
        try:
            validate_search_space(search_space, ["choice"], raise_exception=True)
        except ValueError as error:
            raise ConfigError(f"NSGA2Tuner searches choices, as facenas nni-space writes them: {error}") from error
        found = {name: CategoricalDistribution(entry["_value"]) for name, entry in search_space.items()}
        if self.distributions and found != self.distributions:
            raise ConfigError("The search space of a running experiment cannot be changed with NSGA2Tuner.")
        self.distributions = found
        if os.environ.get("NNI_MODE") == "resume" and (file := _proposals_file()) is not None and file.exists():
            self.tried = set(read_json(file))  # networks whose trials run again are not among what is imported

    def generate_parameters(self, parameter_id: int, **kwargs: Any) -> dict[str, Any]:
        """A network that has not been tried.

        Raises:
            nni.NoMoreTrialError: if there is none.
        """
        size = math.prod(len(distribution.choices) for distribution in self.distributions.values())
        for _ in range(ATTEMPTS):
            if len(self.tried) >= size:
                break
            trial = self.study.ask(self.distributions)
            if key(trial.params) not in self.tried:
                self.tried.add(key(trial.params))
                self.running[parameter_id] = trial
                if (file := _proposals_file()) is not None:
                    write_json(file, sorted(self.tried))
                return dict(trial.params)
            self.study.tell(trial, state=TrialState.FAIL)  # not counted in its generation
        raise nni.NoMoreTrialError(f"All networks that NSGA-II proposes have been tried, {len(self.tried)} of {size}.")

    def receive_trial_result(self, parameter_id: int, parameters: Any, value: Any, **kwargs: Any) -> None:
        """The final dictionary of a trial; one without all that is minimised counts as failed."""
        trial = self.running.pop(parameter_id, None)
        if trial is not None:
            self._tell(trial, value)

    def trial_end(self, parameter_id: int, success: bool, **kwargs: Any) -> None:
        """A trial that has ended without a result has failed; its network is not tried again."""
        trial = self.running.pop(parameter_id, None)
        if trial is not None:
            if success:
                logger.error("A trial ended without a result: %s", trial.params)
            self.study.tell(trial, state=TrialState.FAIL)

    def import_data(self, data: list[dict[str, Any]]) -> None:
        """Results of earlier trials, as ``nnictl resume`` and ``nnictl experiment export`` give them: the generations
        are built anew from them, in their order.

        Raises:
            ConfigError: naming an entry that is no network of this space.
        """
        for entry in data:
            parameters, value = entry["parameter"], entry["value"]
            parameters = json.loads(parameters) if isinstance(parameters, str) else parameters
            value = json.loads(value) if isinstance(value, str) else value
            self._check_parameters(parameters)
            if key(parameters) in self.judged:
                continue
            self.judged.add(key(parameters))
            self.tried.add(key(parameters))
            self._add_finished(parameters, value)

    # ---- what came out

    def front(self) -> list[dict[str, Any]]:
        """The best networks so far, those within the budgets if any is: ``parameters``, and ``values``, error first."""
        best = [{"parameters": dict(t.params), "values": list(t.values)} for t in self.study.best_trials]
        return sorted(best, key=lambda entry: entry["values"])

    # ----

    def _tell(self, trial: optuna.Trial, value: Any) -> None:
        figures = self._figures(value)
        if figures is None:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        for name, excess in self._excess(figures).items():
            trial.set_constraint(name, excess)
        self.study.tell(trial, [figures[name] for name in ("default", *self.costs)])

    def _add_finished(self, parameters: dict[str, Any], value: Any) -> None:
        """A network with its result, in the generation that is being filled."""
        figures = self._figures(value)
        if figures is None:
            return
        done = len(self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
        generation = {optuna.samplers.NSGAIISampler._get_generation_key(): done // self.population_size}
        self.study.add_trial(
            optuna.create_trial(
                params=parameters,
                distributions=self.distributions,
                values=[figures[name] for name in ("default", *self.costs)],
                system_attrs=generation,  # Optuna leaves trials without it out of every generation
                constraints=self._excess(figures),
            )
        )

    def _figures(self, value: Any) -> dict[str, float] | None:
        """What a trial has reported; None if something is missing that is searched by."""
        figures = value if isinstance(value, dict) else {"default": value}
        for name in dict.fromkeys(["default", *self.costs, *self.budgets]):
            if not isinstance(figures.get(name), int | float) or not math.isfinite(figures[name]):
                logger.error("A trial's result has no number %r, which is searched by: %s", name, figures)
                return None
        return figures

    def _excess(self, figures: Mapping[str, float]) -> dict[str, float]:
        """By how much of each budget a network is above it, so that budgets of different units count alike."""
        return {name: figures[name] / most - 1 for name, most in self.budgets.items()}

    def _check_parameters(self, parameters: Any) -> None:
        if not isinstance(parameters, dict) or set(parameters) != set(self.distributions):
            raise ConfigError(f"An imported trial has the parameters {parameters!r}, which are not of this space.")
        for name, chosen in parameters.items():
            if chosen not in self.distributions[name].choices:
                raise ConfigError(f"An imported trial has {name!r} = {chosen!r}, which is none of its values.")


def _proposals_file() -> Path | None:
    """Where the tuner of an experiment keeps what it has proposed; None outside of one."""
    folder = os.environ.get("NNI_CHECKPOINT_DIRECTORY")
    return Path(folder) / "nsga2.json" if folder else None


def key(parameters: Mapping[str, Any]) -> str:
    """A text that is equal for equal parameters."""
    return json.dumps(parameters, sort_keys=True)


def check_arguments(
    costs: Sequence[str],
    budgets: Mapping[str, float],
    population_size: int,
    mutation: float | None,
    crossover: float,
    swapping: float,
) -> None:
    """Refuse arguments of the tuner that cannot be used.

    Raises:
        ConfigError: naming the argument.
    """
    if isinstance(costs, str) or not costs or not all(isinstance(name, str) for name in costs):
        raise ConfigError(f"costs is {costs!r}, but must be a list of names such as [milliseconds].")
    if "default" in costs:
        raise ConfigError("costs are minimised beside default, the error: it cannot be one of them.")
    for name, most in budgets.items():
        if not isinstance(most, int | float) or isinstance(most, bool) or not most > 0:
            raise ConfigError(f"The budget of {name!r} is {most!r}, but must be a number above 0.")
    if not isinstance(population_size, int) or population_size < 2:
        raise ConfigError(f"population_size is {population_size!r}, but must be at least 2.")
    for argument, chance in (("mutation", mutation), ("crossover", crossover), ("swapping", swapping)):
        if chance is not None and not 0 <= chance <= 1:
            raise ConfigError(f"{argument} is {chance!r}, but must be a probability, from 0 to 1.")
