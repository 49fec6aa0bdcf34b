"""Timing on a shared machine, the same for every runtime.

A wall-clock median is unusable where other programs take the processor for milliseconds at a time. With one thread
the CPU clock of this process counts only our own work; its p25 and median repeat within a few percent. With several
threads it would add them up (and count their waiting loops), so the wall clock is the only honest one there.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from searchspaces.errors import CostError

from . import REPETITIONS, WARMUP

RUNS_PER_VISIT = 5  # timed runs before another network takes its turn
NOISY_SPREAD = 0.2  # interquartile range over median


@dataclass(frozen=True)
class Latency:
    """How long one inference of batch size 1 takes, with the protocol of its measuring.

    Attributes:
        runtime: the runtime's name, and its ``version``.
        threads: threads that the runtime may use.
        dtype: number type of the network's input.
        clock: ``"cpu"`` (this process' CPU time) with one thread, else ``"wall"``; all figures but the last are of it.
        warmup: runs before the timed ones.
        repetitions: timed runs.
        median_ms: milliseconds; likewise the 10th, 25th, 75th and 90th percentiles.
        wall_median_ms: the wall clock's median of the same runs.
        noisy: whether the interquartile range is more than a fifth of the median.
    """

    runtime: str
    version: str
    threads: int
    dtype: str
    clock: str
    warmup: int
    repetitions: int
    median_ms: float
    p10_ms: float
    p25_ms: float
    p75_ms: float
    p90_ms: float
    wall_median_ms: float
    noisy: bool

    @property
    def iqr_ms(self) -> float:
        """The interquartile range, the spread that belongs beside the median."""
        return self.p75_ms - self.p25_ms

    def to_dict(self) -> dict[str, Any]:
        """The content of one entry of ``latency`` in cost.json."""
        return asdict(self)


@dataclass(frozen=True)
class Samples:
    """Seconds of each timed run of one network, on both clocks."""

    cpu: list[float]
    wall: list[float]


def summarise(
    samples: Samples, *, runtime: str, version: str, threads: int, dtype: str = "float32", warmup: int = WARMUP
) -> Latency:
    """Percentiles of the clock that suits the number of threads (see `Latency`)."""
    clock = "cpu" if threads == 1 else "wall"
    seconds = samples.cpu if clock == "cpu" else samples.wall
    p10, p25, p50, p75, p90 = (float(value) * 1e3 for value in np.percentile(seconds, [10, 25, 50, 75, 90]))
    return Latency(
        runtime=runtime,
        version=version,
        threads=threads,
        dtype=dtype,
        clock=clock,
        warmup=warmup,
        repetitions=len(seconds),
        median_ms=p50,
        p10_ms=p10,
        p25_ms=p25,
        p75_ms=p75,
        p90_ms=p90,
        wall_median_ms=float(np.median(samples.wall)) * 1e3,
        noisy=p75 - p25 > NOISY_SPREAD * p50,
    )


def time_interleaved(
    runs: Sequence[Callable[[], Any]], *, warmup: int = WARMUP, repetitions: int = REPETITIONS, seed: int = 0
) -> list[Samples]:
    """Time several callables in shuffled rounds, so that a slow phase of the machine hits them all.

    Args:
        runs: one inference each.
        warmup: untimed runs of each before the first round.
        repetitions: timed runs of each.
        seed: of the order within the rounds.

    Raises:
        CostError: if there are no timed runs.
    """
    if repetitions < 1 or warmup < 0:
        raise CostError(f"Cannot time {repetitions} repetitions after {warmup} warm-up runs: at least 1 after 0.")
    results = [Samples([], []) for _ in runs]
    for run in runs:
        for _ in range(warmup):
            run()
    order, shuffler = list(range(len(runs))), random.Random(seed)
    for done in range(0, repetitions, RUNS_PER_VISIT):
        shuffler.shuffle(order)
        for index in order:
            if len(runs) > 1:
                runs[index]()  # the caches hold the weights of the network before
            for _ in range(min(RUNS_PER_VISIT, repetitions - done)):
                cpu, wall = time.process_time_ns(), time.perf_counter_ns()
                runs[index]()
                results[index].cpu.append((time.process_time_ns() - cpu) * 1e-9)
                results[index].wall.append((time.perf_counter_ns() - wall) * 1e-9)
    return results
