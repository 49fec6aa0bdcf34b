"""The benchmark compares what it says: paired blocks, and the operations of the configurations that Table 2 draws."""

from __future__ import annotations

import json

import pytest

from benchmarks.pta_training_time import main, ratio_with_interval
from searchspaces.errors import ConfigError


def test_expected_operations_are_those_of_table_2(capsys):
    main(batch=2, blocks=2, iterations=1, json=True)
    result = json.loads(capsys.readouterr().out)
    expected = 0.45 * 104_151_554 + 0.15 * (100_628_994 + 96_508_418 + 99_000_834) + 0.10 * 87_835_138
    assert result["multiply_add_ratio_expected"] == pytest.approx(expected / 104_151_554, abs=1e-9)
    assert round(result["multiply_add_ratio_expected"], 3) == 0.961
    assert result["ratio"] > 0 and result["low"] <= result["ratio"] <= result["high"]


def test_a_slow_phase_that_hits_both_does_not_move_the_ratio():
    slow = [1.0, 1.0, 1.0, 9.0, 9.0]
    ratio, low, high = ratio_with_interval([0.8 * t for t in slow], slow)
    assert ratio == pytest.approx(0.8) and low == pytest.approx(0.8) and high == pytest.approx(0.8)


def test_too_few_blocks_are_refused():
    with pytest.raises(ConfigError, match="blocks"):
        main(blocks=1)
