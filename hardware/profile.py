"""What one network costs: the content of cost.json, and ``python -m hardware.profile``.

Everything heavy is imported when it is needed, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import CostError

from .runtimes import REPETITIONS

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
RUNTIME = "onnxruntime"
ONNX_NAME = "network.onnx"


def cost_of(
    model: nn.Module,
    input_size: Sequence[int],
    *,
    folder: str | Path | None = None,
    measure: bool = True,
    repetitions: int = REPETITIONS,
) -> dict[str, Any]:
    """Count a network, export it, check the exported file against it, and measure it on this machine.

    Args:
        model: the network; it is left as it was.
        input_size: channels, height, width.
        folder: where to keep the exported network (``network.onnx``); by default it is deleted again.
        measure: whether to export and measure at all; if not, ``latency`` is empty, and ``kernels`` and ``export`` are
            None.
        repetitions: timed runs.

    Returns:
        The content of cost.json. Operations are counts, sizes bytes, times milliseconds, all of batch size 1.

    Raises:
        CostError: if the network cannot be counted, exported or measured.
    """
    from .counters import profile_model
    from .device import this_device

    counted = profile_model(model, input_size)
    del counted["uncounted"]  # named in the warnings
    cost = {"format": FORMAT, **counted, "device": this_device(), "latency": [], "kernels": None, "export": None}
    if measure:
        from .runtimes.onnx_profile import measure_kernels

        with tempfile.TemporaryDirectory() as temporary:
            path = Path(folder or temporary) / ONNX_NAME
            cost["export"], cost["latency"] = _export_and_measure(model, input_size, path, repetitions)
            cost["kernels"] = measure_kernels(path)
    return cost


def cost_of_onnx(
    path: str | Path,
    input_size: Sequence[int] | int | None = None,
    *,
    measure: bool = True,
    repetitions: int = REPETITIONS,
) -> dict[str, Any]:
    """The same for an ONNX file (see `hardware.onnx_graph.profile_onnx` for what it tells): `mac` and `flops`, latency.

    Raises:
        CostError: if the file is damaged, cannot be counted or cannot be run.
    """
    from .device import this_device
    from .onnx_file import bytes_on_disk
    from .onnx_graph import profile_onnx
    from .runtimes import onnxruntime

    counted = profile_onnx(path, input_size)
    latency = []
    if measure:
        latency = [onnxruntime.measure(path, repetitions=repetitions, input_size=counted["input"]).to_dict()]
    export = {"onnx_bytes": bytes_on_disk(path)}
    return {"format": FORMAT, **counted, "device": this_device(), "latency": latency, "export": export}


def load_network(path: str | Path, size: int | None = None) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of an architecture file, with fixed random weights, and its input size.

    Args:
        path: the architecture file, or a run folder that holds one.
        size: height and width instead of those of the architecture.

    Raises:
        FacenasError: if the file does not describe a network.
    """
    from searchspaces import Architecture

    architecture = Architecture.load(path)
    return architecture.build(seed=0), square(size, architecture.input_size[0]) or architecture.input_size


def square(size: int | None, channels: int = 3) -> tuple[int, int, int] | None:
    """The input size of a command's ``--input-size``; None if it was not given.

    Raises:
        CostError: if the size is not positive.
    """
    if size is not None and size < 1:
        raise CostError(f"The input size {size} is not a size: it needs a positive number of pixels.")
    return None if size is None else (channels, size, size)


def is_onnx(path: str | Path) -> bool:
    """Whether a command's argument names an ONNX file rather than an architecture."""
    return Path(path).suffix.lower() == ".onnx"


def main(
    architecture_or_onnx: str,
    convention: str = "mac",
    input_size: int | None = None,
    repetitions: int = REPETITIONS,
    json: bool = False,
    measure: bool = True,
) -> None:
    """Parameters, operations, memory and latency of one network.

    Args:
        architecture_or_onnx: an architecture.json, a run folder that holds one, or an .onnx file.
        convention: how operations are counted beside mac and flops: ptflops, lfr or nni.
        input_size: height and width of the input in pixels; by default those the network was made for.
        repetitions: timed runs of the latency.
        json: print the content of cost.json instead of a table.
        measure: export the network and measure its latency on this machine.
    """
    from .conventions import CONVENTIONS

    unit = CONVENTIONS[convention].unit
    if is_onnx(architecture_or_onnx):
        if convention not in ("mac", "flops"):
            raise CostError(
                f"An ONNX file can be counted as mac and flops only, not as {convention}: give the architecture."
            )
        square(input_size)
        cost = cost_of_onnx(architecture_or_onnx, input_size, measure=measure, repetitions=repetitions)
    else:
        model, size = load_network(architecture_or_onnx, input_size)
        cost = cost_of(model, size, measure=measure, repetitions=repetitions)
    if json:
        print(_to_json(cost))
    else:
        _print_table(architecture_or_onnx, cost, convention, unit)


