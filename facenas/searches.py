"""How the front door runs a strategy: on NNI's sequential engine, with a log and checkpoints in the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace

from evaluators.checkpoint import go_on_after, latest_checkpoint
from evaluators.companions import companions
from evaluators.configurations import recalibrated
from evaluators.datasets.base import Split
from evaluators.faults import explained_faults
from evaluators.task import Task, WeightSchedule
from evaluators.trial import CandidateTrial
from hardware.counters import count
from searchspaces import Architecture, build_space
from searchspaces.architecture import load_weights
from searchspaces.errors import ConfigError
from searchspaces.files import write_text
from searchspaces.sampling import random_choices
from strategies import DARTS, PCDARTS, CollapseGuard, Evolution, GumbelSinglePath, RandomSearch, SinglePath
from strategies.budget import WEIGHT_STEP, Gradient, one_shot_macs
from strategies.cost import CostTable
from strategies.paths import Accepts, accepted_choices, run_path
from strategies.record import CandidateLog, PathLog, SearchLog
from strategies.single_path import expected_macs as expected_macs

from .budgets import build_budget, costs_of, recorded_costs
from .options import (
    DartsOptions,
    DifferentiableOptions,
    EvolutionOptions,
    GumbelOptions,
    PCDartsOptions,
    RandomSearchOptions,
    SearchOptions,
    SinglePathOptions,
)

if TYPE_CHECKING:
    from searchspaces.console import Reporter


SAMPLED_PATHS = 8  # whose mean stands for the passes of a sampled search


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    choices: Mapping[str, Any]
    found_by: Mapping[str, Any]
    guard: Mapping[str, Any]
    macs_spent: float


def one_shot(options: SearchOptions, task: Task, folder: Path, reporter: Reporter) -> Found:
    """Run a differentiable strategy, from its last checkpoint if the folder has one."""
    torch.manual_seed(options.seed)
    strategy, schedule = build_one_shot(options), search_schedule(options)
    with (
        reporter.epochs("search", schedule.epochs) as show,
        companions(options.devices, share_one_shot, options, folder),
    ):
        log = SearchLog(folder, options.seed, trained_macs(options), show)
        evaluator = task.search_evaluator(
            schedule,
            options.seed,
            callbacks=[log],
            enable_checkpointing=True,
            accelerator=options.accelerator,
            devices=options.devices,
        )
        space = RawFormatModelSpace.from_model(build_space(options.space, **options.space_options), evaluator)
        strategy.initialize(space, SequentialExecutionEngine())
        task.prepare(strategy.supernet)
        supernet_macs = macs_of_supernet(strategy, options)
        checkpoint = latest_checkpoint(log.folder) if options.resume else None
        if checkpoint:
            go_on(strategy, checkpoint)
        module = strategy.oneshot_module
        if checkpoint and stopped_by_guard(checkpoint):
            module.load_history(checkpoint)  # it was interrupted between its end and the next stage
        else:
            with explained_faults(strategy.supernet, task.image_size, schedule.batch_size):
                strategy.run()
    steps, pictures = steps_and_pictures(evaluator.train_dataloaders, evaluator.val_dataloaders)
    epochs = len(module.history)
    searched = max(0, epochs - module.warmup_epochs) * steps
    gradient: Gradient = "first" if module.order == "first" else module.hessian
    spent = one_shot_macs(supernet_macs, pictures, epochs * steps, searched, gradient)
    result = module.result()
    found_by = {"epoch": result["epoch"], "order": module.order}
    if isinstance(strategy, GumbelSinglePath):
        found_by["sampled"] = strategy.sampled
    return Found(result["choices"], found_by, guard_verdict(module.history, result), spent)


def share_one_shot(options: SearchOptions, folder: Path) -> Callable[[], Any]:
    """What a companion of `one_shot` does, see `companions`."""
    from searchspaces.console import Reporter

    from .pipeline import build_task

    return partial(one_shot, options, build_task(options), folder, Reporter(quiet=True))


def go_on(strategy: Any, checkpoint: Path) -> None:
    """Let a one-shot strategy that has been initialised start from a checkpoint."""
    evaluator = strategy._mutated_model_space.evaluator
    evaluator.fit_kwargs.update(ckpt_path=str(checkpoint), weights_only=True)
    loaders = evaluator.train_dataloaders  # those of both halves by name, where the architecture learns too
    go_on_after(checkpoint, *(loaders.values() if isinstance(loaders, dict) else [loaders]))


def macs_of_supernet(strategy: DARTS, options: SearchOptions) -> int:
    """Multiply-accumulates of a forward pass: of all paths, or on average where one is sampled."""
    network, size = strategy.supernet, strategy.supernet.input_size
    if not isinstance(strategy, GumbelSinglePath):
        return count(network, size)
    if strategy.sampled == "branches":
        space = build_space(options.space, **options.space_options)
        table = CostTable(space, costs_of(options, options.space_options, ("macs",)))
        return round(table.fixed[0] + sum(sum(o.cost[0] for o in group) / len(group) for group in table.groups()))
    if strategy.sampled == "sizes":  # what runs of a layer is no layer that could be counted: count networks
        random = np.random.RandomState(0)
        space = build_space(options.space, **options.space_options)
        drawn = [space.freeze(random_choices(space, random)) for _ in range(SAMPLED_PATHS)]
        return round(sum(count(chosen, size) for chosen in drawn) / SAMPLED_PATHS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return round(sum(count(network, size) for _ in range(SAMPLED_PATHS)) / SAMPLED_PATHS)


def stopped_by_guard(checkpoint: Path) -> bool:
    """Whether the search of this checkpoint was ended by the guard."""
    history = torch.load(checkpoint, map_location="cpu", weights_only=True).get("search_history", [])
    return bool(history) and not history[-1]["healthy"]


def guard_verdict(history: list[dict[str, Any]], result: Mapping[str, Any]) -> dict[str, Any]:
    """What the guard said of a whole search, and which epoch's architecture is the result."""
    last = history[-1]
    reasons = [record["guard"] for record in history if record["guard"]]
    verdict = "stopped" if not last["healthy"] else "warned" if reasons else "healthy"
    return {
        "verdict": verdict,
        "reason": last["guard"] or (reasons[-1] if reasons else None),
        "last_epoch": last["epoch"],
        "architecture_epoch": result["epoch"],
        "architecture_healthy": result["healthy"],
    }


