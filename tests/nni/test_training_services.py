"""Experiments whose trials are processes of their own: here, and on hosts that are reached by SSH."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from searchspaces import Architecture
from strategies.nni_manager import free_port

from .trained import OPTIONS


def test_a_search_in_python_with_trials_of_their_own_goes_on_after_a_kill(experiments):
    """Two candidates at a time; each result belongs to its architecture, in our record and in NNI's."""
    folder, port = experiments.folder / "experiments", free_port()
    experiments.ports.append(port)
    command = [sys.executable, "-W", "ignore", "-m", "tests.nni.trained", str(folder), str(port)]
    results = folder / "ts" / "results.json"

    def start():
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=experiments.folder, env=experiments.environment, **pipes)

    with start() as search:
        while not (results.exists() and len(json.loads(results.read_text())) >= 2):
            assert search.poll() is None, search.communicate()
            time.sleep(0.2)
        before = json.loads(results.read_text())
        experiments.kill_manager(port)
        search.send_signal(signal.SIGKILL)
    with start() as search:
        out, errors = search.communicate(timeout=180)
    assert search.returncode == 0, errors[-3000:]
    found = json.loads(results.read_text())
    assert found[: len(before)] == before and len(found) > len(before)
    trained = [result for result in found if result["status"] == "trained"]
    for result in trained:
        network = Architecture("autofas", OPTIONS, result["choices"]).build()
        assert result["metric"]["parameters"] == sum(p.numel() for p in network.parameters())
    best = max(trained, key=lambda result: result["metric"]["default"])
    printed = next(line for line in out.splitlines() if line.startswith("{"))
    assert ast.literal_eval(printed) == best["choices"]


SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")


@pytest.fixture
def hosts(tmp_path):
    """Two SSH servers on this machine, each with a port, a key and a home folder of its own."""
    folder = tmp_path / "hosts"
    folder.mkdir()
    os.chmod(folder, 0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd separates its privileges there
    for name, kind in (("host", "ed25519"), ("user", "rsa")):
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-m", "PEM", "-N", "", "-f", folder / name], check=True)
    servers, found = [], []
    for number in (1, 2):
        home, port = folder / f"home{number}", free_port()
        home.mkdir()
        config = folder / f"sshd{number}.conf"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"PubkeyAcceptedAlgorithms +ssh-rsa\nSetEnv HOME={home}\nSubsystem sftp internal-sftp\n"
        )
        servers.append(subprocess.Popen([SSHD, "-D", "-f", config, "-E", folder / f"sshd{number}.log"]))
        found.append((port, home))
    deadline = time.monotonic() + 10
    while not all(_answers(port) for port, _ in found):
        assert time.monotonic() < deadline, (folder / "sshd1.log").read_text()
        time.sleep(0.1)
    yield found, folder / "user"
    for server in servers:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(SSHD is None, reason="needs an SSH server: apt-get install openssh-server")
@pytest.mark.skipif(os.geteuid() != 0, reason="the servers can only start sessions of root as root")
def test_trials_run_on_two_hosts_and_get_their_own_parameters(experiments, hosts):
    machines, key = hosts
    other = "127.0.0.2"  # the address at which the hosts reach the manager, as from another machine
    code = experiments.folder / "code"
    code.mkdir()
    (code / "notes.txt").write_text("NNI copies this folder to each host; facenas itself is installed there.")
    python = str(Path(sys.executable).parent)
    root = Path(__file__).parents[2]
    port = experiments.create(
        experiments.config(
            trialCommand=f"PYTHONPATH={root} {sys.executable} -m tests.nni.toy_trial 2",
            trialCodeDirectory=str(code),
            maxTrialNumber=8,
            searchSpace={"x": {"_type": "choice", "_value": list(range(8))}},
            nniManagerIp=other,
            trainingService={
                "platform": "remote",
                "machineList": [
                    {"host": "127.0.0.1", "port": port, "user": "root", "sshKeyFile": str(key), "pythonPath": python}
                    for port, _ in machines
                ],
            },
        ),
        host=other,
    )
    found = experiments.wait(port, seconds=180)
    assert [trial["result"] and trial["result"]["x"] for trial in found] == [0, 1, None, None, 4, 5, 6, 7]
    experiments.facenas("nnictl", "stop", experiments.identity(port))  # a killed manager would leave keepers there
    for _, home in machines:
        assert list(home.glob("nni-experiments/*/environments/*/trials/*")), "each host ran some"
