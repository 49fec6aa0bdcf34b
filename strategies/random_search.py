"""Random search with a budget: the baseline that every search is shown beside."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("random_search"))

import nni.nas.strategy

from .multi_trial import Budgeted


class RandomSearch(Budgeted, nni.nas.strategy.Random):
    """NNI's random strategy with a budget (see `multi_trial.Budgeted`); ``seed`` is that of the choices."""
