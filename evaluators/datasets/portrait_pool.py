"""Runs workers that make pictures in several processes, and shows how far they are.

Plain subprocesses and no multiprocessing: spawned processes would import the user's main module again, and with it
torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from searchspaces.errors import DatasetError
from searchspaces.processes import child_environment

from .portrait_worker import Job

WORKER = "evaluators.datasets.portrait_worker"
MOST_PROCESSES = 8
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# glibc returns large blocks to the system and fetches them again, cleared page by page, for every array: a fifth of the
# time of the portraits. A worker keeps what it has; its blocks are of a few megabytes each.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}

Person = tuple[int, str, str, list[float]]  # see portrait_worker.Job


def processes_for(people: int) -> int:
    """How many processes to use: one a core, each with four people at least."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(available, MOST_PROCESSES, people // 4))


def generate(
    file: Path, people: list[Person], seed: int, image_size: int, progress: bool, processes: int | None = None
) -> None:
    """Fill the rows of an .npy file with everybody's pictures.

    Raises:
        DatasetError: if a process fails; its last words are in the message.
    """
    shares = processes or processes_for(len(people))
    jobs = [Job(str(file), seed, image_size, people[share::shares]) for share in range(shares)]
    text = f"Making the data set 'portraits' (simulated attacks, {len(people)} people, {shares} processes)"
    run_workers(WORKER, [dataclasses.asdict(job) for job in jobs], len(people), text, progress)


def run_workers(module: str, jobs: Sequence[dict[str, Any]], total: int, text: str, progress: bool) -> None:
    """Run ``python -m module`` once for each job, all at the same time.

    Args:
        jobs: each is given to its process as JSON on the standard input.
        total: how many lines the processes print, one for each thing that is finished.
        text: what is being made.
        progress: show a progress bar (one line where the output is no terminal).

    Raises:
        DatasetError: if a process fails; its last words are in the message.
    """
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker(module, job)) for job in jobs]
        _follow([worker for worker, _ in workers], total, text, progress)
        for worker, words in workers:
            if worker.poll() not in (0, None):
                words.seek(0)
                last = words.read().strip().splitlines()[-1:] or ["it was killed"]
                raise DatasetError(
                    f"{text} failed (exit code {worker.returncode}): {last[0]}. If memory or disk ran "
                    "out, free some or ask for fewer people; otherwise this is a bug."
                )


@contextlib.contextmanager
def _worker(module: str, job: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    """A running worker and the file of its error output; it is ended with the block, finished or not."""
    package_root = Path(__file__).resolve().parents[2]
    environment = child_environment(**dict.fromkeys(THREAD_LIMITS, "1"), **KEEP_MEMORY)
    with tempfile.TemporaryFile("w+") as words:
        worker = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=environment,
            cwd=package_root,
        )
        try:
            assert worker.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it died at once: its exit code tells
                worker.stdin.write(json.dumps(job).encode())
                worker.stdin.close()
            yield worker, words
        finally:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def _follow(workers: list[subprocess.Popen[bytes]], total: int, text: str, progress: bool) -> None:
    """Read the workers' lines, one a finished thing, until all have closed their output or one has failed."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (progress and console.is_terminal),
    )
    if progress and not console.is_terminal:
        print(f"facenas: {text} ...", file=sys.stderr)
    with bar, selectors.DefaultSelector() as selector:
        task = bar.add_task(text, total=total)
        for worker in workers:
            assert worker.stdout is not None
            selector.register(worker.stdout, selectors.EVENT_READ, worker)
        while selector.get_map():
            for key, _ in selector.select():
                lines = os.read(key.fd, 4096)
                bar.advance(task, lines.count(b"\n"))
                if not lines:
                    selector.unregister(key.fileobj)
                    if key.data.wait() != 0:
                        return  # no use waiting for the others
