"""Files that survive a crash: written to a temporary neighbour, synced, then renamed into place."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from .errors import FacenasError, RunFolderError

UNFINISHED = ".part"  # how the names of temporary files end; they begin with a dot


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file atomically: after a crash either the old content or the new is there, never a part.

    Raises:
        RunFolderError: if the folder cannot be written or the disk is full; an earlier file stays as it was.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise RunFolderError(
            f"Cannot write {path}: {error.strerror or error}. Choose another folder or free space."
        ) from error
    return path


def sweep(folder: Path) -> None:
    """Remove the temporary files that a process which was killed has left; only while nobody else writes there."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a UTF-8 text file atomically (see `write_bytes`)."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> Path:
    """Write a JSON file atomically (see `write_bytes`). NaN and infinity are refused: they are not JSON."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, error: type[FacenasError] = RunFolderError) -> Any:
    """Read a JSON file.

    Raises:
        FacenasError: of the class ``error``, if the file is missing, unreadable or not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise error(f"No file {path}.") from cause
    except OSError as cause:
        raise error(f"Cannot read {path}: {cause.strerror or cause}.") from cause
    except RecursionError as cause:
        raise error(f"{path} is nested too deeply to be a file of facenas.") from cause
    except ValueError as cause:  # not JSON, or not UTF-8
        raise error(f"{path} is not valid JSON: {cause}.") from cause
