"""Colours that stay apart for colour-blind readers, and text that contrasts with them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from reports.palette import (
    INK,
    KERNELS,
    MUTED,
    NODE,
    OPERATIONS,
    PAPER,
    operation_colour,
    relative_luminance,
    text_colour,
)
from searchspaces.autofem import CPM_OPERATIONS, FPN_OPERATIONS

SEARCHED = {
    "cells": ["none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"],
    "detectors": [*dict.fromkeys([*CPM_OPERATIONS, *FPN_OPERATIONS])],
}
# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def lab(colour: str, seen: np.ndarray) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(seen @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("searched", SEARCHED)
@pytest.mark.parametrize("vision", VISION)
def test_operations_stay_apart(vision: str, searched: str) -> None:
    assert set(SEARCHED[searched]) <= set(OPERATIONS)
    for first, second in itertools.combinations(SEARCHED[searched], 2):
        a, b = (lab(operation_colour(name), VISION[vision]) for name in (first, second))
        assert np.linalg.norm(a - b) > 18, f"{first} and {second} look alike with {vision}"


@pytest.mark.parametrize("vision", VISION)
def test_kinds_of_kernels_stay_apart(vision: str) -> None:
    for (first, one), (second, other) in itertools.combinations(KERNELS.items(), 2):
        a, b = (lab(colour, VISION[vision]) for colour in (one, other))
        assert np.linalg.norm(a - b) > 18, f"{first} and {second} look alike with {vision}"


def test_names_are_readable_on_their_colours() -> None:
    for colour in OPERATIONS.values():
        light, dark = sorted((relative_luminance(colour), relative_luminance(text_colour(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


def test_unknown_operations_have_a_fixed_colour() -> None:
    assert operation_colour("my_operation") == operation_colour("my_operation")
    assert operation_colour("my_operation") not in (INK, MUTED, NODE, PAPER)
    assert not {INK, MUTED, NODE, PAPER} & set(OPERATIONS.values())
