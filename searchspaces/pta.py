"""PTA (Khabarlak, 2022): a MobileNetV2 in which three pairs of blocks have a light and a heavy branch.

The branches are chosen after training, while the network runs. ``build_space("pta")`` is that network: it holds all
branches, and ``network.configure("LHH")`` switches them without building anything anew. An `Architecture` with
choices, or NNI's ``freeze``, is a network that holds only the branches it uses.

A configuration is written as in the paper, one letter a block: L runs the light branch, H the heavy one, B both and
takes their mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import networkx as nx
from nni.mutable import Categorical
from nni.nas.nn.pytorch import ModelSpace, MutableModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.mobilenetv2 import InvertedResidual, _make_divisible
from torchvision.ops.misc import Conv2dNormActivation

from .errors import ArchitectureError, ConfigError
from .registry import OpenChoice, register_space

BRANCHES = {"L": "light", "H": "heavy", "B": "both"}
LETTERS = {branch: letter for letter, branch in BRANCHES.items()}
BLOCKS = 3
STEM, LAST = 32, 1280  # channels of the first and of the last convolution
EXPANSION = 6
# Table 1 of the paper: kind, channels, repeats, stride of the first. The first stage expands by 1, all others by 6.
STAGES = (
    ("ir", 16, 1, 1),
    ("ir", 24, 2, 2),
    ("ir", 32, 3, 2),
    ("ir", 64, 2, 2),
    ("pta", 64, 1, 1),
    ("ir", 96, 1, 1),
    ("pta", 96, 1, 1),
    ("ir", 160, 1, 2),
    ("pta", 160, 1, 1),
    ("ir", 320, 1, 1),
)
# Table 2: how often each configuration is drawn in training; configurations that are missing are never trained
SAMPLING = {"HHH": 0.45, "LHH": 0.15, "HLH": 0.15, "HHL": 0.15, "LLL": 0.10}
REPORTED = ("HHH", "LHH", "HLH", "HHL", "LLL", "BBB")  # Tables 3 and 4; HHH is MobileNetV2
CONFIGURATIONS = tuple("".join(letters) for letters in product("LHB", repeat=BLOCKS))

OPEN_CHOICES = [
    OpenChoice("image_size", 128, "Given by the paper; its input is the face's box, resized."),
    OpenChoice("dropout", 0.2, "The paper names none; torchvision's MobileNetV2 has 0.2 before the last layer."),
    OpenChoice("width", 1.0, "Given by the paper; narrower networks are for experiments."),
]


class PtaBlock(nn.Module):
    """A light and a heavy branch, or those of them that are stored: ``(N, C, H, W)`` both ways.

    Args:
        channels: C.
        stored: ``light``, ``heavy`` or ``both``: the branches that the block holds.
    """

    def __init__(self, channels: int, stored: str = "both") -> None:
        super().__init__()
        self.light = _residual(channels, channels) if stored != "heavy" else None
        self.heavy = nn.Sequential(*[_residual(channels, channels) for _ in range(2)]) if stored != "light" else None
        self.mode = stored

    def forward(self, x: Tensor) -> Tensor:
        return run_branches(self, x)


class MutableBlock(MutableModule):
    """A block of the search space: NNI's declaration of the choice, and both branches to run it with.

    Unlike NNI's LayerChoice it can also take both branches without a third set of weights.
    """

    def __init__(self, channels: int, label: str) -> None:
        super().__init__()
        self.channels, self.label = channels, label
        self.add_mutable(Categorical(list(LETTERS), label=label))
        self.light = _residual(channels, channels)
        self.heavy = nn.Sequential(*[_residual(channels, channels) for _ in range(2)])
        self.mode = "heavy"

    @classmethod
    def create_fixed_module(cls, sample: dict[str, Any], channels: int, label: str) -> PtaBlock:
        """What NNI builds in place of this block inside ``model_context(sample)``."""
        return PtaBlock(channels, sample[label])

    def freeze(self, sample: dict[str, Any]) -> PtaBlock:
        """The chosen block, with the very weights of this one."""
        self.validate(sample)
        block = PtaBlock(self.channels, sample[self.label])
        for name in ("light", "heavy"):
            if getattr(block, name) is not None:
                setattr(block, name, getattr(self, name))
        return block

    def set_choices(self, choices: Mapping[str, Any]) -> None:
        """Run another branch from now on."""
        self.mode = choices[self.label]

    def forward(self, x: Tensor) -> Tensor:
        return run_branches(self, x)


def run_branches(block: Any, x: Tensor) -> Tensor:
    """Run the branch that ``block.mode`` names; "both" is the element-wise mean of the two (section 3 of the paper)."""
    if block.mode == "both":
        return 0.5 * (block.light(x) + block.heavy(x))
    return getattr(block, block.mode)(x)


@register_space("pta", open_choices=OPEN_CHOICES)
class Pta(ModelSpace):
    """The PTA search space and network: ``(N, 3, image_size, image_size) -> (N, classes)`` logits.

    For anti-spoofing class 0 is an attack and class 1 a live face. With all blocks heavy it is torchvision's
    ``mobilenet_v2`` (see `from_mobilenet_v2`).

    Args:
        image_size: side of the picture in pixels; 128 in the paper.
        classes: number of logits.
        width: factor of all channels, rounded to multiples of 8 as MobileNetV2 does.
        dropout: before the last layer.

    Raises:
        ConfigError: if the options cannot make a network.
    """

    sampling = SAMPLING  # the strategy of sampled single paths draws from it unless it is told otherwise
    trained_once = True  # the weights of a sampled training are the product: nothing is trained anew

    def __init__(self, image_size: int = 128, classes: int = 2, width: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        _check(image_size, classes, width, dropout)
        self.image_size, self.classes, self.width = image_size, classes, width
        channels = _make_divisible(STEM * width, 8)
        layers: list[nn.Module] = [_convolution(3, channels, 3, stride=2)]
        for index, (kind, base, repeats, stride) in enumerate(STAGES):
            out = _make_divisible(base * width, 8)
            for repeat in range(repeats):
                if kind == "pta":
                    layers.append(MutableBlock(out, label=f"block_{_count_blocks(layers) + 1}"))
                else:
                    expansion = 1 if index == 0 else EXPANSION
                    layers.append(InvertedResidual(channels, out, stride if repeat == 0 else 1, expansion))
                channels = out
        last = _make_divisible(LAST * max(1.0, width), 8)
        layers.append(_convolution(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))

    # ---- configurations

    @property
    def blocks(self) -> list[Any]:
        """The three blocks, from input to output."""
        return [block for _, block in self._indexed_blocks()]

    def _indexed_blocks(self) -> list[tuple[int, Any]]:
        return [(index, layer) for index, layer in enumerate(self.features) if hasattr(layer, "mode")]

    @property
    def configuration(self) -> str:
        """What the network runs now, such as ``"LHH"``."""
        return "".join(LETTERS[block.mode] for block in self.blocks)

    def configure(self, configuration: str) -> Pta:
        """Run other branches from now on: ``network.configure("LHH")``. Takes no time; no weight is touched.

        Raises:
            ConfigError: if the configuration has the wrong length or an unknown letter.
            ArchitectureError: if the network does not hold a branch, because it was built without it.
        """
        modes = [BRANCHES[letter] for letter in check_configuration(configuration)]
        for number, (block, mode) in enumerate(zip(self.blocks, modes, strict=True), start=1):
            missing = [name for name in ("light", "heavy") if mode in (name, "both") and getattr(block, name) is None]
            if missing:
                raise ArchitectureError(
                    f"Configuration {configuration} needs the {missing[0]} branch of block {number}, which this "
                    f"network does not hold: it was built as a slim {self.configuration}. Load all branches instead."
                )
        for block, mode in zip(self.blocks, modes, strict=True):
            block.mode = mode
        return self

    def configurations(self) -> list[str]:
        """All that `configure` takes, light first: 27 if the network holds all branches."""
        held = [[letter for letter, mode in BRANCHES.items() if _holds(block, mode)] for block in self.blocks]
        return ["".join(letters) for letters in product(*held)]

    def sampling_table(self, probabilities: Mapping[str, float] | None = None) -> list[tuple[dict[str, str], float]]:
        """How often a sampled training draws each configuration: its choices and its probability.

        Args:
            probabilities: by configuration; Table 2 of the paper by default.

        Raises:
            ConfigError: for an unknown configuration.
        """
        given = self.sampling if probabilities is None else probabilities
        return [(choices_of(configuration), probability) for configuration, probability in given.items()]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; a slim network takes its own out of those of the whole one.

        Raises:
            ArchitectureError: if the weights lack a branch that the network holds.
            RuntimeError: if they belong to another network.
        """
        state = dict(state_dict)
        for number, (index, block) in enumerate(self._indexed_blocks(), start=1):
            for branch in ("light", "heavy"):
                prefix = f"features.{index}.{branch}."
                found = [name for name in state if name.startswith(prefix)]
                if getattr(block, branch) is None:
                    for name in found:
                        del state[name]
                elif strict and not found and f"features.{index - 1}.conv.0.0.weight" in state:
                    raise ArchitectureError(
                        f"These weights lack the {branch} branch of block {number}: they are those of a slim network. "
                        "Take the weights of all branches, or choose the configuration that they were saved for."
                    )
        return super().load_state_dict(state, strict=strict, assign=assign)

    # ---- what every space tells

    @property
    def input_size(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)

    def sizes(self) -> dict[str, int]:
        """Ways to count the space: configurations that can run, and those that Table 2 trains."""
        return {"configurations": len(CONFIGURATIONS), "trained": len(SAMPLING)}

    def graph(self, choices: dict[str, Any]) -> nx.MultiDiGraph:
        """The layers as a chain whose blocks fork into branches.

        Nodes have ``kind`` (input, stage, branch, mean, output), ``label``, ``channels`` and ``used``: whether the
        configuration runs them. Branches also have ``block`` (1 to 3) and ``branch`` (light or heavy).
        """
        return _graph(self, choices)


