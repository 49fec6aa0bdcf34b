"""Whether searches keep their budgets, and what the budgets cost in accuracy.

    python -m benchmarks.macs_budget [--json]

The first search has no budget. The budgets are spread evenly from the smallest network of the space to what that search
finds or expects, so that nearly all bind. For each one a search is run as `strategies.NAME --macs-budget` runs it, the
derived architecture is built and counted, trained for a few epochs, and judged on the validation split. One seed and
few people: the budgets are what is tested here, the errors of two rows are no comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPACE_OPTIONS: dict[str, dict[str, Any]] = {
    "autofas": {"channels": 4, "layout": "RRN", "stem_multiplier": 1, "image_size": 48, "nodes": 3},
    "pta": {"width": 0.25, "image_size": 64},
}


def main(
    strategy: str = "darts",
    space: str = "autofas",
    budgets: int = 12,
    people: int = 60,
    search_epochs: int = 12,
    train_epochs: int = 24,
    cost_weight: float = 1.0,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Search with one budget after another.

    Args:
        strategy: the search; darts, pc_darts, gumbel, single_path, random_search or evolution.
        space: autofas or pta, in a small version.
        budgets: how many, at least 10.
        people: people of the portraits.
        search_epochs: epochs of a one-shot search.
        train_epochs: epochs of the training of each result.
        cost_weight: how strongly a differentiable search is kept to its budget.
        seed: of the searches and of the trainings.
        json: print the rows as JSON.
    """
    import json as writer

    from facenas.budgets import build_table
    from facenas.options import OPTIONS, DifferentiableOptions, resolve
    from facenas.pipeline import build_task
    from searchspaces.console import quiet_libraries
    from searchspaces.errors import ConfigError, UnknownNameError

    for kind, name, known in (("strategy", strategy, OPTIONS), ("space", space, SPACE_OPTIONS)):
        if name not in known:
            raise UnknownNameError(kind, name, known)
    if budgets < 10:
        raise ConfigError(f"budgets is {budgets}; a comparison needs at least 10.")
    given: dict[str, Any] = {"space": space, "people": people, "seed": seed}
    given |= {"search_epochs": search_epochs, "train_epochs": train_epochs, "space_options": SPACE_OPTIONS[space]}
    given |= {"train_options": {}, "accelerator": "cpu"}
    if issubclass(OPTIONS[strategy], DifferentiableOptions):
        given |= {"guard": "off", "cost_weight": cost_weight}
    options = resolve(OPTIONS[strategy](**given))
    options.train_options.clear()  # the searched network is the trained one, so the recipe's widths are left out
    smallest, _ = build_table(options, ("macs", "parameters")).range()["macs"]
    with quiet_libraries():
        task = build_task(options)
        free = search_and_train(strategy, options, task, None)
        most = max(free["macs"], free["expected_macs"] or 0)
        limits = [round(smallest + (most - smallest) * number / (budgets - 1)) for number in range(budgets)]
        rows = [free, *(search_and_train(strategy, options, task, limit) for limit in limits)]
    result = {
        "strategy": strategy,
        **given,
        "simulated_attacks": bool(task.data.card.get("simulated")),
        "validation_pictures": len(task.data.splits["val"]),
        "kept": sum(row["kept"] for row in rows if row["budget"] is not None),
        "rows": rows,
    }
    print(writer.dumps(result, indent=2) if json else table_of(result))


def search_and_train(strategy: str, options: Any, task: Any, limit: int | None) -> dict[str, Any]:
    """One budget: its search, the derived network counted, trained and judged; None is a search without a budget."""
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import pandas as pd

    from evaluators.train import fit
    from facenas import searches
    from hardware.counters import count
    from searchspaces import Architecture
    from searchspaces.console import Reporter

    limited = replace(options, macs_budget=None if limit is None else str(limit))
    with tempfile.TemporaryDirectory() as folder:
        run = searches.SEARCHES.get(strategy, searches.one_shot)
        found = run(limited, task, Path(folder), Reporter(quiet=True))
        log = pd.read_csv(Path(folder) / "search.csv")
    architecture = Architecture(options.space, options.space_options, found.choices)
    network = architecture.build(seed=options.seed)
    macs = count(network, architecture.input_size)
    fit(network, task, searches.train_schedule(options), task.data.splits["train"], options.seed)
    expected = float(log["expected_macs"].iloc[-1]) if "expected_macs" in log else None
    auc = task.validation(network, task.data.splits["val"])["auc"]
    kept = limit is None or macs <= limit
    return {"budget": limit, "macs": macs, "kept": kept, "expected_macs": expected, "val_auc": auc}


def table_of(result: Mapping[str, Any]) -> str:
    """The rows as text.

    >>> row = {"budget": 2_000_000, "macs": 1_900_000, "kept": True, "expected_macs": None, "val_auc": 0.9}
    >>> print(table_of({"rows": [row], "kept": 1, "people": 8}))
      budget M    MACs M  expected M  kept  validation AUC
         2.000     1.900           -   yes           0.900
    1 of 1 budgets kept; portraits of 8 people
    """

    def millions(value: float | None) -> str:
        return "-" if value is None else f"{value / 1e6:.3f}"

    lines = [f"{'budget M':>10}{'MACs M':>10}{'expected M':>12}{'kept':>6}{'validation AUC':>16}"]
    for row in result["rows"]:
        budget, macs, expected = (millions(row[name]) for name in ("budget", "macs", "expected_macs"))
        kept = "-" if row["budget"] is None else "yes" if row["kept"] else "NO"
        lines.append(f"{budget:>10}{macs:>10}{expected:>12}{kept:>6}{row['val_auc']:>16.3f}")
    tried = sum(row["budget"] is not None for row in result["rows"])
    attacks = ", simulated attacks" if result.get("simulated_attacks") else ""
    return "\n".join(
        [*lines, f"{result['kept']} of {tried} budgets kept; portraits of {result['people']} people{attacks}"]
    )


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.macs_budget"))
