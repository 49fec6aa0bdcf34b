"""This process as a trial of an NNI experiment: which parameters are its own, and what it tells the experiment."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import urlopen

import nni
from nni.runtime.trial_command_channel import get_default_trial_command_channel
from nni.runtime.trial_command_channel.v3 import TrialCommandChannelV3

from searchspaces.errors import ConfigError, FacenasError

CHANNEL = "NNI_TRIAL_COMMAND_CHANNEL"  # where NNI says how to reach it, but for services that pass files
PATIENCE = 60.0  # seconds that a trial waits for its record
PAUSE = 0.2  # seconds between two questions


class OwnParameterChannel(TrialCommandChannelV3):
    """NNI's channel of a trial, but for the parameters, which it takes from the experiment's record of this trial.

    NNI 3.0 keeps the parameters of all trials in one queue and gives the first to whichever trial asks first. With
    several trials at once, or after one that died before it asked, trials get each other's parameters: the experiment
    shows results beside architectures that they are not of. The record, in NNI's own data base, is right.
    """

    def receive_parameter(self) -> Any:
        """The record of this trial's parameters: ``parameter_id``, ``parameters`` and others.

        Raises:
            FacenasError: if the experiment does not answer, or knows no parameters of this trial.
        """
        address = f"{manager_url()}/api/v1/nni/trial-jobs/{trial_name()}"
        deadline, problem = time.monotonic() + PATIENCE, "it has no parameters"
        while time.monotonic() < deadline:
            try:
                with urlopen(address, timeout=PATIENCE) as answer:
                    recorded = json.load(answer).get("hyperParameters")
            except (URLError, OSError, ValueError) as error:
                recorded, problem = None, str(error)
            if recorded:
                record = nni.load(recorded[-1])
                if isinstance(record, dict) and record.get("parameters") is not None:
                    return record
            time.sleep(PAUSE)  # a trial may start before its record is written
        raise FacenasError(
            f"The experiment's record of this trial cannot be read from {address}: {problem}. "
            "Trials ask NNI's manager for their own parameters, so they must be able to reach it."
        )


def manager_url() -> str:
    """Where NNI's manager answers: on its own machine it is who started the trial, elsewhere a keeper of trials did,
    whose configuration says where the manager is.

    Raises:
        FacenasError: on another machine, if that configuration is not found.
    """
    if os.environ.get("NNI_PLATFORM") == "local":
        return os.environ[CHANNEL].partition("/env/")[0]
    # .../environments/ENVIRONMENT/trials/TRIAL is the trial's folder
    environment = Path(os.environ.get("NNI_OUTPUT_DIR", ".")).resolve().parents[1]
    files = environment.glob("trial_keeper*/launcher_config.json")
    for file in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):  # one for each time it was resumed
        channel = json.loads(file.read_text()).get("managerCommandChannel", "")
        if channel.startswith("ws://"):
            return "http://" + channel.removeprefix("ws://").partition("/platform/")[0]
    raise FacenasError(f"Nothing below {environment} says where NNI's manager is, so this trial has no parameters.")


class Trial:
    """This trial, of which a process is one.

    It speaks to the experiment through a channel of its own. NNI's global functions would not do: inside a search,
    NNI's sequential engine takes them for the candidates that it trains, and does not give them back.
    """

    def __init__(self) -> None:
        url = os.environ.get(CHANNEL)
        # without an address, as on Kubernetes, each trial has a file of its parameters, which NNI reads
        self.channel = OwnParameterChannel(url) if url else get_default_trial_command_channel()
        self.record = self.channel.receive_parameter()
        if not isinstance(self.record, dict):
            raise FacenasError("NNI has no parameters for this trial.")
        self.reported = 0  # epochs

    def send(self, kind: Literal["PERIODICAL", "FINAL"], sequence: int, metric: dict[str, float]) -> None:
        """A metric, which NNI enters under this trial's parameters."""
        try:
            self.channel.send_metric(kind, self.record["parameter_id"], trial_name(), sequence, metric)
        except OSError as error:
            raise FacenasError(
                f"NNI's manager does not answer ({error}). When the experiment is resumed, this trial is too."
            ) from error


@cache
def this_trial() -> Trial:
    """The trial that this process is.

    Raises:
        FacenasError: if the experiment does not say what its parameters are.
    """
    return Trial()


def next_parameters() -> dict[str, Any]:
    """The parameters of this trial; always the same.

    Raises:
        FacenasError: if the experiment does not say, or its search space is no object of names and values.
    """
    parameters = this_trial().record["parameters"]
    if not isinstance(parameters, dict):
        raise ConfigError(f"The trial's parameters are {parameters!r}, not names with values.")
    return dict(parameters)


def trial_name() -> str:
    """What NNI calls this trial."""
    return str(nni.get_trial_id())


def output_folder() -> Path:
    """The trial's own folder."""
    return Path(os.environ["NNI_OUTPUT_DIR"])


def report_epoch(figures: Mapping[str, Any], default: float) -> None:
    """A point of the trial's curves in the portal; none if ``default`` is no finite number.

    Args:
        figures: numbers by name; others, and those that are not finite, are left out.
        default: what an assessor compares.
    """
    if math.isfinite(default):
        trial = this_trial()
        trial.send("PERIODICAL", trial.reported, _metric(figures, default))
        trial.reported += 1


def report_result(figures: Mapping[str, Any], default: float) -> None:
    """The trial's result: columns in the portal and in exports, and what a tuner learns.

    Raises:
        FacenasError: if ``default`` is no finite number: the trial has failed.
    """
    if not math.isfinite(default):
        raise FacenasError(f"The trial's result is {default}: it has failed.")
    this_trial().send("FINAL", 0, _metric(figures, default))


def _metric(figures: Mapping[str, Any], default: float) -> dict[str, float]:
    numbers = {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return numbers | {"default": float(default)}
