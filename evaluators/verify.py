"""Metrics of a finished run, from its files alone: ``python -m evaluators.verify RUN``."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any


def main(
    run: str,
    split: str = "test",
    data: str | None = None,
    data_root: str | None = None,
    space_module: str | None = None,
) -> None:
    """Load a run's architecture, weights and data, and print its metrics as JSON.

    Args:
        run: a run folder with config.yaml, architecture.json and weights.safetensors.
        split: which split is judged.
        data: another data set than the run's, for example fddb.
        data_root: its folder.
        space_module: the module of a space of your own, imported before the architecture is read.
    """
    import yaml

    from searchspaces import Architecture
    from searchspaces.errors import ConfigError, RunFolderError

    from .tasks import build_task

    if space_module:
        importlib.import_module(space_module)
    folder = Path(run)
    try:
        options: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise RunFolderError(f"Cannot read {folder / 'config.yaml'}: {error}") from error
    architecture = Architecture.load(folder / "architecture.json")
    network = architecture.build(weights=folder / "weights.safetensors").eval()
    if data:
        options |= {"data": data, "data_root": data_root, "people": None}
    task = build_task(architecture.model_space(), options, progress=data is not None, judging=True)
    if split not in task.data.splits:
        raise ConfigError(f"The data set {task.data.name!r} has no split {split!r}: {', '.join(task.data.splits)}.")
    print(json.dumps(task.metrics(network, split)))


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.verify"))
