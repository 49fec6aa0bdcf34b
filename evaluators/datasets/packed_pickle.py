"""InsightFace's ``.bin`` files, pairs of pictures as a Python pickle, which is never unpickled.

A pickle is a program, and could be any. What `pickle` writes for lists of bytes and of truth values needs few of its
instructions: these are interpreted here, into plain values, and any other is refused. Nothing is imported or called.
NumPy arrays, which some of the files have in place of bytes, are recognised and their raw bytes taken.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from searchspaces.errors import DatasetError

MARK = object()
# what the files of NumPy name; as marks only
BUFFERS = {("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer")}  # of protocol 5
ARRAY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    *BUFFERS,
}
VALUES = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
LITERALS = {
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "BINFLOAT", "STRING", "UNICODE", "BINUNICODE8", "BYTEARRAY8"),
}


class Token:
    """Something that a pickle would have imported or made; ``state`` is what it would have been given."""

    def __init__(self, name: Any, arguments: Any = None) -> None:
        self.name, self.arguments, self.state = name, arguments, None


def read_packed(path: Path) -> tuple[list[bytes], list[bool]]:
    """The encoded pictures of a .bin file, two for each pair, and for each pair whether both show one person.

    Raises:
        DatasetError: if the file is truncated, is another pickle, or would do anything but hold these.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"Cannot read {path}: {error.strerror or error}.") from error
    value = interpret(data, path)
    if not (
        isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(part, list | tuple) for part in value)
    ):
        raise DatasetError(
            f"{path} is no packed set of pairs: a list of pictures and a list of truth values is expected."
        )
    pictures, same = [_as_bytes(item, path) for item in value[0]], [_as_bool(item, path) for item in value[1]]
    if len(pictures) != 2 * len(same) or not same:
        raise DatasetError(f"{path} has {len(pictures)} pictures for {len(same)} pairs; there must be two for each.")
    return pictures, same


def interpret(data: bytes, path: Path) -> Any:
    """What a pickle of plain values holds.

    Raises:
        DatasetError: for an instruction that plain values do not need, or a file that ends too early.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return stack.pop()
            _step(opcode.name, argument, stack, memo, path)
    except DatasetError:
        raise
    except Exception as error:  # an empty stack, a memo that is not there, a file that ends: all of them damage
        raise DatasetError(f"{path} is truncated or no packed set of pairs: {error}.") from error
    raise DatasetError(f"{path} is truncated.")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any], path: Path) -> None:
    """One instruction."""
    if name in ("PROTO", "FRAME"):
        return
    if name in VALUES:
        stack.append(VALUES[name])
    elif name in LITERALS:
        stack.append(argument)
    elif name == "MARK":
        stack.append(MARK)
    elif name in ("EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_DICT"):
        stack.append([] if name == "EMPTY_LIST" else () if name == "EMPTY_TUPLE" else Token("dict"))
    elif name in ("LIST", "TUPLE"):
        items = _to_mark(stack)
        stack.append(items if name == "LIST" else tuple(items))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = int(name[-1])
        items = [stack.pop() for _ in range(size)][::-1]
        stack.append(tuple(items))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _to_mark(stack)
        stack[-1].extend(items)
    elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
        memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[int(argument)])
    elif name in ("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"):
        _token(name, argument, stack, path)
    else:
        raise DatasetError(
            f"{path} is a pickle with the instruction {name}, which lists of pictures do not need: it is not read."
        )


def _token(name: str, argument: Any, stack: list[Any], path: Path) -> None:
    """What would import or call: kept as a token if NumPy's arrays need it, else refused."""
    if name in ("GLOBAL", "STACK_GLOBAL"):
        if name == "STACK_GLOBAL":
            function, module = stack.pop(), stack.pop()
        else:
            module, function = str(argument).split(" ", 1)
        if (module, function) not in ARRAY:
            raise DatasetError(f"{path} is a pickle that would import {module}.{function}: it is not read.")
        stack.append(Token((module, function)))
    elif name == "REDUCE":
        arguments, called = stack.pop(), stack.pop()
        stack.append(Token(called.name, arguments))
    else:
        state = stack.pop()
        stack[-1].state = state


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _as_bytes(item: Any, path: Path) -> bytes:
    """The bytes of a picture: as they are, as a string of Python 2, or those of an array."""
    if isinstance(item, bytes | bytearray):
        return bytes(item)
    if isinstance(item, str):
        try:
            return item.encode("latin-1")
        except UnicodeEncodeError as error:
            raise DatasetError(f"{path} holds a text where the bytes of a picture are expected.") from error
    if isinstance(item, Token) and isinstance(item.state, tuple) and len(item.state) == 5:
        return _as_bytes(item.state[4], path)
    called = {("_codecs", "encode"), *BUFFERS}  # their first argument is the data
    if isinstance(item, Token) and item.name in called and isinstance(item.arguments, tuple) and item.arguments:
        return _as_bytes(item.arguments[0], path)
    raise DatasetError(f"{path} holds a {type(item).__name__} where the bytes of a picture are expected.")


def _as_bool(item: Any, path: Path) -> bool:
    if isinstance(item, bool | int):
        return bool(item)
    if isinstance(item, Token) and item.name[1] == "scalar" and isinstance(item.arguments, tuple):
        return any(_as_bytes(item.arguments[1], path))
    raise DatasetError(f"{path} holds a {type(item).__name__} where a truth value is expected.")
