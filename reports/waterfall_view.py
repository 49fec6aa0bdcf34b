"""What a page shows of where the time goes: a sentence, shares by kind, a drawing, the longest kernels."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from .compact_svg import StyleSheet
from .numbers import NARROW, entry, milliseconds, number, percent, plain
from .palette import KERNELS
from .tables import Row, conditions, device_name, latencies
from .waterfall import DTYPE, KINDS, RUNTIME, KernelTime, Time, Waterfall, measured, predicted, sides_of


def share_rows(found: Waterfall) -> list[Row]:
    """Kernels, milliseconds and shares of each kind, the longest first; the headings are `share_headings`."""
    sides = sides_of(found)
    totals = [sum(map(time, found.kernels)) or 1.0 for time in sides.values()]
    macs = sum(kernel.macs for kernel in found.kernels if kernel.kind in _COMPUTING) or 1.0
    rows = []
    for kind in sorted(KINDS, key=lambda kind: -_sum(found.kernels, kind, list(sides.values())[-1])):
        own = [kernel for kernel in found.kernels if kernel.kind == kind]
        if own:
            times = [_sum(own, kind, time) for time in sides.values()]
            told = [text for ms, all_ms in zip(times, totals, strict=True) for text in _with_share(ms, all_ms)]
            share = percent(sum(kernel.macs for kernel in own) / macs) if kind in _COMPUTING else "none"
            rows.append(Row(KINDS[kind], (f"{len(own)}", *told, share)))
    return rows


def share_headings(found: Waterfall) -> list[str]:
    """The headings of `share_rows`."""
    times = [text for side in sides_of(found) for text in (side, "share of it")]
    return ["kernels", *times, "share of the executed MACs"]


def _with_share(ms: float, total: float) -> tuple[str, str]:
    return milliseconds(ms), percent(ms / total)


_COMPUTING = ("conv", "pointwise", "depthwise", "linear")


def _sum(kernels: Iterable[KernelTime], kind: str, time: Time) -> float:
    return sum(time(kernel) for kernel in kernels if kernel.kind == kind)


def sentence(found: Waterfall, cost: Mapping[str, Any]) -> str:
    """What was predicted, by what, and what was measured of the whole network."""
    shapes = "of shapes that were measured there, one by one"
    known = f"All of it is in kernels {shapes}."
    if found.known < 0.9995:
        known = f"{percent(found.known)} of it is in kernels {shapes}; the rest is told by a regression."
    text = (
        f"Predicted, not measured: {milliseconds(found.ms)} for the whole network (90{NARROW}% interval "
        f"{found.low:.3g} to {milliseconds(found.high)}), by the device profile {found.profile} ({found.device}, "
        f"ONNX Runtime, one thread). {known}"
    )
    if found.foreign:
        text += (
            f" The profile was learned on networks of {found.space}, not of this space: take the shares as a hint, and "
            "learn your device with python -m hardware.learn for more."
        )
    whole = measured_whole(cost)
    own = "" if found.own_ms is None else f" {_own_sentence(found.own_ms, cost)}"
    if whole is None:
        return f"{text} The whole network was not measured in ONNX Runtime with one thread.{own}"
    ms = whole["median_ms"]
    difference = found.ms / ms - 1
    away = "inside" if found.low <= ms <= found.high else "outside"
    side = f"{100 * abs(difference):.0f}{NARROW}% {'above' if difference > 0 else 'below'}"
    where = device_name(cost)
    machine = "" if where == found.device else f" That is another machine ({where}), so the two need not agree."
    return (
        f"{text} Measured: {milliseconds(ms)} ({conditions(whole)}); the prediction is {side} that, which lies {away} "
        f"the interval.{machine}{own}"
    )


def _own_sentence(ms: float, cost: Mapping[str, Any]) -> str:
    """By what the kernels were measured inside of the network."""
    runs, version = number(entry(cost, "kernels", "repetitions")), entry(cost, "kernels", "version")
    told = f"{runs:.0f} runs" if runs else "an unknown number of runs"
    return (
        f"Kernel by kernel the network takes {milliseconds(ms)}, as the profiler of ONNX Runtime {plain(version)} "
        f"measured on {device_name(cost)} (one thread, {told}, wall clock). It counts whole microseconds and takes a "
        "little of each kernel's time itself, so the shortest kernels look longer than they are."
    )


def measured_whole(cost: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The measurement that the prediction is of."""
    for latency in latencies(cost):
        told = (latency.get("runtime"), latency.get("dtype"), latency.get("threads"))
        if told == (RUNTIME, DTYPE, 1) and number(latency.get("median_ms")):
            return latency
    return None


