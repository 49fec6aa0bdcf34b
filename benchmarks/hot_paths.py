"""What a user waits for beside the search step: commands that start, pictures, costs, counters, a training's overhead.

    python -m benchmarks.hot_paths [--parts startup,counters] [--as-json]

- ``startup``: seconds of every command's ``--help`` in a new process, and which heavy modules it has imported; beside
  it what an empty interpreter takes and what the libraries take that a search cannot do without.
- ``pictures``: portraits and scenes that one process makes in a second.
- ``costs``: microseconds of what a search asks in every step or of every candidate.
- ``counters``: milliseconds of counting a network of each space, and of an ONNX file.
- ``training``: shares of the step of a fixed network's training.

Processes are timed by the clock on the wall, all else is time of the processor; medians, and the smallest of some
rounds for what is shorter than a millisecond. All on one thread.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SPACE_OPTIONS: dict[str, dict[str, Any]] = {
    "autofas": {"channels": 16, "layout": "RRNRN", "stem_multiplier": 1}  # as the quick recipe trains it
}
PROFILE = "epyc-autofas-litert-float32"
# what a search imports before its first step, each in a new process
IMPORTS = {
    "python": "",
    "torch": "import torch",
    "torch, torchvision, torchmetrics, Lightning": "import pytorch_lightning",
    "the same and NNI": "import nni.nas.nn.pytorch",
    "the same and build_space('autofas')": "import searchspaces; searchspaces.build_space('autofas')",
}


def main(
    parts: str = "all", repetitions: int = 5, people: int = 24, scenes: int = 60, steps: int = 12, as_json: bool = False
) -> None:
    """Measure what users wait for beside the search step.

    Args:
        parts: all, or some of startup, pictures, costs, counters and training, separated by commas.
        repetitions: of everything.
        people: whose portraits are made, and trained on.
        scenes: that are composed.
        steps: of the training.
        as_json: print JSON.
    """
    import json

    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError, UnknownNameError

    wanted = list(PARTS) if parts == "all" else [name.strip() for name in parts.split(",")]
    for name in wanted:
        if name not in PARTS:
            raise UnknownNameError("part", name, PARTS)
    if min(repetitions, scenes, steps) < 1:
        raise ConfigError("repetitions, scenes and steps must be at least 1.")
    sizes = {"repetitions": repetitions, "people": people, "scenes": scenes, "steps": steps}
    with quiet_libraries():
        result = {name: PARTS[name](**sizes) for name in wanted}
    print(json.dumps(result, indent=2) if as_json else table_of(result))


def startup(repetitions: int, **_: int) -> dict[str, Any]:
    """Seconds and heavy modules of every command's ``--help``; seconds of the imports."""
    from .startup import ROOT, commands, start

    def seconds(arguments: Sequence[str]) -> float:
        taken = []
        for _ in range(repetitions):
            before = time.perf_counter()
            subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)
            taken.append(time.perf_counter() - before)
        return statistics.median(taken)

    wanted = [(module, (*arguments, "--help")) for module, arguments in commands()]
    helps = {
        " ".join([told["module"], *told["arguments"]]): {
            "seconds": seconds(["-m", told["module"], *told["arguments"]]),
            "heavy": told["heavy"],
        }
        for told in start(wanted)
    }
    imports = {name: seconds(["-W", "ignore", "-c", code]) for name, code in IMPORTS.items()}
    return {"commands": helps, "imports_seconds": imports}


def pictures(people: int, scenes: int, repetitions: int, **_: int) -> dict[str, float]:
    """Pictures a second of one process; portraits by the process that makes them, its start included."""
    import numpy as np

    from evaluators.datasets import portrait_pool, portrait_worker, scene_worker
    from evaluators.datasets import portraits as of_portraits
    from evaluators.datasets import scenes as of_scenes

    files, boxes, size = of_portraits.find_portraits(), of_portraits.face_boxes(), of_portraits.IMAGE_SIZE
    kinds, chosen = len(portrait_worker.KINDS), of_portraits.choose_people(sorted(files), people, 0)
    jobs = [(kinds * number, key, str(files[key]), boxes[key]) for number, key in enumerate(chosen)]
    cut = [scene_worker.read_person(str(files[key]), boxes[key]) for key in chosen[:6]]
    persons = [person for person in cut if person]
    photographs = [scene_worker.read_photograph(Path(file)) for file in of_scenes.find_photographs()["train"]]

    def compose() -> None:
        for row in range(scenes):
            scene_worker.compose(persons, photographs, of_scenes.IMAGE_SIZE, np.random.default_rng(row))

    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        array = Path(folder) / "portraits.npy"
        np.save(array, np.zeros((kinds * len(chosen), 3, size, size), np.uint8))
        for _ in range(repetitions):
            before = time.perf_counter()
            portrait_pool.generate(array, jobs, 0, size, progress=False, processes=1)
            seconds.append(time.perf_counter() - before)
    return {
        "portraits_per_second": kinds * len(chosen) / statistics.median(seconds),
        "scenes_per_second": scenes / median_seconds(compose, repetitions),
    }