def check_configuration(configuration: str) -> str:
    """The configuration itself, if it is one.

    Raises:
        ConfigError: saying which letter is wrong.

    >>> check_configuration("LHB")
    'LHB'
    """
    rule = "write one letter a block: L (light), H (heavy) or B (both), such as LHH"
    if not isinstance(configuration, str) or len(configuration) != BLOCKS:
        raise ConfigError(f"Configuration {configuration!r} of pta must have {BLOCKS} letters: {rule}.")
    for number, letter in enumerate(configuration, start=1):
        if letter not in BRANCHES:
            raise ConfigError(
                f"Configuration {configuration!r} of pta: letter {number} is {letter!r}; {rule}, in capitals."
            )
    return configuration


def choices_of(configuration: str) -> dict[str, str]:
    """A configuration as NNI's sample.

    >>> choices_of("LHB")
    {'block_1': 'light', 'block_2': 'heavy', 'block_3': 'both'}
    """
    letters = check_configuration(configuration)
    return {f"block_{number}": BRANCHES[letter] for number, letter in enumerate(letters, start=1)}


def configuration_of(choices: Mapping[str, Any]) -> str:
    """The inverse of `choices_of`.

    Raises:
        ArchitectureError: if these are not choices of this space.
    """
    try:
        return "".join(LETTERS[choices[f"block_{number}"]] for number in range(1, BLOCKS + 1))
    except (KeyError, TypeError):
        raise ArchitectureError(f"{dict(choices)!r} are no choices of pta.") from None


