"""The machine that a figure was taken on, described without naming its owner."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "onnx", "onnxruntime", "numpy")


def this_device() -> dict[str, Any]:
    """This machine: ``cpu``, ``architecture``, ``cores``, ``usable_cores``, ``memory_gib``, ``os``, ``libraries``.

    There is no host name and no user name in it, so it can be published with a figure.
    """
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "os": _operating_system(),
        "libraries": {"python": platform.python_version(), **_library_versions()},
    }


def _cpu_model() -> str:
    """The processor's name: of x86 from /proc/cpuinfo, of an ARM board or phone from the device tree."""
    sources = (("/proc/cpuinfo", ("model name", "Hardware", "Model")), ("/proc/device-tree/model", ()))
    for path, keys in sources:
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in reversed(text.splitlines()) if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        name = next((fields[key] for key in keys if fields.get(key)), "") if keys else text.strip("\0 \n")
        if name:
            return name
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None


def _operating_system() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
