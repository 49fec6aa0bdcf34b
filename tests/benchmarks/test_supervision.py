"""The benchmark runs on a small set, and its interval is scipy's."""

from __future__ import annotations

import json

import pytest
from scipy.stats import ttest_1samp

from benchmarks.supervision import main, paired
from searchspaces import Architecture
from searchspaces.errors import ConfigError

from ..evaluators.test_training import write_folder
from ..searchspaces.genotypes import TABLE_4, choices


def test_interval_is_that_of_the_paired_t_test():
    values = [0.1, -0.2, 0.4, 0.3]
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    found = paired(values)
    assert (found["low"], found["high"]) == pytest.approx((low, high))


def test_both_supervisions_are_compared_seed_by_seed(tmp_path, capsys):
    options = {"channels": 4, "layout": "RN", "image_size": 20}
    file = Architecture("autofas", options, choices(TABLE_4)).save(tmp_path / "a.json")
    root, out = write_folder(tmp_path / "data"), tmp_path / "out.json"
    main(str(file), seeds=2, data="folder", data_root=str(root), epochs=1, out=str(out))
    rows = json.loads(out.read_text())["rows"]
    assert [row["seed"] for row in rows] == [0, 1] and rows[0]["pixel"] != rows[0]["binary"]
    assert "95 % interval" in capsys.readouterr().out
    with pytest.raises(ConfigError):
        main(str(file), seeds=1)
