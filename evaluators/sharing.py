"""One training on several processes: each has a share of every batch, and the result is that of one process.

Sums over a batch are taken in another order, so it is equal up to rounding. Five things make it so:

- `batches.EpochBatches` gives each process its rows of the batch that one process would have;
- gradients are averaged, those that a search takes with ``torch.autograd.grad`` too;
- batch norm has the statistics of the whole batch, and its gradients, second ones too, reach all processes;
- all processes have the same random generator, so that they sample the same path with the same noise; dropout draws
  for the whole batch;
- what is no mean over pictures (the divisor of a detector's loss, Gram matrices of features) sees all of them.

Torch's own wrapper, DistributedDataParallel, averages what ``backward`` leaves only, and needs to be told of weights
that a sampled path does not use; its SyncBatchNorm knows neither CPUs nor second derivatives.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from searchspaces.errors import ConfigError

HALF = (torch.float16, torch.bfloat16)


class Sharing:
    """Which process this is of how many; alone outside of `shared_step`, where a process may do what others do not."""

    rank, processes = 0, 1


def processes() -> int:
    """How many processes share the batch that is computed now."""
    return Sharing.processes


def is_first_process() -> bool:
    """Whether this process writes the files: the first, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextmanager
def shared_step(rank: int, number: int) -> Iterator[None]:
    """Inside the block the pictures are the share ``rank`` of ``number`` of a batch, and all processes do the same."""
    before = Sharing.rank, Sharing.processes
    Sharing.rank, Sharing.processes = rank, number
    try:
        with WholeBatch() if number > 1 else nullcontext():
            yield
    finally:
        Sharing.rank, Sharing.processes = before


def own_rows(batch_size: int, rank: int, number: int) -> slice:
    """The rows of a batch that a process computes.

    Raises:
        ConfigError: for a batch that has no equal shares: means over shares would not be the batch's mean.
    """
    share, rest = divmod(batch_size, number)
    if rest:
        raise ConfigError(
            f"A batch of {batch_size} pictures has no equal shares for {number} processes: choose another batch size "
            "or number of devices. (A batch has at most the pictures of its split.)"
        )
    return slice(rank * share, (rank + 1) * share)


# ---- over all processes of a shared step; alone, these change nothing


class Sum(torch.autograd.Function):
    """The sum over all processes. Each of them uses it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return Sum.apply(gradients[0])  # so that it can be differentiated again


def whole(x: Tensor) -> Tensor:
    """What all processes have of a batch, differentiable: ``(n, ...) -> (processes * n, ...)``, in their order."""
    if Sharing.processes == 1:
        return x
    nothing = torch.zeros_like(x)
    return Sum.apply(torch.cat([x if rank == Sharing.rank else nothing for rank in range(Sharing.processes)]))


def mean(x: Tensor) -> Tensor:
    """The mean over processes, without a gradient."""
    return x.detach() if Sharing.processes == 1 else Sum.apply(x.detach()) / Sharing.processes


def mean_values(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars as numbers, those of all pictures of the batch if they are means over pictures."""
    if Sharing.processes == 1:
        return {name: float(value.detach()) for name, value in values.items()}
    numbers = mean(torch.stack([value.detach().double() for value in values.values()])).tolist()
    return dict(zip(values, numbers, strict=True))


