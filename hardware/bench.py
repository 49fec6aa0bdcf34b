"""One network in one runtime: exported, compared, timed. Each runtime gets a process of its own.

A converter that crashes takes its own process with it and nothing else. ``python -m hardware.bench JOB.json`` is that
process; it writes a line of JSON for each number type, as soon as it is done.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from searchspaces.errors import CostError, FacenasError
from searchspaces.files import write_json
from searchspaces.processes import child_environment

from .messages import reason
from .runtimes import REPETITIONS
from .runtimes.memory import last_line

DTYPES = ("float32", "int8")
SECONDS = 1800  # for one runtime; the slowest converters take a minute or two
HARMED = 0.1  # relative root mean square difference of int8 that is told


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        architecture: an architecture file, a run folder, or a file of the runtime.
        runtime: a runtime's name.
        dtypes: number types of the files, ``"float32"`` or ``"int8"``.
        threads: threads that one inference may use.
        repetitions: timed runs.
        folder: where the exported files go.
        calibration: a folder of pictures for int8; random inputs without it.
    """

    architecture: str
    runtime: str
    dtypes: Sequence[str]
    folder: str
    threads: int = 1
    repetitions: int = REPETITIONS
    calibration: str | None = None


@dataclass
class Row:
    """What was found; ``error`` says why the rest is missing.

    Attributes:
        file_bytes: size of the exported file with its weights.
        difference: largest absolute difference from torch, ``relative`` to the largest output, ``rms`` to all.
        latency: a `Latency` as a dictionary.
        peak_memory_bytes: see `peak_memory`.
        fallback: a `Fallback` as a dictionary; None where the runtime does not tell.
        calibration: what int8 was calibrated on, and whose weights these are.
    """

    runtime: str
    dtype: str
    version: str = ""
    path: str = ""
    file_bytes: int | None = None
    difference: float | None = None
    relative: float | None = None
    rms: float | None = None
    latency: dict[str, Any] | None = None
    peak_memory_bytes: int | None = None
    fallback: dict[str, Any] | None = None
    calibration: str = ""
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def measure_in_processes(jobs: Sequence[Job]) -> list[Row]:
    """Rows of all jobs, in order; a job that fails, or whose process dies, gives rows with an error."""
    return [row for job in jobs for row in measure_in_process(job)]


