"""benchmarks/counters.py: all tools that are installed, on a small network."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.counters import COUNT, PROFILE, compare, find_tools, print_table


def test_tools_are_compared_on_the_same_network() -> None:
    tools, missing = find_tools()
    assert {COUNT, PROFILE, "FlopCounterMode"} <= tools.keys() and not tools.keys() & set(missing)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU())
    results = compare("tiny", [network], (3, 8, 8), {name: tools[name] for name in (COUNT, "FlopCounterMode")}, 3)
    assert [result.macs for result in results] == [36 * 27 * 4] * 2
    assert [result.share for result in results] == [1, 1]
    assert all(result.median_ms and result.median_ms > 0 for result in results)


def test_failing_tool_is_reported(capsys) -> None:  # type: ignore[no-untyped-def]
    def failing(network: nn.Module, size: tuple[int, ...]) -> float:
        raise ValueError("no\nsuch layer")

    tools = {COUNT: find_tools()[0][COUNT], "other": failing}
    results = compare("tiny", [nn.Conv2d(3, 4, 1) for _ in range(2)], (3, 8, 8), tools, 2)
    assert (results[1].failure, results[1].median_ms) == ("ValueError: no such layer", None)
    print_table(results)
    assert "ValueError" in capsys.readouterr().out
