"""What a network costs: parameters, operations in named conventions, memory, and milliseconds on a device.

The names below are imported when they are first used, so that ``import hardware`` is quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchspaces.lazy import lazy_names

if TYPE_CHECKING:
    from .cliffs import find_cliffs
    from .counters import CONVENTIONS, activation_bytes, count, count_parameters, profile_model, register_layer
    from .deploy import deploy_network
    from .device import this_device
    from .kernels import kernels_of
    from .latency import LatencyModel
    from .profile import cost_of, cost_of_onnx
    from .runtimes import RUNTIMES, get_runtime, register_runtime
    from .runtimes.timing import Latency
    from .switchable import (
        check_switchable,
        export_slim,
        export_switchable,
        measure_switchable,
    )
    from .tiers import make_tiers, pick, write_tiers

_HOMES = {
    "find_cliffs": "cliffs",
    "CONVENTIONS": "counters",
    "activation_bytes": "counters",
    "count": "counters",
    "count_parameters": "counters",
    "profile_model": "counters",
    "register_layer": "counters",
    "deploy_network": "deploy",
    "this_device": "device",
    "kernels_of": "kernels",
    "LatencyModel": "latency",
    "cost_of": "profile",
    "cost_of_onnx": "profile",
    "RUNTIMES": "runtimes",
    "get_runtime": "runtimes",
    "register_runtime": "runtimes",
    "Latency": "runtimes.timing",
    "check_switchable": "switchable",
    "export_slim": "switchable",
    "export_switchable": "switchable",
    "measure_switchable": "switchable",
    "make_tiers": "tiers",
    "pick": "tiers",
    "write_tiers": "tiers",
}

__all__ = [
    "CONVENTIONS",
    "RUNTIMES",
    "Latency",
    "LatencyModel",
    "activation_bytes",
    "check_switchable",
    "cost_of",
    "cost_of_onnx",
    "count",
    "count_parameters",
    "deploy_network",
    "export_slim",
    "export_switchable",
    "find_cliffs",
    "get_runtime",
    "kernels_of",
    "make_tiers",
    "measure_switchable",
    "pick",
    "profile_model",
    "register_layer",
    "register_runtime",
    "this_device",
    "write_tiers",
]


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
