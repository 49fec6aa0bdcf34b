"""A checkpoint at the end of every epoch, from which a run goes on as if it had never stopped."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from searchspaces.errors import DivergenceError, RunFolderError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
DIVERGED = "diverged.ckpt"
BEST = "best.safetensors"


class EpochCheckpoint(pl.callbacks.Checkpoint):
    """Saves Lightning's checkpoint after every epoch, atomically, and keeps the one before.

    Lightning calls a ``Checkpoint`` last of all callbacks, when the epoch's records are complete. It also seeds
    torch's generator anew before the first batch of every epoch, so that an epoch does not depend on how many random
    numbers the ones before have drawn. Of several processes that share a training the first one writes.

    A training that diverges leaves its state and the batch where it did in ``diverged.ckpt``, to be looked at.

    Args:
        folder: where the checkpoints lie.
        seed: the run's seed.
    """

    def __init__(self, folder: str | Path, seed: int) -> None:
        self.folder, self.seed = Path(folder), seed
        self.last_model_path = ""  # NNI looks for it
        self.batch: Any = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        self.batch = batch
        if number == 0:  # not earlier: a starting loader draws from the generator too, after a resume once more
            torch.manual_seed(self.seed * 100_003 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.record(trainer, pl_module, time.monotonic() - self.started)
        self.batch = None
        self.last_model_path = str(self.folder / LAST)
        self._save(trainer, LAST, before=PREVIOUS)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, DivergenceError):
            return
        try:
            self._save(trainer, DIVERGED)
        except RunFolderError:
            return  # the divergence is what has to be told
        path = self.folder / DIVERGED
        exception.args = (f'{exception} The state and the batch ("batch") are in {path}, for torch.load.',)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self.batch is not None:  # not at the end of an epoch: within one, where it has diverged
            checkpoint["batch"] = plain(self.batch)

    def _save(self, trainer: pl.Trainer, name: str, before: str | None = None) -> None:
        """Save the whole state under a name; what has been there keeps the name ``before``."""
        path, temporary = self.folder / name, self.folder / f".{name}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary, weights_only=False)  # all state, not the weights alone
            if not trainer.is_global_zero:
                return
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if before and path.exists():
                os.replace(path, self.folder / before)
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise RunFolderError(
                f"Cannot write a checkpoint to {self.folder}: {error.strerror or error}. What was there is whole: free "
                "space or make the folder writable, and go on with --resume."
            ) from error

    @property
    def best_weights(self) -> Path:
        """Where subclasses keep the weights of the best epoch so far."""
        return self.folder / BEST

    def record(self, trainer: pl.Trainer, pl_module: Any, seconds: float) -> None:
        """Called by the process that writes, before the checkpoint; subclasses keep what the epoch has brought."""


def plain(value: Any) -> Any:
    """A batch as what ``torch.load(weights_only=True)`` reads: tensors, numbers and texts in lists and tables."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value if isinstance(value, torch.Tensor | int | float | str | None) else repr(value)


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
    """The newest whole checkpoint of a folder, or None if there is none at all.

    A damaged one is set aside as ``last.ckpt.damaged``, so that the next does not push the whole one out.

    Raises:
        RunFolderError: if there are checkpoints but all are damaged.
    """
    present = [path for path in (Path(folder) / LAST, Path(folder) / PREVIOUS) if path.exists()]
    for path in present:
        damage = damage_of(path)
        if damage is None:
            return path
        print(f"facenas: the checkpoint {path} is damaged ({damage}); trying the one before.", file=sys.stderr)
        path.replace(path.with_name(f"{path.name}.damaged"))
    if present:
        raise RunFolderError(f"All checkpoints in {folder} are damaged. Start again with --overwrite.")
    return None


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; None if it is whole.

    It is a zip archive, whose checksums torch writes but does not compare when it reads.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            return f"the checksum of {wrong} differs"
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise many kinds for a damaged file
        return type(error).__name__
    return None
