"""The registry of search spaces: built by name, or from a user's own class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, UnknownNameError, nearest_name
from .naming import Registry

if TYPE_CHECKING:
    from nni.nas.nn.pytorch import ModelSpace

# modules that register the shipped spaces, imported when a space is first asked for
SHIPPED = {
    "autofas": "searchspaces.autofas",
    "pta": "searchspaces.pta",
    "autofem-fpn": "searchspaces.asfd",
    "autofem-cpm": "searchspaces.asfd",
    "asfd": "searchspaces.asfd",
    "airface": "searchspaces.airface",
    "hatfas": "searchspaces.hatfas",
}


@dataclass(frozen=True)
class OpenChoice:
    """Something that a paper leaves open: our default and the reason for it, shown in every report."""

    option: str
    default: Any
    why: str


@dataclass(frozen=True)
class SpaceEntry:
    """A registered space: its class and what its paper leaves open."""

    space_class: type[ModelSpace]
    open_choices: Sequence[OpenChoice] = ()


SPACES = Registry[SpaceEntry]("space")


def register_space(name: str, open_choices: Sequence[OpenChoice] = ()) -> Callable[[type], type]:
    """A class decorator that makes a ModelSpace known as ``name``. A duplicate name is refused."""

    def add(space_class: type) -> type:
        SPACES.register(name)(SpaceEntry(space_class, open_choices))
        return space_class

    return add


def list_spaces(pattern: str = "*") -> list[str]:
    """Names of the known spaces that match a shell pattern.

    >>> list_spaces("auto*")
    ['autofas', 'autofem-cpm', 'autofem-fpn']
    """
    return [name for name in sorted({*SHIPPED, *SPACES}) if fnmatch(name, pattern)]


def find_space(name: str) -> SpaceEntry:
    """The entry of a space called ``name``, or of a user's class written as ``package.module:ClassName``.

    Raises:
        UnknownNameError: with the nearest known name.
        ConfigError: if a user's class cannot be imported or is no ModelSpace.
    """
    if ":" in name:
        return SpaceEntry(_import_class(name))
    if name in SHIPPED:
        importlib.import_module(SHIPPED[name])
    if name not in SPACES:
        raise UnknownNameError("space", name, list_spaces())
    return SPACES[name]


def build_space(name: str, **options: Any) -> ModelSpace:
    """Build a search space.

    Args:
        name: a known name (see `list_spaces`), or ``package.module:ClassName`` for your own ModelSpace.
        options: what the space's constructor takes.

    Raises:
        FacenasError: for an unknown name, an unknown option (with the nearest one), or options that do not fit.
    """
    space_class = find_space(name).space_class
    check_options(name, space_class, options)
    return space_class(**options)


def check_options(name: str, space_class: type, options: dict[str, Any]) -> None:
    """Refuse options that the constructor does not take, or whose type differs from their default's.

    Raises:
        ConfigError: naming the option and the nearest one.
    """
    parameters = inspect.signature(_constructor(space_class)).parameters
    known = {key: parameter.default for key, parameter in parameters.items() if key != "self"}
    for option, value in options.items():
        if option not in known:
            near = nearest_name(option, known)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(f"Space {name!r} has no option {option!r}.{hint} Known: {', '.join(known) or '(none)'}.")
        default = known[option]
        if default is not inspect.Parameter.empty and default is not None and type(value) is not type(default):
            expected = type(default).__name__
            raise ConfigError(f"Option {option!r} of space {name!r} is {value!r}, but must be of type {expected}.")


def _constructor(space_class: type) -> Any:
    """The constructor as its author wrote it: NNI wraps it, and once more in a subclass that has none of its own."""
    for base in space_class.__mro__:
        written = base.__dict__.get("_init_wrapped")
        if written is not None and set(inspect.signature(written).parameters) != {"self", "args", "kwargs"}:
            return written
    return space_class


def _import_class(path: str) -> type[ModelSpace]:
    from nni.nas.nn.pytorch import ModelSpace

    module_name, _, class_name = path.partition(":")
    try:
        space_class = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"Cannot import the space {path!r}: {error}. Write it as package.module:ClassName."
        ) from error
    if not (isinstance(space_class, type) and issubclass(space_class, ModelSpace)):
        raise ConfigError(f"{path!r} is not a subclass of nni.nas.nn.pytorch.ModelSpace.")
    return space_class