def legend(found: Waterfall) -> list[tuple[str, str]]:
    """Name and colour of each kind that occurs."""
    return [(KINDS[kind], KERNELS[kind]) for kind in KINDS if any(kernel.kind == kind for kernel in found.kernels)]


@dataclass(frozen=True)
class Block:
    """The kernels of one part of the network: milliseconds, and when each of them runs, as predicted and as measured.

    Attributes:
        name: of the part.
        ms: predicted milliseconds, and their ``bars``.
        own_ms: measured ones, and their ``own_bars``; None and nothing if they were not.
    """

    name: str
    ms: float
    bars: Markup
    own_ms: float | None = None
    own_bars: Markup | None = None


def longer(found: Waterfall) -> float:
    """Milliseconds of all kernels, predicted or measured, whichever is longer: the width of the drawing."""
    return max(sum(map(time, found.kernels)) for time in sides_of(found).values())


def blocks(found: Waterfall, styles: StyleSheet) -> list[Block]:
    """A row for each part of the network, in the order of their first kernels; the longer time is 1000 wide.

    What the runtime puts in between belongs to what runs before it.
    """
    parts: dict[str, list[int]] = {}
    name = "input"
    for place, kernel in enumerate(found.kernels):
        name = _block(kernel.layer) if kernel.layer else name
        parts.setdefault(name, []).append(place)
    made = []
    for name, places in parts.items():
        own = [found.kernels[place] for place in places]
        block = Block(name, sum(map(predicted, own)), _bars(found, places, predicted, styles))
        if found.own_ms is not None:
            own_bars = _bars(found, places, measured, styles)
            block = replace(block, own_ms=sum(map(measured, own)), own_bars=own_bars)
        made.append(block)
    return made


def _block(layer: str) -> str:
    """
    >>> _block("cells.0.operations.2.1"), _block("backbone.blocks.0"), _block("head")
    ('cells.0', 'backbone', 'head')
    """
    match = re.match(r"[^.]+(\.\d+)?", layer)
    return match[0] if match else layer


def _bars(found: Waterfall, places: Sequence[int], time: Time, styles: StyleSheet) -> Markup:
    total = longer(found) or 1.0
    ends = [0.0, *itertools.accumulate(map(time, found.kernels))]
    paths: dict[str, str] = {}
    for place in places:
        kernel = found.kernels[place]
        left, right = round(1000 * ends[place] / total), round(1000 * ends[place + 1] / total)
        if right > left:
            paths[kernel.kind] = paths.get(kernel.kind, "") + f"M{left} 0h{right - left}v1h{left - right}z"
    drawn = (f'<path class="{styles.class_of(f"fill: {KERNELS[kind]}")}" d="{d}"/>' for kind, d in paths.items())
    return Markup(f'<svg viewBox="0 0 1000 1" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>')


def longest_headings(found: Waterfall) -> list[str]:
    """The headings of `longest_rows`."""
    return [
        "kind",
        *(text for side in sides_of(found) for text in (side, "share of it")),
        "the profile knows its shape",
    ]


def longest_rows(found: Waterfall, most: int) -> list[Row]:
    """The kernels that take longest: as measured, if they were."""
    sides = list(sides_of(found).values())
    totals = [sum(map(time, found.kernels)) or 1.0 for time in sides]
    longest = sorted(found.kernels, key=lambda kernel: -sides[-1](kernel))[:most]
    rows = []
    for kernel in longest:
        times = [text for time, total in zip(sides, totals, strict=True) for text in _with_share(time(kernel), total)]
        cells = (KINDS[kernel.kind], *times, "yes" if kernel.is_known else "no")
        rows.append(Row(kernel.layer or "put in by the runtime", cells))
    return rows
