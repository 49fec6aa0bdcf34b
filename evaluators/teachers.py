"""Networks that teach: a run of ours, a model of timm with weights from a file, or an ONNX file.

Nothing in these files is run: weights are read as tensors alone, and an ONNX file is a graph for ONNX Runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from searchspaces.errors import ConfigError
from searchspaces.weights import load_pickled, read_weights

from .datasets.cache import sha256_file

FORMS = "a run folder of ours, timm:NAME:WEIGHTS.safetensors (or .pth), timm:NAME:random, or a file ending in .onnx"


class Teacher(nn.Module):
    """A network that is never trained: pictures ``(N, 3, S, S)`` in [-1, 1] to its outputs.

    Attributes:
        network: what computes; ``name``, what it is called; ``sha256`` of its file, if it has one.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        sha256: str | None,
        mean: Any = (0.5, 0.5, 0.5),
        std: Any = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.network, self.name, self.sha256 = network.eval(), name, sha256
        # pictures in [-1, 1] have mean 0.5 and deviation 0.5 where they go from 0 to 1
        self.register_buffer("factor", 0.5 / torch.tensor(std).view(3, 1, 1))
        self.register_buffer("offset", (0.5 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        self.requires_grad_(False)

    factor: Tensor
    offset: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x * self.factor + self.offset)

    def train(self, mode: bool = True) -> Teacher:
        """It stays in evaluation mode."""
        return super().train(False)

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())


def first_line(error: Exception) -> str:
    """What an error says, without what follows it."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class OnnxNetwork(nn.Module):
    """An ONNX file run by ONNX Runtime; a file that takes one picture at a time gets them one by one."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has kinds of its own
            raise ConfigError(f"Cannot read the teacher {path}: {first_line(error)}") from error
        inputs, self.path = self.session.get_inputs(), path
        if len(inputs) != 1:
            raise ConfigError(f"The teacher {path} has {len(inputs)} inputs; it must have one, pictures.")
        if not self.session.get_outputs() or len(inputs[0].shape) != 4:
            raise ConfigError(f"The teacher {path} takes {inputs[0].shape}; it must take pictures and give an output.")
        self.input = inputs[0]
        self.anchor = nn.Parameter(torch.zeros(0))  # tells the device, as the parameters of a torch network do

    def forward(self, x: Tensor) -> Tensor:
        batch = x.float().cpu().contiguous().numpy()
        parts = [batch] if isinstance(self.input.shape[0], str | None) else np.split(batch, len(batch))
        try:
            found = [self.session.run(None, {self.input.name: part})[0] for part in parts]
        except Exception as error:
            raise ConfigError(
                f"The teacher {self.path} takes {self.input.shape}, but was given pictures of {tuple(x.shape)}."
            ) from error
        return torch.from_numpy(np.concatenate(found)).to(x.device)


def load_teacher(text: str, size: tuple[int, int, int], outputs: int) -> Teacher:
    """A teacher by what stands after ``--teacher``.

    Args:
        text: see `FORMS`.
        size: of the student's pictures; the teacher has to take the same.
        outputs: of a model of timm with random weights.

    Raises:
        ConfigError: if there is no such teacher, or it takes pictures of another size.
    """
    if text.startswith("timm:"):
        return _timm_teacher(text, size, outputs)
    path = Path(text)
    if path.is_dir():
        return _own_teacher(path, size)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise ConfigError(f"There is no teacher {path}.")
        network = OnnxNetwork(path)
        sides = [side for side in network.input.shape[1:] if isinstance(side, int)]
        if sides and sides != [
            size[place] for place, side in enumerate(network.input.shape[1:]) if isinstance(side, int)
        ]:
            raise ConfigError(
                f"The teacher {path} takes pictures of {network.input.shape[1:]}, the student {list(size)}."
            )
        return Teacher(network, path.name, sha256_file(path))
    raise ConfigError(f"{text!r} is no teacher: give {FORMS}.")


def _own_teacher(folder: Path, size: tuple[int, int, int]) -> Teacher:
    from searchspaces import Architecture

    architecture, weights = Architecture.load(folder), folder / "weights.safetensors"
    network = architecture.build(weights=weights)
    if architecture.input_size != size and getattr(architecture.model_space(), "task", None) != "detection":
        raise ConfigError(
            f"The teacher {folder} takes pictures of {architecture.input_size[1:]}, the student of {size[1:]}: train "
            "one of them with the other's image_size (--space-options)."
        )
    return Teacher(network, f"{architecture.space} of {folder.name}", sha256_file(weights))


def _timm_teacher(text: str, size: tuple[int, int, int], outputs: int) -> Teacher:
    import timm

    _, _, rest = text.partition(":")
    name, _, file = rest.partition(":")
    if name not in timm.list_models():
        from searchspaces.errors import UnknownNameError

        raise UnknownNameError("model of timm", name, timm.list_models())
    if not file:
        raise ConfigError(f"{text!r} has no weights: give {FORMS}.")
    state = None if file == "random" else _read_state(Path(file))
    config = timm.create_model(name, num_classes=1).pretrained_cfg
    if state is not None:
        classifier = config.get("classifier")
        key = f"{classifier}.weight" if isinstance(classifier, str) else ""
        if key not in state:
            raise ConfigError(f"The weights {file} have no classifier {key!r}, which {name} needs to teach.")
        outputs = len(state[key])
    try:
        network = timm.create_model(name, num_classes=outputs, img_size=size[-1])
    except (TypeError, AssertionError, ValueError):  # networks without a size of their own
        network = timm.create_model(name, num_classes=outputs)
    if state is not None:
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"The weights {file} are not those of {name} for pictures of {size[1:]}: {reason}"
            ) from error
    sha256 = None if state is None else sha256_file(Path(file))
    return Teacher(
        network, f"timm {name}{' with random weights' if state is None else ''}", sha256, config["mean"], config["std"]
    )


def _read_state(path: Path) -> dict[str, Tensor]:
    """Weights from a file, as tensors alone."""
    if path.suffix == ".safetensors":
        return read_weights(path, ConfigError)
    try:
        state = load_pickled(path)
    except Exception as error:  # torch raises many kinds
        raise ConfigError(f"Cannot read the teacher's weights {path}: {first_line(error)}") from error
    for key in ("model", "state_dict"):  # how training code of DeiT and of timm wraps them
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not (isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())):
        raise ConfigError(f"The teacher's weights {path} are no table of tensors.")
    return state
