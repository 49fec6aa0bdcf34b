"""``python -m hardware.learn``: a device profile of this machine for one space, measured kernel by kernel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .runtimes import ROUNDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from searchspaces import Architecture

    from .kernel_table import KernelTable
    from .kernel_timing import Timer
    from .runtimes.kernels import RuntimeKernel

NETWORKS = 30  # random networks whose kernels are measured
CALIBRATION = 12  # of which so many are measured whole
SOURCE = "measured by facenas (hardware.learn)"
ATTEMPTS = 20  # draws for each network that is wanted
HELD_OUT = 15  # further ones, which only judge


def main(
    space: str,
    runtime: str = "litert",
    dtype: str = "float32",
    out: str = "",
    space_options: dict[str, Any] | list[dict[str, Any]] | None = None,
    threads: int = 1,
    networks: int = NETWORKS,
    calibration: int = CALIBRATION,
    held_out: int = HELD_OUT,
    rounds: int = ROUNDS,
    seed: int = 0,
    adb: str | None = None,
    benchmark_binary: str | None = None,
    cpu_mask: str = "",
) -> None:
    """Learn a device: measure the kernels of a space's networks, calibrate, judge, and write its profile.

    Args:
        space: the space whose networks are to be predicted.
        runtime: onnxruntime or litert.
        dtype: float32 or int8.
        out: the profile to write (JSON).
        space_options: options of the space, as JSON: those of the networks to be deployed, or a list of several.
        threads: threads that one inference may use.
        networks: random networks whose kernels are measured.
        calibration: how many of them are measured whole too.
        held_out: further random networks, which only tell how well the profile predicts.
        rounds: timed rounds of five runs of everything.
        seed: of the random networks.
        adb: learn the phone with this serial number (see `adb devices`) instead of this machine; litert only.
        benchmark_binary: LiteRT's benchmark program for the phone; docs/runtimes.md says where to get it.
        cpu_mask: hexadecimal mask of the phone's cores to run on, such as f0.
    """
    from searchspaces.console import track
    from searchspaces.errors import ConfigError

    from .runtimes.base import check_threads

    if not out:
        raise ConfigError("Name the profile to write: --out DEVICE.json.")
    check_numbers(networks, calibration, held_out, rounds)
    check_threads(threads)
    drawn = draw_mixed(space, space_options or {}, networks + held_out, seed)
    networks = min(networks, len(drawn) - min(held_out, len(drawn) // 3))  # of a small space a third is held out
    calibration = min(calibration, networks)
    check_numbers(networks, calibration, held_out, rounds)
    timer = phone_timer(adb, benchmark_binary, cpu_mask, runtime, threads, rounds) if adb else None
    table = learn(drawn, runtime, dtype, threads, networks, calibration, rounds, track, timer)
    table.save(out)
    for warning in getattr(timer, "warnings", ()):
        print(warning)
    print(f"{out}: {len(table.kernels)} kernels of {networks} networks, calibrated by {table.networks}")
    for name, value in table.provenance["accuracy"].items():
        print(f"  {name}: {value if isinstance(value, str) else f'{value:.3f}'}")


def learn(
    architectures: Sequence[Architecture],
    runtime: str,
    dtype: str = "float32",
    threads: int = 1,
    networks: int = NETWORKS,
    calibration: int = CALIBRATION,
    rounds: int = ROUNDS,
    track: Callable[..., Any] | None = None,
    timer: Timer | None = None,
) -> KernelTable:
    """A table of the kernels of the first ``networks`` architectures, calibrated by the first ``calibration``.

    Args:
        architectures: of one space; those after the first ``networks`` judge the table.
        runtime: its name; ``dtype``, ``threads`` and ``rounds`` as in `main`.
        networks: architectures whose kernels are measured.
        calibration: how many of them are measured whole, twice.
        track: shows the progress of a loop: ``track(items, what)``.
        timer: what measures; by default this machine.

    Raises:
        CostError: if a network cannot be exported, taken apart or run.
    """
    import tempfile
    from pathlib import Path

    from .kernel_table import KernelTable
    from .kernel_timing import ThisMachine, time_kernels

    timer = timer or ThisMachine(runtime, threads, rounds)
    with tempfile.TemporaryDirectory() as folder:
        exports = export_all(architectures, runtime, dtype, Path(folder), track)
        files, kernels = [one.path for one in exports], [one.kernels for one in exports]
        unique = {kernel.key: kernel for network in kernels[:networks] for kernel in network}
        measured, overhead = time_kernels(timer, runtime, list(unique.values()))
        first, second = timer.networks(files[:calibration]), timer.networks(files[:calibration])
        judging = timer.networks(files[networks:]) if len(files) > networks + 1 else None
    conditions: dict[str, Any] = {"space": architectures[0].space, "runtime": runtime, "dtype": dtype}
    table = KernelTable.fit(measured, overhead, kernels[:calibration], first, second, threads=threads, **conditions)
    options = {json.dumps(one.options, sort_keys=True): dict(one.options) for one in architectures}
    told = {**timer.provenance(), "source": SOURCE, "space_options": list(options.values())}
    return table.with_provenance(**told, accuracy=accuracy_of(table, kernels[networks:], judging))


def phone_timer(serial: str, binary: str | None, cpu_mask: str, runtime: str, threads: int, rounds: int) -> Timer:
    """What times on a phone.

    Raises:
        FacenasError: if the phone is not there, or an option is missing.
    """
    from pathlib import Path

    from searchspaces.console import track
    from searchspaces.errors import ConfigError

    from . import phone
    from .adb import connect
    from .phone_timing import PhoneTimer
    from .runtimes.timing import RUNS_PER_VISIT

    if runtime != PhoneTimer.runtime:
        raise ConfigError(f"A phone is learned with --runtime {PhoneTimer.runtime}, not {runtime}.")
    if binary is None:
        raise ConfigError("A phone needs LiteRT's benchmark program: --benchmark-binary FILE (docs/runtimes.md).")
    repetitions = rounds * RUNS_PER_VISIT * phone.STARTS  # of which each start makes its share
    run = phone.Run(threads=threads, repetitions=repetitions, cpu_mask=cpu_mask)
    return PhoneTimer(connect(serial), Path(binary), run, track)


def accuracy_of(table: KernelTable, networks: Sequence[Any], measured: Any) -> dict[str, Any]:
    """How well a table predicts networks, given as their kernels, that took ``measured`` milliseconds."""
    import numpy as np

    from .accuracy import accuracy

    if measured is None:
        return {"method": "none: fewer than 2 networks were held out"}
    found = table.predict(networks)
    return {
        "method": f"{len(networks)} held-out networks",
        **accuracy(found.ms, measured),
        "level": 0.9,
        "coverage": float(np.mean((found.low <= measured) & (measured <= found.high))),
        "share_of_known_kernels": float(np.mean([table.covered(network) for network in networks])),
    }


@dataclass(frozen=True)
class Export:
    """A network's file and its kernels."""

    path: Path
    kernels: list[RuntimeKernel]


