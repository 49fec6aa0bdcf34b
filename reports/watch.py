"""``python -m reports watch RUN``: a running search in the terminal, and its page rewritten as epochs end."""

from __future__ import annotations

import os
import shlex
import sys
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from searchspaces.errors import ConfigError, RunFolderError
from searchspaces.folder import check_finished

from .numbers import entry, interval, number, percent
from .progress import Genotype, Snapshot, Watched
from .task_metrics import task_of
from .watch_frame import as_line, frame, safe

PAGE = "watch.html"  # not report.html: the search writes that one, and its presence says that the run is whole
NICE = 19
LEFT = 1  # exit code where nobody works on a run that is not finished


def page_of(run: Path, out: Path | None) -> Path:
    """Where the page goes.

    Raises:
        ConfigError: for a file of the run's own.
        RunFolderError: for a folder.
    """
    page = out or run / PAGE
    if page.is_dir():
        raise RunFolderError(f"Cannot write {page}: it is a folder. Name a file, for example {page / PAGE}.")
    inside = run.resolve() in page.resolve().parents
    if inside and page.resolve() != (run / PAGE).resolve():
        raise ConfigError(f"{page} is the run's own to write. Choose a file outside of {run}, or leave out --out.")
    return page


class PageWriter:
    """Writes the page in the background, once for each epoch or the latest of several.

    Args:
        run: the run's folder.
        page: the file.
    """

    def __init__(self, run: Path, page: Path) -> None:
        self.run, self.page = run, page
        # at the lowest of priorities: the page is drawn on the cores that the search computes on
        self._pool = ThreadPoolExecutor(max_workers=1, initializer=os.nice, initargs=(NICE,))
        self._work: Future[str] | None = None
        self._state: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)  # a page that is being written is written whole

    def update(self, seen: Snapshot) -> None:
        """Begin a new page if there is something new to tell, and none is being written."""
        course, busy = seen.shown, self._work is not None and not self._work.done()
        if course is None or busy:  # a search may still be refused before its first epoch, and its folder be removed
            return
        state = (seen.over, course.stage, course.done, seen.status)
        if state != self._state:
            self._state = state
            what = (
                "of the whole run"
                if seen.status == "finished"
                else f"as of {course.stage.title}, {course.kind} {course.done}"
            )
            self._work = self._pool.submit(self._write, what)

    def finish(self, seen: Snapshot) -> None:
        """Wait until the page tells of this moment."""
        for _ in range(2):  # what is being written, and the last one
            self.update(seen)
            if self._work is not None:
                self._work.result()

    def _write(self, what: str) -> str:
        from .page import write_report  # heavy

        try:
            write_report([self.run], self.page, pictures=False)
        except Exception as error:  # a folder that changes while it is read; the next epoch's page is another attempt
            reason = " ".join(str(error).split())[:200]
            return f"page not written: {reason or type(error).__name__}"
        return f"page: {self.page} ({what})"

    @property
    def note(self) -> str:
        """What there is to say of the page."""
        if self._work is not None and self._work.done():
            return safe(self._work.result())
        when = "when the first epoch has ended" if self._work is None else "being written"
        return safe(f"page: {self.page} ({when})")


class Show(Protocol):
    """Where a run is shown."""

    def __call__(self, seen: Snapshot, notes: list[str]) -> None: ...


class Log:
    """Shows a run where nothing can be drawn over: a line for each stage and row."""

    def __init__(self, console: Console) -> None:
        self.console, self.told = console, set[tuple[object, ...]]()

    def __call__(self, seen: Snapshot, notes: list[str]) -> None:
        if seen.status == "waiting":
            self._once(("waiting",), notes[0])
        for course in seen.courses:
            at_work = seen.status == "running" and course.stage == seen.current
            for row in course.rows:
                self._once((course.stage, row[course.kind]), as_line(course, row, at_work))
        if seen.current is not None and (seen.shown is None or seen.shown.stage != seen.current):
            self._once((seen.current,), f"{seen.current.title}: {'begun' if seen.status == 'running' else 'not done'}")
        if seen.genotype and seen.genotype.changes:
            self._once((seen.genotype.source,), f"  changed {seen.genotype.source}: {_listed(seen.genotype)}")
        if seen.status in ("finished", "left"):
            for note in notes:
                self._once((note,), note)

    def _once(self, key: tuple[object, ...], line: str) -> None:
        if key not in self.told:
            self.told.add(key)
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _listed(genotype: Genotype) -> str:
    return ", ".join(f"{safe(name)}: {safe(old)} -> {safe(new)}" for name, (old, new) in genotype.changes.items())


