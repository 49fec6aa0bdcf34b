"""Devices whose physics is known, in place of phones."""

from __future__ import annotations

import numpy as np

from searchspaces.features import KINDS, NAMES, QUANTITIES, Features, Matrix

# milliseconds of a million MACs, a megabyte, a kernel; each kind has an efficiency of its own
DEVICES = {"slow_memory": (0.06, 0.9, 0.004), "slow_start": (0.02, 0.1, 0.05), "slow_arithmetic": (0.4, 0.1, 0.01)}
EFFICIENCY = dict(zip(KINDS, (1.0, 1.5, 2.5, 1.2, 0.7, 1.8, 0.9, 2.0, 1.0), strict=True))


def true_coefficients(device: str) -> Matrix:
    rates = dict(zip(QUANTITIES, DEVICES[device], strict=True))
    return np.array([EFFICIENCY[kind] * rates[quantity] for kind, quantity in (name.split(":") for name in NAMES)])


def measure(features: Features, device: str, noise: float = 0.04, seed: int = 0, variant: str = "executed") -> Matrix:
    """Milliseconds, each off by a normal share."""
    exact = features.variants[variant] @ true_coefficients(device)
    return exact * (1 + noise * np.random.default_rng(seed).standard_normal(len(exact)))
