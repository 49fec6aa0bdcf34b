"""Figures, tables and JSON of runs as files for a paper or a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from searchspaces.errors import ConfigError, FacenasError, RunFolderError, nearest_name
from searchspaces.files import write_json, write_text

from .export_json import as_object
from .export_tables import FORMATS, overview_table, tables_of
from .figures import save_figure
from .page import prefixes
from .pictures import ALL_FIGURES, BASELINE_FIGURES
from .print_size import WIDTHS, printed_figure
from .run import Run

KINDS = ("png", "svg", "pdf")


@dataclass
class Exported:
    """What was written.

    Attributes:
        files: in their order.
        wide: figures that cannot be read at the wanted width -> their width in inches.
        unread: ``name`` and ``reason`` of folders that could not be read.
    """

    files: list[Path] = field(default_factory=list)
    wide: dict[str, float] = field(default_factory=dict)
    unread: list[dict[str, str]] = field(default_factory=list)


def check_formats(formats: str) -> list[str]:
    """The formats of figures in a list with commas.

    Raises:
        ConfigError: if one of them is unknown, or there is none.
    """
    wanted = [part.strip().lower() for part in formats.split(",") if part.strip()]
    for kind in wanted:
        if kind not in KINDS:
            near = nearest_name(kind, KINDS)
            raise ConfigError(
                f"--formats: no figure is written as {kind!r}. "
                + (f"Did you mean {near}?" if near else f"Choose among {', '.join(KINDS)}.")
            )
    if not wanted:
        raise ConfigError(f"--formats names no format. Choose among {', '.join(KINDS)}.")
    return list(dict.fromkeys(wanted))


def export(run_paths: Sequence[Path], out: Path, formats: str = "png,svg,pdf", width: str = "column") -> Exported:
    """Write figures, tables and report.json.

    Args:
        run_paths: run folders. Of several, those that cannot be read are left out and named.
        out: the folder that the files go into.
        formats: of figures, with commas between them.
        width: one of `print_size.WIDTHS`.

    Raises:
        ConfigError: for an unknown format.
        RunFolderError: if no folder can be read, or nothing can be written.
    """
    kinds, done = check_formats(formats), Exported()
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"--out {out} is a file. Name a folder.")
    runs = dict(_readable(run_paths, done))
    for prefix, run in runs.items():
        _figures(run, ALL_FIGURES, prefix, out / "figures", kinds, width, done)
        if run.baseline is not None:
            _figures(run.baseline, BASELINE_FIGURES, f"{prefix}baseline-", out / "figures", kinds, width, done)
    made = [("", overview_table(list(runs.values()))), *((p, t) for p, run in runs.items() for t in tables_of(run))]
    for prefix, table in made:
        for kind, written in FORMATS.items():
            done.files.append(write_text(out / "tables" / f"{prefix}{table.name}.{kind}", written(table)))
    done.files.append(write_json(out / "report.json", as_object(list(runs.values()), done.unread)))
    return done


def _readable(paths: Sequence[Path], done: Exported) -> Iterator[tuple[str, Run]]:
    """The runs by the beginning of their files' names; one that cannot be read costs only itself."""
    found = False
    for path, prefix in zip(paths, prefixes(paths), strict=True):
        try:
            run = Run(path).read_all()
        except FacenasError as error:
            if len(paths) == 1:
                raise
            done.unread.append({"name": path.resolve().name, "reason": str(error)})
        else:
            found = True
            yield prefix, run
    if not found:
        raise RunFolderError(f"None of the folders is of a run that can be read. The first: {done.unread[0]['reason']}")


def _figures(
    run: Run, names: Sequence[str], prefix: str, folder: Path, kinds: Sequence[str], width: str, done: Exported
) -> None:
    for name in names:
        figure, _ = printed_figure(run, name, width)
        if figure is None:
            continue
        if figure.get_figwidth() > WIDTHS[width] + 0.01:
            done.wide[f"{prefix}{name}"] = round(float(figure.get_figwidth()), 1)
        done.files += [save_figure(figure, folder / f"{prefix}{name}.{kind}") for kind in kinds]
