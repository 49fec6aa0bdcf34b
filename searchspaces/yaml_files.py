"""YAML files that may come from a stranger: plain values only, and no small file that stands for a huge value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .errors import ConfigError, FacenasError

LARGEST_FILE = 1 << 20  # bytes; PyYAML reads about a megabyte a second
MOST_VALUES = 100_000  # nine lines of aliases can stand for a thousand million ("billion laughs")


def read_yaml(path: str | Path, error: type[FacenasError] = ConfigError) -> Any:
    """The value in a YAML file.

    Raises:
        FacenasError: of the class ``error``, if the file is missing, unreadable, too large or no plain YAML.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has {path.stat().st_size} bytes, too many for a file of options")
        return plain_value(path.read_text(encoding="utf-8"))
    except Exception as cause:  # PyYAML's constructors let through what int, float and date raise for odd texts
        reason = (isinstance(cause, OSError) and cause.strerror) or " ".join(str(cause).split())
        raise error(f"Cannot read {path}: {reason[:200] or type(cause).__name__}") from cause


def plain_value(text: str) -> Any:
    """The value that a YAML text stands for.

    Raises:
        Exception: of many kinds, as PyYAML does for odd texts; ValueError if it stands for too many values.
    """
    import yaml

    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    if _values(node, {}) > MOST_VALUES:
        raise ValueError("its aliases stand for too many values")
    return loader.construct_document(node)


def _values(node: Any, known: dict[int, float]) -> float:
    """How many values a node holds, those behind an alias counted each time; endless for a node inside itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner = node.value if isinstance(node.value, list) else []
        parts = [part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]
