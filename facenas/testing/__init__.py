"""Tests that a space, a strategy or a task of your own should pass. Inherit them in a test file of yours:

    from facenas.testing import SpaceTestCase

    class TestMySpace(SpaceTestCase):
        space, options = "my_space:MySpace", {"image_size": 32}

and run ``python -m pytest``. facenas' own spaces, strategies and tasks are tested by the same classes.
"""

from .spaces import SpaceTestCase
from .strategies import StrategyTestCase
from .tasks import TaskTestCase

__all__ = ["SpaceTestCase", "StrategyTestCase", "TaskTestCase"]
