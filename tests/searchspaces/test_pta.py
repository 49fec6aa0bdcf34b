"""The PTA space: the paper's integers, MobileNetV2 as one of its points, and branches that switch at run time."""

from __future__ import annotations

import pytest
import torch
from nni.nas.nn.pytorch import ModelSpace
from torch import nn
from torchvision.models import mobilenet_v2

from hardware.counters import count, count_parameters
from searchspaces import Architecture, build_space
from searchspaces.architecture import load_weights
from searchspaces.errors import ArchitectureError, ConfigError, FacenasError
from searchspaces.pta import (
    CONFIGURATIONS,
    REPORTED,
    SAMPLING,
    MutableBlock,
    check_configuration,
    choices_of,
    configuration_of,
    from_mobilenet_v2,
)

SMALL = {"width": 0.25, "image_size": 64}
# exact counts at 128x128 with two classes: parameters in use, operations in the convention of ptflops, plain MACs
COUNTS = {
    "HHH": (2_226_434, 104_151_554, 97_796_608),
    "LHH": (2_172_162, 100_628_994, 94_429_696),
    "HLH": (2_108_162, 96_508_418, 90_386_944),
    "HHL": (1_906_434, 99_000_834, 92_743_168),
    "LLL": (1_733_890, 87_835_138, 81_966_592),
    "BBB": (2_718_978, 120_467_970, 113_626_624),
}


@pytest.fixture(scope="module")
def network():
    return build_space("pta").eval()


@pytest.fixture
def small():
    torch.manual_seed(0)
    network = build_space("pta", **SMALL)
    for module in network.modules():  # statistics that matter
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def pictures(size=64, n=2):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("configuration", COUNTS)
def test_counts_of_the_paper(network, configuration):
    parameters, ptflops, macs = COUNTS[configuration]
    network.configure(configuration)
    counted = count_parameters(network, (3, 128, 128))
    assert counted["active"] == parameters
    assert counted["stored"] == COUNTS["BBB"][0]
    assert count(network, (3, 128, 128), "ptflops") == ptflops
    assert count(network, (3, 128, 128)) == macs
    slim = Architecture("pta", {}, choices_of(configuration)).build(seed=0)
    assert sum(parameter.numel() for parameter in slim.parameters()) == parameters


def test_parameters_of_a_block(network):
    inverted_residuals = [sum(p.numel() for p in block.light.parameters()) for block in network.blocks]
    assert inverted_residuals == [54_272, 118_272, 320_000]
    assert [sum(p.numel() for p in block.heavy.parameters()) for block in network.blocks] == [
        2 * n for n in inverted_residuals
    ]


