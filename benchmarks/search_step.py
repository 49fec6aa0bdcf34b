"""A search step of facenas beside NNI's own and beside the straightforward form of the same method.

    python -m benchmarks.search_step --json

Each search runs in a process of its own, as a user would run it (Lightning, the strategy, its optimizers), on the
same random pictures and with the same initial weights. Before any step its outputs and architecture gradients are
compared with the others'. Then the searches of a method take turns, a step each, so that a slow phase of the machine
hits all of them; only one works at a time. A step is one update of the architecture and one of the weights.

- ``nni_darts``, ``nni_gumbel``: NNI 3.0's DARTS and GumbelDARTS on the same cells, declared with NNI's ``Cell``;
- ``plain_...``: our supernet layer by layer in torch's default memory layout. First order and PC-DARTS with NNI's
  search step around it; the second order has our unrolled step, since NNI has none;
- all others: what ``python -m strategies...`` runs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from searchspaces.errors import ConfigError

# those that take turns; others' memory is free by then
GROUPS = (
    ("nni_darts", "plain_darts", "darts"),
    ("plain_darts_second", "darts_second"),
    ("plain_pc_darts", "pc_darts"),
    ("nni_gumbel", "single_path"),
)
SEARCHES = tuple(name for group in GROUPS for name in group)
NNIS = ("nni_darts", "nni_gumbel")
# name: quantity, of the first over the second
RATIOS = {
    "darts_speedup_over_nni": ("cpu", "nni_darts", "darts"),
    "darts_memory_over_nni": ("peak_mib", "darts", "nni_darts"),
    "darts_speedup_over_plain": ("cpu", "plain_darts", "darts"),
    "darts_second_speedup_over_plain": ("cpu", "plain_darts_second", "darts_second"),
    "darts_second_memory_over_plain": ("peak_mib", "darts_second", "plain_darts_second"),
    "pc_darts_speedup_over_plain": ("cpu", "plain_pc_darts", "pc_darts"),
    "pc_darts_memory_over_plain": ("peak_mib", "pc_darts", "plain_pc_darts"),
    "single_path_speedup_over_nni_gumbel": ("cpu", "nni_gumbel", "single_path"),
    "single_path_memory_over_nni_gumbel": ("peak_mib", "single_path", "nni_gumbel"),
}
# searches that compute the same function of the same weights
EQUAL = [("nni_darts", "plain_darts", "darts"), ("plain_pc_darts", "pc_darts")]
TOLERANCE = 1e-9  # of results in double precision


@dataclass
class Worker:
    """A search that waits for its next step."""

    process: subprocess.Popen[str]
    steps: list[dict[str, float]] = field(default_factory=list)
    peak_mib: float = 0.0

    def ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return read_answer(self.process)


def read_answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The next line of JSON; what libraries print besides is passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    code = process.wait()
    reason = "it was killed, probably for want of memory" if code == -9 else "its errors are above"
    raise ConfigError(f"A search ended with code {code}: {reason}.")


def worker_options(search: str, layers: int, width: int, input_size: int, **options: Any) -> dict[str, Any]:
    """What `search_step_worker` needs to know."""
    space_options: dict[str, Any] = {}
    if options["space"] == "autofas":
        space_options = {"channels": width, "layout": layout(layers), "image_size": input_size}
    return {"search": search, "space_options": space_options, "input": input_size, **options}


def layout(layers: int) -> str:
    """Cells of DARTS: reductions after a third and after two thirds.

    >>> layout(8)
    'NNRNNRNN'
    """
    return "".join("R" if index in (layers // 3, 2 * layers // 3) else "N" for index in range(layers))


def start(options: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.search_step_worker", json.dumps(options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def distance(left: list[float], right: list[float]) -> float:
    """Norm of the difference over the norm."""
    import numpy as np

    a, b = np.array(left), np.array(right)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def differences(searches: list[str], options: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Distances of outputs and architecture gradients of searches that should be equal, by their names.

    Raises:
        ConfigError: if they are not equal.
    """
    found: dict[str, dict[str, float]] = {}

    def results(name: str) -> dict[str, Any]:
        process = start({**options(name), "compare": True})
        try:
            return read_answer(process)
        finally:
            process.kill()

    for group in EQUAL:
        present = [name for name in group if name in searches]
        if len(present) > 1:
            first, *others = map(results, present)
            for name, other in zip(present[1:], others, strict=True):
                found[f"{name} and {present[0]}"] = {key: distance(other[key], first[key]) for key in other}
    if "single_path" in searches:
        own = results("single_path")
        found["single_path and its plain layers"] = {key: distance(own[key], own["plain"][key]) for key in own["plain"]}
    for names, distances in found.items():
        if max(distances.values()) > TOLERANCE:
            raise ConfigError(f"{names} differ by {distances}: their speed is not comparable.")
    return found


