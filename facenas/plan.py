"""What a search would take, told without searching: ``--plan`` on every search command.

Counting is done here; two steps of the search and of a training are timed by ``python -m facenas.plan STRATEGY`` in a
process of its own, which leaves nothing behind, and whose peak of memory is that of these steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError, FacenasError
from searchspaces.processes import child_environment

from .budgets import names_of, read_budget, recorded_costs
from .checks import check_draws
from .options import OPTIONS, RandomSearchOptions, SearchOptions, to_dict

if TYPE_CHECKING:
    from evaluators.task import Task
    from strategies.cost import Budget, CostTable

TIMED_STEPS = 3  # the first warms up, the two after it are timed
RANDOM_NETWORKS = 500
COUNTED = {"macs": "MACs", "parameters": "parameters", "latency_ms": "ms"}


def show_plan(strategy: str, options: SearchOptions) -> int:
    """Print the plan of a search with resolved options.

    Returns:
        0, also if the budget cannot be kept: the plan says so.

    Raises:
        FacenasError: for options, data or a space that the search could not use either.
    """
    from searchspaces import build_space
    from searchspaces.console import Reporter

    reporter, budget = Reporter(), read_budget(options)
    space = build_space(options.space, **options.space_options)
    reporter.line("space", space_line(options.space, space))
    table = recorded_costs(options)
    for name, ends in table.range().items() if table else ():
        smallest, largest = (amount(value) for value in ends)
        reporter.line("networks", f"{COUNTED[name]} from {smallest} to {largest}, as they are trained")
    if budget:
        problem = problem_of(strategy, options, budget)
        for line in budget_lines(budget, space, options.seed, problem):
            reporter.line("budget", line)
        if problem:  # the rest is told as if there were none
            options = replace(options, macs_budget=None, params_budget=None, latency_budget=None, device_profile=None)
    for stage, text in measured_lines(measure_in_new_process(strategy, options)):
        reporter.line(stage, text)
    return 0


def space_line(name: str, space: Any) -> str:
    """How large the space is, in all ways in which it counts itself."""
    sizes = space.sizes() if hasattr(space, "sizes") else {"choices": len(space.simplify())}
    return f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {size:.4g}" for key, size in sizes.items())


def amount(value: float) -> str:
    """A number for people.

    >>> amount(27_140_000), amount(8785), amount(2.5)
    ('27.14 M', '8.785 k', '2.5')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g}"


def problem_of(strategy: str, options: SearchOptions, budget: Budget) -> str | None:
    """Why the budget cannot be kept by this search, or None if it can."""
    try:
        budget.check()
        check_draws(strategy, options, budget)
    except ConfigError as error:
        return str(error)
    return None


def budget_lines(budget: Budget, space: Any, seed: int, problem: str | None) -> list[str]:
    """Whether the budget can be kept, how rare networks are that keep it, and how far its table is from a sum."""
    from numpy.random import RandomState

    from searchspaces.sampling import random_choices

    limits = ", ".join(f"at most {amount(most)} {COUNTED[name]}" for name, most in budget.limits.items())
    if problem:
        return [f"{limits}: not feasible. {problem}"]
    random = RandomState(seed)
    points = [random_choices(space, random) for _ in range(RANDOM_NETWORKS)]
    share = sum(map(budget.keeps, points)) / len(points)
    lines = [f"{limits}: feasible, kept by {share:.0%} of {RANDOM_NETWORKS} random networks"]
    if "latency_ms" in budget.limits:
        off = max(abs(budget.table.residual(choices)["latency_ms"]) for choices in points[:20])
        lines.append(f"the latency of a network is within {off:.2g} ms of the sum of its parts (20 random networks)")
    return lines


