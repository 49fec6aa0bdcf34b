"""The command ``facenas nni-space``: a model space as the search space of an NNI experiment."""

from __future__ import annotations

import json
from typing import Any


def main(space: str, space_options: dict[str, Any] | None = None, recipe: str = "quick", out: str = "-") -> None:
    """Write a model space as a search space of NNI, for the entry searchSpaceFile of an experiment's YAML file.

    The trials of the experiment (python -m evaluators.trial) must be given the same space, options and recipe.

    Args:
        space: the search space, or package.module:ClassName of your own.
        space_options: options of the space that differ from the recipe's, such as '{"channels": 8}'.
        recipe: whose options of the space are taken, quick or paper.
        out: the file; "-" prints it.
    """
    from evaluators.recipes import find_recipe
    from searchspaces import build_space
    from searchspaces.files import write_text
    from searchspaces.nni_space import to_search_space

    options = {**find_recipe(space, recipe).search_space, **(space_options or {})}
    text = json.dumps(to_search_space(build_space(space, **options)), indent=2) + "\n"
    print(text, end="") if out == "-" else print(write_text(out, text))


if __name__ == "__main__":
    from searchspaces.cli import run_command

    raise SystemExit(run_command(main, prog="facenas nni-space"))
