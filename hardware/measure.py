"""``python -m hardware.measure``: the latency of one network on this machine, or on a phone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .profile import RUNTIME, latency_rows, load_network
from .runtimes import REPETITIONS

if TYPE_CHECKING:
    from .adb import Adb
    from .bench import Job, Row


def main(
    architecture: str,
    runtime: str = RUNTIME,
    dtype: Literal["float32", "int8", "all"] = "float32",
    threads: int = 1,
    repetitions: int = REPETITIONS,
    calibration: str | None = None,
    csv: str | None = None,
    out: str | None = None,
    adb: str | None = None,
    benchmark_binary: str | None = None,
    cpu_mask: str = "",
) -> int:
    """Latency of one network, in one runtime or all of them, on this machine or on a phone.

    Args:
        architecture: an architecture.json, a run folder that holds one, or a file of the runtime (.onnx).
        runtime: what executes the network: a name, several with commas between, or all that are installed.
        dtype: number type of the exported file; int8 is quantised after training.
        threads: threads that one inference may use; with one, CPU time is measured, with more, wall-clock time.
        repetitions: timed runs.
        calibration: a folder of pictures that int8 is calibrated on; random inputs without it.
        csv: append to this measurements file; {runtime} and {dtype} in its name make a file for each.
        out: keep the exported files in this folder.
        adb: measure on the phone with this serial number (see `adb devices`).
        benchmark_binary: the runtime's benchmark program for the phone; docs/runtimes.md says where to get it.
        cpu_mask: hexadecimal mask of the phone's cores to run on, for example f0 for cores 4 to 7.
    """
    names = runtime_names(runtime)
    dtypes = ("float32", "int8") if dtype == "all" else (dtype,)
    if adb is None and not (csv or out) and len(names) == 1 and runtime != "all" and dtypes == ("float32",):
        _measure_one(architecture, names[0], threads, repetitions)
        return 0
    return _measure_rows(
        *(architecture, names, dtypes, runtime == "all", threads, repetitions),
        *(calibration, csv, out, adb, benchmark_binary, cpu_mask),
    )


def runtime_names(runtime: str) -> list[str]:
    """The names that ``--runtime`` stands for.

    Raises:
        UnknownNameError: with the nearest name; a name with a dot is a module, looked for when it is used.
    """
    from .runtimes import RUNTIMES

    if runtime == "all":
        return RUNTIMES.names()
    names = [name.strip() for name in runtime.split(",")]
    for name in names:
        if "." not in name:
            _ = RUNTIMES[name]
    return names


def _measure_one(architecture: str, runtime: str, threads: int, repetitions: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from .device import this_device
    from .runtimes import get_runtime

    chosen = get_runtime(runtime)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(architecture)
        if path.suffix.lower() != chosen.SUFFIX:
            model, input_size = load_network(path)
            path = chosen.export(model, input_size, Path(folder) / f"network{chosen.SUFFIX}")
            chosen.check(model, path, input_size)
        latency = chosen.measure(path, threads, repetitions=repetitions)
    table = Table("figure", "value", "unit and conditions", title=str(architecture), title_justify="left")
    for row in latency_rows(latency.to_dict()):
        table.add_row(*row)
    console = Console()
    console.print(table)
    device = this_device()
    console.print(f"Device: {device['cpu']}, {device['usable_cores']} cores, {device['os']}", highlight=False)


def _measure_rows(
    architecture: str,
    names: Sequence[str],
    dtypes: Sequence[str],
    every: bool,
    threads: int,
    repetitions: int,
    calibration: str | None,
    csv: str | None,
    out: str | None,
    adb: str | None,
    binary: str | None,
    cpu_mask: str,
) -> int:
    """Several runtimes or number types: one table. The exit code is 2 if nothing could be measured."""
    from searchspaces.errors import ConfigError

    from . import bench_table
    from .bench import Job, measure_in_processes
    from .runtimes.base import check_threads

    check_threads(threads)
    if repetitions < 1:
        raise ConfigError(f"--repetitions is {repetitions}: at least 1 is needed.")
    given = _is_exported(architecture, names)
    if given and len(dtypes) > 1:
        raise ConfigError(f"{architecture} is exported already and of one number type: name it with --dtype.")
    content = _architecture(architecture, names) if csv or not given else None
    if csv:
        bench_table.check_csv(csv, names, dtypes)
    absent = [name for name in names if every and not _installed(name)]
    with tempfile.TemporaryDirectory() as temporary:
        jobs = [
            Job(architecture, name, dtypes, str(out or temporary), threads, repetitions, calibration)
            for name in names
            if name not in absent
        ]
        if adb is None:
            device, rows = _this_cpu(), measure_in_processes(jobs)
        else:
            device, rows = _phone_rows(jobs, adb, binary, cpu_mask)
    bench_table.print_rows(architecture, rows, device)
    _print_absent(absent)
    if csv and content:
        for path in bench_table.append_csv(csv, bench_table.csv_rows(rows, content, device)):
            print(f"Appended to {path}")
    return 0 if any(row.latency for row in rows) else 2


def _phone_rows(jobs: Sequence[Job], serial: str, binary: str | None, cpu_mask: str) -> tuple[str, list[Row]]:
    """The phone's name, and a row for each runtime and number type."""
    from searchspaces.errors import ConfigError

    from .adb import connect
    from .phone import Run, phone_name

    if binary is None:
        raise ConfigError("A phone needs the runtime's benchmark program: --benchmark-binary FILE (docs/runtimes.md).")
    if len(jobs) != 1:
        raise ConfigError("A phone measures one runtime at a time: name the one of the benchmark program.")
    run = Run(threads=jobs[0].threads, repetitions=jobs[0].repetitions, cpu_mask=cpu_mask)
    phone = connect(serial)
    return phone_name(phone), [_phone_row(job, dtype, phone, Path(binary), run) for job in jobs for dtype in job.dtypes]