def export_all(
    architectures: Sequence[Architecture], runtime: str, dtype: str, folder: Path, track: Callable[..., Any] | None
) -> list[Export]:
    """Each network with random weights, exported and taken apart; equal kernels share what they are built from."""
    from .kernel_table import exported, kernel_runtime

    target = kernel_runtime(runtime)
    known: dict[str, RuntimeKernel] = {}
    found = []
    for number, architecture in enumerate(track(architectures, "export") if track else architectures):
        place = folder / str(number)
        place.mkdir()
        path = exported(architecture.build(seed=0), architecture.input_size, runtime, dtype, place)
        found.append(Export(path, [known.setdefault(kernel.key, kernel) for kernel in target.kernels(path)]))
    return found


def draw(space: str, options: dict[str, Any], count: int, seed: int) -> list[Architecture]:
    """Random networks of a space, each once; fewer than ``count`` if the space has not so many."""
    from numpy.random import RandomState

    from searchspaces import Architecture, build_space
    from searchspaces.sampling import random_choices

    built, random = build_space(space, **options), RandomState(seed)
    found: dict[str, Architecture] = {}
    for _ in range(ATTEMPTS * count):
        if len(found) < count:
            drawn = Architecture(space, options, random_choices(built, random))
            found.setdefault(drawn.to_json(), drawn)
    return list(found.values())


def draw_mixed(space: str, options: dict[str, Any] | list[dict[str, Any]], count: int, seed: int) -> list[Architecture]:
    """The same for several options of the space, in turn."""
    several = options if isinstance(options, list) else [options]
    if not several:
        several = [{}]
    groups = [draw(space, each, -(-count // len(several)), seed) for each in several]
    longest = max(map(len, groups))
    return [group[i] for i in range(longest) for group in groups if i < len(group)][:count]


def check_numbers(networks: int, calibration: int, held_out: int, rounds: int) -> None:
    """Refuse numbers that cannot be met.

    Raises:
        ConfigError: naming the option.
    """
    from searchspaces.errors import ConfigError

    from .kernel_table import FEWEST_NETWORKS

    if not FEWEST_NETWORKS <= calibration <= networks:
        raise ConfigError(
            f"calibration is {calibration}: at least {FEWEST_NETWORKS} networks, and no more than the {networks} whose "
            "kernels are measured (networks)."
        )
    if held_out < 0 or rounds < 1:
        raise ConfigError(f"held_out is {held_out} and rounds {rounds}: at least 0 and 1 are needed.")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.learn"))