def _export_and_measure(
    model: nn.Module, input_size: Sequence[int], path: Path, repetitions: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from .runtimes import get_runtime

    runtime = get_runtime(RUNTIME)
    runtime.export(model, input_size, path)
    difference = runtime.check(model, path, input_size)
    latency = runtime.measure(path, repetitions=repetitions)
    export = {"onnx_bytes": path.stat().st_size, "max_abs_difference": difference}
    return export, [latency.to_dict()]


def _to_json(cost: dict[str, Any]) -> str:
    return json.dumps(cost, indent=2, allow_nan=False)


def _print_table(name: str, cost: dict[str, Any], convention: str, unit: str) -> None:
    from rich.console import Console
    from rich.table import Table

    size = "x".join(str(n) for n in cost["input"])
    table = Table(title=f"{name}, input {size}, batch 1", title_justify="left")
    table.add_column("cost")
    table.add_column("value", justify="right")
    table.add_column("unit and conditions")
    for row in cost_rows(cost, convention, unit):
        table.add_row(*row)
    console = Console()
    console.print(table)
    device = cost["device"]
    console.print(f"Device: {device['cpu']}, {device['usable_cores']} cores, {device['os']}", highlight=False)
    for warning in cost["warnings"]:
        console.print(f"Warning: {warning}", highlight=False, markup=False)


def cost_rows(cost: dict[str, Any], convention: str = "mac", unit: str = "MAC") -> list[tuple[str, str, str]]:
    """The content of cost.json for a human: name, value, unit with the conditions it holds under."""
    rows = [(f"parameters, {kind}", f"{n / 1e6:.3f}", f"M ({n:,})") for kind, n in cost["parameters"].items()]
    units = {convention: unit, "mac": "MAC", "flops": "FLOP"}
    # always mac and flops, and the convention asked for beside them
    for name in dict.fromkeys(("mac", "flops", convention)):
        if (count := cost["operations"].get(name)) is None:
            continue  # a cost.json from before flops
        note = "; 2 x the MACs of all operators" if name == "flops" else ""
        rows.append((f"operations, {name}", f"{count / 1e6:.3f}", f"M {units[name]} ({count:,}){note}"))
    types = "in the file's types" if "stored" in cost.get("weight_bytes", {}) else "float32"
    for kind, count in cost.get("activation_bytes", {}).items():
        rows.append((f"activations, {kind}", f"{count / 2**20:.3f}", f"MiB, {types} ({count:,} bytes)"))
    for kind, count in cost.get("weight_bytes", {}).items():
        rows.append((f"weights, {kind.replace('_', ' ')}", f"{count / 2**20:.3f}", f"MiB ({count:,} bytes)"))
    if cost["export"]:
        size = cost["export"]["onnx_bytes"]
        difference = cost["export"].get("max_abs_difference")
        note = "" if difference is None else f", differs from torch by {difference:.1e}"
        rows.append(("ONNX file", f"{size / 2**20:.3f}", f"MiB{note}"))
    return rows + [row for latency in cost["latency"] for row in latency_rows(latency)]


def latency_rows(latency: dict[str, Any]) -> list[tuple[str, str, str]]:
    """One measured latency for a human: its median with the protocol, and its spread."""
    threads = "1 thread" if latency["threads"] == 1 else f"{latency['threads']} threads"
    where = f"{latency['runtime']} {latency['version']}, {threads}, {latency['dtype']}"
    how = f"{latency['clock']} clock, {latency['repetitions']} runs after {latency['warmup']}"
    spread = f"p10 {latency['p10_ms']:.3f}, p90 {latency['p90_ms']:.3f}"
    noisy = "; NOISY: repeat on an idle machine" if latency["noisy"] else ""
    return [
        ("latency, median", f"{latency['median_ms']:.3f}", f"ms, {where}, {how}"),
        ("latency, p25 to p75", f"{latency['p25_ms']:.3f} to {latency['p75_ms']:.3f}", f"ms, {spread}{noisy}"),
        ("latency, wall clock", f"{latency['wall_median_ms']:.3f}", "ms, median of the same runs"),
    ]


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.profile"))
