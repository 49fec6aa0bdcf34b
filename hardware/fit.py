"""``python -m hardware.fit``: a device profile from measured latencies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .measurements import Measurements


def main(
    measurements: str,
    space: str = "",
    out: str = "",
    kernels: str | None = None,
    prior: str | None = None,
    device: str | None = None,
    runtime: str | None = None,
) -> None:
    """Learn a device: fit a latency model to measurements of it and write its profile.

    Args:
        measurements: a CSV of networks (columns architecture and latency_ms, _us or _s) or of kernels; docs/latency.md.
        space: the space of the architectures: nasbench201, fbnet, or one of facenas.
        out: the profile to write (JSON).
        kernels: a CSV of single kernels measured on the same device, beside the networks.
        prior: another device's profile to start from, instead of a roofline that knows no device.
        device: the device's name, where the file does not tell; ``this`` describes this machine.
        runtime: the runtime's name, where the file does not tell.
    """
    from searchspaces.errors import ConfigError

    from . import measurements as files
    from .latency import LatencyModel

    check_space(space)
    if not out:
        raise ConfigError("Name the profile to write: --out DEVICE.json.")
    single: Measurements | None
    networks: Measurements | None
    if files.is_kernel_file(measurements):
        networks, single = None, files.read_kernels(measurements)
    else:
        networks = files.read_measurements(measurements)
        single = files.read_kernels(kernels) if kernels else None
    told = _conditions([part for part in (networks, single) if part], device, runtime, measurements)
    start = LatencyModel.load(prior) if prior else None
    rows = files.kernel_rows(single.rows) if single else None
    features = files.measured_features(space, networks, measurements) if networks else None
    model = LatencyModel.fit(
        features,
        networks.latency_ms if networks else None,
        kernels=rows,
        kernel_ms=single.latency_ms if single else None,
        prior=start,
        provenance={**told, "prior": f"profile {prior}" if prior else "roofline"},
    )
    held_out: dict[str, Any] = {"method": "none: no network was measured"}
    if features is not None and networks is not None:
        from .accuracy import cross_validate

        held_out = cross_validate(features, networks.latency_ms, start)
    replace(model.with_provenance(accuracy=held_out), space=space).save(out)
    print(f"{out}: fitted to {model.measurements} networks and {model.kernels} kernels")
    for name, value in held_out.items():
        print(f"  {name}: {value if isinstance(value, str) else f'{value:.3f}'}")


def check_space(space: str) -> None:
    """Refuse a name that is neither a reference space nor one of facenas.

    Raises:
        UnknownNameError: with the nearest name.
    """
    from searchspaces.errors import UnknownNameError
    from searchspaces.reference import REFERENCE_SPACES
    from searchspaces.registry import find_space, list_spaces

    if space in REFERENCE_SPACES:
        return
    if ":" not in space and space not in list_spaces():
        raise UnknownNameError("space", space, [*list_spaces(), *REFERENCE_SPACES])
    find_space(space)


def _conditions(parts: list[Measurements], device: str | None, runtime: str | None, path: str) -> dict[str, Any]:
    """The conditions of all files with what the command line adds; a contradiction is refused."""
    from searchspaces.errors import CostError

    from .device import this_device

    named = {"device": device if device != "this" else None, "runtime": runtime}
    found: dict[str, Any] = {name: value for name, value in named.items() if value}
    for part in parts:
        for name, value in part.conditions.items():
            if found.setdefault(name, value) != value and name != "source":
                raise CostError(f"{path}: {name} is {value!r} in one place and {found[name]!r} in another.")
    if device == "this":
        found["device"] = this_device()
    return {"device": "unknown", **found}


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="python -m hardware.fit"))
