"""``python -m hardware.predict``: the latency of architectures from a device profile."""

from __future__ import annotations

import json as json_lines
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .kernel_table import KernelTable
    from .latency import LatencyModel


def main(
    architectures: str,
    device_profile: str = "",
    level: float = 0.9,
    space: str | None = None,
    runtime: str | None = None,
    json: bool = False,
) -> None:
    """Predict the latency of architectures on a device, with intervals.

    Args:
        architectures: a JSON-lines file: a line is an architecture of the profile's space.
        device_profile: the profile, as hardware.fit writes it, or the name of a shipped one.
        level: probability of the intervals: 0.5, 0.8, 0.9 or 0.95.
        space: refuse a profile of another space.
        runtime: refuse a profile of another runtime.
        json: print JSON lines instead of a table.
    """
    from searchspaces.console import track
    from searchspaces.errors import ArchitectureError, ConfigError, FacenasError

    from .devices import load_profile
    from .latency import LatencyModel
    from .measurements import check_architecture, features_for, networks_for, read_architectures

    if not device_profile:
        raise ConfigError("Name a profile: --device-profile DEVICE.json.")
    model = load_profile(device_profile, space=space, runtime=runtime)
    entries = read_architectures(architectures)
    for number, entry in enumerate(entries, start=1):
        try:
            check_architecture(model.space, entry)
        except FacenasError as error:
            raise ArchitectureError(f"{architectures}, architecture {number}: {error}") from error
    if isinstance(model, LatencyModel):
        found = model.predict(features_for(model.space, entries), level)
    else:
        found = model.predict_networks(track(networks_for(model.space, entries), "predict"), level)
    rows = zip(entries, found.ms.tolist(), found.low.tolist(), found.high.tolist(), strict=True)
    if json:
        for entry, ms, low, high in rows:
            value = {"architecture": entry, "latency_ms": ms, "low_ms": low, "high_ms": high, "level": level}
            print(json_lines.dumps(value, allow_nan=False))
        return
    print(f"ms on {_device(model.to_dict())}, {level:.0%} intervals, {_learnt(model)} measured")
    for entry, ms, low, high in rows:
        name = entry if isinstance(entry, str) else json_lines.dumps(entry)
        print(f"{ms:9.3f}  [{low:.3f}, {high:.3f}]  {name[:100]}")


def _device(provenance: Mapping[str, Any]) -> str:
    told = provenance.get("device", "unknown")
    name = told.get("cpu", "unknown") if isinstance(told, dict) else told
    return f"{name} with {provenance['runtime']}" if "runtime" in provenance else str(name)


def _learnt(model: LatencyModel | KernelTable) -> str:
    from .kernel_table import KernelTable

    if isinstance(model, KernelTable):
        return f"{len(model.kernels)} kernels and {model.networks} networks"
    return f"{model.measurements} networks"


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.predict"))
