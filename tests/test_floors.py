"""A room imports only from rooms below it, and only the front door imports from reports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FLOORS = ["searchspaces", "hardware", "evaluators", "strategies", "reports", "facenas"]
ROOT = Path(__file__).parents[1]


def _imported_rooms(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} & set(FLOORS)


def _without_main(tree: ast.Module) -> ast.Module:
    """A command's ``if __name__ == "__main__":`` may look up."""
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in ast.dump(node.test))]
    return tree


@pytest.mark.parametrize("room", FLOORS)
def test_imports_go_down_the_floors(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        for other in _imported_rooms(_without_main(ast.parse(path.read_text()))) - {room}:
            assert FLOORS.index(other) < FLOORS.index(room), f"{path} imports {other} from a floor above"
            assert other != "reports" or room == "facenas", f"{path}: only the front door imports from reports"
