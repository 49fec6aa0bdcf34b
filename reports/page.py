"""One self-contained web page out of run folders: no network, light and dark, on screen and paper, script or not."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from searchspaces.errors import FacenasError, RunFolderError
from searchspaces.files import write_text

from . import beside_paper, comparison, configurations, layers, numbers, recommendation, rivals, sentences, tables
from . import waterfall_view as falls
from .compact_svg import StyleSheet, compact_svg
from .curves import is_random_search, is_sampled
from .evolution_of_search import Evolution, evolution, strip_svg
from .figures import fix_layout, save_figure
from .numbers import entry, number, percent, plain
from .overview import Row, rows
from .pareto_view import as_json, still_figure, view_data
from .pictures import ALL_FIGURES, BASELINE_FIGURES, draw_figure
from .run import RIVALS, Run
from .waterfall import Waterfall, waterfall

HERE = Path(__file__).parent
DRAWINGS = ("cells",)  # what has no axes that could cut something off
AS_STRIPS = "distribution"  # the page has strips in place of this figure
SCRIPTS = ("overview.js", "page.js")  # in this order
MANY = 20  # runs, from which on a page is kept small
MOST_LAYERS = 25  # of a run where there are many
MOST_EPOCHS = {False: 120, True: 24}  # columns of a strip: of few runs and of many
STEPS = {False: 200, True: 50}  # heights that a strip tells apart, likewise
LONGEST_NAME = 40  # characters of a run's name in an id or a file's name


@dataclass(frozen=True)
class Picture:
    """A figure on the page; ``file`` is its PNG beside the page, "" without one."""

    svg: Markup
    caption: str
    file: str = ""


@dataclass
class RunView:
    """What the template shows of a run."""

    run: Run
    anchor: str
    pictures: dict[str, Picture] = field(default_factory=dict)
    baseline: RunView | None = None
    verdict: comparison.Verdict | None = None
    evolution: Evolution | None = None
    waterfall: Waterfall | None = None

    def missing(self, file: str, key: str | None = None) -> str:
        """Why there is nothing to show from a file."""
        problem = self.run.problem(file)
        return str(problem) if problem else f"{file} holds no {key or 'rows that can be shown'}."

    @property
    def is_broken(self) -> bool:
        """Whether the run is shown in part only."""
        return state(self.run)[0] != "finished"

    @property
    def genotype(self) -> str:
        """The architecture as a file of its own that every command takes; "" if there is none."""
        kept = {key: value for key, value in self.run.architecture.items() if key != "found_by"}
        return json.dumps(kept) if "choices" in kept else ""


@dataclass(frozen=True)
class Unread:
    """A folder that holds no run that could be read."""

    name: str
    reason: str


@dataclass
class Page:
    """Everything that one page shows."""

    views: list[RunView] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    styles: StyleSheet = field(default_factory=StyleSheet)
    stills: dict[str, Markup] = field(default_factory=dict)

    @property
    def is_long(self) -> bool:
        """Whether there are many runs on it."""
        return len(self.views) > MANY

    @property
    def most_layers(self) -> int | None:
        """Rows of a run's table of layers; None for all."""
        return MOST_LAYERS if self.is_long else None

    @property
    def rows(self) -> list[Row]:
        """Every architecture of the runs."""
        return rows(view.run for view in self.views)


def write_report(run_paths: Sequence[str | Path], out: str | Path, pictures: bool | None = None) -> Path:
    """Writes the page of one or several runs.

    Args:
        run_paths: run folders. Of several, those that cannot be read are named on the page with the reason.
        out: the HTML file.
        pictures: also write the figures as PNG files beside it; by default of a single run only.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: if a path is not there, none is a run folder, or the page cannot be written.
    """
    if not run_paths:
        raise RunFolderError("A report needs at least one run folder.")
    out = Path(out)
    if out.is_dir():
        raise RunFolderError(f"Cannot write {out}: it is a folder. Name a file, for example {out / 'report.html'}.")
    folder = out.parent if (len(run_paths) == 1 if pictures is None else pictures) else None
    return write_text(out, render(build_page(run_paths, folder)))


def build_page(run_paths: Sequence[str | Path], folder: Path | None = None) -> Page:
    """Reads and draws the runs; one that cannot be read costs only itself, unless it is the only one.

    Args:
        run_paths: run folders.
        folder: where the figures go as PNG files; None writes none.
    """
    page = Page()
    many = len(run_paths) > MANY
    for path, prefix in zip(run_paths, prefixes(run_paths), strict=True):
        if not Path(path).is_dir():
            Run(path)  # says what is wrong: a folder that is not there was not meant
        try:
            page.views.append(_view(Run(path).read_all(), folder, prefix, page.styles, many))
        except FacenasError as error:
            if len(run_paths) == 1:
                raise
            page.unread.append(Unread(Path(path).resolve().name, str(error)))
        except Exception as error:  # no run is so damaged that it takes the others with it
            if len(run_paths) == 1:
                raise
            page.unread.append(Unread(Path(path).resolve().name, f"{type(error).__name__}: {error}"))
    if not page.views:
        raise RunFolderError(f"None of the folders is of a run that can be read. The first: {page.unread[0].reason}")
    for group in recommendation.groups(page.rows):
        page.stills[group.title] = _still(group, page.styles)
    return page


# --- views -----------------------------------------------------------------------------------------------------------


def prefixes(paths: Sequence[str | Path]) -> list[str]:
    """What tells the figures of several runs apart: nothing for one run, else number and name."""
    if len(paths) == 1:
        return [""]
    names = [re.sub(r"[^A-Za-z0-9]+", "-", Path(path).resolve().name)[:LONGEST_NAME].strip("-") for path in paths]
    return [f"{i}-{name or 'run'}-" for i, name in enumerate(names, start=1)]


