"""What facenas expects of a task."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import tempfile
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evaluators.task import Task, WeightSchedule
from evaluators.train import fit
from evaluators.trial import CandidateTrial
from searchspaces.errors import ConfigError
from searchspaces.files import write_json

SPLITS = ("train", "val", "test")


class TaskTestCase:
    """Tests of a task with a small network and a small data set; see `facenas.testing`.

    Attributes:
        schedule: of a training.
        owners: what a split may call those who are in one split only, an entry a picture.
    """

    schedule: ClassVar[WeightSchedule] = WeightSchedule(epochs=1, batch_size=4, learning_rate=0.01)
    owners: ClassVar[tuple[str, ...]] = ("people", "groups")

    def make_task(self) -> Task:
        """The task, with a data set of a few pictures."""
        raise NotImplementedError("A TaskTestCase needs make_task(self), which returns the task.")

    def make_network(self) -> nn.Module:
        """A small network for the task, with random weights."""
        raise NotImplementedError("A TaskTestCase needs make_network(self), which returns a network for the task.")

    @cached_property
    def task(self) -> Task:
        """The task, made once a test."""
        return self.make_task()

    @cached_property
    def network(self) -> nn.Module:
        """The network, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make_network()

    # ---- data

    def test_it_has_a_name_and_splits_with_a_card(self) -> None:
        task = self.task
        assert task.name and task.objective and task.image_size > 0, "A task needs name, objective and image_size."
        missing = [name for name in SPLITS if not len(task.data.splits.get(name, ()))]
        assert not missing, f"task.data.splits has no pictures in {missing}."
        json.dumps(task.data.card, allow_nan=False)  # TypeError and ValueError say what is no JSON

    def test_splits_share_neither_people_nor_pictures(self) -> None:
        splits = self.task.data.splits
        for number, first in enumerate(SPLITS):
            for second in SPLITS[number + 1 :]:
                for name in self.owners:
                    owners = [set(getattr(splits[split], name, ())) for split in (first, second)]
                    assert not owners[0] & owners[1], f"{name} {owners[0] & owners[1]} are in {first} and {second}."
                shared = _pictures(splits[first]) & _pictures(splits[second])
                assert not shared, f"{len(shared)} pictures are in {first} and in {second}: figures would be too good."

    def test_search_halves_are_disjoint_and_cover_the_training_split(self) -> None:
        halves = self.task.search_halves(0)
        both = _pictures(halves[0]) + _pictures(halves[1])
        assert len(halves[0]) and len(halves[1]), "One half of the training split has no pictures."
        assert both == _pictures(self.task.data.splits["train"]), (
            "The two halves are not the training split: each of its pictures must be in one of them."
        )
        again = self.task.search_halves(0)
        assert [_pictures(half) for half in halves] == [_pictures(half) for half in again], "Equal seeds, other halves."

    def test_pictures_are_what_networks_take(self) -> None:
        side, train = self.task.image_size, self.task.data.splits["train"]
        batches = [self._batch()[0], *self.task.pictures(train, 4)]
        for pictures in batches:
            assert pictures.dtype == torch.float32 and tuple(pictures.shape[1:]) == (3, side, side), (
                f"Pictures are {pictures.dtype} {tuple(pictures.shape)}, but must be float32 (N, 3, {side}, {side})."
            )
            assert pictures.min() >= -1 and pictures.max() <= 1, "Pictures must lie in [-1, 1]."
        again = list(self.task.pictures(train, 4))
        assert all(map(torch.equal, batches[1:], again)), "`pictures` must give the same at every call."

    def test_equal_seeds_give_equal_batches(self) -> None:
        first, second = self._batch(), self._batch()
        assert torch.equal(first[0], second[0]), "`loader` must draw by its seed alone: see batches.training_loader."

    # ---- training

    def test_the_loss_is_finite_and_has_a_gradient(self) -> None:
        losses, module = self._losses()
        assert "loss" in losses, f"`losses` gives {sorted(losses)}, but training needs 'loss'."
        for name, value in losses.items():
            assert value.ndim == 0 and value.isfinite(), f"{name} is {value}, but must be a finite scalar."
        losses["loss"].backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients), (
            "No finite gradient: no training."
        )
        assert any(gradient.any() for gradient in gradients), "The gradient is 0: the loss must depend on the outputs."

    def test_the_end_of_a_training_has_a_loss_too(self) -> None:
        network = copy.deepcopy(self.network).train()
        pictures, targets = self._batch()
        outputs, head = network(pictures), self.task.head()
        loss = self.task.losses_at(outputs if head is None else head(outputs), targets, 1.0)["loss"]
        assert loss.isfinite(), f"The loss is {loss} at the end of a training."

    def test_training_lowers_the_loss(self) -> None:
        if self.task.head() is not None:
            return  # the head's weights are gone after a training, and with them the loss
        before = float(self._losses()[0]["loss"].detach())
        network, train = copy.deepcopy(self.network), self.task.data.splits["train"]
        schedule = WeightSchedule(10, self.schedule.batch_size, self.schedule.learning_rate)
        fit(network, self.task, schedule, train, seed=0, accelerator="cpu")
        after = float(self._losses(network)[0]["loss"].detach())
        assert after < before, f"After {schedule.epochs} epochs the loss is {after:.3f}; it began with {before:.3f}."

    def test_a_candidate_is_trained_and_judged(self) -> None:
        trial = CandidateTrial(self.task, self.schedule, seed=0, accelerator="cpu")
        first, second = (trial.judge(copy.deepcopy(self.network), seed=0) for _ in range(2))
        assert math.isfinite(first["default"]), f"What a search maximises, {self.task.objective}, is not finite."
        assert first == second, "The same candidate and seed was judged differently: nothing else may be drawn."

    # ---- judging

    def test_predictions_change_nothing(self) -> None:
        network, val = copy.deepcopy(self.network).train(), self.task.data.splits["val"]
        before = copy.deepcopy(network.state_dict())
        figures = [self.task.figures(self.task.predict(network, val), val) for _ in range(2)]
        assert network.training, "`predict` must restore the network's mode."
        changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
        assert not changed, f"`predict` has changed {changed} of the network: judge it in evaluation mode."
        assert figures[0] == figures[1], "Judged twice, the same network has different figures."

    def test_figures_are_numbers_and_have_the_objective(self) -> None:
        figures = self.task.validation(self.network, self.task.data.splits["val"])
        assert self.task.objective in figures, f"`figures` lacks {self.task.objective!r}, which a search maximises."
        for name, value in figures.items():
            assert isinstance(value, float) and math.isfinite(value), f"{name} is {value!r}: a finite float is needed."
        self.task.rank({f"val_{name}": value for name, value in figures.items()})  # KeyError: define `rank`

    def test_metrics_are_fractions_within_their_intervals(self) -> None:
        metrics = self.task.metrics(self.network)
        json.dumps(metrics, allow_nan=False)
        assert metrics, "`metrics` gives nothing."
        for name, metric in metrics.items():
            assert set(metric) >= {"value", "low", "high"}, f"{name} is {metric}: value, low and high are needed."
            value, low, high = (metric[key] for key in ("value", "low", "high"))
            if value is None or low is None or high is None:
                continue  # not defined on these pictures, or no fraction, such as a threshold
            assert 0 <= low <= value <= high <= 1, (
                f"{name} is {value} with an interval from {low} to {high}: a fraction within its interval is needed. "
                "Figures that are no fractions have an interval of None."
            )
        said = self.task.headline(metrics)
        assert said and "\n" not in said, f"`headline` must be one line, but is {said!r}."

    def test_metrics_take_predictions_that_are_there(self) -> None:
        outputs = self.task.predict(self.network, self.task.data.splits["val"])
        assert self.task.metrics(self.network, "test", outputs) == self.task.metrics(self.network), (
            "`metrics` with val_outputs and without must agree."
        )

    def test_evidence_is_json(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder, "scores.json"), self.task.evidence(self.network))

    def test_networks_of_other_outputs_are_refused(self) -> None:
        self.task.check(self.network)
        try:
            self.task.check(Wrong())
        except ConfigError as error:
            assert str(error), "The ConfigError of `check` must say what outputs are needed."
        except Exception as error:
            raise AssertionError(
                f"`check` ends in {type(error).__name__} for a network with outputs (N,): raise a ConfigError, which "
                "commands print on one line."
            ) from error
        else:
            raise AssertionError("`check` takes a network with outputs (N,), which the task cannot judge.")

    # ---- how

    def _batch(self) -> tuple[Tensor, Any]:
        pictures, targets = next(iter(self.task.loader(self.task.data.splits["train"], 4, seed=0)))
        return pictures, targets

    def _losses(self, network: nn.Module | None = None) -> tuple[dict[str, Tensor], nn.Module]:
        """Those of the first batch, and the network with its head."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            head = self.task.head()
        network = copy.deepcopy(self.network if network is None else network).train()
        pictures, targets = self._batch()
        outputs = network(pictures)
        losses = self.task.losses(outputs if head is None else head(outputs), targets)
        return losses, nn.ModuleList([network, *([] if head is None else [head])])


class Wrong(nn.Module):
    """A network with one number a picture, ``(N,)``, which is no task's output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x.mean(dim=(1, 2, 3))


def _pictures(split: Any) -> Counter[bytes]:
    """What each picture of a split looks like, with how often it is there."""
    found = (split[index] for index in range(len(split)))
    pictures = (item[0] if isinstance(item, tuple) else item for item in found)
    return Counter(hashlib.sha1(picture.numpy().tobytes()).digest() for picture in pictures)
