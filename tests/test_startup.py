"""What a command imports before it begins: help and early errors need no torch, whatever the machine's speed is."""

from __future__ import annotations

import re

import pytest

from benchmarks.startup import HEAVY, PACKAGES, ROOT, commands, modules_with_commands, start


@pytest.fixture(scope="module")
def found():
    return commands()


def test_every_command_is_found(found):
    assert {"strategies.darts", "evaluators.train", "searchspaces.cascade", "hardware.profile"} <= {c[0] for c in found}
    assert {("facenas", ()), ("facenas", ("search", "gumbel")), ("facenas", ("doctor",)), ("reports", ())} <= set(found)
    assert len(set(found)) == len(found)
    # by another way: every module that says in its last lines which command it is
    ends = re.compile(r"^    raise SystemExit\((run|search)_command\([^_]", re.MULTILINE)
    files = [
        path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if ends.search(path.read_text("utf-8"))
    ]
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    assert len(named) > 20
    assert named <= set(modules_with_commands())


def test_help_imports_nothing_heavy(found):
    told = start([(module, (*arguments, "--help")) for module, arguments in found])
    assert len(told) == len(found)
    for command in told:
        assert command["code"] == 0, command
        assert command["heavy"] == [], command


def test_a_wrong_option_is_refused_before_anything_heavy_is_imported(found):
    wanted = [command for command in found if command[1] != ("nnictl",)]  # whose options are NNI's
    for command in start([(module, (*arguments, "--no-such-option")) for module, arguments in wanted]):
        assert command["code"] == 2, command
        assert command["last"].startswith("facenas: Unknown "), command
        assert command["heavy"] == [], command


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("strategies.darts", ("--space", "autofsa"), "Did you mean 'autofas'?"),
        ("strategies.darts", ("--search-epochs", "many"), "expected int"),
        ("strategies.darts", ("--out", "README.md"), "README.md exists already"),
        ("strategies.random_search", ("--resume", "--out", "nowhere"), "There is no run to resume in nowhere"),
        ("facenas", ("train", "nowhere"), "No file nowhere"),
        ("reports", ("nowhere",), "No run folder nowhere"),
        ("hardware.predict", ("nowhere", "--device-profile", "none"), "Unknown device profile 'none'"),
        ("evaluators.verify", ("nowhere",), "Cannot read nowhere"),
    ],
)
def test_early_errors_need_no_torch(module, arguments, message):
    (command,) = start([(module, arguments)])
    assert command["code"] == 2, command
    assert message in command["last"], command
    assert not {"torch", "nni", "pandas", "matplotlib"} & set(command["heavy"]), command


def test_what_is_heavy_is_seen():
    (command,) = start([("json.tool", ("--help",))])
    assert (command["code"], command["heavy"]) == (0, [])
    (command,) = start([("networkx", ())])  # a package that cannot be run, but is imported for the attempt
    assert "networkx" in HEAVY and command["heavy"] == ["networkx"], command
