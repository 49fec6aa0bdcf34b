"""``python -m hardware.deploy``: the files that an application needs to switch a network's branches on a device.

``pta.onnx`` holds all configurations, ``HHH.onnx`` and so on one each, and tiers.json says which configuration to
choose for a latency budget.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ArchitectureError, ConfigError, RunFolderError
from searchspaces.files import read_json

from .runtimes import REPETITIONS
from .tiers import PROTOCOL, STATISTIC, check_figure, make_tiers, read_latencies, write_tiers

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1  # of configurations.json
MEASURED = ("switchable_ms", "p25_ms", "p75_ms", "spread_ms", "noisy", "latency")  # of a configuration
TIERS, ROWS, WEIGHTS = "tiers.json", "configurations.json", "weights.safetensors"


# ---- the files of one network


def deploy_network(
    network: Any,
    rows: Sequence[Mapping[str, Any]],
    folder: str | Path,
    *,
    configurations: Sequence[str],
    threads: int = 1,
    repetitions: int = REPETITIONS,
    latencies: str | Path | None = None,
    simulated: bool | None = None,
    beside: Mapping[str, nn.Module] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Export a network whose branches are switched, check every file against it, measure, and write tiers.json.

    Args:
        network: with all branches (see `hardware.switchable`). It is left as it was.
        rows: those of configurations.json: ``configuration``, ``val`` with ``eer``, ``parameters``, ``mac``.
        folder: where to write. tiers.json comes last, so that it never names files that are not there.
        configurations: those to export as files of their own, and to make tiers of.
        threads: threads of one inference.
        repetitions: timed runs of each configuration.
        latencies: a file for `read_latencies`, instead of measuring here.
        simulated: whether the errors are of simulated data.
        beside: other networks of the same input, by name, measured in turn with the configurations.

    Returns:
        Rows, and the latency of each network ``beside``. A row of a configuration has ``configuration``,
        ``parameters``, ``mac``, ``bytes``, ``difference`` (the largest from torch, of both files), ``error``,
        ``latency_ms``, ``switchable_ms``, ``p25_ms``, ``p75_ms``, ``spread_ms``, ``noisy`` and ``latency``, that of
        the slim file whole (all after ``latency_ms`` None where the latencies were given).

    Raises:
        FacenasError: if a configuration is unknown or has no error, or a file cannot be written, checked or measured.
    """
    from .device import this_device
    from .runtimes import onnxruntime
    from .switchable import check_switchable, export_slim, export_switchable, keeping_configuration

    folder, name = Path(folder), f"{type(network).__name__.lower()}.onnx"
    errors = _errors(rows, configurations)
    given = read_latencies(latencies, configurations, network.configurations()) if latencies else None
    path = export_switchable(network, folder / name)
    differences = check_switchable(network, path)
    files = {}
    with keeping_configuration(network):
        for configuration in configurations:
            files[configuration] = export_slim(network, configuration, folder / f"{configuration}.onnx")
            network.configure(configuration)
            difference = onnxruntime.check(network, files[configuration], network.input_size)
            differences[configuration] = max(difference, differences[configuration])
    others: dict[str, dict[str, Any]] = {}
    if given is not None:
        timed = {name: {"latency_ms": float(given["latency_ms"][name])} for name in configurations}
        device, protocol = given["device"], {key: given.get(key) for key in PROTOCOL}
    else:
        timed, protocol, others = _measure(path, files, beside or {}, network.input_size, threads, repetitions)
        device = this_device()
    facts, nothing = {row["configuration"]: row for row in rows}, dict.fromkeys(MEASURED)
    result = [
        {
            "configuration": name,
            "parameters": facts[name].get("parameters"),
            "mac": facts[name].get("mac"),
            "bytes": files[name].stat().st_size,
            "difference": differences[name],
            "error": errors[name],
            **nothing,
            **timed[name],
        }
        for name in configurations
    ]
    slim = {configuration: file.name for configuration, file in files.items()}
    where: dict[str, Any] = {"device": device, "protocol": protocol, "simulated": simulated}
    write_tiers(folder / TIERS, make_tiers(result), network=path.name, slim=slim, **where)
    for other in set(network.configurations()) - set(slim):  # files of an earlier call, which no tier names any more
        (folder / f"{other}.onnx").unlink(missing_ok=True)
    return result, others