def watch_run(run: Path, every: float, out: Path | None, once: bool) -> int:
    """Show a run until it ends.

    Args:
        run: its folder, which need not be there yet.
        every: seconds between two looks.
        out: the page.
        once: show it as it is now, and write no page unless ``out`` is named.

    Returns:
        0 if it is finished (or at work, with ``once``), or the user has seen enough; `LEFT` if nobody works on it.

    Raises:
        ConfigError: if the page would take the place of a file of the run.
        RunFolderError: if the folder is of no run, or with ``once`` not there.
    """
    page = page_of(run, out)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack characters of a name
    console = Console(highlight=False)
    trends = console.encoding.lower().startswith("utf")
    if once:
        return _once(run, page if out else None, console, trends)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of half a run there is much to warn of
        try:
            return _follow(run, every, page, console, trends)
        except KeyboardInterrupt:
            return 0


def _once(run: Path, page: Path | None, console: Console, trends: bool) -> int:
    seen = Watched(run).look(time.time())
    if seen.status == "waiting":
        check_finished(run)
    notes = ending_of(seen)
    if page is not None:
        with PageWriter(run, page) as writer:
            writer.finish(seen)
            notes.append(writer.note)
    console.print(frame(seen, notes, trends))
    return LEFT if seen.status == "left" else 0


def _follow(run: Path, every: float, page: Path, console: Console, trends: bool) -> int:
    watched = Watched(run)
    with PageWriter(run, page) as writer:
        if not console.is_terminal:
            return _until_end(watched, writer, every, Log(console))
        with Live(console=console, auto_refresh=False) as live:
            return _until_end(
                watched, writer, every, lambda seen, notes: live.update(frame(seen, notes, trends), refresh=True)
            )


def _until_end(watched: Watched, writer: PageWriter, every: float, show: Show) -> int:
    while True:
        seen = watched.look(time.time())
        if seen.status in ("finished", "left"):
            writer.finish(seen)
            show(seen, [*ending_of(seen), *([writer.note] if seen.courses else [])])
            return 0 if seen.status == "finished" else LEFT
        writer.update(seen)
        show(seen, [_waiting(seen) if seen.status == "waiting" else writer.note])
        time.sleep(every)


def _waiting(seen: Snapshot) -> str:
    return f"No run in {safe(str(seen.path))} yet: waiting for one to begin. Ctrl-C ends this."


def ending_of(seen: Snapshot) -> list[str]:
    """What is to be said of a run that nobody works on; nothing of one that is at work."""
    if seen.status == "finished":
        task = task_of(seen.metrics, seen.provenance.get("task"))
        merit, report = seen.metrics.get(task.headline), seen.path / "report.html"
        range_ = interval(merit) if number(entry(merit, "low")) is None else f"95 % interval {interval(merit)}"
        told = f"Finished. {task.label} {percent(entry(merit, 'value'))} ({range_})"
        return [told, *([f"report: {safe(str(report))}"] if report.is_file() else [])]
    if seen.status != "left":
        return []
    strategy, folder = seen.provenance.get("strategy"), shlex.quote(str(seen.path))
    known = isinstance(strategy, str) and strategy.isidentifier()
    how = f"python -m strategies.{strategy} --resume --out {folder}" if known else "its command and --resume"
    return [f"No process on this machine is working on it, and it is not finished. Continue with: {safe(how)}"]
