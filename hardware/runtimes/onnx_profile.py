"""How long each kernel takes inside of its network, as ONNX Runtime's own profiler tells."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from scipy.stats import trim_mean

from hardware.messages import failing_as
from searchspaces.errors import CostError

from . import WARMUP, PathLike
from .base import existing
from .onnx_kernels import session_options

ENDING = "_kernel_time"  # of a kernel's event; its name is that of the node in the optimised graph
PROFILED = 30  # runs; each writes a line a kernel
OUTER = 0.25  # share of the longest and of the shortest times of a kernel that are left out


def measure_kernels(
    path: PathLike, *, repetitions: int = PROFILED, input_size: Sequence[int] | None = None
) -> dict[str, Any]:
    """Run a file under the profiler, with one thread.

    Args:
        path: the ONNX file.
        repetitions: profiled runs, after `WARMUP` of which nothing is kept.
        input_size: size of inputs that the file leaves open, without the batch.

    Returns:
        The entry ``kernels`` of cost.json: ``ms``, milliseconds by name of the node in ONNX Runtime's optimised graph,
        with the protocol. The profiler counts whole microseconds of the wall clock, so a kernel's time is the mean of
        the middle half of its runs. Its own work is in each of them: about 2 us on one Intel Xeon, where 232 kernels
        took 2.87 ms together, and the whole network 2.43 ms of processor time without a profiler.

    Raises:
        CostError: if the file cannot be run, or there are no repetitions.
    """
    from .onnxruntime import _random_inputs, run_session

    if repetitions < 1:
        raise CostError(f"Cannot profile {repetitions} runs: at least 1 is needed.")
    name = existing(path)
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(1, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        with failing_as(f"ONNX Runtime cannot load {path}"):
            session = ort.InferenceSession(name, options, providers=["CPUExecutionProvider"])
        feed = _random_inputs(session, path, input_size)
        for _ in range(WARMUP + repetitions):
            run_session(session, feed, path)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(ENDING):
            times.setdefault(event["name"].removesuffix(ENDING), []).append(event["dur"] / 1e3)
    return {
        "runtime": "onnxruntime", "version": str(ort.__version__), "threads": 1, "clock": "wall",
        "statistic": "mean of the middle half", "repetitions": repetitions,
        "ms": {node: middle(runs[-repetitions:]) for node, runs in times.items()},
    }  # fmt: skip


def middle(runs: Sequence[float]) -> float:
    """The mean of the middle half, to a nanosecond.

    >>> middle([1.0, 2.0, 3.0, 100.0])
    2.5
    """
    return round(float(trim_mean(np.asarray(runs), OUTER)), 6)