def costs(repetitions: int, **_: int) -> dict[str, float]:
    """Microseconds of one answer."""
    from hardware.devices import load_profile
    from hardware.kernel_table import KernelTable

    profile = load_profile(PROFILE)
    assert isinstance(profile, KernelTable)
    kernels = profile.kernels_of(*network_of("autofas"))
    of_kernels = microseconds(lambda: profile.predict([kernels]), repetitions)
    return {
        **costs_of_space("autofas", repetitions),
        **costs_of_space("pta", repetitions),
        "latency_of_kernels": of_kernels,
    }


def costs_of_space(space: str, repetitions: int) -> dict[str, float]:
    """What a differentiable search asks in every step, and what is asked of every candidate."""
    import numpy as np
    import torch

    from searchspaces.sampling import random_choices
    from strategies import DARTS
    from strategies.cost import Budget
    from strategies.stand_in import StandIn

    declared, table = cost_table(space)
    found = [module for module in DARTS().mutate_model(declared).modules() if isinstance(module, StandIn)]
    # cells of a type share their parameters, and the table is asked for each type once
    modules = list(
        {getattr(module, "name", None) or getattr(module, "label", None): module for module in found}.values()
    )
    alphas = [parameter for module in modules for parameter in module.arch_parameters()]
    budget, drawn = Budget(table, {"macs": 1.0}), random_choices(declared, np.random.RandomState(0))

    def step() -> None:
        torch.autograd.grad(budget.penalty(modules), alphas)

    return {
        f"{space}_expected": microseconds(lambda: table.expected(modules), repetitions),
        f"{space}_penalty_and_gradient": microseconds(step, repetitions),
        f"{space}_candidate": microseconds(lambda: budget.keeps(drawn), repetitions),
    }


def cost_table(space: str) -> tuple[Any, Any]:
    """A space and the costs of its networks."""
    from facenas.budgets import build_table
    from facenas.options import SearchOptions
    from searchspaces import build_space

    options = SearchOptions(space=space, space_options=SPACE_OPTIONS.get(space, {}))
    return build_space(space, **options.space_options), build_table(options, ("macs", "parameters"))


def counters(repetitions: int, **_: int) -> dict[str, Any]:
    """Milliseconds of counting a network that is there, and of the file of one."""
    from hardware.counters import count
    from hardware.onnx_graph import profile_onnx
    from hardware.runtimes import get_runtime
    from searchspaces import list_spaces

    def counted(space: str) -> dict[str, float]:
        network, size = network_of(space)
        return {"macs": count(network, size), "ms": 1e3 * median_seconds(lambda: count(network, size), repetitions)}

    networks = {space: counted(space) for space in list_spaces()}
    with tempfile.TemporaryDirectory() as folder:
        network, size = network_of("autofas")
        path = get_runtime("onnxruntime").export(network, size, Path(folder) / "network.onnx")
        file = 1e3 * median_seconds(lambda: profile_onnx(path), repetitions)
    return {"networks": networks, "onnx_file_ms": file}


