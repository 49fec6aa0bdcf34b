"""Running a network on shapes alone: nothing is computed, and what an operator returns is looked up.

The result of an operator has a size, a stride and a type that depend on its arguments' alone, and the networks of a
search repeat the same operators over and over. So each combination is asked of torch once (of the operator's version
for the device ``meta``) and remembered for all later networks of this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from searchspaces.errors import CostError

REMEMBERED = 50_000
"""Combinations of operator and arguments that are remembered, at most."""


class NeedsValuesError(CostError):
    """What the network does depends on values, which a run on shapes does not have."""


class Buffer:
    """The memory that a tensor and its views share: how many elements it has, and what identifies it."""

    __slots__ = ("elements",)

    def __init__(self, elements: int) -> None:
        self.elements = elements


class ShapeTensor(Tensor):
    """A tensor without values that looks like one on the model's own device. Lives inside of one trace."""

    buffer: Buffer | Tensor
    """The memory; a tensor with values, if this is a view of it."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NeedsValuesError(f"{func} was called on a tensor without values after the run that made it.")


def shape_tensor(like: Tensor) -> ShapeTensor:
    """A tensor without values of the size, type and device of another one."""
    result = _new(tuple(like.shape), like.stride(), like.dtype, like.device)
    result.buffer = Buffer(like.numel())
    return result


def _new(size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> ShapeTensor:
    make = Tensor._make_wrapper_subclass
    return make(ShapeTensor, size, strides=stride, dtype=dtype, device=device)


class _Result(NamedTuple):
    """One tensor that an operator returns: a view of an argument, or new."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    view_of: int | None
    elements: int


# what an operator returns for each result: the number of an argument, a tensor to make, or nothing (None)
_Results = tuple[int | _Result | None, ...]
_remembered: dict[Any, tuple[Any, _Results]] = {}


def run_on_shapes(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operator returns. Arguments with values stay real: an operator on nothing else is computed.

    Raises:
        NeedsValuesError: if the operator reads values or writes into a tensor that has some.
        Exception: whatever the operator raises on these shapes.
    """
    tensors: list[Tensor] = []
    signature = (_signature(args, tensors), *((k, _signature(v, tensors)) for k, v in kwargs.items()))
    example = next((tensor for tensor in tensors if isinstance(tensor, ShapeTensor)), None)
    if example is None:
        return operator(*args, **kwargs)
    key = (operator, signature)
    if key not in _remembered:
        if len(_remembered) >= REMEMBERED:
            _remembered.clear()
        _remembered[key] = _ask(operator, args, kwargs, tensors)
    kind, results = _remembered[key]
    made = [_make(result, tensors, example.device) for result in results]
    return made[0] if kind is None else kind(made)


def _signature(value: Any, tensors: list[Tensor]) -> Any:
    """What a result's shape depends on; the tensors are collected in order."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return (tuple(value.shape), value.stride(), value.dtype, isinstance(value, ShapeTensor))
    if isinstance(value, list | tuple):
        return tuple([_signature(entry, tensors) for entry in value])
    return value.__class__, value  # 1, 1.0 and True are equal, but make different types


def _make(result: int | _Result | None, tensors: Sequence[Tensor], device: torch.device) -> Tensor | None:
    if result is None:
        return None
    if isinstance(result, int):
        return tensors[result]
    made = _new(result.size, result.stride, result.dtype, device)
    source = None if result.view_of is None else tensors[result.view_of]
    if source is None:
        made.buffer = Buffer(result.elements)
    else:
        made.buffer = source.buffer if isinstance(source, ShapeTensor) else source
    return made


def _ask(
    operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: Sequence[Tensor]
) -> tuple[Any, _Results]:
    """Run the operator on the device ``meta`` and write down what it returns."""
    if getattr(operator, "tags", None) and torch.Tag.data_dependent_output in operator.tags:
        raise NeedsValuesError(f"{operator} reads values.")
    stand_ins = [_stand_in(tensor) for tensor in tensors]
    before = [(tuple(tensor.shape), tensor.stride()) for tensor in stand_ins]
    rest = iter(stand_ins)
    meta_args, meta_kwargs = _replace(args, rest), {name: _replace(value, rest) for name, value in kwargs.items()}
    if meta_kwargs.get("device") is not None:
        if torch.device(meta_kwargs["device"]).type == "meta":
            raise NeedsValuesError(f"{operator} makes a tensor of the device meta.")
        meta_kwargs["device"] = torch.device("meta")
    returned = operator(*meta_args, **meta_kwargs)
    if before != [(tuple(tensor.shape), tensor.stride()) for tensor in stand_ins]:
        raise NeedsValuesError(f"{operator} changes the shape of its argument.")
    if _writes_values(operator, args, kwargs):
        raise NeedsValuesError(f"{operator} writes into a tensor that has values.")
    kind = None if isinstance(returned, Tensor) or returned is None else type(returned)
    results = [returned] if kind is None else returned
    return kind, tuple(_describe(result, stand_ins, operator) for result in results)


def _stand_in(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device="meta")


def _replace(value: Any, stand_ins: Any) -> Any:
    if isinstance(value, Tensor):
        return next(stand_ins)
    if isinstance(value, list | tuple):
        return type(value)(_replace(entry, stand_ins) for entry in value)
    return value


def _writes_values(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    schema = operator._schema
    if not schema.is_mutable:
        return False
    values = dict(zip((argument.name for argument in schema.arguments), args, strict=False)) | kwargs
    written = [values.get(a.name) for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return any(isinstance(value, Tensor) and not isinstance(value, ShapeTensor) for value in written)


def _describe(result: Any, stand_ins: Sequence[Tensor], operator: Any) -> int | _Result | None:
    if result is None:
        return None
    if not isinstance(result, Tensor) or result.layout is not torch.strided:
        raise NeedsValuesError(f"{operator} returns something else than tensors.")
    for index, tensor in enumerate(stand_ins):
        if result is tensor:
            return index
    storages = [tensor.untyped_storage()._cdata for tensor in stand_ins]
    own = result.untyped_storage()
    view_of = storages.index(own._cdata) if own._cdata in storages else None
    elements = own.nbytes() // result.element_size()
    return _Result(tuple(result.shape), result.stride(), result.dtype, view_of, elements)
