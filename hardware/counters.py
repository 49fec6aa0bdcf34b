"""What a network costs without running it on a device: parameters, operations, activation memory.

All figures are for batch size 1, in evaluation mode; the model is left as it was.

>>> from torch import nn
>>> count(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10))  # 3 * 9 * 8 MACs at each of 100 pixels
21600
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from searchspaces.errors import CostError

from .conventions import CONVENTIONS, Shape, count_call, known_type, register_layer
from .tracing import LayerCall, Trace, trace

__all__ = ["CONVENTIONS", "activation_bytes", "count", "count_parameters", "profile_model", "register_layer"]

INPUT_SIZE = (3, 108, 108)


def count(model: nn.Module, input_size: Sequence[int] = INPUT_SIZE, convention: str = "mac") -> int:
    """Operations of one forward pass in a named convention (see `hardware.conventions`).

    Operations that the convention's layers do not account for, such as a convolution called as a function, are
    told in a Python warning; `profile_model` lists them.

    Raises:
        UnknownNameError: if there is no such convention.
        CostError: if the model does not run on the input, or has a layer with parameters that no formula knows.
    """
    by_operators = CONVENTIONS[convention].of_operators
    watched = trace(model, input_size, memory=False)
    total = _operations(convention, watched)
    for message in (*([] if by_operators else _unaccounted_macs(watched)), *_unknown_operators(watched)):
        warnings.warn(message, stacklevel=2)
    return total


def count_parameters(model: nn.Module, input_size: Sequence[int] = INPUT_SIZE) -> dict[str, int]:
    """Numbers of parameters; one that is used in several places counts once.

    Returns:
        ``stored``: all; ``trainable``: those that take a gradient; ``active``: those that one forward pass in
        evaluation mode uses: of the modules that it executes, and read by its operators. A network with branches
        chosen at run time stores more than is active.
    """
    return _parameters(model, trace(model, input_size, memory=False))


def activation_bytes(model: nn.Module, input_size: Sequence[int] = INPUT_SIZE) -> dict[str, int]:
    """Bytes of the input and all intermediate tensors as float32 (see `hardware.lifetimes.Lifetimes`).

    Returns:
        ``peak``: the most that is needed at once, if each tensor is freed after its last use; in-place results and
        views share the storage of their source. ``total``: all storages together. Weights are not in either.
    """
    return trace(model, input_size).activations.bytes()


def profile_model(model: nn.Module, input_size: Sequence[int] = INPUT_SIZE) -> dict[str, Any]:
    """Everything that can be counted, in every convention, from one forward pass.

    Returns:
        A value that JSON can hold: ``input``, ``parameters``, ``operations`` (a figure for each convention),
        ``activation_bytes``, ``weight_bytes``, ``layers`` (a row for each module that ran and has parameters or
        operations of its own), ``uncounted`` (types of layers without parameters that no formula knows, taken for
        free), ``warnings`` (MACs that the `mac` figure does not hold, and the uncounted layers).

    Raises:
        CostError: if the model does not run on the input, or has a layer with parameters that no formula knows.
    """
    watched = trace(model, input_size)
    uncounted = _uncounted(watched.calls)
    messages = [*_unaccounted_macs(watched), *_unknown_operators(watched)]
    if uncounted:
        names = ", ".join(uncounted)
        messages.append(f"Layers without parameters that no formula knows are taken for free: {names}.")
    return {
        "input": list(input_size),
        "parameters": _parameters(model, watched),
        "operations": {name: _operations(name, watched) for name in CONVENTIONS},
        "activation_bytes": watched.activations.bytes(),
        "weight_bytes": weight_bytes(model),
        "layers": _layer_table(watched),
        "uncounted": uncounted,
        "warnings": messages,
    }


def weight_bytes(model: nn.Module) -> dict[str, int]:
    """Size of the stored parameters.

    Returns:
        ``float32``: 4 bytes each. ``int8_estimate``: 1 byte for each entry of a weight matrix or kernel and one
        float32 scale for each of its output channels; 4 bytes for each entry of a vector (bias, norm).
    """
    parameters = list(model.parameters())
    int8 = sum(p.numel() + 4 * p.shape[0] if p.dim() > 1 else 4 * p.numel() for p in parameters)
    return {"float32": 4 * sum(p.numel() for p in parameters), "int8_estimate": int8}


def _parameters(model: nn.Module, watched: Trace) -> dict[str, int]:
    stored = list(model.parameters())
    executed = [p for module in watched.executed.values() for p in _own_parameters(module)]
    active = {id(p): p.numel() for p in (*executed, *watched.parameters.values())}
    return {
        "stored": sum(p.numel() for p in stored),
        "trainable": sum(p.numel() for p in stored if p.requires_grad),
        "active": sum(active.values()),
    }


def _own_parameters(module: nn.Module) -> Iterable[nn.Parameter]:
    """Parameters of a module itself; those of its parts too where it is counted as one layer."""
    if known_type(module) is not None:
        return module.parameters()
    lists = [child for child in module.children() if isinstance(child, nn.ParameterList | nn.ParameterDict)]
    return [p for owner in (module, *lists) for p in owner.parameters(recurse=False)]


def _operations(convention: str, watched: Trace) -> int:
    """Operations of one forward pass: those of its layers, or of its operators."""
    layers = sum(_count_call(convention, call) for call in watched.calls)
    if not CONVENTIONS[convention].of_operators:
        return layers
    # a layer with a formula speaks for the operators in it that nobody can count
    unseen = sum(max(0, _count_call("mac", call) - call.operator_macs) for call in watched.calls if call.opaque)
    return CONVENTIONS[convention].per_mac * (watched.operator_macs + unseen)


def _count_call(convention: str, call: LayerCall) -> int:
    """Operations of one layer call; a layer that no formula knows is refused unless it has no parameters."""
    layer = call.layer
    if known_type(layer) is not None:
        return count_call(convention, layer, call.inputs, call.output)
    if next(layer.parameters(), None) is None:
        return 0
    kind = type(layer).__name__
    raise CostError(
        f"Layer {call.name!r} has parameters, but no formula knows its type {kind}: its operations cannot be counted. "
        f"Add one: hardware.register_layer({kind}, mac=lambda layer, inputs, output: ...)."
    )


def _uncounted(calls: Iterable[LayerCall]) -> list[str]:
    return sorted({type(call.layer).__name__ for call in calls if known_type(call.layer) is None})


def _unaccounted_macs(watched: Trace) -> list[str]:
    """Compare `mac` with the operators that really ran, which `flops` counts."""
    outside: dict[str, list[tuple[str, int]]] = {}
    for name, macs in watched.outside.items():
        outside.setdefault(type(watched.executed[name]).__name__, []).append((name, macs))
    inside: dict[str, list[tuple[str, int]]] = {}
    for call in watched.calls:
        more = call.operator_macs - _count_call("mac", call)
        if more > 0 or (more and not call.opaque):
            inside.setdefault(type(call.layer).__name__, []).append((call.name, more))
    groups = [(f"run by {kind} outside of layers", found) for kind, found in outside.items()]
    groups += [(f"inside of {kind} layers", found) for kind, found in inside.items()]
    return [f"mac misses {_sum(found)} {where} ({_places(found)})." for where, found in groups]


def _unknown_operators(watched: Trace) -> list[str]:
    if not watched.unknown:
        return []
    names = ", ".join(f"{operator} (in {module})" for operator, module in sorted(watched.unknown.items()))
    return [f"Operators of unknown cost are not counted: {names}."]


def _sum(found: Sequence[tuple[str, int]]) -> str:
    return f"{sum(macs for _, macs in found):,} MACs"


def _places(found: Sequence[tuple[str, int]]) -> str:
    names = list(dict.fromkeys(name for name, _ in found))
    return names[0] if len(names) == 1 else f"{len(names)} places, first {names[0]}"


def _layer_table(watched: Trace) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    outputs: dict[str, Shape] = {}
    macs: dict[str, int] = {}
    for call in watched.calls:
        outputs[call.name] = call.output
        macs[call.name] = macs.get(call.name, 0) + _count_call("mac", call)
    seen: set[int] = set()
    for name, module in watched.executed.items():
        own = {id(p): p.numel() for p in _own_parameters(module) if id(p) not in seen}
        seen.update(own)
        if own or name in macs:
            rows[name] = {
                "name": name,
                "type": type(module).__name__,
                "output": list(outputs.get(name, ())),
                "parameters": sum(own.values()),
                "macs": macs.get(name, 0),
            }
    return list(rows.values())