def steps_and_pictures(*loaders: Any) -> tuple[int, int]:
    """Steps of an epoch and pictures of a (half) step: Lightning repeats the shorter of two loaders."""
    return max(len(loader) for loader in loaders), max(loader.sampler.batch_size for loader in loaders)


def multi_trial(options: SearchOptions, task: Task, folder: Path, reporter: Reporter) -> Found:
    """Run random search or evolution; candidates that an interrupted run has finished are taken from its log."""
    assert isinstance(options, RandomSearchOptions)
    with reporter.epochs("search", options.max_candidates or 0) as show:
        log = CandidateLog(folder, show)
        finished = log.restore() if options.resume else {}
        trial = CandidateTrial(
            task,
            search_schedule(options, candidate=True),
            options.seed,
            finished=finished,
            on_result=log.add,
            accelerator=options.accelerator,
        )
        space = build_space(options.space, **options.space_options)
        budget = options.budget_macs
        if budget is None and options.max_candidates is None:
            budget = darts_budget(options, task)
        limits: dict[str, Any] = {"budget_macs": budget, "max_candidates": options.max_candidates, "seed": options.seed}
        within = build_budget(options)
        limits["accepts"] = within.keeps if within else None
        strategy: RandomSearch | Evolution
        if isinstance(options, EvolutionOptions):
            own: dict[str, Any] = {name: getattr(options, name) for name in ("population", "tournament", "mutation")}
            strategy = Evolution(**own, **limits)
        else:
            strategy = RandomSearch(**limits)
        strategy(RawFormatModelSpace.from_model(space, trial.evaluator()), SequentialExecutionEngine())
    models = list(strategy.list_models(limit=1))
    if not models:
        raise ConfigError("No random network keeps the budget. Raise it, or search with strategies.darts.")
    best = models[0].sample
    found_by = {"candidates": strategy.candidates, "budget_macs": budget, "selected_by": f"val_{task.objective}"}
    return Found(best, found_by, {"verdict": "healthy", "reason": None}, strategy.spent)


