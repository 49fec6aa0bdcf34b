"""The counters over the networks of torchvision and timm, against torch's own counter and the papers' figures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torchvision.models as vision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hardware.conventions import known_type
from hardware.counters import count, profile_model
from hardware.onnx_graph import profile_onnx
from searchspaces.errors import CostError

Build = Callable[[], nn.Module]


def torch_flops(network: nn.Module, size: tuple[int, ...]) -> int:
    """FlopCounterMode's figure; it does not know the attention kernel of a CPU."""

    def attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
        return sdpa_flop_count(query, key, value)

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={kernel: attention})
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), counter:
            network.eval().requires_grad_(False)(torch.zeros(1, *size))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return counter.get_total_flops()


def check(network: nn.Module, size: tuple[int, ...]) -> dict[str, Any]:
    """Every FLOP that torch sees is counted; what `mac` leaves out is told."""
    profile = profile_model(network, size)
    assert profile["operations"]["flops"] == torch_flops(network, size)
    missed = sum(
        int(n.replace(",", "")) for n in re.findall(r"mac misses ([\d,]+) MACs", " ".join(profile["warnings"]))
    )
    assert profile["operations"]["flops"] == 2 * (profile["operations"]["mac"] + missed)
    assert profile["parameters"]["active"] <= profile["parameters"]["stored"]
    for module in network.modules():
        if known_type(module) is not None and not isinstance(module, nn.MultiheadAttention):
            hidden = [inner for inner in module.modules() if isinstance(inner, nn.Linear | nn.Conv2d)]
            assert hidden in ([], [module]), f"{type(module).__name__} hides layers"
    return profile


@pytest.mark.parametrize(
    ("build", "macs", "published", "where"),
    [
        (vision.mobilenet_v2, 300_774_272, 300e6, "Sandler et al. 2018, Table 4"),
        (vision.mobilenet_v3_large, 216_589_760, 219e6, "Howard et al. 2019, Table 3"),
        (vision.mobilenet_v3_small, 56_510_400, 56e6, "Howard et al. 2019, Table 3"),
        (vision.shufflenet_v2_x1_0, 144_907_992, 146e6, "Ma et al. 2018, Table 8"),
        (vision.efficientnet_b0, 385_814_752, 0.39e9, "Tan and Le 2019, Table 2"),
        (vision.resnet18, 1_814_073_344, 1.8e9, "He et al. 2016, Table 1"),
        # 3.8e9 in the paper, which has the stride in the layers of 1x1; torchvision's own table says 4.09
        (vision.resnet50, 4_089_184_256, 4.09e9, "torchvision"),
        (vision.convnext_tiny, 4_455_531_264, 4.5e9, "Liu et al. 2022, Table 1"),
    ],
)
def test_published_figures(build: Build, macs: int, published: float, where: str) -> None:
    with torch.device("meta"):
        network = build()
    assert profile_model(network, (3, 224, 224))["operations"]["mac"] == macs
    assert macs == pytest.approx(published, rel=0.02), where


