"""Table 3 of the Auto-FAS paper on ``portraits``: pixel-wise against binary supervision, several seeds.

    python -m benchmarks.supervision --architecture runs/autofas-darts-0 --seeds 5 --out supervision.json

Each seed trains the same architecture from scratch with both losses, with equal data, batches and initial weights, so
that the difference is that of the supervision. The paper searches a network of its own for each supervision; here the
architecture is given, which isolates the loss. The table shows every seed and the mean difference with a 95 % interval
(Student's t over seeds).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def main(
    architecture: str,
    seeds: int = 5,
    recipe: str = "quick",
    data: str = "portraits",
    data_root: str | None = None,
    people: int | None = None,
    epochs: int | None = None,
    out: str | None = None,
) -> None:
    """Compare pixel-wise and binary supervision over seeds.

    Args:
        architecture: an architecture.json, or a run folder that holds one.
        seeds: how many pairs are trained.
        recipe: hyper-parameters of the training.
        data: the data set.
        data_root: the folder of the data set, for data sets that have one.
        people: how many people of the data set are used; from the recipe by default.
        epochs: epochs of each training; from the recipe by default.
        out: a JSON file for the result.
    """
    from rich.console import Console

    from evaluators.recipes import find_recipe
    from searchspaces import Architecture
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError
    from searchspaces.files import write_json

    if seeds < 2:
        raise ConfigError("seeds must be at least 2: one pair has no spread.")
    chosen = Architecture.load(architecture)
    defaults = find_recipe(chosen.space, recipe, data)
    options = {"data": data, "data_root": data_root, "people": people or defaults.people}
    console = Console(highlight=False)
    rows: list[dict[str, Any]] = []
    with quiet_libraries():
        for seed in range(seeds):
            pair = {each: _train(chosen, each, seed, defaults, options, epochs) for each in ("pixel", "binary")}
            rows.append({"seed": seed, **pair})
            shown = "  ".join(f"{name} ACER {100 * m['acer']:.1f} %, AUC {m['auc']:.3f}" for name, m in pair.items())
            console.print(f"seed {seed}: {shown}")
    result = {"architecture": dict(chosen.choices), "options": dict(chosen.options), **options, "rows": rows}
    for name in ("acer", "auc"):
        result[f"{name}_difference"] = difference = paired([row["pixel"][name] - row["binary"][name] for row in rows])
        mean, low, high = (difference[key] for key in ("mean", "low", "high"))
        verdict = "no difference shown" if low <= 0 <= high else "a difference"
        console.print(f"{name} pixel - binary: {mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}: {verdict}")
    if out:
        write_json(Path(out), result)


def _train(chosen: Any, supervision: str, seed: int, defaults: Any, options: dict[str, Any], epochs: int | None) -> Any:
    from evaluators.task import WeightSchedule
    from evaluators.tasks import build_task
    from evaluators.train import fit

    task = build_task(chosen.model_space(), {**options, "supervision": supervision})
    schedule = WeightSchedule(
        epochs or defaults.train_epochs,
        defaults.train_batch,
        defaults.train_learning_rate,
        weight_decay=defaults.weight_decay,
    )
    network = fit(chosen.build(seed=seed), task, schedule, task.data.splits["train"], seed)
    return {name: metric["value"] for name, metric in task.metrics(network).items()}


def paired(differences: list[float]) -> dict[str, float]:
    """Mean of paired differences and its 95 % interval by Student's t.

    >>> {key: round(value, 3) for key, value in paired([1.0, 2.0, 3.0]).items()}
    {'mean': 2.0, 'low': -0.484, 'high': 4.484}
    """
    import numpy as np
    from scipy.stats import t

    values = np.asarray(differences)
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.supervision"))