def measure_in_process(job: Job, seconds: float = SECONDS) -> list[Row]:
    """Run one job in a process of its own: a row for each number type."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "rows.jsonl"
        file = write_json(Path(folder) / "job.json", {"job": asdict(job), "results": str(results)})
        try:
            done = subprocess.run(
                [sys.executable, "-m", "hardware.bench", str(file)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                env=child_environment(),
            )
            failure = "" if done.returncode == 0 else _death(done.returncode, done.stderr)
        except subprocess.TimeoutExpired:
            failure = f"took longer than {seconds:g} s"
        lines = results.read_text().splitlines() if results.is_file() else []
    rows = [Row(**json.loads(line)) for line in lines if line.endswith("}")]
    left = job.dtypes[len(rows) :]
    return rows + [Row(job.runtime, dtype, error=failure or "gave no result") for dtype in left]


def _death(code: int, told: str) -> str:
    if code < 0:
        return f"its process was killed by signal {-code}"
    return f"its process ended with code {code}: {last_line(told)}"


def measure_job(job: Job) -> list[Row]:
    """The same in this process; see `measure_in_process`."""
    rows = []
    for dtype in job.dtypes:
        row = Row(job.runtime, dtype)
        try:
            _fill(row, job)
        except FacenasError as error:
            row.error = str(error)
        except Exception as error:  # a runtime's library failed in a way that nobody foresaw: its row says so
            row.error = f"{type(error).__name__}: {reason(error)}"
        rows.append(row)
    return rows


def _fill(row: Row, job: Job) -> None:
    """Do all steps; what is known so far stays in the row when one fails."""
    from .runtimes import get_runtime
    from .runtimes.memory import peak_memory

    runtime: Any = get_runtime(job.runtime)
    row.version = str(runtime.version()) if hasattr(runtime, "version") else ""
    path = exported(job, row, runtime)
    row.path = str(path)
    files = runtime.files(path) if hasattr(runtime, "files") else [path]
    row.file_bytes = sum(file.stat().st_size for file in files)
    if hasattr(runtime, "fallback") and (fallback := runtime.fallback(path)) is not None:
        row.fallback = fallback.to_dict()
    latency = runtime.measure(path, job.threads, repetitions=job.repetitions).to_dict()
    row.latency = {**latency, "dtype": row.dtype}
    if latency["noisy"]:
        row.warnings.append("noisy: repeat on an idle machine")
    if hasattr(runtime, "load"):
        try:
            row.peak_memory_bytes = peak_memory(job.runtime, path, job.threads)
        except CostError as error:
            row.warnings.append(str(error))


def exported(job: Job, row: Row, runtime: Any) -> Path:
    """The file to measure: given, or exported and compared with its network, which fills the row's differences."""
    from .cliffs import find_cliffs, messages
    from .runtimes import calibration
    from .tracing import example_input

    path = Path(job.architecture)
    if path.suffix.lower() == runtime.SUFFIX:
        return path
    model, input_size, weights = _network(path)
    row.warnings += messages(find_cliffs(model, input_size, job.runtime, row.dtype))
    file = Path(job.folder) / f"network-{job.runtime}-{row.dtype}{runtime.SUFFIX}"
    if row.dtype == "float32":
        _export(row, runtime.export, model, input_size, file)
        inputs = [example_input(model, input_size, seed=seed + 1) for seed in range(calibration.HELD_OUT)]
        _compare(row, runtime, model, input_size, file, inputs)
        return file
    if row.dtype not in getattr(runtime, "DTYPES", ()):
        raise CostError(f"no {row.dtype} here: the runtime's package does not hold the quantiser.")
    samples, held_out = calibration.random_inputs(input_size), calibration.random_inputs(input_size, 3, seed=1)
    row.calibration = f"{len(samples)} random inputs, {weights} weights"
    if job.calibration:
        samples, held_out = calibration.split(calibration.picture_inputs(job.calibration, input_size))
        row.calibration = f"{len(samples)} pictures, {weights} weights"
    _export(row, runtime.export_int8, model, input_size, file, samples)
    _compare(row, runtime, model, input_size, file, held_out)
    if weights == "random":
        row.calibration += ", so its difference from torch says little"
    elif row.rms is not None and row.rms > HARMED:
        row.warnings.append(f"int8 changes the outputs by {row.rms:.0%} (root mean square)")
    return file


def _network(path: Path) -> tuple[Any, Any, str]:
    """A network, its input size, and whether its weights are ``"trained"`` (those of a run folder) or ``"random"``."""
    from searchspaces import Architecture

    from .profile import load_network
    from .runtimes import calibration

    weights = (path if path.is_dir() else path.parent) / "weights.safetensors"
    if weights.is_file():
        architecture = Architecture.load(path)
        return architecture.build(weights=weights), architecture.input_size, "trained"
    model, input_size = load_network(path)
    calibration.settle_norms(model, calibration.random_inputs(input_size))
    return model, input_size, "random"


def _export(row: Row, export: Any, *arguments: Any) -> None:
    """Export; what is warned of goes into the row."""
    import warnings

    from torch.jit import TracerWarning

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        export(*arguments)
    kept = (warning for warning in told if warning.category in (UserWarning, TracerWarning))
    lines = dict.fromkeys(" ".join(str(warning.message).split()) for warning in kept)
    row.warnings += [line for line in lines if line not in row.warnings]


def _compare(row: Row, runtime: Any, model: Any, input_size: Any, file: Path, inputs: Sequence[Any]) -> None:
    """Fill in the differences; a runtime of the user's without `load` has its own check."""
    import torch

    from .runtimes.base import TOLERANCE, compare_with_network, loaded_outputs

    if not hasattr(runtime, "load"):
        row.difference = float(runtime.check(model, file, input_size))
        return
    tolerance = TOLERANCE if row.dtype == "float32" else float("inf")  # how much int8 may differ is the user's choice
    outputs = loaded_outputs(runtime.load(file, threads=1), file)
    tensors = [torch.as_tensor(x) for x in inputs]
    found = compare_with_network(model, outputs, tensors, file, tolerance)
    row.difference, row.relative, row.rms = found.largest, found.relative, found.rms


def _main(file: str) -> int:
    content = json.loads(Path(file).read_text())
    job = Job(**content["job"])
    for dtype in job.dtypes:
        (row,) = measure_job(Job(**{**content["job"], "dtypes": [dtype]}))
        with open(content["results"], "a") as results:
            results.write(json.dumps(asdict(row)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
