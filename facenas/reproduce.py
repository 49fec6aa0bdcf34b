"""A paper's table on licensed data, in one command: ``python -m facenas.reproduce auto-fas-1 --oulu-npu FOLDER``."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from evaluators.score_files import summary
from searchspaces.cli import INTERRUPTED
from searchspaces.errors import ConfigError, FacenasError, RunFolderError, UnknownNameError
from searchspaces.files import read_json, write_json

from .paper_experiments import EXPERIMENTS, Experiment, Roots, Row, Step

TABLE, SETTINGS = "table.json", "settings.json"
LARGEST = 1e12  # of a metric, far above any


def main(
    table: str,
    oulu_npu: str | None = None,
    casia_fasd: str | None = None,
    replay_attack: str | None = None,
    celeba_spoof: str | None = None,
    out: str | None = None,
    architecture: str | None = None,
    recipe: str = "paper",
    epochs: int | None = None,
    seed: int = 0,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: int = 1,
    dry_run: bool = False,
) -> None:
    """Run all commands of a table, one after another, and print it beside the paper's figures.

    A call that was interrupted goes on where it was. Run "list" to see what there is.

    Args:
        table: auto-fas-1, auto-fas-2, auto-fas-3, pta-3, hatfas-oulu or hatfas-small; "list" prints what they are.
        oulu_npu: the prepared folder of OULU-NPU.
        casia_fasd: the prepared folder of CASIA-FASD.
        replay_attack: the prepared folder of Replay-Attack.
        celeba_spoof: the prepared folder of CelebA-Spoof, or the copy itself.
        out: the folder for all runs; runs/TABLE by default.
        architecture: an architecture that was found already, in place of a search that the table shares.
        recipe: of all searches and trainings.
        epochs: of each of them, to try the commands; from the recipe by default.
        seed: of all of them.
        accelerator: where to compute.
        devices: GPUs, or processes on a CPU, that share every batch.
        dry_run: only print the commands.
    """
    if table == "list":
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<14}{experiment.source}: {experiment.title} (needs {', '.join(experiment.needs)})")
        return
    experiment = find_experiment(table)
    given = {
        "oulu-npu": oulu_npu,
        "casia-fasd": casia_fasd,
        "replay-attack": replay_attack,
        "celeba-spoof": celeba_spoof,
    }
    roots = {name: str(Path(root).absolute()) for name, root in given.items() if root is not None}
    steps = experiment.steps(Roots(roots), architecture)
    folder = Path(out or f"runs/{table}")
    shared = ["--recipe", recipe, "--seed", str(seed), "--accelerator", accelerator, "--devices", str(devices)]
    settings = {"table": table, "recipe": recipe, "epochs": epochs, "seed": seed, "data": roots, "found": architecture}
    if not dry_run:
        claim(folder, settings)
    for step in steps:
        command = command_of(step, steps, folder, shared, epochs)
        if dry_run:
            print(shlex.join(["python", "-m", *command]))
        elif not product(step, folder, step.done).exists():
            run_step(step, folder, command)
    if not dry_run:
        show_table(table, experiment, folder, recipe if epochs is None else f"{recipe}, epochs {epochs}")


def find_experiment(name: str) -> Experiment:
    """A table by its name.

    Raises:
        UnknownNameError: with the nearest known name.
    """
    if name not in EXPERIMENTS:
        raise UnknownNameError("table", name, EXPERIMENTS)
    return EXPERIMENTS[name]


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note what a folder is for, so that no later call mixes runs of other settings into its table.

    Raises:
        ConfigError: if it is for something else.
    """
    file = folder / SETTINGS
    if not file.exists():
        write_json(file, dict(settings))
        return
    saved = read_json(file)
    if not isinstance(saved, dict):
        raise RunFolderError(f"{file} is damaged: it holds no settings. Choose another --out.")
    for name, value in settings.items():
        if saved.get(name) != value:
            raise ConfigError(
                f"{folder} was begun with {name} {saved.get(name)!r}, not {value!r}. Choose another --out."
            )


def product(step: Step, folder: Path, file: str = "") -> Path:
    """What a step makes, or a file in it."""
    return folder / step.name / file if step.done else folder / f"{step.name}.json"


