"""Experiments as a user of NNI runs them: ``facenas nnictl create``, trials, resume, and everything that goes wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from strategies.nni_manager import free_port

TOY = f"{sys.executable} -m tests.nni.toy_trial"
LOOPBACK = "0100007F"  # 127.0.0.1, as the kernel writes it


@pytest.mark.parametrize("trials", [12, pytest.param(100, marks=pytest.mark.long)])
def test_every_trial_gets_its_own_parameters(experiments, trials):
    """Four at a time, some that die before they have asked for their parameters, and some after."""
    early = ["1", "2", "6"]
    port = experiments.create(
        experiments.config(
            searchSpace={"x": {"_type": "choice", "_value": list(range(trials))}},
            trialCommand=f"{TOY} {' '.join(early)}",
            maxTrialNumber=trials,
        )
    )
    found = experiments.wait(port, seconds=60 + 3 * trials)
    assert len(found) == trials
    for trial in found:
        x = trial["parameters"]["x"]
        if str(trial["sequenceId"]) in early or x % 7 == 3:
            assert trial["status"] == "FAILED" and trial["result"] is None
        else:
            assert trial["status"] == "SUCCEEDED" and trial["result"]["x"] == x == trial["result"]["default"]
    metrics = experiments.ask(port, "metric-data")
    number_of = {trial["trialJobId"]: str(trial["sequenceId"]) for trial in found}
    assert {metric["parameterId"] == number_of[metric["trialJobId"]] for metric in metrics} == {True}
    assert sorted(m["sequence"] for m in metrics if m["trialJobId"] == found[0]["trialJobId"]) == [0, 0, 1, 2]


def test_nni_itself_gives_trials_the_parameters_of_others_and_listens_everywhere(experiments):
    """If this fails, NNI is mended: `nni_trial.OwnParameterChannel` and `loopback.js` may go."""
    config = experiments.config(trialCommand=f"{TOY} 0 compare", trialConcurrency=1, maxTrialNumber=3)
    port = free_port()
    experiments.ports.append(port)
    nnictl = str(Path(sys.executable).with_name("nnictl"))
    command = [nnictl, "create", "--config", str(config), "--port", str(port)]
    subprocess.run(command, check=True, capture_output=True, env=experiments.environment, cwd=experiments.folder)
    assert LOOPBACK not in experiments.listening(port)
    found = experiments.wait(port)
    results = [trial["result"] for trial in found if trial["result"]]
    assert [result["own"] for result in results] == [trial["parameters"]["x"] for trial in found[1:]]
    assert [result["given"] for result in results] == [trial["parameters"]["x"] for trial in found[:-1]]


def test_the_manager_is_reachable_from_this_machine_alone(experiments):
    port = experiments.create(experiments.config(maxTrialNumber=1, trialConcurrency=1))
    assert experiments.listening(port) == [LOOPBACK]
    others = [a for a in socket.gethostbyname_ex(socket.gethostname())[2] if not a.startswith("127.")]
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=2)


def test_another_address_is_reachable_only_if_it_was_named(experiments):
    """For trials on other machines; the tuner and the trials here still find the manager on localhost."""
    other = "127.0.0.2"
    port = experiments.create(experiments.config(maxTrialNumber=2), host=other)
    assert sorted(experiments.listening(port)) == [LOOPBACK, "0200007F"]
    with urlopen(f"http://{other}:{port}/api/v1/nni/check-status", timeout=10) as answer:
        assert json.load(answer)["status"] in ("INITIALIZED", "RUNNING", "NO_MORE_TRIAL", "DONE")
    assert [trial["result"]["x"] for trial in experiments.wait(port)] == [0, 1]


def test_our_tuner_survives_the_death_of_the_manager(experiments):
    tuner = {
        "className": "strategies.nsga2.NSGA2Tuner",
        "codeDirectory": str(experiments.folder),
        "classArgs": {"costs": ["milliseconds"], "population_size": 4, "seed": 0},
    }
    space = {"x": {"_type": "choice", "_value": list(range(40))}}
    port = experiments.create(
        experiments.config(
            searchSpace=space,
            tuner=tuner,
            trialConcurrency=2,
            maxTrialNumber=12,
            trialCommand=f"{TOY} slow",
        )
    )
    identity = experiments.identity(port)
    while len([trial for trial in experiments.trials(port) if trial["result"]]) < 4:
        time.sleep(0.2)
    before = {t["trialJobId"]: t["result"] for t in experiments.trials(port) if t["result"]}
    experiments.kill_manager(port)
    done = experiments.facenas("nnictl", "resume", identity, "--port", str(port))
    assert done.returncode == 0, done.stdout + done.stderr
    assert experiments.listening(port) == [LOOPBACK]
    found = experiments.wait(port)
    assert len(found) == 12 and len({trial["parameters"]["x"] for trial in found}) == 12
    after = {trial["trialJobId"]: trial["result"] for trial in found}
    assert {name: after[name] for name in before} == before
    for trial in found:
        assert trial["result"] is None or trial["result"]["x"] == trial["parameters"]["x"]
    exported = experiments.folder / "all.json"
    done = experiments.facenas(
        "nnictl", "experiment", "export", identity, "--filename", str(exported), "--type", "json"
    )
    assert exported.exists() and "milliseconds" in exported.read_text(), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tuner": {"className": "strategies.nsga2.NSGA3Tuner", "codeDirectory": "."}}, "no attribute 'NSGA3Tuner'"),
        (
            {
                "tuner": {"className": "strategies.nsga2.NSGA2Tuner", "codeDirectory": "."},
                "searchSpace": {"lr": {"_type": "uniform", "_value": [0, 1]}},
            },
            "NSGA2Tuner searches choices",
        ),
    ],
)
def test_an_experiment_that_fails_at_its_start_is_stopped(experiments, changes, message):
    config = experiments.config(**changes)
    port = free_port()
    experiments.ports.append(port)
    done = experiments.facenas("nnictl", "create", "--config", str(config), "--port", str(port))
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
    assert not experiments.listening(port)


def test_what_cannot_work_is_said_before_anything_starts(experiments):
    def refused(*arguments):
        done = experiments.facenas("nnictl", *arguments)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr

    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        number = used.getsockname()[1]
        config = str(experiments.config())
        message = refused("create", "--config", config, "--port", str(number))
        assert f"Port {number} is in use" in message and "such as" in message
    assert "Cannot read none.yml: No such file" in refused("create", "--config", "none.yml")
    config = str(experiments.config(searchSpace=None, searchSpaceFile="none.json"))
    assert "facenas nni-space" in refused("create", "--config", config)
    (experiments.folder / "empty").mkdir()
    config = str(experiments.config(trialCodeDirectory="empty"))
    assert "missing or empty" in refused("create", "--config", config)
    assert "no experiment 'abc'" in refused("resume", "abc")
    assert "--port is 'many'" in refused("create", "--config", config, "--port", "many")
    assert "--host needs an address" in refused("--host", "here", "create")


def test_an_experiment_whose_folder_is_gone_or_damaged_does_not_resume(experiments):
    port = experiments.create(experiments.config(maxTrialNumber=1, trialConcurrency=1))
    experiments.wait(port)
    identity = experiments.identity(port)
    experiments.facenas("nnictl", "stop", identity)
    base = experiments.folder / "experiments" / identity / "db" / "nni.sqlite"
    base.write_bytes(b"not a data base")
    done = experiments.facenas("nnictl", "resume", identity, "--port", str(port))
    assert done.returncode == 2 and "damaged, or of another version" in done.stderr
    base.unlink()
    assert "is gone" in experiments.facenas("nnictl", "resume", identity, "--port", str(port)).stderr
    assert not experiments.listening(port)


def test_a_trial_without_a_result_is_told_to_the_tuner_as_failed(experiments):
    tuner = {"className": "strategies.nsga2.NSGA2Tuner", "codeDirectory": ".", "classArgs": {"population_size": 2}}
    port = experiments.create(experiments.config(tuner=tuner, trialCommand=f"{TOY} silent", maxTrialNumber=3))
    experiments.wait(port)
    log = experiments.folder / "experiments" / experiments.identity(port) / "log" / "dispatcher.log"
    deadline = time.monotonic() + 10
    while "ended without a result" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.mark.long
def test_an_assessor_stops_trials_that_fall_behind(experiments):
    """The later trials of the grid are worse than the median of those before."""
    port = experiments.create(
        experiments.config(
            trialCommand=f"TOY_EPOCHS=20 {TOY} slow",
            trialConcurrency=1,
            maxTrialNumber=5,
            searchSpace={"x": {"_type": "choice", "_value": [1, 2, 5, 6, 8]}},
            assessor={"name": "Medianstop", "classArgs": {"optimize_mode": "minimize", "start_step": 3}},
        )
    )
    found = experiments.wait(port)
    states = [trial["status"] for trial in found]
    # NNI takes its own order to stop for the user's
    assert states[0] == "SUCCEEDED" and {"EARLY_STOPPED", "USER_CANCELED"} & set(states)
    assert all((trial["status"] == "SUCCEEDED") == (trial["result"] is not None) for trial in found)


def test_a_running_experiment_is_not_resumed(experiments):
    config = experiments.config(maxTrialNumber=4, trialConcurrency=1, trialCommand=f"TOY_EPOCHS=30 {TOY} slow")
    port = experiments.create(config)
    identity = experiments.identity(port)
    done = experiments.facenas("nnictl", "resume", identity, "--port", str(free_port()))
    assert done.returncode == 2 and "still runs" in done.stderr
    assert experiments.ask(port, "check-status")["status"] == "RUNNING"
