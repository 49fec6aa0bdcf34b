"""How much memory a search step takes, counted rather than guessed, and which batch fits into how much.

Tensors of two small steps are counted storage by storage (`live_bytes`). What a step holds besides weights, gradients
and the optimizer's state grows with its pictures, so a step of any batch follows from the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nni.nas.evaluator.pytorch import DataLoader, Lightning, LightningModule, Trainer
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.space import RawFormatModelSpace
from torch import Tensor

from evaluators.task import ADAMS, TRAINER_OPTIONS
from searchspaces.errors import ConfigError

from .fused import plain_arithmetic
from .gumbel import GumbelSinglePath
from .live_bytes import LiveBytes
from .supernet import mixed_of

PHASES = ("architecture", "weights")  # the halves of a step
STEPS = 2  # of a trial: after the first the optimizer's state is there
TRIALS = ((1, 2), (2, 3))  # pictures of both trials; some networks cannot normalise the features of one picture
# Of a process on a CPU, by benchmarks.search_scale (docs/performance-scale.md): what the first step loads, and what the
# heap holds for each counted byte where modules are kept and where they are recomputed
LOADED = 50 * 2**20
HEAP = {False: 1.25, True: 1.8}


@dataclass(frozen=True)
class Choice:
    """What may be changed to make a search fit.

    Attributes:
        batch: pictures of each half of a step.
        partial_channels: K of PC-DARTS; None for strategies without.
        recompute: whether modules are computed again in the backward pass.
    """

    batch: int
    partial_channels: int | None = None
    recompute: bool = False

    def __str__(self) -> str:
        """
        >>> str(Choice(8, 4, True)), str(Choice(8))
        ('batch 8, K = 4, modules recomputed', 'batch 8, modules kept')
        """
        parts = f", K = {self.partial_channels}" if self.partial_channels else ""
        return f"batch {self.batch}{parts}, modules {'recomputed' if self.recompute else 'kept'}"


@dataclass(frozen=True)
class StepBytes:
    """Bytes of tensors in a step.

    Attributes:
        weights: parameters and buffers; ``gradients`` of the weights; ``optimizer``: state of both optimizers (of
            operations that have been sampled, where they are).
        peaks: of each half of a step, what is there at the most without pictures, and what a picture adds.
    """

    weights: int
    gradients: int
    optimizer: int
    peaks: dict[str, tuple[float, float]]

    def peak(self, batch: int) -> int:
        """The most of a whole step with so many pictures in each half."""
        return round(max(fixed + each * batch for fixed, each in self.peaks.values()))


def process_bytes(counted: int, recompute: bool, program: int = 0) -> int:
    """What a process on a CPU holds at the most.

    Args:
        counted: `StepBytes.peak`.
        recompute: whether modules are recomputed.
        program: bytes of the process before the search (`resident`).
    """
    return round(program + LOADED + HEAP[recompute] * counted)


def resident() -> int:
    """Bytes of this process now; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


# ---- counting


def count_step(build: Callable[[], tuple[Any, Any]], optimizer: str = "sgd", plain: bool = False) -> StepBytes:
    """Count the bytes of a search's step in two small ones, on random pictures.

    Args:
        build: makes the strategy, which must not warm up, and the space.
        optimizer: of the weights: sgd, with momentum, adam or adamw.
        plain: compute the layers one by one, as on a GPU, and not as on a CPU.
    """
    with torch.random.fork_rng(devices=[]), plain_arithmetic() if plain else nullcontext():
        try:
            few, more = (trial(*build(), pictures, optimizer) for pictures in TRIALS[0])
        except ValueError:  # batch norms of one number a channel
            few, more = (trial(*build(), pictures, optimizer) for pictures in TRIALS[1])
    peaks = {}
    for phase in PHASES:
        each = (more.peaks[phase] - few.peaks[phase]) / (more.pictures - few.pictures)
        peaks[phase] = few.peaks[phase] - each * few.pictures, each
    return StepBytes(few.weights, few.gradients, few.optimizer, peaks)


@dataclass(frozen=True)
class Trial:
    """What `trial` has counted, in bytes."""

    pictures: int
    weights: int
    gradients: int
    optimizer: int
    peaks: dict[str, int]


