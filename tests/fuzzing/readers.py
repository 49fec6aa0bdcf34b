"""The readers of files from outside, a row each: how valid files are made, which of them is damaged, who reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reader:
    """A row of the table.

    Attributes:
        name: of the test.
        make: writes a folder of valid files; gives those to damage, with a kind of `mutations.KINDS` or "bytes".
        read: is given the folder and the damaged file.
        share: of the inputs that another reader gets; less where one takes long.
        seconds: of processor time that it may take.
        whole: it reads the whole folder, whichever file is damaged.
    """

    name: str
    make: Callable[[Path], Mapping[str, str]]
    read: Callable[[Path, Path], Any]
    share: float = 1.0
    seconds: float = 3.0
    whole: bool = False


def all_readers() -> list[Reader]:
    """Those of all rooms."""
    from . import readers_of_data, readers_of_networks, readers_of_pictures, readers_of_runs

    modules = (readers_of_networks, readers_of_data, readers_of_pictures, readers_of_runs)
    return [reader for module in modules for reader in module.READERS]
