"""Conformance suites: what facenas expects of a search space, a strategy and a task, as tests to inherit.

A subclass in a test file of your own says what is tested, and pytest runs the tests that it inherits::

    from facenas.testing import SpaceTestCase

    class TestMySpace(SpaceTestCase):
        space, options = "my_space:MySpace", {"image_size": 32}

A suite that passes means that facenas can use the class: its commands a space, NNI's experiments and our training a
strategy or a task. A failure says what to change. facenas' own spaces, strategies and tasks are tested by the same
classes. No test framework is imported: `unittest` runs the suites too, if a subclass inherits ``unittest.TestCase``
beside the suite. docs/tutorial.md shows all three.

Names are imported on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchspaces.lazy import lazy_names

if TYPE_CHECKING:
    from .data import striped_faces as striped_faces
    from .spaces import SpaceTestCase as SpaceTestCase
    from .strategies import StrategyTestCase as StrategyTestCase
    from .tasks import TaskTestCase as TaskTestCase

_WHERE = {
    "SpaceTestCase": "spaces",
    "StrategyTestCase": "strategies",
    "TaskTestCase": "tasks",
    "striped_faces": "data",
}
__all__ = list(_WHERE)
__getattr__ = lazy_names(__name__, _WHERE)
