"""What a command says while it works: a line for every stage and epoch, and a progress bar in a terminal."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import track as progress_bar

Item = TypeVar("Item")


class Reporter:
    """Prints stages and epochs to the terminal or a log."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)

    def line(self, stage: str, text: str) -> None:
        """One line, ``stage`` in front."""
        self.console.print(f"[bold]{stage:<9}[/bold] {escape(text)}")

    @contextmanager
    def epochs(self, stage: str, total: int) -> Iterator[Any]:
        """Yields a function to call with each row of a stage: it prints the row and moves the bar.

        Args:
            total: how many rows there will be; 0 if that is not known.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            bar = progress.add_task(stage, total=total or None)
            durations: list[float] = []

            def show(row: dict[str, Any]) -> None:
                durations.append(float(row["seconds"]))
                number = int(row.get("epoch", row.get("candidate", 0))) + 1
                left = (total - number) * sum(durations) / len(durations)
                ending = f", {duration(left)} left" if total and number < total else ""
                counter = f"{number}/{total}" if total else str(number)
                kind = "epoch" if "epoch" in row else "candidate"
                self.line(stage, f"{kind} {counter}  {_numbers(row)}  {duration(durations[-1])}{ending}")
                progress.update(bar, completed=number)

            yield show

    @contextmanager
    def timed(self, seconds: dict[str, float], stage: str) -> Iterator[None]:
        """Adds the time that the block takes to ``seconds[stage]``."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds[stage] = round(seconds.get(stage, 0.0) + time.monotonic() - started, 3)


SHOWN = {
    "train_loss": "train loss {:.3f}",
    "val_loss": "val loss {:.3f}",
    "val_accuracy": "val accuracy {:.0%}",
    "val_auc": "val AUC {:.3f}",
    "val_eer": "val EER {:.1%}",
    "val_ap": "val AP {:.3f}",
    "entropy": "entropy {:.3f}",
    "skip_share": "skips {:.0%}",
}


def track(items: Sequence[Item], what: str) -> Iterator[Item]:
    """The items, with a progress bar on standard error while they are taken."""
    return iter(progress_bar(items, what, console=Console(stderr=True), transient=True))


def _numbers(row: dict[str, Any]) -> str:
    return "  ".join(text.format(row[name]) for name, text in SHOWN.items() if name in row and row[name] == row[name])


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds, for people."""
    seconds = max(0, round(seconds))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min {seconds % 60:02d} s"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the chatter of NNI and Lightning out of the command's output; warnings of facenas itself stay, but for
    what is said of every candidate alike."""
    names = ("nni", "pytorch_lightning", "lightning.pytorch", "lightning_fabric", "torch.onnx")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(nni|pytorch_lightning|lightning_fabric)\.")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message="mac misses")  # once a network; cost.json and its page say it once
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python")  # a tracer's, of timm's attention
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: with a message, after the files that are being written."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        previous: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: the program around us handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
