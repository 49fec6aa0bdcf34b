"""The layers of a network for a page: norms and activations in the row of what they follow, predicted times beside."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .numbers import MISSING, dimensions, exact, number, plain
from .tables import Row
from .waterfall import Time, Waterfall, predicted, sides_of

HEADINGS = ("kind", "output", "parameters", "MACs")
JOINED = re.compile(r"BatchNorm|ReLU|PReLU|Hardswish|Hardsigmoid|SiLU|GELU|Sigmoid|Tanh|Identity|Dropout")
RUNTIME = "changes of layout"
OUTSIDE = "additions, concatenations and the like"
MOST_OUTSIDE = 12  # rows
HEADS = re.compile(r"Conv|Linear")


@dataclass(frozen=True)
class Layer:
    """One row: a layer with the batch norm and the activation that follow it on the same map."""

    name: str
    kinds: tuple[str, ...]
    output: tuple[Any, ...]
    parameters: float | None
    macs: float | None


def headings(found: Waterfall | None) -> list[str]:
    """The headings of `layer_rows`."""
    return [*HEADINGS, *(f"{side} µs" for side in (sides_of(found) if found else ()))]


def layer_rows(cost: Mapping[str, Any], found: Waterfall | None) -> list[Row]:
    """The rows of the table, with the `headings`; without times where none are known.

    An activation that a runtime joins with something else has no row: no parameters, operations or time are its own.
    """
    layers = joined_layers(cost)
    names = [layer.name for layer in layers]
    sides = [times_by_layer(names, found, time) for time in sides_of(found).values()] if found else []
    timed = {name for times in sides for name in times}
    rows = []
    for layer in layers:
        if layer.parameters or layer.macs or layer.name in timed:
            shape = dimensions(list(layer.output[1:])) if layer.output else MISSING
            cells = (" + ".join(layer.kinds), shape, exact(layer.parameters), exact(layer.macs))
            rows.append(Row(layer.name, (*cells, *(_us(times.get(layer.name)) for times in sides))))
    return rows + (_outside(timed, found) if found else [])


def _us(ms: float | None) -> str:
    return "" if ms is None else f"{1e3 * ms:,.1f}"


def longest(rows: Sequence[Row], most: int | None) -> list[Row]:
    """The rows with the largest last figure, a time or MACs, in their order; all of them without a limit."""
    if most is None or len(rows) <= most:
        return list(rows)
    told = [row.cells[-1].replace(",", "") for row in rows]
    figures = [float(text) if re.fullmatch(r"[\d.]+", text) else 0.0 for text in told]
    ranked = sorted(range(len(rows)), key=lambda i: -figures[i])
    return [rows[i] for i in sorted(ranked[:most])]


def _outside(layers: Container[str], found: Waterfall) -> list[Row]:
    """What kernels take that are of no layer, the longest: additions in a module, and what the runtime put in."""
    sides = []
    for time in sides_of(found).values():
        rest: dict[str, float] = {}
        for path, ms in found.by_layer(time).items():
            if _known(path, layers) is None:
                module = path.partition("/")[0]
                rest[module] = rest.get(module, 0.0) + ms
        sides.append(rest)
    longest = sorted(sides[-1], key=lambda path: -sides[-1][path])[:MOST_OUTSIDE]
    return [
        Row(
            path or "put in by the runtime",
            (OUTSIDE if path else RUNTIME, "", "", "", *(_us(rest[path]) for rest in sides)),
        )
        for path in longest
    ]


def joined_layers(cost: Mapping[str, Any]) -> list[Layer]:
    """The layers of cost.json as runtimes execute them: what follows a convolution on its map is part of it."""
    told = cost.get("layers")
    rows = [row for row in told if isinstance(row, Mapping)] if isinstance(told, list) else []
    layers: list[Layer] = []
    for row in rows:
        layer = _layer(row)
        last = layers[-1] if layers else None
        joins = last is not None and HEADS.search(last.kinds[0]) and JOINED.search(layer.kinds[0])
        if last is not None and joins and (last.output, _parent(last)) == (layer.output, _parent(layer)):
            counts = (_sum(last.parameters, layer.parameters), _sum(last.macs, layer.macs))
            layers[-1] = replace(last, kinds=(*last.kinds, *layer.kinds), parameters=counts[0], macs=counts[1])
        else:
            layers.append(layer)
    return layers


def _layer(row: Mapping[str, Any]) -> Layer:
    output = row.get("output")
    shape = tuple(plain(side) for side in output) if isinstance(output, list | tuple) else ()
    counts = (number(row.get("parameters")), number(row.get("macs")))
    return Layer(plain(row.get("name")), (plain(row.get("type")),), shape, *counts)


def _parent(layer: Layer) -> str:
    return layer.name.rpartition(".")[0]


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a + b


def times_by_layer(names: Iterable[str], found: Waterfall, time: Time = predicted) -> dict[str, float]:
    """Milliseconds of the layers that kernels are named after."""
    known, times = frozenset(names), dict[str, float]()
    for path, ms in found.by_layer(time).items():
        name = _known(path, known)
        if name is not None:
            times[name] = times.get(name, 0.0) + ms
    return times


def _known(path: str, names: Container[str]) -> str | None:
    """The layer of a kernel; a module that runs several times is exported as name, name_1, name_2."""
    candidates = (path, re.sub(r"_\d+(?=\.|$)", "", path))
    return next((name for name in candidates if name in names), None)
