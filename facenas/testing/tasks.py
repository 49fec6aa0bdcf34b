"""What a task must do."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.task import Task, WeightSchedule
from evaluators.train import fit


class TaskTestCase:
    """Tests of one task with one small network."""

    batch_size = 4

    def make_task(self) -> Task:
        """The task, with a data set that is small."""
        raise NotImplementedError("return a new task")

    def make_network(self) -> nn.Module:
        """A small network for the task, with random weights."""
        raise NotImplementedError("return a network whose outputs the task can judge")

    @cached_property
    def task(self) -> Task:
        """The task, made once a test."""
        return self.make_task()

    def batch(self) -> tuple[Tensor, Any]:
        """The first pictures and targets of the training split."""
        pictures, targets = next(iter(self.task.loader(self.task.data.splits["train"], self.batch_size, seed=0)))
        return pictures, targets

    def losses(self, network: nn.Module) -> dict[str, Tensor]:
        """Those of the first batch."""
        pictures, targets = self.batch()
        outputs, head = network(pictures), self.task.head()
        return self.task.losses_at(outputs if head is None else head(outputs), targets, progress=0.0)

    def test_pictures_are_what_networks_take(self) -> None:
        pictures, _ = self.batch()
        size = self.task.image_size
        assert pictures.shape == (self.batch_size, 3, size, size) and pictures.dtype == torch.float32
        assert pictures.min() >= -1 and pictures.max() <= 1, "pictures lie in [-1, 1]"

    def test_equal_seeds_give_equal_batches(self) -> None:
        assert torch.equal(self.batch()[0], self.batch()[0]), "the loader's seed says all that is drawn"

    def test_the_loss_is_finite_and_has_a_gradient(self) -> None:
        network = self.make_network().train()
        losses = self.losses(network)
        assert "loss" in losses and all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
        losses["loss"].backward()
        assert any(parameter.grad is not None for parameter in network.parameters())

    def test_training_lowers_the_loss(self) -> None:
        torch.manual_seed(0)
        network, train = self.make_network(), self.task.data.splits["train"]
        self.task.prepare(network)
        before = float(self.losses(network.eval())["loss"].detach())
        fit(network, self.task, WeightSchedule(12, self.batch_size, 0.02), train, seed=0, accelerator="cpu")
        after = float(self.losses(network)["loss"].detach())
        assert after < before or self.task.head() is not None  # a head of its own is not kept

    def test_judging_leaves_the_network_as_it_was(self) -> None:
        network = self.make_network().train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        self.task.validation(network, self.task.data.splits["val"])
        assert network.training and all(
            torch.equal(before[name], value) for name, value in network.state_dict().items()
        )

    def test_figures_hold_what_a_search_maximises(self) -> None:
        figures = self.task.validation(self.make_network(), self.task.data.splits["val"])
        assert self.task.objective in figures and all(isinstance(value, float) for value in figures.values())

    def test_metrics_lie_within_their_intervals(self) -> None:
        metrics = self.task.metrics(self.make_network())
        for name, metric in metrics.items():
            low, value, high = (metric[key] for key in ("low", "value", "high"))
            if value is None or low is None or high is None:
                continue
            assert math.isfinite(value) and low <= value <= high, f"{name}: {low} <= {value} <= {high}"
        assert self.task.headline(metrics)

    def test_splits_and_halves_share_no_picture(self) -> None:
        halves = self.task.search_halves(seed=0)
        assert len(halves[0]) + len(halves[1]) == len(self.task.data.splits["train"])
        first, second = (next(self.task.pictures(half, len(half))) for half in halves)
        assert not any(torch.equal(a, b) for a in first for b in second)

    def test_a_network_of_other_outputs_is_refused(self) -> None:
        self.task.check(self.make_network())
        wrong = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 977))
        try:
            self.task.check(wrong)
        except Exception as error:
            assert type(error).__name__ == "ConfigError", "raise ConfigError, which commands print on one line"
        else:
            raise AssertionError("check(network) refuses outputs that the task cannot judge")
