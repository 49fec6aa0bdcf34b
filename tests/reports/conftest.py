"""Run folders as a search writes them, made up but complete, and genotypes as graphs."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import yaml

OPERATIONS = ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"]
CELLS = ("normal", "reduce")
NODES = range(2, 6)


def random_choices(seed: int) -> dict[str, Any]:
    dice = random.Random(seed)
    choices: dict[str, Any] = {}
    for cell in CELLS:
        for node in NODES:
            choices[f"{cell}/input_{node}"] = sorted(dice.sample(range(node), 2))
            for slot in (0, 1):
                choices[f"{cell}/op_{node}_{slot}"] = dice.choice(OPERATIONS[1:])
    return choices


def uniform_choices(inputs: Callable[[int], list[int]], operation: str = "skip_connect") -> dict[str, Any]:
    choices: dict[str, Any] = {}
    for cell in CELLS:
        for node in NODES:
            choices[f"{cell}/input_{node}"] = inputs(node)
            choices |= {f"{cell}/op_{node}_{slot}": operation for slot in (0, 1)}
    return choices


def graph_of(choices: dict[str, Any]) -> nx.MultiDiGraph:
    graph = nx.MultiDiGraph()
    for cell in CELLS:
        names = ["c_{k-2}", "c_{k-1}", *map(str, NODES)]
        for i, name in enumerate(names):
            graph.add_node(f"{cell}/{name}", cell=cell, kind="input" if i < 2 else "node", label=name)
        graph.add_node(f"{cell}/out", cell=cell, kind="output", label="c_{k}")
        for node in NODES:
            for slot, source in enumerate(choices[f"{cell}/input_{node}"]):
                stride = 2 if cell == "reduce" and source < 2 else 1
                operation = choices[f"{cell}/op_{node}_{slot}"]
                graph.add_edge(f"{cell}/{names[source]}", f"{cell}/{node}", operation=operation, stride=stride)
            graph.add_edge(f"{cell}/{node}", f"{cell}/out", operation=None, stride=1)
    return graph


def history_lines(epochs: int, choices: dict[str, Any], beta: bool) -> list[dict[str, Any]]:
    """Distributions that sharpen from uniform; chosen edges towards their operation, others at random."""
    dice = np.random.default_rng(0)
    target = {(c, s, n): 2.5 * dice.normal(size=6) for c in CELLS for n in NODES for s in range(n)}
    for cell in CELLS:
        for node in NODES:
            for slot, source in enumerate(choices[f"{cell}/input_{node}"]):
                target[cell, source, node][OPERATIONS.index(choices[f"{cell}/op_{node}_{slot}"])] += 4
    lines = []
    for epoch in range(epochs):
        share = max(0.0, (epoch - epochs * 0.3) / max(1, epochs * 0.7))
        probabilities = {}
        for (cell, source, node), logits in target.items():
            weights = np.exp(share * logits)
            probabilities[f"{cell}/{source}_{node}"] = (weights / weights.sum()).tolist()
        for cell in CELLS if beta else ():
            for node in NODES:
                weights = np.exp(share * np.array([2.0 * (s in choices[f"{cell}/input_{node}"]) for s in range(node)]))
                probabilities[f"{cell}/beta_{node}"] = (weights / weights.sum()).tolist()
        guard = "3 of 8 edges of the normal cell are skip_connect" if epoch == epochs - 4 else None
        line = {"epoch": epoch, "choices": choices, "probabilities": probabilities, "operations": OPERATIONS}
        lines.append({**line, "guard": guard})
    return lines


def metric(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": value + half}


def write_run(path: Path, seed: int = 1, acer: float = 0.118, half: float = 0.035, epochs: int = 30) -> Path:
    """A complete folder of a PC-DARTS run, without a baseline."""
    path.mkdir(parents=True)
    choices, dice = random_choices(seed), np.random.default_rng(seed)
    options = {"channels": 16, "layout": "RNRNRN", "stem_multiplier": 3, "image_size": 108, "nodes": 4}
    config = {
        "space": "autofas",
        "strategy": "pc_darts",
        "recipe": "quick",
        "data": "portraits",
        "seed": seed,
        "out": "r",
    }
    config |= {
        "epochs": epochs,
        "batch_size": 16,
        "space_options": options,
        "optimiser": {"lr": 0.05, "betas": [0.5, 0.999]},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    e = np.arange(epochs)
    decay, noise = np.exp(-e / epochs * 3), dice.normal(scale=0.02, size=epochs)
    pd.DataFrame(
        {
            "epoch": e, "train_loss": 0.12 + 0.55 * decay, "val_loss": 0.2 + 0.5 * decay + noise,
            "val_accuracy": 0.93 - 0.4 * decay - noise, "entropy": np.clip(1.15 - e / epochs, 0.2, 1),
            "skip_share": np.clip(e / epochs - 0.4, 0, 0.38).round(3),
            "none_share": np.clip(0.3 - e / epochs / 3, 0, 1),
            "derived_macs": 5.2e7 + 6e6 * decay, "learning_rate": 0.025 * (1 + np.cos(np.pi * e / epochs)),
            "seconds": 11.5 + noise, "macs_spent": (e + 1) * 3.1e11,
        }
    ).to_csv(path / "search.csv", index=False)  # fmt: skip
    history = history_lines(epochs, choices, beta=True)
    (path / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    write_shared(path, choices, "pc_darts", options, acer, half, seed)
    return path


def write_baseline(path: Path, acer: float = 0.141, half: float = 0.038, candidates: int = 24) -> Path:
    """A complete folder of a random search."""
    path.mkdir(parents=True)
    dice, choices = np.random.default_rng(5), random_choices(99)
    config = {"space": "autofas", "strategy": "random_search", "recipe": "quick", "data": "portraits", "seed": 1}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    pd.DataFrame(
        {
            "candidate": range(candidates), "val_loss": dice.uniform(0.3, 0.5, candidates),
            "val_eer": dice.beta(4, 18, candidates), "val_auc": dice.uniform(0.8, 0.95, candidates),
            "macs": dice.uniform(3e7, 9e7, candidates), "seconds": 14.0,
            "macs_spent": (np.arange(candidates) + 1) * 3.9e11,
        }
    ).to_csv(path / "search.csv", index=False)  # fmt: skip
    lines = [{"candidate": i, "choices": random_choices(i), "metrics": {"val_auc": 0.8}} for i in range(candidates)]
    (path / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_shared(path, choices, "random_search", {"channels": 16}, acer, half, 1)
    return path


def write_shared(
    path: Path, choices: dict[str, Any], strategy: str, options: dict[str, Any], acer: float, half: float, seed: int
) -> None:
    found_by = {"strategy": strategy, "seed": seed, "epoch": 29}
    architecture = {"format": 1, "space": "autofas", "options": options, "choices": choices, "found_by": found_by}
    metrics = {
        "auc": metric(0.948, 0.02), "acer": metric(acer, half), "acer_iso": metric(acer + 0.02, half + 0.01),
        "apcer": metric(0.13, 0.05), "apcer_print": metric(0.094, 0.05), "apcer_replay": metric(0.167, 0.07),
        "apcer_max": metric(0.167, 0.07), "bpcer": metric(0.106, 0.05), "hter": metric(0.118, 0.03),
        "eer": metric(0.112, 0.03), "accuracy": metric(0.879, 0.03),
        "threshold": {"value": 0.4231, "low": None, "high": None},
    }  # fmt: skip
    measured = {
        "runtime": "onnxruntime", "version": "1.20.1", "threads": 1, "dtype": "float32", "clock": "cpu", "warmup": 10,
        "repetitions": 55, "median_ms": 11.84, "p10_ms": 11.2, "p25_ms": 11.5, "p75_ms": 12.4, "p90_ms": 14.9,
        "wall_median_ms": 12.1, "noisy": False,
    }  # fmt: skip
    layer = {
        "name": "cells.0.operations.1.body.1",
        "type": "Conv2d",
        "output": [1, 16, 54, 54],
        "parameters": 144,
        "macs": 419904,
    }
    cost = {
        "format": 1, "input": [3, 108, 108], "parameters": {"stored": 31937, "trainable": 31937, "active": 31937},
        "operations": {"mac": 61236736, "ptflops": 69834121, "lfr": 118123456, "nni": 88123456},
        "activation_bytes": {"peak": 6718464, "total": 48123904},
        "weight_bytes": {"float32": 127748, "int8_estimate": 33921},
        "layers": [layer, {**layer, "name": "head", "output": [1, 1, 14, 14]}], "warnings": [],
        "device": {"cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz", "cores": 2, "system": "Linux 6.1"},
        "latency": [measured, {**measured, "runtime": "openvino", "threads": 2, "median_ms": 7.2, "noisy": True}],
        "export": {"onnx_bytes": 151234, "max_abs_difference": 2.4e-6},
        "paper_width": {"channels": 48, "parameters": 266737, "mac": 532955232},
    }  # fmt: skip
    counts = {"live": 240, "print": 240, "replay": 240}
    data = {
        "name": "portraits", "simulated": True, "credit": "Portraits: public domain collections.",
        "description": "Painted and photographed portraits; attacks are simulated prints and replays.",
        "limits": "No real camera, no real screen: nothing follows for a phone in use.",
        "splits": {"train": {"people": 60, **counts}, "val": {"people": 20, **counts},
                   "test": {"people": 30, **counts}},
        "shortcut": {"auc": 0.71, "acer": 0.34},
    }  # fmt: skip
    deviation = {"option": "channels", "value": 16, "paper": "not given; 48 reproduces Table 4", "why": "two cores"}
    provenance = {
        "facenas": "0.1.0", "torch": "2.14.1", "nni": "3.0", "python": "3.11.9",
        "device": {"type": "cpu", "threads": 2},
        "started": "2025-11-22T20:10:00Z", "seconds": {"data": 21.4, "search": 345.0, "train": 140.2, "measure": 4.1},
        "guard": {"verdict": "warned", "reason": "3 of 8 edges of the normal cell are skip_connect."},
        "deviations": [deviation, {**deviation, "option": "drop_path", "value": 0.0, "paper": "not given"}],
    }  # fmt: skip
    contents = {"architecture": architecture, "metrics": metrics, "cost": cost, "data": data, "provenance": provenance}
    for name, value in contents.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    e = np.arange(20)
    pd.DataFrame(
        {
            "epoch": e, "train_loss": 0.6 * np.exp(-e / 6), "val_loss": 0.15 + 0.5 * np.exp(-e / 5),
            "val_eer": 0.1 + 0.35 * np.exp(-e / 4), "val_auc": 0.95 - 0.4 * np.exp(-e / 4),
            "learning_rate": 0.025 * (1 + np.cos(np.pi * e / 20)), "seconds": 7.0,
        }
    ).to_csv(path / "training.csv", index=False)  # fmt: skip


def write_pta_run(path: Path, epochs: int = 20, seed: int = 3) -> Path:
    """A complete folder of a sampled training of PTA; every figure but the counts is made up."""
    path.mkdir(parents=True)
    dice, e = np.random.default_rng(seed), np.arange(epochs)
    config = {"space": "pta", "strategy": "single_path", "recipe": "quick", "data": "portraits", "seed": seed}
    config |= {"validated": "HHH", "recalibrate": "reported", "space_options": {"image_size": 128}}
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    curve = {
        "epoch": e, "train_loss": 0.65 * np.exp(-e / 7), "val_loss": 0.2 + 0.5 * np.exp(-e / 5),
        "val_eer": 0.06 + 0.35 * np.exp(-e / 4), "val_auc": 0.98 - 0.4 * np.exp(-e / 4),
    }  # fmt: skip
    drawn = dice.multinomial(120, list(PTA_SAMPLING.values()), epochs)
    columns = {f"drawn_{name}": drawn[:, i] for i, name in enumerate(PTA_SAMPLING)}
    rest = {"train_accuracy": 0.97 - 0.4 * np.exp(-e / 5), "learning_rate": 1e-4, "seconds": 7.1}
    pd.DataFrame({**curve, **columns, **rest}).to_csv(path / "search.csv", index=False)
    lines = [{"epoch": int(epoch), "choices": pta_choices("HHH"), "guard": None} for epoch in e]
    (path / "architectures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_shared(path, pta_choices("HHL"), "single_path", {"image_size": 128}, 0.055, 0.025, seed)
    (path / "training.csv").unlink()
    changes = {
        "architecture.json": {"space": "pta"},
        "provenance.json": {"strategy": "single_path", "guard": {"verdict": "healthy", "reason": None}},
    }
    for name, change in changes.items():
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | change))
    (path / "configurations.json").write_text(json.dumps(made_up_configurations()))
    plain = path / "mobilenet_v2"
    plain.mkdir()
    (plain / "config.yaml").write_text(yaml.safe_dump(config))
    slower = {"val_eer": 0.08 + 0.38 * np.exp(-e / 6), "val_auc": 0.97 - 0.42 * np.exp(-e / 6)}
    pd.DataFrame({**curve, **slower, "learning_rate": 1e-4}).to_csv(plain / "training.csv", index=False)
    return path


PTA_SAMPLING = {"HHH": 0.45, "LHH": 0.15, "HLH": 0.15, "HHL": 0.15, "LLL": 0.10}
BRANCHES = {"L": "light", "H": "heavy", "B": "both"}
# exact counts at 128x128: what all configurations share, and the light branch of each block; heavy is twice that, both
# three times
BLOCK_COSTS = {"parameters": (1241346, (54272, 118272, 320000)), "mac": (66137344, (3366912, 7409664, 5053440))}


def pta_choices(configuration: str) -> dict[str, str]:
    return {f"block_{number}": BRANCHES[letter] for number, letter in enumerate(configuration, start=1)}


def pta_cost(configuration: str, kind: str) -> int:
    shared, light = BLOCK_COSTS[kind]
    return shared + sum(
        {"L": 1, "H": 2, "B": 3}[letter] * block for letter, block in zip(configuration, light, strict=True)
    )


def made_up_configurations() -> dict[str, Any]:
    """The content of configurations.json: figures that no training has given."""
    errors = {"HHH": 0.062, "LHH": 0.066, "HLH": 0.071, "HHL": 0.055, "LLL": 0.083, "BBB": 0.19}
    others = sorted({"".join(letters) for letters in itertools.product("LHB", repeat=3)} - set(errors))
    dice, rows = np.random.default_rng(8), []
    for name in [*errors, *others]:
        acer = errors.get(name, 0.08 + 0.06 * name.count("B") + 0.02 * dice.normal())
        mac, known = pta_cost(name, "mac"), name in errors
        again = {"val": {"eer": 0.05, "auc": 0.98, "loss": 0.1}, "metrics": made_up_metrics(acer * 0.8)}
        rows.append(
            {
                "configuration": name, "choices": pta_choices(name), "parameters": pta_cost(name, "parameters"),
                "mac": mac, "ptflops": int(mac * 1.065), "trained": name in PTA_SAMPLING,
                "val": {"eer": acer, "auc": 0.98, "loss": 0.1}, "metrics": made_up_metrics(acer),
                "recalibrated": again if known else None,
                "latency": made_up_latency(2.6 * mac / 97796608) if known else None,
                "relative_latency": mac / 97796608 if known else None,
            }
        )  # fmt: skip
    reference = {
        "name": "MobileNetV2", "parameters": 2226434, "mac": 97796608, "ptflops": 104151554,
        "metrics": made_up_metrics(0.068), "val": {"eer": 0.07, "auc": 0.97, "loss": 0.2},
        "latency": made_up_latency(2.61), "seconds": 151.2, "epochs": 20,
    }  # fmt: skip
    return {
        "format": 1, "space": "pta", "options": {"image_size": 128, "classes": 2, "width": 1.0, "dropout": 0.2},
        "selected": "HHL", "selected_by": "val_eer (equal: fewer MACs)", "sampling": PTA_SAMPLING,
        "data": {"name": "portraits", "simulated": True, "people": 40, "pictures": 120},
        "device": {"cpu": "made-up processor", "cores": 2, "os": "none"}, "rows": rows, "reference": reference,
        "seconds": {"train": 140.1, "evaluate": 35.0, "measure": 20.0},
    }  # fmt: skip


def made_up_metrics(acer: float) -> dict[str, Any]:
    named = {"acer": metric(acer, 0.028), "apcer": metric(acer * 1.3, 0.04), "bpcer": metric(acer * 0.7, 0.04)}
    return {**named, "accuracy": metric(1 - acer, 0.03), "auc": metric(0.97, 0.02), "eer": metric(acer, 0.03)}


def made_up_latency(median: float) -> dict[str, Any]:
    spread = {"p10_ms": 0.94, "p25_ms": 0.97, "p75_ms": 1.05, "p90_ms": 1.11, "wall_median_ms": 1.02}
    protocol = {"runtime": "onnxruntime", "version": "1.20.1", "threads": 1, "dtype": "float32", "clock": "cpu"}
    values = {key: median * factor for key, factor in spread.items()}
    return {**protocol, "warmup": 10, "repetitions": 55, "median_ms": median, **values, "noisy": False}


@pytest.fixture
def pta_folder(tmp_path: Path) -> Path:
    """A complete run of a sampled training, with made-up figures."""
    return write_pta_run(tmp_path / "pta")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A complete run with its baseline."""
    folder = write_run(tmp_path / "first")
    write_baseline(folder / "baseline")
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run without a baseline: ``make_run("name", acer=...)``."""
    return lambda name, **options: write_run(tmp_path / name, **options)


@pytest.fixture(scope="session")
def genotype() -> Callable[[int], nx.MultiDiGraph]:
    """The graph of a random genotype, by seed."""
    return lambda seed: graph_of(random_choices(seed))


@pytest.fixture(scope="session")
def extreme_genotypes() -> dict[str, nx.MultiDiGraph]:
    """Cells at the ends of what the space allows."""
    return {
        "all operations on the inputs": graph_of(uniform_choices(lambda node: [0, 1])),
        "a chain": graph_of(uniform_choices(lambda node: [node - 2, node - 1], "sep_conv_5x5")),
        "one input and the node before": graph_of(uniform_choices(lambda node: [0, node - 1], "avg_pool_3x3")),
        "everything from nodes 1 and 2": graph_of(
            uniform_choices(lambda node: [1, min(2, node - 1)] if node > 2 else [0, 1])
        ),
    }
