"""What a search leaves in its run folder while it runs: ``search.csv`` and ``architectures.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from torch import nn

from evaluators.checkpoint import EpochCheckpoint, best_epoch
from evaluators.train import save_weights
from evaluators.trial import candidate_key
from searchspaces.errors import RunFolderError
from searchspaces.files import write_text

Hook = Callable[[dict[str, Any]], None]


class SearchLog(EpochCheckpoint):
    """Records a one-shot search. All rows are kept in the module's history, which travels in the checkpoint, and the
    files are written whole: after a resume they have no gap and no row twice.

    Args:
        folder: the run folder.
        seed: the run's seed.
        macs_of: multiply-accumulates of the network with the given choices.
        on_epoch: called with each new row.
    """

    def __init__(
        self, folder: Path, seed: int, macs_of: Callable[[Mapping[str, Any]], int], on_epoch: Hook | None = None
    ) -> None:
        super().__init__(folder / "checkpoint" / "search", seed)
        self.run, self.macs_of, self.on_epoch = folder, macs_of, on_epoch

    def record(self, trainer: pl.Trainer, pl_module: Any, seconds: float) -> None:
        record = pl_module.history[-1]
        record["macs"] = self.macs_of(record["choices"])
        record["seconds"] = round(seconds, 3)
        record["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        rows = [csv_row(entry) for entry in pl_module.history]
        write_text(self.run / "search.csv", pd.DataFrame(rows).to_csv(index=False))
        lines = ({k: v for k, v in entry.items() if k != "statistics"} for entry in pl_module.history)
        write_text(self.run / "architectures.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if self.on_epoch:
            self.on_epoch(rows[-1])


def csv_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``search.csv``; an epoch of the warm-up has no validation figures."""
    statistics = record["statistics"]
    return {
        "epoch": record["epoch"],
        "train_loss": statistics.get("train_loss", math.nan),
        "train_accuracy": statistics.get("train_accuracy", math.nan),
        "val_loss": statistics.get("val_loss", math.nan),
        "val_accuracy": statistics.get("val_accuracy", math.nan),
        "entropy": record["entropy"],
        "skip_share": record["skip_share"],
        "none_share": record["none_share"],
        "derived_macs": record["macs"],
        **{f"expected_{name}": value for name, value in record.get("expected", {}).items()},
        "learning_rate": record["learning_rate"],
        "seconds": record["seconds"],
    }


class PathLog(EpochCheckpoint):
    """Records the training of a network whose paths are sampled, and keeps the weights of its best epoch.

    Args:
        folder: the run folder.
        seed: the run's seed.
        validate: judges the network after an epoch: ``loss``, ``eer`` and ``auc`` on the validation split. The best
            epoch is that of the lowest EER, of several that of the lowest loss. None keeps the last epoch's weights.
        names: of the paths of the strategy's table, for the column of how often each was drawn.
        on_epoch: called with each new row.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        names: Sequence[str] = (),
        on_epoch: Hook | None = None,
    ) -> None:
        super().__init__(folder / "checkpoint" / "search", seed)
        self.run, self.validate, self.names, self.on_epoch = folder, validate, names, on_epoch

    def record(self, trainer: pl.Trainer, pl_module: Any, seconds: float) -> None:
        history = pl_module.history
        record = history[-1]
        if self.validate:
            figures = self.validate(pl_module.model)
            record["statistics"].update({f"val_{name}": value for name, value in figures.items()})
        record["seconds"] = round(seconds, 3)
        record["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        rows = [self._row(entry) for entry in history]
        write_text(self.run / "search.csv", pd.DataFrame(rows).to_csv(index=False))
        lines = ({"epoch": entry["epoch"], "drawn": dict(self._drawn(entry))} for entry in history)
        write_text(self.run / "architectures.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if not self.validate or best_epoch(rows) == record["epoch"]:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_weights(pl_module.model, self.best_weights)
        if self.on_epoch:
            self.on_epoch(rows[-1])

    def _row(self, record: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: record[name] for name in ("learning_rate", "seconds")}
        return {
            "epoch": record["epoch"],
            **record["statistics"],
            **{f"drawn_{name}": count for name, count in self._drawn(record)},
            **own,
        }

    def _drawn(self, record: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        return zip(self.names, record.get("drawn", ()), strict=False)


class CandidateLog:
    """Records a multi-trial search, a row a candidate, and gives back what an interrupted one has finished."""

    def __init__(self, folder: Path, on_candidate: Hook | None = None) -> None:
        self.run, self.on_candidate = folder, on_candidate
        self.entries: list[dict[str, Any]] = []

    def add(self, choices: Mapping[str, Any], metrics: Mapping[str, float], seconds: float) -> None:
        """Append a candidate and write both files whole."""
        entry = {"candidate": len(self.entries), "choices": dict(choices), "metrics": dict(metrics), "seconds": seconds}
        self.entries.append(entry)
        spent = 0.0
        rows = []
        for each in self.entries:
            numbers = {key: value for key, value in each["metrics"].items() if key != "default"}
            spent += numbers["macs_spent"]
            rows.append({"candidate": each["candidate"], **numbers, "macs_spent": spent, "seconds": each["seconds"]})
        write_text(self.run / "search.csv", pd.DataFrame(rows).to_csv(index=False))
        write_text(self.run / "architectures.jsonl", "".join(json.dumps(each) + "\n" for each in self.entries))
        if self.on_candidate:
            self.on_candidate(rows[-1])

    def restore(self) -> dict[str, dict[str, float]]:
        """Results of the folder's finished candidates by `candidate_key`.

        Raises:
            RunFolderError: if the file is damaged.
        """
        file = self.run / "architectures.jsonl"
        if not file.exists():
            return {}
        try:
            entries = [json.loads(line) for line in file.read_text().splitlines()]
            if not all(map(_is_candidate, entries)):
                raise ValueError("a line is not of a candidate")
            self.entries = entries
            return {candidate_key(entry["choices"]): entry["metrics"] for entry in entries}
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            raise RunFolderError(f"{file} is damaged ({error}). Start again with --overwrite.") from error


def _is_candidate(entry: Mapping[str, Any]) -> bool:
    """Whether a line holds what `CandidateLog.add` writes."""
    numbers = (entry["candidate"], entry["seconds"], entry["metrics"]["macs_spent"], *entry["metrics"].values())
    return all(isinstance(number, int | float) for number in numbers)