def trial(strategy: Any, space: Any, pictures: int, optimizer: str) -> Trial:
    """Run `STEPS` steps of a search with so many pictures in each half."""
    torch.manual_seed(0)
    evaluator = evaluator_of(space.input_size, pictures, optimizer)
    strategy.initialize(RawFormatModelSpace.from_model(space, evaluator), SequentialExecutionEngine())
    if isinstance(strategy, GumbelSinglePath):
        prefer_largest(strategy.supernet)
    module, peaks = strategy.oneshot_module, dict.fromkeys(PHASES, 0)
    with LiveBytes([*strategy.supernet.parameters(), *strategy.supernet.buffers()]) as live:
        weights = live.now
        for name, phase in (("_architecture_step", "architecture"), ("_weight_step", "weights")):
            setattr(module, name, watched(getattr(module, name), live, peaks, phase))
        strategy.run()
        state = [v for each in module.trainer.optimizers for row in each.state.values() for v in row.values()]
    held = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in state if isinstance(v, Tensor)}
    gradients = sum(p.numel() * p.element_size() for p in module.weight_parameters())
    return Trial(pictures, weights, gradients, sum(held.values()), peaks)


def watched(step: Callable[..., Any], live: LiveBytes, peaks: dict[str, int], phase: str) -> Callable[..., Any]:
    """A half of a step that notes its peak."""

    def run(*inputs: Any) -> Any:
        live.reset_peak()
        result = step(*inputs)
        peaks[phase] = max(peaks[phase], live.peak)
        return result

    return run


def prefer_largest(supernet: Any) -> None:
    """Let every edge sample the operation with the most weights, which is what keeps the most maps."""
    for module in supernet.modules():
        edges = getattr(module, "mixed_edges", None)
        if edges is None or getattr(module, "sampled", None) == "edges":
            continue
        mixed = mixed_of(next(iter(edges.values() if hasattr(edges, "values") else edges)))
        sizes = [sum(p.numel() for p in operation.parameters()) for operation in mixed.operations]
        with torch.no_grad():
            module.alpha[:, mixed.computed[sizes.index(max(sizes))]] = 1e3


def evaluator_of(size: Sequence[int], pictures: int, optimizer: str) -> Lightning:
    """Training on random pictures ``(N, *size)`` with a loss that fits all outputs."""

    class Module(LightningModule):
        def forward(self, x: Tensor) -> Any:
            return self.model(x)

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return torch.stack([each.float().square().mean() for each in tensors_of(self(batch))]).sum()

        def on_fit_start(self) -> None:
            self.to(memory_format=torch.channels_last)

        def configure_optimizers(self) -> Any:
            weights = [p for p in self.parameters() if p.requires_grad]
            if optimizer in ADAMS:
                return ADAMS[optimizer](weights, 1e-4)
            return torch.optim.SGD(weights, 1e-4, momentum=0.9)

    data = torch.randn(STEPS * pictures, *size)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu", "max_epochs": 1}
    trainer = Trainer(**{**TRAINER_OPTIONS, **options})
    first, second = (DataLoader(data, batch_size=pictures) for _ in PHASES)
    return Lightning(Module(), trainer, train_dataloaders=first, val_dataloaders=second)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors of a network's outputs, whatever they are held in."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors_of(each)


# ---- planning


def choices(first: Choice, widths: Sequence[int | None], may_recompute: bool) -> Iterator[Choice]:
    """All that may be chosen, what is to be preferred first: what changes no result before what does.

    Recomputation changes the time alone, K the search, the batch the statistics of every batch norm besides.

    Args:
        first: what the search would do by itself.
        widths: the values that K may have, from the first on.
        may_recompute: whether the search can.
    """
    batch = first.batch
    while batch >= 1:
        for width in widths:
            for recompute in sorted({first.recompute, first.recompute or may_recompute}):
                yield Choice(batch, width, recompute)
        batch //= 2


def pick(
    candidates: Iterator[Choice], budget: int, bytes_of: Callable[[Choice], int]
) -> tuple[Choice, dict[Choice, int]]:
    """The first choice that fits, and the bytes of all that were looked at.

    Raises:
        ConfigError: with the least memory that would do.
    """
    seen: dict[Choice, int] = {}
    for choice in candidates:
        seen[choice] = bytes_of(choice)
        if seen[choice] <= budget:
            return choice, seen
    smallest = min(seen, key=seen.__getitem__)
    raise ConfigError(
        f"No step of this search fits into {gib(budget)}: the least that would do is {gib(seen[smallest])}, with "
        f"{smallest}. Give more memory, or make the space smaller with --space-options."
    )


def gib(number: float) -> str:
    """Bytes for people; rounded up, so that what is read is enough.

    >>> gib(4 * 2**30), gib(2**30 + 1), gib(100 * 2**20)
    ('4.00 GiB', '1.01 GiB', '100 MiB')
    """
    if number < 2**30:
        return f"{-(-number // 2**20):.0f} MiB"
    return f"{-(-number * 100 // 2**30) / 100:.2f} GiB"
