"""Budgets from the command line: ``--macs-budget 30M``, ``--params-budget 60%``, ``--latency-budget 2.5``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchspaces.errors import ConfigError, CostError
from searchspaces.files import read_json

from .options import DifferentiableOptions, SearchOptions

if TYPE_CHECKING:
    from strategies.cost import Budget, CostTable

ROUNDS = 20  # of 5 timed runs of the result
INTERVAL = 0.9  # level of the interval whose upper end a latency budget limits
# option -> what it limits
LIMITS = {"macs_budget": "macs", "params_budget": "parameters", "latency_budget": "latency_ms"}
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
AMOUNT = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?) *(%|[kmg]?)", re.IGNORECASE)


def build_budget(options: SearchOptions) -> Budget | None:
    """The budget that the options ask for, checked; None if they ask for none.

    Raises:
        ConfigError: for a budget that cannot be read, or that no network of the space keeps.
    """
    budget = read_budget(options)
    if budget:
        budget.check()
    return budget


def read_budget(options: SearchOptions) -> Budget | None:
    """The same, without asking whether a network keeps it.

    Raises:
        ConfigError: for a budget that cannot be read.
    """
    given = {name: value for option, name in LIMITS.items() if (value := getattr(options, option)) is not None}
    if options.device_profile and "latency_ms" not in given:
        raise ConfigError("device_profile is for a latency_budget: give one, or leave it out.")
    if not given:
        return None
    from strategies.cost import Budget

    parsed = {name: parse_amount(text, option_of(name)) for name, text in given.items()}
    table = build_table(options, names_of(options))
    largest = {name: ends[1] for name, ends in table.range().items()}
    limits = {name: value * largest[name] if relative else value for name, (value, relative) in parsed.items()}
    weight = {"weight": options.cost_weight} if isinstance(options, DifferentiableOptions) else {}
    return Budget(table, limits, **weight)


def names_of(options: SearchOptions) -> tuple[str, ...]:
    """The costs that a run follows: all that can be counted, and a latency that has a budget."""
    return ("macs", "parameters", *(["latency_ms"] if options.latency_budget is not None else []))


def option_of(name: str) -> str:
    """The option that limits a cost."""
    return next(option for option, limited in LIMITS.items() if limited == name)


def parse_amount(text: str, option: str) -> tuple[float, bool]:
    """A number, or a share of the space's largest network: its value and whether it is a share.

    Raises:
        ConfigError: naming the option.

    >>> parse_amount("1.5M", "macs_budget"), parse_amount("60%", "macs_budget")
    ((1500000.0, False), (0.6, True))
    """
    match = AMOUNT.fullmatch(str(text).strip())
    try:
        number = float(match[1]) if match else 0.0
    except ValueError:
        number = 0.0
    relative = bool(match and match[2] == "%")
    if not match or number <= 0 or (relative and number > 100):
        raise ConfigError(f"{option} is {text!r}; write a number above 0, such as 30M or 2.5, or a share such as 60%.")
    return (number / 100, True) if relative else (number * UNITS[match[2].lower()], False)


TABLES: dict[str, CostTable] = {}  # of this process: a run asks for the same one several times


def build_table(options: SearchOptions, names: tuple[str, ...]) -> CostTable:
    """Costs of the networks that would be trained.

    Raises:
        ConfigError: if the space's costs are not known to be a sum.
    """
    import torch

    from searchspaces import build_space
    from strategies.cost import CostTable

    space_options = {**options.space_options, **options.train_options}
    profile = read_json(file_of(options), CostError) if "latency_ms" in names else None
    key = json.dumps([options.space, space_options, names, profile], sort_keys=True)
    if key not in TABLES:
        with torch.random.fork_rng(devices=[]):
            space = build_space(options.space, **space_options)
        TABLES[key] = CostTable(space, costs_of(options, space_options, names))
    return TABLES[key]


def recorded_costs(options: SearchOptions) -> CostTable | None:
    """Costs whose expectation a differentiable search records; None for a space whose costs are not known as sums."""
    from searchspaces.registry import find_space
    from strategies.cost import has_additive_costs

    if not has_additive_costs(find_space(options.space).space_class):
        return None
    return build_table(options, names_of(options))


def costs_of(
    options: SearchOptions, space_options: Mapping[str, Any], names: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], dict[str, float]]:
    """A function from choices to the costs with these names, by counting or by the device profile. It leaves torch's
    generator as it was, so that a search with a budget starts from the same weights as one without."""
    import torch

    from hardware.counters import count
    from searchspaces import Architecture

    predict = latency_of(options) if "latency_ms" in names else None
    known: dict[str, dict[str, float]] = {}

    def costs(choices: Mapping[str, Any]) -> dict[str, float]:
        key = json.dumps(dict(choices), sort_keys=True)
        if key not in known:
            known[key] = computed(choices)
        return known[key]

    def computed(choices: Mapping[str, Any]) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]):  # new weights, and the picture that is counted
            architecture = Architecture(options.space, space_options, choices)
            network: Any = architecture.build()
            size = network.input_size  # the architecture's own would build its space for it
            found: dict[str, float] = {}
            for name in names:
                if name == "macs":
                    found[name] = count(network, size)
                elif name == "parameters":  # what count_parameters calls stored, which needs no forward pass
                    found[name] = sum(parameter.numel() for parameter in network.parameters())
                elif predict:
                    found[name] = predict(network, size)
        return found

    return costs


def latency_of(options: SearchOptions) -> Callable[[Any, tuple[int, ...]], float]:
    """The upper end of the 90 % interval of a network's milliseconds on the device of the profile, since a budget is to
    be kept by what is measured.

    Raises:
        FacenasError: if no profile is named, or it cannot be read.
    """
    from hardware.devices import load_profile

    profile = load_profile(str(file_of(options)))

    def milliseconds(network: Any, size: tuple[int, ...]) -> float:
        return float(profile.predict_networks([(network.eval(), size)], INTERVAL, options.space).high[0])

    return milliseconds


def measured_on_budget(options: SearchOptions, network: Any, size: tuple[int, ...]) -> dict[str, Any] | None:
    """The latency of a network in the runtime that the profile of its budget is of, in a process of its own; None if
    the profile is of another device.

    Returns:
        What `hardware.runtimes.timing.Latency.to_dict` gives.

    Raises:
        FacenasError: if the runtime cannot measure it.
    """
    import tempfile

    from hardware.device import this_device
    from hardware.devices import load_profile
    from hardware.kernel_table import KernelTable, exported, kernel_runtime
    from hardware.kernel_timing import time_networks
    from hardware.runtimes.timing import summarise

    if options.latency_budget is None:
        return None
    profile = load_profile(str(file_of(options)))
    if not isinstance(profile, KernelTable) or not is_this_device(profile.provenance.get("device"), this_device()):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = exported(network, size, profile.runtime, profile.dtype, Path(folder))
        (samples,) = time_networks(profile.runtime, [path], threads=profile.threads, rounds=ROUNDS)
    version = kernel_runtime(profile.runtime).version()
    told = {"runtime": profile.runtime, "version": version, "threads": profile.threads, "dtype": profile.dtype}
    return summarise(samples, **told).to_dict()


def is_this_device(told: Any, here: Mapping[str, Any]) -> bool:
    """Whether a profile's device is of this machine's kind."""
    return isinstance(told, dict) and all(told.get(key) == here[key] for key in ("cpu", "architecture"))


def file_of(options: SearchOptions) -> Path:
    """The file of the device profile.

    Raises:
        FacenasError: if none is named, or there is none of this name.
    """
    if not options.device_profile:
        raise ConfigError("latency_budget needs a device: --device-profile FILE, as python -m hardware.fit writes it.")
    from hardware.devices import find_profile

    return Path(find_profile(options.device_profile))
