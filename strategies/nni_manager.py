"""NNI's manager, the web server of an experiment, kept to this machine.

NNI 3.0 lets it listen on all addresses of the machine, without a password: whoever reaches the port sees the
experiment, and can start trials with commands of their own. There is no option against it. So `loopback.js` is loaded
into the manager by Node's own ``--require``. Nothing of NNI is changed, and who starts NNI in other ways gets what NNI
does.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil

from searchspaces.errors import ConfigError

PRELOAD = Path(__file__).with_name("loopback.js")
LOOPBACK = "127.0.0.1"
PATIENCE = 10.0  # seconds that a process gets to end itself


@contextmanager
def manager_listens_on(host: str = LOOPBACK) -> Iterator[None]:
    """Managers that are started inside the block listen on this machine alone, and at ``host`` if that is another
    address."""
    changes = {"NODE_OPTIONS": node_options(os.environ.get("NODE_OPTIONS", "")), "FACENAS_NNI_HOST": host}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def node_options(given: str) -> str:
    """Node's options with the preloaded script added, once.

    >>> node_options("--trace-warnings").split()[:2]
    ['--trace-warnings', '--require']
    """
    own = f"--require {json.dumps(str(PRELOAD))}"
    return given if own in given else f"{given} {own}".strip()


def check_port(port: int) -> None:
    """Refuse a port that something listens on.

    Raises:
        ConfigError: with a free one.
    """
    if is_used(port):
        raise ConfigError(
            f"Port {port} is in use, perhaps by another experiment (nnictl experiment list). "
            f"Stop that one, or choose another port, such as {free_port()}."
        )


def is_used(port: int) -> bool:
    """Whether something on this machine listens on a port."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def end_left_processes(folder: Path) -> int:
    """End what a manager has left running that was killed: its tuner and its trials; how many there were.

    NNI starts them anew when it resumes the experiment. A tuner that is left would take the new manager's commands from
    the new tuner, and a trial that is left would write into the folder of the one that is started in its place.

    Args:
        folder: of the experiment.
    """
    left = [process for process in psutil.process_iter() if _belongs_to(process, folder)]
    for process in left:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(left, timeout=PATIENCE)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    return len(left)


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    if process.pid == os.getpid():
        return False
    trial = environment.get("NNI_OUTPUT_DIR", "")
    return environment.get("NNI_LOG_DIRECTORY") == str(folder / "log") or Path(trial).is_relative_to(folder)


def free_port() -> int:
    """A port that nothing listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
