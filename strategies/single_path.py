"""Sampled single path: one network holds all paths, and every iteration trains one of them.

PTA (Khabarlak, 2022, section 3) draws from a table of probabilities; single-path one-shot (Guo et al., ECCV 2020)
draws all points of a space alike. Both are this strategy, with a table or without.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the heavy imports
    from facenas.pipeline import search_command

    raise SystemExit(search_command("single_path"))

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import nni.nas.strategy
import numpy as np
from nni.nas.nn.pytorch import ModelSpace
from nni.nas.oneshot.pytorch.sampling import RandomSamplingLightningModule
from torch import Tensor

from evaluators.sharing import check_strategy, mean_values
from searchspaces.errors import ConfigError, DivergenceError

from .paths import Accepts, SampledCell, accepted_choices, run_path

Table = Sequence[tuple[Mapping[str, Any], float]]  # choices of a path, and how likely it is drawn
PATH_STREAM = 1  # above 0: numpy pads shorter keys with zeros, so the data's [seed, epoch, batch] is another stream


class SinglePath(nni.nas.strategy.RandomOneShot):
    """Train one sampled path an iteration; what the path does not use gets no gradient and no step.

    Use it as any strategy of NNI, with a Lightning evaluator. The paths depend on the seed, the epoch and the batch
    only, so a search that is resumed draws what an unbroken one would have drawn.

    Args:
        table: paths and their probabilities. By default the space's own (``sampling_table`` of PTA), or, if it has
            none, all points of the space alike.
        uniform: draw all points of the space alike even if it has a table.
        seed: of the draws.
        accepts: without a table, whether a path with these choices may be drawn, for example within a budget.
    """

    def __init__(
        self, table: Table | None = None, *, uniform: bool = False, seed: int = 0, accepts: Accepts | None = None
    ) -> None:
        super().__init__()
        if table is not None and uniform:
            raise ConfigError("A table of paths and uniform sampling exclude each other: give one of them.")
        self.table, self.uniform, self.seed, self.accepts = table, uniform, seed, accepts

    def default_mutation_hooks(self) -> list[Any]:
        """Our cells and blocks first; NNI's hooks stay for its own layers."""
        return [SampledCell.mutate, *super().default_mutation_hooks()]

    def val_dataloader(self, train_dataloader_fn: Callable[[], Any], val_dataloader_fn: Callable[[], Any]) -> Any:
        return []  # a path is judged after the training, not a random one in between

    def configure_oneshot_module(self, training_module: Any) -> SinglePathModule:
        return SinglePathModule(training_module, self._table, self.seed, self.accepts)

    def mutate_model(self, model: ModelSpace) -> ModelSpace:
        self._table = None if self.uniform else self.table or getattr(model, "sampling_table", lambda: None)()
        if self._table is not None:
            check_table(self._table)
        return super().mutate_model(model)


class SinglePathModule(RandomSamplingLightningModule):
    """The training of a `SinglePath` strategy as a LightningModule around the task's own one.

    Attributes:
        history: one record an epoch: losses, and how often each path was drawn. Saved in checkpoints.
        result: the choices to export; None means the path that is drawn most often, or a random one.
    """

    def __init__(self, training_module: Any, table: Table | None, seed: int, accepts: Accepts | None = None) -> None:
        super().__init__(training_module)
        self.table, self.seed, self.accepts = table, seed, accepts
        self.history: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None
        self._sums: dict[str, list[float]] = {}
        self._drawn: list[int] = []

    def draw(self, epoch: int, batch: int) -> dict[str, Any]:
        """The path of an iteration."""
        random = np.random.default_rng([self.seed, epoch, batch, PATH_STREAM])
        if self.table is None:
            return accepted_choices(self.model, np.random.RandomState(random.integers(2**31)), self.accepts)
        index = int(random.choice(len(self.table), p=[probability for _, probability in self.table]))
        self._drawn.append(index)
        return dict(self.table[index][0])

    def on_fit_start(self) -> None:
        check_strategy(self.trainer)
        super().on_fit_start()

    def resample(self) -> dict[str, Any]:
        choices = self.draw(self.trainer.current_epoch, self.trainer.fit_loop.batch_idx)
        run_path(self.model, choices)
        return choices

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.resample()
        step = getattr(self.training_module, "step", None)
        result = step(batch) if step else self.training_module.training_step(batch, batch_idx)
        values = result if isinstance(result, dict) else {"loss": result}
        numbers = mean_values(values)
        if not math.isfinite(numbers["loss"]):
            raise DivergenceError(
                f"The loss is {numbers['loss']} in epoch {self.trainer.current_epoch}, batch {batch_idx}. "
                "Lower the learning rate, or resume from the last checkpoint with another seed."
            )
        for name, value in numbers.items():
            self._sums.setdefault(f"train_{name}", []).append(value)
        return values["loss"]

    def on_train_epoch_start(self) -> None:
        self._sums, self._drawn = {}, []
        self.training_module.on_train_epoch_start()

    def on_train_epoch_end(self) -> None:
        self.training_module.on_train_epoch_end()
        record: dict[str, Any] = {
            "epoch": self.trainer.current_epoch,
            "statistics": {name: sum(values) / len(values) for name, values in self._sums.items()},
        }
        if self.table is not None:
            record["drawn"] = [self._drawn.count(index) for index in range(len(self.table))]
        self.history.append(record)

    def export(self) -> dict[str, Any]:
        """The path that was judged best (`result`); before that, the most likely one, or a random one."""
        if self.result is not None:
            return self.result
        if self.table is None:
            return accepted_choices(self.model, np.random.RandomState(self.seed), self.accepts)
        return dict(max(self.table, key=lambda row: row[1])[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["search_history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = list(checkpoint["search_history"])


def check_table(table: Table) -> None:
    """Refuse probabilities that are negative or do not add up to 1.

    Raises:
        ConfigError: saying what is wrong.
    """
    probabilities = [probability for _, probability in table]
    if not table or any(not 0 <= probability <= 1 for probability in probabilities):
        raise ConfigError("A table of paths needs at least one path, and probabilities from 0 to 1.")
    if abs(sum(probabilities) - 1) > 1e-6:
        raise ConfigError(f"The probabilities of the paths add up to {sum(probabilities):g}, not to 1.")


def expected_macs(table: Table, macs_of: Callable[[Mapping[str, Any]], int]) -> float:
    """Multiply-accumulates of an iteration's forward pass, on average over the draws."""
    return float(sum(probability * macs_of(choices) for choices, probability in table))
