"""Processes that a command starts to share nothing with it."""

from __future__ import annotations

import os
import sys


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a child process that finds every module that this one finds.

    It is no trial of an NNI experiment, even if this process is: NNI sends the output of trials to a log of its own.

    Args:
        more: variables that the child has besides.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NNI_")}
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**inherited, "PYTHONPATH": path, **more}
