"""``python -m hardware.learn``: a device profile of this machine for one space, measured kernel by kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .kernel_timing import ROUNDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from searchspaces import Architecture

    from .kernel_table import KernelTable
    from .runtimes.kernels import RuntimeKernel

NETWORKS = 30  # random networks whose kernels are measured
CALIBRATION = 12  # of which so many are measured whole
ATTEMPTS = 20  # draws for each network that is wanted
HELD_OUT = 15  # further ones, which only judge


def main(
    space: str,
    runtime: str = "litert",
    dtype: str = "float32",
    out: str = "",
    space_options: dict[str, Any] | None = None,
    threads: int = 1,
    networks: int = NETWORKS,
    calibration: int = CALIBRATION,
    held_out: int = HELD_OUT,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> None:
    """Learn this machine: measure the kernels of a space's networks, calibrate, judge, and write a device profile.

    Args:
        space: the space whose networks are to be predicted.
        runtime: onnxruntime or litert.
        dtype: float32 or int8.
        out: the profile to write (JSON).
        space_options: options of the space, as JSON; give those of the network that is to be deployed.
        threads: threads that one inference may use.
        networks: random networks whose kernels are measured.
        calibration: how many of them are measured whole too.
        held_out: further random networks, which only tell how well the profile predicts.
        rounds: timed rounds of five runs of everything.
        seed: of the random networks.
    """
    from searchspaces.console import track
    from searchspaces.errors import ConfigError

    if not out:
        raise ConfigError("Name the profile to write: --out DEVICE.json.")
    check_numbers(networks, calibration, held_out, rounds)
    drawn = draw(space, space_options or {}, networks + held_out, seed)
    networks = min(networks, len(drawn) - min(held_out, len(drawn) // 3))  # of a small space a third is held out
    table = learn(drawn, runtime, dtype, threads, networks, calibration, rounds, track)
    table.save(out)
    print(f"{out}: {len(table.kernels)} kernels of {networks} networks, calibrated by {calibration}")
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
) -> KernelTable:
    """A table of the kernels of the first ``networks`` architectures, calibrated by the first ``calibration``.

    Args:
        architectures: of one space; those after the first ``networks`` judge the table.
        runtime: its name; ``dtype``, ``threads`` and ``rounds`` as in `main`.
        networks: architectures whose kernels are measured.
        calibration: how many of them are measured whole.
        track: shows the progress of a loop: ``track(items, what)``.

    Raises:
        CostError: if a network cannot be exported, taken apart or run.
    """
    import tempfile
    from pathlib import Path

    import numpy as np

    from .accuracy import accuracy
    from .device import this_device
    from .kernel_table import KernelTable
    from .kernel_timing import PERCENTILE, time_kernels, time_networks
    from .runtimes import get_runtime

    with tempfile.TemporaryDirectory() as folder:
        exports = export_all(architectures, runtime, dtype, Path(folder), track)
        unique = {kernel.key: kernel for export in exports[:networks] for kernel in export.kernels}
        files = [one.path for one in exports]
        timed = time_kernels(runtime, list(unique.values()), [], threads=threads, rounds=rounds)

        def times(files: Sequence[Path]) -> Any:
            return time_networks(runtime, files, threads=threads, rounds=rounds).network_ms(threads)

        # in processes of their own, as they will be measured: beside hundreds of kernels they would take longer
        first, second = times(files[:calibration]), times(files[:calibration])
        measured = times(files[networks:]) if len(files) > networks else None
    target: Any = get_runtime(runtime)
    table = KernelTable.fit(
        timed.kernels,
        timed.overhead_ms,
        [one.kernels for one in exports[:calibration]],
        first,
        second,
        space=architectures[0].space,
        runtime=runtime,
        dtype=dtype,
        threads=threads,
        provenance={
            "device": this_device(),
            "version": str(target.version()),
            "space_options": dict(architectures[0].options),
            "protocol": {"statistic": f"p{PERCENTILE}", "clock": "cpu" if threads == 1 else "wall", "rounds": rounds},
        },
    )
    judged = [one.kernels for one in exports[networks:]]
    if measured is None or len(judged) < 2:
        return table.with_provenance(accuracy={"method": "none: no network was held out"})
    found = table.predict(judged)
    inside = float(np.mean((found.low <= measured) & (measured <= found.high)))
    seen = float(np.mean([table.covered(kernels) for kernels in judged]))
    held = {"method": f"{len(judged)} held-out networks", **accuracy(found.ms, measured)}
    return table.with_provenance(accuracy={**held, "level": 0.9, "coverage": inside, "share_of_known_kernels": seen})


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
