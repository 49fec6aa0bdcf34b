"""How long counting a network takes, side by side with the counters that people use, and what each of them says.

    pip install -e ".[counters-benchmark]"
    python -m benchmarks.counters [--repetitions 9] [--json]

All tools count the same networks in one process and take turns, so that a busy machine slows them alike. A row
"search" is what a search does: every repetition counts another random network, which no tool has seen before.
"""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

EXTRA = 'pip install -e ".[counters-benchmark]"'
COUNT, PROFILE = "facenas count", "facenas profile"
REFERENCE = COUNT

Tool = Callable[["nn.Module", tuple[int, ...]], float]
"""(network, channels, height, width) -> MACs."""


@dataclass
class Result:
    """One tool on one network.

    Attributes:
        network, tool: names.
        first_ms: milliseconds of the first call in this process for this network.
        median_ms: median of the repetitions after it; None if the tool fails.
        macs: what the tool says, as MACs.
        share: of the MACs of all operators (facenas' `flops` / 2), in the tool's own convention.
        failure: the tool's error, in short.
    """

    network: str
    tool: str
    first_ms: float | None = None
    median_ms: float | None = None
    macs: float | None = None
    share: float | None = None
    failure: str = ""


def main(repetitions: int = 9, json: bool = False, seed: int = 0) -> None:
    """Time all counters that are installed on five networks and on a search.

    Args:
        repetitions: timed calls of each tool for each network, and networks of the search.
        json: print {"results": [...], "missing": [...], "machine": {...}} instead of tables.
        seed: of the random networks.
    """
    from hardware.device import this_device

    tools, missing = find_tools()
    results = []
    for name, networks, size in workloads(repetitions + 1, seed):
        results += compare(name, networks, size, tools, repetitions + 1)
        if not json:
            print_table([result for result in results if result.network == name])
    if json:
        told = {"results": [asdict(result) for result in results], "missing": missing, "machine": this_device()}
        print(json_text.dumps(told, indent=1))
    elif missing:
        print(f"Not installed: {', '.join(missing)}. Install them: {EXTRA}")


def find_tools() -> tuple[dict[str, Tool], list[str]]:
    """The tools to compare, ours first, and the names of those that are not installed."""
    known: dict[str, tuple[str, Tool]] = {
        COUNT: ("hardware", _count),
        PROFILE: ("hardware", _profile),
        "FlopCounterMode": ("torch", _flop_counter_mode),
        "FlopCounterMode, meta": ("torch", _flop_counter_mode_on_meta),
        "fvcore": ("fvcore", _fvcore),
        "ptflops": ("ptflops", _ptflops),
        "torchinfo": ("torchinfo", _torchinfo),
        "thop": ("thop", _thop),
    }
    found = {name: tool for name, (package, tool) in known.items() if find_spec(package)}
    return found, [name for name in known if name not in found]


def workloads(networks: int, seed: int) -> Iterator[tuple[str, list[nn.Module], tuple[int, ...]]]:
    """Name, networks (one for all calls, or one for each) and input size."""
    import torch
    from numpy.random import RandomState
    from torchvision.models import mobilenet_v2, resnet50, vit_b_16

    from searchspaces import build_space

    torch.manual_seed(seed)
    random = RandomState(seed)
    autofas, pta = build_space("autofas"), build_space("pta")
    drawn = [autofas.random(random_state=random) for _ in range(networks)]
    yield "search, autofas@108", drawn, (3, 108, 108)
    yield "autofas@108", drawn[:1], (3, 108, 108)
    yield "pta@128", [pta.random(random_state=random)], (3, 128, 128)
    for build, size in ((mobilenet_v2, 224), (resnet50, 224), (vit_b_16, 224)):
        yield f"{build.__name__}@{size}", [build()], (3, size, size)