def from_mobilenet_v2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision's ``mobilenet_v2`` under the names of this network: its heavy branches and trunk.

    Load it with ``strict=False``: the light branches are not in it.

    >>> list(from_mobilenet_v2({"features.9.conv.3.weight": None, "features.18.1.weight": None}))
    ['features.9.heavy.0.conv.3.weight', 'features.15.1.weight']
    """
    names: dict[int, str] = {}
    torchvision = 0
    for index, kind in enumerate(["stem", *(kind for kind, _, repeats, _ in STAGES for _ in range(repeats)), "last"]):
        if kind == "pta":
            names[torchvision], names[torchvision + 1] = f"{index}.heavy.0", f"{index}.heavy.1"
            torchvision += 2
        else:
            names[torchvision] = str(index)
            torchvision += 1
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first == "features":
            index_text, _, rest = rest.partition(".")
            key = f"features.{names[int(index_text)]}.{rest}"
        renamed[key] = value
    return renamed


def _residual(channels: int, out: int) -> InvertedResidual:
    return InvertedResidual(channels, out, stride=1, expand_ratio=EXPANSION)


def _convolution(channels: int, out: int, kernel: int, stride: int = 1) -> Conv2dNormActivation:
    return Conv2dNormActivation(channels, out, kernel_size=kernel, stride=stride, activation_layer=nn.ReLU6)


def _count_blocks(layers: list[nn.Module]) -> int:
    return sum(hasattr(layer, "mode") for layer in layers)


def _holds(block: Any, mode: str) -> bool:
    return all(getattr(block, name) is not None for name in ("light", "heavy") if mode in (name, "both"))


def _initialise(network: nn.Module) -> None:
    """Fresh weights as torchvision's MobileNetV2 draws them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)