def command_of(step: Step, steps: Sequence[Step], folder: Path, shared: Sequence[str], epochs: int | None) -> list[str]:
    """A step's module and its whole command line."""
    made = {f"{{{other.name}}}": str(product(other, folder)) for other in steps}
    command = [step.module, *(made.get(text, text) for text in step.arguments), "--out", str(product(step, folder))]
    if not step.done:
        return command
    if epochs is not None:
        number = str(epochs)
        command += ["--search-epochs", number, "--train-epochs", number] if step.searches else ["--epochs", number]
        if step.module == "strategies.pc_darts":
            command += ["--warmup-epochs", "0"]
    return [*command, *shared]


def run_step(step: Step, folder: Path, command: Sequence[str]) -> None:
    """Run a step's command; a run that was begun goes on.

    Raises:
        FacenasError: if it fails; its own message stands above.
    """
    from searchspaces.processes import child_environment

    begun = bool(step.done) and product(step, folder, "config.yaml").is_file()
    whole = [sys.executable, "-m", *command, *(["--resume"] if begun else [])]
    print(f"facenas: {shlex.join(['python', *whole[1:]])}", flush=True)
    code = subprocess.run(whole, env=child_environment(), check=False).returncode
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise FacenasError(
            f"The step {step.name!r} ended with exit code {code}. Mend what it says, and call this again."
        )


def metrics_of(row: Row, folder: Path) -> list[dict[str, Any]]:
    """The metrics of a row's runs.

    Raises:
        RunFolderError: if one is missing or damaged.
    """
    if row.configuration is None:
        return [_checked(read_json(path), path) for path in (folder / step / "metrics.json" for step in row.steps)]
    path = folder / row.steps[0] / "configurations.json"
    table = read_json(path)
    try:
        rows = {entry["configuration"]: entry for entry in table["rows"]}
        return [_checked(rows.get(row.configuration, table["reference"])["metrics"], path)]
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path} has no metrics of {row.configuration!r}.") from error


def _checked(metrics: Any, path: Path) -> dict[str, Any]:
    """Metrics of a file, each with a number as its value."""
    entries = list(metrics.values()) if isinstance(metrics, dict) else [None]
    values = [entry.get("value") if isinstance(entry, dict) else None for entry in entries]
    if not all(isinstance(value, int | float) and abs(value) < LARGEST for value in values):
        raise RunFolderError(f"{path} is damaged: a metric in it has no number as its value.")
    return dict(metrics)


def cells_of(row: Row, columns: Mapping[str, str], folder: Path) -> dict[str, dict[str, float | None]]:
    """Mean and deviation of each column over a row's runs, fractions."""
    found = metrics_of(row, folder)
    missing = [key for key in columns.values() if not all(key in metrics for metrics in found)]
    if missing:
        raise RunFolderError(f"The runs {', '.join(row.steps)} in {folder} have no metric {missing[0]!r}.")
    return summary([{heading: metrics[key]["value"] for heading, key in columns.items()} for metrics in found])


def show_table(name: str, experiment: Experiment, folder: Path, recipe: str) -> None:
    """Print the table, ours beside the paper's, and write ``table.json``."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(
        title=f"{experiment.source}: {experiment.title}\nhere (recipe {recipe}) | the paper, percent",
        title_justify="left",
        box=box.SIMPLE,
    )
    shown.add_column("")
    for heading in experiment.columns:
        shown.add_column(heading)
    rows = []
    for row in experiment.rows:
        cells = cells_of(row, experiment.columns, folder)
        shown.add_row(row.label, *(_cell(cells[heading], row.paper.get(heading)) for heading in experiment.columns))
        rows.append({"row": row.label, "ours": cells, "paper_percent": dict(row.paper), "runs": list(row.steps)})
    console = Console(width=None if Console().is_terminal else 160)
    console.print(shown)
    for remark in experiment.remarks:
        console.print(f"- {remark}", soft_wrap=True, highlight=False)
    content = {"table": name, "source": experiment.source, "recipe": recipe, "columns": dict(experiment.columns)}
    print(write_json(folder / TABLE, {**content, "rows": rows, "remarks": list(experiment.remarks)}))


def _cell(ours: Mapping[str, float | None], paper: str | None) -> str:
    mean, deviation = ours["mean"], ours["deviation"]
    assert mean is not None
    spread = "" if deviation is None else f" +- {100 * deviation:.1f}"
    return f"{100 * mean:.2f}{spread}" + (f" | {paper}" if paper else "")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m facenas.reproduce"))
