"""What a search step costs as it grows: seconds and memory against batch, width, cells, nodes and input.

    python -m benchmarks.search_scale --out scale

Around a base point one factor at a time is changed. Each point runs in a process of its own, as
`benchmarks.search_step` runs it, since the peak of memory is a process's; never two at once. Beside the measured peak
stands the one that `strategies.memory` predicts from two small steps.
"""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from searchspaces.errors import ConfigError

from .search_step import Worker, layout, read_answer, start

SEARCHES = ("darts", "pc_darts", "single_path")
NAMES = {
    "darts": "DARTS", "pc_darts": "PC-DARTS, K = 4", "single_path": "Gumbel single path",
    "darts recomputed": "DARTS, recomputed", "pc_darts recomputed": "PC-DARTS, recomputed",
    "single_path recomputed": "Gumbel single path, recomputed",
}  # fmt: skip
COLOURS = {"darts": "sep_conv_5x5", "pc_darts": "max_pool_3x3", "single_path": "skip_connect"}  # of the palette
BASE = {"batch": 8, "width": 16, "layers": 8, "nodes": 4, "input": 64}
FACTORS: dict[str, tuple[int, ...]] = {
    "batch": (2, 4, 8, 16), "width": (8, 16, 32), "layers": (5, 8, 11), "nodes": (2, 3, 4), "input": (32, 64, 108),
}  # fmt: skip
QUICK = {"batch": (1, 2), "width": (8, 16)}
LABELS = {
    "batch": "pictures of each half", "width": "channels of a cell", "layers": "cells", "nodes": "nodes of a cell",
    "input": "pixels a side",
}  # fmt: skip


@dataclass
class Point:
    """A search at one size.

    Attributes:
        search: its name; ``recomputed`` where modules are computed again.
        factor: what is changed here, to ``value``.
        cpu: CPU seconds of a step, ``wall`` those of the clock: medians.
        peak_mib: memory above the idle process; ``predicted_mib`` what `strategies.memory` predicts.
        failure: why there is nothing.
    """

    search: str
    factor: str
    value: int
    cpu: float | None = None
    wall: float | None = None
    peak_mib: float | None = None
    predicted_mib: float | None = None
    failure: str = ""


