"""One forward pass as a list of pure operators: what a writer of files needs to know of a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from hardware.tracing import evaluating, run
from searchspaces.errors import CostError

Shape = tuple[int, ...]


class UnknownOperatorError(CostError):
    """An operator of torch that cannot be written; ``name`` is torch's."""

    def __init__(self, name: str, why: str = "") -> None:
        self.name = name
        super().__init__(f"facenas does not write torch's operator {name!r}{why} to LiteRT itself")


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the network's input; ``number`` counts them in order of their making."""

    number: int
    shape: Shape


@dataclass(frozen=True)
class Call:
    """One operator: its name in torch without the overload, and its arguments with a `Value` for each tensor that
    depends on the input. Other tensors are constants and stand there themselves."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Value | None, ...]


@dataclass
class Recording:
    """The operators of a forward pass in order, equal ones once.

    Attributes:
        input: the network's input.
        calls: operators that something reads.
        outputs: the network's outputs.
    """

    input: Value
    calls: list[Call] = field(default_factory=list)
    outputs: list[Value | Tensor] = field(default_factory=list)

    def readers(self) -> dict[int, int]:
        """How often each value is read, by its number; the network's outputs count."""
        counts: dict[int, int] = {}
        for leaf in tree_leaves([[call.args, call.kwargs] for call in self.calls] + [self.outputs]):
            if isinstance(leaf, Value):
                counts[leaf.number] = counts.get(leaf.number, 0) + 1
        return counts


def record(model: nn.Module, x: Tensor) -> Recording:
    """The operators of one forward pass in evaluation mode on x (1, C, H, W) or (1, F).

    Raises:
        UnknownOperatorError: if it works in place on a part of a map, or on a constant.
        CostError: if the model does not run on the input.
    """
    recorder = _Recorder(x)
    with evaluating(model), recorder:
        result = run(model, x)
    if recorder.problem:
        raise recorder.problem
    outputs = [recorder.value_of(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    recording = Recording(recorder.input, recorder.calls, outputs)
    recording.calls = _needed(recording)
    return recording


class _Recorder(TorchDispatchMode):
    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.values: dict[int, Value] = {}  # id of a tensor -> its newest value
        self.kept: list[Any] = []  # tensors that live as long as their ids are used
        self.known: dict[Any, tuple[Value | None, ...]] = {}
        self.sharing: dict[StorageWeakRef, set[int]] = {}  # storage -> tensors on it
        self.read: set[StorageWeakRef] = set()  # storages of constants that recorded operators read
        self.problem: UnknownOperatorError | None = None
        self.made = 0
        self.input = self._new(x)

    def _new(self, tensor: Tensor) -> Value:
        value = Value(self.made, tuple(tensor.shape))
        self.made += 1
        self._remember(tensor, value)
        return value

    def _remember(self, tensor: Tensor, value: Value) -> None:
        self.values[id(tensor)] = value
        self.kept.append(tensor)
        self.sharing.setdefault(_storage(tensor), set()).add(id(tensor))

    def _check_in_place(self, name: str, target: Any, named: Any) -> None:
        """What works in place on a part of a map, or on a constant that holds the input or was read, is not pure."""
        storage = _storage(target)
        given = any(isinstance(leaf, Value) for leaf in tree_leaves(named))
        constant = id(target) not in self.values
        if len(self.sharing.get(storage, ())) > 1 or (constant and (given or storage in self.read)):
            self.problem = self.problem or UnknownOperatorError(name, ", in place on what is read elsewhere too,")

    def value_of(self, leaf: Any) -> Any:
        return self.values.get(id(leaf), leaf) if isinstance(leaf, Tensor) else leaf

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = tree_map(self.value_of, args), tree_map(self.value_of, kwargs)
        if func._schema.is_mutable:
            self._check_in_place(func._schema.name.partition("::")[2], args[0], named)
        result = func(*args, **kwargs)
        self.kept.append((args, kwargs, result))
        if not any(isinstance(leaf, Value) for leaf in tree_leaves(named)):
            return result  # made of weights alone
        self.read |= {_storage(leaf) for leaf in tree_leaves(named) if isinstance(leaf, Tensor)}
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        # an operator on equal values is the same value: runtimes would compute it once too
        key = (func, str(tree_map(lambda leaf: id(leaf) if isinstance(leaf, Tensor) else leaf, named)))
        if key not in self.known:
            self.known[key] = tuple(self._new(tensor) for tensor in tensors)
            name = func._schema.name.partition("::")[2]
            in_place = func._schema.is_mutable and name.endswith("_")
            self.calls.append(Call(name.removesuffix("_") if in_place else name, *named, self.known[key]))
        for tensor, value in zip(tensors, self.known[key], strict=True):
            if value is not None:
                self._remember(tensor, value)
        return result


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())


def _needed(recording: Recording) -> list[Call]:
    """Calls whose results reach the outputs."""
    wanted = {value.number for value in recording.outputs if isinstance(value, Value)}
    kept: list[Call] = []
    for call in reversed(recording.calls):
        if any(value is not None and value.number in wanted for value in call.results):
            kept.append(call)
            wanted |= {leaf.number for leaf in tree_leaves([call.args, call.kwargs]) if isinstance(leaf, Value)}
    return kept[::-1]
