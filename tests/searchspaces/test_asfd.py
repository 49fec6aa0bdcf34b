"""ASFD: the family's sizes, the modules of AutoFEM against their formulas, backbones against their sources."""

from __future__ import annotations

import subprocess
import sys

import networkx as nx
import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from hardware.counters import count
from searchspaces import Architecture, build_space
from searchspaces.asfd import MEMBERS, map_shapes, member_options, scaling, table5_architecture
from searchspaces.autofem import (
    CPM_OPERATIONS,
    FPN_OPERATIONS,
    Pyramid,
    Tree,
    leaves,
    path_weights,
    paths_of,
    pyramid_edges,
    tree_parents,
)
from searchspaces.backbones import BACKBONES, RESNETS, build_backbone, load_backbone
from searchspaces.cascade import cascade
from searchspaces.errors import ArchitectureError, ConfigError, FacenasError
from searchspaces.operations import DEPTHWISE_SEPARABLE, OPERATIONS
from searchspaces.sampling import random_choices

SMALL = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 4, "head_layers": 1, "lowest_level": 3, "image_size": 64}
# parameters in millions, MACs in billions at 640x480: Table 5 of the paper
TABLE5 = {
    "D0": (0.62, 0.73),
    "D1": (3.90, 4.27),
    "D2": (13.56, 20.48),
    "D3": (26.56, 46.32),
    "D4": (36.76, 70.45),
    "D5": (67.73, 147.40),
    "D6": (86.10, 183.11),
}
TABLE1 = {  # channels, layers of AutoFEM, layers of a head
    "D0": (64, 0.5, 1),
    "D1": (64, 0.5, 1),
    "D2": (128, 0.5, 1),
    "D3": (192, 1, 2),
    "D4": (256, 1, 2),
    "D5": (320, 2, 4),
    "D6": (384, 2, 4),
}


def sizes(member, profile="table5"):
    with torch.device("meta"):
        network = table5_architecture(member, profile).build().eval()
    return sum(p.numel() for p in network.parameters()) / 1e6, count(network, (3, 480, 640)) / 1e9


def random_detector(name="asfd", seed=0, **options):
    options = {**SMALL, **options}
    space = build_space(name, **options)
    return Architecture(name, options, random_choices(space, np.random.RandomState(seed)))


@pytest.mark.parametrize("member", MEMBERS)
def test_the_scaling_rule_gives_table_1(member):
    assert scaling(MEMBERS[member][0]) == TABLE1[member]


@pytest.mark.parametrize("member", ["D1", "D2", "D3", "D4", "D5"])
def test_members_have_the_size_of_table_5(member):
    parameters, macs = sizes(member)
    assert parameters == pytest.approx(TABLE5[member][0], rel=0.05)
    assert macs == pytest.approx(TABLE5[member][1], rel=0.08)


def test_the_two_members_that_do_not_fit_the_family_are_as_far_off_as_documented():
    assert sizes("D0") == pytest.approx((0.69, 0.82), rel=0.01)  # the paper's 0.62 and 0.73
    assert sizes("D6") == pytest.approx((92.8, 225.5), rel=0.001)  # 86.10 and 183.11: no rule fits D5 and D6


def test_the_text_has_six_levels_everywhere():
    assert member_options("D0", "text")["lowest_level"] == 2 and member_options("D0")["lowest_level"] == 3
    assert sizes("D1", "text")[1] > 1.3 * TABLE5["D1"][1]


@pytest.mark.parametrize("name", ["D7", "d1", ""])
def test_an_unknown_member_is_refused(name):
    with pytest.raises(ConfigError, match="members are D0"):
        member_options(name)


# ---- the modules


def test_the_number_of_points():
    space = build_space("asfd", **{**SMALL, "lowest_level": 2, "nodes": 6})
    assert len(pyramid_edges(space.levels)) == 16
    assert space.sizes()["pyramids"] == 6**16 == 2_821_109_907_456
    assert space.sizes()["trees_of_a_level"] == 720 * 12**6 == 2_149_908_480
    labels = space.simplify()
    assert len(labels) == 16 + 6 * (6 + 5)


def constant(value: float) -> nn.Module:
    """An operation that multiplies by a number."""
    module = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


