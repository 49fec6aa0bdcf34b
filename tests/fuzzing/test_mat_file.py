"""Our reader of MATLAB files against SciPy's, and on a file that crashes SciPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from evaluators.datasets.mat_file import read_mat


def cells(*values: object) -> np.ndarray:
    array = np.empty((len(values), 1), dtype=object)
    for place, value in enumerate(values):
        array[place, 0] = value
    return array


@pytest.mark.parametrize("packed", [False, True])
def test_values_equal_those_of_scipy(packed: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    numbers = {kind: random.integers(0, 100, (3, 4)).astype(kind) for kind in ("u1", "i2", "i4", "f4", "f8", "u8")}
    content = {"list": cells(cells("5--Val", "a picture"), np.zeros((0, 1)), np.array([[1.0], [300.0]])), **numbers}
    savemat(tmp_path / "a.mat", content, do_compression=packed)
    ours, theirs = read_mat(tmp_path / "a.mat"), loadmat(tmp_path / "a.mat")
    for kind in numbers:
        assert ours[kind].dtype == theirs[kind].dtype and (ours[kind] == theirs[kind]).all()
    assert [str(value) for value in ours["list"][0, 0].ravel()] == ["5--Val", "a picture"]
    assert ours["list"][1, 0].shape == (0, 1) and ours["list"][2, 0].tolist() == [[1.0], [300.0]]
    assert ours["list"].shape == theirs["list"].shape == (3, 1)


def test_a_file_that_is_none_or_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"list": cells("one", np.arange(6.0))})
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        try:
            read_mat(path)
        except Exception as error:
            assert type(error).__name__ in ("ValueError", "error"), error
    path.write_bytes(b"MATLAB 7.3")
    with pytest.raises(ValueError, match="version 5"):
        read_mat(path)