def train_paths(
    options: SinglePathOptions,
    task: Task,
    folder: Path,
    reporter: Reporter,
    halves: tuple[Split, Split] | None = None,
    validate: Callable[[Any], Mapping[str, float]] | None = None,
    accepts: Accepts | None = None,
) -> SinglePath:
    """Train a network whose paths are sampled, from its last checkpoint if the folder has one.

    Args:
        halves: pictures for the weights and for the choice of a path; the task's halves by default.
        validate: judges the network after every epoch; the weights of the best epoch are kept, else the last one's.
        accepts: which paths may be drawn, where all points of the space are.
    """
    torch.manual_seed(options.seed)
    schedule = search_schedule(options)
    supernet = build_space(options.space, **options.space_options)
    table = supernet.sampling_table(options.sampling) if options.sampling else None
    strategy = SinglePath(table, uniform=options.uniform, seed=options.seed, accepts=accepts)
    names = path_names(supernet, options)
    trainer_options: dict[str, Any] = {"accelerator": options.accelerator, "devices": options.devices}
    with (
        reporter.epochs("search", schedule.epochs) as show,
        companions(options.devices, share_paths, options, folder, halves is not None, accepts is not None),
    ):
        log = PathLog(folder, options.seed, validate, names, show)
        evaluator = task.search_evaluator(
            schedule,
            options.seed,
            halves,
            callbacks=[log],
            enable_checkpointing=True,
            gradient_clip_val=schedule.gradient_clip,
            **trainer_options,
        )
        strategy.initialize(RawFormatModelSpace.from_model(supernet, evaluator), SequentialExecutionEngine())
        task.prepare(strategy.supernet)
        checkpoint = latest_checkpoint(log.folder) if options.resume else None
        if checkpoint:
            go_on(strategy, checkpoint)
        with explained_faults(strategy.supernet, task.image_size, schedule.batch_size):
            strategy.run()
    load_weights(strategy.supernet.cpu(), log.best_weights)
    return strategy


def share_paths(options: SinglePathOptions, folder: Path, whole: bool, within: bool) -> Callable[[], Any]:
    """What a companion of `train_paths` does, see `companions`.

    Args:
        whole: train with the whole training split.
        within: draw paths within the budget.
    """
    from searchspaces.console import Reporter

    from .pipeline import build_task

    task = build_task(options)
    halves = (task.data.splits["train"], task.data.splits["val"]) if whole else None
    budget = build_budget(options) if within else None
    accepts = budget.keeps if budget else None
    return partial(train_paths, options, task, folder, Reporter(quiet=True), halves, None, accepts)


def path_names(space: Any, options: SinglePathOptions) -> list[str]:
    """Names of the table's paths, if they have any."""
    return [] if options.uniform else list(options.sampling or getattr(space, "sampling", {}))


