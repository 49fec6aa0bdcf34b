"""One trial of a multi-trial search: a candidate is trained for a few epochs and judged.

``python -m evaluators.trial`` is the trial of an NNI experiment, see `trial_command`."""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from evaluators.trial_command import main
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.trial"))

import json
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import nni
import pytorch_lightning as pl
import torch
from nni.nas.evaluator import FunctionalEvaluator
from torch import nn

from hardware.counters import count

from .task import Task, WeightSchedule
from .train import fit

FORWARD, TRAINING = 1, 3  # passes that a picture costs: forward; forward, backward to inputs, backward to weights


class CandidateTrial:
    """Trains a candidate on the weights half of the training split and judges it on the architecture half.

    Those are the halves that a one-shot search sees, so both kinds of search learn from the same pictures; recognition
    judges people that the candidate has not seen (`Task.selection_split`). The metric that a strategy maximises,
    ``default``, is the task's objective: for anti-spoofing and recognition the area under the ROC curve, for detection
    the average precision.

    Args:
        schedule: how a candidate is trained.
        seed: with the candidate's choices, it seeds the weights and the data order: a candidate's result does not
            depend on how many were tried before.
        finished: results of an interrupted run by `candidate_key`; they are returned, not computed again.
        on_result: called with each new candidate's choices, result and seconds.
    """

    def __init__(
        self,
        task: Task,
        schedule: WeightSchedule,
        seed: int,
        *,
        finished: Mapping[str, dict[str, float]] | None = None,
        on_result: Callable[[Mapping[str, Any], dict[str, float], float], None] | None = None,
        accelerator: str = "auto",
    ) -> None:
        self.task, self.schedule, self.seed, self.accelerator = task, schedule, seed, accelerator
        self.finished, self.on_result = dict(finished or {}), on_result

    def __call__(self, model: nn.Module) -> None:
        """Judge a frozen network and report to NNI, as a FunctionalEvaluator does."""
        choices = nni.get_current_parameter().sample
        key = candidate_key(choices)
        if key not in self.finished:
            started = time.monotonic()
            self.finished[key] = self.judge(model, candidate_seed(self.seed, choices))
            if self.on_result:
                self.on_result(choices, self.finished[key], round(time.monotonic() - started, 3))
        nni.report_final_result(self.finished[key])

    def judge(
        self, network: nn.Module, seed: int, on_epoch: Callable[[Mapping[str, float]], None] | None = None
    ) -> dict[str, float]:
        """Train and judge one network.

        Args:
            on_epoch: called after each epoch with the task's figures on the pictures that judge.

        Returns:
            ``default``, ``val_`` and each of the task's figures, ``macs`` (one forward pass), ``macs_spent`` (all).
        """
        train, val = self.task.search_halves(self.seed)[0], self.task.selection_split(self.seed)
        macs = count(network, (3, self.task.image_size, self.task.image_size))
        watch = [EpochFigures(self.task, val, on_epoch)] if on_epoch else None
        with torch.random.fork_rng(devices=[]):  # for the training too: dropout draws from it
            torch.manual_seed(seed)
            reset_parameters(network)
            self.task.prepare(network)
            fit(network, self.task, self.schedule, train, seed, callbacks=watch, accelerator=self.accelerator)
        figures = self.task.validation(network, val)
        sampler: Any = self.task.loader(train, self.schedule.batch_size, seed).sampler
        trained = self.schedule.epochs * len(sampler) * sampler.batch_size
        return {
            "default": figures[self.task.objective],
            **{f"val_{name}": value for name, value in figures.items()},
            "macs": float(macs),
            "macs_spent": float(macs * (TRAINING * trained + FORWARD * len(val))),
        }

    def evaluator(self) -> FunctionalEvaluator:
        """What NNI's experiments take."""
        return FunctionalEvaluator(self)


def candidate_seed(seed: int, choices: Mapping[str, Any]) -> int:
    """The seed of a candidate's weights and data order: that of the search and the choices alone."""
    return zlib.crc32(f"{seed} {candidate_key(choices)}".encode())


class EpochFigures(pl.Callback):
    """Calls a function with the task's figures on a split after each epoch."""

    def __init__(self, task: Task, split: Any, show: Callable[[Mapping[str, float]], None]) -> None:
        self.task, self.split, self.show = task, split, show

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        with torch.random.fork_rng(devices=[]):  # a loader draws too: the training goes on as if nobody had looked
            figures = self.task.validation(pl_module.model, self.split)
        self.show(figures)


def candidate_key(choices: Mapping[str, Any]) -> str:
    """A text that is equal for equal choices.

    >>> candidate_key({"b": [1, 0], "a": "x"})
    '{"a": "x", "b": [1, 0]}'
    """
    return json.dumps(choices, sort_keys=True)


def reset_parameters(network: nn.Module) -> None:
    """New random weights for every layer: NNI copies a space's fixed layers into each candidate as they are."""
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    for module in network.modules():
        initialise = getattr(module, "init_weights", None)  # networks that do not start as their layers do
        if callable(initialise):
            initialise()
