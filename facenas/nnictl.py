"""``facenas nnictl ...``: NNI's own command, with the experiment's manager reachable from this machine alone.

See `strategies.nni_manager` for why and how. What NNI would only find out later, or answer with a traceback, is checked
before or right after it.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from searchspaces.errors import ConfigError, FacenasError
from strategies.nni_manager import LOOPBACK, check_port, end_left_processes, is_used, manager_listens_on

USAGE = """usage: facenas nnictl [--host ADDRESS] COMMAND ...

NNI's command nnictl, with the web portal and the manager of an experiment reachable from this machine alone.

  facenas nnictl create --config experiments/pta_nsga2.yml [--port 8080]
  facenas nnictl trial ls | top | experiment list | experiment export ... | stop | resume ID | view ID

--host ADDRESS   be reachable at this address too, for trials on other machines (docs/scale.md). NNI's manager has no
                 password: choose an address that only your own machines reach.

All other options are NNI's: nnictl --help.
"""
PORT = 8080  # NNI's default
SETTLED = 15.0  # seconds after which a tuner that cannot be used has failed
STARTS_MANAGER = ("create", "resume", "view")


def main(argv: list[str]) -> int:
    """Run nnictl.

    Raises:
        FacenasError: if the port is in use, the configuration file cannot be read, or the experiment fails at once.
    """
    host, rest = _host(argv)
    if not rest or rest[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if rest else 2
    if rest[0] not in STARTS_MANAGER:
        return _nnictl(rest)
    port = _port(rest)
    check_port(port)
    config = _option(rest, "--config", "-c")
    if rest[0] == "create" and config is not None:
        check_config(Path(config))
    elif len(rest) > 1 and not rest[1].startswith("-"):
        folder = check_experiment(rest[1])
        if rest[0] == "resume" and (left := end_left_processes(folder)):
            print(f"Ended {left} processes that the experiment had left running.")
    with manager_listens_on(host):
        code = _nnictl(rest)
    if code == 0 and rest[0] == "create" and not {"--foreground", "-f"} & set(rest):
        check_running(port, _option(rest, "--url_prefix"))
    return code


def check_config(file: Path) -> None:
    """Refuse an experiment's file that is missing or no YAML object, or names a search space that is not there.

    Raises:
        ConfigError: naming the file and the entry.
    """
    from searchspaces.yaml_files import read_yaml

    config = read_yaml(file)
    if not isinstance(config, dict):
        raise ConfigError(f"{file} holds no experiment: it is no YAML object.")
    try:
        _check_paths(config, file)
    except (OSError, ValueError) as error:  # too long, or with a null byte
        raise ConfigError(f"{file} names a path that cannot be one: {error}.") from error


def _check_paths(config: dict[str, Any], file: Path) -> None:
    code = file.parent / Path(str(config.get("trialCodeDirectory", "."))).expanduser()
    if not code.is_dir() or not any(code.iterdir()):
        raise ConfigError(
            f"{file} names the code folder {str(code)!r}, which is missing or empty: NNI would fail later."
        )
    space = config.get("searchSpaceFile")
    if space is not None and not (path := file.parent / Path(str(space)).expanduser()).is_file():
        raise ConfigError(
            f"{file} names the search space {space!r}, but there is no file {path}. "
            "facenas nni-space SPACE --out FILE writes it."
        )


def check_experiment(identity: str) -> Path:
    """The folder of an experiment that NNI knows and can read.

    Raises:
        ConfigError: saying which.
    """
    import sqlite3

    from nni.tools.nnictl.config_utils import Experiments

    known = Experiments().get_all_experiments()
    if identity not in known:
        raise ConfigError(f"There is no experiment {identity!r}. Known: {', '.join(sorted(known)) or '(none)'}.")
    port = known[identity]["port"]
    if known[identity]["status"] != "STOPPED" and str(port).isdecimal() and is_used(int(port)):
        raise ConfigError(f"The experiment {identity!r} still runs: nnictl stop {identity}.")
    folder = Path(known[identity]["logDir"], identity)
    base = folder / "db" / "nni.sqlite"
    if not base.is_file():
        raise ConfigError(f"The experiment {identity!r} cannot go on: its data base {base} is gone.")
    try:
        with closing(sqlite3.connect(f"file:{base}?mode=ro", uri=True)) as connection:
            connection.execute("select params from ExperimentProfile").fetchone()
    except sqlite3.Error as error:
        raise ConfigError(
            f"The experiment {identity!r} cannot go on: {base} is damaged, or of another version of NNI ({error})."
        ) from error
    return folder


def check_running(port: int, prefix: str | None = None) -> None:
    """Wait until the tuner has taken the search space; if it fails, stop the experiment: NNI would let it stay.

    Raises:
        FacenasError: with what the tuner said.
    """
    from nni.experiment import rest

    told = _ask(port, "experiment-metadata", prefix)
    logs = Path(told["logDir"], told["id"], "log")
    deadline = time.monotonic() + SETTLED
    while time.monotonic() < deadline:
        time.sleep(0.5)
        said = _text(logs / "dispatcher.log")
        if "Traceback" in said or _ask(port, "check-status", prefix)["status"] == "ERROR":
            errors = [line for line in said.splitlines() if line.strip() and not line.startswith((" ", "["))]
            rest.delete(port, "/experiment", prefix)
            raise FacenasError(
                f"The experiment failed at its start and was stopped: {errors[-1] if errors else 'see ' + str(logs)}"
            )
        if "Initial search space" in said and time.monotonic() > deadline - SETTLED + 2:
            return


def _ask(port: int, what: str, prefix: str | None) -> Any:
    root = f"http://{LOOPBACK}:{port}/{prefix.strip('/') + '/' if prefix else ''}"
    try:
        with urlopen(f"{root}api/v1/nni/{what}", timeout=10) as answer:
            return json.load(answer)
    except OSError as error:
        raise FacenasError(
            f"The experiment's manager ended right after its start: {error}. See nnictl_stderr.log."
        ) from error


def _text(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


def _nnictl(arguments: list[str]) -> int:
    """NNI's command in this process; its exit code."""
    import warnings

    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    from nni.tools.nnictl.nnictl import parse_args

    before = sys.argv
    sys.argv = ["nnictl", *arguments]
    try:
        parse_args()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    except (RuntimeError, ValueError, TypeError, KeyError, OSError, AttributeError) as error:
        # NNI has said more in its log; its traceback helps nobody
        raise FacenasError(f"nnictl {shlex.join(arguments)} failed: {error}") from error
    finally:
        sys.argv = before
    return 0


def _host(argv: list[str]) -> tuple[str, list[str]]:
    if not argv or argv[0] != "--host":
        return LOOPBACK, argv
    try:
        return str(ipaddress.ip_address(argv[1])), argv[2:]
    except (IndexError, ValueError) as error:
        raise ConfigError("--host needs an address of this machine, such as 127.0.0.1 or 10.0.0.5.") from error


def _port(arguments: list[str]) -> int:
    given = _option(arguments, "--port", "-p") or PORT
    if not str(given).isdecimal() or not 0 < int(given) < 65536:
        raise ConfigError(f"--port is {given!r}, but must be a number from 1 to 65535.")
    return int(given)


def _option(arguments: list[str], *names: str) -> Any:
    """The value of an option of nnictl."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[index + 1] if index + 1 < len(arguments) else None
    return None
