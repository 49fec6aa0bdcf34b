"""Numbers on the edges of a drawn detector come from its trained weights and from its search."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evaluators.train import save_weights
from reports.drawing import architecture_figure
from reports.run import Run
from searchspaces import Architecture, build_space
from searchspaces.sampling import random_choices

OPTIONS = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 3, "head_layers": 1, "lowest_level": 3, "image_size": 64}


@pytest.fixture
def run(tmp_path):
    choices = random_choices(build_space("asfd", **OPTIONS), np.random.RandomState(0))
    choices["cpm_5/input_2"] = 1
    architecture = Architecture("asfd", OPTIONS, choices, {"epoch": 1})
    architecture.save(tmp_path / "architecture.json")
    (tmp_path / "config.yaml").write_text("space: asfd\n")
    network = architecture.build(seed=0)
    with torch.no_grad():
        network.pyramids[0].betas["5"].copy_(torch.log(torch.tensor([0.5, 0.3, 0.2])))
    save_weights(network, tmp_path / "weights.safetensors")
    probabilities = {"cpm_5/beta_2": [0.25, 0.75], "fpn/beta_5": [0.9, 0.05, 0.05]}
    rows = [{"epoch": epoch, "choices": choices, "probabilities": dict(probabilities)} for epoch in (0, 1)]
    rows[0]["probabilities"]["cpm_5/beta_2"] = [0.5, 0.5]
    (tmp_path / "architectures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def weight(graph, source, target):
    (data,) = graph.get_edge_data(source, target).values()
    return data["weight"]


def test_trained_weights_of_paths_and_searched_weights_of_parents(run):
    graph = Run(run).graph
    assert weight(graph, "fpn/x_5", "fpn/p_5") == pytest.approx(0.5)
    assert weight(graph, "fpn/t_5", "fpn/p_5") == pytest.approx(0.3)
    assert weight(graph, "fpn/b_5", "fpn/p_5") == pytest.approx(0.2)
    assert weight(graph, "fpn/x_3", "fpn/p_3") == pytest.approx(0.5)  # two paths, not trained yet
    assert weight(graph, "cpm_5/1", "cpm_5/2") == 0.75
    assert weight(graph, "cpm_4/0", "cpm_4/1") is None
    assert graph.graph["weights"] == "trained"


def test_without_trained_weights_those_of_the_search_are_called_so(run):
    (run / "weights.safetensors").unlink()
    graph = Run(run).graph
    assert weight(graph, "fpn/x_5", "fpn/p_5") == pytest.approx(0.9)
    (note,) = [legend.get_title().get_text() for legend in architecture_figure(graph).legends]
    assert "weights in the search" in note and "trained" not in note and "sure the search was" in note


def test_damaged_records_leave_the_drawing_without_numbers(run):
    (run / "weights.safetensors").write_bytes(b"nothing")
    record = {"epoch": 1, "probabilities": {"cpm_5/beta_2": "many", "cpm_5/beta_x": [1], "fpn/beta_5": [1.0]}}
    (run / "architectures.jsonl").write_text(json.dumps(record) + "\n")
    graph = Run(run).graph
    assert all(value is None for *_, value in graph.edges(data="weight"))
