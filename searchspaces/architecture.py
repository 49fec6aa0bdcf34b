"""Architecture: one point of a search space, as a value and as a JSON file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ArchitectureError, FacenasError, nearest_name
from .files import read_json, write_text
from .registry import build_space, check_options, find_space

if TYPE_CHECKING:
    import networkx as nx
    from nni.nas.nn.pytorch import ModelSpace
    from torch import nn

FORMAT = 1
FIELDS = ("format", "space", "options", "choices", "found_by")
LARGEST_FILE = 1 << 20  # bytes; an architecture takes a few thousand


@dataclass(frozen=True)
class Architecture:
    """One network of a space, with no weights.

    Attributes:
        space: the space's name, or ``package.module:ClassName``.
        options: the options that the space was built with.
        choices: NNI's own sample, so ``build_space(space, **options).freeze(choices)`` gives the same network.
        found_by: provenance: strategy, seed, epoch, versions.

    Raises:
        FacenasError: on creation, if the space is unknown or the choices are not a point of it.
    """

    space: str
    options: Mapping[str, Any]
    choices: Mapping[str, Any]
    found_by: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        space = self.model_space()
        _check_choices(self.space, space, self.choices)
        canonical = getattr(space, "canonical", dict)
        object.__setattr__(self, "choices", canonical(self.choices))
        object.__setattr__(self, "options", dict(self.options))

    def model_space(self) -> ModelSpace:
        """The space that this is a point of."""
        return build_space(self.space, **self.options)

    def with_options(self, **options: Any) -> Architecture:
        """The same choices in a space with other options, for example ``channels=48``."""
        return Architecture(self.space, {**self.options, **options}, self.choices, self.found_by)

    def build(self, weights: str | Path | None = None, seed: int | None = None) -> nn.Module:
        """The network.

        Args:
            weights: a safetensors file to load; without it the network has new random weights.
            seed: seed of the random weights; the same seed gives the same weights in any process.

        Raises:
            ArchitectureError: if the weights are damaged or belong to another network.
        """
        import torch
        from nni.nas.space import model_context

        entry = find_space(self.space)
        check_options(self.space, entry.space_class, dict(self.options))
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            with model_context(dict(self.choices)):
                network = entry.space_class(**self.options)
        if weights is not None:
            load_weights(network, weights)
        return network

    def graph(self) -> nx.MultiDiGraph:
        """The choices as a graph to draw: see the ``graph`` method of the space."""
        return self.model_space().graph(dict(self.choices))

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of the picture that the network takes."""
        return self.model_space().input_size

    def to_json(self) -> str:
        """The text of an architecture file."""
        value = {
            "format": FORMAT,
            "space": self.space,
            "options": dict(self.options),
            "choices": dict(self.choices),
            "found_by": dict(self.found_by),
        }
        return json.dumps(value, indent=2, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the architecture file atomically."""
        return write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Read an architecture file.

        Raises:
            FacenasError: if the file is missing, is not an architecture, or does not describe a point of its space;
                the message names the file and the entry.
        """
        path = Path(path)
        try:
            path = path / "architecture.json" if path.is_dir() else path
            size = path.stat().st_size if path.is_file() else 0
        except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
            raise ArchitectureError(f"Cannot read {path}: {error}.") from error
        if size > LARGEST_FILE:
            raise ArchitectureError(f"{path} has {size} bytes: too large for an architecture.")
        value = read_json(path, ArchitectureError)
        try:
            return cls.from_dict(value)
        except FacenasError as error:
            raise ArchitectureError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, value: Any) -> Architecture:
        """An architecture from the content of its file (see `load`)."""
        if not isinstance(value, dict):
            raise ArchitectureError("An architecture is a JSON object with format, space, options and choices.")
        for key in value:
            if key not in FIELDS:
                near = nearest_name(str(key), FIELDS)
                raise ArchitectureError(f"Unknown entry {key!r}.{f' Did you mean {near!r}?' if near else ''}")
        if value.get("format") != FORMAT:
            raise ArchitectureError(f"Format {value.get('format')!r} is not known; this version reads format {FORMAT}.")
        for key, kind in (("space", str), ("options", dict), ("choices", dict)):
            if not isinstance(value.get(key), kind):
                raise ArchitectureError(f"Entry {key!r} is missing or is not a {kind.__name__}.")
        if not isinstance(value.get("found_by", {}), dict):
            raise ArchitectureError("Entry 'found_by' is not a dict.")
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ArchitectureError("An entry is infinite or no number, which JSON has not.") from error
        if ":" in value["space"]:
            _refuse_unknown_code(value["space"])
        return cls(value["space"], value["options"], value["choices"], value.get("found_by", {}))


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a safetensors file into a network.

    Raises:
        ArchitectureError: if the file is missing, damaged, or holds the weights of another network.
    """
    from .weights import read_weights

    state = read_weights(path)
    try:
        network.load_state_dict(state)
    except ArchitectureError as error:
        raise ArchitectureError(f"{path}: {error}") from error
    except RuntimeError as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise ArchitectureError(f"The weights {path} belong to another network: {reason}") from error


def _refuse_unknown_code(name: str) -> None:
    """A file must not import code that the program does not hold already: it could come from a stranger."""
    import sys

    if name.partition(":")[0] not in sys.modules:
        raise ArchitectureError(
            f"The space {name!r} is a class outside facenas, and an architecture file may not import code. "
            f"Import the module {name.partition(':')[0]!r} yourself before you load the file."
        )


def _check_choices(name: str, space: ModelSpace, choices: Mapping[str, Any]) -> None:
    """Compare choices with the labels of the space and the values that each may take."""
    mutables = space.simplify()
    for label in choices:
        if label not in mutables:
            near = nearest_name(str(label), mutables)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ArchitectureError(f"Choice {label!r} does not exist in space {name!r}.{hint}")
    for label, mutable in mutables.items():
        if label not in choices:
            raise ArchitectureError(f"Choice {label!r} of space {name!r} is missing.")
        value = choices[label]
        allowed = getattr(mutable, "values", None)
        chosen = value if isinstance(value, list) else [value]
        if allowed is not None:
            for item in chosen:
                # compare types too: JSON's true would pass as 1
                if not any(item == known and type(item) is type(known) for known in allowed):
                    near = nearest_name(str(item), [str(known) for known in allowed])
                    hint = f" Did you mean {near!r}?" if near else ""
                    raise ArchitectureError(f"Choice {label!r} is {value!r}; allowed are {allowed!r}.{hint}")
        n_chosen = getattr(mutable, "n_chosen", None)
        if n_chosen is not None and not (isinstance(value, list) and len(set(value)) == len(value) == n_chosen):
            expected = f"a list of {n_chosen} different values"
            raise ArchitectureError(f"Choice {label!r} is {value!r}, but must be {expected}.")
        if n_chosen is None and isinstance(value, list) and allowed is not None and value not in allowed:
            raise ArchitectureError(f"Choice {label!r} is a list, but must be one of {allowed!r}.")
        problem = mutable.check_contains({label: value})
        if problem is not None:
            raise ArchitectureError(f"Choice {label!r} is {value!r}: {' '.join(str(problem).split())}")
