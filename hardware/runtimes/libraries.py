"""Which library each runtime needs, and what to install when it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from searchspaces.errors import CostError

# runtime -> modules that its export and measuring import; those of onnxruntime and litert come with facenas itself
LIBRARIES: dict[str, Sequence[str]] = {
    "onnxruntime": ("onnxruntime",),
    "litert": ("ai_edge_litert", "ai_edge_quantizer"),
    "openvino": ("openvino", "nncf"),
    "ncnn": ("ncnn", "pnnx"),
    "executorch": ("executorch", "torchao"),
}


class MissingLibraryError(CostError):
    """A runtime whose library is not installed; ``install`` is the command that installs it."""

    def __init__(self, runtime: str, module: str) -> None:
        self.runtime, self.install = runtime, install_command(runtime)
        super().__init__(f"Runtime {runtime!r} needs the library {module}: {self.install}")


def install_command(runtime: str) -> str:
    """The command that installs what a runtime needs.

    >>> install_command("litert")
    'pip install "facenas[litert]"'
    """
    return f'pip install "facenas[{runtime}]"'


def missing_libraries(runtime: str) -> list[str]:
    """Modules that a runtime needs and that are not installed; none for a runtime that facenas does not ship."""
    return [module for module in LIBRARIES.get(runtime, ()) if find_spec(module) is None]


def library(runtime: str, module: str) -> Any:
    """Import a module of a runtime's library.

    Raises:
        MissingLibraryError: with the command that installs it.
        CostError: if it is installed but cannot be imported.
    """
    if find_spec(module.partition(".")[0]) is None:
        raise MissingLibraryError(runtime, module.partition(".")[0])
    try:
        return import_module(module)
    except ImportError as error:
        command = install_command(runtime)
        raise CostError(f"Runtime {runtime!r} cannot import {module}: {error}. Install it again: {command}") from error