def _graph(network: Pta, choices: Mapping[str, Any]) -> nx.MultiDiGraph:
    letters = iter(configuration_of(choices))
    graph = nx.MultiDiGraph()
    graph.add_node("input", kind="input", label=f"{network.image_size}x{network.image_size}", channels=3, used=True)
    previous = "input"
    block = 0
    for name, label, channels in _stages(network.width):
        if not name.startswith("block"):
            graph.add_node(name, kind="stage", label=label, channels=channels, used=True)
            graph.add_edge(previous, name, operation=None, stride=1)
            previous = name
            continue
        block += 1
        mode, mean = BRANCHES[next(letters)], f"{name}/out"
        graph.add_node(mean, kind="mean", label="mean" if mode == "both" else "", channels=channels, used=True)
        for branch, text in (("light", "1 x IR"), ("heavy", "2 x IR")):
            used, node = mode in (branch, "both"), f"{name}/{branch}"
            facts = {"label": text, "channels": channels, "used": used, "block": block, "branch": branch}
            graph.add_node(node, kind="branch", **facts)
            graph.add_edge(previous, node, operation=None, stride=1)
            graph.add_edge(node, mean, operation=None, stride=1)
        previous = mean
    graph.add_node("output", kind="output", label=f"{network.classes} logits", channels=network.classes, used=True)
    graph.add_edge(previous, "output", operation=None, stride=1)
    return graph


def _stages(width: float) -> Iterator[tuple[str, str, int]]:
    """Name, text and channels of every stage of the drawing."""
    yield "stem", "conv 3x3, stride 2", _make_divisible(STEM * width, 8)
    block = 0
    for number, (kind, base, repeats, stride) in enumerate(STAGES, start=1):
        channels = _make_divisible(base * width, 8)
        if kind == "pta":
            block += 1
            yield f"block_{block}", "PTA", channels
        else:
            yield f"stage_{number}", f"{repeats} x IR, stride {stride}", channels
    yield "last", "conv 1x1, pool", _make_divisible(LAST * max(1.0, width), 8)


def _check(image_size: int, classes: int, width: float, dropout: float) -> None:
    if not 32 <= image_size <= 4096:
        raise ConfigError(f"image_size {image_size} of pta: 32 to 4096 pixels are needed; the paper's picture has 128.")
    if not 2 <= classes <= 1_000_000:
        raise ConfigError(f"classes {classes} of pta: at least 2 are needed.")
    if not 0.1 <= width <= 8:
        raise ConfigError(f"width {width} of pta: a factor from 0.1 to 8 is needed; the paper has 1.0.")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout {dropout} of pta: at least 0 and below 1 is needed.")
