"""A whole search as one trial of an NNI experiment: the trial's parameters are options of the search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluators.nni_trial import next_parameters, output_folder, report_epoch, report_result, trial_name
from searchspaces.cli import parse_values
from searchspaces.console import Reporter
from searchspaces.errors import ConfigError, UnknownNameError, nearest_name
from searchspaces.files import read_json

from .options import CALL_ONLY, OPTIONS, SearchOptions

FIXED = ("out", *CALL_ONLY)  # what a trial's parameters cannot say


def trial_strategy() -> str:
    """The strategy that the trial's parameters name.

    Raises:
        ConfigError: if they name none; `UnknownNameError` if there is no such strategy.
    """
    parameters = next_parameters()
    if "strategy" not in parameters:
        raise ConfigError("Name a strategy: facenas search STRATEGY, or a parameter 'strategy' in the search space.")
    if parameters["strategy"] not in OPTIONS:
        raise UnknownNameError("strategy", str(parameters["strategy"]), OPTIONS)
    return str(parameters["strategy"])


def run_trial(strategy: str, options: SearchOptions) -> int:
    """Run a search with the options of the command line and, before them, of the trial's parameters.

    Each epoch is reported to the experiment; at the end the result's error as ``default``, its ``milliseconds``,
    ``macs`` and ``parameters``. The run folder lies in the trial's own, unless ``--out`` names another. A trial that is
    started again, as ``nnictl resume`` does, goes on with the run in its folder.

    Raises:
        FacenasError: for parameters that are no options, and whatever the search refuses.
    """
    from .pipeline import run_search

    options = with_parameters(strategy, options, next_parameters())
    name = f"{options.space.rpartition(':')[2]}-{strategy}-{options.seed}-{trial_name()}"
    folder = Path(options.out) if options.out else output_folder() / name
    # without a baseline of its own: the experiment's trials are there to be compared
    options = replace(options, out=str(folder), resume=(folder / "config.yaml").is_file(), baseline=False)
    code = run_search(strategy, options, TrialReporter())
    if code == 0:
        figures = result_of(folder)
        report_result(figures, figures["error"])
    return code


def with_parameters(strategy: str, options: SearchOptions, parameters: Mapping[str, Any]) -> SearchOptions:
    """The options with a trial's parameters in their place.

    Raises:
        ConfigError: for a parameter that is no option of the strategy, or of the wrong type.
    """
    values = asdict(options)
    for name, value in parameters.items():
        if name == "strategy":
            if value != strategy:
                raise ConfigError(
                    f"The trial's parameters say strategy {value!r}, the command {strategy!r}. Leave it to the "
                    "parameters: facenas search --space SPACE, without a strategy."
                )
        elif name in FIXED or name not in values:
            near = nearest_name(name, [known for known in values if known not in FIXED])
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(f"The trial's parameter {name!r} is no option of the search {strategy!r}.{hint}")
        else:
            values[name] = value
    checked: SearchOptions = parse_values(OPTIONS[strategy], values)
    return checked


class TrialReporter(Reporter):
    """Prints as a command does, without a bar, and reports every epoch to the experiment."""

    @contextmanager
    def epochs(self, stage: str, total: int) -> Iterator[Any]:
        with super().epochs(stage, total) as show:

            def show_and_report(row: dict[str, Any]) -> None:
                show(row)
                report_epoch({name: value for name, value in row.items() if name != "epoch"}, epoch_error(row))

            yield show_and_report


def epoch_error(row: Mapping[str, Any]) -> float:
    """The validation error of an epoch or a candidate, NaN if it has none: the equal error rate of trained networks,
    1 - AP of detectors, 1 - accuracy of a supernet, else the loss.

    >>> epoch_error({"val_loss": 0.7, "val_accuracy": 0.75}), epoch_error({"val_loss": 0.3, "val_eer": 0.1})
    (0.25, 0.1)
    """
    if "val_eer" in row:
        return float(row["val_eer"])
    for higher_is_better in ("val_ap", "val_accuracy"):
        value = row.get(higher_is_better, math.nan)
        if not math.isnan(value):
            return 1 - float(value)
    return float(row.get("val_loss", math.nan))


def result_of(folder: Path) -> dict[str, float]:
    """What a finished run reports: ``error``, its headline metric as an error, with the ends of its interval,
    ``milliseconds``, ``macs`` and ``parameters`` of the network, and ``search_seconds``.

    Raises:
        FacenasError: if the run has left no metrics or no costs.
    """
    from reports.task_metrics import task_of

    metrics, cost = read_json(folder / "metrics.json"), read_json(folder / "cost.json")
    provenance = read_json(folder / "provenance.json")
    task = task_of(metrics, provenance.get("task"))
    headline = metrics[task.headline]
    low, high = headline.get("low"), headline.get("high")
    bounds = {"error_low": high, "error_high": low} if task.higher else {"error_low": low, "error_high": high}
    figures = {name: value for name, value in {"error": headline["value"], **bounds}.items() if value is not None}
    if task.higher:
        figures = {name: 1 - value for name, value in figures.items()}
    return {
        **figures,
        "milliseconds": cost["latency"][0]["median_ms"],
        "macs": cost["operations"]["mac"],
        "parameters": cost["parameters"]["stored"],
        "search_seconds": provenance.get("seconds", {}).get("search", math.nan),
    }
