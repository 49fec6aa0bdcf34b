"""Every architecture that runs tell of, a typed row each: found ones, what was trained beside them, configurations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .comparison import spent
from .configurations import reference_of, rows_of
from .numbers import entry, number, plain
from .rivals import NAMES
from .run import Run
from .tables import conditions, device_name, latencies, parameters
from .task_metrics import task_name

Kind = Literal["found", "random", "reference", "configuration"]


@dataclass(frozen=True)
class Time:
    """Milliseconds of one picture on one device: the median, and the ends of the middle half of the repetitions."""

    ms: float
    low: float
    high: float
    noisy: bool = False


@dataclass(frozen=True)
class Row:
    """An architecture.

    Attributes:
        index: position of its run among the runs.
        run: name of the run.
        what: which of the run's architectures it is, in words.
        kind: ``found`` by the search (or selected), ``random`` (its baseline), ``reference`` (trained beside it), or
            one more ``configuration`` of a network that has several.
        space: name of the space, ``strategy`` how it was chosen, ``data`` what it was trained and judged on.
        task: antispoofing, recognition or detection.
        test_set: the data with the size of the test split: only errors on equal ones are compared.
        metric: key of the figure that decides, such as ``acer``; ``label`` its short name.
        higher: whether more of it is better.
        value: of the figure, a fraction; ``low`` and ``high`` its 95 % interval. None where it is not known.
        parameters: on the path that is executed.
        macs: multiply-accumulates of one picture.
        times: device with runtime and conditions -> milliseconds of one picture.
        size_bytes: of the exported file, else of the weights in float32.
        search_seconds: duration of the search, which for a network that is trained once is its training.
        simulated: whether the data are simulated; None if that is not said.
    """

    index: int
    run: str
    what: str
    kind: Kind
    space: str
    strategy: str
    data: str
    task: str
    test_set: str
    metric: str
    label: str
    higher: bool
    value: float | None = None
    low: float | None = None
    high: float | None = None
    parameters: float | None = None
    macs: float | None = None
    times: Mapping[str, Time] = field(default_factory=dict, hash=False)
    size_bytes: float | None = None
    search_seconds: float | None = None
    simulated: bool | None = None

    @property
    def name(self) -> str:
        """What tells it apart from all others of these runs."""
        return self.run if self.kind == "found" else f"{self.run}: {self.what}"


def rows(runs: Iterable[Run]) -> list[Row]:
    """The architectures of runs, in their order; a run's found one is the first of it."""
    return [row for index, run in enumerate(runs) for row in _rows_of_run(index, run)]


def _rows_of_run(index: int, run: Run) -> Iterator[Row]:
    shared = _shared(index, run)
    if rows_of(run.configurations):
        yield from _configurations(run, shared)
    else:
        yield Row(**shared, **_figures(run), what="found", kind="found")
    if run.baseline is not None:
        yield _beside(run.baseline, shared, "random search", "random", "random_search")
    for name, rival in run.rivals.items():
        strategy = "random" if name == "random" else "none"
        yield _beside(rival, shared, NAMES[name], "random" if name == "random" else "reference", strategy)
    if run.teacher:
        merit = entry(run.teacher, "metrics", run.task.headline)
        values: dict[str, Any] = {**_merit(merit), "parameters": number(run.teacher.get("parameters"))}
        what = f"its teacher, {plain(run.teacher.get('name'))}"
        yield Row(**{**shared, "search_seconds": None, "strategy": "none"}, **values, what=what, kind="reference")


def _shared(index: int, run: Run) -> dict[str, Any]:
    """What all architectures of a run have in common."""
    task, config = run.task, run.config
    return {
        "index": index,
        "run": run.name,
        "space": plain(config.get("space")),
        "strategy": plain(config.get("strategy")),
        "data": plain(config.get("data") or run.data.get("name")),
        "task": task_name(run.metrics, run.provenance.get("task")),
        "test_set": judged_on(run),
        "metric": task.headline,
        "label": task.label,
        "higher": task.higher,
        "search_seconds": spent(run)[1],
        "simulated": run.simulated,
    }


