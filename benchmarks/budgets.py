"""Whether searches keep their budgets, and what the budgets cost in accuracy.

    python -m benchmarks.budgets [--cost latency] [--json]

The first search has no budget. The budgets are spread evenly from the smallest network of the space to what that search
finds or expects, so that nearly all bind. For each one a search is run as `strategies.NAME` with ``--macs-budget`` or
``--latency-budget`` runs it, the derived architecture is built and its cost taken: its MACs are counted, its latency is
measured in a process of its own, with the median of 100 runs. Then it is trained for a few epochs and judged on the
validation split. One seed and few people: the budgets are what is tested here, the errors of two rows do not compare.

A latency is that of this machine: its profile is learned first, as ``python -m hardware.learn`` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPACE_OPTIONS: dict[str, dict[str, Any]] = {
    "autofas": {"channels": 4, "layout": "RRN", "stem_multiplier": 1, "image_size": 48, "nodes": 3},
    "pta": {"width": 0.25, "image_size": 64},
}
COSTS = {"macs": ("macs_budget", "M MACs", 1e-6), "latency": ("latency_budget", "ms", 1.0)}
NETWORKS = 30  # of the profile


def main(
    strategy: str = "darts",
    space: str = "autofas",
    cost: str = "macs",
    budgets: int = 12,
    people: int = 60,
    search_epochs: int = 12,
    train_epochs: int = 24,
    cost_weight: float = 1.0,
    runtime: str = "litert",
    dtype: str = "float32",
    seed: int = 0,
    json: bool = False,
) -> None:
    """Search with one budget after another.

    Args:
        strategy: the search; darts, pc_darts, gumbel, single_path, random_search or evolution.
        space: autofas or pta, in a small version.
        cost: what is limited, macs or latency.
        budgets: how many, at least 10.
        people: people of the portraits.
        search_epochs: epochs of a one-shot search.
        train_epochs: epochs of the training of each result.
        cost_weight: how strongly a differentiable search is kept to its budget.
        runtime: of the latency, litert or onnxruntime.
        dtype: of the latency, float32 or int8.
        seed: of the searches and of the trainings.
        json: print the rows as JSON.
    """
    import json as writer
    import tempfile

    from facenas.budgets import build_table, names_of
    from facenas.options import OPTIONS, DifferentiableOptions, resolve
    from facenas.pipeline import build_task
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError, UnknownNameError

    for kind, name, known in (("strategy", strategy, OPTIONS), ("space", space, SPACE_OPTIONS), ("cost", cost, COSTS)):
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if budgets < 10:
        raise ConfigError(f"budgets is {budgets}; a comparison needs at least 10.")
    given: dict[str, Any] = {"space": space, "people": people, "seed": seed}
    given |= {"search_epochs": search_epochs, "train_epochs": train_epochs, "space_options": SPACE_OPTIONS[space]}
    given |= {"train_options": {}, "accelerator": "cpu"}
    if issubclass(OPTIONS[strategy], DifferentiableOptions):
        given |= {"guard": "off", "cost_weight": cost_weight}
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        if cost == "latency":
            profile = learn_here(space, runtime, dtype, seed, Path(folder) / "here.json")
            given |= {"device_profile": str(profile), "latency_budget": "100%"}
        options = resolve(OPTIONS[strategy](**given))
        options.train_options.clear()  # the searched network is the trained one, so the recipe's widths are left out
        name = "latency_ms" if cost == "latency" else "macs"
        table = build_table(options, names_of(options))
        smallest = table.cost_of(table.cheapest(name))[name]
        task = build_task(options)
        free = search_and_train(strategy, options, task, cost, None)
        most = max(free["told"], free["expected"] or 0)
        spread = [smallest + (most - smallest) * number / (budgets - 1) for number in range(budgets)]
        limits = [round(limit) if cost == "macs" else limit for limit in spread]
        rows = [free, *(search_and_train(strategy, options, task, cost, limit) for limit in limits)]
    result = {
        "strategy": strategy,
        "cost": cost,
        **{key: value for key, value in given.items() if key not in ("device_profile", "latency_budget")},
        **({"runtime": runtime, "dtype": dtype} if cost == "latency" else {}),
        "simulated_attacks": bool(task.data.card.get("simulated")),
        "validation_pictures": len(task.data.splits["val"]),
        "kept": sum(row["kept"] for row in rows if row["budget"] is not None),
        "rows": rows,
    }
    print(writer.dumps(result, indent=2) if json else table_of(result))


def learn_here(space: str, runtime: str, dtype: str, seed: int, path: Path) -> Path:
    """A profile of this machine for the small version of a space."""
    from hardware.learn import draw, learn

    return learn(draw(space, SPACE_OPTIONS[space], NETWORKS, seed), runtime, dtype).save(path)


def search_and_train(strategy: str, options: Any, task: Any, cost: str, limit: float | None) -> dict[str, Any]:
    """One budget: its search, the cost of the derived network, its training and judging; None is no budget.

    ``cost`` of the row is counted or measured; ``told`` is what the search was told of it: the same count, or the
    upper end of the latency's interval.
    """
    import tempfile
    from dataclasses import replace

    import pandas as pd

    from evaluators.train import fit
    from facenas import searches
    from facenas.budgets import build_table, measured_on_budget, names_of
    from searchspaces import Architecture
    from searchspaces.console import Reporter

    name, none = ("latency_ms", "100%") if cost == "latency" else ("macs", None)
    limited = replace(options, **{COSTS[cost][0]: none if limit is None else str(limit)})
    with tempfile.TemporaryDirectory() as folder:
        run = searches.SEARCHES.get(strategy, searches.one_shot)
        found = run(limited, task, Path(folder), Reporter(quiet=True))
        log = pd.read_csv(Path(folder) / "search.csv")
    architecture = Architecture(options.space, options.space_options, found.choices)
    network = architecture.build(seed=options.seed)
    told = real = build_table(options, names_of(options)).cost_of(found.choices)[name]
    if cost == "latency":
        real = (measured_on_budget(limited, network, architecture.input_size) or {})["median_ms"]
    fit(network, task, searches.train_schedule(options), task.data.splits["train"], options.seed)
    expected = float(log[f"expected_{name}"].iloc[-1]) if f"expected_{name}" in log else None
    auc = task.validation(network, task.data.splits["val"])["auc"]
    kept = limit is None or real <= limit
    return {"budget": limit, "cost": real, "told": told, "kept": kept, "expected": expected, "val_auc": auc}


def table_of(result: Mapping[str, Any]) -> str:
    """The rows as text.

    >>> row = {"budget": 2e6, "cost": 1.9e6, "told": 1.9e6, "expected": None, "kept": True, "val_auc": 0.9}
    >>> print(table_of({"cost": "macs", "rows": [row], "kept": 1, "people": 8}))
    M MACs:  budget    result      told  expected  kept  validation AUC
              2.000     1.900     1.900         -   yes           0.900
    1 of 1 budgets kept; portraits of 8 people
    """
    _, unit, scale = COSTS[result["cost"]]

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value * scale:.3f}"

    lines = [f"{unit + ':':<7}{'budget':>8}{'result':>10}{'told':>10}{'expected':>10}{'kept':>6}{'validation AUC':>16}"]
    for row in result["rows"]:
        figures = "".join(f"{shown(row[name]):>10}" for name in ("cost", "told", "expected"))
        kept = "-" if row["budget"] is None else "yes" if row["kept"] else "NO"
        lines.append(f"{shown(row['budget']):>15}{figures}{kept:>6}{row['val_auc']:>16.3f}")
    tried = sum(row["budget"] is not None for row in result["rows"])
    attacks = ", simulated attacks" if result.get("simulated_attacks") else ""
    return "\n".join(
        [*lines, f"{result['kept']} of {tried} budgets kept; portraits of {result['people']} people{attacks}"]
    )


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.budgets"))
