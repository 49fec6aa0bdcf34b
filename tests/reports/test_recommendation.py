"""Which architecture is recommended for a budget, and what is said of a ranking: only what the intervals carry."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.overview import Row, Time
from reports.recommendation import extremes, groups, ladder, overlaps, ranking, recommendations

DEVICE = "phone: runtime"


def row(name: str, value: float | None, half: float, ms: float | None, higher: bool = False, data: str = "d") -> Row:
    times = {} if ms is None else {DEVICE: Time(ms, ms * 0.95, ms * 1.05)}
    ends = (None, None) if value is None else (value - half, value + half)
    return Row(
        0, name, name, "found", "s", "t", data, "antispoofing", data, "acer", "ACER", higher, value, *ends, 1, 1, times
    )


def test_nothing_is_ranked_where_all_intervals_overlap() -> None:
    (group,) = groups([row("a", 0.10, 0.05, 1.0), row("b", 0.12, 0.05, 2.0), row("c", 0.14, 0.05, 3.0)])
    assert "no ranking of the 3 architectures is justified" in ranking(group)
    (rung,) = recommendations(group, DEVICE)  # one line: a larger budget only adds networks that are equal and slower
    assert rung.budget == 1.2
    assert rung.row.run == "a" and "not shown to be better than b, c" in rung.why


def test_a_larger_budget_recommends_another_only_if_that_is_shown_to_be_better() -> None:
    fast, slow, slower = row("fast", 0.20, 0.02, 1.0), row("slow", 0.10, 0.02, 2.0), row("slower", 0.09, 0.02, 4.0)
    (group,) = groups([fast, slow, slower])
    found = [(rung.budget, rung.row.run, rung.best.run) for rung in recommendations(group, DEVICE)]
    assert found == [(1.2, "fast", "fast"), (2.5, "slow", "slow"), (5.0, "slow", "slower")]
    last = recommendations(group, DEVICE)[-1]
    assert "The fastest of 2 that are not shown to differ: slower are slower." in last.why
    assert "1 other that fits is shown to be worse" in last.why
    assert "the 95 % intervals are apart for 2 of 3 pairs" in ranking(group)
    assert "slower (9.0\u00a0%); it is not shown to be better than slow." in ranking(group)
    assert extremes(group, DEVICE) == "Smallest time: 1.00\u00a0ms, fast. Best ACER: 9.0\u00a0%, slower."


def test_of_a_merit_more_is_better() -> None:
    (group,) = groups([row("good", 0.9, 0.01, 2.0, higher=True), row("bad", 0.5, 0.01, 1.0, higher=True)])
    assert recommendations(group, DEVICE)[-1].row.run == "good"
    assert "all apart for 2 architectures" in ranking(group) and "good (90.0" in ranking(group)


def test_different_data_are_never_compared() -> None:
    first, second = groups([row("a", 0.1, 0.01, 1.0), row("b", 0.5, 0.01, 1.0, data="e")])
    assert len(first.rows) == len(second.rows) == 1
    assert "nothing can be ranked" in ranking(first)
    other = replace(row("c", 0.1, 0.01, 1.0), task="recognition", metric="eer")
    assert len(groups([row("a", 0.1, 0.01, 1.0), other])) == 2


def test_what_has_no_time_or_no_interval_is_left_out() -> None:
    (group,) = groups([row("a", 0.1, 0.01, None), row("b", None, 0, 1.0), replace(row("c", 0.1, 0, 1.0), low=None)])
    assert recommendations(group, DEVICE) == [] and recommendations(group, "elsewhere") == []
    assert extremes(group, "elsewhere") == ""


@pytest.mark.parametrize("times", [[1e-4], [0.3, 0.31], [2.0, 900.0], [7.9, 8.1]])
def test_the_ladder_begins_where_one_fits_and_ends_where_all_do(times: list[float]) -> None:
    steps = ladder([Time(ms, ms, ms) for ms in times])
    assert steps[0] >= min(times) and steps[-1] >= max(times) and steps == sorted(set(steps))
    assert len(steps) == 1 or steps[-2] < max(times)
    assert ladder([]) == []


Made = list[tuple[float, float, float]]
numbers = st.floats(0.01, 0.9)


@given(st.lists(st.tuples(numbers, st.floats(0.001, 0.3), st.floats(0.1, 50)), min_size=1, max_size=12))
def test_a_recommended_one_fits_and_nothing_that_fits_is_shown_to_be_better(
    made: list[tuple[float, float, float]],
) -> None:
    (group,) = groups([row(str(i), *values) for i, values in enumerate(made)])
    rungs = recommendations(group, DEVICE)
    assert all((a.row, a.best) != (b.row, b.best) for a, b in itertools.pairwise(rungs))
    for rung in rungs:
        fits = [other for other in group.rows if other.times[DEVICE].high <= rung.budget]
        assert rung.row in fits
        best = min(other.value or 0 for other in fits)
        assert rung.best.value == best
        assert overlaps(rung.row, rung.best)
        faster = [other for other in fits if other.times[DEVICE].ms < rung.time.ms]
        assert not any(overlaps(other, rung.best) for other in faster)