def judged_on(run: Run) -> str:
    """The data that a run was judged on, with what it holds of each kind: ``portraits (people: 40, live: 40)``."""
    name = plain(run.data.get("name") or run.config.get("data"))
    counts = entry(run.data, "splits", "test")
    protocol = {key: value for key in ("protocol", "fold", "test_data") if (value := run.config.get(key)) is not None}
    told = {**(counts if isinstance(counts, Mapping) else {}), **protocol}
    return f"{name} ({plain(told)})" if told else name


def _beside(run: Run, shared: Mapping[str, Any], what: str, kind: Kind, strategy: str) -> Row:
    """An architecture in a folder of the run's own, judged on what that folder says."""
    own = {"strategy": strategy, "search_seconds": spent(run)[1]}
    if run.data:
        own |= {"test_set": judged_on(run), "simulated": run.simulated}
    return Row(**{**shared, **own}, **_figures(run), what=what, kind=kind)


def _figures(run: Run) -> dict[str, Any]:
    """Quality and costs of the network of a run folder."""
    cost = run.cost
    exported, weights = number(entry(cost, "export", "onnx_bytes")), number(entry(cost, "weight_bytes", "float32"))
    return {
        **_merit(run.metrics.get(run.task.headline)),
        "parameters": parameters(cost),
        "macs": number(entry(cost, "operations", "mac")),
        "times": {**_times(latencies(cost), device_name(cost)), **_more_times(run)},
        "size_bytes": weights if exported is None else exported,
    }


def _merit(metric: Any) -> dict[str, float | None]:
    return {key: number(entry(metric, key)) for key in ("value", "low", "high")}


def _times(measured: Sequence[Mapping[str, Any]], device: str) -> dict[str, Time]:
    found = {}
    for latency in measured:
        median, low, high = (number(latency.get(key)) for key in ("median_ms", "p25_ms", "p75_ms"))
        if median is not None:
            ends = (median if low is None else low, median if high is None else high)
            found[f"{device}: {conditions(latency)}"] = Time(median, *ends, latency.get("noisy") is True)
    return found


def _more_times(run: Run) -> dict[str, Time]:
    """What was measured of the run's architecture on other devices and in other runtimes (measurements.csv)."""
    found = {}
    for line in run.own_measurements:
        try:
            median, low, high = (float(line[key]) for key in ("latency_ms", "p25_ms", "p75_ms"))
            how = {**line, "threads": int(line["threads"])}
        except (KeyError, ValueError, TypeError):
            continue  # a line of another kind
        if all(map(math.isfinite, (median, low, high))):
            found[f"{line.get('device')}: {conditions(how)}"] = Time(median, low, high, line.get("noisy") == "true")
    return found


def _configurations(run: Run, shared: Mapping[str, Any]) -> Iterator[Row]:
    """Each configuration, the selected one first and as the found one; then the plain network."""
    found = run.configurations
    device, selected = device_name(found), found.get("selected")
    named = sorted(rows_of(found), key=lambda row: row["configuration"] != selected)
    for row in named:
        what = f"configuration {row['configuration']}"
        if row["configuration"] == selected:
            figures = {key: value for key, value in _figures(run).items() if value not in (None, {})}
            own = {key: value for key, value in _counted(row, device).items() if value not in (None, {})}
            times = {
                **figures.get("times", {}),
                **own.get("times", {}),
            }  # its own were measured in turn with the others
            yield Row(**shared, **{**figures, **own, "times": times}, what=f"{what}, selected", kind="found")
        else:
            yield Row(**shared, **_counted(row, device), what=what, kind="configuration")
    if not any(row["configuration"] == selected for row in named):
        yield Row(**shared, **_figures(run), what="selected", kind="found")
    reference = reference_of(found)
    if reference is not None:
        own = {**shared, "strategy": "none", "search_seconds": number(reference.get("seconds"))}
        what = f"{plain(reference.get('name') or 'MobileNetV2')}, trained by itself"
        yield Row(**own, **_counted(reference, device), what=what, kind="reference")


def _counted(row: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Quality and costs as configurations.json holds them; it says of no file how large it is."""
    latency = row.get("latency")
    return {
        **_merit(entry(row, "metrics", "acer")),
        "parameters": number(row.get("parameters")),
        "macs": number(row.get("mac")),
        "times": _times([latency], device) if isinstance(latency, Mapping) else {},
    }
