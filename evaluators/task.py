"""Task: what a network is for. Its data, its loss, its scores, its metrics; and the LightningModule that trains it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .batches import judging_loader, training_loader
from .checkpoint import lowest_error
from .sharing import check_strategy, shared_trainer_options

if TYPE_CHECKING:
    from .distillation import Teaching


@dataclass(frozen=True)
class WeightSchedule:
    """How weights are trained.

    By default SGD with momentum, the learning rate falling along a cosine to zero, as in section 3.3 of the Auto-FAS
    paper; ``adam`` and ``adamw`` have no use for ``momentum`` (their own betas are torch's), and ``constant`` keeps the
    learning rate.
    ``steps`` divides it by 10 after half and after 80 % of the epochs, as the ASFD paper does (25 and 40 of 50),
    ``late_steps`` after 60, 87 and 97 % as the AirFace paper does (18, 26 and 29 of 30 thousand steps), and
    ``warmup_steps`` raises it linearly from `WARMUP_START` over so many steps. ``keep`` says which epoch's weights are
    the result of a training: the last one's, or the best on the validation split (see `Task.rank`), as the PTA paper
    does.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    gradient_clip: float | None = 5.0
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    decay: Literal["cosine", "constant", "steps", "late_steps"] = "cosine"
    keep: Literal["last", "best"] = "last"
    warmup_steps: int = 0


ADAMS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
WARMUP_START = 1e-6  # learning rate of the first step; ASFD, section 4.1
# parts of the epochs after which the learning rate falls
STEPS = {"steps": (0.5, 0.8), "late_steps": (18 / 30, 26 / 30, 29 / 30)}


class Task(ABC):
    """A task over a data set. Subclasses say what is learnt and how it is judged (docs/tutorial.md has one).

    The network's part is fixed: it takes pictures ``(N, 3, S, S)`` in [-1, 1]. None of the methods may change state.

    Attributes:
        data: with ``name``, ``card`` and ``splits``: train, val and test, of which the first has ``halves(seed)``.
        image_size: side of a training picture.
        objective: the figure (see `figures`) that a search maximises.
        augmentation: of training pictures, see `augmentation.AUGMENTATIONS`.
        workers: processes that read pictures; see `batches.reading_workers`.
        teaching: a teacher for networks that are trained, see `distillation`; a differentiable search goes without.
    """

    name: str
    objective: str
    data: Any
    image_size: int
    augmentation: str = "crop"
    workers: int | None = None
    teaching: Teaching | None = None

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Any) -> dict[str, Tensor]:
        """``loss``, the scalar that training lowers, and other scalars to follow a training by."""

    @abstractmethod
    def figures(self, outputs: Any, split: Any) -> dict[str, float]:
        """`objective` and others of what `predict` gave, such as ``loss``, without intervals: to follow a training."""

    @abstractmethod
    def metrics(
        self, network: nn.Module, split: str = "test", val_outputs: Any = None
    ) -> dict[str, dict[str, float | None]]:
        """Metrics with intervals of a trained network on a split.

        Args:
            val_outputs: what `predict` gives of the validation split, if it is there already.
        """

    @abstractmethod
    def headline(self, metrics: Mapping[str, Mapping[str, float | None]]) -> str:
        """The metric that counts, with its interval, for a progress line."""

    @abstractmethod
    def check(self, network: nn.Module) -> None:
        """Refuse a network whose outputs this task cannot judge.

        Raises:
            ConfigError: naming the outputs.
        """

    # ---- what subclasses may change

    def loader(self, split: Any, batch_size: int, seed: int) -> DataLoader:
        """Augmented batches of a split: pictures and targets; by default `batches.training_loader`, with the labels.

        One of your own needs a sampler like `batches.EpochBatches`, so that a search can be resumed and counted.
        """
        return training_loader(split, self.image_size, batch_size, seed, self.workers, self.augmentation)

    def pictures(self, split: Any, batch_size: int) -> Iterator[Tensor]:
        """Batches of a split's pictures as a network takes them, to recalibrate its statistics; always the same."""
        yield from judging_loader(split, self.image_size, batch_size, self.workers)

    @torch.no_grad()
    def predict(self, network: nn.Module, split: Any, batch_size: int = 32) -> Any:
        """What a network says of all pictures of a split in their order; the network's mode is restored.

        By default its outputs of all that `pictures` gives, on the CPU.
        """
        was_training, device = network.training, next(network.parameters()).device
        network.eval().to(memory_format=torch.channels_last)  # the layout of `normalise`: same rounding in any process
        outputs = [network(batch.to(device)).float().cpu() for batch in self.pictures(split, batch_size)]
        network.train(was_training)
        return torch.cat(outputs)

    def head(self) -> nn.Module | None:
        """A part with weights that only training needs: it takes the network's outputs, and `losses` gets its own.

        A new one at every call. Whoever trains the network keeps it; the saved network is without it.
        """
        return None

    def evidence(self, network: nn.Module, split: str = "test") -> dict[str, Any] | None:
        """What a report draws beside the metrics, JSON-able (see `evidence.score_evidence`); None if nothing."""
        return None

    def losses_at(self, outputs: Tensor, targets: Any, progress: float) -> dict[str, Tensor]:
        """`losses` after a part of the training, 0 to 1, for tasks whose loss changes on the way."""
        return self.losses(outputs, targets)

    def imitation(self, outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """What a network's outputs lose against a teacher's, a scalar."""
        from .distillation_losses import soft_logits_loss

        return soft_logits_loss(outputs, taught, temperature)

    def can_imitate(self, outputs: Tensor, taught: Tensor) -> bool:
        """Whether a teacher's outputs are of the kind of the network's."""
        return outputs.ndim == taught.ndim and outputs.shape[1] == taught.shape[1]

    def decays(self, network: nn.Module) -> dict[str, float]:
        """Parameters of a network whose weight decay is another, by name: the multiple of the others'."""
        return {}

    def prepare(self, network: nn.Module) -> None:  # noqa: B027  most tasks have nothing to do here
        """Called with a new network or supernet before it is trained, for weights that come from elsewhere."""

    def rank(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        """Sort key of an epoch by its figures on the validation split, ``val_...``; the lowest is the best."""
        return lowest_error(row)

    # ---- what all tasks share

    def search_halves(self, seed: int) -> tuple[Any, Any]:
        """The training split in two halves with no person in both: for the weights, and for the architecture."""
        return self.data.splits["train"].halves(seed)

    def selection_split(self, seed: int) -> Any:
        """The pictures by which a search chooses among candidates that it has trained on the first half."""
        return self.search_halves(seed)[1]

    def module(self, schedule: WeightSchedule) -> TaskModule:
        """The LightningModule that trains a network for this task."""
        return TaskModule(self, schedule)

    def search_evaluator(
        self, schedule: WeightSchedule, seed: int, halves: tuple[Any, Any] | None = None, **trainer_options: Any
    ) -> Lightning:
        """The evaluator of a one-shot search, for ``NasExperiment(space, evaluator, strategy)``.

        Args:
            halves: pictures for the weights and for the architecture; `search_halves` by default.
            trainer_options: of Lightning's Trainer. With ``strategy="ddp", devices=2`` two processes share every
                batch of ``schedule.batch_size`` (see `sharing`).
        """
        weights_half, architecture_half = halves or self.search_halves(seed)
        options = {"max_epochs": schedule.epochs, "logger": False, "enable_checkpointing": False, **TRAINER_OPTIONS}
        return Lightning(
            self.module(schedule),
            Trainer(**shared_trainer_options({**options, **trainer_options})),
            train_dataloaders=self.loader(weights_half, schedule.batch_size, seed),
            val_dataloaders=self.loader(architecture_half, schedule.batch_size, seed + 1),
        )

    def validation(self, network: nn.Module, split: Any) -> dict[str, float]:
        """`figures` of a network on a split."""
        return self.figures(self.predict(network, split), split)


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
        self.head = task.head()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def step(self, batch: tuple[Tensor, Any]) -> dict[str, Tensor]:
        """The loss of a batch with its graph, and what the task says besides."""
        pictures, targets = batch
        outputs = self(pictures)
        return self.task.losses_at(outputs if self.head is None else self.head(outputs), targets, self.progress)

    @property
    def progress(self) -> float:
        """Part of the epochs that have ended."""
        return self.current_epoch / self.schedule.epochs

    def training_step(self, batch: tuple[Tensor, Any], batch_idx: int) -> Tensor:
        return self.step(batch)["loss"]

    def on_fit_start(self) -> None:
        check_strategy(self.trainer)
        self.to(memory_format=torch.channels_last)

    def configure_optimizers(self) -> Any:
        schedule, weights = self.schedule, self.weight_groups()
        options: dict[str, Any] = {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay}
        optimizer: torch.optim.Optimizer
        if schedule.optimizer in ADAMS:
            optimizer = ADAMS[schedule.optimizer](weights, **options)
        else:
            optimizer = torch.optim.SGD(weights, momentum=schedule.momentum, **options)
        return [optimizer], learning_rates(optimizer, schedule)

    def weight_groups(self) -> list[dict[str, Any]]:
        """What the optimizer trains, as torch's parameter groups."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]


def learning_rates(optimizer: torch.optim.Optimizer, schedule: WeightSchedule) -> list[dict[str, Any]]:
    """Lightning's schedulers of a schedule; several multiply."""
    found: list[dict[str, Any]] = []
    if schedule.decay == "cosine":
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs)
        found.append({"scheduler": cosine, "interval": "epoch"})
    if schedule.decay in STEPS:
        milestones = [round(part * schedule.epochs) for part in STEPS[schedule.decay]]
        steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
        found.append({"scheduler": steps, "interval": "epoch"})
    if schedule.warmup_steps:
        start = min(1.0, WARMUP_START / schedule.learning_rate)
        warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start, total_iters=schedule.warmup_steps)
        found.append({"scheduler": warmup, "interval": "step"})
    return found