def test_all_heavy_is_mobilenet_v2(network):
    torch.manual_seed(0)
    theirs = mobilenet_v2(num_classes=2).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    missing = network.load_state_dict(from_mobilenet_v2(theirs.state_dict()), strict=False)
    assert not missing.unexpected_keys
    assert all(".light." in key for key in missing.missing_keys)
    x = pictures(128)
    with torch.no_grad():
        torch.testing.assert_close(network.configure("HHH")(x), theirs(x), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(network.configure("LHH")(x), theirs(x))


def test_space_and_sampling():
    space = build_space("pta", **SMALL)
    assert isinstance(space, ModelSpace)
    assert {label: mutable.values for label, mutable in space.simplify().items()} == {
        f"block_{n}": ["light", "heavy", "both"] for n in (1, 2, 3)
    }
    assert space.sizes() == {"configurations": 27, "trained": 5}
    assert len(set(CONFIGURATIONS)) == 27 == len(space.configurations())
    assert sum(SAMPLING.values()) == pytest.approx(1)
    assert [p for _, p in space.sampling_table()] == [0.45, 0.15, 0.15, 0.15, 0.10]
    assert not any("both" in choices.values() for choices, _ in space.sampling_table())


def test_both_is_the_mean_of_the_branches(small):
    block = small.blocks[1]
    x = torch.randn(2, block.channels, 4, 4)
    outputs = {}
    for mode in ("light", "heavy", "both"):
        block.mode = mode
        outputs[mode] = block(x)
    torch.testing.assert_close(outputs["both"], (outputs["light"] + outputs["heavy"]) / 2)
    torch.testing.assert_close(outputs["heavy"], block.heavy[1](block.heavy[0](x)))


@pytest.mark.parametrize("configuration", [*REPORTED, "LBH", "BLB"])
def test_slim_networks_have_the_outputs_of_the_whole_one(small, configuration, tmp_path):
    from evaluators.train import save_weights

    x = pictures()
    with torch.no_grad():
        expected = small.configure(configuration)(x)
        frozen = small.freeze(choices_of(configuration)).eval()
        assert torch.equal(frozen(x), expected)
        assert frozen.configuration == configuration
        save_weights(small, tmp_path / "all.safetensors")
        architecture = Architecture("pta", SMALL, choices_of(configuration))
        built = architecture.build(weights=tmp_path / "all.safetensors").eval()
        assert torch.equal(built(x), expected)
        save_weights(built, tmp_path / "slim.safetensors")
        again = architecture.build(weights=tmp_path / "slim.safetensors").eval()
        assert torch.equal(again(x), expected)


def test_switching_touches_no_weight_and_builds_nothing(small):
    x = pictures()
    modules = list(small.modules())
    with torch.no_grad():
        first = {c: small.configure(c)(x) for c in CONFIGURATIONS}
        for c in reversed(CONFIGURATIONS):
            assert torch.equal(small.configure(c)(x), first[c])
    assert small.configuration == CONFIGURATIONS[0]
    assert all(a is b for a, b in zip(modules, small.modules(), strict=True))
    assert len({tuple(first[c].flatten().tolist()) for c in CONFIGURATIONS}) == 27


def test_unused_branches_are_not_run(small):
    def forbidden(*_):
        raise AssertionError("an unused branch ran")

    small.configure("LHL")
    for block, unused in zip(small.blocks, ("heavy", "light", "heavy"), strict=True):
        getattr(block, unused).register_forward_hook(forbidden)
    small(pictures())


@pytest.mark.parametrize("text", ["HH", "HHHH", "", "HHX", "hhh", None, 3])
def test_wrong_configurations(small, text):
    with pytest.raises(ConfigError, match=r"L \(light\), H \(heavy\) or B \(both\)") as error:
        small.configure(text)
    assert repr(text) in str(error.value) and "\n" not in str(error.value)
    assert small.configuration == "HHH"  # as it was


def test_a_slim_network_says_which_branch_it_lacks():
    slim = Architecture("pta", SMALL, choices_of("LHB")).build()
    assert slim.configurations() == ["LHL", "LHH", "LHB"]
    slim.configure("LHL")
    with pytest.raises(ArchitectureError, match="heavy branch of block 1"):
        slim.configure("HHH")
    assert slim.configuration == "LHL"


def test_weights_that_do_not_fit(tmp_path):
    from evaluators.train import save_weights

    save_weights(Architecture("pta", SMALL, choices_of("LHH")).build(), tmp_path / "slim.safetensors")
    save_weights(build_space("autofas", channels=4), tmp_path / "autofas.safetensors")
    save_weights(build_space("pta", width=0.5, image_size=64), tmp_path / "wide.safetensors")
    for name, words in [
        ("slim", "lack the heavy branch of block 1"),
        ("autofas", "belong to another network"),
        ("wide", "belong to another network"),
    ]:
        with pytest.raises(ArchitectureError, match=words) as error:
            load_weights(build_space("pta", **SMALL), tmp_path / f"{name}.safetensors")
        assert "\n" not in str(error.value) and name in str(error.value)


@pytest.mark.parametrize(
    "options", [{"image_size": 16}, {"classes": 1}, {"width": 0.0}, {"dropout": 1.0}, {"widht": 1.0}, {"width": 1}]
)
def test_wrong_options(options):
    with pytest.raises(FacenasError) as error:
        build_space("pta", **options)
    assert next(iter(options)) in str(error.value)


def test_choices_and_configurations_are_the_same_thing():
    for configuration in CONFIGURATIONS:
        assert configuration_of(choices_of(check_configuration(configuration))) == configuration
    with pytest.raises(ArchitectureError, match="no choices of pta"):
        configuration_of({"block_1": "light"})
    with pytest.raises(FacenasError, match="Did you mean 'heavy'"):
        Architecture("pta", {}, {**choices_of("HHH"), "block_2": "heavi"})


def test_every_parameter_of_the_path_gets_a_gradient_and_no_other(small):
    small.train().configure("LHB")
    small(pictures(n=4)).sum().backward()
    for name, parameter in small.named_parameters():
        unused = name.startswith("features.9.heavy") or name.startswith("features.11.light")
        assert (parameter.grad is None) == unused, name


def test_graph_marks_what_runs():
    graph = Architecture("pta", {}, choices_of("LHB")).graph()
    used = {(d["block"], d["branch"]) for _, d in graph.nodes(data=True) if d["kind"] == "branch" and d["used"]}
    assert used == {(1, "light"), (2, "heavy"), (3, "light"), (3, "heavy")}
    assert [d["label"] for _, d in graph.nodes(data=True) if d["kind"] == "mean"] == ["", "", "mean"]
    import networkx

    assert networkx.is_directed_acyclic_graph(graph)
    assert networkx.has_path(graph, "input", "output")


def test_blocks_declare_one_choice_each():
    block = MutableBlock(8, "block_1")
    assert list(block.simplify()) == ["block_1"]
    assert block.freeze({"block_1": "light"}).heavy is None
