"""Run folders of detectors as a search writes them: complete, but no figure in them was measured."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from searchspaces.autofem import CPM_OPERATIONS, FPN_OPERATIONS, pyramid_edges

from .conftest import metric

LEVELS = range(2, 8)
OPTIONS = {"backbone": "mobilenet_0.25", "width": 16, "nodes": 6, "head_layers": 1, "image_size": 128}


def detector_choices(space: str, seed: int = 0) -> dict[str, Any]:
    dice = random.Random(seed)
    choices: dict[str, Any] = {}
    if space in ("autofem-fpn", "asfd"):
        choices |= {f"fpn/{edge}": dice.choice(FPN_OPERATIONS) for edge in pyramid_edges(LEVELS)}
    for level in LEVELS if space in ("autofem-cpm", "asfd") else ():
        choices |= {f"cpm_{level}/input_{node}": dice.randrange(node) for node in range(2, 7)}
        choices |= {f"cpm_{level}/op_{node}": dice.choice(CPM_OPERATIONS) for node in range(1, 7)}
    return choices


def detector_history(space: str, epochs: int) -> list[dict[str, Any]]:
    """Distributions that sharpen, with the names that the supernets of pyramids and trees give them."""
    dice, sizes = np.random.default_rng(0), {}
    if space in ("autofem-fpn", "asfd"):
        sizes |= {f"fpn/{edge}": len(FPN_OPERATIONS) for edge in pyramid_edges(LEVELS)}
        sizes |= {f"fpn/beta_{level}": 2 if level in (2, 7) else 3 for level in LEVELS}
    for level in LEVELS if space in ("autofem-cpm", "asfd") else ():
        for node in range(1, 7):
            sizes |= {f"cpm_{level}/{parent}_{node}": len(CPM_OPERATIONS) for parent in range(node)}
            sizes[f"cpm_{level}/beta_{node}"] = node
    target = {key: 3 * dice.normal(size=size) for key, size in sizes.items()}
    operations = list(CPM_OPERATIONS if space == "autofem-cpm" else FPN_OPERATIONS)
    lines = []
    for epoch in range(epochs):
        weights = {key: np.exp(epoch / epochs * logits) for key, logits in target.items()}
        shares = {key: (row / row.sum()).tolist() for key, row in weights.items()}
        lines.append({"epoch": epoch, "probabilities": shares, "operations": operations, "guard": None})
    return lines


def detector_metrics(ap: float, half: float = 0.03) -> dict[str, Any]:
    return {
        "ap": metric(ap, half), "ap_width_18_32": metric(ap - 0.2, half), "ap_width_32_64": metric(ap + 0.05, half),
        "ap_width_64_150": {"value": None, "low": None, "high": None}, "recall": metric(ap + 0.02, half),
        "precision": metric(0.9, half), "threshold": {"value": 0.5, "low": None, "high": None},
    }  # fmt: skip


def detector_cost(parameters: int, macs: float, ms: float) -> dict[str, Any]:
    measured = {
        "runtime": "onnxruntime", "version": "1.20.1", "threads": 1, "dtype": "float32", "clock": "cpu", "warmup": 10,
        "repetitions": 55, "median_ms": ms, "p10_ms": 0.94 * ms, "p25_ms": 0.97 * ms, "p75_ms": 1.05 * ms,
        "p90_ms": 1.1 * ms, "wall_median_ms": ms, "noisy": False,
    }  # fmt: skip
    counts = {"stored": parameters, "trainable": parameters, "active": parameters - 4000}
    paper = {"backbone": "resnet50", "width": 256, "nodes": 6, "parameters": 32_300_000, "mac": 81_200_000_000}
    return {
        "format": 1, "input": [3, 128, 128], "parameters": counts, "operations": {"mac": int(macs)},
        "latency": [measured], "device": {"cpu": "made-up processor"}, "layers": [], "warnings": [],
        "paper_width": paper,
    }  # fmt: skip


def write_trained(path: Path, config: dict[str, Any], ap: float, half: float, cost: dict[str, Any]) -> None:
    """What a training leaves: options, metrics, curves and costs."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "metrics.json").write_text(json.dumps(detector_metrics(ap, half)))
    (path / "cost.json").write_text(json.dumps(cost))
    e = np.arange(12)
    curve = {
        "train_loss": 2 + 4 * np.exp(-e / 4),
        "val_loss": 3 + 4 * np.exp(-e / 3),
        "val_ap": ap * (1 - np.exp(-e / 3)),
    }
    pd.DataFrame({"epoch": e, **curve, "learning_rate": 0.01, "seconds": 9.0}).to_csv(
        path / "training.csv", index=False
    )