def _phone_row(job: Job, dtype: str, phone: Adb, binary: Path, run: Any) -> Row:
    from searchspaces.errors import FacenasError

    from .bench import Row, exported
    from .phone import measure_on_phone
    from .runtimes import get_runtime

    row = Row(job.runtime, dtype)
    try:
        path = exported(job, row, get_runtime(job.runtime))
        found = measure_on_phone(phone, job.runtime, path, binary, run)
    except FacenasError as error:
        row.error = str(error)
        return row
    row.path, row.file_bytes, row.fallback = found.path, found.file_bytes, found.fallback
    row.peak_memory_bytes = found.peak_memory_bytes
    row.latency = {**(found.latency or {}), "dtype": dtype}
    row.warnings += found.warnings
    return row


def _architecture(path: str, names: Sequence[str]) -> dict[str, Any]:
    """The content of an architecture file, read before anything is measured."""
    from searchspaces import Architecture
    from searchspaces.errors import CostError

    if Path(path).suffix.lower() in (".onnx", ".tflite", ".xml", ".param", ".pte"):
        raise CostError(f"{path} is a runtime's file, not an architecture: {', '.join(names)} cannot be made from it.")
    content: dict[str, Any] = json.loads(Architecture.load(path).to_json())
    return content


def _is_exported(path: str, names: Sequence[str]) -> bool:
    """Whether the argument is a file of the only runtime that is asked for."""
    from .runtimes import get_runtime

    return len(names) == 1 and Path(path).suffix.lower() == get_runtime(names[0]).SUFFIX


def _installed(runtime: str) -> bool:
    """Whether the library that runs files is there; what only converts them is asked for when it is used."""
    from .runtimes.libraries import LIBRARIES, missing_libraries

    return not set(missing_libraries(runtime)) & set(LIBRARIES.get(runtime, ())[:1])


def _print_absent(absent: Sequence[str]) -> None:
    from .runtimes.libraries import install_command

    for name in absent:
        print(f"Not installed: {name}. {install_command(name)}")


def _this_cpu() -> str:
    from .device import this_device

    return str(this_device()["cpu"])


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.measure"))
