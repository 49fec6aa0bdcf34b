"""Which architecture to take for a budget of milliseconds, and what the intervals allow to say at all.

The rule: of the networks that fit, the one with the best figure is found, and with it all whose 95 % intervals overlap
its own: none of these is shown to be better than another. Of these the fastest is recommended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from .numbers import milliseconds, percent
from .overview import Row, Time

LADDER = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # times powers of ten: budgets that people name
MOST_NAMES = 3
RULE = (
    "The rule: a network fits a budget if the upper quartile of its times does. Of those that fit, the best figure "
    "counts, and with it all whose 95 % intervals overlap its own: none of these is shown to be better than another, "
    "so the fastest of them is recommended. A line holds up to the budget of the next one, and its reason tells of all "
    "that fit at the end of it. Networks without a time on the device or without an interval are left out."
)


@dataclass(frozen=True)
class Group:
    """Architectures whose figures may be compared: one task, one metric, one test set."""

    title: str
    rows: tuple[Row, ...]

    @property
    def label(self) -> str:
        """The metric's short name."""
        return self.rows[0].label

    @property
    def higher(self) -> bool:
        """Whether more of it is better."""
        return self.rows[0].higher

    @property
    def judged(self) -> list[Row]:
        """Those with a figure and its interval, the best first."""
        known = [row for row in self.rows if None not in (row.value, row.low, row.high)]
        return sorted(known, key=lambda row: (_merit(row), row.macs or 0.0))

    @property
    def devices(self) -> list[str]:
        """Devices with runtime and conditions, in the order of their first measurement."""
        return list(dict.fromkeys(device for row in self.rows for device in row.times))


@dataclass(frozen=True)
class Rung:
    """What is recommended from a budget on.

    Attributes:
        budget: milliseconds.
        row: the recommended architecture, ``time`` its time.
        best: the one with the best figure that fits; often another.
        why: the reason in words, as far as it holds at the end of the line.
    """

    budget: float
    row: Row
    time: Time
    best: Row
    why: str


def groups(rows: Sequence[Row]) -> list[Group]:
    """Architectures that may be compared, group by group, in the order of their first."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.task, row.metric, row.test_set), []).append(row)
    titles = [f"{own[0].label} on {own[0].test_set.partition(' (')[0]}" for own in found.values()]
    return [
        Group(title if titles.count(title) == 1 else f"{own[0].label} on {own[0].test_set}", tuple(own))
        for title, own in zip(titles, found.values(), strict=True)
    ]


def overlaps(first: Row, second: Row) -> bool:
    """Whether the 95 % intervals of two figures overlap, which both have."""
    assert first.low is not None and first.high is not None and second.low is not None and second.high is not None
    return first.low <= second.high and second.low <= first.high


def ranking(group: Group) -> str:
    """Whether the intervals put the architectures in an order, in plain words."""
    judged = group.judged
    if len(judged) < 2:
        return f"{group.title}: fewer than two architectures have a figure with an interval, so nothing can be ranked."
    pairs = list(combinations(judged, 2))
    apart = sum(not overlaps(*pair) for pair in pairs)
    if not apart:
        return (
            f"{group.title}: no ranking of the {len(judged)} architectures is justified: the 95 % intervals all "
            "overlap, so none is shown to be better than another."
        )
    best, *rest = judged
    equal = [row for row in rest if overlaps(row, best)]
    which = f"are apart for {apart} of {len(pairs)} pairs of" if apart < len(pairs) else "are all apart for"
    text = f"{group.title}: the 95 % intervals {which} {len(judged)} architectures. "
    text += f"The best measured figure is that of {_short(best.name)} ({percent(best.value)})"
    if equal:
        return f"{text}; it is not shown to be better than {_names(equal)}."
    return f"{text}; it is better than every other, as far as these pictures tell."


def ladder(times: Sequence[Time]) -> list[float]:
    """Budgets that people name, from the first that a network fits to the first that all of them do.

    >>> ladder([Time(1.4, 1.3, 1.5), Time(4.2, 4.0, 4.4)])
    [1.5, 2.0, 2.5, 3.0, 4.0, 5.0]
    """
    if not times:
        return []
    shortest, longest = min(time.high for time in times), max(time.high for time in times)
    steps = [step * 10.0**power for power in range(-4, 6) for step in LADDER]
    found = [step for step in steps if step >= shortest]
    last = next((i for i, step in enumerate(found) if step >= longest), len(found) - 1)
    return [round(step, 6) for step in found[: last + 1]]


def recommendations(group: Group, device: str) -> list[Rung]:
    """The recommended architecture for each budget on a device; a budget that changes nothing is left out.

    A line holds from its budget to the next one's; its reason tells of all that fit at the end.
    """
    timed = [(row, row.times[device]) for row in group.judged if device in row.times]
    rungs: list[Rung] = []
    for budget in ladder([time for _, time in timed]):
        fits = [(row, time) for row, time in timed if time.high <= budget]
        rung = _rung(budget, fits)
        if rungs and (rung.row, rung.best) == (rungs[-1].row, rungs[-1].best):
            rungs[-1] = replace(rung, budget=rungs[-1].budget)
        else:
            rungs.append(rung)
    return rungs


def _rung(budget: float, fits: Sequence[tuple[Row, Time]]) -> Rung:
    """The fastest of those that are not shown to be worse than the best; ``fits`` begins with the best."""
    best = fits[0][0]
    equal = [(row, time) for row, time in fits if overlaps(row, best)]
    row, time = min(equal, key=lambda pair: (pair[1].ms, _merit(pair[0])))
    others = [other for other, _ in equal if other is not row]
    return Rung(budget, row, time, best, _reason(row is best, others, len(fits)))


def _reason(is_best: bool, others: Sequence[Row], fits: int) -> str:
    """Why a network is recommended beside ``others``, which are not shown to differ from the best of those that fit."""
    if fits == 1:
        return "The only one that fits."
    worse = fits - len(others) - 1
    told = (
        "" if not worse else f" {worse} other{' that fits is' if worse == 1 else 's that fit are'} shown to be worse."
    )
    if not others:
        return f"The best of {fits} that fit.{told}"
    if is_best:
        return f"The best figure, and the fastest that can be; not shown to be better than {_names(others)}.{told}"
    return f"The fastest of {len(others) + 1} that are not shown to differ: {_names(others)} are slower.{told}"


def extremes(group: Group, device: str) -> str:
    """The smallest time and the best figure on a device, in words; "" if nothing was timed there."""
    timed = [row for row in group.rows if device in row.times]
    if not timed:
        return ""
    fastest = min(timed, key=lambda row: row.times[device].ms)
    text = f"Smallest time: {milliseconds(fastest.times[device].ms)}, {_short(fastest.name)}."
    judged = [row for row in group.judged if device in row.times]
    return f"{text} Best {group.label}: {percent(judged[0].value)}, {_short(judged[0].name)}." if judged else text


def _merit(row: Row) -> float:
    value = row.value or 0.0
    return -value if row.higher else value


def _short(name: str) -> str:
    """A name that leaves room for a sentence."""
    return name if len(name) <= 60 else f"{name[:40]}…{name[-15:]}"


def _names(rows: Sequence[Row]) -> str:
    shown = [_short(row.name) for row in rows[:MOST_NAMES]]
    more = len(rows) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
