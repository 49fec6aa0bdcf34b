"""Runs as Markdown with pictures, for a repository: what was found, what it costs, and the files to build it again."""

from __future__ import annotations

import io
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from PIL import Image

from searchspaces.errors import ConfigError, RunFolderError
from searchspaces.files import write_bytes, write_json, write_text
from searchspaces.folder import read_config

from . import comparison, configurations, numbers, rivals, sentences, tables
from .comparison import Verdict
from .export_tables import markdown
from .figures import figure_bytes
from .numbers import MISSING, entry, plain
from .overview import Row, rows
from .page import state
from .print_size import printed_figure
from .run import Run

FIGURES = ("cells", "configurations", "rivals", "search", "distribution")
PAGE = "README.md"
WIDTH = 120  # characters of a line of text
LARGEST_PICTURE = 150_000  # bytes: a distribution over hundreds of panels is for the report, not for a repository
OF_THIS_MACHINE = ("out", "threads", "workers", "accelerator", "devices")  # options that another reader does not need
MOST_CONFIGURATIONS = 4
WHAT = (
    "Networks that facenas has found, one run each, from one seed: drawn, measured, and set beside what was trained in "
    "the same way without the search. Nothing here is edited by hand: `python -m reports gallery` writes it from run "
    "folders."
)
STRATEGIES = {
    "darts": "DARTS", "pc_darts": "PC-DARTS", "gumbel": "the Gumbel single path", "single_path": "sampled single paths",
    "evolution": "evolution", "random_search": "random search",
}  # fmt: skip


