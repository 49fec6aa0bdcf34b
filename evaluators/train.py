"""Training of one fixed network from scratch: ``python -m evaluators.train ARCHITECTURE``."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from evaluators.train_command import main
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.train"))

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from torch import nn

from searchspaces import Architecture
from searchspaces.architecture import load_weights
from searchspaces.errors import DivergenceError, FacenasError
from searchspaces.files import write_json, write_text
from searchspaces.folder import read_config
from searchspaces.processes import child_environment
from searchspaces.weights import write_weights

from .checkpoint import EpochCheckpoint, best_epoch, go_on_after, latest_checkpoint
from .datasets.base import Split
from .faults import explained_faults
from .scores import FILE as SCORES
from .sharing import is_first_process, mean, shared_trainer_options
from .task import TRAINER_OPTIONS, Task, TaskModule, WeightSchedule

EpochHook = Callable[[dict[str, Any]], None]


class TrainingLog(EpochCheckpoint):
    """Writes ``training.csv``: a row an epoch, with the loss and the error rates on the validation split."""

    def __init__(self, folder: Path, seed: int, task: Task, on_epoch: EpochHook | None) -> None:
        super().__init__(folder / "checkpoint" / "train", seed)
        self.file, self.task, self.on_epoch = folder / "training.csv", task, on_epoch
        self.rows: list[dict[str, Any]] = []

    @property
    def state_key(self) -> str:
        return "TrainingLog"  # where the rows are found in a checkpoint, in subclasses too

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])

    def record(self, trainer: pl.Trainer, pl_module: Any, seconds: float) -> None:
        figures = self.task.validation(pl_module.model, self.task.data.splits["val"])
        row = {
            "epoch": trainer.current_epoch,
            "train_loss": pl_module.mean_loss(),
            **{f"val_{name}": value for name, value in figures.items()},
            "learning_rate": pl_module.epoch_learning_rate,
            "seconds": round(seconds, 3),
        }
        self.rows.append(row)
        if pl_module.schedule.keep == "best" and best_epoch(self.rows, self.task.rank) == row["epoch"]:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_weights(pl_module.model, self.best_weights)
        write_text(self.file, pd.DataFrame(self.rows).to_csv(index=False))
        if self.on_epoch:
            self.on_epoch(row)


class FixedModule(TaskModule):
    """A TaskModule that follows the mean loss of an epoch and stops at one that is not finite."""

    def on_train_epoch_start(self) -> None:
        self._losses: list[float] = []
        self.epoch_learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        value = mean(loss).item()
        if not math.isfinite(value):
            raise DivergenceError(
                f"The training loss is {value} in epoch {self.trainer.current_epoch}, batch {batch_idx}. "
                "Lower the learning rate."
            )
        self._losses.append(value)
        return loss

    def weight_groups(self) -> list[dict[str, Any]]:
        """Those of the task with a weight decay of their own (see `Task.decays`), then all others."""
        others = self.task.decays(self.model)
        own: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            own.setdefault(others.get(name, 1.0), []).append(parameter)
        own.setdefault(1.0, []).extend(self.head.parameters() if self.head else [])
        decay = self.schedule.weight_decay
        return [
            {"params": [p for p in parameters if p.requires_grad], "weight_decay": factor * decay}
            for factor, parameters in sorted(own.items())
        ]

    def mean_loss(self) -> float:
        return sum(self._losses) / len(self._losses)


def module_for(task: Task, schedule: WeightSchedule) -> FixedModule:
    """What trains a fixed network: beside a teacher if the task has one."""
    if task.teaching is None:
        return FixedModule(task, schedule)
    from .distillation import DistilledModule

    return DistilledModule(task, schedule)


def fit(
    network: nn.Module,
    task: Task,
    schedule: WeightSchedule,
    split: Split,
    seed: int,
    *,
    callbacks: list[pl.Callback] | None = None,
    checkpoint: Path | None = None,
    **trainer_options: Any,
) -> nn.Module:
    """Train a network on a split, in place; returned in evaluation mode on the CPU.

    Args:
        callbacks: Lightning callbacks.
        checkpoint: a checkpoint to go on from.
        trainer_options: of Lightning's Trainer, such as ``accelerator``. With ``strategy="ddp", devices=2`` two
            processes share every batch of ``schedule.batch_size`` (see `sharing`), and both return the network.

    Raises:
        DivergenceError: if the loss is not a finite number.
        ResourceError: if the memory does not suffice, or a process that loads pictures is killed.
    """
    with torch.random.fork_rng(devices=[]):  # the same head whatever was drawn before
        torch.manual_seed(seed)
        module = module_for(task, schedule)
    module.set_model(network)
    options = {
        "max_epochs": schedule.epochs,
        "gradient_clip_val": schedule.gradient_clip,
        "callbacks": callbacks,
        "enable_checkpointing": any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks or ()),
        "logger": False,
        **TRAINER_OPTIONS,
    }
    trainer = pl.Trainer(**shared_trainer_options({**options, **trainer_options}))
    resume = {"ckpt_path": str(checkpoint), "weights_only": True} if checkpoint else {}
    try:
        loader = task.loader(split, schedule.batch_size, seed)
        if checkpoint:
            go_on_after(checkpoint, loader)
        with explained_faults(network, task.image_size, schedule.batch_size):
            trainer.fit(module, loader, **resume)
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from error
    return network.cpu().eval()


def train_architecture(
    architecture: Architecture,
    task: Task,
    schedule: WeightSchedule,
    folder: Path,
    seed: int,
    *,
    resume: bool = False,
    verify: bool = True,
    on_epoch: EpochHook | None = None,
    **trainer_options: Any,
) -> dict[str, dict[str, float | None]]:
    """Train an architecture from scratch on the whole training split and judge it on the test split.

    Writes ``training.csv``, ``weights.safetensors`` and ``metrics.json`` into the folder, which must hold
    ``architecture.json`` and ``config.yaml`` already if ``verify`` is set.

    Args:
        resume: go on from the folder's checkpoint if there is one.
        verify: load the saved weights in a new process, judge them there, and compare.
        trainer_options: see `fit`. Of several processes the first one writes.

    Raises:
        FacenasError: if training diverges, the folder cannot be written, or the new process finds other metrics.
    """
    network = architecture.build(seed=seed)
    task.prepare(network)
    log = TrainingLog(folder, seed, task, on_epoch)
    checkpoint = latest_checkpoint(log.folder) if resume else None
    fit(
        network,
        task,
        schedule,
        task.data.splits["train"],
        seed,
        callbacks=[log],
        checkpoint=checkpoint,
        **trainer_options,
    )
    if schedule.keep == "best":
        load_weights(network, log.best_weights)
    metrics = task.metrics(network)
    if not is_first_process():
        return metrics
    save_weights(network, folder / "weights.safetensors")
    evidence = task.evidence(network)
    if verify:
        compare_metrics(metrics, metrics_in_new_process(folder, architecture.space))
    if evidence is not None:
        write_json(folder / "scores.json", evidence)
    if task.teaching is not None:
        write_json(folder / "teacher.json", teacher_record(task))
    write_json(folder / "metrics.json", metrics)
    return metrics


def share_training(
    architecture: Architecture,
    options: Mapping[str, Any],
    schedule: WeightSchedule,
    folder: Path,
    seed: int,
    resume: bool,
    trainer_options: Mapping[str, Any],
) -> Callable[[], Any]:
    """What a companion of `train_architecture` does (see `companions`).

    Args:
        options: of the task, see `tasks.build_task`.
    """
    from .datasets import import_builder
    from .tasks import build_task

    import_builder(options.get("data"))
    task = build_task(architecture.model_space(), options, progress=False, student=architecture)
    return partial(
        train_architecture, architecture, task, schedule, folder, seed, resume=resume, verify=False, **trainer_options
    )


def teacher_record(task: Task) -> dict[str, Any]:
    """What taught, judged as its students are."""
    assert task.teaching is not None
    teacher = task.teaching.teacher.cpu()
    return {
        "name": teacher.name,
        "sha256": teacher.sha256,
        "parameters": teacher.parameter_count,
        "metrics": task.metrics(teacher),
    }


def save_weights(network: nn.Module, path: Path) -> None:
    """Write all parameters and buffers (see `write_weights`)."""
    write_weights(network.state_dict(), path)


def metrics_in_new_process(folder: Path, space: str) -> dict[str, dict[str, float | None]]:
    """Metrics of a folder's architecture and weights, computed by a process that shares nothing with this one.

    It writes the scores into ``scores.tsv``, too, if the task has any.
    """
    command = [sys.executable, "-m", "evaluators.verify", str(folder), "--scores", str(folder / SCORES)]
    if ":" in space:  # a user's own class: its module must be named, a file alone may not import code
        command += ["--space-module", space.partition(":")[0]]
    module, colon, _ = str(read_config(folder).get("data")).partition(":")
    if colon and module in sys.modules:  # a user's own data set likewise
        command += ["--data-module", module]
    # as many threads as here: another number rounds in another order, which can move a score across a threshold
    environment = child_environment(OMP_NUM_THREADS=str(torch.get_num_threads()))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise FacenasError(f"The saved weights cannot be judged in a new process: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare_metrics(
    here: dict[str, dict[str, float | None]], there: dict[str, dict[str, float | None]], tolerance: float = 1e-6
) -> None:
    """Refuse metrics that differ by more than rounding.

    Raises:
        FacenasError: naming the first metric that differs.
    """
    for name, metric in here.items():
        for bound, value in metric.items():
            other = there.get(name, {}).get(bound)
            if value != other and (value is None or other is None or abs(value - other) > tolerance):
                raise FacenasError(f"Metric {name}.{bound} is {value} after training but {other} after reloading.")
