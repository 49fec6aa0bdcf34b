"""A model space as the search space of an NNI experiment, and back.

NNI's tuners, its web portal and its exports know a search space as JSON, a list of values for each decision. A decision
of ours whose value is a list, such as the two inputs of a cell's node, becomes one with a text for each possible list:
``"[0, 2]"``. So every tuner of NNI can search every space, and the portal shows what was decided.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, nearest_name

if TYPE_CHECKING:
    from nni.mutable import Mutable
    from nni.nas.nn.pytorch import ModelSpace

TRIAL = "NNI_TRIAL_JOB_ID"  # where NNI names the trial that a process is
MOST_VALUES = 10_000  # of one decision
SCALARS = (str, int, float, bool)


def in_trial() -> bool:
    """Whether an NNI experiment has started this process as a trial."""
    return bool(os.environ.get(TRIAL))


def to_search_space(space: ModelSpace) -> dict[str, dict[str, Any]]:
    """What an experiment's ``searchSpace`` says, by the labels of the space.

    Raises:
        ConfigError: for a decision that NNI's search spaces cannot express, or that has too many values.
    """
    return {str(label): _entry(label, mutable) for label, mutable in space.simplify().items()}


def to_choices(space: ModelSpace, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The choices, NNI's sample of the space, that a trial's parameters mean.

    Raises:
        ConfigError: if the parameters are no point of the space; it names the first that does not fit.
    """
    mutables = space.simplify()
    for name in parameters:
        if name not in mutables:
            near = nearest_name(str(name), mutables)
            hint = f" Did you mean {near!r}?" if near else ""
            raise ConfigError(
                f"The trial's parameter {name!r} is no choice of the space.{hint} "
                "The experiment's search space is of another space, or of the same with other options: "
                "write it anew with facenas nni-space."
            )
    choices = {}
    for label, mutable in mutables.items():
        if label not in parameters:
            raise ConfigError(
                f"The trial's parameters lack the choice {label!r}. The experiment's search space is of another space, "
                "or of the same with other options: write it anew with facenas nni-space."
            )
        choices[label] = _decode(label, mutable, parameters[label])
    return choices


def encode(value: Any) -> Any:
    """A value as NNI's search spaces take it: scalars as they are, others as JSON text.

    >>> encode("sep_conv_3x3"), encode([0, 2])
    ('sep_conv_3x3', '[0, 2]')
    """
    return value if isinstance(value, SCALARS) else json.dumps(value)


def to_parameters(choices: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a trial that builds the network with these choices; the reverse of `to_choices`."""
    return {label: encode(value) for label, value in choices.items()}


def _entry(label: str, mutable: Mutable) -> dict[str, Any]:
    values = _values(label, mutable)
    if values is not None:
        return {"_type": "choice", "_value": [encode(value) for value in values]}
    from nni.mutable import Numerical

    if not isinstance(mutable, Numerical) or mutable.mu is not None:
        raise ConfigError(f"A decision such as {label!r}, {mutable!r}, cannot be written as a search space of NNI.")
    kind = f"{'q' if mutable.quantize else ''}{'log' if mutable.log_distributed else ''}uniform"
    return {"_type": kind, "_value": [mutable.low, mutable.high, *([mutable.quantize] if mutable.quantize else [])]}


def _values(label: str, mutable: Mutable) -> list[Any] | None:
    """All values of a decision; None if they cannot be listed, as those of a continuous one."""
    from nni.mutable import Categorical, CategoricalMultiple

    if isinstance(mutable, Categorical):
        return list(mutable.values)
    if not isinstance(mutable, CategoricalMultiple):
        return None
    numbers = range(1, len(mutable.values) + 1) if mutable.n_chosen is None else [mutable.n_chosen]
    if sum(math.comb(len(mutable.values), number) for number in numbers) > MOST_VALUES:
        raise ConfigError(f"{label!r} has more than {MOST_VALUES} values: too many for a search space of NNI.")
    return [list(chosen) for number in numbers for chosen in combinations(mutable.values, number)]


def _decode(label: str, mutable: Mutable, given: Any) -> Any:
    values = _values(label, mutable)
    if values is None:
        if (problem := mutable.check_contains({label: given})) is not None:
            raise ConfigError(f"The trial's parameter {label!r} is {given!r}: {' '.join(str(problem).split())}")
        return given
    for value in values:
        known = encode(value)
        if known == given and isinstance(given, bool) == isinstance(known, bool):
            return value
    near = nearest_name(str(given), [str(encode(value)) for value in values])
    raise ConfigError(
        f"The trial's parameter {label!r} is {given!r}, which is none of its values."
        f"{f' Did you mean {near!r}?' if near else ''}"
    )
