"""What a run folder tells while a process works in it: the stage, the epochs so far, the genotype, the time left."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from searchspaces.errors import FacenasError
from searchspaces.folder import CONFIG, check_finished, check_run, is_held
from searchspaces.yaml_files import plain_value

from .numbers import entry, number
from .run import TRAINED_ONCE
from .task_metrics import DETECTION

Row = Mapping[str, float]
RECENT = 5  # epochs that an estimate comes from


@dataclass(frozen=True)
class Stage:
    """A part of a run's work.

    Attributes:
        title: what people call it.
        done: the file that is there when it is over.
        table: the file that gets a row an epoch, "" without one.
        total: the option that says how many epochs there will be.
        history: the file that gets the architecture of every epoch, "" without one.
    """

    title: str
    done: str
    table: str = ""
    total: str = ""
    history: str = ""

    @property
    def folder(self) -> str:
        """Where its files lie, below the run's folder."""
        return self.done.rpartition("/")[0]


DATA, REPORT = Stage("data", "data.json"), Stage("report", "report.html")
SEARCH = Stage("search", "architecture.json", "search.csv", "search_epochs", "architectures.jsonl")
TRAINING = Stage("training", "metrics.json", "training.csv", "train_epochs")
MEASURING = Stage("measuring", "cost.json")
BASELINE = (
    Stage(
        "baseline: search",
        "baseline/architecture.json",
        "baseline/search.csv",
        "max_candidates",
        "baseline/architectures.jsonl",
    ),
    Stage("baseline: training", "baseline/metrics.json", "baseline/training.csv", "train_epochs"),
    Stage("baseline: measuring", "baseline/cost.json"),
)
RIVALS = (
    Stage("random AutoFEM", "random/cost.json", "random/training.csv", "train_epochs"),
    Stage("without AutoFEM", "without/cost.json", "without/training.csv", "train_epochs"),
)
REFERENCE = Stage("MobileNetV2", "mobilenet_v2/metrics.json", "mobilenet_v2/training.csv", "search_epochs")
TRAINED_ALONE = (DATA, Stage("training", "metrics.json", "training.csv", "epochs"))
SAMPLED = (
    Stage("sampled training", "weights.safetensors", "search.csv", "search_epochs", "architectures.jsonl"),
    Stage("judging", "configurations.json"),
    MEASURING,
    Stage("exporting", "deploy/tiers.json"),
)