def measured_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the measuring process has found, for people."""
    from searchspaces.console import duration

    batch = f"a batch of {found['pictures']} pictures a step"
    alphas = f", {found['architecture_parameters']} of the architecture" if found["architecture_parameters"] else ""
    lines = [
        ("trained", f"{found['what']}: {amount(found['weights'])} parameters{alphas}"),
        ("memory", f"{found['peak_bytes'] / 2**20:.0f} MiB at the peak of the process, with {batch}"),
        ("steps", f"{found['steps']:,} ({found['steps_from']})"),
        ("time", f"search about {duration(found['search_seconds'])} ({found['step_seconds']:.3g} s a step, two timed)"),
    ]
    if found["train_seconds"] is not None:
        text = f"training of the result about {duration(found['train_seconds'])} ({found['train_steps']:,} steps"
        lines.append(("time", f"{text} of {found['train_network']} network)"))
    return [*lines, ("time", "not included: data, judging, baseline, measuring, report")]


# ---- the measuring process


def measure_in_new_process(strategy: str, options: SearchOptions) -> dict[str, Any]:
    """The result of `measure`, in a process of its own.

    Raises:
        FacenasError: with the message of what went wrong there.
    """
    command = [sys.executable, "-m", "facenas.plan", strategy]
    done = subprocess.run(
        command, input=json.dumps(to_dict(options)), capture_output=True, text=True, env=child_environment()
    )
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FacenasError(message.removeprefix("facenas: "))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(strategy: str, options: SearchOptions) -> dict[str, Any]:
    """Take a few steps of the search, and of the training of its result; nothing is written.

    Returns:
        Sizes, seconds and numbers of steps as `measured_lines` shows them.
    """
    import torch

    from . import searches
    from .pipeline import build_task, stages_of

    if options.threads:
        torch.set_num_threads(options.threads)
    task = build_task(options)
    torch.manual_seed(options.seed)
    drawn = strategy in ("random_search", "evolution")
    search = candidate_steps(options, task) if drawn else supernet_steps(strategy, options, task)
    search["peak_bytes"] = peak_bytes()  # before the training, whose network may be wider
    search |= {"train_seconds": None, "train_steps": 0}
    if stages_of(strategy, options).__name__ == "Stages":  # a network that is trained once has no training to follow
        table = recorded_costs(options)
        schedule, network = searches.train_schedule(options), large_network(options, table)
        loader = task.loader(task.data.splits["train"], schedule.batch_size, options.seed)
        search["train_steps"] = len(loader) * schedule.epochs
        search["train_seconds"] = search["train_steps"] * training_step(network, task, schedule, loader, options)
        search["train_network"] = "the largest" if table else "a random"
    return search


def supernet_steps(strategy: str, options: SearchOptions, task: Task) -> dict[str, Any]:
    """Size, steps and seconds of a one-shot search."""
    from nni.nas.execution import SequentialExecutionEngine
    from nni.nas.space import RawFormatModelSpace

    from searchspaces import build_space
    from strategies import SinglePath

    from . import searches

    warmup = min(1, getattr(options, "warmup_epochs", 0))
    space = build_space(options.space, **options.space_options)
    built: Any
    if strategy == "single_path":
        sampling = getattr(options, "sampling", None)
        built = SinglePath(space.sampling_table(sampling) if sampling else None, seed=options.seed)
    else:
        short: Any = replace(options, **{"warmup_epochs": warmup}) if warmup else options  # type: ignore[arg-type]
        built = searches.build_one_shot(short)
    timer, schedule = step_timer(), searches.search_schedule(options)
    evaluator = task.search_evaluator(
        schedule,
        options.seed,
        single_path_halves(strategy, options, task),
        callbacks=[timer],
        **{**SHORT_FIT, "max_epochs": 1 + warmup},
        accelerator=options.accelerator,
    )
    built.initialize(RawFormatModelSpace.from_model(space, evaluator), SequentialExecutionEngine())
    built.run()
    loaders = [evaluator.train_dataloaders, *([] if strategy == "single_path" else [evaluator.val_dataloaders])]
    per_epoch, pictures = searches.steps_and_pictures(*loaders)
    alphas: list[Any] = [] if strategy == "single_path" else built.oneshot_module.arch_parameters()
    epochs, warm_epochs = schedule.epochs, getattr(options, "warmup_epochs", 0)
    seconds = timer.seconds[0] * warm_epochs + timer.seconds[-1] * (epochs - warm_epochs)
    everything = sum(p.numel() for p in built.supernet.parameters())
    return {
        "what": "supernet",
        "weights": everything - sum(p.numel() for p in alphas),
        "architecture_parameters": sum(p.numel() for p in alphas),
        "pictures": pictures * len(loaders),
        "steps": epochs * per_epoch,
        "steps_from": f"{epochs} epochs of {per_epoch}",
        "step_seconds": timer.seconds[-1],
        "search_seconds": seconds * per_epoch,
    }


def single_path_halves(strategy: str, options: SearchOptions, task: Task) -> Any:
    """A network that is trained once sees the whole training split, all others its halves."""
    from .pipeline import stages_of

    whole = strategy == "single_path" and stages_of(strategy, options).__name__ != "Stages"
    return (task.data.splits["train"], task.data.splits["val"]) if whole else None


def candidate_steps(options: SearchOptions, task: Task) -> dict[str, Any]:
    """Size, steps and seconds of a search that trains one candidate after another, from a random candidate."""
    from numpy.random import RandomState

    from hardware.counters import count
    from searchspaces import Architecture, build_space
    from strategies.budget import WEIGHT_STEP
    from strategies.paths import accepted_choices

    from . import searches
    from .budgets import build_budget

    assert isinstance(options, RandomSearchOptions)
    budget, schedule = build_budget(options), searches.search_schedule(options, candidate=True)
    space = build_space(options.space, **options.space_options)
    choices = accepted_choices(space, RandomState(options.seed), budget.keeps if budget else None)
    network = Architecture(options.space, options.space_options, choices).build()
    loader = task.loader(task.search_halves(options.seed)[0], schedule.batch_size, options.seed)
    seconds = training_step(network, task, schedule, loader, options)
    per_epoch, pictures = searches.steps_and_pictures(loader)
    per_candidate = schedule.epochs * per_epoch
    per_step = WEIGHT_STEP * count(network, space.input_size) * pictures
    limits = [options.max_candidates * per_candidate] if options.max_candidates else []
    if options.budget_macs or not options.max_candidates:
        macs = options.budget_macs or searches.darts_budget(options, task)
        limits.append(max(per_candidate, round(macs / per_step)))
    steps = min(limits)
    return {
        "what": "one network after another, the first",
        "weights": sum(p.numel() for p in network.parameters()),
        "architecture_parameters": 0,
        "pictures": pictures,
        "steps": steps,
        "steps_from": f"about {steps / per_candidate:.0f} candidates of {per_candidate}",
        "step_seconds": seconds,
        "search_seconds": steps * seconds,
    }


def large_network(options: SearchOptions, table: CostTable | None) -> Any:
    """The network of the space that would be the most work to train, or a random one where that is not known."""
    from searchspaces import Architecture, build_space

    space_options = {**options.space_options, **options.train_options}
    if table is None:
        return build_space(options.space, **space_options).random()
    macs = names_of(options).index("macs")
    largest = [max(group, key=lambda option: option.cost[macs]) for group in table.groups()]
    choices = {label: choice for option in largest for label, choice in option.choices.items()}
    return Architecture(options.space, space_options, choices).build()


def training_step(network: Any, task: Task, schedule: Any, loader: Any, options: SearchOptions) -> float:
    """Seconds of a step of training a fixed network."""
    import pytorch_lightning as pl

    from evaluators.task import TRAINER_OPTIONS
    from evaluators.train import FixedModule

    timer, module = step_timer(), FixedModule(task, schedule)
    module.set_model(network)
    trainer_options = {**TRAINER_OPTIONS, **SHORT_FIT, "logger": False, "enable_checkpointing": False}
    clip = {"gradient_clip_val": schedule.gradient_clip, "accelerator": options.accelerator}
    pl.Trainer(callbacks=[timer], **trainer_options, **clip).fit(module, loader)
    return float(timer.seconds[-1])


SHORT_FIT: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": TIMED_STEPS}


def step_timer() -> Any:
    """A Lightning callback with ``seconds``: of each epoch the mean time of a step with its data, without the first
    step if there are more."""
    import pytorch_lightning as pl

    class StepTimer(pl.Callback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            self.ends = [time.perf_counter()]

        def on_train_batch_end(self, *ignored: Any) -> None:
            self.ends.append(time.perf_counter())

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            ends = self.ends[1:] if len(self.ends) > 2 else self.ends
            self.seconds.append((ends[-1] - ends[0]) / (len(ends) - 1))

    return StepTimer()


def peak_bytes() -> int:
    """The most memory that this process has held: on the GPU if it has used one, else resident in the machine's."""
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")  # getrusage would count what the parent held when it started us
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(strategy: str) -> None:
    """Measure the search whose options come as JSON on the standard input, and print the result as JSON.

    Args:
        strategy: its name.
    """
    from searchspaces.cli import parse_values
    from searchspaces.console import quiet_libraries

    with quiet_libraries():
        found = measure(strategy, parse_values(OPTIONS[strategy], json.load(sys.stdin)))
    print(json.dumps(found))


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m facenas.plan"))
