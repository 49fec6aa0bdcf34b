"""From a search to its report: data, search, training, measuring, baseline, page. Each stage leaves a file, and a run
that is resumed goes on with the first stage whose file is missing."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.cli import INTERRUPTED, run_command
from searchspaces.errors import FacenasError
from searchspaces.nni_space import in_trial

from .checks import check_outputs, check_space, check_strategy, check_strategy_fits
from .options import OPTIONS, RandomSearchOptions, SearchOptions, from_run, resolve, to_dict

if TYPE_CHECKING:
    from evaluators.task import Task
    from searchspaces import Architecture
    from searchspaces.console import Reporter

DESCRIPTIONS = {
    "darts": "Search with DARTS: all operations of all edges, weighted and trained together.",
    "pc_darts": "Search with PC-DARTS: operations see a part of the channels, and edges have weights.",
    "gumbel": "Gumbel single path: of every choice one sampled candidate runs and learns.",
    "single_path": "Sampled single path: one network with all branches, every iteration trains one path of it.",
    "evolution": "Regularised evolution with a computing budget: candidates are changed copies of good ones.",
    "random_search": "Random search with a computing budget: the baseline of all others.",
}


def search_command(strategy: str, argv: Sequence[str] | None = None) -> int:
    """The command ``python -m strategies.STRATEGY``: search, train the result, measure it, write a report."""

    def command(options: SearchOptions) -> int:
        if in_trial():
            from .trial import run_trial

            return run_trial(strategy, options)
        return run_search(strategy, options)

    command.__annotations__["options"] = OPTIONS[strategy]
    command.__doc__ = DESCRIPTIONS[strategy]
    return run_command(command, argv, prog=f"python -m strategies.{strategy}")


def run_search(strategy: str, options: SearchOptions, reporter: Reporter | None = None) -> int:
    """Run all stages of a search in its folder.

    Args:
        reporter: says how it goes; to the terminal by default.

    Returns:
        0, or 130 if the user interrupted it.

    Raises:
        FacenasError: for options, data or folders that cannot be used.
    """
    from searchspaces.console import Reporter, quiet_libraries, terminate_as_interrupt
    from searchspaces.folder import check_run, open_run, read_config, write_config

    folder = Path(options.out or f"runs/{options.space.rpartition(':')[2]}-{strategy}-{options.seed}")
    plan = options.plan
    if not plan and not (options.resume and options.overwrite):  # `resolve` says what is wrong with both
        check_run(folder, resume=options.resume, overwrite=options.overwrite)  # before anything heavy
    if options.resume and (folder / "config.yaml").is_file():
        check_strategy(strategy, folder)
        options = from_run(options, read_config(folder))
    options = resolve(replace(options, out=str(folder)))
    check_space(options)
    if getattr(options, "memory_budget", None) and not options.resume:  # a run that goes on keeps what was chosen
        from .memory import fit_memory

        check_strategy_fits(strategy, options)
        options = fit_memory(options, reporter)
    if plan:
        from .plan import show_plan

        return show_plan(strategy, options)
    check_strategy_fits(strategy, options)
    if options.overwrite:
        build_task(options)  # fails before the earlier run is lost
    with (
        open_run(folder, resume=options.resume, overwrite=options.overwrite),
        quiet_libraries(),
        terminate_as_interrupt(),
    ):
        if not options.resume:
            write_config(folder, to_dict(options))
        try:
            stages_of(strategy, options)(strategy, options, folder, reporter or Reporter()).run()
        except FacenasError:
            if not (options.resume or (folder / "data.json").exists()):
                shutil.rmtree(folder)  # nothing has begun yet, so the corrected command finds its folder free
            raise
        except (KeyboardInterrupt, SystemExit):
            command = f"python -m strategies.{strategy} --resume --out {shlex.quote(str(folder))}"
            print(f"facenas: interrupted. Go on with: {command}", file=sys.stderr)
            return INTERRUPTED
    return 0


def stages_of(strategy: str, options: SearchOptions) -> type[Stages]:
    """What follows the search: most results are trained anew, a network that is trained once is judged as it is."""
    from searchspaces.registry import find_space

    space_class = find_space(options.space).space_class
    if strategy == "single_path" and getattr(space_class, "trained_once", False):
        from .adaptive import AdaptiveStages

        return AdaptiveStages
    if getattr(space_class, "task", None) == "detection":
        from .detectors import DetectorStages

        return DetectorStages
    return Stages


def build_task(options: SearchOptions) -> Task:
    """The task that the options describe, for the network that is trained.

    Raises:
        FacenasError: if the data are missing or do not fit.
    """
    from evaluators import tasks
    from evaluators.datasets import import_builder
    from searchspaces import build_space

    import_builder(options.data)
    space = build_space(options.space, **{**options.space_options, **options.train_options})
    return tasks.build_task(space, to_dict(options))


class Stages:
    """The stages of one run.

    Args:
        strategy: the strategy's name.
        options: resolved options.
        folder: the run's folder, which this process holds.
        is_baseline: whether the run is part of another, whose report shows it.
    """

    def __init__(
        self, strategy: str, options: SearchOptions, folder: Path, reporter: Reporter, is_baseline: bool = False
    ) -> None:
        self.is_baseline = is_baseline
        self.strategy, self.options, self.folder, self.reporter = strategy, options, folder, reporter
        self.provenance = self._read_provenance()
        self.seconds: dict[str, float] = self.provenance.setdefault("seconds", {})

    def run(self, task: Task | None = None) -> None:
        """All stages that have not left their file yet, and the report."""
        import torch

        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        task = task or self.data()
        try:
            architecture = self.search(task)
            self.train(architecture, task)
            self.measure(architecture)
            if self.has_baseline:
                self.baseline(task)
        finally:
            self._write_provenance()  # the time of a stage that was interrupted counts too
        if not self.is_baseline:
            self.report()

    @property
    def has_baseline(self) -> bool:
        """Whether something is trained to be shown beside the result: random search is its own baseline."""
        return self.options.baseline and self.strategy != "random_search"

    # ---- stages

    def data(self) -> Task:
        """The task; ``data.json`` describes the data, and how far colour and sharpness alone lead."""
        from searchspaces.files import write_json

        with self.reporter.timed(self.seconds, "data"):
            task = build_task(self.options)
            check_outputs(self.options, task)
            if not (self.folder / "data.json").exists():
                write_json(self.folder / "data.json", {**task.data.card, **self._shortcut(task)})
        what = {"antispoofing": "attacks", "detection": "scenes"}.get(task.name, "pictures")
        simulated = f" (simulated {what})" if task.data.card.get("simulated") else ""
        splits = ", ".join(f"{len(split)} {name}" for name, split in task.data.splits.items())
        self.reporter.line("data", f"{task.data.name}{simulated}: {splits} pictures")
        return task

    @staticmethod
    def _shortcut(task: Task) -> dict[str, Any]:
        """How far one comes without a network: by global colour and sharpness of live and attack, by raw pixels of
        people; nothing for other tasks."""
        from evaluators.antispoofing import AntiSpoofing
        from evaluators.datasets.shortcut import shortcut_scores

        if task.name == "recognition":
            from evaluators.recognition import pixel_error

            error = pixel_error(task.data)
            return {} if error is None else {"pixels": {"eer": error}}
        return {"shortcut": shortcut_scores(task.data)} if isinstance(task, AntiSpoofing) else {}

    def search(self, task: Task) -> Architecture:
        """The found architecture; ``architecture.json``."""
        from searchspaces import Architecture

        file = self.folder / "architecture.json"
        if file.exists():
            return Architecture.load(file)
        from . import searches

        self._write_provenance()
        with self.reporter.timed(self.seconds, "search"):
            run = searches.SEARCHES.get(self.strategy, searches.one_shot)
            found = run(self.options, task, self.folder, self.reporter)
        self.provenance["guard"] = found.guard
        self.provenance["search_macs"] = found.macs_spent
        self._write_provenance()
        options = self._all_space_options()
        provenance = {"strategy": self.strategy, "seed": self.options.seed, "data": self.options.data, **found.found_by}
        architecture = Architecture(self.options.space, options, found.choices, provenance)
        architecture.save(file)
        self._show_budget(found.choices)
        verdict = found.guard["verdict"]
        self.reporter.line("search", f"done: {verdict}{': ' + found.guard['reason'] if found.guard['reason'] else ''}")
        return architecture

    def _show_budget(self, choices: Mapping[str, Any]) -> None:
        """What the result costs of what it may cost; in the provenance too."""
        from .budgets import build_budget

        budget = build_budget(self.options)
        if budget is None:
            return
        from strategies.cost import figure

        cost = budget.table.cost_of(choices)
        self.provenance["budget"] = {
            name: {"limit": most, "result": cost[name]} for name, most in budget.limits.items()
        }
        self._write_provenance()
        for name, most in budget.limits.items():
            self.reporter.line("budget", f"{name} {figure(cost[name])} of at most {figure(most)}")

    def _all_space_options(self) -> dict[str, Any]:
        """Options of the trained network, defaults included: a later version may have other defaults."""
        from searchspaces import build_space

        given = {**self.options.space_options, **self.options.train_options}
        defaults = build_space(self.options.space, **given).args
        return {k: v for k, v in defaults.items() if isinstance(v, int | float | str | list | dict)} | given

    def train(self, architecture: Architecture, task: Task) -> None:
        """The result's weights and error rates; ``weights.safetensors``, ``training.csv``, ``metrics.json``."""
        if (self.folder / "metrics.json").exists():
            return
        from evaluators.companions import companions
        from evaluators.train import share_training, train_architecture

        from .searches import train_schedule

        options, schedule = self.options, train_schedule(self.options)
        trainer_options: dict[str, Any] = {"accelerator": options.accelerator, "devices": options.devices}
        shared = (schedule, self.folder, options.seed, options.resume, trainer_options)
        with (
            self.reporter.timed(self.seconds, "train"),
            self.reporter.epochs("train", schedule.epochs) as show,
            companions(options.devices, share_training, architecture, to_dict(options), *shared),
        ):
            metrics = train_architecture(
                architecture,
                task,
                schedule,
                self.folder,
                options.seed,
                resume=options.resume,
                on_epoch=show,
                **trainer_options,
            )
        self._write_provenance()
        self.reporter.line("test", task.headline(metrics))

    def measure(self, architecture: Architecture) -> None:
        """What the result costs; ``cost.json`` and ``network.onnx``."""
        if (self.folder / "cost.json").exists():
            return
        from hardware.profile import cost_of
        from searchspaces.files import write_json

        with self.reporter.timed(self.seconds, "measure"):
            weights = self.folder / "weights.safetensors"
            network = architecture.build(weights=weights).eval()
            cost = cost_of(network, architecture.input_size, folder=self.folder)
            paper = self._paper_cost(architecture)
            if paper:
                cost["paper_width"] = paper
            self._measure_budget(network, architecture.input_size, cost)
        write_json(self.folder / "cost.json", cost)
        self._write_provenance()
        latency = cost["latency"][0]
        self.reporter.line(
            "cost",
            f"{cost['parameters']['stored'] / 1e6:.3f} M parameters, {cost['operations']['mac'] / 1e6:.1f} M MACs, "
            f"{latency['median_ms']:.2f} ms (median of {latency['repetitions']}, {latency['threads']} thread, "
            f"{cost['device']['cpu']})",
        )

    def _measure_budget(self, network: Any, size: tuple[int, ...], cost: dict[str, Any]) -> None:
        """The latency that has a budget, measured where its profile is of this machine; into cost and provenance."""
        from .budgets import measured_on_budget

        if "latency_ms" not in self.provenance.get("budget", {}):
            return
        budget = self.provenance["budget"]["latency_ms"]
        latency = measured_on_budget(self.options, network, size)
        if latency is None:
            self.reporter.line("budget", "latency_ms is of another device than this one: measure it there")
            return
        same = [all(entry[key] == latency[key] for key in ("runtime", "dtype", "threads")) for entry in cost["latency"]]
        if not any(same):
            cost["latency"].append(latency)
        budget["measured"] = latency["median_ms"]
        kept = "kept" if latency["median_ms"] <= budget["limit"] else "NOT kept"
        self.reporter.line(
            "budget",
            f"latency {latency['median_ms']:.3f} ms measured ({latency['runtime']}, {latency['dtype']}) of at most "
            f"{budget['limit']:.3f}: {kept}",
        )

    @staticmethod
    def _paper_cost(architecture: Architecture) -> dict[str, Any] | None:
        """The same choices with the space's default options, which are the paper's widths as we read them; None if
        the default space has other choices."""
        from hardware.counters import count, count_parameters
        from searchspaces import Architecture

        try:
            full = Architecture(architecture.space, {}, architecture.choices)
        except (FacenasError, TypeError):
            return None
        network = full.build()
        own = {key: value for key, value in full.model_space().args.items() if isinstance(value, int | str)}
        return {
            **own,
            "parameters": count_parameters(network, full.input_size)["stored"],
            "mac": count(network, full.input_size),
        }

    def baseline(self, task: Task) -> None:
        """Random search with the budget that this search has used, in the folder ``baseline``."""
        from searchspaces.folder import write_config

        folder = self.folder / "baseline"
        shared = {
            name: value
            for name, value in to_dict(self.options).items()
            if name in RandomSearchOptions.__dataclass_fields__
        }
        options = RandomSearchOptions(
            **{**shared, "out": str(folder), "budget_macs": self.provenance["search_macs"], "baseline": False},
            resume=(folder / "config.yaml").exists(),
        )
        folder.mkdir(exist_ok=True)
        write_config(folder, to_dict(options))
        shutil.copyfile(self.folder / "data.json", folder / "data.json")  # so that the folder stands alone
        self.reporter.line("baseline", "random search with the same number of multiply-accumulates")
        Stages("random_search", options, folder, self.reporter, is_baseline=True).run(task)

    def report(self) -> None:
        """``report.html`` and its pictures."""
        from reports import write_report

        page = write_report([self.folder], self.folder / "report.html")
        self.reporter.line("report", str(page))

    # ---- provenance

    def _read_provenance(self) -> dict[str, Any]:
        from searchspaces.files import read_json

        file = self.folder / "provenance.json"
        return read_json(file) if file.exists() else {}

    def _write_provenance(self) -> None:
        from datetime import UTC, datetime
        from importlib.metadata import version

        from hardware.device import this_device
        from searchspaces.files import write_json

        from .deviations import find_space_task, open_choices

        self.provenance.setdefault("started", datetime.now(UTC).isoformat(timespec="seconds"))
        self.provenance.update(
            strategy=self.strategy,
            task=find_space_task(self.options.space),
            facenas=version("facenas"),
            torch=version("torch"),
            nni=version("nni"),
            device=this_device(),
            deviations=open_choices(self.options),
        )
        write_json(self.folder / "provenance.json", self.provenance)