def write_gallery(run_paths: Sequence[Path], out: Path) -> list[Path]:
    """Write a page with a section a run, its pictures, and each run's architecture and options.

    Args:
        run_paths: folders of finished runs.
        out: the folder that the files go into; its page is README.md, which repositories show.

    Returns:
        The files, the page first.

    Raises:
        ConfigError: if two runs have the same name, which is that of their files.
        RunFolderError: if a run is unfinished or damaged, or nothing can be written.
    """
    runs = [Run(path).read_all() for path in run_paths]
    for run in runs:
        how, why = state(run)
        if how != "finished":
            raise RunFolderError(f"The run {run.path} is {how}: {why} A gallery shows finished runs.")
    names = [_file_name(run) for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two runs are called {name!r}. Their files would be too: rename a folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file. Name a folder.")
    files: list[Path] = []
    parts = [_introduction(runs, names)]
    for run, name in zip(runs, names, strict=True):
        pictures = dict(_pictures(run, name, out))
        files += [*pictures, write_json(out / f"{name}.json", run.architecture)]
        given = read_config(run.path)
        options = {k: v for k, v in given.items() if v not in (None, {}) and k not in OF_THIS_MACHINE}
        files.append(write_text(out / f"{name}.yaml", yaml.safe_dump(options, sort_keys=False)))
        parts.append(_section(run, name, {path.name: caption for path, caption in pictures.items()}, out))
    return [write_text(out / PAGE, "\n".join(parts)), *files]


def _file_name(run: Run) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", run.name).strip("-") or "run"


def _pictures(run: Run, name: str, out: Path) -> Iterator[tuple[Path, str]]:
    """The files of a run's figures, with their captions."""
    for kind in FIGURES:
        figure, caption = printed_figure(run, kind, "page")
        if figure is not None:
            picture = _small(figure_bytes(figure))
            if len(picture) <= LARGEST_PICTURE:
                yield write_bytes(out / f"{name}-{kind}.png", picture), caption


def _small(png: bytes) -> bytes:
    """A drawing in 256 colours, which is a third of the bytes."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        picture.convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# --- text ------------------------------------------------------------------------------------------------------------


def _introduction(runs: Sequence[Run], names: Sequence[str]) -> str:
    """What this is, and a line a run."""
    lines = [
        "| run | space | found by | error or quality (95 % interval) | parameters | MACs | time |",
        "|---" * 7 + "|",
    ]
    for run, name in zip(runs, names, strict=True):
        found = next(row for row in rows([run]) if row.kind == "found")
        cells = (f"[{name}](#{name.lower()})", found.space, _strategy(run), *_figures(found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(["# What was found", "", _filled(WHAT), "", *lines, "", _filled(_machine(runs)), ""])


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _machine(runs: Sequence[Run]) -> str:
    """Where the times were measured."""
    told = dict.fromkeys(
        f"{tables.device_name(run.cost)} ({tables.conditions(measured[0])})"
        for run in runs
        if (measured := tables.latencies(run.cost))
    )
    return f"Times are medians of one picture on {markdown('; '.join(told))}." if told else "No times were measured."


def _section(run: Run, name: str, pictures: dict[str, str], out: Path) -> str:
    """One run: its command, its table, what the intervals allow to say, its pictures, its files."""
    command = f"python -m strategies.{run.config.get('strategy')} --config {shlex.quote(f'{out}/{name}.yaml')}"
    lines = [f"## {name}", "", _filled(_told(run)), "", f"    {command}", "", *_table(run), ""]
    for verdict in verdicts(run):
        lines += [_filled(markdown(verdict.sentence)), ""]
    for text in (sentences.shortcut_sentence(run), sentences.undecided_sentence(run)):
        lines += [_filled(markdown(text)), ""] if text else []
    for file, caption in pictures.items():
        lines += [f"![{markdown(re.split('[.:]', caption)[0])}]({file})", "", _filled(markdown(caption)), ""]
    files = (
        f"Files: the architecture ([{name}.json]({name}.json)) and the options of the run ([{name}.yaml]({name}.yaml))."
    )
    return "\n".join([*lines, files, ""])


def _told(run: Run) -> str:
    """Space, strategy, data and durations in a sentence or two."""
    seconds = comparison.spent(run)[1]
    text = f"The space `{plain(run.config.get('space'))}`, searched by {_strategy(run)}"
    text += f" in {numbers.duration(seconds)}" if seconds else ""
    trained = numbers.number(entry(run.provenance, "seconds", "train"))
    text += f", then trained in {numbers.duration(trained)}" if trained else ""
    data = plain(run.data.get("name") or run.config.get("data"))
    text += f" (recipe {plain(run.config.get('recipe'))}, seed {plain(run.config.get('seed'))}). Data: {markdown(data)}"
    return f"{text}, simulated." if run.simulated else f"{text}."


def _strategy(run: Run) -> str:
    name = str(run.config.get("strategy"))
    return STRATEGIES.get(name, markdown(name))


def _table(run: Run) -> list[str]:
    """The found network and what stands beside it."""
    known = rows([run])
    label = known[0].label
    shown = [row for row in known if row.kind != "configuration"]
    others = [row for row in known if row.kind == "configuration" and row.value is not None]
    if others:  # the cheapest and the dearest of them, and some between
        others.sort(key=lambda row: row.macs or 0.0)
        step = (len(others) - 1) / (MOST_CONFIGURATIONS - 1)
        shown += [others[round(place * step)] for place in range(min(MOST_CONFIGURATIONS, len(others)))]
    lines = [f"| network | {label} (95 % interval) | parameters | MACs | time |", "|---|---:|---:|---:|---:|"]
    for row in shown:
        what = "**found**" if row.kind == "found" and row.what == "found" else markdown(row.what)
        lines.append(f"| {what} | {' | '.join(_figures(row))} |")
    return lines


def _figures(row: Row) -> tuple[str, ...]:
    """Quality and costs as a reader sees them."""
    merit = {"value": row.value, "low": row.low, "high": row.high}
    value = numbers.percent(row.value)
    interval = f" ({numbers.interval(merit)})" if row.low is not None else ""
    time = next(iter(row.times.values()), None)
    shown = MISSING if row.value is None else f"{value}{interval}"
    ms = MISSING if time is None else numbers.milliseconds(time.ms)
    return shown, numbers.scaled(row.parameters), numbers.scaled(row.macs), ms


def verdicts(run: Run) -> list[Verdict]:
    """What the intervals allow to say of a run and of what was trained beside it."""
    if configurations.rows_of(run.configurations):
        return [configurations.against_reference(run.configurations), configurations.ranking(run.configurations)]
    against = [rivals.compare_rivals(run)]
    if run.baseline is not None:
        against.append(comparison.compare_runs(run, run.baseline.read_all()))
    return [verdict for verdict in against if verdict is not None]