def _errors(rows: Sequence[Mapping[str, Any]], configurations: Sequence[str]) -> dict[str, float]:
    found = {row.get("configuration"): row.get("val") for row in rows}
    errors = {}
    for name in configurations:
        error = (found.get(name) or {}).get("eer")
        if error is None:
            raise RunFolderError(f"{ROWS} has no validation error of {name}: run the search again, or leave it out.")
        check_figure(error, f"The validation error of {name} in {ROWS}", positive=False)
        errors[name] = error
    return errors


def _measure(
    path: Path,
    files: Mapping[str, Path],
    beside: Mapping[str, nn.Module],
    input_size: Sequence[int],
    threads: int,
    repetitions: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], dict[str, dict[str, Any]]]:
    """Figures of each configuration, how they were taken, and the latencies of the networks beside them."""
    from .runtimes.onnxruntime import export
    from .switchable import measure_switchable

    timed, protocol, others = {}, {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        exported = {
            name: export(other, input_size, Path(temporary) / f"{number}.onnx")
            for number, (name, other) in enumerate(beside.items())
        }
        measured = measure_switchable(path, files, threads, repetitions, beside=exported)
    for name, (switchable, slim) in measured.items():
        if switchable is None:
            others[name] = slim.to_dict()
            continue
        timed[name] = {
            "latency_ms": slim.median_ms,
            "switchable_ms": switchable.median_ms,
            "p25_ms": slim.p25_ms,
            "p75_ms": slim.p75_ms,
            "spread_ms": slim.iqr_ms,
            "noisy": slim.noisy or switchable.noisy,
            "latency": slim.to_dict(),
        }
        protocol = {**slim.to_dict(), "statistic": STATISTIC}
    return timed, protocol, others


# ---- the command


def main(
    run: str,
    configurations: str = "reported",
    out: str | None = None,
    threads: int = 1,
    repetitions: int = REPETITIONS,
    latencies: str | None = None,
) -> None:
    """Files for an application: one network that switches its branches, slim ones, and latency tiers.

    Args:
        run: the folder of a finished PTA run.
        configurations: which become slim files and tiers: reported (those of the paper), all, or names such as
            HHH,LLL.
        out: the folder to write to; deploy in the run folder by default.
        threads: threads that one inference may use; with one, CPU time is measured, with more, wall-clock time.
        repetitions: timed runs of each configuration.
        latencies: a JSON file with latencies taken on another device, instead of measuring here.
    """
    folder = Path(run)
    network, content = load_run(folder)
    chosen = choose(network, configurations)
    rows, _ = deploy_network(
        network,
        content["rows"],
        Path(out) if out else folder / "deploy",
        configurations=chosen,
        threads=threads,
        repetitions=repetitions,
        latencies=latencies,
        simulated=(content.get("data") or {}).get("simulated"),
    )
    _print(Path(out) if out else folder / "deploy", rows, latencies)


def load_run(folder: str | Path) -> tuple[Any, dict[str, Any]]:
    """The network of a run with all its branches and weights, and the content of its configurations.json.

    Raises:
        FacenasError: if the folder holds no such run, another space, or the weights of a slim network.
    """
    from searchspaces import Architecture
    from searchspaces.architecture import load_weights

    folder = Path(folder)
    if not (folder / "architecture.json").is_file():
        raise RunFolderError(f"{folder} is no run folder: it has no architecture.json.")
    architecture = Architecture.load(folder)
    network: Any = architecture.model_space()
    if not hasattr(network, "configure"):
        raise ArchitectureError(
            f"{folder} holds a network of the space {architecture.space!r}, which has no branches to switch: "
            "use `python -m hardware.profile` for its file and latency."
        )
    load_weights(network, folder / WEIGHTS)
    path = folder / ROWS
    if not path.is_file():
        raise RunFolderError(
            f"{folder} has no {ROWS}, from which the validation errors are read: give the folder of a finished "
            f"`python -m strategies.single_path --space {architecture.space}`."
        )
    content = read_configurations(path)
    if content.get("format") != FORMAT or content.get("space") != architecture.space:
        raise RunFolderError(
            f"{path} is not of format {FORMAT} and space {architecture.space!r}: run the search again."
        )
    return network.eval(), content


def read_configurations(path: Path) -> dict[str, Any]:
    """The content of configurations.json.

    Raises:
        RunFolderError: if it is damaged, with what to do.
    """
    cure = f"Remove it, and `python -m strategies.single_path --resume --out {path.parent}` judges once more."
    try:
        content = read_json(path, RunFolderError)
    except RunFolderError as error:
        raise RunFolderError(f"{error} {cure}") from error
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "configuration" in row for row in rows):
        raise RunFolderError(f"{path} has no list of rows with their configurations. {cure}")
    for name in ("options", "data"):
        if not isinstance(content.setdefault(name, {}), dict):
            raise RunFolderError(f"{path} is damaged: {name!r} is no object. {cure}")
    for row in rows:
        if not isinstance(row.get("val") or {}, dict):
            raise RunFolderError(f"{path} is damaged: 'val' of {row['configuration']} is no object. {cure}")
    return content


