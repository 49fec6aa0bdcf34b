"""A found detector beside the two that were trained as it was: one with a random AutoFEM, and one without any."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure

from .comparison import Verdict, compare_headlines, differing_runs
from .numbers import entry, number
from .pareto import SIZE, Point, error_figure
from .run import Run
from .tables import Row, comparison_rows, conditions, device_name, latencies

FOUND = "found"
NAMES = {"random": "a random AutoFEM", "without": "the detector without AutoFEM"}
HEADINGS = {FOUND: "found", "random": "random AutoFEM", "without": "without AutoFEM"}
MARKS = {FOUND: "drawn", "random": "never", "without": "reference"}  # see `pareto.Point`
EQUAL = ("data", "recipe")  # options that must not differ
SENTENCES = {
    "better": ("{} is better than {}: the 95 % intervals do not overlap.", " and "),
    "worse": ("{} is worse than {}: the 95 % intervals do not overlap.", " and "),
    "undecided": ("{} cannot be ranked against {}: the 95 % intervals overlap.", " or "),
    "impossible": ("{} cannot be compared with {}.", " or "),
}
PAIRED = (
    "All were judged on the same pictures. Intervals that overlap do not show that two are equal: a paired test, more "
    "pictures or several seeds could tell them apart."
)
CAVEAT = (
    "The intervals cover the choice of test pictures only. Each side is one training from one seed, so how much luck "
    "it had is not known."
)
LIMITS = {
    "random": "The random AutoFEM is one draw: another could do better or worse.",
    "without": "Without AutoFEM the detector is another size: see what each costs.",
}


def compare_rivals(run: Run) -> Verdict | None:
    """Whether the found detector beats those beside it; None if there are none.

    The code is ``better`` only if it is so against each, ``worse`` if it is so against one.
    """
    verdicts = {
        name: differing_runs(run, rival, EQUAL) or compare_headlines(run, rival, NAMES[name])
        for name, rival in run.rivals.items()
    }
    if not verdicts:
        return None
    codes = {name: verdict.code for name, verdict in verdicts.items()}
    said: list[str] = []
    for code, (sentence, joint) in SENTENCES.items():
        names = [NAMES[name] for name in codes if codes[name] == code]
        if names:
            said.append(sentence.format("It" if said else "The found detector", joint.join(names)))
    notes = [verdict.sentence for verdict in verdicts.values()]
    if set(codes.values()) != {"impossible"}:
        notes += [PAIRED, CAVEAT, *(text for name, text in LIMITS.items() if name in codes)]
    found = set(codes.values())
    overall = found.pop() if len(found) == 1 else "worse" if "worse" in found else "undecided"
    return Verdict(overall, " ".join(said), tuple(notes))


def rival_table(run: Run) -> tuple[list[str], list[Row]]:
    """Headings and rows: quality with intervals, then costs, of the found detector and of those beside it."""
    sides = dict(_sides(run))
    return [HEADINGS[name] for name in sides], comparison_rows(*sides.values())


def rival_figure(run: Run, size: tuple[float, float] = SIZE) -> Figure | None:
    """AP over the time of a picture, ``size`` in inches; None unless two of them have both."""
    points = [point for name, side in _sides(run) if (point := _point(name, side)) is not None]
    measured = latencies(run.cost)
    if len(points) < 2 or not measured:
        return None
    x_label = f"milliseconds a picture: median, bars to the middle half\n({conditions(measured[0])}; "
    x_label += f"{device_name(run.cost)})"
    names = {MARKS[name]: heading for name, heading in HEADINGS.items()}
    return error_figure(points, x_label, "AP, all faces (bars: 95 % interval)", names, higher=True, size=size)


def time_note(run: Run) -> str:
    """Whether the times in the table may be compared."""
    costs = [side.cost for _, side in _sides(run) if latencies(side.cost)]
    if len({(device_name(cost), conditions(latencies(cost)[0])) for cost in costs}) > 1:
        return "The times were measured under different conditions: do not compare them."
    return "The times were measured one after the other, not in turn: small differences may be of the machine."


def _sides(run: Run) -> Iterator[tuple[str, Run]]:
    yield FOUND, run
    yield from run.rivals.items()


def _point(name: str, run: Run) -> Point | None:
    merit = run.metrics.get(run.task.headline)
    measured = latencies(run.cost)
    values = [number(entry(merit, key)) for key in ("value", "low", "high")]
    times = [number(measured[0].get(key)) if measured else None for key in ("median_ms", "p25_ms", "p75_ms")]
    if values[0] is None or times[0] is None:
        return None
    y, x = values[0], times[0]
    low, high, fast, slow = values[1], values[2], times[1], times[2]
    ends = (fast if fast is not None else x, slow if slow is not None else x)
    return Point(HEADINGS[name], x, y, *ends, y if low is None else low, y if high is None else high, MARKS[name])
