"""How the front door runs a strategy: on NNI's sequential engine, with a log and checkpoints in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace

from evaluators.checkpoint import latest_checkpoint
from evaluators.task import Task, WeightSchedule
from evaluators.trial import CandidateTrial
from hardware.counters import count
from searchspaces import Architecture, build_space
from strategies import DARTS, PCDARTS, CollapseGuard, RandomSearch
from strategies.budget import Gradient, one_shot_macs
from strategies.record import CandidateLog, SearchLog

from .options import DartsOptions, PCDartsOptions, RandomSearchOptions, SearchOptions

if TYPE_CHECKING:
    from searchspaces.console import Reporter


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
    with reporter.epochs("search", schedule.epochs) as show:
        log = SearchLog(folder, options.seed, trained_macs(options), show)
        evaluator = task.search_evaluator(
            schedule, options.seed, callbacks=[log], enable_checkpointing=True, accelerator=options.accelerator
        )
        space = RawFormatModelSpace.from_model(build_space(options.space, **options.space_options), evaluator)
        strategy.initialize(space, SequentialExecutionEngine())
        supernet_macs = count(strategy.supernet, strategy.supernet.input_size)
        checkpoint = latest_checkpoint(log.folder) if options.resume else None
        if checkpoint:
            strategy._mutated_model_space.evaluator.fit_kwargs.update(ckpt_path=str(checkpoint), weights_only=True)
        module = strategy.oneshot_module
        if checkpoint and stopped_by_guard(checkpoint):
            module.load_history(checkpoint)  # it was interrupted between its end and the next stage
        else:
            strategy.run()
    steps, pictures = steps_and_pictures(evaluator.train_dataloaders, evaluator.val_dataloaders)
    epochs = len(module.history)
    searched = max(0, epochs - module.warmup_epochs) * steps
    gradient: Gradient = "first" if module.order == "first" else module.hessian
    spent = one_shot_macs(supernet_macs, pictures, epochs * steps, searched, gradient)
    result = module.result()
    found_by = {"epoch": result["epoch"], "order": module.order}
    return Found(result["choices"], found_by, guard_verdict(module.history, result), spent)


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


def steps_and_pictures(train: Any, val: Any) -> tuple[int, int]:
    """Steps of an epoch and pictures of a half step: Lightning repeats the shorter of the two loaders."""
    pictures = max(loader.sampler.batch_size for loader in (train, val))
    return max(len(train), len(val)), pictures


def random(options: SearchOptions, task: Task, folder: Path, reporter: Reporter) -> Found:
    """Run random search; candidates that an interrupted run has finished are taken from its log."""
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
        strategy = RandomSearch(budget_macs=budget, max_candidates=options.max_candidates, seed=options.seed)
        strategy(RawFormatModelSpace.from_model(space, trial.evaluator()), SequentialExecutionEngine())
    best = next(iter(strategy.list_models(limit=1))).sample
    found_by = {"candidates": strategy.candidates, "budget_macs": budget, "selected_by": "val_auc"}
    return Found(best, found_by, {"verdict": "healthy", "reason": None}, strategy.spent)


def build_one_shot(options: SearchOptions) -> DARTS:
    """The strategy that the options describe."""
    common: dict[str, Any] = {
        "arc_learning_rate": options.arc_learning_rate,
        "arc_weight_decay": options.arc_weight_decay,
        "gradient_clip_val": options.gradient_clip,
        "guard": CollapseGuard(options.guard),
    }
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
        weight_decay=options.weight_decay or 0.0,
        gradient_clip=options.gradient_clip,
    )


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
