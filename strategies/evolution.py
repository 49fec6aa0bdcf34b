"""Regularised evolution (Real et al., AAAI 2019) with a budget: candidates are changed copies of good ones."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("evolution"))

from typing import Any

import nni.nas.strategy

from searchspaces.errors import ConfigError

from .multi_trial import Budgeted


class Evolution(Budgeted, nni.nas.strategy.RegularizedEvolution):
    """NNI's regularised evolution with a budget (see `multi_trial.Budgeted`).

    The first ``population`` candidates are random. Then the best of ``tournament`` members drawn from the population
    is copied, each of its choices drawn anew with probability ``mutation``, and the oldest member dies.

    Args:
        population: members that are alive.
        tournament: members of which the best becomes the parent.
        mutation: probability that a choice is drawn anew (it may come out as it was).
        options: ``budget_macs``, ``max_candidates``, ``seed``, ``crossover``.

    Raises:
        ConfigError: if the tournament is larger than the population.
    """

    def __init__(self, *, population: int = 5, tournament: int = 3, mutation: float = 0.1, **options: Any) -> None:
        if not 1 <= tournament <= population:
            raise ConfigError(f"tournament is {tournament}, but must be from 1 to the population, {population}.")
        if not 0 < mutation <= 1:
            raise ConfigError(f"mutation is {mutation}, but must be above 0 and at most 1.")
        super().__init__(population_size=population, sample_size=tournament, mutation_prob=mutation, **options)
