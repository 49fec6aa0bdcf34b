"""``python -m reports RUN [RUN ...] --out PAGE.html``, and ``papers``, ``export``, ``gallery``, ``watch``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from searchspaces.cli import run_command
from searchspaces.errors import ConfigError
from searchspaces.folder import check_finished

REPETITIONS = 100  # timed runs of each network, as everywhere
LONGEST_PAUSE = 3600  # seconds between two looks at a run


def report(runs: list[Path], out: Path | None = None) -> None:
    """Write one web page about finished runs, and its figures as PNG files beside it.

    Args:
        runs: run folders, as a search wrote them; or an experiment of NNI, for all searches that were its trials.
        out: the page; for a single run RUN/report.html by default.

    Raises:
        ConfigError: if there are several runs and no page is named.
        RunFolderError: if a folder is not there, or none is of a run.
    """
    runs = [run for given in runs for run in trials_of(given)]
    if out is None and len(runs) > 1:
        raise ConfigError("Several runs go into one page: name it with --out PAGE.html.")
    for run in runs:
        check_given(run, alone=len(runs) == 1)
    from .page import write_report  # heavy: after what can be wrong

    print(write_report(runs, out or runs[0] / "report.html"))


def check_given(run: Path, alone: bool) -> None:
    """Refuse a folder that is not there; one of several that holds no run is named on the page, with the reason.

    Raises:
        RunFolderError: likewise.
    """
    if alone or not run.is_dir():
        check_finished(run)


def trials_of(folder: Path) -> list[Path]:
    """The run folders of the trials of an experiment, by their start; the folder itself if it is none.

    Raises:
        ConfigError: if none of its trials has begun a search.
    """
    if not (folder / "environments").is_dir():
        return [folder]
    found = [config.parent for config in folder.glob("environments/*/trials/*/*/config.yaml")]
    if not found:
        raise ConfigError(f"No trial of the experiment {folder} has left a run folder.")
    return sorted(found, key=lambda run: (run.stat().st_ctime, run.name))


def papers(
    table: str | None = None,
    out: Path | None = None,
    repetitions: int = REPETITIONS,
    profile: Literal["table5", "text"] | None = None,
    json: bool = False,
    results: str | None = None,
) -> None:
    """Published tables beside what this code computes and this machine measures: one with --table, all with --out.

    Without either, the tables are listed.

    Args:
        table: the table to print, such as pta-table4.
        out: with --table also write it to this file, .md, .csv, .html or .json; without, the page of all tables,
            .html or .json.
        repetitions: timed runs of each network.
        profile: for asfd-table5: table5 (the default) leaves out maps of stride 4 where the backbone is a MobileNet,
            as the paper's figures need it; text has them everywhere, as its text says.
        json: print JSON.
        results: what facenas.reproduce wrote (table.json, or its folder), with commas between several: fills the page.

    Raises:
        ConfigError: if the file cannot be written in any format that we know, or the table has no profiles.
    """
    if table is None:
        _all_papers(out, repetitions, profile, json, results)
        return
    if results:
        raise ConfigError("--results are for the page of all tables: leave --table out, and name the page with --out.")
    from .papers_output import as_json, as_text, check_suffix, write_computed

    if out is not None:
        check_suffix(out)
    from .papers import compute

    computed = compute(table, repetitions, profile)
    print(as_json(computed) if json else as_text(computed), end="")
    if out is not None:
        print(write_computed(computed, out), file=sys.stderr)


def _all_papers(out: Path | None, repetitions: int, profile: str | None, json: bool, results: str | None) -> None:
    """The page of all tables, or what can be had where none is asked for."""
    if profile is not None:
        raise ConfigError("--profile is of one table: name it with --table.")
    if out is None and not json:
        if results:
            raise ConfigError("--results need a page to be shown on: name it with --out PAGE.html.")
        _list_tables()
        return
    from .paper_comparison import read_results
    from .papers_page import as_json, check_page, compare_with_progress, write_papers

    if out is not None:
        check_page(out)
    files = [Path(file.strip()) for file in (results or "").split(",") if file.strip()]
    compared = compare_with_progress(repetitions, read_results(files))
    if json:
        print(as_json(compared), end="")
    if out is not None:
        print(write_papers(compared, out), file=sys.stderr if json else sys.stdout)


def _list_tables() -> None:
    from .paper_catalog import ALL_TABLES
    from .papers import COMPUTED

    width = max(map(len, ALL_TABLES))
    for name, known in ALL_TABLES.items():
        how = "computed here" if name in COMPUTED else "the paper's figures only; ours need data or a device"
        print(f"{name:{width}}  {known.title} ({how})")
    print("Show one with --table NAME; write all, beside ours, with --out papers.html.")


def export(
    runs: list[Path],
    out: Path | None = None,
    formats: str = "png,svg,pdf",
    width: Literal["column", "page"] = "column",
) -> None:
    """Write the figures and tables of runs for a paper, and everything as report.json (docs/reports.md).

    Args:
        runs: run folders, or an experiment of NNI.
        out: folder for the files; for a single run RUN/export by default.
        formats: of the figures, with commas: png, svg, pdf.
        width: that the figures are legible at: a column of a two-column paper (3.3 inches) or its page (7 inches).

    Raises:
        ConfigError: for an unknown format, or if there are several runs and no folder is named.
        RunFolderError: if a folder is not there, or none is of a run.
    """
    runs = [run for given in runs for run in trials_of(given)]
    if out is None and len(runs) > 1:
        raise ConfigError("Several runs go into one folder: name it with --out FOLDER.")
    for run in runs:
        check_given(run, alone=len(runs) == 1)
    from .export import export as write  # heavy: after what can be wrong

    out = out or runs[0] / "export"
    done = write(runs, out, formats, width)
    for each in done.unread:
        print(f"Left out {each['name']}: {each['reason']}", file=sys.stderr)
    for name, inches in done.wide.items():
        print(f"{name} is {inches} inches wide: its text of 7 points needs that.", file=sys.stderr)
    print(f"{len(done.files)} files in {out}")


def gallery(runs: list[Path], out: Path = Path("gallery")) -> None:
    """Write runs as Markdown with pictures, and their architectures and options beside it, for a repository.

    Args:
        runs: run folders, or an experiment of NNI.
        out: folder for the files; its README.md is the page.

    Raises:
        ConfigError: if two runs have the same name.
        RunFolderError: if a folder is not there, or is not of a finished run.
    """
    runs = [run for given in runs for run in trials_of(given)]
    for run in runs:
        check_finished(run)
    from .gallery import write_gallery  # heavy: after what can be wrong

    files = write_gallery(runs, out)
    print(f"{files[0]}, and {len(files) - 1} files beside it")


def watch(run: Path, every: float = 2.0, out: Path | None = None, once: bool = False) -> int:
    """Show a running search in the terminal, and write its page anew as epochs end (docs/reports.md).

    Args:
        run: the run folder; one that is not there yet is waited for.
        every: seconds between two looks into the folder.
        out: the page; RUN/watch.html by default.
        once: print the run as it is now and end; no page is written unless --out names it.

    Raises:
        ConfigError: if the page would take the place of a file of the run, or every is not above 0.
        RunFolderError: if the folder is of no run, or with --once not there.
    """
    if not 0 < every <= LONGEST_PAUSE:
        raise ConfigError(f"every is {every:g}, but must be above 0 and at most {LONGEST_PAUSE} seconds.")
    from .watch import watch_run

    return watch_run(run, every, out, once)


COMMANDS: dict[str, Callable[..., Any]] = {"papers": papers, "export": export, "gallery": gallery, "watch": watch}


def main(argv: Sequence[str] | None = None) -> int:
    """The first argument may name another command than the page; a run folder of that name is ``./papers``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        name = arguments[0]
        return run_command(COMMANDS[name], arguments[1:], prog=f"python -m reports {name}")
    return run_command(report, arguments, prog="python -m reports")


if __name__ == "__main__":
    sys.exit(main())