@pytest.mark.parametrize(
    "name",
    [
        *(
            "alexnet",
            "densenet121",
            "efficientnet_b0",
            "googlenet",
            "inception_v3",
            "maxvit_t",
            "mnasnet0_5",
            "resnet50",
        ),
        *("mobilenet_v3_large", "shufflenet_v2_x0_5", "squeezenet1_0"),
        *("swin_t", "vgg11", "vit_b_16"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_figures_in_torchvisions_own_table(name: str) -> None:
    weights = vision.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    with torch.device("meta"):
        network = vision.get_model(name, weights=None)
    side = weights.transforms().crop_size[0]
    profile = profile_model(network, (3, side, side))
    # GFLOPs in the table are 1e9 MACs, of all operators
    assert profile["operations"]["flops"] / 2e9 == pytest.approx(weights.meta["_ops"], abs=0.0006)
    # heads that only training uses are not active; the table is of two minds about them
    assert weights.meta["num_params"] in (profile["parameters"]["active"], profile["parameters"]["stored"])


def test_attention_is_part_of_flops() -> None:
    with torch.device("meta"):
        network = vision.vit_b_16()
    # 17.56 GFLOPs (MACs) in torchvision's own table
    assert profile_model(network, (3, 224, 224))["operations"]["flops"] == 2 * 17_563_828_224


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (vision.alexnet, (3, 96, 96)),
        (vision.squeezenet1_1, (3, 64, 64)),
        (vision.googlenet, (3, 64, 64)),
        (vision.shufflenet_v2_x0_5, (3, 64, 64)),
        (vision.regnet_y_400mf, (3, 64, 64)),
        (vision.swin_v2_t, (3, 64, 64)),
        (lambda: vision.VisionTransformer(64, 16, 2, 4, 32, 64), (3, 64, 64)),
        (lambda: vision.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None), (3, 64, 64)),
        (lambda: vision.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None), (3, 320, 320)),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_torchvision(build: Build, size: tuple[int, ...]) -> None:
    check(build(), size)


TIMM = (
    *("test_vit", "test_efficientnet", "test_convnext", "test_byobnet", "test_mambaout", "test_nfnet", "test_resnet"),
    *("ghostnet_050", "mobileone_s1", "repvgg_a0", "levit_128s", "edgenext_xx_small", "fastvit_t8", "mobilevit_xxs"),
    *("efficientvit_b0", "resmlp_12_224", "poolformer_s12", "repghostnet_050", "tinynet_e", "mobilenetv4_conv_small"),
)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    network = timm.create_model(name)
    profile = check(network, (3, *network.default_cfg["input_size"][1:]))
    assert profile["operations"]["flops"] > 0


def timm_modules() -> list[str]:
    timm = pytest.importorskip("timm")
    return sorted({timm.models.model_entrypoint(name).__module__ for name in timm.list_models()})


@pytest.mark.long
def test_two_small_networks_of_every_family_of_timm() -> None:
    timm = pytest.importorskip("timm")
    failed = []
    for module in timm_modules():
        names = timm.list_models(module=module.rpartition(".")[2])
        for name in sorted(names, key=lambda name: ("large" in name or "huge" in name, len(name)))[:2]:
            with torch.device("meta"):
                network = timm.create_model(name)
            if sum(parameter.numel() for parameter in network.parameters()) > 150e6:
                continue
            network = timm.create_model(name)
            try:
                check(network, (3, *network.default_cfg["input_size"][1:]))
            except (AssertionError, CostError) as error:
                failed.append(f"{name}: {error}")
    # torch does not see the recurrent kernel of a CPU
    assert [text for text in failed if not text.startswith("sequencer2d")] == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_every_network_of_torchvision_that_classifies() -> None:
    for name in vision.list_models(module=vision):
        if vision.get_model_weights(name).DEFAULT.meta["num_params"] < 60e6:  # type: ignore[attr-defined]
            side = 299 if "inception" in name else 224
            check(vision.get_model(name, weights=None), (3, side, side))


# The same networks as ONNX files


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "squeezenet1_1"])
@pytest.mark.filterwarnings("ignore")
def test_exported_file_has_the_operations_of_its_network(name: str, tmp_path: Path) -> None:
    network = vision.get_model(name, weights=None).eval()
    path = tmp_path / "network.onnx"
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), str(path), dynamo=False, opset_version=13, verbose=False)
    profile = profile_onnx(path)
    expected = profile_model(network, (3, 64, 64))
    assert profile["operations"]["flops"] == expected["operations"]["flops"]
    assert profile["operations"]["mac"] == count(network, (3, 64, 64))
    assert profile["warnings"] == []


@pytest.mark.filterwarnings("ignore")
def test_exported_attention_and_open_sizes(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4)
            return torch.softmax(query @ key.transpose(-1, -2), -1) @ value

    path, network = tmp_path / "network.onnx", Attention()
    axes = {"x": {0: "batch", 1: "tokens"}}
    torch.onnx.export(
        network, (torch.zeros(2, 5, 8),), str(path), dynamo=False, input_names=["x"], dynamic_axes=axes, verbose=False
    )
    profile = profile_onnx(path, (7, 8))
    assert profile["operations"] == {"mac": 7 * 8 * 24, "flops": 2 * (7 * 8 * 24 + 2 * 2 * 7 * 7 * 4)}
    assert profile["operations"]["flops"] == torch_flops(network, (7, 8))


# Files that others wrote: those inside of the onnx package


def test_files_of_the_onnx_package() -> None:
    files = sorted((Path(onnx.__file__).parent / "backend" / "test" / "data").glob("*/*/model.onnx"))
    assert files
    for path in files:
        profile = profile_onnx(path)
        assert profile["operations"]["flops"] >= 2 * profile["operations"]["mac"] >= 0
        peak, total = (profile["activation_bytes"][key] for key in ("peak", "total"))
        assert 0 <= peak <= total


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_all_operators_of_the_onnx_package(tmp_path: Path) -> None:
    cases = pytest.importorskip("onnx.backend.test.case.node").collect_testcases(None)
    refused = []
    for case in cases:
        path = tmp_path / "network.onnx"
        path.write_bytes(case.model.SerializeToString())
        try:
            profile_onnx(path)
        except CostError as error:
            refused.append(f"{case.name}: {error}")
    assert len(refused) < len(cases) / 25
