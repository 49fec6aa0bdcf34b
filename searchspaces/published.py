"""Networks that papers describe, as architecture files: ``python -m searchspaces.published airface --out a.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .architecture import Architecture


def main(name: str, out: str | None = None) -> None:
    """Write a published network as an architecture file, to train, measure or compare it.

    Args:
        name: of the network, such as airface, mobilefacenet-128 or deit-tiny; "list" prints all names.
        out: the file; NAME.json by default.
    """
    if name == "list":
        print("\n".join(names()))
        return
    architecture = published(name)
    print(architecture.save(out or f"{name}.json"))


def names() -> list[str]:
    """All names that `published` knows."""
    from . import airface, hatfas

    return [*airface.PUBLISHED, *hatfas.PUBLISHED]


def published(name: str) -> Architecture:
    """A published network by its name.

    Raises:
        UnknownNameError: with the nearest name.
    """
    from . import airface, hatfas
    from .errors import UnknownNameError

    for module in (airface, hatfas):
        if name in module.PUBLISHED:
            return module.published(name)
    raise UnknownNameError("published network", name, names())


if __name__ == "__main__":
    from .cli import run_command

    raise SystemExit(run_command(main, prog="python -m searchspaces.published"))
