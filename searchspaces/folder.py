"""A run folder: made once, never overwritten unasked, used by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from searchspaces.errors import RunFolderError
from searchspaces.files import UNFINISHED, sweep, write_text
from searchspaces.yaml_files import read_yaml

CONFIG, LOCK = "config.yaml", ".lock"


@contextmanager
def open_run(path: Path, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Prepare the folder of a run and hold it for this process inside the block.

    Raises:
        RunFolderError: as `check_run` does, or if the folder cannot be written or another process uses it.
    """
    check_run(path, resume=resume, overwrite=overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunFolderError(f"Cannot write to {path}: {error.strerror or error}. Choose another --out.") from error
    try:
        try:
            _hold(lock)
        except OSError as error:
            raise RunFolderError(
                f"Another process is running in {path}. Wait for it, or choose another --out."
            ) from error
        if overwrite:
            _empty(path)
        sweep(path)
        yield
    finally:
        os.close(lock)  # which releases it


def _hold(lock: int) -> None:
    """Take the lock; tried again soon, because whoever asks `is_held` has it for an instant."""
    for pause in (0.02, 0.1):
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(pause)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process of this machine is at work in a run folder; nothing is written to find out."""
    try:
        lock = os.open(path / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def check_run(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that a run cannot have; commands ask this before they import anything heavy.

    Raises:
        RunFolderError: if a run is there already (without ``resume`` or ``overwrite``), or none is there to resume.
    """
    exists = path.exists() and (not path.is_dir() or any(map(_counts, path.iterdir())))
    if resume and not (path / CONFIG).is_file():
        raise RunFolderError(f"There is no run to resume in {path}: it has no {CONFIG}.")
    if exists and not (resume or overwrite):
        raise RunFolderError(f"{path} exists already. Choose another --out, or give --resume or --overwrite.")
    if overwrite and exists and not (path / CONFIG).is_file():
        raise RunFolderError(f"{path} is not a run folder (it has no {CONFIG}), so it is not overwritten.")


def _counts(entry: Path) -> bool:
    """Whether a file makes its folder a used one: neither our lock nor what a process left that was killed at once."""
    return entry.name != LOCK and not (entry.name.startswith(".") and entry.name.endswith(UNFINISHED))


def check_finished(path: Path) -> None:
    """Refuse what is no run folder, likewise.

    Raises:
        RunFolderError: if there is no such folder or it holds no config.yaml.
    """
    if not path.is_dir():
        raise RunFolderError(f"No run folder {path}: {'it is a file' if path.exists() else 'not found'}.")
    if not (path / CONFIG).is_file():
        raise RunFolderError(
            f"{path} is not a run folder: it holds no {CONFIG}. Name the folder that a search wrote with --out."
        )


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name != LOCK:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink(missing_ok=True)  # of a page that is being written it may just have been renamed


def write_config(path: Path, options: dict[str, Any]) -> None:
    """Write config.yaml, from which ``--config`` repeats the run."""
    write_text(path / CONFIG, yaml.safe_dump(options, sort_keys=False))


def read_config(path: Path) -> dict[str, Any]:
    """The options of a run.

    Raises:
        RunFolderError: if config.yaml is missing or damaged.
    """
    value = read_yaml(path / CONFIG, RunFolderError)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise RunFolderError(f"{path / CONFIG} holds no options.")
    return value
