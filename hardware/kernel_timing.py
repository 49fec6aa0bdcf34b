"""Timing kernels one by one, and whole networks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import CostError
from searchspaces.files import write_json
from searchspaces.processes import child_environment

from .kernel_table import SHORTEST_MS, Measured, kernel_runtime
from .runtimes import ROUNDS
from .runtimes.kernels import QUANTITIES, RuntimeKernel
from .runtimes.memory import last_line
from .runtimes.timing import RUNS_PER_VISIT, Samples, time_interleaved

Matrix = NDArray[np.float64]

WARMUP = 2
PERCENTILE = 25  # of repeated runs: other work on the machine only adds to a time
REPLICAS_BYTES = 2**20  # copies of a kernel write so much together, so that they do not all stay in the fastest cache
FEWEST_REPLICAS, MOST_REPLICAS = 2, 16
OVERHEAD_KERNELS = 3  # the smallest ones, from which the overhead of an inference is extrapolated
OVERHEAD_REPLICAS = (1, 9)


class Timer(Protocol):
    """What times files: this machine, or a phone (`hardware.phone_timing`)."""

    def kernel_files(self, contents: Sequence[bytes]) -> list[float | None]:
        """Milliseconds of each file of copies of one kernel; None of one that the runtime cannot prepare."""

    def networks(self, files: Sequence[Path]) -> Matrix:
        """(n,) milliseconds of whole networks, measured as they will be measured later."""

    def provenance(self) -> dict[str, Any]:
        """The device, the runtime's version and the protocol."""


@dataclass(frozen=True)
class ThisMachine:
    """Times files here.

    Attributes:
        runtime: the runtime's name.
        threads: threads that one inference may use.
        rounds: each of 5 timed runs of everything.
    """

    runtime: str
    threads: int = 1
    rounds: int = ROUNDS

    def kernel_files(self, contents: Sequence[bytes]) -> list[float | None]:
        """See `Timer`; all are interleaved in shuffled rounds."""
        target, runs = kernel_runtime(self.runtime), {}
        refused: CostError | None = None
        for number, content in enumerate(contents):
            try:
                runs[number] = target.runner(content, self.threads)
            except CostError as error:  # some kernels of int8 can only be prepared inside of their network
                refused = error
        if contents and not runs:
            raise CostError(f"No kernel runs alone in {self.runtime}. The last: {refused}")
        samples = time_interleaved(list(runs.values()), warmup=WARMUP, repetitions=self.rounds * RUNS_PER_VISIT)
        found = dict(zip(runs, summary(samples, self.threads).tolist(), strict=True))
        return [found.get(number) for number in range(len(contents))]

    def networks(self, files: Sequence[Path]) -> Matrix:
        """See `Timer`; in a process of their own: beside hundreds of kernels they would take longer."""
        return summary(time_networks(self.runtime, files, threads=self.threads, rounds=self.rounds), self.threads)

    def provenance(self) -> dict[str, Any]:
        """See `Timer`."""
        from .device import this_device

        clock = "cpu" if self.threads == 1 else "wall"
        return {
            "device": this_device(),
            "version": str(kernel_runtime(self.runtime).version()),
            "protocol": {"statistic": f"p{PERCENTILE}", "clock": clock, "rounds": self.rounds},
        }


