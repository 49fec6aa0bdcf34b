"""A checkpoint at the end of every epoch, from which a run goes on as if it had never stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from searchspaces.errors import RunFolderError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
BEST = "best.safetensors"


class EpochCheckpoint(pl.callbacks.Checkpoint):
    """Saves Lightning's checkpoint after every epoch, atomically, and keeps the one before.

    Lightning calls a ``Checkpoint`` last of all callbacks, when the epoch's records are complete. It also seeds
    torch's generator anew before the first batch of every epoch, so that an epoch does not depend on how many random
    numbers the ones before have drawn. Of several processes that share a training the first one writes.

    Args:
        folder: where the checkpoints lie.
        seed: the run's seed.
    """

    def __init__(self, folder: str | Path, seed: int) -> None:
        self.folder, self.seed = Path(folder), seed
        self.last_model_path = ""  # NNI looks for it

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        if number == 0:  # not earlier: a starting loader draws from the generator too, after a resume once more
            torch.manual_seed(self.seed * 100_003 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.record(trainer, pl_module, time.monotonic() - self.started)
        temporary = self.folder / f".{LAST}.part"
        self.last_model_path = str(self.folder / LAST)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary, weights_only=False)  # all state, not the weights alone
            if not trainer.is_global_zero:
                return
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if (self.folder / LAST).exists():
                os.replace(self.folder / LAST, self.folder / PREVIOUS)
            os.replace(temporary, self.folder / LAST)
        except OSError as error:
            raise RunFolderError(f"Cannot write a checkpoint to {self.folder}: {error.strerror or error}.") from error

    @property
    def best_weights(self) -> Path:
        """Where subclasses keep the weights of the best epoch so far."""
        return self.folder / BEST

    def record(self, trainer: pl.Trainer, pl_module: Any, seconds: float) -> None:
        """Called by the process that writes, before the checkpoint; subclasses keep what the epoch has brought."""


def go_on_after(checkpoint: str | Path, *loaders: Any) -> None:
    """Tell the loaders of a training that is resumed which epoch comes next.

    Lightning does so too, but only after it has started their worker processes, which by then have been asked for the
    first batches of epoch 0.
    """
    epoch = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"] + 1
    for loader in loaders:
        loader.sampler.set_epoch(epoch)


def lowest_error(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Sort key of an epoch: its validation EER, of equal ones the loss."""
    return row["val_eer"], row["val_loss"]


def best_epoch(
    rows: Sequence[Mapping[str, Any]], rank: Callable[[Mapping[str, Any]], tuple[float, ...]] = lowest_error
) -> int:
    """The epoch of the lowest rank: by default the lowest validation EER, of several the one with the lowest loss.

    >>> best_epoch([{"epoch": 0, "val_eer": 0.1, "val_loss": 2.0}, {"epoch": 1, "val_eer": 0.1, "val_loss": 1.0}])
    1
    """
    return min(rows, key=rank)["epoch"]


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The newest readable checkpoint of a folder, or None if there is none at all.

    Raises:
        RunFolderError: if there are checkpoints but all are damaged.
    """
    present = [path for path in (Path(folder) / LAST, Path(folder) / PREVIOUS) if path.exists()]
    for path in present:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            print(f"facenas: the checkpoint {path} is damaged ({type(error).__name__}); trying the one before.")
            continue
        return path
    if present:
        raise RunFolderError(f"All checkpoints in {folder} are damaged. Start again with --overwrite.")
    return None
