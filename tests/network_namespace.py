"""A network of a test's own: a namespace with loopback and one more address, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

OTHER = "10.213.0.1"  # exists in the namespace alone
SET_UP = f"ip link set lo up && ip addr add {OTHER}/24 dev lo"


def command(words: Sequence[str]) -> list[str]:
    """A command line that runs another one in a namespace of its own, which ends with it."""
    return ["unshare", "--net", "sh", "-c", f'{SET_UP} && exec "$@"', "sh", *words]


def reason_against() -> str | None:
    """Why there can be no namespace here; None if there can."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return "the programs unshare and ip are not installed"
    done = subprocess.run(command(["true"]), capture_output=True, text=True, check=False, timeout=30)
    return None if done.returncode == 0 else f"network namespaces are not permitted: {done.stderr.strip()}"