def single_path(options: SearchOptions, task: Task, folder: Path, reporter: Reporter) -> Found:
    """Single-path one-shot: train all paths by turns, then judge random ones with the weights they share.

    Before it is judged, a path gets batch-norm statistics of its own, as Guo et al. (ECCV 2020, section 3.2) do.
    """
    assert isinstance(options, SinglePathOptions)
    within = build_budget(options)
    accepts = within.keeps if within else None
    strategy = train_paths(options, task, folder, reporter, accepts=accepts)
    weights_half, other_half = task.search_halves(options.seed)[0], task.selection_split(options.seed)
    random, macs_of, lines = np.random.RandomState(options.seed), trained_macs(options), []
    for number in range(options.judged_paths):
        choices = accepted_choices(strategy.supernet, random, accepts)
        run_path(strategy.supernet, choices)
        with recalibrated(strategy.supernet, task, weights_half):
            val = task.validation(strategy.supernet, other_half)
        lines.append({"path": number, "choices": choices, "val": val, "macs": macs_of(choices)})
    write_text(folder / "architectures.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    objective = task.objective
    best = max(lines, key=lambda line: line["val"][objective])
    shown = f"{objective.upper()} of {best['val'][objective]:.3f}"
    reporter.line("search", f"{len(lines)} paths judged; the best has a validation {shown}")
    strategy.oneshot_module.result = best["choices"]
    steps, pictures = steps_and_pictures(task.loader(weights_half, search_schedule(options).batch_size, 0))
    macs = sum(line["macs"] for line in lines) / len(lines)  # of the paths that were judged: as random as the trained
    trained = steps * pictures * len(strategy.oneshot_module.history)
    spent = macs * (WEIGHT_STEP * trained + len(lines) * (len(weights_half) + len(other_half)))
    found_by = {"paths_judged": len(lines), "selected_by": f"val_{objective}"}
    return Found(best["choices"], found_by, {"verdict": "healthy", "reason": None}, spent)


SEARCHES = {
    "random_search": multi_trial,
    "evolution": multi_trial,
    "single_path": single_path,
}  # all others are differentiable


def build_one_shot(options: SearchOptions) -> DARTS:
    """The strategy that the options describe."""
    assert isinstance(options, DifferentiableOptions)
    common: dict[str, Any] = {
        "arc_learning_rate": options.arc_learning_rate,
        "arc_weight_decay": options.arc_weight_decay,
        "gradient_clip_val": options.gradient_clip,
        "guard": CollapseGuard(options.guard),
        "budget": build_budget(options),
        "costs": recorded_costs(options),
        "recompute": options.recompute,
    }
    if isinstance(options, GumbelOptions):
        return GumbelSinglePath(
            **common,
            sampled=options.sampled,
            partial_channels=options.partial_channels,
            warmup_epochs=options.warmup_epochs or 0,
        )
    if isinstance(options, PCDartsOptions):
        own: dict[str, Any] = {name: getattr(options, name) for name in ("partial_channels", "edge_normalisation")}
        return PCDARTS(**common, **own, **_darts_options(options))
    assert isinstance(options, DartsOptions)
    return DARTS(**common, **_darts_options(options))


def _darts_options(options: DartsOptions | PCDartsOptions) -> dict[str, Any]:
    names = ("order", "hessian", "hessian_epsilon", "warmup_epochs")
    return {name: getattr(options, name) for name in names}


def search_schedule(options: SearchOptions, candidate: bool = False) -> WeightSchedule:
    """How weights are trained during the search, or those of one candidate."""
    epochs = options.candidate_epochs if candidate else options.search_epochs
    assert epochs and options.search_batch and options.search_learning_rate
    return WeightSchedule(
        epochs,
        options.search_batch,
        options.search_learning_rate,
        **weight_options(options),
    )


def train_schedule(options: SearchOptions) -> WeightSchedule:
    """How the result is trained."""
    assert options.train_epochs and options.train_batch and options.train_learning_rate
    return WeightSchedule(
        options.train_epochs, options.train_batch, options.train_learning_rate, **weight_options(options)
    )


def weight_options(options: SearchOptions) -> dict[str, Any]:
    """What the schedules of the search and of the training have in common."""
    return {
        "weight_decay": options.weight_decay or 0.0,
        "gradient_clip": options.gradient_clip,
        "optimizer": options.optimizer,
        "decay": options.decay,
        "keep": options.keep,
        "warmup_steps": options.warmup_steps or 0,
    }


def trained_macs(options: SearchOptions) -> Any:
    """A function from choices to the multiply-accumulates of the network that would be trained."""
    space_options = {**options.space_options, **options.train_options}

    def macs_of(choices: Mapping[str, Any]) -> int:
        architecture = Architecture(options.space, space_options, choices)
        return count(architecture.build(), architecture.input_size)

    return macs_of


def darts_budget(options: SearchOptions, task: Task) -> float:
    """What first-order DARTS would cost with the same recipe, so that the two can be compared."""
    schedule = search_schedule(options)
    supernet = DARTS().mutate_model(build_space(options.space, **options.space_options))
    loaders = [task.loader(half, schedule.batch_size, options.seed) for half in task.search_halves(options.seed)]
    steps, pictures = steps_and_pictures(*loaders)
    steps *= schedule.epochs
    return one_shot_macs(count(supernet, supernet.input_size), pictures, steps, steps, "first")
