"""What torch says when the machine fails it, as messages that say what to do."""

from __future__ import annotations

import gc
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from searchspaces.errors import ResourceError

NO_MEMORY = re.compile(r"can't allocate memory|out of memory|bad_alloc|unable to allocate|cannot allocate memory", re.I)
LOST_WORKER = re.compile(r"DataLoader worker \(pid")


@contextmanager
def explained_faults(network: nn.Module, side: int, batch_size: int) -> Iterator[None]:
    """Around the training of a network, or a supernet: a lack of memory and a lost process are told as such.

    Args:
        network: it is used up where memory lacks, to find the batch that fits.
        side: of the pictures ``(3, side, side)``.
        batch_size: of the training.

    Raises:
        ResourceError: in their place.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError, OSError) as error:
        text = f"{type(error).__name__}: {error}"
        lost = LOST_WORKER.search(text)
        if not lost and not isinstance(error, MemoryError) and not NO_MEMORY.search(text):
            raise
        forget(error)
    if lost:
        raise ResourceError(
            "A process that loads pictures was killed, perhaps by the system for want of memory. What was finished is "
            "kept: go on with --resume."
        )
    reason = f"The memory does not suffice for batches of {batch_size} pictures of {side}x{side}."
    fits = largest_batch(network, (3, side, side), batch_size // 2)
    if not fits:
        raise ResourceError(f"{reason} Nor does it for a single one: choose a smaller network or space.")
    raise ResourceError(
        f"{reason} A step with {fits} was tried and fits: start anew with --overwrite and batches of {fits} "
        "(--search-batch, --train-batch, or --batch of evaluators.train), or go on with --resume where there is more "
        "memory."
    )


def forget(error: BaseException | None) -> None:
    """Let go of what the functions that failed hold: the memory of the step is in their variables."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def largest_batch(network: nn.Module, input_size: tuple[int, ...], most: int) -> int:
    """The largest of ``most``, its half, its quarter, ... of pictures for which a step of the network finds the memory;
    0 if there is none. The step is taken for real; running statistics change by it."""
    batch = most
    while batch > 0:
        network.zero_grad(set_to_none=True)
        gc.collect()
        with suppress(RuntimeError, MemoryError, ValueError):
            step(network, torch.zeros(batch, *input_size, device=next(network.parameters()).device))
            network.zero_grad(set_to_none=True)
            return batch
        batch //= 2
    return 0


def step(network: nn.Module, pictures: Tensor) -> None:
    """Forward and backward, with the weights' gradients and an optimizer's moments beside them."""
    network.train()
    total = sum(each.float().sum() for each in tensors_in(network(pictures)))
    assert isinstance(total, Tensor)
    total.backward()
    _ = [torch.zeros_like(parameter) for parameter in network.parameters()]


def tensors_in(outputs: Any) -> Iterator[Tensor]:
    """The tensors of a network's result, however they are nested."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for each in outputs.values():
            yield from tensors_in(each)
    elif isinstance(outputs, list | tuple):
        for each in outputs:
            yield from tensors_in(each)
