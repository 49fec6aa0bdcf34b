"""Error rates from score files alone: ``python -m evaluators.score_files RUN_OR_FILE ...``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

ORDER = ("apcer", "apcer_max", "bpcer", "acer", "acer_iso", "hter", "eer", "auc", "accuracy")  # and APCERs by type
LABELS = {
    "apcer": "APCER, pooled",
    "apcer_max": "APCER, worst type",
    "bpcer": "BPCER",
    "acer": "ACER",
    "acer_iso": "ACER, worst type",
    "hter": "HTER",
    "eer": "EER of this split",
    "val_eer": "EER of val",
    "auc": "AUC",
    "accuracy": "accuracy",
    "threshold": "threshold",
}


def main(
    files: list[str],
    split: str = "test",
    unit: Literal["auto", "frame", "video"] = "auto",
    json: bool = False,
) -> None:
    """Compute the error rates of score files; of several, such as a protocol's folds, their mean and deviation too.

    The threshold is where both errors are equal on val; the judged split has no part in it.

    Args:
        files: score files, or run folders that hold a scores.tsv.
        split: which split is judged.
        unit: what has a score, frames or videos (the mean of their frames); auto is videos where the files name them.
        json: print JSON, fractions in place of percent.
    """
    from json import dumps

    from searchspaces.console import Reporter

    from .scores import read_scores

    found = {}
    for file in files:
        found[file] = rates_of(file, read_scores(file), split, unit)
    mean = summary(list(found.values()))
    if json:
        print(dumps({"files": found, "mean": mean} if len(found) > 1 else found[files[0]]))
        return
    reporter = Reporter()
    for name, rates in found.items():
        _show(reporter, name, rates)
    if len(found) > 1:
        _show(reporter, f"mean and deviation of {len(found)}", mean)


def rates_of(file: str, splits: Mapping[str, Any], split: str, unit: str) -> dict[str, Any]:
    """The error rates of a score file's split, with ``val_eer``, ``threshold`` and ``unit``; fractions.

    Raises:
        DatasetError: if the file lacks val or the split, or one of both lacks live faces or attacks.
    """
    import numpy as np

    from searchspaces.errors import DatasetError

    from .metrics import equal_error_rate, equal_error_threshold, point_metrics

    for needed in ("val", split):
        if needed not in splits:
            raise DatasetError(f"{file} has no scores of {needed!r}, only of {', '.join(splits)}.")
        if len(np.unique(splits[needed].labels)) < 2:
            raise DatasetError(f"{file}: the scores of {needed!r} are all live or all attacks; error rates need both.")
    val, judged = splits["val"], splits[split]
    if unit == "auto":
        unit = "frame" if val.videos is None or judged.videos is None else "video"
    if unit == "video":
        val, judged = val.by_video(), judged.by_video()
    threshold = equal_error_threshold(val.values, val.labels)
    rates = point_metrics(judged.values, judged.labels, judged.kinds.tolist(), threshold)
    return {"unit": unit, "threshold": threshold, "val_eer": equal_error_rate(val.values, val.labels), **rates}


def summary(rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each rate that all have, and its standard deviation (of a sample: n - 1).

    >>> summary([{"acer": 0.1}, {"acer": 0.3}])["acer"]
    {'mean': 0.2, 'deviation': 0.1414213562373095}
    """
    shared = [key for key in rates[0] if key not in ("unit", "threshold") and all(key in other for other in rates)]
    found = {}
    for key in shared:
        values = [float(other[key]) for other in rates]
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values)
        found[key] = {"mean": mean, "deviation": math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else None}
    return found


def _show(reporter: Any, name: str, rates: Mapping[str, Any]) -> None:
    """A block of lines: a rate each, in percent."""
    reporter.line("scores", f"{name}{' (of videos)' if rates.get('unit') == 'video' else ''}")
    by_type = [key for key in rates if key.startswith("apcer_") and key != "apcer_max"]
    for key in ("val_eer", "threshold", "apcer", *by_type, *ORDER[1:]):
        if key in rates:
            label = LABELS.get(key) or f"APCER, {key.removeprefix('apcer_')}"
            reporter.line("", f"{label:<24}{_number(key, rates[key])}")


def _number(key: str, value: Any) -> str:
    """A rate in percent, or a threshold as it is."""
    if isinstance(value, Mapping):
        deviation = "" if value["deviation"] is None else f" +- {100 * value['deviation']:.2f}"
        return f"{100 * value['mean']:6.2f}{deviation} %"
    return f"{value:.6g}" if key == "threshold" else f"{100 * value:6.2f} %"


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m evaluators.score_files"))
