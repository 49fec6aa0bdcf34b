"""Runs searches that are to be killed: ``python -m tests.reliability.runner``.

It imports once what a search needs, reads a request a line, and runs each in a child of its own, which it kills where
the request says: after a time, or before the Nth time that the child touches a file of its run folder. So a kill hits
any instant: inside a step, while a checkpoint is written, between two files that belong together.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

TOUCHING = ("open", "os.rename", "os.remove", "os.mkdir", "shutil.copyfile", "shutil.rmtree")


def main() -> None:
    import evaluators.train
    import facenas.searches  # noqa: F401
    import reports.page  # noqa: F401

    # a new process for every network would be most of the time; another test is about it
    evaluators.train.metrics_in_new_process = lambda folder, space: {}
    evaluators.train.compare_metrics = lambda here, there: None
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(attempt(request)), flush=True)
        imported = Path(f"{request['out']}.modules")
        for name in imported.read_text().split() if imported.exists() else ():  # so that the next child need not
            with suppress(ImportError):
                importlib.import_module(name)


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    """Run one search.

    Args:
        request: ``strategy``, ``arguments`` and ``out``; ``seconds``, after which it is ended, or ``touch``, before
            which touch of a file; ``signal``, by which, SIGKILL unless told. A limit of -1 is none.

    Returns:
        ``status`` (negative: the signal that ended it), ``touches``: of each the seconds and the file.
    """
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run(request, started)
    status = wait(child, started, request)
    lines = Path(f"{request['out']}.touches").read_text().splitlines()
    touches = [(float(seconds), name) for seconds, _, name in (line.partition(" ") for line in lines)]
    return {"status": status, "touches": touches}


def wait(child: int, started: float, request: dict[str, Any]) -> int:
    limit = request.get("seconds", -1)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if 0 <= limit < time.monotonic() - started:
            os.kill(child, request.get("signal", signal.SIGKILL))
            limit = -1
        time.sleep(0.002)


def run(request: dict[str, Any], started: float) -> None:
    """In the child: the command, watched; never returns."""
    from facenas.pipeline import search_command

    folder, last, number = request["out"], request.get("touch", -1), 0
    told = os.open(f"{folder}.touches", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event in TOUCHING and str(arguments[0]).startswith(folder + os.sep):
            number += 1
            name = os.path.relpath(str(arguments[1] if event == "os.rename" else arguments[0]), folder)
            os.write(told, f"{time.monotonic() - started:.3f} {name}\n".encode())
            if number == last:
                os.kill(os.getpid(), request.get("signal", signal.SIGKILL))

    sys.addaudithook(watch)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs the tests may have switched off
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        code = search_command(request["strategy"], [*request["arguments"], "--out", folder])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        Path(f"{folder}.modules").write_text(" ".join(sys.modules))
        os._exit(code)


if __name__ == "__main__":
    main()