@pytest.mark.parametrize("chain", ["product", "sum"])
def test_a_pyramid_is_eq_2(chain):
    """Constant maps, operations that multiply by numbers: every level is a number that Eq. 2 gives by hand."""
    levels, x = [5, 6, 7], {5: 2.0, 6: 3.0, 7: 5.0}
    factors = {edge: 1 + 0.1 * index for index, edge in enumerate(pyramid_edges(levels))}
    choices = {f"fpn/{edge}": "conv_1x1" for edge in pyramid_edges(levels)}
    pyramid = Pyramid(choices, 1, levels, chain).eval()
    for edge, factor in factors.items():
        pyramid.operations[edge] = constant(factor)
    for level in levels:
        pyramid.merge[str(level)] = nn.Identity()
        nn.init.normal_(pyramid.betas[str(level)])
    maps = [torch.full((1, 1, 12 // 2**i, 12 // 2**i), x[level]) for i, level in enumerate(levels)]
    join = (lambda a, b: a * b) if chain == "product" else (lambda a, b: a + b)
    top_down = {7: x[7]}
    for level in (6, 5):
        top_down[level] = join(x[level], factors[f"top_down_{level}"] * top_down[level + 1])
    bottom_up = {5: x[5]}
    for level in (6, 7):
        bottom_up[level] = join(x[level], factors[f"bottom_up_{level}"] * bottom_up[level - 1])
    for level, found in zip(levels, pyramid(maps), strict=True):
        terms = {"lateral": factors[f"lateral_{level}"] * x[level], "top_down": top_down.get(level)}
        terms["bottom_up"] = bottom_up.get(level)
        share = dict(zip(paths_of(levels, level), F.softmax(pyramid.betas[str(level)], 0).tolist(), strict=True))
        expected = sum(share[path] * terms[path] for path in share)
        assert len(share) == (3 if level == 6 else 2)
        torch.testing.assert_close(found, torch.full_like(found, expected))


def test_a_tree_joins_its_leaves_only():
    choices = {"t/input_2": 1, "t/input_3": 1, "t/input_4": 0}
    choices |= {f"t/op_{node}": "conv_1x1" for node in range(1, 5)}
    parents = tree_parents(choices, "t", 4)
    assert parents == [0, 1, 1, 0] and leaves(parents) == [2, 3, 4]
    tree = Tree(choices, "t", 2, 4, 4).eval()
    assert tree.fuse[1].in_channels == 3 * 2
    assert Tree(choices, "t", 2, 4, 4, output="all").fuse[1].in_channels == 4 * 2
    tree.operations = nn.ModuleList(constant_of_two(factor) for factor in (2.0, 3.0, 5.0, 7.0))
    tree.fuse = nn.Sequential()
    found = tree(torch.ones(1, 2, 1, 1)).flatten().tolist()
    assert found == [6.0, 6.0, 10.0, 10.0, 7.0, 7.0]  # nodes 2, 3 on node 1; node 4 on the input


def constant_of_two(value: float) -> nn.Module:
    module = nn.Conv2d(2, 2, 1, bias=False, groups=2)
    nn.init.constant_(module.weight, value)
    return module


def test_half_of_the_nodes_is_the_beginning_of_the_tree():
    whole, half = random_detector("autofem-cpm"), random_detector("autofem-cpm", half_nodes=True)
    assert whole.choices == half.choices
    for tree, beginning in zip(whole.build().trees, half.build().trees, strict=True):
        assert beginning.parents == tree.parents[:2] and len(beginning.operations) == 2


@pytest.mark.parametrize("name", DEPTHWISE_SEPARABLE)
def test_operations_are_depthwise_separable_and_keep_the_size(name):
    operation = OPERATIONS[name](6, 1, True)
    convolutions = [module for module in operation if isinstance(module, nn.Conv2d)]
    assert all(c.groups == 6 or c.kernel_size == (1, 1) for c in convolutions)
    assert convolutions[-1].kernel_size == (1, 1)
    assert operation(torch.zeros(2, 6, 13, 9)).shape == (2, 6, 13, 9)
    if name != "conv_1x1":
        height, width = (int(side) for side in name.split("_")[2].split("x"))
        assert convolutions[0].kernel_size == (height, width)


def test_the_candidates_are_those_of_the_paper():
    assert len(set(FPN_OPERATIONS)) == 6 and len(set(CPM_OPERATIONS)) == 12
    assert set(FPN_OPERATIONS) < set(CPM_OPERATIONS) == set(DEPTHWISE_SEPARABLE)


# ---- the detector


@pytest.mark.parametrize("size", [(64, 64), (100, 172), (33, 250)])
@pytest.mark.parametrize("lowest_level", [2, 3])
def test_a_detector_takes_any_picture_and_answers_for_every_anchor(size, lowest_level):
    network = random_detector(lowest_level=lowest_level).build().eval()
    shapes = map_shapes(*size, range(lowest_level, 8))
    assert network(torch.zeros(2, 3, *size)).shape == (2, sum(h * w for h, w in shapes), 6)


def test_the_first_shot_sees_the_backbone_and_the_second_autofem():
    network = random_detector().build(seed=0).train()
    outputs = network(torch.randn(2, 3, 64, 64))
    enhanced = [*network.laterals.parameters(), *network.pyramids.parameters(), *network.trees.parameters()]
    own = list(network.original.parameters())

    def felt(shot, parameters):
        found = torch.autograd.grad(outputs[:, shot].square().sum(), parameters, retain_graph=True)
        return [bool(gradient.any()) for gradient in found]

    assert not any(felt(0, enhanced)) and not any(felt(1, own))
    assert any(felt(1, enhanced)) and any(felt(0, own))
    heads = list(network.head.parameters())
    assert all(felt(0, heads)) and all(felt(1, heads))


def test_a_detector_without_autofem_has_nothing_to_choose():
    options = {**SMALL, "fpn": False, "cpm": False}
    network = Architecture("asfd", options, {}).build()
    assert not len(network.pyramids) and not len(network.trees)
    assert build_space("asfd", **options).simplify() == {}


def test_a_found_pyramid_and_found_trees_make_one_detector():
    pyramid, trees = random_detector("autofem-fpn", 1), random_detector("autofem-cpm", 2)
    both = cascade(pyramid, trees, width=16)
    assert both.choices == {**pyramid.choices, **trees.choices}
    assert both.build()(torch.zeros(2, 3, 64, 64)).shape[0] == 2
    small = cascade(random_detector("autofem-fpn", 1, lowest_level=2), random_detector("autofem-cpm", 2), nodes=4)
    assert "fpn/lateral_2" not in small.choices
    with pytest.raises(FacenasError, match="missing"):
        cascade(pyramid, pyramid)


def test_the_command_writes_a_member_of_the_family(tmp_path):
    files = [random_detector(f"autofem-{part}", nodes=6).save(tmp_path / f"{part}.json") for part in ("fpn", "cpm")]
    command = [sys.executable, "-m", "searchspaces.cascade", *map(str, files)]
    out = tmp_path / "both.json"
    subprocess.run([*command, "--member", "D0", "--out", str(out)], check=True, capture_output=True)
    both = Architecture.load(out)
    assert both.options["width"] == 64 and both.options["half_nodes"] and len(both.build().trees) == 5
    wrong = subprocess.run([*command, "--member", "D9", "--out", str(out)], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "members are D0" in wrong.stderr


def test_the_graph_has_every_operation_once():
    architecture = random_detector(nodes=6)
    graph = architecture.graph()
    drawn = [operation for *_, operation in graph.edges(data="operation") if operation]
    chosen = [choice for choice in architecture.choices.values() if isinstance(choice, str)]
    assert sorted(drawn) == sorted(chosen)
    assert nx.is_directed_acyclic_graph(graph)
    weights = {"fpn/beta_5": {"lateral": 0.5, "top_down": 0.3, "bottom_up": 0.2}, "cpm_5/beta_2": {0: 0.4, 1: 0.6}}
    assert all(graph.has_node(node) for source, target, _ in path_weights(weights) for node in (source, target))
    assert ("fpn/t_5", "fpn/p_5", 0.3) in list(path_weights(weights))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet19"}, "expected one of"),
        ({"width": 2}, "width of a detector is 2"),
        ({"lowest_level": 4}, "lowest_level"),
        ({"chain": "minus"}, "product or sum"),
        ({"output": "root"}, "leaves or all"),
        ({"image_size": 32}, "image_size"),
    ],
)
def test_options_that_make_no_detector_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_space("asfd", **{**SMALL, **options})


# ---- backbones


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_gives_maps_of_stride_4_to_32(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
        maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize(("name", "parameters"), [("mobilenet_0.25", 0.213), ("mobilenet_1.0", 3.207)])
def test_mobilenets_have_their_size(name, parameters):
    assert sum(p.numel() for p in build_backbone(name).parameters()) / 1e6 == pytest.approx(parameters, abs=5e-4)


def test_weights_of_timm_fit_the_mobilenet_and_give_its_maps(tmp_path):
    theirs = timm.create_model("mobilenetv1_100", pretrained=False).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    ours = build_backbone("mobilenet_1.0").eval()
    load_backbone(ours, tmp_path / "weights.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x)[-1], theirs.blocks(theirs.bn1(theirs.conv_stem(x))))


def test_weights_of_torchvision_fit_the_resnet(tmp_path):
    from torchvision import models

    theirs = models.resnet18().eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "weights.pth")
    ours = build_backbone("resnet18").eval()
    load_backbone(ours, tmp_path / "weights.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = theirs.fc(ours(x)[-1].mean((2, 3)))
        torch.testing.assert_close(logits, theirs(x))


def test_weights_of_another_backbone_or_of_none_are_refused(tmp_path):
    torch.save(build_backbone("mobilenet_0.25").state_dict(), tmp_path / "small.pth")
    with pytest.raises(ArchitectureError, match="another backbone"):
        load_backbone(build_backbone("mobilenet_1.0"), tmp_path / "small.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(ArchitectureError, match="Cannot read"):
        load_backbone(build_backbone("mobilenet_1.0"), tmp_path / "broken.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ArchitectureError, match="no state dict"):
        load_backbone(build_backbone("resnet18"), tmp_path / "list.pth")
    assert len(RESNETS) == 5
