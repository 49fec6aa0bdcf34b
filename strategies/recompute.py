"""Recomputed modules: a supernet's modules that keep their inputs alone, and run again in the backward pass.

Chen et al., *Training Deep Nets with Sublinear Memory Cost* (2016): memory for time, with the same results. What runs
again must do the same: it draws the same random numbers, and leaves no second trace in the running statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def run_recomputed(module: nn.Module, run: Callable[..., Any], *inputs: Any) -> Any:
    """``run(*inputs)``, of which autograd keeps the inputs and the result only.

    Args:
        module: whose buffers ``run`` changes; they change once.
        run: computes the module; called again when the first of its gradients is asked for.
    """
    again = False

    def once_more(*inputs: Any) -> Any:
        nonlocal again
        first, again = not again, True
        if first:
            return run(*inputs)
        with scratch_buffers(module):
            return run(*inputs)

    return checkpoint(once_more, *inputs, use_reentrant=False)


@contextmanager
def scratch_buffers(module: nn.Module) -> Iterator[None]:
    """Inside the block copies stand in for the module's buffers, and what is written to them is forgotten.

    Copies rather than a restored state: autograd refuses tensors that have changed since it kept them.
    """
    owners = [
        (each, name, buffer)
        for each in module.modules()
        for name, buffer in each._buffers.items()
        if buffer is not None
    ]
    try:
        for each, name, buffer in owners:
            each._buffers[name] = buffer.clone()
        yield
    finally:
        for each, name, buffer in owners:
            each._buffers[name] = buffer
