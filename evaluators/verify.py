"""Metrics of a finished run, from its files alone: ``python -m evaluators.verify RUN``."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

OF_DATA = ("protocol", "fold", "test_data", "test_data_root", "test_protocol")  # what belongs to a run's data set


def main(
    run: str,
    split: str = "test",
    data: str | None = None,
    data_root: str | None = None,
    protocol: str | None = None,
    fold: int | None = None,
    test_data: str | None = None,
    test_data_root: str | None = None,
    test_protocol: str | None = None,
    scores: str | None = None,
    space_module: str | None = None,
    data_module: str | None = None,
) -> None:
    """Load a run's architecture, weights and data, and print its metrics as JSON.

    Args:
        run: a run folder with config.yaml, architecture.json and weights.safetensors.
        split: which split is judged.
        data: another data set than the run's, for example fddb.
        data_root: its folder.
        protocol: of that data set, or another one of the run's, where a set has several.
        fold: of the protocol.
        test_data: a data set for the test alone: the run's own chooses the threshold, as cross-testing does.
        test_data_root: its folder.
        test_protocol: its protocol.
        scores: a file for the scores of val and of the judged split, see evaluators.score_files.
        space_module: the module of a space of your own, imported before the architecture is read.
        data_module: the module of a data set of your own, imported before it is built.
    """
    from searchspaces import Architecture
    from searchspaces.errors import ConfigError
    from searchspaces.folder import read_config

    from .tasks import build_task

    for module in filter(None, (space_module, data_module)):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ConfigError(f"Cannot import the module {module!r}: {error}.") from error
    folder = Path(run)
    options = read_config(folder)
    architecture = Architecture.load(folder / "architecture.json")
    network = architecture.build(weights=folder / "weights.safetensors").eval()
    if data:
        options |= {"data": data, "data_root": data_root, "people": None, **dict.fromkeys(OF_DATA)}
    given = dict(zip(OF_DATA, (protocol, fold, test_data, test_data_root, test_protocol), strict=True))
    options |= {name: value for name, value in given.items() if value is not None}
    task = build_task(architecture.model_space(), options, progress=data is not None, judging=True)
    if split not in task.data.splits:
        raise ConfigError(f"The data set {task.data.name!r} has no split {split!r}: {', '.join(task.data.splits)}.")
    print(json.dumps(_judge(task, network, split, scores)))


def _judge(task: Any, network: Any, split: str, file: str | None) -> dict[str, Any]:
    """The task's metrics; its scores go into a file if one is asked for and the task has scores."""
    if file is None or not hasattr(task, "judged_scores"):
        return task.metrics(network, split)
    from .metrics import judged_metrics
    from .scores import write_scores

    found = task.judged_scores(network, split)
    write_scores(file, found)
    return judged_metrics(found[split], found["val"])


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.verify"))