def average(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by their mean over processes, in one message."""
    found = list(tensors)
    if Sharing.processes == 1 or not found:
        return
    means = mean(torch.cat([tensor.detach().flatten() for tensor in found]))
    for tensor, part in zip(found, means.split([tensor.numel() for tensor in found]), strict=True):
        tensor.detach().copy_(part.view(tensor.shape))


class WholeBatch(TorchFunctionMode):
    """Inside the block, batch norm and dropout of a share are those of the whole batch.

    A mode and not other modules, so that networks stay what they are and calls of ``F.batch_norm`` take part too.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm:
            return whole_batch_norm(*args, **(kwargs or {}))
        if func is F.dropout:
            return whole_dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def whole_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` with the statistics of all processes' shares, ``(n, C, ...)`` both ways."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    wide = x.float() if x.dtype in HALF else x
    others = [dimension for dimension in range(x.ndim) if dimension != 1]
    variances, means = whole(torch.stack(torch.var_mean(wide, others, correction=0))[None]).unbind(1)
    centre = means.mean(0)
    # shares are equal; the variance of the means is what a share's own variance does not see
    variance = variances.mean(0) + means.var(0, correction=0)
    count = x.numel() // x.shape[1] * Sharing.processes
    with torch.no_grad():
        if running_mean is not None:
            running_mean.lerp_(centre.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    channels = [-1 if dimension == 1 else 1 for dimension in range(x.ndim)]
    y = (wide - centre.view(channels)) * scale.view(channels)
    if bias is not None:
        y = y + bias.view(channels)
    return y.to(x.dtype)


def whole_dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """``F.dropout`` with a process' rows of what one process would draw for the whole batch."""
    if not training:
        return x
    drawn = F.dropout(x.new_ones((len(x) * Sharing.processes, *x.shape[1:])), p)
    return x * drawn.chunk(Sharing.processes)[Sharing.rank]


# ---- Lightning


class SharedBatches(DDPStrategy):
    """Lightning's ``ddp``, which starts the processes and connects them, with training steps as described above.

    Takes the arguments of ``DDPStrategy`` that say how to start and connect: ``process_group_backend``, ``timeout``.
    """

    def configure_ddp(self) -> None:
        """In place of torch's wrapper: all processes begin with the first one's weights and random generator."""
        assert self.model is not None
        self._on_termination = signal.getsignal(signal.SIGTERM)
        with torch.no_grad():
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                first = tensor.contiguous()
                dist.broadcast(first, 0)
                tensor.copy_(first)
        state = torch.get_rng_state().to(self.root_device)
        dist.broadcast(state, 0)
        torch.set_rng_state(state.cpu())
        if self.root_device.type == "cuda":
            state = torch.cuda.get_rng_state(self.root_device).to(self.root_device)
            dist.broadcast(state, 0)
            torch.cuda.set_rng_state(state.cpu(), self.root_device)

    def on_train_start(self) -> None:
        """Lightning's own handler of SIGTERM sends a message to all processes, amidst whatever they are sending."""
        super().on_train_start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_termination)

    def process_dataloader(self, dataloader: object) -> object:
        sampler: Any = getattr(dataloader, "sampler", None)
        if hasattr(sampler, "share"):
            sampler.share(self.global_rank, self.world_size)
        return dataloader

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        with shared_step(self.global_rank, self.world_size):
            return super().training_step(*args, **kwargs)

    def post_backward(self, closure_loss: Tensor) -> None:
        """Average the gradients. All processes have run the same path, so the same weights have one."""
        assert self.lightning_module is not None
        with shared_step(self.global_rank, self.world_size):
            average(p.grad for p in self.lightning_module.parameters() if p.grad is not None)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        yield  # nothing to block: gradients that are accumulated may be averaged after each step


def shared_trainer_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of Lightning's Trainer in which ``ddp``, or several devices and no strategy, mean `SharedBatches`."""
    devices, strategy = options.get("devices", 1), options.get("strategy", "auto")
    number = devices if isinstance(devices, int) else len(devices) if isinstance(devices, list) else 1
    if strategy == "ddp" or (strategy == "auto" and (number > 1 or options.get("num_nodes", 1) > 1)):
        strategy = SharedBatches()
    # the batches are shared by our own sampler
    return {**options, "strategy": strategy, "use_distributed_sampler": False}


def check_strategy(trainer: Any) -> None:
    """Refuse a trainer of several processes that would each train a network of their own.

    Raises:
        ConfigError: naming the strategy.
    """
    if trainer.world_size > 1 and not isinstance(trainer.strategy, SharedBatches):
        name = type(trainer.strategy).__name__
        raise ConfigError(
            f"The Trainer runs {trainer.world_size} processes with {name}, which does not average what a search takes "
            'gradients of. Give strategy="ddp" to search_evaluator or fit, or strategy=SharedBatches() '
            "(evaluators.sharing) to a Trainer of your own."
        )
