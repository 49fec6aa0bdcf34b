"""New statistics for the batch norms of a network, from pictures that pass through it; no weight is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def tracked_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms that keep statistics."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@contextmanager
def averaging(network: nn.Module) -> Iterator[None]:
    """Inside, the network is in evaluation mode, and its batch norms forget their statistics and take the plain average
    over the batches that pass; norms of layers that no batch meets are left without."""
    norms = tracked_norms(network)
    momenta = [norm.momentum for norm in norms]
    network.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain average
            norm.train()
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def statistics(network: nn.Module) -> list[tuple[_BatchNorm, dict[str, Tensor]]]:
    """A copy of what each batch norm holds, for `restore`."""
    return [
        (norm, {name: value.clone() for name, value in norm.state_dict().items()}) for norm in tracked_norms(network)
    ]


def restore(saved: list[tuple[_BatchNorm, dict[str, Tensor]]]) -> None:
    """Give each batch norm back what it held."""
    for norm, state in saved:
        norm.load_state_dict(state)
