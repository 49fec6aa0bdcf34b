"""Every command of the project, found by reading its source, and what each one imports before it begins its work.

``--help`` and a wrong option answer at once only if nothing heavy is imported at a command's start. Which modules a
command has imported is counted and not timed, so that a test can tell it; `benchmarks.hot_paths` tells the seconds.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("searchspaces", "hardware", "evaluators", "strategies", "reports", "facenas", "benchmarks")
ENTRIES = ("run_command", "search_command")  # what a command's last lines call
HEAVY = (
    *("torch", "torchvision", "torchmetrics", "pytorch_lightning", "lightning_fabric", "timm", "nni", "optuna"),
    *("onnx", "onnxruntime", "ai_edge_litert", "ai_edge_quantizer", "litert_torch", "openvino", "ncnn", "executorch"),
    *("scipy", "sklearn", "skimage", "pandas", "matplotlib", "networkx", "PIL", "av"),
)
Command = tuple[str, tuple[str, ...]]  # the module that ``python -m`` runs, and the first arguments


def commands() -> list[Command]:
    """Every command: the modules that end in a call of a command, and the commands of ``facenas``.

    >>> ("strategies.darts", ()) in commands() and ("facenas", ("search", "darts")) in commands()
    True
    """
    from facenas.__main__ import COMMANDS
    from facenas.options import OPTIONS

    found: list[Command] = [(module, ()) for module in modules_with_commands()]
    found += [("facenas", ("search", strategy)) for strategy in OPTIONS]
    found += [("facenas", (name,)) for name in ("nnictl", *COMMANDS)]
    return [*found, *(("reports", (name,)) for name in ("papers", "export", "gallery", "watch"))]


def modules_with_commands() -> list[str]:
    """Modules of the packages that are commands, as ``python -m`` names them; processes that a command starts for
    itself, whose function is private, are none."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            calls = _calls_of_main(ast.parse(path.read_text(encoding="utf-8")))
            if parts[-1] == "__main__":
                found.append(".".join(parts[:-1]))
            elif any(map(_starts_command, calls)):
                found.append(".".join(parts))
    return found


def _calls_of_main(tree: ast.Module) -> Iterator[ast.Call]:
    """The calls below ``if __name__ == "__main__":``."""
    for node in tree.body:
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            yield from (part for part in ast.walk(node) if isinstance(part, ast.Call))


def _starts_command(call: ast.Call) -> bool:
    private = bool(call.args) and isinstance(call.args[0], ast.Name) and call.args[0].id.startswith("_")
    return isinstance(call.func, ast.Name) and call.func.id in ENTRIES and not private


def start(wanted: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, Any]]:
    """Start commands, each in a process of its own that an interpreter without anything heavy is forked into.

    Args:
        wanted: modules and their whole command lines.

    Returns:
        Of each its exit code ``code``, the ``heavy`` modules that it has imported, and the last line that it wrote.
    """
    work = [sys.executable, "-m", "benchmarks.startup_worker"]
    done = subprocess.run(
        work, input=json.dumps([list(wanted), HEAVY]), capture_output=True, text=True, cwd=ROOT, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]
