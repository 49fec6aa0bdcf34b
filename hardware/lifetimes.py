"""How long each tensor of a forward pass is needed, and so how much memory the activations take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from .shapes import Buffer, ShapeTensor


class Lifetimes:
    """First and last operator that needs each storage; views and in-place results share one storage.

    Liveness is that of the operator graph, as an executor sees it that frees a tensor after its last use. The
    lifetimes of Python variables play no part (the caller of a block holds the block's input until it returns).
    A result that nothing reads, such as the indices of a max pooling, is not counted: an executor does not keep it.
    Storages that were there before the pass (weights, buffers, constants) are not counted; the input is.
    """

    def __init__(self) -> None:
        self.steps = 0
        # a weak reference keeps the address of a freed storage from being given to the next one
        self._bytes: dict[StorageWeakRef | Buffer, int] = {}
        self._first: dict[StorageWeakRef | Buffer, int] = {}
        self._last: dict[StorageWeakRef | Buffer, int] = {}

    def add(self, value: Any) -> None:
        """Register new tensors: the model's input, or an operator's results."""
        for tensor in strided_tensors(value):
            storage = _storage(tensor)
            if storage not in self._bytes:
                elements = _elements(storage, tensor)
                self._bytes[storage] = elements * (4 if tensor.is_floating_point() else tensor.element_size())
                self._first[storage] = self.steps

    def use(self, value: Any) -> None:
        """The current step reads these tensors (the last step: the model returns them)."""
        for tensor in strided_tensors(value):
            storage = _storage(tensor)
            if storage in self._bytes:
                self._last[storage] = self.steps

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """These are no intermediate tensors: weights and buffers."""
        for tensor in strided_tensors(list(tensors)):
            self._bytes[_storage(tensor)] = 0

    def step(self, reads: Sequence[Tensor], result: Any) -> None:
        """One operator ran."""
        for tensor in reads:
            if (storage := _storage(tensor)) not in self._bytes:
                self._bytes[storage] = 0  # read before anything wrote it: a constant
        self.use(reads)
        self.add(result)
        self.steps += 1

    def bytes(self) -> dict[str, int]:
        """``peak``: most bytes needed at one operator; ``total``: bytes of all intermediate tensors. float32."""
        spans = [(self._first[s], last, self._bytes[s]) for s, last in self._last.items() if s in self._first]
        return {"peak": peak(spans, self.steps), "total": sum(self._bytes[storage] for storage in self._last)}


def peak(spans: Iterable[tuple[int, int, int]], steps: int) -> int:
    """Most bytes alive at one step, given (first step, last step, bytes) of each piece of memory."""
    change = [0] * (steps + 2)
    for first, last, size in spans:
        change[first] += size
        change[last + 1] -= size
    return max(accumulate(change))


def strided_tensors(value: Any) -> list[Tensor]:
    """The dense tensors among an operator's arguments or results, or in a model's output."""
    return [tensor for tensor in tensors_in(value) if tensor.layout is torch.strided]


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nested value, in order; torch's own walk is used only for what is no list, tuple or dict."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [tensor for entry in value for tensor in tensors_in(entry)]
    if isinstance(value, dict):
        return [tensor for entry in value.values() for tensor in tensors_in(entry)]
    if value is None or isinstance(value, int | float | str | torch.dtype):
        return []
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> StorageWeakRef | Buffer:
    if isinstance(tensor, ShapeTensor):
        return tensor.buffer if isinstance(tensor.buffer, Buffer) else StorageWeakRef(tensor.buffer.untyped_storage())
    return StorageWeakRef(tensor.untyped_storage())


def _elements(storage: StorageWeakRef | Buffer, tensor: Tensor) -> int:
    if isinstance(storage, Buffer):
        return storage.elements
    return tensor.untyped_storage().nbytes() // tensor.element_size()
