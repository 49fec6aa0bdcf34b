"""Latency of an exported file on an Android phone: the runtime's own benchmark program, run through adb.

The program is started several times; each start is a sample (LiteRT tells only its mean) or gives one for each run
(ONNX Runtime). docs/runtimes.md says where to get the programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searchspaces.errors import ConfigError, CostError

from .adb import Adb, quoted, temporary_folder
from .bench import Row
from .phone_output import (
    PhoneState,
    drift,
    heat_warnings,
    litert_average_us,
    litert_peak_bytes,
    litert_placed,
    perf_test_rows,
    phone_state,
)
from .runtimes import REPETITIONS, WARMUP

STARTS = 10  # of the benchmark program
SLOWED = 1.1  # the second half of the samples over the first: more is told
MASK = re.compile(r"[0-9a-fA-F]{1,16}")
ZONES = "cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null"
FREQUENCIES = (
    "for core in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do "
    'echo "$(cat $core/scaling_max_freq) $(cat $core/cpuinfo_max_freq)"; done 2>/dev/null'
)


@dataclass(frozen=True)
class Run:
    """How the benchmark program is run.

    Attributes:
        threads: threads that one inference may use.
        warmup: runs of each start before the timed ones.
        repetitions: timed runs, of all starts together.
        cpu_mask: hexadecimal mask of the cores to run on, as ``taskset`` takes it; "" leaves it to the phone.
    """

    threads: int = 1
    warmup: int = WARMUP
    repetitions: int = REPETITIONS
    cpu_mask: str = ""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.warmup < 0 or self.repetitions < 1:
            raise ConfigError("A phone needs at least 1 thread, 1 repetition and 0 warm-up runs.")
        if self.cpu_mask and not MASK.fullmatch(self.cpu_mask):
            raise ConfigError(f"The mask of cores {self.cpu_mask!r} is not hexadecimal, like f0 for cores 4 to 7.")

    @property
    def runs_per_start(self) -> int:
        """Timed runs of one start of the program."""
        return max(1, round(self.repetitions / STARTS))


@dataclass(frozen=True)
class Measured:
    """What one start of a program told: seconds, runs that they stand for, and what else it printed."""

    seconds: list[float]
    runs: int
    peak_bytes: int | None = None
    placed: tuple[int, int] | None = None


def measure_on_phone(phone: Adb, runtime: str, file: Path, binary: Path, run: Run | None = None) -> Row:
    """Time an exported file on a phone; its folder there is removed afterwards.

    Args:
        phone: from `hardware.adb.connect`.
        runtime: ``"litert"`` or ``"onnxruntime"``.
        file: the exported file.
        binary: the benchmark program for the phone's processor; shared libraries (.so) beside it go along.
        run: threads, warm-up, repetitions and cores.

    Returns:
        A row like that of a measuring on this machine; the latency is the wall clock's, the peak memory that of
        the whole program.

    Raises:
        FacenasError: if a file is missing, the phone does not do what it is asked, or the program fails.
    """
    run = run or Run()
    if runtime not in PROGRAMS:
        raise ConfigError(f"Runtime {runtime!r} has no benchmark program for phones here; {', '.join(PROGRAMS)} have.")
    for needed in (file, binary):
        if not needed.is_file():
            raise ConfigError(f"No file {needed}.")
    row = Row(runtime, "float32", path=str(file), file_bytes=file.stat().st_size)
    with temporary_folder(phone, row.warnings) as folder:
        install(phone, binary, folder)
        phone.push(file, f"{folder}/network{file.suffix}")
        before = read_state(phone)
        starts = [PROGRAMS[runtime](phone, folder, file.suffix, run) for _ in range(STARTS)]
        after = read_state(phone)
        if runtime == "litert":
            row.peak_memory_bytes = _litert_memory(phone, folder, file.suffix, run)
    _fill(row, starts, run)
    row.warnings += heat_warnings(before, after)
    return row


def install(phone: Adb, binary: Path, folder: str) -> None:
    """Put the benchmark program, and shared libraries that lie beside it, into a folder of the phone."""
    for source, name in [(binary, "program"), *_libraries(binary)]:
        phone.push(source, f"{folder}/{name}")
    _checked(phone, quoted(["chmod", "755", f"{folder}/program"]), "chmod")


def phone_name(phone: Adb) -> str:
    """What a figure may tell of the phone: model, platform and Android version."""
    model, platform = phone.property("ro.product.model"), phone.property("ro.board.platform")
    release = phone.property("ro.build.version.release")
    return f"{model or 'unknown phone'} ({platform or 'unknown platform'}, Android {release or 'unknown'})"


def read_state(phone: Adb) -> PhoneState:
    """Temperatures and throttling; what the phone does not tell is missing."""
    asked = (quoted(["dumpsys", "battery"]), quoted(["dumpsys", "thermalservice"]), ZONES, FREQUENCIES)
    battery, thermal, zones, frequencies = (phone.shell(command, seconds=60)[1] for command in asked)
    return phone_state(battery, thermal, zones, frequencies)


def _litert(phone: Adb, folder: str, suffix: str, run: Run) -> Measured:
    text = _program(phone, folder, run, [*_litert_options(folder, suffix, run), f"--warmup_runs={run.warmup}"])
    return Measured([litert_average_us(text) * 1e-6], run.runs_per_start, placed=litert_placed(text))


def _litert_memory(phone: Adb, folder: str, suffix: str, run: Run) -> int | None:
    """A start of its own, because watching the memory disturbs the timing."""
    options = [*_litert_options(folder, suffix, run), "--warmup_runs=1", "--report_peak_memory_footprint=true"]
    return litert_peak_bytes(_program(phone, folder, run, [*options, "--memory_footprint_check_interval_ms=5"]))


def _litert_options(folder: str, suffix: str, run: Run) -> list[str]:
    # the program goes on for a second by default, however many runs it is told
    return [
        f"--graph={folder}/network{suffix}",
        f"--num_threads={run.threads}",
        f"--num_runs={run.runs_per_start}",
        *("--min_secs=0", "--warmup_min_secs=0", "--use_xnnpack=true"),
    ]


def _onnxruntime(phone: Adb, folder: str, suffix: str, run: Run) -> Measured:
    result = f"{folder}/result.csv"
    runs = run.warmup + run.runs_per_start
    options = ["-e", "cpu", "-m", "times", "-r", str(runs), "-x", str(run.threads), "-y", "1", "-I"]
    _checked(phone, quoted(["rm", "-f", result]), "rm")
    _program(phone, folder, run, [*options, f"{folder}/network{suffix}", result])
    seconds, peak = perf_test_rows(_checked(phone, quoted(["cat", result]), "reading the result"), run.warmup)
    return Measured(seconds, len(seconds), peak)


PROGRAMS: dict[str, Callable[[Adb, str, str, Run], Measured]] = {"litert": _litert, "onnxruntime": _onnxruntime}


def _program(phone: Adb, folder: str, run: Run, options: list[str]) -> str:
    pinned = ["taskset", run.cpu_mask] if run.cpu_mask else []
    command = quoted([*pinned, "env", f"LD_LIBRARY_PATH={folder}", f"{folder}/program", *options])
    return _checked(phone, command, "the benchmark program")


def _checked(phone: Adb, command: str, what: str) -> str:
    code, output = phone.shell(command)
    if code != 0:
        raise CostError(f"On the phone, {what} ended with code {code}: {phone.explained(output)}")
    return output


def _libraries(binary: Path) -> list[tuple[Path, str]]:
    return [(file, file.name) for file in sorted(binary.parent.glob("*.so")) if file != binary]


def _fill(row: Row, starts: list[Measured], run: Run) -> None:
    from .runtimes.timing import Samples, summarise

    seconds = [value for start in starts for value in start.seconds]
    latency: dict[str, Any] = summarise(
        Samples(seconds, seconds), runtime=row.runtime, version="unknown", threads=run.threads, warmup=run.warmup
    ).to_dict()
    row.latency = {**latency, "clock": "wall", "repetitions": sum(start.runs for start in starts)}
    if row.runtime == "litert":
        row.warnings.append(f"median and percentiles are of {len(seconds)} means of {run.runs_per_start} runs")
        if placed := starts[0].placed:
            row.fallback = {"operators": placed[0], "total": placed[1], "mac_share": None, "names": []}
    else:
        row.peak_memory_bytes = max((start.peak_bytes or 0 for start in starts), default=0) or None
    if latency["noisy"]:
        row.warnings.append("noisy: repeat with the phone cool, awake and idle")
    if (slower := drift(seconds)) > SLOWED:
        row.warnings.append(f"the second half of the runs took {slower:.2f} times as long as the first")
