"""Timing kernels one by one beside whole networks, all interleaved, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchspaces.errors import CostError
from searchspaces.files import write_json

from .kernel_table import SHORTEST_MS, Measured, kernel_runtime
from .runtimes.kernels import QUANTITIES, RuntimeKernel
from .runtimes.memory import child_environment, last_line
from .runtimes.timing import RUNS_PER_VISIT, Samples, time_interleaved

Matrix = NDArray[np.float64]

ROUNDS = 8
WARMUP = 2
PERCENTILE = 25  # of repeated runs: other work on the machine only adds to a time
REPLICAS_BYTES = 2**20  # copies of a kernel write so much together, so that they do not all stay in the fastest cache
FEWEST_REPLICAS, MOST_REPLICAS = 2, 16
OVERHEAD_KERNELS = 3  # the smallest ones, from which the overhead of an inference is extrapolated
OVERHEAD_REPLICAS = (1, 9)


@dataclass(frozen=True)
class Timed:
    """What was measured.

    Attributes:
        kernels: key -> kernel.
        overhead_ms: of one inference without any kernel.
        networks: timed runs of each network.
    """

    kernels: Mapping[str, Measured]
    overhead_ms: float
    networks: Sequence[Samples]

    def network_ms(self, threads: int = 1) -> Matrix:
        """What each network takes: `PERCENTILE` by the clock that suits the number of threads."""
        return np.array([np.percentile(clocked(samples, threads), PERCENTILE) * 1e3 for samples in self.networks])


def time_kernels(
    runtime: str, kernels: Sequence[RuntimeKernel], files: Sequence[Path], *, threads: int = 1, rounds: int = ROUNDS
) -> Timed:
    """Measure kernels and networks side by side in shuffled rounds. A kernel that does not run alone is left out.

    Args:
        runtime: the runtime's name.
        kernels: each key once.
        files: the networks' files.
        threads: threads that one inference may use.
        rounds: each of 5 timed runs of everything.

    Raises:
        CostError: if a network or most of the kernels cannot be run.
    """
    target = kernel_runtime(runtime)
    runs, kernels = _alone(target, kernels, threads)
    replicas = [copies(kernel) for kernel in kernels]
    small = sorted(kernels, key=_bytes_moved)[:OVERHEAD_KERNELS]
    runs += [target.runner(target.kernel_alone(kernel, n), threads) for kernel in small for n in OVERHEAD_REPLICAS]
    runs += [target.runner(path.read_bytes(), threads, whole=True) for path in files]
    samples = time_interleaved(runs, warmup=WARMUP, repetitions=rounds * RUNS_PER_VISIT)
    networks = len(runs) - len(files)
    alone = np.array([np.percentile(clocked(one, threads), PERCENTILE) * 1e3 for one in samples[:networks]])
    overhead = _overhead(alone[len(kernels) :]) if small else 0.0
    measured = {
        kernel.key: Measured(kernel.kind, kernel.quantities, max((ms - overhead) / n, SHORTEST_MS))
        for kernel, n, ms in zip(kernels, replicas, alone, strict=False)
    }
    return Timed(measured, overhead, samples[networks:])


def time_networks(runtime: str, files: Sequence[Path], *, threads: int = 1, rounds: int = ROUNDS) -> Timed:
    """The same for networks alone, in a process of its own: what a later measurement would find.

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
        return Timed({}, 0.0, [Samples(**entry) for entry in json.loads(results.read_text())])


def _alone(
    target: Any, kernels: Sequence[RuntimeKernel], threads: int
) -> tuple[list[Callable[[], object]], list[RuntimeKernel]]:
    """What runs each kernel, and the kernels that run: some of int8 can only be prepared inside of their network."""
    runs, kept, refused = [], [], ""
    for kernel in kernels:
        try:
            runs.append(target.runner(target.kernel_alone(kernel, copies(kernel)), threads))
            kept.append(kernel)
        except CostError as error:
            refused = str(error)
    if len(kept) < len(kernels) / 2:
        raise CostError(f"{len(kernels) - len(kept)} of {len(kernels)} kernels do not run alone. The last: {refused}")
    return runs, kept


def copies(kernel: RuntimeKernel) -> int:
    """How many copies of a kernel are timed together."""
    written = kernel.quantities[QUANTITIES.index("written_bytes")]
    return int(np.clip(REPLICAS_BYTES // max(written, 1), FEWEST_REPLICAS, MOST_REPLICAS))


def clocked(samples: Samples, threads: int) -> list[float]:
    """Seconds on the CPU clock with one thread, else on the wall clock."""
    return samples.cpu if threads == 1 else samples.wall


def _overhead(ms: Matrix) -> float:
    """What is left of kernels at no copies, from two numbers of copies each: the median, not below 0."""
    few, many = OVERHEAD_REPLICAS
    pairs = ms.reshape(-1, 2)
    return max(float(np.median(pairs[:, 0] - (pairs[:, 1] - pairs[:, 0]) * few / (many - few))), 0.0)


def _bytes_moved(kernel: RuntimeKernel) -> float:
    read, written = (kernel.quantities[QUANTITIES.index(name)] for name in ("read_bytes", "written_bytes"))
    return read + written


def _main(file: str) -> int:
    job = json.loads(Path(file).read_text())
    files = [Path(name) for name in job["files"]]
    timed = time_kernels(job["runtime"], [], files, threads=job["threads"], rounds=job["rounds"])
    write_json(job["results"], [asdict(samples) for samples in timed.networks])
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
