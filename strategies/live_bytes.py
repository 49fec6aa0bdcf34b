"""How many bytes of tensors are alive while a program runs, counted storage by storage."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Counts what the operations inside its block allocate and free; tensors that share memory count once.

    What an operation allocates inside itself and frees again is not seen.

    Args:
        held: tensors that are there already, weights and buffers.

    Attributes:
        now: bytes alive.
        peak: the most at any time since the last `reset_peak`.
    """

    def __init__(self, held: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[Any, int] = {}
        for tensor in held:
            self._add(tensor)

    def reset_peak(self) -> None:
        """Count the peak from now on."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_iter(result):
            if isinstance(each, Tensor):
                self._add(each)
        return result

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = weakref.ref(storage, self._remove)
        if reference not in self._sizes:
            self._sizes[reference] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _remove(self, reference: Any) -> None:
        self.now -= self._sizes.pop(reference)