def compare(
    name: str, networks: list[nn.Module], size: tuple[int, ...], tools: dict[str, Tool], rounds: int
) -> list[Result]:
    """Let the tools take turns; the first round is reported apart.

    Args:
        name: of the networks.
        networks: one for each round, or one for all.
        size: of the input.
        tools: name -> tool.
        rounds: calls of each tool.
    """
    from statistics import median

    from hardware.counters import profile_model

    results = {tool: Result(name, tool) for tool in tools}
    # some tools leave marks on a network: each has its own
    own = {tool: [deepcopy(network).eval() for network in networks] for tool in tools}
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for index in range(rounds):
        for tool, run in tools.items():
            if not results[tool].failure:
                network = own[tool][index % len(networks)]
                times[tool].append(_timed(run, network, size, results[tool]))
    operators = profile_model(networks[(rounds - 1) % len(networks)], size)["operations"]["flops"] / 2
    for tool, result in results.items():
        if not result.failure:
            result.first_ms, result.median_ms = times[tool][0], median(times[tool][1:])
            result.share = (result.macs or 0) / operators
    return list(results.values())


def _timed(run: Tool, network: nn.Module, size: tuple[int, ...], result: Result) -> float:
    """Milliseconds of one call; what the tool says, or why it fails, goes into the result."""
    import contextlib
    import io
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        try:
            result.macs = run(network, size)
        except Exception as error:  # of other people's code: reported in the table
            result.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"
        return 1000 * (time.perf_counter() - start)


def print_table(results: list[Result]) -> None:
    """The tools on one network, with their times over that of ours."""
    from rich.console import Console
    from rich.table import Table

    reference = next(result.median_ms for result in results if result.tool == REFERENCE)
    table = Table(title=results[0].network, title_justify="left")
    for index, column in enumerate(("tool", "first, ms", "median, ms", "x ours", "M MACs", "of all operators")):
        table.add_column(column, no_wrap=index == 0, justify="right" if index else "left")
    for result in results:
        if result.median_ms is None or reference is None or result.first_ms is None:
            table.add_row(result.tool, "", "", "", "", result.failure)
            continue
        table.add_row(
            result.tool,
            f"{result.first_ms:.1f}",
            f"{result.median_ms:.1f}",
            f"{result.median_ms / reference:.1f}",
            f"{(result.macs or 0) / 1e6:.2f}",
            f"{result.share:.2%}",
        )
    Console().print(table)


def _zeros(size: tuple[int, ...]) -> Any:
    import torch

    return torch.zeros(1, *size)


def _count(network: nn.Module, size: tuple[int, ...]) -> float:
    from hardware.counters import count

    return count(network, size, "flops") / 2


def _profile(network: nn.Module, size: tuple[int, ...]) -> float:
    from hardware.counters import profile_model

    return profile_model(network, size)["operations"]["flops"] / 2


def _flop_counter_mode(network: nn.Module, size: tuple[int, ...]) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(_zeros(size))
    return counter.get_total_flops() / 2


def _flop_counter_mode_on_meta(network: nn.Module, size: tuple[int, ...]) -> float:
    """Nothing is computed, but the network has to be copied first."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        deepcopy(network).to("meta")(_zeros(size).to("meta"))
    return counter.get_total_flops() / 2


def _fvcore(network: nn.Module, size: tuple[int, ...]) -> float:
    import logging

    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return FlopCountAnalysis(network, _zeros(size)).total()


def _ptflops(network: nn.Module, size: tuple[int, ...]) -> float:
    from ptflops import get_model_complexity_info

    macs, _ = get_model_complexity_info(
        network, size, as_strings=False, print_per_layer_stat=False, verbose=False, backend="pytorch"
    )
    if macs is None:
        raise RuntimeError("no result")
    return macs


def _torchinfo(network: nn.Module, size: tuple[int, ...]) -> float:
    from torchinfo import summary

    return summary(network, input_size=(1, *size), verbose=0).total_mult_adds


def _thop(network: nn.Module, size: tuple[int, ...]) -> float:
    from thop import profile

    return profile(network, inputs=(_zeros(size),), verbose=False)[0]


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.counters"))