def _view(run: Run, folder: Path | None, prefix: str, styles: StyleSheet | None = None, many: bool = False) -> RunView:
    """A run and what was trained beside it, drawn; with ``many`` on the page the baseline's search is left out."""
    styles = styles or StyleSheet()
    view = RunView(run, f"run-{prefix}".rstrip("-"), _pictures(run, ALL_FIGURES, folder, prefix, styles))
    view.evolution, view.waterfall = evolution(run, MOST_EPOCHS[many]), waterfall(run)
    if run.baseline is not None:
        beside = run.baseline.read_all()
        beside.problems[:] = [p for p in beside.problems if p.file != "baseline"]  # it needs none of its own
        prefix = f"{prefix}baseline-"
        wanted = DRAWINGS if many else BASELINE_FIGURES
        view.baseline = RunView(beside, f"run-{prefix}".rstrip("-"), _pictures(beside, wanted, folder, prefix, styles))
        view.verdict = comparison.compare_runs(run, beside)
    if run.rivals:
        view.verdict = rivals.compare_rivals(run)
    return view


def _pictures(
    run: Run, wanted: Sequence[str], folder: Path | None, prefix: str, styles: StyleSheet
) -> dict[str, Picture]:
    """Those of the wanted figures that the run has something for."""
    names = [name for name in wanted if name != AS_STRIPS or folder is not None]
    drawn = {name: _picture(run, name, folder, prefix, styles) for name in names}
    return {name: picture for name, picture in drawn.items() if picture is not None}


def _picture(run: Run, name: str, folder: Path | None, prefix: str, styles: StyleSheet) -> Picture | None:
    figure, caption = draw_figure(run, name)
    if figure is None:
        return None
    file = save_figure(fix_layout(figure), folder / f"{prefix}{name}.png").name if folder is not None else ""
    if name == AS_STRIPS:
        return Picture(Markup(""), caption, file)
    return Picture(compact_svg(figure, caption, styles, clip=name not in DRAWINGS), caption, file)


# --- the page as text ------------------------------------------------------------------------------------------------


def render(page: Page | Sequence[RunView]) -> str:
    """The page as text; every value is escaped by the template engine."""
    page = page if isinstance(page, Page) else Page(list(page))
    views = page.views
    title = " and ".join(view.run.name for view in views[:3]) + (" and others" if len(views) > 3 else "")
    made = page.rows
    groups = recommendation.groups(made)
    anchors = {row: _anchor(row, views[row.index]) for row in made}
    body = template("page_body.html").render(
        page=page,
        views=views,
        title=title,
        rows=made,
        groups=groups,
        anchors=anchors,
        stills=page.stills,
        data=as_json(view_data(groups, anchors)),
        colour=lambda value: page.styles.class_of(f"fill: {value}"),
        strip=lambda strip: strip_svg(strip, page.styles, STEPS[page.is_long]),
        fall=lambda found: falls.blocks(found, page.styles),
        **HELPERS,
    )
    style = Markup(f"{(HERE / 'page.css').read_text(encoding='utf-8')}\n{page.styles.text}")
    script = Markup("".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS))
    return template("page.html").render(
        title=title, body=Markup(body), style=style, script=script, policy=policy(style, script)
    )


def policy(style: str, script: str = "") -> Markup:
    """A page's content security policy: these two texts, by their hash, and nothing else."""
    scripts = f"script-src {_hash(script)}; " if script else ""
    return Markup(f"default-src 'none'; style-src {_hash(style)}; {scripts}base-uri 'none'; form-action 'none'")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _anchor(row: Row, view: RunView) -> str:
    """The part of the page that shows an architecture."""
    part = {"random": "-baseline", "configuration": "-configurations"}.get(row.kind, "")
    if row.kind == "reference":
        part = "-configurations" if view.run.configurations else "-baseline" if view.run.rivals else "-metrics"
    return view.anchor + part


def _still(group: recommendation.Group, styles: StyleSheet) -> Markup:
    figure = still_figure(group)
    return compact_svg(figure, f"{group.title} against cost", styles) if figure else Markup("")


@functools.cache
def template(name: str) -> Template:
    """A template of this folder; every value in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, duration=numbers.duration)
    return environment.get_template(name)


def state(run: Run) -> tuple[str, str]:
    """Whether a run can be shown whole: ``finished``, ``unfinished`` or ``damaged``, and why not."""
    damaged = [problem for problem in run.problems if problem.kind == "damaged"]
    if damaged:
        return "damaged", " ".join(map(str, damaged))
    lacking = [file for file in ("architecture.json", "metrics.json", "cost.json") if run.problem(file) is not None]
    if lacking:
        return "unfinished", f"{_listed(lacking)} {'is' if len(lacking) == 1 else 'are'} not there yet."
    return "finished", ""


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


HELPERS: Mapping[str, Any] = {
    "state": state,
    "tables": tables,
    "numbers": numbers,
    "layers": layers,
    "falls": falls,
    "recommendation": recommendation,
    "summary": sentences.summary,
    "guard": sentences.guard_sentence,
    "shortcut": sentences.shortcut_sentence,
    "commands": sentences.rebuild_commands,
    "entry": entry,
    "percent": percent,
    "number": number,
    "random": is_random_search,
    "sampled": is_sampled,
    "configurations": configurations,
    "beside_paper": beside_paper,
    "rivals": rivals,
    "rival_folders": RIVALS,
    "sampling": sentences.sampling_sentence,
    "undecided": sentences.undecided_sentence,
    "teacher_rows": sentences.teacher_rows,
}
