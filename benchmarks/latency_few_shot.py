"""How well a device is learned from few measured networks of NAS-Bench-201 and FBNet.

    python -m benchmarks.latency_few_shot --data FOLDER [--json]

FOLDER holds nasbench201.csv.gz and fbnet.csv.gz: a column ``architecture``, and a column of milliseconds for each
device. For each device and number of samples: draws of random architectures to learn from, judged on all others.
The prior of the model knows none of the devices.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from searchspaces.features import Features, Matrix

METHOD = "facenas, prior=roofline"
FLOPS = "FLOPs alone (a + b MACs)"
SIZES = [10, 20, 50, 900]
FEWEST_DRAWS = 20
MEANS = ("spearman", "kendall", "within_10", "coverage_90")
SHIPPED = ("pixel3", "samsung_a50", "samsung_s7", "essential_ph_1")
SOURCE = (
    "public measurements of HELP (Lee et al., NeurIPS 2021; MIT), which include HW-NAS-Bench (Li et al., ICLR 2021); "
    "fitted by facenas"
)
NOTES = {
    ("nasbench201", "pixel3"): "networks that need nothing of their input take microseconds and dominate mape",
    ("fbnet", "pixel3"): "published as a sum of separately measured blocks, not as whole networks",
    **{(space, device): "rounded to 1 ms" for space in ("nasbench201", "fbnet") for device in SHIPPED[1:]},
}


def main(
    data: str = "",
    samples: list[int] = SIZES,
    draws: int = FEWEST_DRAWS,
    json: bool = False,
    profiles: str | None = None,
) -> None:
    """Learn devices from few measurements and judge the predictions on all other architectures.

    Args:
        data: a folder with nasbench201.csv.gz and fbnet.csv.gz.
        samples: numbers of measured architectures to learn from.
        draws: random draws of them; draw i has seed i.
        json: print {"rows": [...], "baselines": [...]} instead of tables.
        profiles: write profiles of the four phones to this folder instead, each fitted to 900 architectures.
    """
    from searchspaces.errors import ConfigError

    if not data:
        raise ConfigError("Name the folder of the measurements: --data FOLDER.")
    if profiles:
        _write_profiles(data, profiles)
        return
    rows, baselines = [], []
    for space, device, features, latency in read_folder(data):
        for n in samples:
            ours, flops = judge_device(features, latency, n, draws)
            head = {"space": space, "device": device, "samples": n, "draws": draws}
            rows.append({**head, "method": METHOD, **ours})
            baselines.append({**head, "method": FLOPS, **flops})
            if not json:
                _print_row(rows[-1], baselines[-1])
    if json:
        print(json_text.dumps({"rows": rows, "baselines": baselines}, indent=1))
    else:
        _print_means(rows)


def read_folder(folder: str | Path) -> Iterator[tuple[str, str, Features, Matrix]]:
    """Space, device, features of all its measured architectures, milliseconds.

    Raises:
        FacenasError: if a file or its column of architectures is missing, or an entry is no latency.
    """
    import pandas as pd

    from searchspaces.errors import DatasetError
    from searchspaces.reference import REFERENCE_SPACES

    for space in ("nasbench201", "fbnet"):
        path = Path(folder) / f"{space}.csv.gz"
        if not path.is_file():
            raise DatasetError(f"No file {path}. It needs a column 'architecture' and a column of ms for each device.")
        table = pd.read_csv(path)
        if "architecture" not in table:
            raise DatasetError(f"{path} has no column 'architecture'.")
        features = REFERENCE_SPACES[space].features(table["architecture"].tolist())
        for device in table.columns.drop("architecture"):
            latency = pd.to_numeric(table[device], errors="coerce").to_numpy(dtype=float)
            bad = [row for row, value in enumerate(latency, start=2) if not 0 < value < float("inf")]
            if bad:
                raise DatasetError(f"{path}, line {bad[0]}: {device} is no latency in milliseconds.")
            yield space, device, features, latency


def judge_device(features: Features, latency: Matrix, n: int, draws: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean accuracy over draws of n samples: of our model, and of a line through the MACs."""
    import numpy as np

    from hardware.accuracy import accuracy, judge
    from hardware.latency import LatencyModel
    from searchspaces.errors import ConfigError

    if n >= len(latency):
        raise ConfigError(f"{n} samples leave none of {len(latency)} architectures to judge on.")
    ours, flops = [], []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(latency))
        learn, rest = order[:n], order[n:]
        found = judge(LatencyModel.fit(features[learn], latency[learn]), features[rest], latency[rest])
        ours.append({**found, "coverage_90": found["coverage"]})
        line = np.polynomial.Polynomial.fit(features.macs[learn], latency[learn], 1)
        flops.append(accuracy(line(features.macs[rest]), latency[rest]))
    means = {name: float(np.mean([entry[name] for entry in ours])) for name in MEANS}
    spread = float(np.std([entry["spearman"] for entry in ours]))
    return {**means, "spearman_sd": spread}, {
        name: float(np.mean([entry[name] for entry in flops])) for name in MEANS[:3]
    }


def _write_profiles(data: str, folder: str) -> None:
    import numpy as np

    from hardware.accuracy import judge
    from hardware.latency import LatencyModel

    for space, device, features, latency in read_folder(data):
        if device not in SHIPPED:
            continue
        order = np.random.default_rng(0).permutation(len(latency))
        learn, rest = order[: SIZES[-1]], order[SIZES[-1] :]
        model = LatencyModel.fit(features[learn], latency[learn])
        found = judge(model, features[rest], latency[rest])
        found = {name: round(value, 4) for name, value in found.items()}
        method = f"{len(rest)} architectures that were not fitted"
        told = {"device": device, "source": SOURCE, "prior": "roofline", "accuracy": {"method": method, **found}}
        if note := NOTES.get((space, device)):
            told["note"] = note
        path = model.with_provenance(**told).save(Path(folder) / f"{device}-{space}.json")
        print(f"{path}: {found}")


def _print_row(ours: dict[str, Any], flops: dict[str, Any]) -> None:
    figures = "  ".join(f"{name} {ours[name]:.3f}" for name in MEANS)
    print(
        f"{ours['space']:12}{ours['device']:16}{ours['samples']:5}  {figures}"
        f"  | FLOPs: spearman {flops['spearman']:.3f}  kendall {flops['kendall']:.3f}"
        f"  within_10 {flops['within_10']:.3f}",
        flush=True,
    )


def _print_means(rows: list[dict[str, Any]]) -> None:
    print(f"\nMeans over devices, {METHOD}")
    for space, n in dict.fromkeys((row["space"], row["samples"]) for row in rows):
        chosen = [row for row in rows if (row["space"], row["samples"]) == (space, n)]
        figures = "  ".join(f"{name} {sum(row[name] for row in chosen) / len(chosen):.4f}" for name in MEANS)
        print(f"{space:12}{n:5}  {figures}")


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m benchmarks.latency_few_shot"))
