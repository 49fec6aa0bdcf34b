"""Judging every configuration of a network whose paths are switched after training, from one set of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from hardware.norms import averaging, restore, statistics

from .datasets.base import Split
from .task import Task

Judgement = dict[str, Any]


@contextmanager
def recalibrated(network: nn.Module, task: Task, split: Split, batch_size: int = 32) -> Iterator[nn.Module]:
    """New batch-norm statistics for what the network runs now, taken from a split; the old ones come back afterwards.

    A batch norm of the trunk has met the outputs of all branches in training, each with its own mean. The statistics
    are plain averages over the batches of the split (see `Task.pictures`); no weight is touched.
    """
    device, was_training, saved = next(network.parameters()).device, network.training, statistics(network)
    try:
        with averaging(network), torch.no_grad():
            for batch in task.pictures(split, batch_size):
                if len(batch) == min(batch_size, len(split)):  # a shorter one would weigh as much in the average
                    network(batch.to(device))
        yield network
    finally:
        restore(saved)
        network.train(was_training)


def judge(network: nn.Module, task: Task) -> Judgement:
    """``val``: loss, eer and auc; ``metrics`` of the test split with intervals, at the validation split's threshold."""
    val = task.data.splits["val"]
    outputs = task.predict(network, val)
    return {"val": task.figures(outputs, val), "metrics": task.metrics(network, val_outputs=outputs)}


def judge_configurations(
    network: Any,
    task: Task,
    configurations: Sequence[str],
    recalibrate: Sequence[str] = (),
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Judge configurations one after the other with the same weights.

    Args:
        network: has ``configure``; its configuration is what it was afterwards.
        recalibrate: configurations that are judged a second time, with statistics taken from the training split.
        on_row: called with each row.

    Returns:
        For each ``configuration``, ``val``, ``metrics`` (see `judge`) and ``recalibrated``, the same or None.
    """
    before, rows = network.configuration, []
    network.eval()
    for configuration in configurations:
        network.configure(configuration)
        row = {"configuration": configuration, **judge(network, task), "recalibrated": None}
        if configuration in recalibrate:
            with recalibrated(network, task, task.data.splits["train"]):
                row["recalibrated"] = judge(network, task)
        rows.append(row)
        if on_row:
            on_row(row)
    network.configure(before)
    return rows


def best_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row with the lowest validation EER; of equal ones the one with the fewest ``mac``."""
    return min(rows, key=lambda row: (row["val"]["eer"], row["mac"]))
