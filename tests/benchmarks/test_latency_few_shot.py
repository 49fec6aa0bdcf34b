"""The few-shot benchmark reads a folder, judges every device and size once, and beats FLOPs on a known device."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks.latency_few_shot import main, read_folder
from searchspaces.errors import ConfigError, DatasetError
from searchspaces.reference import REFERENCE_SPACES
from tests.hardware.synthetic_devices import measure


@pytest.fixture
def folder(tmp_path):
    for name in ("nasbench201", "fbnet"):
        space = REFERENCE_SPACES[name]
        architectures = space.random(150, seed=0)
        features = space.features(architectures)
        devices = {device: measure(features, device) for device in ("slow_start", "slow_memory")}
        pd.DataFrame({"architecture": architectures, **devices}).to_csv(tmp_path / f"{name}.csv.gz", index=False)
    return tmp_path


def test_every_device_and_size_is_judged_once_beside_flops(folder, capsys):
    main(data=str(folder), samples=[10, 60], draws=2, json=True)
    found = json.loads(capsys.readouterr().out)
    expected = {(s, d, n) for s in ("nasbench201", "fbnet") for d in ("slow_start", "slow_memory") for n in (10, 60)}
    for part in ("rows", "baselines"):
        keys = [(row["space"], row["device"], row["samples"]) for row in found[part]]
        assert len(keys) == len(set(keys)) and set(keys) == expected
        assert all({"spearman", "kendall", "within_10", "method"} <= set(row) for row in found[part])
    ours = sum(row["spearman"] for row in found["rows"])
    assert ours > sum(row["spearman"] for row in found["baselines"]) and ours / len(expected) > 0.85


def test_a_table_is_printed_without_json(folder, capsys):
    main(data=str(folder), samples=[10], draws=1)
    assert "Means over devices" in capsys.readouterr().out


def test_what_cannot_be_judged_is_refused(folder):
    with pytest.raises(ConfigError, match="--data"):
        main()
    with pytest.raises(ConfigError, match="150 samples"):
        main(data=str(folder), samples=[150], draws=1)
    with pytest.raises(DatasetError, match="fbnet"):
        (folder / "fbnet.csv.gz").unlink()
        list(read_folder(folder))
    table = pd.read_csv(folder / "nasbench201.csv.gz")
    table.loc[4, "slow_start"] = -1
    table.to_csv(folder / "nasbench201.csv.gz", index=False)
    with pytest.raises(DatasetError, match="line 6: slow_start"):
        list(read_folder(folder))
