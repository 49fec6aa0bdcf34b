"""What benchmark programs and Android print, read: pure functions from text to figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median

from searchspaces.errors import CostError

from .runtimes.memory import last_line

NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)"
LITERT_AVERAGE = re.compile(rf"Inference timings in us:.*Inference \(avg\): {NUMBER}")
LITERT_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {NUMBER}")
LITERT_PLACED = re.compile(r"Replacing (\d{1,9}) out of (\d{1,9}) node\(s\) with delegate \(TfLiteXNNPackDelegate\)")
THROTTLED = 1  # Android's thermal status from which on the system slows itself down
WARMER = 3.0  # degrees of the battery that are told


@dataclass(frozen=True)
class PhoneState:
    """How warm a phone is; what it does not tell is None.

    Attributes:
        battery_celsius: temperature of the battery.
        thermal_status: Android's own judgement: 0 none, 1 light, 2 moderate, 3 severe, more is worse.
        hottest_celsius: the hottest of its thermal zones.
        limited_cores: cores whose highest frequency is held below what they can do.
    """

    battery_celsius: float | None
    thermal_status: int | None
    hottest_celsius: float | None
    limited_cores: int


def litert_average_us(text: str) -> float:
    """Mean time of one inference, in microseconds, from benchmark_model's output.

    Raises:
        CostError: if it is not there, with the program's last line.
    """
    found = LITERT_AVERAGE.search(text)
    if not found or float(found.group(1)) <= 0:
        raise CostError(f"benchmark_model gave no timing: {last_line(text)}")
    return float(found.group(1))


def litert_peak_bytes(text: str) -> int | None:
    """Peak memory of the whole program, if it was asked for."""
    found = LITERT_PEAK.search(text)
    return round(float(found.group(1)) * 2**20) if found else None


def litert_placed(text: str) -> tuple[int, int] | None:
    """How many operators XNNPACK did not take, and of how many, as benchmark_model's log tells."""
    pairs = [(int(taken), int(total)) for taken, total in LITERT_PLACED.findall(text)]
    return (sum(total - taken for taken, total in pairs), sum(total for _, total in pairs)) if pairs else None


def perf_test_rows(text: str, warmup: int) -> tuple[list[float], int | None]:
    """Seconds of each run after the warm-up, and peak bytes, from the result file of onnxruntime_perf_test.

    Its lines are: model, seconds, peak working set in bytes, CPU usage in percent, number of the run.

    Raises:
        CostError: if there are no runs after the warm-up.
    """
    lines = [line.rsplit(",", 4) for line in text.splitlines() if line.count(",") >= 4]
    try:
        seconds = [float(fields[1]) for fields in lines][warmup:]
        peaks = [int(fields[2]) for fields in lines]
    except ValueError as error:
        raise CostError(f"onnxruntime_perf_test wrote a result that cannot be read: {error}.") from error
    if not seconds or min(seconds) <= 0:
        raise CostError(f"onnxruntime_perf_test wrote no timings: {last_line(text)}")
    return seconds, max(peaks) or None


def phone_state(battery: str, thermal: str, zones: str, frequencies: str) -> PhoneState:
    """Read a phone's temperature and throttling.

    Args:
        battery: of ``dumpsys battery``; its temperature is in tenths of a degree.
        thermal: of ``dumpsys thermalservice``, with a line ``Thermal Status: N``.
        zones: a temperature of /sys/class/thermal a line, in thousandths of a degree (or in degrees).
        frequencies: a line for each core: what it may do now, and what it can do, in kHz.
    """
    tenths = re.search(r"^\s*temperature: (-?\d{1,6})\s*$", battery, re.MULTILINE)
    status = re.search(r"Thermal Status: (\d{1,6})", thermal)
    told = [int(line) for line in zones.split() if re.fullmatch(r"-?\d{1,9}", line)]
    degrees = [value / 1000 if abs(value) > 1000 else float(value) for value in told]
    believable = [value for value in degrees if 0 < value < 150]  # unused sensors tell anything
    pairs = re.findall(r"^(\d{1,9}) (\d{1,9})\s*$", frequencies, re.MULTILINE)
    return PhoneState(
        int(tenths.group(1)) / 10 if tenths else None,
        int(status.group(1)) if status else None,
        max(believable, default=None),
        sum(int(now) < int(can) for now, can in pairs),
    )


def heat_warnings(before: PhoneState, after: PhoneState) -> list[str]:
    """What speaks against figures taken between two states."""
    told = []
    worst = max(state.thermal_status or 0 for state in (before, after))
    if worst >= THROTTLED:
        told.append(f"the phone throttles itself (thermal status {worst}): let it cool and repeat")
    if limited := max(before.limited_cores, after.limited_cores):
        told.append(f"{limited} cores were held below their highest frequency")
    first, last = before.battery_celsius, after.battery_celsius
    if first is not None and last is not None and last - first >= WARMER:
        told.append(f"the battery warmed from {first:g} to {last:g} °C: let it cool and repeat")
    return told


def drift(samples: list[float]) -> float:
    """Median of the second half over that of the first: more than 1 says that the phone became slower.

    >>> drift([1.0, 1.0, 1.0, 1.0])
    1.0
    """
    half = len(samples) // 2
    return median(samples[-half:]) / median(samples[:half]) if half else 1.0
