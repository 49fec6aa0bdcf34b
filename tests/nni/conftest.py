"""An experiment's surroundings."""

from __future__ import annotations

import pytest

from .experiments import Experiments


@pytest.fixture
def experiments(tmp_path):
    made = Experiments(tmp_path)
    yield made
    made.close()
