"""``python -m hardware.measure``: the latency of one network on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .profile import RUNTIME, latency_rows, load_network
from .runtimes import REPETITIONS


def main(architecture: str, runtime: str = RUNTIME, threads: int = 1, repetitions: int = REPETITIONS) -> None:
    """Latency of one network on this machine, with its spread.

    Args:
        architecture: an architecture.json, a run folder that holds one, or a file of the runtime (.onnx).
        runtime: what executes the network.
        threads: threads that one inference may use; with one, CPU time is measured, with more, wall-clock time.
        repetitions: timed runs.
    """
    from rich.console import Console
    from rich.table import Table

    from .device import this_device
    from .runtimes import get_runtime

    chosen = get_runtime(runtime)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(architecture)
        if path.suffix.lower() != chosen.SUFFIX:
            model, input_size = load_network(path)
            path = chosen.export(model, input_size, Path(folder) / f"network{chosen.SUFFIX}")
            chosen.check(model, path, input_size)
        latency = chosen.measure(path, threads, repetitions=repetitions)
    table = Table("figure", "value", "unit and conditions", title=str(architecture), title_justify="left")
    for row in latency_rows(latency.to_dict()):
        table.add_row(*row)
    console = Console()
    console.print(table)
    device = this_device()
    console.print(f"Device: {device['cpu']}, {device['usable_cores']} cores, {device['os']}", highlight=False)


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.measure"))
