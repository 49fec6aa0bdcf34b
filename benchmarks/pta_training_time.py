"""Time of a training iteration of PTA's sampled network against plain MobileNetV2, side by side (PTA, Table 5).

    python -m benchmarks.pta_training_time

The paper reports 43.11 against 49.28 minutes an epoch on a GTX 1050 Ti: 12.5 % less time. Both networks do the same
here: forward, cross-entropy, backward, a step of Adam. Blocks of iterations alternate, so that a slow phase of the
machine hits both; the interval is a bootstrap over the blocks.
"""

from __future__ import annotations

from typing import Any


def main(
    batch: int = 16,
    blocks: int = 30,
    iterations: int = 5,
    image_size: int = 128,
    width: float = 1.0,
    threads: int | None = None,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Compare the two on random pictures.

    Args:
        batch: pictures of an iteration; 32 in the paper.
        blocks: blocks of iterations of each network.
        iterations: iterations of a block.
        image_size: side of the pictures.
        width: factor of all channels; 1 in the paper.
        threads: CPU threads; all by default.
        seed: of weights, pictures and drawn configurations.
        json: print an object instead of a table.
    """
    import torch

    from hardware.device import this_device
    from searchspaces.errors import ConfigError

    if min(batch, iterations) < 1 or batch < 2 or blocks < 2:
        raise ConfigError("batch and blocks must be at least 2, iterations at least 1.")
    if threads:
        torch.set_num_threads(threads)
    times, drawn, expected = measure(batch, blocks, iterations, image_size, width, seed)
    ratio, low, high = ratio_with_interval(times["sampled"], times["plain"], seed)
    result = {
        "ratio": ratio,
        "low": low,
        "high": high,
        "multiply_add_ratio_drawn": drawn,
        "multiply_add_ratio_expected": expected,
        "paper_ratio": 43.11 / 49.28,
        "milliseconds": {name: 1e3 * sum(seconds) / len(seconds) / iterations for name, seconds in times.items()},
        "blocks": blocks,
        "iterations": iterations,
        "batch": batch,
        "image_size": image_size,
        "width": width,
        "threads": torch.get_num_threads(),
        "device": this_device(),
    }
    _print(result, json)


def measure(
    batch: int, blocks: int, iterations: int, image_size: int, width: float, seed: int
) -> tuple[dict[str, list[float]], float, float]:
    """Seconds of each block of both networks, and the sampled network's multiply-adds (``ptflops``) over the plain
    one's: of the configurations that were drawn, and as Table 2 expects."""
    import time

    import numpy as np
    import torch
    from torch.nn import functional as F
    from torchvision.models import mobilenet_v2

    from hardware.counters import count
    from searchspaces import build_space
    from searchspaces.pta import configuration_of
    from strategies.single_path import expected_macs

    torch.manual_seed(seed)
    networks: dict[str, Any] = {
        "sampled": build_space("pta", image_size=image_size, width=width),
        "plain": mobilenet_v2(num_classes=2, width_mult=width),
    }
    x = torch.randn(batch, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 2
    optimizers = {}
    for name, network in networks.items():
        network.train().to(memory_format=torch.channels_last)
        optimizers[name] = torch.optim.Adam(network.parameters(), 1e-4)
    pta = networks["sampled"]
    table = pta.sampling_table()
    random = np.random.default_rng(seed)

    def cost_of(choices: Any) -> int:
        return count(pta.configure(configuration_of(choices)), pta.input_size, "ptflops")

    heavy = cost_of(dict(table[0][0]))  # HHH: MobileNetV2
    costs, drawn = [cost_of(choices) for choices, _ in table], []

    def iterate(name: str) -> None:
        if name == "sampled":
            index = int(random.choice(len(table), p=[p for _, p in table]))
            pta.configure(configuration_of(table[index][0]))
            drawn.append(costs[index])
        optimizers[name].zero_grad()
        F.cross_entropy(networks[name](x), labels).backward()
        optimizers[name].step()

    times: dict[str, list[float]] = {name: [] for name in networks}
    for block in range(-1, blocks):  # the first one warms up
        for name in random.permutation(list(networks)).tolist():
            started = time.perf_counter()
            for _ in range(iterations):
                iterate(name)
            if block >= 0:
                times[name].append(time.perf_counter() - started)
    return times, sum(drawn) / len(drawn) / heavy, expected_macs(table, cost_of) / heavy


def ratio_with_interval(sampled: list[float], plain: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Ratio of the median times with a 95 % bootstrap interval over the blocks, which come in pairs.

    >>> ratio_with_interval([1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    (0.5, 0.5, 0.5)
    """
    import numpy as np

    pairs = np.array([sampled, plain])
    random = np.random.default_rng(seed)
    chosen = random.integers(0, pairs.shape[1], (2000, pairs.shape[1]))
    medians = np.median(pairs[:, chosen], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return float(np.median(pairs[0]) / np.median(pairs[1])), float(low), float(high)


def _print(result: dict[str, Any], as_json: bool) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    if as_json:
        print(json.dumps(result, indent=2))
        return
    times = result["milliseconds"]
    table = Table("figure", "value", title="Training iteration, sampled PTA against MobileNetV2", title_justify="left")
    table.add_row("time ratio", f"{result['ratio']:.3f} (95 % interval {result['low']:.3f} to {result['high']:.3f})")
    table.add_row("multiply-add ratio of what was drawn", f"{result['multiply_add_ratio_drawn']:.3f}")
    table.add_row("multiply-add ratio that Table 2 expects", f"{result['multiply_add_ratio_expected']:.3f}")
    table.add_row("the paper's time ratio (GTX 1050 Ti)", f"{result['paper_ratio']:.3f}")
    table.add_row("mean time, sampled and plain", f"{times['sampled']:.1f} and {times['plain']:.1f} ms")
    console = Console()
    console.print(table)
    console.print(
        f"{result['blocks']} alternating blocks of {result['iterations']} iterations, batch {result['batch']}, "
        f"{result['image_size']}x{result['image_size']}, {result['threads']} threads, {result['device']['cpu']}",
        highlight=False,
    )


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.pta_training_time"))
