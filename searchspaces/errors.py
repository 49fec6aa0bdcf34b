"""The errors that facenas raises for a user's mistakes: one small tree, exit code 2.

A message says what is wrong, where, why, and what to do about it. Commands print the message on one line and
leave; a traceback means a bug in facenas itself.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_MESSAGE = 2000  # characters


class FacenasError(Exception):
    """Base of all errors that a user can mend. ``exit_code`` is what a command exits with.

    Messages quote files, which may be a stranger's: what is too long to be read is cut, and control characters, which
    a terminal would obey, are written out.
    """

    exit_code = 2

    def __str__(self) -> str:
        text = _shortened(super().__str__())
        return _shortened("".join(mark if mark.isprintable() or mark in "\n\t" else repr(mark)[1:-1] for mark in text))


class UnknownNameError(FacenasError):
    """A name that nothing is registered under; carries the nearest known name.

    Attributes:
        kind: what the name should have been, for example ``"space"``.
        name: the name that was asked for.
        nearest: the most similar known name, or None if none is similar.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        choices = sorted(known)
        self.nearest = nearest_name(name, choices)
        hint = f" Did you mean {self.nearest!r}?" if self.nearest else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(choices) or '(none)'}.")


class ConfigError(FacenasError):
    """An option or a config file that cannot be used."""


class ArchitectureError(FacenasError):
    """An architecture file or its choices that do not describe a point of its space."""


class DatasetError(FacenasError):
    """A data set that is missing, incomplete or damaged."""


class RunFolderError(FacenasError):
    """A run folder that exists already, cannot be written, or cannot be read."""


class DivergenceError(FacenasError):
    """Training whose loss is no longer a finite number."""


class ResourceError(FacenasError):
    """A machine that does not suffice: its memory, or a process that the system has ended."""


class CostError(FacenasError):
    """A network that cannot be counted, exported or measured."""


def _shortened(text: str) -> str:
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """The entry of ``known`` most similar to ``name``, or None if nothing is similar."""
    matches = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
