"""The timing protocol, with clocks that the tests control."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hardware.runtimes import timing
from hardware.runtimes.timing import Samples, summarise, time_interleaved
from searchspaces.errors import CostError


class Clocks:
    """Two clocks in nanoseconds that only advance when a fake inference runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu = self.wall = 0
        monkeypatch.setattr(timing.time, "process_time_ns", lambda: self.cpu)
        monkeypatch.setattr(timing.time, "perf_counter_ns", lambda: self.wall)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_interleaving_times_every_run_on_both_clocks(clocks: Clocks) -> None:
    visits: list[int] = []

    def inference(index: int) -> Any:
        def run() -> None:
            visits.append(index)
            clocks.cpu += (index + 1) * 1_000_000
            clocks.wall += (index + 1) * 3_000_000

        return run

    results = time_interleaved([inference(0), inference(1)], warmup=3, repetitions=12)
    assert results[0].cpu == pytest.approx([1e-3] * 12)
    assert results[1].wall == pytest.approx([6e-3] * 12)
    assert visits[:6] == [0, 0, 0, 1, 1, 1]  # the warm-up
    rounds = visits[6:]
    # three rounds of at most five timed runs, each visit with one more run before them
    assert sorted(rounds[:12]) == sorted(rounds[12:24]) == [0] * 6 + [1] * 6
    assert len(rounds) == 2 * (6 + 6 + 3)


def test_order_is_shuffled_and_repeats_with_the_seed(clocks: Clocks) -> None:
    def order(seed: int) -> list[int]:
        visits: list[int] = []
        runs = [lambda index=index: visits.append(index) for index in range(4)]
        time_interleaved(runs, warmup=0, repetitions=50, seed=seed)
        return visits

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize(("warmup", "repetitions"), [(0, 0), (-1, 5)])
def test_no_runs_are_refused(warmup: int, repetitions: int) -> None:
    with pytest.raises(CostError, match="at least 1"):
        time_interleaved([lambda: None], warmup=warmup, repetitions=repetitions)


def test_one_thread_reports_the_cpu_clock_and_several_the_wall_clock() -> None:
    samples = Samples(cpu=[0.002] * 11, wall=[0.003] * 11)
    one = summarise(samples, runtime="r", version="1", threads=1)
    two = summarise(samples, runtime="r", version="1", threads=2)
    assert (one.clock, one.median_ms, one.wall_median_ms) == ("cpu", pytest.approx(2), pytest.approx(3))
    assert (two.clock, two.median_ms, two.wall_median_ms) == ("wall", pytest.approx(3), pytest.approx(3))


def test_percentiles_and_spread() -> None:
    seconds = [n / 1000 for n in range(101)]
    latency = summarise(Samples(seconds, seconds), runtime="r", version="1", threads=1, warmup=4)
    figures = [latency.p10_ms, latency.p25_ms, latency.median_ms, latency.p75_ms, latency.p90_ms]
    assert figures == pytest.approx([10, 25, 50, 75, 90])
    assert latency.iqr_ms == pytest.approx(50)
    assert (latency.repetitions, latency.warmup) == (101, 4)


@pytest.mark.parametrize(("spread", "noisy"), [(0.0, False), (0.15, False), (0.25, True)])
def test_wide_spread_is_called_noisy(spread: float, noisy: bool) -> None:
    seconds = [1 - spread / 2] * 30 + [1.0] * 10 + [1 + spread / 2] * 30
    assert summarise(Samples(seconds, seconds), runtime="r", version="1", threads=1).noisy is noisy


def test_latency_is_json() -> None:
    latency = summarise(Samples([0.001], [0.002]), runtime="r", version="1", threads=1)
    assert set(json.loads(json.dumps(latency.to_dict()))) == {
        *("runtime", "version", "threads", "dtype", "clock", "warmup", "repetitions", "noisy"),
        *("median_ms", "p10_ms", "p25_ms", "p75_ms", "p90_ms", "wall_median_ms"),
    }
