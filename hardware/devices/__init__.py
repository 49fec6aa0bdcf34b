"""Device profiles that facenas ships: fitted to published measurements, and kernel tables that it measured itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from searchspaces.errors import CostError, UnknownNameError
from searchspaces.files import read_json

if TYPE_CHECKING:
    from hardware.kernel_table import KernelTable
    from hardware.latency import LatencyModel

FOLDER = Path(__file__).parent


def list_devices() -> list[str]:
    """Names of the shipped profiles, a space and a device each."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def find_profile(name: str) -> Path:
    """A profile's file, or that of a shipped profile of this name.

    Raises:
        UnknownNameError: if it is neither, with the nearest name.
    """
    if Path(name).suffix == ".json" or Path(name).exists():
        return Path(name)
    if name not in list_devices():
        raise UnknownNameError("device profile", name, list_devices())
    return FOLDER / f"{name}.json"


def load_profile(name: str, *, space: str | None = None, runtime: str | None = None) -> LatencyModel | KernelTable:
    """A device profile of either kind, by its file or the name of a shipped one.

    Both predict with ``predict_networks(networks, level, space)``.

    Args:
        name: the file, or the name.
        space: refuse a profile of another space.
        runtime: refuse a profile of another runtime.

    Raises:
        FacenasError: if there is none of this name, or it is damaged, or of something else.
    """
    from hardware.kernel_table import KIND, KernelTable
    from hardware.latency import LatencyModel

    path = find_profile(name)
    value = read_json(path, CostError)
    if not isinstance(value, dict) or value.get("kind") != KIND:
        return LatencyModel.load(path, space=space, runtime=runtime)
    table = KernelTable.load(path)
    for what, wanted, found in (("space", space, table.space), ("runtime", runtime, table.runtime)):
        if wanted is not None and found != wanted:
            raise CostError(f"{path} is a profile of {what} {found!r}, not of {wanted!r}.")
    return table
