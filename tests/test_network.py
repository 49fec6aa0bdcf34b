"""No command asks the network for anything unasked, and what listens does so on this machine alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .network_namespace import OTHER, command, reason_against

ROOT = Path(__file__).parents[1]
AGAINST = reason_against()
isolated = pytest.mark.skipif(AGAINST is not None, reason=str(AGAINST))

# Runs a module as `python -m` would; what it asks of the network is listed in a file and refused.
WATCHER = """
import json, os, runpy, socket, sys
asked = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[-1] if event in ("socket.connect", "socket.bind") else arguments
        probe = event == "socket.bind" and address == ("::1", 0)  # urllib3 asks so whether there is IPv6; none listens
        if not probe and not isinstance(address, (str, bytes)):  # text: a socket of this machine's file system
            asked.append([event, repr(address)])
            with open(os.environ["ASKED"], "w") as file:
                json.dump(asked, file)
            raise PermissionError(f"{event} {address!r}")
sys.addaudithook(hook)
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# Node's server as NNI's manager starts it: no address is named
SERVER = """
const server = require('net').createServer(socket => socket.end('hello'));
server.listen(0, () => console.log(server.address().port));
"""
CLIENT = """
import socket, subprocess, sys
node = subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True)
try:
    port = int(node.stdout.readline())
    for address in ("127.0.0.1", sys.argv[1]):
        try:
            with socket.create_connection((address, port), timeout=5) as found:
                print(address, found.recv(5).decode())
        except OSError as error:
            print(address, type(error).__name__)
finally:
    node.kill()
    node.wait()
"""


def watched(folder: Path, *words: str, timeout: float = 300) -> tuple[subprocess.CompletedProcess[str], list[object]]:
    """Run a command in a network of its own; how it ended, and what it asked."""
    asked = folder / "asked.json"
    asked.unlink(missing_ok=True)
    environment = {**os.environ, "ASKED": str(asked), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command([sys.executable, "-W", "ignore", "-c", WATCHER, *words]),
        capture_output=True, text=True, env=environment, cwd=folder, check=False, timeout=timeout,
    )  # fmt: skip
    return done, json.loads(asked.read_text()) if asked.exists() else []


@isolated
def test_a_request_is_seen(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text("import socket\nsocket.create_connection(('127.0.0.1', 9))\n")
    done, asked = watched(tmp_path, "asks")
    assert done.returncode == 1 and len(asked) == 1


@isolated
def test_commands_make_no_request_and_open_no_port(tmp_path: Path) -> None:
    from tests.fuzzing.readers_of_networks import small
    from tests.reports.conftest import write_run

    architecture = str(small().save(tmp_path / "architecture.json"))
    run = str(write_run(tmp_path / "run", epochs=3))
    for words in (
        ("facenas", "--help"),
        ("facenas", "doctor"),
        ("strategies.darts", "--plan"),
        ("hardware.profile", architecture),
        ("reports", run, "--out", str(tmp_path / "page.html")),
    ):
        done, asked = watched(tmp_path, *words)
        assert asked == [], (words, asked)
        assert done.returncode == 0, (words, done.stderr[-2000:])
    assert (tmp_path / "page.html").stat().st_size > 10_000


@isolated
@pytest.mark.long
def test_a_search_with_training_and_report_makes_no_request(tmp_path: Path) -> None:
    short = ("--people", "12", "--search-epochs", "1", "--train-epochs", "1", "--threads", "1", "--no-baseline")
    words = ("--space", "autofas", *short)
    done, asked = watched(tmp_path, "strategies.darts", *words, "--out", str(tmp_path / "a"), timeout=1200)
    assert asked == [] and done.returncode == 0, (asked, done.stderr[-2000:])


def server(*options: str) -> list[str]:
    """What each address of a network of its own answers for a server of NNI's Node."""
    import nni_node

    node = str(Path(nni_node.__path__[0]) / "node")
    done = subprocess.run(
        command([sys.executable, "-c", CLIENT, OTHER, node, *options, "-e", SERVER]),
        capture_output=True, text=True, check=True, timeout=60,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
    )  # fmt: skip
    return done.stdout.splitlines()


@isolated
def test_a_server_of_the_manager_answers_on_loopback_alone() -> None:
    """By itself it answers everywhere, which is what the script that `facenas nnictl` loads is for."""
    from strategies.nni_manager import LOOPBACK, PRELOAD

    assert server() == [f"{LOOPBACK} hello", f"{OTHER} hello"]
    assert server("--require", str(PRELOAD)) == [f"{LOOPBACK} hello", f"{OTHER} ConnectionRefusedError"]


def test_nothing_of_ours_listens_on_all_addresses() -> None:
    """Sockets are bound to loopback, or to what a user names."""
    for room in ("searchspaces", "hardware", "evaluators", "strategies", "reports", "facenas", "benchmarks"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert '"0.0.0.0"' not in text and 'bind(("",' not in text, path
