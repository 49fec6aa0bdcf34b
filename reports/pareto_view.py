"""Error against cost for a page: data that its script draws from, and the same as a still figure for paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from .overview import Row
from .pareto import Point, error_figure
from .recommendation import Group

SHORT = 28  # characters of a name in a figure
COSTS = {"macs": "MACs", "parameters": "parameters"}
KINDS = {"found": "drawn", "random": "never", "configuration": "never", "reference": "reference"}  # see `pareto.Point`
LEGEND = {"drawn": "found", "never": "drawn at random, or one more configuration", "reference": "trained beside it"}


def view_data(groups: Sequence[Group], anchors: Mapping[Row, str]) -> dict[str, Any]:
    """What the script needs: for each group its rows, with fractions, milliseconds and counts."""
    return {
        "groups": [
            {
                "title": group.title,
                "label": group.label,
                "higher": group.higher,
                "devices": group.devices,
                "rows": [_row(row, group.devices, anchors[row]) for row in group.rows],
            }
            for group in groups
        ]
    }


def _row(row: Row, devices: Sequence[str], anchor: str) -> dict[str, Any]:
    times = {devices.index(device): [time.ms, time.low, time.high] for device, time in row.times.items()}
    return {
        "name": row.name,
        "kind": row.kind,
        "space": row.space,
        "strategy": row.strategy,
        "href": f"#{anchor}",
        "error": None if row.value is None else [row.value, *_ends(row.value, row.low, row.high)],
        "macs": row.macs,
        "parameters": row.parameters,
        "times": times,
    }


def as_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no text in it can end that element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def points(group: Group, cost: str) -> list[Point]:
    """The architectures of a group with a figure and that cost: a device, or one of `COSTS`."""
    found = []
    for row in group.rows:
        time, count = row.times.get(cost), {"macs": row.macs, "parameters": row.parameters}.get(cost)
        if row.value is None or (time is None and count is None):
            continue
        x = (time.ms, time.low, time.high) if time is not None else (count or 0.0,) * 3
        y = (row.value, *_ends(row.value, row.low, row.high))
        name = row.name if len(row.name) <= SHORT else f"{row.name[: SHORT - 9]}…{row.name[-8:]}"
        found.append(Point(name, x[0], y[0], x[1], x[2], y[1], y[2], KINDS[row.kind], labelled=False))
    return found


def first_cost(group: Group) -> str:
    """What the view begins with: the first device that two were timed on, else MACs."""
    return next((device for device in group.devices if len(points(group, device)) > 1), "macs")


def still_figure(group: Group) -> Figure | None:
    """The view as it begins; None if fewer than two architectures have what it needs."""
    cost = first_cost(group)
    shown = points(group, cost)
    if len(shown) < 2:
        return None
    device, _, condition = cost.partition(": ")
    label = COSTS.get(cost) or f"milliseconds a picture: median and middle half\n({condition}; {device})"
    return error_figure(shown, label, f"{group.label} (bars: 95 % interval)", LEGEND, group.higher)


def _ends(value: float, low: float | None, high: float | None) -> tuple[float, float]:
    return (value if low is None else low, value if high is None else high)