def training(people: int, steps: int, **_: int) -> dict[str, float]:
    """Shares of a training step by `evaluators.train.fit`; the rest is the loader, the loss, and Lightning's loop."""
    import torch

    from evaluators.antispoofing import AntiSpoofing
    from evaluators.datasets import build_dataset
    from evaluators.task import WeightSchedule
    from evaluators.train import fit
    from searchspaces.console import quiet_libraries

    network, size = network_of("autofas")
    data = build_dataset("portraits", people=people, progress=False)
    split = data.splits["train"]
    batch = min(16, len(split))
    in_epoch = len(split) // batch
    schedule = WeightSchedule(1 + -(-steps // in_epoch), batch, 0.05)  # the first epoch warms up
    watch = step_clock(network, warmup=in_epoch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with quiet_libraries():  # once more: Lightning, imported by now, has begun to talk
            fit(network, AntiSpoofing(data, size[-1]), schedule, split, 0, callbacks=[watch], accelerator="cpu")
    finally:
        torch.set_num_threads(threads)
    whole = sum(watch.seconds.values())
    shares = {f"{name}_share": seconds / whole for name, seconds in watch.seconds.items()}
    return {"step_ms": 1e3 * whole / watch.steps, **shares}


def step_clock(network: Any, warmup: int) -> Any:
    """A callback of Lightning whose ``seconds`` are spent by the network forward, backward, by its optimizer, and by
    the rest, in ``steps`` steps after the first ones."""
    from pytorch_lightning import Callback

    class Clock(Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.seconds = {"forward": 0.0, "backward": 0.0, "optimizer": 0.0, "rest": 0.0}
            self.steps, self.begun, self.last = 0, 0, time.process_time()
            network.register_forward_pre_hook(lambda *_: self.passed("rest"))
            network.register_forward_hook(lambda *_: self.passed("forward"))

        def passed(self, what: str) -> None:
            """The time since the last call was spent on this."""
            now = time.process_time()
            if self.begun > warmup:
                self.seconds[what] += now - self.last
            self.last = now

        def on_train_batch_start(self, *_: Any) -> None:
            self.passed("rest")
            self.begun += 1
            self.steps += self.begun > warmup

        def on_before_backward(self, *_: Any) -> None:
            self.passed("rest")

        def on_after_backward(self, *_: Any) -> None:
            self.passed("backward")

        def on_before_optimizer_step(self, *_: Any) -> None:
            self.passed("rest")

        def on_train_batch_end(self, *_: Any) -> None:
            self.passed("optimizer")

    return Clock()


def network_of(space: str) -> tuple[Any, tuple[int, ...]]:
    """A random network of a space and its input size."""
    from numpy.random import RandomState

    from searchspaces import Architecture, build_space
    from searchspaces.sampling import random_choices

    options = SPACE_OPTIONS.get(space, {})
    drawn = random_choices(build_space(space, **options), RandomState(0))
    architecture = Architecture(space, options, drawn)
    return architecture.build(seed=0), architecture.input_size


def median_seconds(work: Callable[[], object], repetitions: int) -> float:
    """Median time of the processor, after a run that is not timed."""
    work()
    taken = []
    for _ in range(repetitions):
        before = time.process_time()
        work()
        taken.append(time.process_time() - before)
    return statistics.median(taken)


def microseconds(work: Callable[[], object], rounds: int, calls: int = 100) -> float:
    """The quickest round's mean of so many calls: other work on the machine only adds to it."""

    def several() -> None:
        for _ in range(calls):
            work()

    several()
    taken = []
    for _ in range(rounds):
        before = time.process_time()
        several()
        taken.append(time.process_time() - before)
    return min(taken) / calls * 1e6


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "startup": startup,
    "pictures": pictures,
    "costs": costs,
    "counters": counters,
    "training": training,
}


def table_of(result: dict[str, dict[str, Any]]) -> str:
    """The figures as text.

    >>> print(table_of({"costs": {"autofas_expected": 104.2}, "training": {"step_ms": 98.0, "rest_share": 0.031}}))
    costs, microseconds
      autofas_expected                                     104.2
    training
      step_ms                                               98.0
      rest_share                                           3.1 %
    """
    lines: list[str] = []
    for part, figures in result.items():
        lines.append("costs, microseconds" if part == "costs" else part)
        for name, value in figures.items():
            lines += _rows(name, value)
    return "\n".join(lines)


def _rows(name: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"  {name}", *("  " + line for key, one in value.items() for line in _entry(key, one))]
    shown = f"{100 * value:.1f} %" if name.endswith("_share") else f"{value:.1f}"
    return [f"  {name:<48}{shown:>10}"]


def _entry(name: str, value: Any) -> list[str]:
    """A row of a group: seconds with the heavy modules, milliseconds with what was counted."""
    if isinstance(value, float):
        return [f"  {name:<46}{value:>10.2f} s"]
    if "heavy" in value:
        return [f"  {name:<46}{value['seconds']:>10.2f} s  {', '.join(value['heavy'])}".rstrip()]
    return [f"  {name:<46}{value['ms']:>10.1f} ms  {value['macs']:,} MACs"]


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.hot_paths"))
