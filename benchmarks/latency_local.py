"""How well kernels measured one by one predict whole networks, on the machine that this runs on.

    python -m benchmarks.latency_local

For LiteRT in float32 and int8 and for ONNX Runtime: the kernels of some random networks of our spaces are measured, 12
of these networks calibrate their sum, and other networks, measured in a process of their own, are predicted. They may
have kernels that were never measured. Beside it, fitted to the same 12 networks: a straight line in the MACs alone, and
one in the parameters alone; and the noise: between the halves of a process, and between two processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SPACES: list[tuple[str, dict[str, Any]]] = [
    ("autofas", {"channels": 8}),
    ("autofas", {"channels": 16}),
    ("autofas", {"channels": 24, "layout": "RNRN"}),
    ("pta", {"width": 0.5}),
    ("pta", {"width": 0.75}),
    ("pta", {"width": 1.0}),
]
CASES = [("litert", "float32"), ("litert", "int8"), ("onnxruntime", "float32")]
CALIBRATION = 12
GOALS = {"mape": 0.04, "within_10": 0.97, "spearman": 0.99, "times_better_than_flops": 5.0}


def main(
    held_out: int = 60,
    networks: int = 60,
    rounds: int = 8,
    cases: str = "all",
    seed: int = 0,
    quick: bool = False,
    json: bool = False,
) -> None:
    """Learn this machine and judge the predictions on held-out networks.

    Args:
        held_out: networks that are predicted.
        networks: networks whose kernels are measured.
        rounds: timed rounds of five runs of everything.
        cases: all, or some of litert-float32, litert-int8 and onnxruntime-float32, separated by commas.
        seed: of the random networks.
        quick: 12 networks of each kind and 3 rounds, to see that it works.
        json: print the rows as JSON.
    """
    import json as writer

    from hardware.device import this_device
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError, UnknownNameError

    known = [f"{runtime}-{dtype}" for runtime, dtype in CASES]
    wanted = known if cases == "all" else [name.strip() for name in cases.split(",")]
    for name in wanted:
        if name not in known:
            raise UnknownNameError("case", name, known)
    if quick:
        held_out, networks, rounds = CALIBRATION, CALIBRATION, 3
    if min(held_out, networks) < CALIBRATION or rounds < 2:
        raise ConfigError(f"At least {CALIBRATION} networks of each kind and 2 rounds are needed.")
    rows = []
    with quiet_libraries():
        for runtime, dtype in CASES:
            if f"{runtime}-{dtype}" in wanted:
                rows.append(judge(runtime, dtype, held_out, networks, rounds, seed))
                if not json:
                    print(line_of(rows[-1]), flush=True)
    result = {"device": this_device(), "seed": seed, "rounds": rounds, "goals": GOALS, "rows": rows}
    if json:
        print(writer.dumps(result, indent=2))


def mixture(total: int, seed: int) -> tuple[list[Any], list[Any]]:
    """Two lists of so many networks, taken from all of `SPACES` in turn; none is in both."""
    from hardware.learn import draw

    each = -(-total // len(SPACES))
    drawn = [draw(space, options, 2 * each, seed) for space, options in SPACES]
    first, second = ([group[i] for i in rows for group in drawn] for rows in (range(each), range(each, 2 * each)))
    return first[:total], second[:total]


def baselines(architectures: list[Any], calibration_ms: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    """Accuracy of straight lines in MACs and in parameters, fitted to the first networks, judged on the last."""
    from hardware.accuracy import accuracy
    from hardware.counters import count, count_parameters

    counts = []
    for architecture in architectures:
        network, size = architecture.build(), architecture.input_size
        counts.append((count(network, size), count_parameters(network, size)["stored"]))
    few, many = len(calibration_ms), len(measured)
    return {
        name: accuracy(straight_line(x[:few], calibration_ms, x[-many:]), measured)
        for name, x in zip(("flops_only", "parameters_only"), np.array(counts, dtype=float).T, strict=True)
    }


def judge(runtime: str, dtype: str, held_out: int, networks: int, rounds: int, seed: int) -> dict[str, Any]:
    """One runtime and number type: how well held-out networks are predicted."""
    import tempfile

    from hardware.accuracy import accuracy
    from hardware.kernel_table import KernelTable
    from hardware.kernel_timing import ThisMachine, summary, time_kernels, time_networks
    from hardware.learn import export_all
    from hardware.runtimes.timing import Samples
    from searchspaces.console import track

    learnt, judged = mixture(max(networks, held_out), seed)
    architectures = [*learnt[:networks], *judged[:held_out]]
    with tempfile.TemporaryDirectory() as folder:
        exports = export_all(architectures, runtime, dtype, Path(folder), track)
        files, kernels = [one.path for one in exports], [one.kernels for one in exports]
        unique = {kernel.key: kernel for network in kernels[:networks] for kernel in network}
        timer = ThisMachine(runtime, rounds=rounds)
        measured_kernels, overhead = time_kernels(timer, runtime, list(unique.values()))
        # each in a process of its own; the last but one only tells how far two processes are apart
        first, second = (timer.networks(files[:CALIBRATION]) for _ in range(2))
        again, judging = (time_networks(runtime, files[networks:], rounds=rounds) for _ in range(2))
    measured = summary(judging)
    conditions: dict[str, Any] = {"space": "autofas and pta", "runtime": runtime, "dtype": dtype}
    table = KernelTable.fit(measured_kernels, overhead, kernels[:CALIBRATION], first, second, **conditions)
    found = table.predict(kernels[networks:])
    lines = baselines(architectures, (first + second) / 2, measured)
    halves = [summary([Samples(one.cpu[start::2], one.wall[start::2]) for one in judging]) for start in (0, 1)]
    ours = accuracy(found.ms, measured)
    return {
        "runtime": runtime,
        "dtype": dtype,
        "networks": len(measured),
        "range_ms": [float(measured.min()), float(measured.max())],
        "kernels": len(table.kernels),
        "share_of_known_kernels": float(np.mean([table.covered(network) for network in kernels[networks:]])),
        **ours,
        "largest_error": float(np.max(np.abs(found.ms / measured - 1))),
        "coverage_of_90": float(np.mean((found.low <= measured) & (measured <= found.high))),
        "noise_within": float(np.mean(np.abs(halves[0] / halves[1] - 1))),
        "noise_between": float(np.mean(np.abs(summary(again) / measured - 1))),
        "times_better_than_flops": lines["flops_only"]["mape"] / ours["mape"],
        **lines,
    }


def straight_line(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """a + b x of least relative error on (x, y), at new x; a and b not negative."""
    from scipy.optimize import nnls

    unit = x.max()
    (a, b), _ = nnls(np.stack([1 / y, x / unit / y], axis=1), np.ones(len(y)))
    return np.asarray(a + b * new / unit)


def line_of(row: dict[str, Any]) -> str:
    """One row for people."""
    flops, parameters = row["flops_only"], row["parameters_only"]
    low, high = row["range_ms"]
    return (
        f"{row['runtime']} {row['dtype']}: {row['networks']} held-out networks, {low:.2f} to {high:.2f} ms\n"
        f"  {row['kernels']} kernels measured, {row['share_of_known_kernels']:.1%} of the networks' time in them\n"
        f"  predicted        error {row['mape']:6.1%}  within 10 % {row['within_10']:6.1%}  "
        f"Spearman {row['spearman']:.4f}  largest error {row['largest_error']:.1%}  "
        f"in 90 % interval {row['coverage_of_90']:.1%}\n"
        f"  MACs alone       error {flops['mape']:6.1%}  within 10 % {flops['within_10']:6.1%}  "
        f"Spearman {flops['spearman']:.4f}  ({row['times_better_than_flops']:.1f} times the error)\n"
        f"  parameters alone error {parameters['mape']:6.1%}  within 10 % {parameters['within_10']:6.1%}  "
        f"Spearman {parameters['spearman']:.4f}\n"
        f"  noise            within a process {row['noise_within']:.1%}, between two {row['noise_between']:.1%}"
    )


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.latency_local"))
