"""Run: a run folder, read. Anything but the folder and its config.yaml may be missing or damaged."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd

from searchspaces.errors import FacenasError, RunFolderError
from searchspaces.files import read_json
from searchspaces.folder import check_finished
from searchspaces.yaml_files import read_yaml

from .numbers import plain
from .path_weights import add_path_weights
from .task_metrics import ANTISPOOFING, DETECTION, TASKS, TaskMetrics, task_name, task_of

# What the report lacks without a file.
PURPOSE = {
    "config.yaml": "the options of the run",
    "search.csv": "the course of the search",
    "architecture.json": "the network that was found",
    "architectures.jsonl": "how the search moved between operations",
    "metrics.json": TASKS[ANTISPOOFING].purpose,
    "training.csv": "the training of the final network",
    "cost.json": "what the network costs",
    "data.json": "what the data are, and whether they are simulated",
    "provenance.json": "versions, device, durations, and the choices that the paper leaves open",
    "baseline": "random search with the same budget, to compare with",
    "configurations.json": "what each configuration of the network reaches and costs",
}
# What a run may have, and lacks nothing without.
OPTIONAL = {
    "scores.json": "how the scores of both sides lie",
    "teacher.json": "what taught the network",
    "measurements.csv": "times on more devices",
}
# Space and strategy whose training gives the network itself: nothing is searched, so nothing is trained anew either.
TRAINED_ONCE = {("pta", "single_path")}
NOT_OF_TRAINED_ONCE = ("training.csv", "architectures.jsonl", "baseline")
MEASUREMENTS = "measurements.csv"
FORMAT = 1  # of the files that name theirs
REFERENCE = "mobilenet_v2"  # folder of the plain network that was trained beside it
# Folders of the detectors that were trained as the found one was, and what the report lacks without them.
RIVALS = {
    "random": "the same detector with a random AutoFEM, to compare with",
    "without": "the same detector without AutoFEM, to compare with",
}


@dataclass(frozen=True)
class Problem:
    """Something that a run folder lacks (``missing``) or holds but cannot be read (``damaged``)."""

    file: str
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.file} {self.text}"


class Run:
    """A run folder. Files are read when they are first asked for; what goes wrong is listed in ``problems``.

    Args:
        path: the folder.

    Raises:
        RunFolderError: if there is no such folder or it holds no config.yaml.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.problems: list[Problem] = []
        check_finished(self.path)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every option, nested ones as ``outer.inner``; ``strategy`` is the command's, from the provenance."""
        options = flatten(self._read("config.yaml", _load_yaml) or {})
        strategy = self.provenance.get("strategy")
        return options if "strategy" in options or strategy is None else {"strategy": str(strategy), **options}

    @cached_property
    def search(self) -> pd.DataFrame:
        """A row an epoch, or a row a candidate for random search; empty if there is none."""
        return self._table("search.csv")

    @cached_property
    def training(self) -> pd.DataFrame:
        """The training of the final network, a row an epoch; empty if there is none."""
        return self._table("training.csv")

    @cached_property
    def architecture(self) -> dict[str, Any]:
        """The content of architecture.json; empty if there is none."""
        return self._object("architecture.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Metrics by name, each with value, low and high; empty if there are none."""
        metrics = self._object("metrics.json")
        wrong = [name for name, entry in metrics.items() if not isinstance(entry, Mapping)]
        if wrong:
            self.note("metrics.json", "damaged", f"has entries without a value: {', '.join(map(str, wrong))}.")
        return {str(name): entry for name, entry in metrics.items() if name not in wrong}

    @property
    def task(self) -> TaskMetrics:
        """How this run's metrics are read."""
        return task_of(self.metrics, self.provenance.get("task"))

    @property
    def finds_faces(self) -> bool:
        """Whether the run is of a detector."""
        return task_name(self.metrics, self.provenance.get("task")) == DETECTION

    @cached_property
    def cost(self) -> dict[str, Any]:
        """Parameters, operations, memory and latency; empty if there is none."""
        return self._object("cost.json")

    @cached_property
    def measurements(self) -> list[dict[str, str]]:
        """The lines of measurements.csv (``python -m hardware.measure RUN --csv RUN/measurements.csv``)."""
        exists = (self.path / MEASUREMENTS).exists()
        return (self._read(MEASUREMENTS, _load_csv) or []) if exists else []

    @property
    def own_measurements(self) -> list[dict[str, str]]:
        """Those of the `measurements` that are of the run's own architecture."""
        return [line for line in self.measurements if _choices(line) == self.architecture.get("choices")]

    @cached_property
    def data(self) -> dict[str, Any]:
        """The card of the data set; empty if there is none."""
        return self._object("data.json")

    @cached_property
    def scores(self) -> dict[str, Any]:
        """How the scores of both sides lie; empty if the run has not said."""
        return self._optional("scores.json")

    @cached_property
    def teacher(self) -> dict[str, Any]:
        """What taught the network, and its metrics; empty without one."""
        return self._optional("teacher.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Versions, device, durations, guard and deviations; empty if there is none."""
        return self._object("provenance.json")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of architectures.jsonl that can be read."""
        return self._read("architectures.jsonl", self._load_lines) or []

    @cached_property
    def configurations(self) -> dict[str, Any]:
        """What each configuration of a network with branches reaches and costs; empty if there is none."""
        if not self.trained_once and not (self.path / "configurations.json").exists():
            return {}
        found, seconds = self._object("configurations.json"), self.provenance.get("seconds")
        if found and "seconds" not in found and isinstance(seconds, Mapping):
            found["seconds"] = {"train": seconds.get("search")}  # a training of sampled paths is the run's search
        return found

    @property
    def trained_once(self) -> bool:
        """Whether the training that is sampled is the only one, so that there is no search to compare."""
        return (str(self.config.get("space")), str(self.config.get("strategy"))) in TRAINED_ONCE

    @cached_property
    def reference(self) -> Run | None:
        """The plain network that was trained beside this one, or None."""
        folder = self.path / REFERENCE
        return Run(folder) if (folder / "config.yaml").is_file() else None

    @cached_property
    def graph(self) -> nx.MultiDiGraph | None:
        """The found architecture as a graph to draw, or None."""
        if not self.architecture:
            return None
        try:
            from searchspaces import Architecture  # here, because this is the one step that needs torch

            graph = Architecture.load(self.path / "architecture.json").graph()
            add_path_weights(graph, self)
            return graph
        except (FacenasError, ImportError, AttributeError) as error:
            self.note("architecture.json", "damaged", f"cannot be drawn: {error}")
            return None

    @cached_property
    def baseline(self) -> Run | None:
        """Random search with the same budget, or None; a detector has `rivals` in its place."""
        return None if self._needs_no("baseline") or self.finds_faces else self._inner_run("baseline")

    @cached_property
    def rivals(self) -> dict[str, Run]:
        """The detectors that were trained as the found one was, by folder (`RIVALS`); empty for other tasks."""
        found = {name: self._inner_run(name) for name in RIVALS} if self.finds_faces else {}
        return {name: run for name, run in found.items() if run is not None}

    @property
    def simulated(self) -> bool | None:
        """Whether the data are simulated; None if the folder does not say."""
        value = self.data.get("simulated")
        return value if isinstance(value, bool) else None

    def problem(self, file: str) -> Problem | None:
        """The first problem with a file."""
        return next((problem for problem in self.problems if problem.file == file), None)

    def read_all(self) -> Run:
        """Reads every file, so that ``problems`` is complete."""
        parts = "config search training architecture metrics cost data provenance history configurations scores teacher"
        for part in [*parts.split(), "measurements"]:
            getattr(self, part)
        _ = self.graph, self.baseline, self.rivals
        return self

    # --- reading -----------------------------------------------------------------------------------------------------

    def note(self, file: str, kind: str, text: str) -> None:
        """Adds a problem."""
        self.problems.append(Problem(file, kind, text))

    def _inner_run(self, name: str) -> Run | None:
        """A run in a folder of this one."""
        folder = self.path / name
        if not folder.is_dir():
            self.note(name, "missing", f"is missing: the report lacks {RIVALS.get(name) or PURPOSE[name]}.")
            return None
        try:
            return Run(folder)
        except RunFolderError as error:
            self.note(name, "damaged", f"cannot be read: {error}")
            return None

    def _purpose(self, file: str) -> str:
        """What the report lacks without a file. The task is asked of the provenance: the metrics may be what lacks."""
        return (
            task_of({}, self.provenance.get("task")).purpose
            if file == "metrics.json"
            else {**PURPOSE, **OPTIONAL}[file]
        )

    def _needs_no(self, file: str) -> bool:
        return file in NOT_OF_TRAINED_ONCE and self.trained_once and not (self.path / file).exists()

    def _read(self, file: str, load: Callable[[Path], Any]) -> Any:
        path = self.path / file
        if file in NOT_OF_TRAINED_ONCE and self._needs_no(file):
            return None
        if not path.exists():
            self.note(file, "missing", f"is missing: the report lacks {self._purpose(file)}.")
            return None
        try:
            return load(path)
        except (OSError, ValueError, RecursionError, FacenasError) as error:
            reason = " ".join(str(error).split())[:300]
            self.note(file, "damaged", f"cannot be read ({reason}); the report lacks {self._purpose(file)}.")
            return None

    def _object(self, file: str) -> dict[str, Any]:
        value: dict[str, Any] = self._read(file, _load_object) or {}
        if value and value.get("format", FORMAT) != FORMAT:
            told = f"is of format {plain(value['format'])}, but this version reads format {FORMAT}"
            self.note(file, "damaged", f"{told}: what it says may be missing or wrong here.")
        return value

    def _optional(self, file: str) -> dict[str, Any]:
        return self._object(file) if (self.path / file).exists() else {}

    def _table(self, file: str) -> pd.DataFrame:
        table = self._read(file, pd.read_csv)
        if table is None:
            return pd.DataFrame()
        try:
            numbers = table.apply(pd.to_numeric, errors="coerce").dropna(axis="columns", how="all")
        except OverflowError:  # a number of hundreds of digits
            self.note(file, "damaged", f"holds a number that is too large; the report lacks {self._purpose(file)}.")
            return pd.DataFrame()
        lost = int((numbers.isna() & table[numbers.columns].notna()).to_numpy().sum())
        if lost:
            self.note(file, "damaged", f"has {lost} of {table.size} entries that are not numbers; they are left out.")
        return numbers.replace([math.inf, -math.inf], math.nan)

    def _load_lines(self, path: Path) -> list[dict[str, Any]]:
        """JSON lines; a damaged line (the last one, after a crash) costs only itself."""
        lines, damaged = [], []
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                line = None
            if isinstance(line, dict):
                lines.append(line)
            else:
                damaged.append(str(number))
        if damaged:
            self.note(path.name, "damaged", f"cannot be read in line {', '.join(damaged[:10])}, which is left out.")
        return lines


def _choices(line: Mapping[str, str]) -> Any:
    try:
        told = json.loads(line.get("architecture") or "")
    except (ValueError, RecursionError):
        return None  # a line of another kind
    return told.get("choices") if isinstance(told, dict) else None


def _load_yaml(path: Path) -> dict[str, Any]:
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ValueError("not a mapping of options")
    return value


def _load_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{str(key): value or "" for key, value in row.items()} for row in csv.DictReader(file)]


def _load_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def flatten(options: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as one level: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