def choose(network: Any, text: str) -> list[str]:
    """The configurations that ``--configurations`` names, each once.

    Raises:
        ConfigError: naming what is wrong with one.
    """
    from searchspaces.pta import REPORTED

    from .switchable import keeping_configuration

    if text == "all":
        return network.configurations()
    names = list(REPORTED) if text == "reported" else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError("--configurations names none: give reported, all, or names such as HHH,LLL.")
    with keeping_configuration(network):
        for name in names:
            network.configure(name)  # says what is wrong with it
    return list(dict.fromkeys(names))


def _print(folder: Path, rows: Sequence[Mapping[str, Any]], latencies: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    content = read_json(folder / TIERS)
    table = Table(title=f"{folder}, batch 1", title_justify="left", box=box.SIMPLE, pad_edge=False)
    network = content["network"]
    headings = (
        "",
        "params\nM",
        "MACs\nM",
        "file\nMB",
        "median\nms",
        "p25 to p75\nms",
        "rela-\ntive",
        f"in {network}\nms",
    )
    for name in (*headings, "from\ntorch"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    heavy = next((row["latency_ms"] for row in rows if set(row["configuration"]) == {"H"}), None)
    for row in rows:
        table.add_row(*_cells(row, heavy))
    console = Console()
    console.print(table)
    size = (folder / content["network"]).stat().st_size
    device = content["device"]
    where = device.get("cpu") or device.get("name") or "as given"
    how = f"given by {latencies}" if latencies else _protocol(content)
    console.print(f"{content['network']}: {size / 1e6:.2f} MB, all configurations", highlight=False, markup=False)
    console.print(f"Latency: {where}, {how}; relative to HHH", highlight=False, markup=False)
    error = "validation EER" + (", simulated data" if content["error"]["simulated"] else "")
    for tier in content["tiers"]:
        line = f"from {tier['budget_ms']:.3f} ms: {tier['configuration']} ({error} {tier['error']:.1%})"
        console.print(line, highlight=False, markup=False)
    if any(row["noisy"] for row in rows):
        console.print("NOISY: repeat on an idle machine", highlight=False)


def _cells(row: Mapping[str, Any], heavy: float | None) -> list[str]:
    latency, inside = row["latency_ms"], row["switchable_ms"]
    return [
        row["configuration"],
        "-" if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f}",
        "-" if row["mac"] is None else f"{row['mac'] / 1e6:.1f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{latency:.2f}",
        "-" if row["p25_ms"] is None else f"{row['p25_ms']:.2f}-{row['p75_ms']:.2f}",
        "-" if heavy is None else f"{latency / heavy:.2f}",
        "-" if inside is None else f"{inside:.2f}",
        f"{row['difference']:.0e}",
    ]


def _protocol(content: Mapping[str, Any]) -> str:
    threads = "1 thread" if content["threads"] == 1 else f"{content['threads']} threads"
    return (
        f"{content['runtime']} {content['version']}, {threads}, {content['dtype']}, {content['clock']} clock, "
        f"{content['repetitions']} runs"
    )


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.deploy"))
