"""Generated pictures on disk: a folder of one .npy file and a JSON index, whole or not there.

A folder is named after what its pictures depend on. It is filled under another name and renamed when complete, so that
an interrupted run leaves nothing that looks whole; a checksum finds damage that came later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from searchspaces.errors import DatasetError
from searchspaces.files import read_json, write_json

PICTURES, INDEX = "pictures.npy", "index.json"
FORMAT = 1
ABANDONED_AFTER = 24 * 3600.0  # seconds: an unfinished folder this old belongs to a run that died


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where generated data sets are kept: ``cache``, else ``$FACENAS_CACHE``, else ``~/.cache/facenas``."""
    chosen = cache or os.environ.get("FACENAS_CACHE") or Path.home() / ".cache" / "facenas"
    return Path(chosen).expanduser().absolute() / "datasets"


def sha256_file(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_pictures(
    name: str,
    options: dict[str, Any],
    shape: tuple[int, ...],
    fill: Callable[[Path], Any],
    cache: str | Path | None = None,
) -> Path:
    """The .npy file (``shape``, uint8) that belongs to these options; ``fill`` makes it if it is not there.

    Args:
        options: everything that the pictures depend on (JSON-able), with the version of the generator.
        fill: is given the path of a new .npy file of zeros, and writes every picture into it. What it returns
            (JSON-able) is kept in the index under ``extra``.

    Raises:
        DatasetError: if the cache folder cannot be written.
    """
    folder = cache_folder(cache) / f"{name}-{_digest(options)}"
    if folder.exists():
        damage = find_damage(folder, options, shape)
        if damage is None:
            return folder / PICTURES
        print(f"facenas: the cached pictures in {folder} are damaged ({damage}): making them again.", file=sys.stderr)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise DatasetError(_cannot_write(folder, error)) from error
    try:
        np.lib.format.open_memmap(temporary / PICTURES, mode="w+", dtype=np.uint8, shape=shape).flush()
        extra = fill(temporary / PICTURES)
        index = {"format": FORMAT, "options": options, "sha256": sha256_file(temporary / PICTURES)}
        index |= {} if extra is None else {"extra": extra, "extra_sha256": _sha256(extra)}
        write_json(temporary / INDEX, index)
        temporary.chmod(0o755)  # mkdtemp makes it private
        _move_into_place(temporary, folder, options, shape)
    except OSError as error:
        raise DatasetError(_cannot_write(folder, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / PICTURES


def find_damage(folder: Path, options: dict[str, Any], shape: tuple[int, ...]) -> str | None:
    """What is wrong with a cached folder, in words; None if it is whole."""
    try:
        index = read_json(folder / INDEX, DatasetError)
        if not isinstance(index, dict) or index.get("format") != FORMAT or index.get("options") != options:
            return "the index is of other options or of another format"
        pictures = np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False)
        if pictures.shape != shape or pictures.dtype != np.uint8:
            return f"the array is {pictures.shape} {pictures.dtype}"
        if sha256_file(folder / PICTURES) != index.get("sha256"):
            return "the checksum differs"
        if _sha256(index.get("extra")) != index.get("extra_sha256", _sha256(None)):
            return "the checksum of the index differs"
    except Exception as error:  # NumPy's reader of headers raises many kinds for a damaged file
        return str(error) or type(error).__name__
    return None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest(options: dict[str, Any]) -> str:
    """A short name for options."""
    return _sha256(options)[:16]


def _cannot_write(folder: Path, error: OSError) -> str:
    return (
        f"Cannot keep generated pictures in {folder}: {error.strerror or error}. "
        "Free space there, or choose another folder with --cache or FACENAS_CACHE."
    )


def _move_into_place(temporary: Path, folder: Path, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Rename a finished folder. Where another run has put the same pictures there meanwhile, theirs stay."""
    if folder.exists():
        if find_damage(folder, options, shape) is None:
            return
        shutil.rmtree(folder, ignore_errors=True)
    try:
        os.rename(temporary, folder)
    except OSError:
        if find_damage(folder, options, shape) is not None:
            raise


def _sweep(parent: Path) -> None:
    """Remove what runs that were killed have left unfinished."""
    for leftover in parent.glob(".*-*.*"):
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER:
                shutil.rmtree(leftover, ignore_errors=True)
