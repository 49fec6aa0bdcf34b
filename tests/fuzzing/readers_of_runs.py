"""Readers of run folders, configurations, checkpoints and experiments of NNI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .readers import Reader


def _config(folder: Path) -> dict[str, str]:
    from facenas.options import DartsOptions, to_dict
    from searchspaces.folder import write_config

    write_config(folder, to_dict(DartsOptions(space_options={"channels": 4}, task_options={"a": 1})))
    return {"config.yaml": "yaml"}


def _read_config(folder: Path, file: Path) -> Any:
    from facenas.options import DartsOptions, from_run
    from searchspaces.folder import read_config

    return from_run(DartsOptions(), read_config(folder))


def _read_given_config(folder: Path, file: Path) -> Any:
    """``--config FILE`` of a search."""
    from facenas.options import DartsOptions, resolve
    from searchspaces.cli import parse_command, parse_values

    return resolve(parse_values(DartsOptions, parse_command(DartsOptions, ["--config", str(file)])))


RUN_FILES = {
    "config.yaml": "yaml", "search.csv": "table", "training.csv": "table", "architecture.json": "json",
    "architectures.jsonl": "json lines", "metrics.json": "json", "cost.json": "json", "data.json": "json",
    "provenance.json": "json",
}  # fmt: skip


def _run(folder: Path) -> dict[str, str]:
    from tests.reports.conftest import write_run

    made = write_run(folder / "run", epochs=4)
    return {f"run/{name}": kind for name, kind in RUN_FILES.items() if (made / name).exists()}


def _read_run(folder: Path, file: Path) -> Any:
    from reports.run import Run

    return Run(folder / "run").read_all().problems


def _write_report(folder: Path, file: Path) -> Any:
    from reports.page import write_report

    return write_report([folder / "run"], folder / "report.html", pictures=False)


def _pta_run(folder: Path) -> dict[str, str]:
    from tests.reports.conftest import write_pta_run

    made = write_pta_run(folder / "run", epochs=4)
    return {
        f"run/{path.name}": RUN_FILES.get(path.name, "json")
        for path in made.iterdir()
        if path.suffix != ".npy" and path.is_file()
    }


def _read_configurations(folder: Path, file: Path) -> Any:
    from hardware.deploy import read_configurations

    return read_configurations(folder / "run/configurations.json")


def _checkpoint(folder: Path) -> dict[str, str]:
    import torch

    state = {"epoch": 3, "state_dict": {"w": torch.zeros(3, 3)}, "search_history": [{"epoch": 0}], "loops": {}}
    for name in ("last.ckpt", "previous.ckpt"):
        torch.save(state, folder / name)
    return {"last.ckpt": "zip"}


def _read_checkpoint(folder: Path, file: Path) -> Any:
    from evaluators.checkpoint import latest_checkpoint

    return latest_checkpoint(folder)


def _experiment(folder: Path) -> dict[str, str]:
    (folder / "code").mkdir()
    (folder / "code/trial.py").write_text("")
    content = {
        "searchSpace": {"x": {"_type": "choice", "_value": [1, 2]}}, "trialCommand": "python trial.py",
        "trialCodeDirectory": "code", "trialConcurrency": 2, "tuner": {"name": "Random"},
        "trainingService": {"platform": "local"}, "searchSpaceFile": "space.json",
    }  # fmt: skip
    (folder / "space.json").write_text("{}")
    (folder / "e.yml").write_text(yaml.safe_dump(content))
    return {"e.yml": "yaml"}


def _read_experiment(folder: Path, file: Path) -> Any:
    from facenas.nnictl import check_config

    return check_config(file)


def _state(folder: Path) -> dict[str, str]:
    import numpy as np

    from strategies.nni_compat import JsonState

    random = np.random.RandomState(0)
    JsonState().save({"random": random.get_state(), "array": np.arange(3.0), "list": [1, ("a", 2)]}, folder / "state")
    return {"state.json": "json"}


def _read_state(folder: Path, file: Path) -> Any:
    from strategies.nni_compat import JsonState

    return JsonState().load(folder / "state")


def _reproduced(folder: Path) -> dict[str, str]:
    metrics = {"acer": {"value": 0.1, "low": 0.05, "high": 0.2}, "eer": {"value": 0.1}}
    (folder / "step").mkdir()
    (folder / "step/metrics.json").write_text(json.dumps(metrics))
    (folder / "pta").mkdir()
    rows = [{"configuration": "HHH", "metrics": metrics}, {"configuration": "LLL", "metrics": metrics}]
    (folder / "pta/configurations.json").write_text(json.dumps({"rows": rows, "reference": {"metrics": metrics}}))
    (folder / "settings.json").write_text(json.dumps({"table": "auto-fas-1", "recipe": "quick", "seed": 0}))
    return {"step/metrics.json": "json", "pta/configurations.json": "json", "settings.json": "json"}


def _read_reproduced(folder: Path, file: Path) -> Any:
    from facenas import reproduce
    from facenas.paper_experiments import Row

    if file.name == "settings.json":
        (folder / reproduce.SETTINGS).write_bytes(file.read_bytes())
        return reproduce.claim(folder, {"table": "auto-fas-1", "recipe": "quick", "seed": 0})
    row = Row("a", ("step",), {}) if file.name == "metrics.json" else Row("a", ("pta",), {}, configuration="HHH")
    return reproduce.cells_of(row, {"ACER": "acer"}, folder)


def _candidates(folder: Path) -> dict[str, str]:
    from strategies.record import CandidateLog

    log = CandidateLog(folder)
    for number in range(3):
        log.add({"a": number, "b": [0, 1]}, {"default": 0.5, "val_auc": 0.8, "macs_spent": 3.0}, 1.5)
    return {"architectures.jsonl": "json lines"}


def _read_candidates(folder: Path, file: Path) -> Any:
    from strategies.record import CandidateLog

    log = CandidateLog(folder)
    log.restore()
    log.add({"a": 9}, {"default": 0.5, "macs_spent": 3.0}, 1.5)


def _recognition_run(folder: Path) -> dict[str, str]:
    from searchspaces.weights import write_weights

    from .readers_of_networks import SPACES, architecture
    from .readers_of_pictures import noise

    own = architecture("airface", **SPACES["airface"])
    own.save(folder / "architecture.json")
    write_weights(own.build(seed=0).state_dict(), folder / "weights.safetensors")
    (folder / "data.json").write_text(json.dumps({"name": "orl", "image_size": 40}))
    (folder / "metrics.json").write_text(json.dumps({"threshold": {"value": 0.3, "low": None, "high": None}}))
    noise((64, 64)).save(folder / "face.png")
    return {"data.json": "json", "metrics.json": "json"}


def _read_recognition_run(folder: Path, file: Path) -> Any:
    from evaluators.embed import load_run

    embed, _ = load_run(folder)
    return embed(str(folder / "face.png"))


def _watch(folder: Path, file: Path) -> Any:
    from rich.console import Console

    from reports.progress import Watched
    from reports.watch_frame import frame

    (folder / "run/report.html").unlink(missing_ok=True)
    seen = Watched(folder / "run").look(1e9)
    Console(width=80).print(frame(seen))
    return seen.status


def _paper_results(folder: Path) -> dict[str, str]:
    from reports.paper_comparison import TARGETS

    experiment = sorted(TARGETS)[0]
    row, heading = next(iter(TARGETS[experiment]))
    rows = [{"row": row, "ours": {heading: {"mean": 0.05, "deviation": 0.01}}}]
    told = {"table": experiment, "rows": rows, "recipe": "quick", "remarks": ["six folds"]}
    (folder / "table.json").write_text(json.dumps(told))
    return {"table.json": "json"}


def _read_paper_results(folder: Path, file: Path) -> Any:
    from reports.paper_comparison import read_results

    return read_results([file])


READERS = [
    Reader("config.yaml of a run", _config, _read_config, 0.3),
    Reader("a config that is given", _config, _read_given_config, 0.3),
    Reader("run folders", _run, _read_run, 0.2, whole=True),
    Reader("report of a run", _run, _write_report, 0.02, 30, whole=True),
    Reader("run folders of pta", _pta_run, _read_run, 0.2, whole=True),
    Reader("report of a run of pta", _pta_run, _write_report, 0.02, 30, whole=True),
    Reader("configurations.json", _pta_run, _read_configurations, 0.5),
    Reader("checkpoints", _checkpoint, _read_checkpoint),
    Reader("candidates of a search", _candidates, _read_candidates, 0.5),
    Reader("run that embeds pictures", _recognition_run, _read_recognition_run, 0.2),
    Reader("experiments of nni", _experiment, _read_experiment),
    Reader("state of an nni strategy", _state, _read_state),
    Reader("reproduced tables", _reproduced, _read_reproduced),
    Reader("results for the papers' page", _paper_results, _read_paper_results, 0.5),
    Reader("run folders that are watched", _run, _watch, 0.2, whole=True),
]
