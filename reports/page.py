"""One self-contained web page out of run folders: no network, no script, light and dark, screen and paper."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from searchspaces.errors import FacenasError, RunFolderError
from searchspaces.files import write_text

from . import beside_paper, comparison, configurations, numbers, rivals, tables
from .branches import has_branches
from .choices import choices_figure, is_by_choice
from .configurations import configurations_figure
from .curves import is_random_search, is_sampled, search_figure, training_figure
from .distribution import distribution_figure
from .drawing import architecture_figure
from .figures import fix_layout, inline_svg, save_figure
from .numbers import MISSING, entry, number, percent, plain
from .rivals import rival_figure
from .run import RIVALS, Run
from .scores import scores_figure
from .shares import shares_figure
from .stages import has_stages


@dataclass(frozen=True)
class Picture:
    """A figure on the page; ``file`` is its PNG beside the page."""

    svg: Markup
    caption: str
    file: str


@dataclass
class RunView:
    """What the template shows of a run."""

    run: Run
    anchor: str
    pictures: dict[str, Picture] = field(default_factory=dict)
    baseline: RunView | None = None
    verdict: comparison.Verdict | None = None

    def missing(self, file: str, key: str | None = None) -> str:
        """Why there is nothing to show from a file."""
        problem = self.run.problem(file)
        return str(problem) if problem else f"{file} holds no {key or 'rows that can be shown'}."


def write_report(run_paths: Sequence[str | Path], out: str | Path) -> Path:
    """Writes the page of one or several runs, and its figures as PNG files beside it.

    Args:
        run_paths: run folders.
        out: the HTML file.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: if a path is no run folder or the page cannot be written.
    """
    if not run_paths:
        raise RunFolderError("A report needs at least one run folder.")
    out = Path(out)
    if out.is_dir():
        raise RunFolderError(f"Cannot write {out}: it is a folder. Name a file, for example {out / 'report.html'}.")
    runs = [Run(path).read_all() for path in run_paths]
    views = [_view(run, out.parent, prefix) for run, prefix in zip(runs, _prefixes(runs), strict=True)]
    return write_text(out, render(views))


def render(views: Sequence[RunView]) -> str:
    """The page as text; every value is escaped by the template engine."""
    style = Markup((Path(__file__).parent / "page.css").read_text(encoding="utf-8"))
    title = " and ".join(view.run.name for view in views[:3]) + (" and others" if len(views) > 3 else "")
    helpers = {"tables": tables, "summary": summary, "guard": guard_sentence, "shortcut": shortcut_sentence}
    helpers |= {
        "commands": rebuild_commands,
        "entry": entry,
        "percent": percent,
        "number": number,
        "random": is_random_search,
        "sampled": is_sampled,
        "configurations": configurations,
        "beside_paper": beside_paper,
        "rivals": rivals,
        "rival_folders": RIVALS,
        "sampling": sampling_sentence,
        "undecided": undecided_sentence,
        "teacher_rows": teacher_rows,
    }
    return _template().render(views=views, title=title, style=style, **helpers)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, duration=numbers.duration)
    return environment.get_template("page.html")


# --- views -----------------------------------------------------------------------------------------------------------


def _prefixes(runs: Sequence[Run]) -> list[str]:
    """What tells the figures of several runs apart: nothing for one run, else number and name."""
    if len(runs) == 1:
        return [""]
    return [
        f"{i}-{re.sub(r'[^A-Za-z0-9]+', '-', run.name).strip('-') or 'run'}-" for i, run in enumerate(runs, start=1)
    ]


ALL_FIGURES = ("cells", "configurations", "rivals", "scores", "search", "distribution", "training")
BASELINE_FIGURES = ("cells", "search")


def _view(run: Run, folder: Path, prefix: str, wanted: Sequence[str] | None = None) -> RunView:
    view = RunView(run, anchor=f"run-{prefix}".rstrip("-"))
    for name in ALL_FIGURES if wanted is None else wanted:
        figure, caption = draw_figure(run, name)
        if figure is not None:
            file = save_figure(fix_layout(figure), folder / f"{prefix}{name}.png")
            view.pictures[name] = Picture(Markup(inline_svg(figure, f"{prefix}{name}", caption)), caption, file.name)
    if run.baseline is not None:
        run.baseline.read_all()
        run.baseline.problems[:] = [
            p for p in run.baseline.problems if p.file != "baseline"
        ]  # it needs none of its own
        view.baseline = _view(run.baseline, folder, f"{prefix}baseline-", BASELINE_FIGURES)
        view.verdict = comparison.compare_runs(run, run.baseline)
    if run.rivals:
        view.verdict = rivals.compare_rivals(run)
    return view


def draw_figure(run: Run, name: str) -> tuple[Figure | None, str]:
    """One of `ALL_FIGURES` with its caption; None if the run has nothing to draw it from."""
    if name == "cells":
        return _cells(run), _cells_caption(run)
    if name == "configurations":
        return configurations_figure(run.configurations), CONFIGURATIONS_CAPTION
    if name == "search":
        warned = [int(number(line.get("epoch")) or 0) for line in run.history if line.get("guard")]
        random = is_random_search(run.search)
        caption = "The candidates that were trained, one after the other." if random else "The search, epoch by epoch."
        if not is_sampled(run.search):
            return search_figure(run.search, warned, can_collapse=can_collapse(run)), caption
        reference = run.reference.training if run.reference and run.trained_once else None
        return search_figure(run.search, warned, reference), _sampled_caption(run)
    if name == "training":
        if run.trained_once and run.training.empty:
            figure = training_figure(run.reference.training) if run.reference else None
            return figure, "The training of the plain MobileNetV2, with the same recipe."
        beside = {name: rival.training for name, rival in run.rivals.items()}
        return training_figure(run.training, beside), _training_caption(run)
    if name == "rivals":
        return (rival_figure(run) if run.rivals else None), RIVALS_CAPTION
    if name == "scores":
        return scores_figure(run.scores, run.baseline.scores if run.baseline else None), SCORES_CAPTION
    choices = run.architecture.get("choices")
    choices = choices if isinstance(choices, Mapping) else {}
    if run.finds_faces:
        return shares_figure(run.history, choices), SHARES_CAPTION
    if is_by_choice(run.history, choices):
        return choices_figure(run.history, choices), CHOICES_CAPTION
    return (
        distribution_figure(run.history, choices),
        "Every edge that a cell could have: a panel's row is where the edge comes from, its column where it goes "
        "to. The height of a colour is the share of its operation at that epoch; framed edges were kept.",
    )


CONFIGURATIONS_CAPTION = (
    "Error against cost. Bars: 95 % interval of ACER over people, and the middle half of the times. The Pareto front "
    "(ringed) joins measured values: where intervals overlap, another test set could give another front."
)


RIVALS_CAPTION = (
    "AP against time. The Pareto front (ringed) joins measured values: where intervals overlap, another test set could "
    "give another front."
)
SHARES_CAPTION = (
    "How the search decided. The height of a colour is the share of its operation, or of its path or parent, at that "
    "epoch; a panel's title says what was kept."
)


CHOICES_CAPTION = (
    "How the search decided. The height of a colour is the share of its candidate at that epoch; a panel's title says "
    "what was kept."
)
SCORES_CAPTION = (
    "The scores of the test split. Right: a threshold is a point of the curve; near the lower left corner both errors "
    "are rare. A rate below one over the number of pairs cannot be told."
)


def can_collapse(run: Run) -> bool:
    """Whether operations compete of which one is a skip connection."""
    choices = run.architecture.get("choices")
    return not (run.finds_faces or is_by_choice(run.history, choices if isinstance(choices, Mapping) else {}))


def _cells_caption(run: Run) -> str:
    if run.graph is not None and has_stages(run.graph):
        return "The network that was found, from input to output; a box is as wide as the logarithm of its channels."
    if run.finds_faces:
        return "The feature enhancement that was found: its pyramid, its trees, or both."
    if run.graph is not None and has_branches(run.graph):
        return "The configuration that was selected, from input to output: branches that it does not run are dashed."
    return "The cells that were found, drawn from left to right."


def _sampled_caption(run: Run) -> str:
    validated = run.config.get("validated")
    judged = f" Validation is of {plain(validated)} after each epoch." if run.trained_once and validated else ""
    return f"The sampled training, epoch by epoch.{judged}"


def _training_caption(run: Run) -> str:
    losses = " Its training loss is of both shots, its validation loss of the second alone." if run.finds_faces else ""
    others = " The others were trained in the same way." if run.rivals else ""
    return f"The training of the final network.{losses}{others}"


def _cells(run: Run) -> Figure | None:
    try:
        return None if run.graph is None else architecture_figure(run.graph)
    except Exception as error:  # whatever goes wrong in a drawing costs the drawing, not the page
        reason = error if isinstance(error, FacenasError) else f"{type(error).__name__}: {error}"
        run.note("architecture.json", "damaged", f"cannot be drawn: {reason}")
        return None


# --- sentences -------------------------------------------------------------------------------------------------------


def summary(run: Run) -> list[tuple[str, str, str]]:
    """The figures at the top: name, value, conditions."""
    task, cost, count = run.task, run.cost, tables.parameters(run.cost)
    merit = run.metrics.get(task.headline)
    measured = tables.latencies(cost)
    speed = numbers.milliseconds(entry(measured[0], "median_ms")) if measured else MISSING
    how = f"median; {tables.conditions(measured[0])}; on {tables.device_name(cost)}" if measured else "not measured"
    noisy = ". Noisy: the machine was not idle" if measured and measured[0].get("noisy") else ""
    shape = run.cost.get("input")
    picture = f"one picture of {numbers.dimensions(shape)}" if shape else "one picture"
    interval = numbers.interval(merit)
    return [
        (
            task.label,
            percent(entry(merit, "value")),
            interval if interval == "no interval" else f"95 % interval {interval}",
        ),
        ("Parameters", numbers.scaled(count), f"{numbers.exact(count)} exactly" if count else "not counted"),
        ("MACs", numbers.scaled(entry(cost, "operations", "mac")), f"convolutions and linear layers, {picture}"),
        ("Time", speed, how + noisy),
    ]


def guard_sentence(run: Run) -> tuple[str, str] | None:
    """The verdict of the guard against collapse: its code, and what it means."""
    verdict, reason = entry(run.provenance, "guard", "verdict"), entry(run.provenance, "guard", "reason")
    meaning = {
        "healthy": "The guard against collapse saw nothing wrong.",
        "warned": "The guard against collapse warned: look at the curves before you trust this architecture.",
        "stopped": "The guard against collapse stopped the search: the architecture is that of the last healthy epoch.",
    }
    # nothing can collapse where no operations compete, or none of them is a skip connection
    if verdict is None or (verdict == "healthy" and (run.trained_once or not can_collapse(run))):
        return None
    return str(verdict), meaning.get(str(verdict), f"The guard says {plain(verdict)}.") + (
        f" {reason}" if reason else ""
    )


UNDECIDED = 0.9  # normalised entropy at the end of a search
SAMPLED = {
    "edges": "where a node's input comes from was sampled at every step; all operations of that edge ran, mixed",
    "operations": "of every edge that ran one operation was sampled at every step, and no other one ran",
    "both": "where a node's input comes from was sampled at every step, and one operation of that edge",
    "branches": "of every block one mode was sampled at every step",
    "sizes": "of every choice one candidate was sampled at every step, and nothing beyond that size ran",
}


def sampling_sentence(run: Run) -> str | None:
    """What a search of sampled single paths has sampled."""
    sampled = entry(run.architecture, "found_by", "sampled") or run.provenance.get("sampled")
    if sampled is None:
        return None
    kinds = str(sampled).split(" and ")  # a pyramid's operations and a tree's edges
    told = "; ".join(f"{kind}: {SAMPLED[kind]}" if kind in SAMPLED else kind for kind in kinds)
    return f"Single path. Sampled were {told}."


def undecided_sentence(run: Run) -> str | None:
    """Said of a detector whose operations had nearly equal shares to the end: what was kept leads by little."""
    shares = run.search.get("entropy")
    last = None if shares is None or shares.dropna().empty else float(shares.dropna().iloc[-1])
    if not run.finds_faces or last is None or last < UNDECIDED:
        return None
    return (
        f"The search has hardly decided: the entropy of its operations ends at {percent(last)} of that of equal "
        "shares. What was kept leads by little, and another seed may keep something else."
    )


def shortcut_sentence(run: Run) -> str | None:
    """Whether the network beats what global colour and sharpness alone reach."""
    pixels = number(entry(run.data, "pixels", "eer"))
    if pixels is not None:
        return _against("raw pixels, compared as embeddings are, reach EER", pixels, run.metrics.get("eer"))
    bar = number(entry(run.data, "shortcut", "acer"))
    if bar is None:
        return None
    metric = run.metrics.get("acer")
    value, high = number(entry(metric, "value")), number(entry(metric, "high"))
    text = f"The bar to beat: a logistic regression on global colour and sharpness reaches ACER {percent(bar)}"
    auc = number(entry(run.data, "shortcut", "auc"))
    text += f" (AUC {auc:.3f})" if auc is not None else ""
    if value is None:
        return text + "."
    if high is not None and high < bar:
        return f"{text}; the network's {percent(value)} and its whole interval lie below that."
    if value < bar:
        return f"{text}; the network's {percent(value)} is lower, but its interval reaches the bar."
    return f"{text}; the network's {percent(value)} does not beat it: it may have learned no more than that."


def _against(what: str, bar: float, metric: Any) -> str:
    """Whether an error rate and its whole interval lie below a bar."""
    text, value, high = (
        f"The bar to beat: {what} {percent(bar)}",
        number(entry(metric, "value")),
        number(entry(metric, "high")),
    )
    if value is None:
        return text + "."
    if value >= bar:
        return f"{text}; the network's {percent(value)} does not beat it."
    whole = " and its whole interval lie" if high is not None and high < bar else " lies"
    return f"{text}; the network's {percent(value)}{whole} below that" + (
        "." if "whole" in whole else ", its interval not."
    )


def teacher_rows(run: Run) -> list[tables.Row]:
    """The network beside its teacher: its task's metrics, then parameters."""
    taught = run.teacher.get("metrics")
    metrics = taught if isinstance(taught, Mapping) else {}
    keys = run.task.comparable(metrics)
    rows = [
        tables.Row(
            run.task.describe(key)[0],
            tuple(tables.metric_with_interval(side.get(key), run.task) for side in (run.metrics, metrics)),
        )
        for key in keys
        if key in metrics
    ]
    counts = tables.parameters(run.cost), number(run.teacher.get("parameters"))
    return [*rows, tables.Row("Parameters", tuple(numbers.exact(count) if count else MISSING for count in counts))]


