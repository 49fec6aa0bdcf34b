"""Device profiles that facenas ships: coefficients that its own code fitted to published measurements."""

from __future__ import annotations

from pathlib import Path

from searchspaces.errors import UnknownNameError

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
