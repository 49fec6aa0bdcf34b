"""``python -m reports RUN [RUN ...] --out PAGE.html``"""

from __future__ import annotations

import sys
from pathlib import Path

from searchspaces.cli import run_command
from searchspaces.errors import ConfigError


def report(runs: list[Path], out: Path | None = None) -> None:
    """Write one web page about finished runs, and its figures as PNG files beside it.

    Args:
        runs: run folders, as a search wrote them.
        out: the page; for a single run RUN/report.html by default.

    Raises:
        ConfigError: if there are several runs and no page is named.
    """
    from .page import write_report

    if out is None and len(runs) > 1:
        raise ConfigError("Several runs go into one page: name it with --out PAGE.html.")
    print(write_report(runs, out or runs[0] / "report.html"))


if __name__ == "__main__":
    sys.exit(run_command(report, prog="python -m reports"))
