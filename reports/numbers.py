"""Numbers as people read them. Whatever a file holds instead of a number is shown as "not given"."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MISSING = "not given"
NARROW = "\u00a0"  # a space that keeps a number and its unit on one line
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DEEPEST = 20  # lists and objects inside of each other that are shown


def number(value: Any) -> float | None:
    """The value as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def entry(value: Any, *keys: str) -> Any:
    """``value[a][b]...`` if every step is a mapping that has the key, else None."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def percent(fraction: Any) -> str:
    """A fraction as percent with one decimal."""
    value = number(fraction)
    return MISSING if value is None else f"{100 * value:.1f}{NARROW}%"


def interval(metric: Any) -> str:
    """The 95 % interval of a metric in percent, or why there is none."""
    low, high = number(entry(metric, "low")), number(entry(metric, "high"))
    return "no interval" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}{NARROW}%"


def scaled(value: Any) -> str:
    """Three digits and a factor: 266737 becomes ``267 k``, 532955232 becomes ``533 M``."""
    amount = number(value)
    if amount is None:
        return MISSING
    for factor, letter in _SCALES:
        if abs(amount) >= factor * 0.9995:
            return f"{_three(amount / factor)}{NARROW}{letter}"
    return f"{amount:g}"


def exact(value: Any) -> str:
    """A whole number with thousands separated."""
    amount = number(value)
    return MISSING if amount is None else f"{amount:,.0f}"


def size(value: Any) -> str:
    """Bytes in the binary units that memory is sold in."""
    amount = number(value)
    if amount is None:
        return MISSING
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if amount >= factor:
            return f"{_three(amount / factor)}{NARROW}{unit}"
    return f"{amount:g} bytes"


def milliseconds(value: Any) -> str:
    """Milliseconds with three digits."""
    amount = number(value)
    return MISSING if amount is None else f"{_three(amount)}{NARROW}ms"


def duration(value: Any) -> str:
    """Seconds as a person would say them."""
    seconds = number(value)
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def dimensions(shape: Any) -> str:
    """A shape as ``3 × 108 × 108``."""
    sides = shape if isinstance(shape, list | tuple) else [shape]
    return " \u00d7 ".join(plain(side) for side in sides)


def plain(value: Any, depth: int = DEEPEST) -> str:
    """Any value from a file as short text; what is nested more than ``depth`` deep is left out.

    >>> plain({"a": [1, 2.5], "b": None}), plain([[[1]]], 2)
    ('a: 1, 2.5, b: not given', '...')
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {plain(item, depth - 1)}" for key, item in value.items()) if depth else "..."
    if isinstance(value, list | tuple):
        return ", ".join(plain(item, depth - 1) for item in value) if depth else "..."
    return str(value)


def _three(amount: float) -> str:
    amount = float(f"{amount:.3g}") if abs(amount) < 100 else amount  # round first: 0.99999 has the decimals of 1.00
    decimals = max(0, 2 - math.floor(math.log10(abs(amount)))) if amount else 0
    return f"{amount:.{min(decimals, 4)}f}"