def time_kernels(timer: Timer, runtime: str, kernels: Sequence[RuntimeKernel]) -> tuple[dict[str, Measured], float]:
    """Measure kernels alone; one that does not run alone is left out.

    Args:
        timer: what measures.
        runtime: the runtime's name.
        kernels: each key once.

    Returns:
        Key -> kernel, and the milliseconds of one inference without any kernel.

    Raises:
        CostError: if most of the kernels cannot be run.
    """
    target = kernel_runtime(runtime)
    small = sorted(kernels, key=_bytes_moved)[:OVERHEAD_KERNELS]
    wanted = [(kernel, copies(kernel)) for kernel in kernels]
    wanted += [(kernel, n) for kernel in small for n in OVERHEAD_REPLICAS]
    times = timer.kernel_files([target.kernel_alone(kernel, n) for kernel, n in wanted])
    alone, extra = times[: len(kernels)], times[len(kernels) :]
    if alone.count(None) > len(kernels) / 2:
        raise CostError(f"{alone.count(None)} of {len(kernels)} kernels of {runtime} do not run alone.")
    overhead = overhead_of([(few, many) for few, many in batched_pairs(extra) if few is not None and many is not None])
    measured = {
        kernel.key: Measured(kernel.kind, kernel.quantities, max((ms - overhead) / n, SHORTEST_MS))
        for (kernel, n), ms in zip(wanted, alone, strict=False)
        if ms is not None
    }
    return measured, overhead


def time_networks(runtime: str, files: Sequence[Path], *, threads: int = 1, rounds: int = ROUNDS) -> list[Samples]:
    """Timed runs of whole networks, interleaved, in a process of its own.

    Raises:
        CostError: if a network cannot be run.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        job = {"runtime": runtime, "files": list(map(str, files)), "threads": threads, "rounds": rounds}
        job_file = write_json(Path(folder) / "job.json", {**job, "results": str(results)})
        command = [sys.executable, "-m", "hardware.kernel_timing", str(job_file)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=child_environment())
        if done.returncode != 0 or not results.is_file():
            raise CostError(f"Timing {len(files)} networks in {runtime} failed: {last_line(done.stderr)}")
        return [Samples(**entry) for entry in json.loads(results.read_text())]


def time_networks_here(runtime: str, files: Sequence[Path], *, threads: int = 1, rounds: int = ROUNDS) -> list[Samples]:
    """The same in this process."""
    target = kernel_runtime(runtime)
    runs = [target.runner(path.read_bytes(), threads, whole=True) for path in files]
    return time_interleaved(runs, warmup=WARMUP, repetitions=rounds * RUNS_PER_VISIT)


def summary(samples: Sequence[Samples], threads: int = 1) -> Matrix:
    """(n,) milliseconds: `PERCENTILE` of the CPU clock with one thread, else of the wall clock."""
    clocks = [one.cpu if threads == 1 else one.wall for one in samples]
    return np.array([np.percentile(clock, PERCENTILE) * 1e3 for clock in clocks])


def copies(kernel: RuntimeKernel) -> int:
    """How many copies of a kernel are timed together."""
    written = kernel.quantities[QUANTITIES.index("written_bytes")]
    return int(np.clip(REPLICAS_BYTES // max(written, 1), FEWEST_REPLICAS, MOST_REPLICAS))


def overhead_of(pairs: Sequence[tuple[float, float]]) -> float:
    """What is left of kernels at no copies, from milliseconds at `OVERHEAD_REPLICAS`: the median, not below 0.

    >>> overhead_of([(0.5 + 1 * 0.1, 0.5 + 9 * 0.1)])
    0.5
    """
    few, many = OVERHEAD_REPLICAS
    left = [first - (second - first) * few / (many - few) for first, second in pairs]
    return round(max(float(np.median(left)), 0.0), 9) if left else 0.0


def batched_pairs(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Neighbours two by two."""
    return list(zip(values[::2], values[1::2], strict=True))


def _bytes_moved(kernel: RuntimeKernel) -> float:
    read, written = (kernel.quantities[QUANTITIES.index(name)] for name in ("read_bytes", "written_bytes"))
    return read + written


def _main(file: str) -> int:
    job = json.loads(Path(file).read_text())
    files = [Path(name) for name in job["files"]]
    samples = time_networks_here(job["runtime"], files, threads=job["threads"], rounds=job["rounds"])
    write_json(job["results"], [asdict(one) for one in samples])
    return 0


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(_main, prog="python -m hardware.kernel_timing"))
