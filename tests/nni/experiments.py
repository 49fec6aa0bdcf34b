"""Real experiments of NNI, in a home folder and on a port of their own, which leave no process behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from strategies.nni_manager import end_left_processes, free_port

ROOT = Path(__file__).parents[2]


class Experiments:
    """Starts experiments in a folder, asks them, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder, []
        self.environment = {**os.environ, "HOME": str(folder), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        scripts = str(Path(sys.executable).parent)
        self.environment["PATH"] = f"{scripts}:{self.environment['PATH']}"

    def facenas(self, *arguments: str) -> subprocess.CompletedProcess:
        """The console command."""
        command = [sys.executable, "-m", "facenas", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=120
        )

    def config(self, **changes) -> Path:
        """An experiment's file: a grid of numbers on the toy trial, but for the changes."""
        content = {
            "searchSpace": {"x": {"_type": "choice", "_value": list(range(12))}},
            "trialCommand": f"{sys.executable} -m tests.nni.toy_trial",
            "trialCodeDirectory": str(self.folder),
            "trialConcurrency": 4,
            "trialGpuNumber": 0,
            "maxTrialNumber": 12,
            "experimentWorkingDirectory": str(self.folder / "experiments"),
            "tuner": {"name": "GridSearch"},
            "trainingService": {"platform": "local", "useActiveGpu": False},
        }
        content |= changes
        file = self.folder / "experiment.yml"
        file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return file

    def create(self, config: Path, host: str = "127.0.0.1") -> int:
        """Start it; its port."""
        port = free_port()
        self.ports.append(port)
        done = self.facenas("nnictl", "--host", host, "create", "--config", str(config), "--port", str(port))
        assert done.returncode == 0, done.stdout + done.stderr
        return port

    def ask(self, port: int, what: str):
        """What the manager answers."""
        with urlopen(f"http://127.0.0.1:{port}/api/v1/nni/{what}", timeout=10) as answer:
            return json.load(answer)

    def wait(self, port: int, until=("DONE",), seconds: float = 120) -> list[dict]:
        """Wait for a status; the trials, with ``parameters`` and ``result``, in the order of their start."""
        deadline = time.monotonic() + seconds
        while (status := self.ask(port, "check-status")["status"]) not in until:
            assert status != "ERROR" and time.monotonic() < deadline, (status, self.trials(port), self.logs())
            time.sleep(0.5)
        return self.trials(port)

    def trials(self, port: int) -> list[dict]:
        """All trials with their parameters and results, in the order of their start."""
        found = sorted(self.ask(port, "trial-jobs"), key=lambda trial: trial["sequenceId"])
        for trial in found:
            trial["parameters"] = json.loads(trial["hyperParameters"][0])["parameters"]
            final = trial.get("finalMetricData")
            trial["result"] = json.loads(json.loads(final[-1]["data"])) if final else None
        return found

    def identity(self, port: int) -> str:
        return self.ask(port, "experiment")["id"]

    def kill_manager(self, port: int) -> None:
        """As if the machine had lost it."""
        os.kill(self.ask(port, "experiment-metadata")["pid"], signal.SIGKILL)
        while self.listening(port):
            time.sleep(0.1)

    def listening(self, port: int) -> list[str]:
        """Addresses on which something listens on the port, as the kernel writes them."""
        found = []
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                address, _, number = fields[1].partition(":")
                if fields[3] == "0A" and int(number, 16) == port:
                    found.append(address)
        return found

    def logs(self) -> str:
        """What trials and managers said, for a failed test."""
        names = ("trial.stderr", "trial.log", "dispatcher.log")
        files = [file for name in names for file in self.folder.rglob(name)]
        return "\n".join(f"{file}: {file.read_text()[-1500:]}" for file in files)

    def close(self) -> None:
        """End all managers and what they started."""
        for port in self.ports:
            with contextlib.suppress(URLError, OSError):
                os.kill(self.ask(port, "experiment-metadata")["pid"], signal.SIGKILL)
        for folder in (self.folder / "experiments").glob("*"):
            end_left_processes(folder)
