"""Backbones of detectors: maps of stride 4, 8, 16 and 32 from a picture.

ResNets are torchvision's, MobileNetV1 (Howard et al., 2017) is built here because torchvision has none; its parameters
have timm's names, so weights of timm's ``mobilenetv1_100`` fit it.
"""

from __future__ import annotations

import textwrap
from collections import OrderedDict
from pathlib import Path

from torch import Tensor, nn
from torchvision import models

from .errors import ArchitectureError, ConfigError
from .weights import load_pickled, read_weights

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MOBILENETS = {"mobilenet_0.25": 0.25, "mobilenet_1.0": 1.0}
BACKBONES = (*MOBILENETS, *RESNETS)
# stride, channels and repeats of each stage after the stem of 32 channels; Table 1 of the MobileNet paper
MOBILENET_STAGES = ((1, 64, 1), (2, 128, 2), (2, 256, 2), (2, 512, 6), (2, 1024, 2))


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution, each with batch norm and ReLU6."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv_pw = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x))))))


class MobileNet(nn.Module):
    """MobileNetV1 without its classifier: ``(N, 3, H, W)`` to maps of stride 4, 8, 16 and 32."""

    def __init__(self, multiplier: float) -> None:
        super().__init__()
        channels = round(32 * multiplier)
        self.conv_stem = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = nn.ReLU6()
        stages, self.channels = [], []
        for stride, base, repeats in MOBILENET_STAGES:
            out = round(base * multiplier)
            blocks = [SeparableBlock(channels if i == 0 else out, out, stride if i == 0 else 1) for i in range(repeats)]
            stages.append(nn.Sequential(*blocks))
            channels = out
            self.channels.append(out)
        self.blocks = nn.Sequential(*stages)
        self.channels = self.channels[1:]  # the first stage has stride 2

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.act(self.bn1(self.conv_stem(x)))
        maps = []
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        return maps[1:]


class ResNet(nn.Module):
    """torchvision's ResNet without its classifier: ``(N, 3, H, W)`` to maps of stride 4, 8, 16 and 32."""

    def __init__(self, name: str) -> None:
        super().__init__()
        network = getattr(models, name)()
        stem = OrderedDict((part, getattr(network, part)) for part in ("conv1", "bn1", "relu", "maxpool"))
        self.stem = nn.Sequential(stem)
        self.stages = nn.ModuleList([network.layer1, network.layer2, network.layer3, network.layer4])
        self.channels = [network.fc.in_features // 8 * 2**index for index in range(4)]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def build_backbone(name: str) -> MobileNet | ResNet:
    """A backbone with random weights; ``channels`` are those of its four maps.

    Raises:
        ConfigError: if there is none of this name.
    """
    if name in MOBILENETS:
        return MobileNet(MOBILENETS[name])
    if name not in RESNETS:
        raise ConfigError(f"backbone is {name!r}; expected one of {', '.join(BACKBONES)}.")
    return ResNet(name)


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Load ImageNet weights from a file: torchvision's of a ResNet, timm's of ``mobilenetv1_100``; safetensors, or a
    state dict of torch, which is read without running any code. The classifier's entries are left out.

    Raises:
        ArchitectureError: if the file cannot be read, or holds the weights of another network.
    """
    state = _read_state(Path(path))
    if isinstance(backbone, ResNet):
        state = {_resnet_name(key): value for key, value in state.items()}
    own = backbone.state_dict()
    try:
        backbone.load_state_dict({key: value for key, value in state.items() if key in own})
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise ArchitectureError(f"The weights {path} belong to another backbone: {reason}") from error


def _resnet_name(key: str) -> str:
    """``layer2.0.conv1.weight`` as ``stages.1.0.conv1.weight``, ``bn1.weight`` as ``stem.bn1.weight``."""
    first, _, rest = key.partition(".")
    if first.startswith("layer"):
        return f"stages.{int(first.removeprefix('layer')) - 1}.{rest}"
    return f"stem.{key}"


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_weights(path)
    try:
        state = load_pickled(path)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ArchitectureError(
            f"Cannot read the backbone's weights {path}: {' '.join(str(error).split())[:200]}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise ArchitectureError(f"{path} is no state dict: a mapping from names to tensors is expected.")
    return state
