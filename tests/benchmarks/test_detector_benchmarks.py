"""The benchmarks of detectors, on small stand-ins."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import orl_faces, single_path_memory
from evaluators.train import save_weights
from searchspaces import Architecture
from searchspaces.errors import DatasetError

PLAIN = {
    **{"backbone": "mobilenet_0.25", "width": 8, "nodes": 2, "head_layers": 1, "lowest_level": 3, "image_size": 64},
    **{"fpn": False, "cpm": False},
}


def test_faces_are_counted_where_they_are(tmp_path, capsys, monkeypatch):
    for person in (1, 2):
        (tmp_path / f"s{person}").mkdir()
        for number in (1, 2):
            Image.fromarray(np.zeros((112, 92), np.uint8)).save(tmp_path / f"s{person}" / f"{number}.pgm")
    architecture = Architecture("asfd", PLAIN, {})
    architecture.save(tmp_path / "architecture.json")
    save_weights(architecture.build(seed=0), tmp_path / "weights.safetensors")
    answers = iter([[[93, 85, 163, 175], [0, 0, 40, 50]], [], [[0, 0, 70, 90]], [[90, 90, 160, 180]]])

    def find(network, picture, threshold):
        assert picture.shape == (3, 256, 256) and picture[0, 0, 0] == 127 and picture[0, 128, 128] == 0
        return [{"box": box, "score": 0.9} for box in next(answers)]

    monkeypatch.setattr("evaluators.detect.find_faces", find)
    orl_faces.main(str(tmp_path), str(tmp_path), as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result == {"photographs": 4, "found": 2, "wrong_boxes": 2, "threshold": 0.5}
    with pytest.raises(DatasetError, match="ORL_faces"):
        orl_faces.main(str(tmp_path), str(tmp_path / "s1"))


def test_memory_is_told_as_ratios(capsys):
    single_path_memory.main(nodes=[2, 3], width=8, side=4, batch=1, partial_channels=1, samples=1, as_json=True)
    ratios = json.loads(capsys.readouterr().out)["ratios"]
    assert set(ratios) == {"2", "3"} and ratios["3"] > ratios["2"] > 1
