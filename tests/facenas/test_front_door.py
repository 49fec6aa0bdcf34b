"""What the console command says of itself: help, doctor, completion."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import facenas.doctor
from facenas.__main__ import COMMANDS, main
from facenas.completion import command_tree
from facenas.doctor import Finding, examine
from facenas.options import OPTIONS


def test_the_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("search", "nnictl", *COMMANDS):
        assert f"\n  {command} " in text, command


@pytest.mark.parametrize("command", ["nnictl", *COMMANDS])
def test_every_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) if command != "nnictl" else _nothing():
        main([command, "--help"])
    assert "usage" in capsys.readouterr().out


def _nothing():
    from contextlib import nullcontext

    return nullcontext()


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert main(["nni-spaces"]) == 2
    assert "Did you mean 'nni-space'" in capsys.readouterr().err


def test_the_completion_knows_every_command_and_option():
    (commands,) = (action for action in command_tree()._actions if action.dest == "command")
    assert set(commands.choices) == {"search", "nnictl", *COMMANDS}
    (strategies,) = (action for action in commands.choices["search"]._actions if action.dest == "strategy")
    assert set(strategies.choices) == set(OPTIONS)
    darts = {option for action in strategies.choices["darts"]._actions for option in action.option_strings}
    assert {"--space", "--latency-budget", "--resume", "--no-baseline"} <= darts
    report = {action.dest: action for action in commands.choices["report"]._actions}
    assert report["runs"].complete and report["out"].complete  # files


def test_bash_takes_the_completion(tmp_path):
    script = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "facenas", "completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
    )
    (tmp_path / "facenas").write_text(script.stdout)
    ask = f"""
        source {tmp_path}/facenas
        COMP_WORDS=(facenas search pc_darts --edge) COMP_CWORD=3
        $(complete -p facenas | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert "--edge-normalisation" in done.stdout


def test_the_doctor_finds_this_machine_in_order(capsys):
    found = {finding.what: finding for finding in examine()}
    assert {found[what].state for what in ("python", "packages", "torch", "nni", "nni's manager")} == {"good"}
    assert all(finding.remedy for finding in found.values() if finding.state != "good")
    assert main(["doctor", "--json"]) == int(any(finding.state == "broken" for finding in found.values()))
    assert {entry["what"] for entry in json.loads(capsys.readouterr().out)} == set(found)


def test_the_doctor_names_problems_and_remedies(monkeypatch, capsys):
    monkeypatch.setattr(
        facenas.doctor, "requires", lambda name: ["torch>=99", "nothing-like-it", "extra; extra == 'x'"]
    )
    monkeypatch.setattr(facenas.doctor, "FREE_GIB", 1e9)
    monkeypatch.setattr(facenas.doctor.shutil, "which", lambda *ignored, **also: None)

    def broken():
        raise OSError("library not found")
        yield

    monkeypatch.setattr(facenas.doctor, "CHECKS", (*facenas.doctor.CHECKS, broken))
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    for words in (
        "torch is",
        "nothing-like-it is not installed",
        "GiB free",
        "is not on the PATH",
        "library not found",
    ):
        assert words in text
    assert "extra is not" not in text and "-> " in text


def test_a_broken_thing_makes_the_doctor_fail_and_a_missing_one_does_not(monkeypatch, capsys):
    for state, code in (("good", 0), ("missing", 0), ("broken", 1)):
        monkeypatch.setattr(facenas.doctor, "CHECKS", (lambda state=state: iter([Finding("x", state, "y", "z")]),))
        assert main(["doctor"]) == code