def rebuild_commands(run: Run) -> list[tuple[str, str]]:
    """What to type to make each part of the run again."""
    folder = str(run.path)
    strategy, once = str(run.config.get("strategy", "")), run.trained_once
    config, architecture = shlex.quote(f"{folder}/config.yaml"), shlex.quote(f"{folder}/architecture.json")
    lines = []
    if re.fullmatch(r"\w+", strategy):
        again = shlex.quote(f"{folder}-again")
        lines.append(
            (
                "sampled training, judging, measuring and report" if once else "search, training, measuring and report",
                f"python -m strategies.{strategy} --config {config} --out {again}",
            )
        )
    data, recipe = run.config.get("data"), run.config.get("recipe")
    options = "".join(f" --{k} {shlex.quote(v)}" for k, v in (("data", data), ("recipe", recipe)) if isinstance(v, str))
    alone = "the selected configuration from scratch, by itself" if once else "training of the network alone"
    lines.append((alone, f"python -m evaluators.train {architecture}{options}"))
    if run.finds_faces:
        weights = shlex.quote(f"{folder}/weights.safetensors")
        lines.append(("faces in your pictures", f"python -m evaluators.detect {shlex.quote(folder)} {weights} *.jpg"))
    lines.append(("counts", f"python -m hardware.profile {architecture}"))
    lines.append(("time on your device", f"python -m hardware.measure {architecture}"))
    lines.append(("this page", f"python -m reports {shlex.quote(folder)}"))
    return lines
