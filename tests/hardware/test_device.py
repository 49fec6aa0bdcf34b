"""The description of the machine."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import pytest

from hardware import device
from hardware.device import this_device


def test_device_names_processor_and_libraries() -> None:
    described = this_device()
    assert described["cpu"]
    assert described["architecture"] == platform.machine()
    assert 1 <= described["usable_cores"] <= described["cores"]
    assert described["memory_gib"] > 0
    assert {"python", "torch", "onnxruntime"} <= set(described["libraries"])
    assert described == json.loads(json.dumps(described))


def test_device_does_not_name_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "secret-host")
    text = json.dumps(this_device())
    assert "secret-host" not in text
    assert f'"{getpass.getuser()}"' not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("processor\t: 0\nmodel name\t: Fast CPU\n\nprocessor\t: 1\nmodel name\t: Fast CPU\n", "Fast CPU"),
        ("processor\t: 0\nBogoMIPS\t: 38.40\n\nHardware\t: Some Phone SoC\n", "Some Phone SoC"),
    ],
)
def test_processor_names(content: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/proc/cpuinfo": content}

    def read(self: Path, errors: str = "") -> str:
        if str(self) not in files:
            raise FileNotFoundError(self)
        return files[str(self)]

    monkeypatch.setattr(Path, "read_text", read)
    assert device._cpu_model() == expected
    files.clear()
    files["/proc/device-tree/model"] = "Some Board 4\0"
    assert device._cpu_model() == "Some Board 4"
    files.clear()
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert device._cpu_model() == "unknown"
