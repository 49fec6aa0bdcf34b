"""The benchmark's two forms agree where the difference is accurate."""

from __future__ import annotations

from benchmarks.second_order import main


def test_difference_approaches_the_exact_product_in_double_precision(capsys):
    main(channels=4, size=12, pictures=6)
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "float64" in line]
    finest = [float(cell) for cell in rows[-1][2:]]
    assert float(rows[-1][1]) == 1e-6 and max(finest) < 1e-3
