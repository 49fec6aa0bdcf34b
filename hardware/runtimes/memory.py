"""Peak memory of a network in a runtime, measured in a process of its own (``python -m hardware.runtimes.memory``)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from searchspaces.errors import CostError
from searchspaces.processes import child_environment

from . import PathLike

RUNS = 5  # inferences before the peak is read
SECONDS = 300
STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")  # writing 5 makes the peak start again from what is held now
KIB_PAIR = 2  # figures that the child prints: held before loading, peak


def peak_memory(runtime: str, path: PathLike, threads: int = 1) -> int | None:
    """Bytes that a process needs at most to load a file and run it, beyond those it held with the library imported.

    Weights, their packed copies, activations and the runtime's own working memory are in it.

    Returns:
        None where the system does not tell (it needs Linux' /proc).

    Raises:
        CostError: if the process fails.
    """
    if not STATUS.is_file():
        return None
    command = [sys.executable, "-m", "hardware.runtimes.memory", runtime, str(Path(path).resolve()), str(threads)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=child_environment()
        )
    except subprocess.TimeoutExpired as error:
        raise CostError(f"{path} did not run {RUNS} times within {SECONDS} s.") from error
    numbers = done.stdout.split()[-KIB_PAIR:]
    if done.returncode != 0 or len(numbers) < KIB_PAIR or not all(number.isdecimal() for number in numbers):
        raise CostError(f"The process that measures the memory of {path} failed: {last_line(done.stderr)}")
    before, peak = (int(number) for number in numbers)
    return max(0, peak - before) * 1024


def last_line(text: str) -> str:
    """The last line that says something, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing."


def status_kib(text: str, key: str) -> int:
    """A figure of /proc/self/status, in KiB.

    >>> status_kib("VmHWM:     1200 kB\\nVmRSS:      900 kB", "VmRSS")
    900
    """
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{key}:")))


def measure_here(runtime: str, path: str, threads: int) -> tuple[int, int]:
    """KiB resident before the file is loaded and at the peak of running it, in this process."""
    from . import get_runtime
    from .base import random_input

    chosen = get_runtime(runtime)
    chosen.version()  # type: ignore[attr-defined]  # imports the library
    before = status_kib(STATUS.read_text(), "VmRSS")
    RESET.write_text("5")
    loaded = chosen.load(path, threads)  # type: ignore[attr-defined]
    loaded.feed(random_input(loaded))
    for _ in range(RUNS):
        loaded.invoke()
    return before, status_kib(STATUS.read_text(), "VmHWM")


if __name__ == "__main__":
    print(*measure_here(sys.argv[1], sys.argv[2], int(sys.argv[3])))