def main(
    searches: list[str] | None = None,
    factors: list[str] | None = None,
    recompute: Literal["batch", "all", "none"] = "batch",
    steps: int = 3,
    warmup: int = 1,
    core: int = 0,
    quick: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Measure search steps of several sizes.

    Args:
        searches: darts, pc_darts, single_path; all by default.
        factors: batch, width, layers, nodes, input; all by default.
        recompute: the factors that are measured with recomputed modules too.
        steps: steps that count.
        warmup: steps before them.
        core: the CPU core that all are pinned to; -1 for none.
        quick: a few small sizes.
        out: a folder for scale.json, scale.csv and scale.png.
        json: print an object instead of tables.

    Raises:
        ConfigError: for a search or a factor that there is not.
    """
    from searchspaces.console import track

    base = {**BASE, "batch": 2, "width": 8, "layers": 3, "nodes": 2, "input": 16} if quick else dict(BASE)
    sizes = dict(QUICK if quick else FACTORS)
    for name, known in ((name, SEARCHES) for name in searches or ()):
        if name not in known:
            raise ConfigError(f"No search {name!r}: choose from {', '.join(known)}.")
    for name in factors or ():
        if name not in sizes:
            raise ConfigError(f"No factor {name!r}: choose from {', '.join(sizes)}.")
    if min(steps, warmup + 1) < 1:
        raise ConfigError("At least one step has to be measured.")
    planned = list(points(searches or SEARCHES, {name: sizes[name] for name in factors or sizes}, recompute))
    measured: dict[tuple[Any, ...], Point] = {}
    for point in track(planned, "sizes"):
        key = (point.search, *({**base, point.factor: point.value}).values())  # the base belongs to every factor
        if key not in measured:
            measured[key] = measure(point, {**base, point.factor: point.value}, steps, warmup, core)
        for name in ("cpu", "wall", "peak_mib", "predicted_mib", "failure"):
            setattr(point, name, getattr(measured[key], name))
    show(planned, base, out, json)


def points(searches: Sequence[str], factors: dict[str, tuple[int, ...]], recompute: str) -> Iterator[Point]:
    """All points, factor by factor."""
    for factor, values in factors.items():
        both = recompute == "all" or recompute == factor
        for search in searches:
            for name in (search, f"{search} recomputed") if both else (search,):
                yield from (Point(name, factor, value) for value in values)


def settings_of(search: str, size: dict[str, int], core: int) -> dict[str, Any]:
    """What `search_step_worker` needs to know."""
    space = {"channels": size["width"], "layout": layout(size["layers"]), "nodes": size["nodes"]}
    return {
        "search": search.split()[0], "recompute": search.endswith("recomputed"), "space": "autofas",
        "space_options": {**space, "image_size": size["input"]}, "input": size["input"], "batch": size["batch"],
        "precision": "32-true", "device": "cpu", "threads": 1, "core": core if core >= 0 else None, "hessian": "exact",
        "sampled": "operations", "compare": False,
    }  # fmt: skip


def measure(point: Point, size: dict[str, int], steps: int, warmup: int, core: int) -> Point:
    """Run one point in a process of its own, and predict it."""
    settings = settings_of(point.search, size, core)
    found = Point(point.search, point.factor, point.value)
    worker = Worker(start(settings))
    try:
        found.predicted_mib = predicted(settings)
        read_answer(worker.process)  # it is ready
        worker.steps = [worker.ask("step") for _ in range(warmup + steps)][warmup:]
        found.peak_mib = worker.ask("end")["peak_mib"]
    except ConfigError as error:
        found.failure = str(error)
        return found
    finally:
        worker.process.kill()
        worker.process.wait()
    found.cpu, found.wall = (statistics.median(step[name] for step in worker.steps) for name in ("cpu", "wall"))
    return found


def predicted(settings: dict[str, Any]) -> float:
    """MiB above the idle process, as `strategies.memory` counts them in two small steps."""
    from searchspaces.console import quiet_libraries
    from strategies.memory import count_step, process_bytes

    from .search_step_worker import build

    with quiet_libraries():
        counted = count_step(lambda: build(settings)).peak(settings["batch"])
    return process_bytes(counted, settings["recompute"]) / 2**20


# ---- what is shown


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """The exponent of y in x, by least squares of the logarithms.

    >>> round(slope([(1, 3), (2, 6), (4, 12)]), 6), round(slope([(1, 3), (2, 12)]), 6)
    (1.0, 2.0)
    """
    x, y = ([math.log(pair[i]) for pair in pairs] for i in (0, 1))
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def exponents(found: Sequence[Point]) -> dict[str, dict[str, dict[str, float]]]:
    """Search -> factor -> exponents of seconds and of memory in it."""
    made: dict[str, dict[str, dict[str, float]]] = {}
    for search, factor in dict.fromkeys((point.search, point.factor) for point in found):
        own = [p for p in found if (p.search, p.factor) == (search, factor) and p.cpu and p.peak_mib]
        if len(own) > 1:
            made.setdefault(search, {})[factor] = {
                "seconds": slope([(p.value, p.cpu or 1.0) for p in own]),
                "memory": slope([(p.value, p.peak_mib or 1.0) for p in own]),
            }
    return made


def errors(found: Sequence[Point]) -> dict[str, float]:
    """How far predictions of memory lie from what was measured, relative: mean, and the furthest to either side."""
    told = [p.predicted_mib / p.peak_mib - 1 for p in found if p.predicted_mib and p.peak_mib]
    if not told:
        return {}
    return {"mean": statistics.fmean(map(abs, told)), "lowest": min(told), "highest": max(told)}


def show(found: Sequence[Point], base: dict[str, int], out: Path | None, as_json: bool) -> None:
    """Print it, and write its files."""
    from hardware.device import this_device
    from searchspaces.files import write_json, write_text

    result = {
        "base": base, "points": [asdict(point) for point in found], "exponents": exponents(found),
        "prediction_errors": errors(found), "device": this_device(),
    }  # fmt: skip
    if out is not None:
        write_json(out / "scale.json", result)
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(asdict(found[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(point) for point in found)
        write_text(out / "scale.csv", buffer.getvalue())
        draw(found, out / "scale.png")
    if as_json:
        print(json.dumps(result, indent=2))
        return
    _print(found, base, result)


def _print(found: Sequence[Point], base: dict[str, int], result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    told = ", ".join(f"{name} {value}" for name, value in base.items())
    console.print(f"Around {told}: one factor at a time. MiB above the idle process; in brackets as predicted.")
    for factor in dict.fromkeys(point.factor for point in found):
        own = [point for point in found if point.factor == factor]
        table = Table(title=LABELS[factor], title_justify="left")
        values = list(dict.fromkeys(point.value for point in own))
        for heading in ("search", *map(str, values)):
            table.add_column(heading, justify="left" if heading == "search" else "right")
        for search in dict.fromkeys(point.search for point in own):
            table.add_row(NAMES[search], *(_cell(point) for point in own if point.search == search))
        console.print(table)
    if error := result["prediction_errors"]:
        mean, lowest, highest = (f"{100 * error[name]:+.0f} %" for name in ("mean", "lowest", "highest"))
        console.print(f"Predictions of memory are off by {mean[1:]} on average, by {lowest} to {highest}.")


def _cell(point: Point) -> str:
    if point.cpu is None or point.peak_mib is None:
        return point.failure
    return f"{point.cpu:.2f} s, {point.peak_mib:.0f} MiB ({point.predicted_mib or 0:.0f})"


def draw(found: Sequence[Point], path: Path) -> None:
    """Seconds and memory against every factor, on logarithmic axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    from reports.figures import save_figure
    from reports.palette import INK, OPERATIONS

    factors = list(dict.fromkeys(point.factor for point in found))
    figure = Figure(figsize=(2.4 * len(factors), 5.2), layout="constrained")
    axes = figure.subplots(2, len(factors), sharey="row", squeeze=False)
    names = [name for name in NAMES if any(point.search == name for point in found)]
    for column, factor in enumerate(factors):
        for row, quantity in enumerate(("cpu", "peak_mib")):
            ax = axes[row][column]
            for name in names:
                own = [p for p in found if (p.search, p.factor) == (name, factor) and getattr(p, quantity)]
                colour = OPERATIONS[COLOURS[name.split()[0]]]
                style = "--" if name.endswith("recomputed") else "-"
                ax.plot([p.value for p in own], [getattr(p, quantity) for p in own], style, color=colour, marker="o",
                        markersize=4, label=NAMES[name])  # fmt: skip
            ax.set_xscale("log")
            ax.set_yscale("log")
            values = sorted({p.value for p in found if p.factor == factor})
            ax.set_xticks(values, map(str, values))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.grid(color=OPERATIONS["none"], linewidth=0.6)
            ax.spines[["top", "right"]].set_visible(False)
        axes[1][column].set_xlabel(LABELS[factor], color=INK)
    axes[0][0].set_ylabel("CPU seconds a step", color=INK)
    axes[1][0].set_ylabel("MiB above the idle process", color=INK)
    handles, labels = axes[0][factors.index("batch") if "batch" in factors else 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.search_scale"))
