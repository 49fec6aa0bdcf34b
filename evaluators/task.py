"""Task: what a network is for. Its data, its loss, its scores, its metrics; and the LightningModule that trains it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .augmentation import find_augmentation
from .batches import check_size, judging_loader, training_loader
from .datasets.base import FaceData, Split
from .metrics import area_under_curve, equal_error_rate


@dataclass(frozen=True)
class WeightSchedule:
    """How weights are trained.

    By default SGD with momentum, the learning rate falling along a cosine to zero, as in section 3.3 of the Auto-FAS
    paper; ``adam`` has no use for ``momentum`` (its own betas are torch's), and ``constant`` keeps the learning rate.
    ``keep`` says which epoch's weights are the result of a training: the last one's, or those of the lowest validation
    EER (of several, the lowest loss), as the PTA paper does.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_clip: float | None = 5.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    decay: Literal["cosine", "constant"] = "cosine"
    keep: Literal["last", "best"] = "last"


class Task(ABC):
    """A task over a data set. Subclasses say what is learnt and how it is judged.

    The network's part is fixed: it takes pictures ``(N, 3, S, S)`` in [-1, 1]. A subclass defines `loss`, `scores`
    and `metrics`, which are called with the network's raw outputs, on any device, in any order; none may change state.
    """

    name: str

    workers: int | None = None  # processes that read pictures; see `batches.reading_workers`

    def __init__(self, data: FaceData, image_size: int, augmentation: str = "crop") -> None:
        check_size(data.image_size, image_size, data.name)
        find_augmentation(augmentation)
        self.data, self.image_size, self.augmentation = data, image_size, augmentation

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The scalar that training lowers."""

    @abstractmethod
    def scores(self, outputs: Tensor) -> Tensor:
        """One number a picture, ``(N,)``."""

    @abstractmethod
    def accuracy(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Share of a batch that is right, to follow a search; a scalar."""

    @abstractmethod
    def metrics(
        self, network: nn.Module, split: str = "test", val_outputs: Tensor | None = None
    ) -> dict[str, dict[str, float | None]]:
        """Metrics with intervals of a trained network on a split.

        Args:
            val_outputs: raw outputs on the validation split, if they are there already: it decides the threshold.
        """

    # ---- what all tasks share

    def search_halves(self, seed: int) -> tuple[Split, Split]:
        """The training split in two halves with no person in both: for the weights, and for the architecture."""
        return self.data.splits["train"].halves(seed)

    def loader(self, split: Split, batch_size: int, seed: int) -> DataLoader:
        """Augmented batches of a split."""
        return training_loader(split, self.image_size, batch_size, seed, self.workers, self.augmentation)

    def module(self, schedule: WeightSchedule) -> TaskModule:
        """The LightningModule that trains a network for this task."""
        return TaskModule(self, schedule)

    def search_evaluator(
        self, schedule: WeightSchedule, seed: int, halves: tuple[Split, Split] | None = None, **trainer_options: Any
    ) -> Lightning:
        """The evaluator of a one-shot search, for ``NasExperiment(space, evaluator, strategy)``.

        Args:
            halves: pictures for the weights and for the architecture; `search_halves` by default.
            trainer_options: of Lightning's Trainer.
        """
        weights_half, architecture_half = halves or self.search_halves(seed)
        options = {"max_epochs": schedule.epochs, "logger": False, "enable_checkpointing": False, **TRAINER_OPTIONS}
        return Lightning(
            self.module(schedule),
            Trainer(**{**options, **trainer_options}),
            train_dataloaders=self.loader(weights_half, schedule.batch_size, seed),
            val_dataloaders=self.loader(architecture_half, schedule.batch_size, seed + 1),
        )

    @torch.no_grad()
    def predict(self, network: nn.Module, split: Split, batch_size: int = 32) -> Tensor:
        """Raw outputs of all pictures of a split in their order, on the CPU; the network's mode is restored."""
        was_training, device = network.training, next(network.parameters()).device
        network.eval().to(memory_format=torch.channels_last)  # the layout of `normalise`: same rounding in any process
        outputs = []
        for batch in judging_loader(split, self.image_size, batch_size, self.workers):
            outputs.append(network(batch.to(device)).float().cpu())
        network.train(was_training)
        return torch.cat(outputs)

    def validation(self, network: nn.Module, split: Split) -> dict[str, float]:
        """``loss``, ``eer`` and ``auc`` of a network on a split, without intervals: to follow or compare trainings."""
        return self.figures(self.predict(network, split), split)

    def figures(self, outputs: Tensor, split: Split) -> dict[str, float]:
        """The same of raw outputs, those of `predict`."""
        scores = self.scores(outputs).double().numpy()
        return {
            "loss": self.loss(outputs, torch.from_numpy(split.labels)).item(),
            "eer": equal_error_rate(scores, split.labels),
            "auc": area_under_curve(scores, split.labels),
        }

    def split_scores(self, network: nn.Module, split: Split) -> NDArray[np.float64]:
        """Scores of all pictures of a split, ``(N,)``."""
        return self.scores(self.predict(network, split)).double().numpy()


# quiet, and nothing that a run folder does not know of
TRAINER_OPTIONS: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "devices": 1,
    "deterministic": "warn",
}


class TaskModule(LightningModule):
    """Trains a network for a task. NNI sets the network with ``set_model``."""

    def __init__(self, task: Task, schedule: WeightSchedule) -> None:
        super().__init__()
        self.task, self.schedule = task, schedule

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """The loss of a batch with its graph, and the batch's accuracy."""
        pictures, labels = batch
        outputs = self(pictures)
        return {
            "loss": self.task.loss(outputs, labels),
            "accuracy": self.task.accuracy(outputs.detach(), labels),
        }

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.step(batch)["loss"]

    def on_fit_start(self) -> None:
        self.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> dict[str, Any]:
        schedule = self.schedule
        weights = [p for p in self.parameters() if p.requires_grad]
        options: dict[str, Any] = {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay}
        optimizer: torch.optim.Optimizer
        if schedule.optimizer == "adam":
            optimizer = torch.optim.Adam(weights, **options)
        else:
            optimizer = torch.optim.SGD(weights, momentum=schedule.momentum, **options)
        if schedule.decay == "constant":
            return {"optimizer": optimizer}
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "epoch"}}
