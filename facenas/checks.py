"""What is refused before a search begins, so that a wrong option costs no time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError

from .options import RandomSearchOptions, SearchOptions, SinglePathOptions

if TYPE_CHECKING:
    from evaluators.task import Task
    from strategies.cost import Budget


def check_strategy(strategy: str, folder: Path) -> None:
    """Refuse to resume a run of another strategy.

    Raises:
        ConfigError: naming both.
    """
    from searchspaces.files import read_json

    file = folder / "provenance.json"
    own = read_json(file).get("strategy") if file.exists() else None
    if own not in (None, strategy):
        raise ConfigError(f"{folder} is a run of {own}: resume it with python -m strategies.{own}.")


def check_space(options: SearchOptions) -> None:
    """Build the space with both sets of options, so that a wrong one is found before any work.

    Raises:
        FacenasError: naming the option.
    """
    from searchspaces import build_space

    space = build_space(options.space, **options.space_options)
    trained = build_space(options.space, **{**options.space_options, **options.train_options})
    if space.simplify().keys() != trained.simplify().keys():
        raise ConfigError("train_options change what there is to choose; they may change widths and layout only.")
    if options.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("accelerator is 'gpu', but torch finds none here. Use --accelerator auto or cpu.")
    check_shares(options)
    if isinstance(options, SinglePathOptions):
        check_paths(options, space)
    parts = getattr(options, "partial_channels", 1)
    parts = 1 if parts is None else parts  # the strategy's own default is checked with its supernet
    channels = getattr(space, "channels", 0)
    if parts < 1 or (parts > 1 and channels and (channels % parts or channels // parts < 2)):
        raise ConfigError(
            f"partial_channels is {parts}, but must split the {channels} channels of a cell into parts of at least 2."
        )


def check_shares(options: SearchOptions) -> None:
    """Refuse several devices where they cannot share what is computed.

    Raises:
        ConfigError: saying why.
    """
    from evaluators.companions import check_devices

    if options.devices > 1 and isinstance(options, RandomSearchOptions):
        raise ConfigError(
            f"devices is {options.devices}, but the candidates of this search are trained one after another, each by "
            "one process. Leave --devices out."
        )
    check_devices(options.devices, options.accelerator, options.search_batch, options.train_batch)


def check_strategy_fits(strategy: str, options: SearchOptions) -> None:
    """Build the supernet of a differentiable strategy, so that a space it cannot search is refused before any work.

    Raises:
        ConfigError: naming strategies that can.
    """
    from searchspaces import build_space

    from . import searches
    from .budgets import build_budget

    check_draws(strategy, options, build_budget(options))
    if strategy not in searches.SEARCHES:
        searches.build_one_shot(options).mutate_model(build_space(options.space, **options.space_options))


def check_draws(strategy: str, options: SearchOptions, budget: Budget | None) -> None:
    """Draw a random network within the budget where the search or its baseline will, so that a budget that almost
    nothing keeps is refused before any work.

    Raises:
        ConfigError: if none is found.
    """
    from numpy.random import RandomState

    from searchspaces import build_space
    from searchspaces.registry import find_space
    from strategies.paths import accepted_choices

    from .searches import SEARCHES

    once = strategy == "single_path" and getattr(find_space(options.space).space_class, "trained_once", False)
    is_drawn = strategy in SEARCHES or options.baseline
    if budget is None or once or not is_drawn:
        return
    space = build_space(options.space, **options.space_options)
    try:
        accepted_choices(space, RandomState(options.seed), budget.keeps)
    except ConfigError as error:
        if strategy in SEARCHES:
            raise
        raise ConfigError(f"Random search, the baseline, cannot run: {error} Or add --no-baseline.") from error


def check_paths(options: SinglePathOptions, space: Any) -> None:
    """Refuse paths that the space does not have.

    Raises:
        ConfigError: naming what is wrong.
    """
    if options.sampling and not hasattr(space, "sampling_table"):
        raise ConfigError(f"sampling names configurations, which space {options.space!r} does not have: leave it out.")
    if hasattr(space, "configure"):
        from strategies.single_path import SinglePath

        space.configure(options.validated)
        if getattr(space, "trained_once", False) and options.train_options:
            raise ConfigError("train_options: the sampled network is trained once; give space_options instead.")
        table = space.sampling_table(options.sampling) if options.sampling else None
        SinglePath(table, uniform=options.uniform).mutate_model(space)
        if options.sampling and not options.sampling.get(options.validated):
            raise ConfigError(
                f"validated is {options.validated!r}, which sampling never draws: its epochs cannot be judged by it. "
                f"Add --validated {max(options.sampling, key=lambda name: options.sampling[name])}."
            )


def check_outputs(options: SearchOptions, task: Task) -> None:
    """Judge a random network of the space on an empty picture, so that a supervision that does not fit is found
    before any training.

    Raises:
        ConfigError: naming the supervision and the outputs.
    """
    import torch

    from searchspaces import build_space

    space = build_space(options.space, **{**options.space_options, **options.train_options})
    with torch.random.fork_rng(devices=[]):
        task.check(space.random().eval())