def stages_of(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> tuple[Stage, ...]:
    """The stages of a run in their order.

    Args:
        config: the content of config.yaml.
        provenance: that of provenance.json, which a search writes when its data are read; empty before.
    """
    if "architecture" in config and "search_epochs" not in config:
        return TRAINED_ALONE
    strategy, beside = provenance.get("strategy", config.get("strategy")), bool(config.get("baseline"))
    if (config.get("space"), strategy) in list(TRAINED_ONCE):
        return (DATA, *SAMPLED, *((REFERENCE,) if beside else ()), REPORT)
    if not beside or (strategy == "random_search" and provenance.get("task") != DETECTION):
        return (DATA, SEARCH, TRAINING, MEASURING, REPORT)
    others = RIVALS if provenance.get("task") == DETECTION else BASELINE
    return (DATA, SEARCH, TRAINING, MEASURING, *others, REPORT)


@dataclass(frozen=True)
class Genotype:
    """An architecture that a search has at the moment.

    Attributes:
        choices: choice by label.
        before: those of the epoch before, or of the best candidate before; empty if there is none.
        source: where they come from, in words.
    """

    choices: Mapping[str, Any]
    before: Mapping[str, Any]
    source: str

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """What is chosen otherwise than before: label -> before, now."""
        return {
            label: (self.before[label], choice)
            for label, choice in self.choices.items()
            if label in self.before and self.before[label] != choice
        }


@dataclass(frozen=True)
class Course:
    """What a stage has left so far.

    Attributes:
        stage: the stage.
        rows: a row an epoch or a candidate, at least one.
        total: how many there will be, None if that is not known.
        share: how much of its budget is spent, None if it has none.
        idle_s: seconds since the last row was written.
        lines: of the architectures.
    """

    stage: Stage
    rows: tuple[Row, ...]
    total: int | None = None
    share: float | None = None
    idle_s: float = 0.0
    lines: tuple[Mapping[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """What a row is of."""
        return "candidate" if "candidate" in self.rows[-1] else "epoch"

    @property
    def done(self) -> int:
        """How many epochs or candidates are finished."""
        return int(self.rows[-1][self.kind]) + 1

    @property
    def seconds_left(self) -> float | None:
        """An estimate of what the stage still takes: as its last epochs took; None if it cannot be told."""
        recent = [value for row in self.rows[-RECENT:] if math.isfinite(value := row.get("seconds", math.nan))]
        if not recent:
            return None
        each = statistics.median(recent)
        if self.total is not None:
            rest = float(self.total - self.done)
        elif self.share:
            rest = self.done * (1 / self.share - 1)
        else:
            return None
        return max(0.0, each * rest - min(self.idle_s, each)) if rest > 0 else 0.0

    @property
    def guard(self) -> tuple[int, str] | None:
        """The last epoch, from 1, at which the guard against collapse spoke, and what it said."""
        spoken = [(number(line.get("epoch")), line["guard"]) for line in self.lines if line.get("guard")]
        return next(((int(epoch) + 1, str(said)) for epoch, said in reversed(spoken) if epoch is not None), None)


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        path: the run's folder.
        status: ``waiting`` (nothing has begun there), ``running``, ``finished``, or ``left`` (nobody works on it).
        config, provenance, metrics: the content of these files.
        simulated: whether its data are.
        stages: of the run in their order, ``over`` the titles of those that are over.
        current: the stage that is worked on; None if all are over.
        courses: of all stages that have rows; `shown` is the one that matters now.
        genotype: at the moment, or None.
    """

    path: Path
    status: str
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False
    stages: tuple[Stage, ...] = ()
    over: tuple[str, ...] = ()
    current: Stage | None = None
    courses: tuple[Course, ...] = ()
    genotype: Genotype | None = None

    @property
    def shown(self) -> Course | None:
        """The latest course; of a finished run its own, as what was trained beside it is not its result."""
        own = [course for course in self.courses if self.current is not None or not course.stage.folder]
        return own[-1] if own else None


class Watched:
    """A run folder that another process writes: what cannot be read at a moment is as it was the moment before.

    Args:
        path: the folder; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[Any, Any]] = {}

    def look(self, now: float) -> Snapshot:
        """The run as it is.

        Args:
            now: the time, in seconds since the epoch.

        Raises:
            RunFolderError: if something is there that is no run folder.
        """
        held = is_held(self.path)  # asked first: if nobody holds it, what is read afterwards is the end
        if not self._exists(CONFIG):
            return self._unbegun(held)
        config, provenance = self._read(CONFIG, _mapping, {}), self._read("provenance.json", _object, {})
        stages = stages_of(config, provenance)
        open_stages = [stage for stage in stages if not self._exists(stage.done)]
        held = held or is_held(self.path)  # it may have begun in between
        status = "running" if held else "left" if open_stages else "finished"
        current = open_stages[0] if open_stages else None
        begun = stages if current is None else stages[: stages.index(current) + 1]
        courses = tuple(self._course(stage, now) for stage in begun if stage.table and self._rows(stage))
        seen = Snapshot(
            self.path,
            status,
            config,
            provenance,
            metrics=self._read("metrics.json", _object, {}),
            simulated=self._read("data.json", _object, {}).get("simulated") is True,
            stages=stages,
            over=tuple(stage.title for stage in stages if stage not in open_stages),
            current=current,
            courses=courses,
        )
        return replace(seen, genotype=self._genotype(seen.shown))

    def _unbegun(self, held: bool) -> Snapshot:
        """A folder without options: a run may begin there, or it is no run's."""
        if not held and self.path.exists():
            try:
                check_run(self.path, resume=False, overwrite=False)
            except FacenasError:
                check_finished(self.path)  # says what is wrong with it
        return Snapshot(self.path, "waiting")

    def _course(self, stage: Stage, now: float) -> Course:
        rows = self._rows(stage)
        options = self._read(f"{stage.folder}/{CONFIG}".lstrip("/"), _mapping, {})
        candidates = "candidate" in rows[-1]
        total = options.get("max_candidates" if candidates else stage.total)
        budget, spent = number(options.get("budget_macs")), number(rows[-1].get("macs_spent"))
        try:
            idle = max(0.0, now - (self.path / stage.table).stat().st_mtime)
        except OSError:
            idle = 0.0
        return Course(
            stage,
            rows,
            total=total if isinstance(total, int) else None,
            share=min(1.0, spent / budget) if candidates and budget and spent else None,
            idle_s=idle,
            lines=self._read(stage.history, _lines, ()) if stage.history else (),
        )

    def _genotype(self, course: Course | None) -> Genotype | None:
        """The architecture that a search is at, or that is trained."""
        if course is None:
            return None
        found, stage = genotype_of(course.lines), course.stage
        if found is not None:
            return found
        choices = entry(self._read(f"{stage.folder}/architecture.json".lstrip("/"), _object, {}), "choices")
        name = stage.title.partition(":")[0]
        source = f"of {name if name != 'baseline' else 'the baseline'}" if stage.folder else "of the result"
        return Genotype(choices, {}, source) if isinstance(choices, Mapping) and choices else None

    def _rows(self, stage: Stage) -> tuple[Row, ...]:
        rows: tuple[Row, ...] = self._read(stage.table, table_rows, ())
        return rows

    def _exists(self, file: str) -> bool:
        return (self.path / file).is_file()

    def _read(self, file: str, parse: Callable[[str], Any], default: Any) -> Any:
        path = self.path / file
        try:
            status = path.stat()
        except OSError:
            self._known.pop(file, None)
            return default
        stamp, known = (status.st_ino, status.st_mtime_ns, status.st_size), self._known.get(file)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            value = parse(path.read_text(encoding="utf-8"))
        except Exception:  # half a file can be anything, and PyYAML lets through what its constructors raise
            return known[1] if known is not None else default
        self._known[file] = (stamp, value)
        return value


def genotype_of(lines: Sequence[Mapping[str, Any]]) -> Genotype | None:
    """The architecture at the end of the lines of architectures.jsonl: of the last epoch, or of the best candidate."""
    named = [line for line in lines if isinstance(line.get("choices"), Mapping)]
    if not named:
        return None
    epoch = number(named[-1].get("epoch"))
    if epoch is not None:
        before = named[-2]["choices"] if len(named) > 1 else {}
        return Genotype(named[-1]["choices"], before, f"at epoch {int(epoch) + 1}")
    judged = [(number(entry(line, "metrics", "default")), line) for line in named]
    best: list[Mapping[str, Any]] = []  # each that was better than all before
    most = -math.inf
    for value, line in judged:
        if value is not None and value > most:
            most = value
            best.append(line)
    if not best:
        return None
    before = best[-2]["choices"] if len(best) > 1 else {}
    which = number(best[-1].get("candidate"))
    name = f", candidate {int(which) + 1}" if which is not None else ""
    return Genotype(best[-1]["choices"], before, f"of the best so far{name}")


# --- parsing ---------------------------------------------------------------------------------------------------------


def table_rows(text: str) -> tuple[Row, ...]:
    """The whole rows of a CSV file whose end may be missing; what is no number is NaN."""
    whole = text[: text.rfind("\n") + 1]
    rows = []
    for fields in csv.DictReader(io.StringIO(whole)):
        if None in fields or None in fields.values():  # more or less than the header names
            continue
        row = {str(name): _float(value) for name, value in fields.items()}
        if math.isfinite(row.get("epoch", row.get("candidate", math.nan))):
            rows.append(row)
    return tuple(rows)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _lines(text: str) -> tuple[dict[str, Any], ...]:
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return tuple(found)


def _mapping(text: str) -> dict[str, Any]:
    value = plain_value(text)
    if not isinstance(value, dict):
        raise ValueError("not a mapping of options")
    return value


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
