"""Weights in safetensors files, which hold tensors and no code; those of facenas carry a checksum of what they hold."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .errors import ArchitectureError, FacenasError
from .files import write_bytes

CHECKSUM = "sha256"  # the key of a file's metadata


def write_weights(state: Mapping[str, Tensor], path: str | Path) -> Path:
    """Write a state dict atomically.

    Raises:
        RunFolderError: if the file cannot be written; an earlier one stays as it was.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return write_bytes(path, save(tensors, metadata={CHECKSUM: checksum(tensors)}))


def read_weights(path: str | Path, error: type[FacenasError] = ArchitectureError) -> dict[str, Tensor]:
    """Read a state dict; a file without a checksum, from elsewhere, is taken as it is.

    Raises:
        FacenasError: of the class ``error``, if the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            expected = (file.metadata() or {}).get(CHECKSUM)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise error(f"Cannot read the weights {path}: {reason}.") from cause
    if expected is not None and expected != checksum(state):
        raise error(f"The weights {path} are damaged: their checksum differs from the one that was written with them.")
    return state


def load_pickled(path: str | Path) -> object:
    """What a file of ``torch.save`` holds, plain values and tensors alone.

    Raises:
        Exception: of many kinds, if it is damaged or holds code; a tar archive, which torch would unpack, is refused.
    """
    if tarfile.is_tarfile(path):
        raise ValueError("it is a tar archive, of a version of torch before 0.4")
    return torch.load(path, map_location="cpu", weights_only=True)


def checksum(state: Mapping[str, Tensor]) -> str:
    """The sha256 of names, types, shapes and values, in hex."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