def measure(workers: dict[str, Worker], steps: int, warmup: int) -> None:
    """Take turns; the first steps are forgotten."""
    from searchspaces.console import track

    turns = [(number, worker) for number in range(warmup + steps) for worker in workers.values()]
    for number, worker in track(turns, "search steps"):
        taken = worker.ask("step")
        if number >= warmup:
            worker.steps.append(taken)
    for worker in workers.values():
        worker.peak_mib = worker.ask("end")["peak_mib"]
        worker.process.wait()


def summary(workers: dict[str, Worker]) -> dict[str, dict[str, float]]:
    """Of every search the medians over its steps, and the peak memory above the idle process."""
    return {
        name: {
            "cpu": statistics.median(step["cpu"] for step in worker.steps),
            "wall": statistics.median(step["wall"] for step in worker.steps),
            "cpu_fastest": min(step["cpu"] for step in worker.steps),
            "peak_mib": worker.peak_mib,
        }
        for name, worker in workers.items()
    }


def ratios(searches: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratios of searches that have run."""
    return {
        name: searches[over][key] / searches[under][key]
        for name, (key, over, under) in RATIOS.items()
        if over in searches and under in searches
    }


def main(
    searches: list[str] | None = None,
    space: str = "autofas",
    width: int = 16,
    layers: int = 8,
    input_size: int = 64,
    batch: int = 8,
    steps: int = 5,
    warmup: int = 2,
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true",
    device: Literal["cpu", "gpu"] = "cpu",
    threads: int = 1,
    core: int | None = 0,
    hessian: Literal["exact", "difference"] = "exact",
    sampled: Literal["edges", "operations", "both"] = "operations",
    json: bool = False,
) -> None:
    """Measure search steps side by side.

    Args:
        searches: which of them; all by default.
        space: the search space; NNI's own searches run on autofas alone.
        width: channels of a cell.
        layers: cells, of which two are reductions.
        input_size: side of the pictures.
        batch: pictures of each of a step's two halves.
        steps: steps of each search that count.
        warmup: steps before them.
        precision: as Lightning calls it.
        device: what computes.
        threads: CPU threads.
        core: the CPU core that all searches are pinned to, where there is one thread; -1 for none.
        hessian: of the second order.
        sampled: what the single path samples; NNI's GumbelDARTS chooses operations.
        json: print an object instead of a table.
    """
    names = searches or [name for name in SEARCHES if space == "autofas" or name not in NNIS]
    check(names, space, layers, min(steps, batch, width, warmup + 1))
    options = {
        "space": space,
        "batch": batch,
        "precision": precision,
        "device": device,
        "threads": threads,
        "core": core if threads == 1 and core is not None and core >= 0 else None,
        "hessian": hessian,
        "sampled": sampled,
    }

    def options_of(name: str) -> dict[str, Any]:
        return worker_options(name, layers, width, input_size, compare=False, **options)

    found = differences(names, options_of) if space == "autofas" else {}
    measured: dict[str, dict[str, float]] = {}
    for group in GROUPS:
        workers: dict[str, Worker] = {}
        try:
            for name in (name for name in group if name in names):
                workers[name] = Worker(start(options_of(name)))
                read_answer(workers[name].process)  # it is ready
            measure(workers, steps, warmup)
        finally:
            for worker in workers.values():
                worker.process.kill()
        measured |= summary(workers)
    result = {
        "ratios": ratios(measured),
        "searches": measured,
        "differences": found,
        "options": options_of(""),
        "steps": steps,
    }
    show(result, json)


def check(names: list[str], space: str, layers: int, smallest: int) -> None:
    """Refuse what cannot be measured."""
    from searchspaces.errors import nearest_name

    for name in names:
        if name not in SEARCHES:
            near = nearest_name(name, SEARCHES)
            raise ConfigError(f"No search {name!r}: choose from {', '.join(SEARCHES)}." + f" {near}?" * bool(near))
    if space != "autofas" and set(names) & set(NNIS):
        raise ConfigError("NNI's own searches run on autofas alone: its cells are declared with NNI's layers for that.")
    if layers < 3 or smallest < 1:
        raise ConfigError("layers must be at least 3; steps, batch and width at least 1; warmup at least 0.")


def show(result: dict[str, Any], as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        print(json.dumps(result, indent=2))
        return
    table = Table("search", "CPU s a step", "fastest", "wall s", "peak above idle")
    for name, row in result["searches"].items():
        cells = [f"{row[key]:.3f}" for key in ("cpu", "cpu_fastest", "wall")]
        table.add_row(name, *cells, f"{row['peak_mib']:.0f} MiB")
    console = Console()
    console.print(table)
    for names, distances in result["differences"].items():
        console.print(f"{names}: " + ", ".join(f"{key} differ by {value:.1e}" for key, value in distances.items()))
    for name, ratio in result["ratios"].items():
        console.print(f"{name}: {ratio:.2f}")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.search_step"))
