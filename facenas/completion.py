"""The command ``facenas completion``: what a shell needs to complete facenas' commands and options."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any, Literal

PATHS = ("architecture", "architectures", "out", "data_root", "runs", "run", "pictures", "folder", "config", "weights")


def main(shell: Literal["bash", "zsh", "tcsh"]) -> None:
    """Print a shell's completion of facenas' commands and options.

    For bash: facenas completion bash > ~/.local/share/bash-completion/completions/facenas; for zsh, into a file called
    _facenas in a folder of $fpath.

    Args:
        shell: the shell.
    """
    import shtab

    print(shtab.complete(command_tree(), shell))


def command_tree() -> argparse.ArgumentParser:
    """All commands as one plain parser, which nothing but the completion is made from."""
    from .__main__ import COMMANDS
    from .options import OPTIONS
    from .pipeline import DESCRIPTIONS

    tree = argparse.ArgumentParser(prog="facenas")
    commands = tree.add_subparsers(dest="command")
    strategies = commands.add_parser("search", help="search an architecture").add_subparsers(dest="strategy")
    for strategy, options in OPTIONS.items():
        _add_options(strategies.add_parser(strategy, help=DESCRIPTIONS[strategy]), options)
    for name, (module, function) in COMMANDS.items():
        target = getattr(importlib.import_module(module), function)
        _add_options(commands.add_parser(name, help=_first_line(target)), target)
    nnictl = commands.add_parser("nnictl", help="NNI's own command")
    nnictl.add_argument("action", choices=["create", "resume", "view", "stop", "trial", "experiment", "top", "log"])
    nnictl.add_argument("--config", help="an experiment's file")
    nnictl.add_argument("--port", help="of the web portal")
    return tree


def _add_options(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """The options of a command's function, or of an options dataclass."""
    import shtab

    from searchspaces.cli import options_of

    for action in options_of(function):
        # a plain argument that takes a value or not; all else is checked when the command is run
        flag = action.nargs == 0
        settings: dict[str, Any] = {"help": (action.help or "").replace("%", "%%")}
        settings |= {"action": "store_true"} if flag else {"nargs": action.nargs, "choices": action.choices}
        if not action.option_strings:
            settings.pop("action", None)
        added = parser.add_argument(*(action.option_strings or [action.dest]), **settings)
        if action.dest in PATHS:
            added.complete = shtab.FILE  # type: ignore[attr-defined]


def _first_line(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().partition("\n")[0].rstrip(".")