def write_architecture(path: Path, space: str, choices: dict[str, Any], **found_by: Any) -> None:
    options = OPTIONS if space != "none" else {**OPTIONS, "fpn": False, "cpm": False}
    value = {"format": 1, "space": "asfd" if space == "none" else space, "options": options, "choices": choices}
    (path / "architecture.json").write_text(json.dumps({**value, "found_by": found_by}))


def write_detector_run(
    path: Path,
    space: str = "autofem-cpm",
    ap: float = 0.64,
    random_ap: float = 0.61,
    without_ap: float = 0.52,
    half: float = 0.03,
) -> Path:
    """A complete folder of a search for a detector, with the two that it is shown beside."""
    strategy = "gumbel" if space == "autofem-cpm" else "pc_darts"
    config = {"space": space, "strategy": strategy, "recipe": "quick", "data": "scenes", "seed": 0}
    write_trained(path, config, ap, half, detector_cost(412_000, 1.9e8, 21.3))
    found_by = {"strategy": strategy, "epoch": 11, **({"sampled": "edges"} if strategy == "gumbel" else {})}
    write_architecture(path, space, detector_choices(space), **found_by)
    e = np.arange(12)
    search = {
        "train_loss": 4 + 3 * np.exp(-e / 4), "val_loss": 4.4 + 3 * np.exp(-e / 4), "entropy": 1 - 0.05 * e,
        "skip_share": 0.0, "none_share": 0.0, "derived_macs": 1.9e8 + 1e6 * e, "learning_rate": 0.01, "seconds": 20.0,
    }  # fmt: skip
    pd.DataFrame({"epoch": e, **search}).to_csv(path / "search.csv", index=False)
    lines = "".join(json.dumps(line) + "\n" for line in detector_history(space, 12))
    (path / "architectures.jsonl").write_text(lines)
    split = {"pictures": 300, "faces": 512, "ignored": 0, "groups": 60}
    data = {
        "name": "scenes", "simulated": True, "description": "Portraits pasted into backgrounds; boxes are exact.",
        "limits": "Nothing follows for photographs.", "credit": "Portraits: public domain collections.",
        "skipped": {"outside": 3}, "splits": {"train": split, "val": split, "test": split},
    }  # fmt: skip
    provenance = {
        "task": "detection", "strategy": strategy, "torch": "2.14.1", "seconds": {"search": 240.0, "train": 100.0},
        "guard": {"verdict": "healthy", "reason": None}, "deviations": [],
    }  # fmt: skip
    (path / "data.json").write_text(json.dumps(data))
    (path / "provenance.json").write_text(json.dumps(provenance))
    rivals = {"random": (random_ap, space, 409_000, 22.0), "without": (without_ap, "asfd", 262_000, 14.1)}
    for name, (its_ap, its_space, parameters, ms) in rivals.items():
        cost = detector_cost(parameters, parameters * 450.0, ms)
        write_trained(path / name, {**config, "space": its_space, "baseline": False}, its_ap, half, cost)
    write_architecture(path / "random", space, detector_choices(space, seed=1), strategy="drawn at random")
    write_architecture(path / "without", "none", {}, strategy="none")
    return path
