"""No file that could come from elsewhere is unpickled, evaluated or given to a shell: the code is read for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("searchspaces", "hardware", "evaluators", "strategies", "reports", "facenas", "benchmarks", "docs")
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "dill.loads", "joblib.load"),
    *("cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "pd.read_pickle"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader", "yaml.UnsafeLoader"),
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "torch.jit.load"),
    *("torch.hub.load", "torch.hub.load_state_dict_from_url", "shutil.unpack_archive", "tarfile.open"),
}
SAFE_IF = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
# place -> why it may
JUSTIFIED = {
    ("benchmarks/startup_worker.py", "__import__"): "packages that the benchmark names itself",
    ("evaluators/companions.py", "pickle.load"): "its standard input is the process that started it, no file",
}


def calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of what may not be called or may only be called otherwise."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in FORBIDDEN:
            yield node.lineno, name
        if name in SAFE_IF:
            option, wanted = SAFE_IF[name]
            value = given.get(option)
            if not (isinstance(value, ast.Constant) and value.value is wanted):
                yield node.lineno, f"{name} without {option}={wanted}"
        if not (isinstance(shell := given.get("shell", ast.Constant(False)), ast.Constant) and not shell.value):
            yield node.lineno, f"{name} with a shell"
        allow = given.get("allow_pickle", ast.Constant(False))
        if name not in SAFE_IF and not (isinstance(allow, ast.Constant) and not allow.value):
            yield node.lineno, f"{name} with allow_pickle"


def found() -> dict[tuple[str, str], list[int]]:
    places: dict[tuple[str, str], list[int]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for line, name in calls(ast.parse(path.read_text(encoding="utf-8"))):
                places.setdefault((str(path.relative_to(ROOT)), name), []).append(line)
    return places


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    places = found()
    wrong = [f"{path}:{lines[0]}: {name}" for (path, name), lines in places.items() if (path, name) not in JUSTIFIED]
    assert not wrong, wrong
    assert set(places) == set(JUSTIFIED), "a justified place is gone: take it from the list"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("pickle.loads(data)", "pickle.loads"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=flag)", "torch.load without weights_only=True"),
        ("np.load(path)", "np.load without allow_pickle=False"),
        ("np.lib.format.read_array(f, allow_pickle=True)", "np.lib.format.read_array with allow_pickle"),
        ("subprocess.run(x, shell=True)", "subprocess.run with a shell"),
        ("yaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("eval(text)", "eval"),
    ],
)
def test_what_is_forbidden_is_seen(code: str, name: str) -> None:
    assert [each for _, each in calls(ast.parse(code))] == [name]


@pytest.mark.parametrize(
    "code",
    ["network.eval()", "torch.load(p, weights_only=True)", "yaml.safe_load(t)", "re.compile(t)", "run(x, shell=False)"],
)
def test_what_is_allowed_is_not(code: str) -> None:
    assert not list(calls(ast.parse(code)))
