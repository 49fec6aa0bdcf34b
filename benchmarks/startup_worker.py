"""Starts commands and tells what they have imported, for `benchmarks.startup`.

Run as ``python -m benchmarks.startup_worker`` with [[module, arguments], ...] and the names of heavy modules as JSON on
the standard input. It prints one line of JSON a command. What all commands need is imported once, before the forks:
a third of a second each.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import IO, Any

LIGHT = ("docstring_parser", "jsonargparse", "searchspaces.cli", "facenas.options")


def run(module: str, arguments: Sequence[str], heavy: Sequence[str], told: IO[str]) -> dict[str, Any]:
    """Run a module as ``python -m`` does, in a fork; what it writes goes into ``told``."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(told.fileno(), 1)
        os.dup2(told.fileno(), 2)
        code = 0
        try:
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writer, json.dumps({"code": code, "heavy": imported(heavy)}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found = json.loads(answer.read() or '{"code": null, "heavy": []}')
    os.waitpid(child, 0)
    told.seek(0)
    lines = told.read().strip().splitlines()
    return {"module": module, "arguments": list(arguments), **found, "last": lines[-1] if lines else ""}


def imported(heavy: Sequence[str]) -> list[str]:
    """Those of the modules that are imported."""
    return [name for name in heavy if name in sys.modules]


def main() -> None:
    """Read the commands, run them, print what was found."""
    wanted, heavy = json.load(sys.stdin)
    for name in LIGHT:
        __import__(name)
    if imported(heavy):
        raise SystemExit(f"{', '.join(imported(heavy))} imported by one of {', '.join(LIGHT)}.")
    for module, arguments in wanted:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
            found = run(module, arguments, heavy, told)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
