"""``--memory-budget``: a search's batch, K and recomputation chosen so that its steps fit."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchspaces.console import Reporter
from searchspaces.errors import ConfigError

from .options import DifferentiableOptions, PCDartsOptions, SearchOptions

if TYPE_CHECKING:
    from strategies.memory import Choice, StepBytes

AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
UNITS = ("", "k", "m", "g", "t")
LARGEST_K = 16


def parse_bytes(text: str) -> int:
    """Bytes from an amount such as 4GiB, 4GB or 500M; without a unit they are bytes.

    Raises:
        ConfigError: if it is none.

    >>> parse_bytes("4GiB"), parse_bytes("1.5 GB"), parse_bytes("512M")
    (4294967296, 1500000000, 512000000)
    """
    match = AMOUNT.fullmatch(str(text).strip())
    if match is None or not float(match[1]) or (match[3] and not match[2]):
        raise ConfigError(f"memory_budget is {text!r}; write an amount such as 4GiB, 4GB or 500MB.")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** UNITS.index(match[2].lower()))


def fit_memory(options: SearchOptions, reporter: Reporter | None = None) -> SearchOptions:
    """The options with a batch, a K and recomputation that fit the memory budget; unchanged without a budget.

    What the search would do by itself is kept if it fits. Else its modules are recomputed, which changes nothing but
    the time; else, for PC-DARTS, K is doubled; else the batch is halved.

    Args:
        options: resolved ones, of a search that begins.
        reporter: says what was chosen, and from what.

    Raises:
        ConfigError: if nothing fits, with the least that would do; or if the budget is no amount.
    """
    if not isinstance(options, DifferentiableOptions) or options.memory_budget is None:
        return options
    from strategies.memory import Choice, choices, gib, pick

    reporter, budget = reporter or Reporter(), parse_bytes(options.memory_budget)
    assert options.search_batch
    own = getattr(options, "partial_channels", None)
    first = Choice(options.search_batch, own, options.recompute)
    widths = doubled(own) if isinstance(options, PCDartsOptions) and own else [own]
    may_recompute = getattr(options, "order", "first") == "first"
    found, seen = pick(choices(first, widths, may_recompute), budget, bytes_of(options))
    where = "of the GPU, tensors alone" if on_gpu(options) else "of the process"
    for choice in (first, found) if found != first else (first,):
        fits = "fits into" if seen[choice] <= budget else "is more than"
        reporter.line("memory", f"{choice}: about {gib(seen[choice])} {where}, {fits} {gib(budget)}")
    if found.recompute and not first.recompute:
        reporter.line("memory", "recomputed modules take longer, about half as much time again; the results are equal")
    if (found.batch, found.partial_channels) != (first.batch, first.partial_channels):
        reporter.line("memory", "another batch or another K is another search: compare it with its own baseline")
    chosen: dict[str, Any] = {"search_batch": found.batch, "recompute": found.recompute}
    if own is not None:
        chosen["partial_channels"] = found.partial_channels
    return replace(options, **chosen)


def doubled(first: int) -> list[int | None]:
    """K, and what may stand in its place."""
    found: list[int | None] = [first]
    while first * 2 <= LARGEST_K:
        first *= 2
        found.append(first)
    return found


def on_gpu(options: SearchOptions) -> bool:
    """Whether the search will run on a GPU."""
    import torch

    return options.accelerator == "gpu" or (options.accelerator == "auto" and torch.cuda.is_available())


def bytes_of(options: DifferentiableOptions) -> Callable[[Choice], int]:
    """What a choice takes at the most: of the whole process, or of a GPU its tensors."""
    from strategies.memory import process_bytes, resident

    gpu, program = on_gpu(options), resident()

    @functools.cache
    def counted(width: int | None, recompute: bool) -> StepBytes | None:
        return count(options, width, recompute, plain=gpu or options.devices > 1)

    def needed(choice: Choice) -> int:
        step = counted(choice.partial_channels, choice.recompute)
        if step is None:
            return 1 << 62  # cells cannot be split so
        peak = step.peak(-(-choice.batch // options.devices))
        return peak if gpu else process_bytes(peak, choice.recompute, program)

    return needed


def count(options: DifferentiableOptions, width: int | None, recompute: bool, plain: bool) -> StepBytes | None:
    """The bytes of a step; None if the space's cells cannot be split into ``width`` parts."""
    from searchspaces import build_space
    from searchspaces.console import quiet_libraries
    from strategies.memory import count_step

    from .searches import build_one_shot

    changes: dict[str, Any] = {"recompute": recompute, "guard": "off", "warmup_epochs": 0}
    changes |= dict.fromkeys(("macs_budget", "params_budget", "latency_budget", "device_profile"))
    if width is not None:
        changes["partial_channels"] = width
    small = replace(options, **changes)

    def build() -> tuple[Any, Any]:
        return build_one_shot(small), build_space(options.space, **options.space_options)

    try:
        with quiet_libraries():
            return count_step(build, str(options.optimizer or "sgd"), plain)
    except ConfigError:
        if width == getattr(options, "partial_channels", None):
            raise
        return None
