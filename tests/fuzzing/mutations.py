"""Damaged and hostile files, made from valid ones by a random generator.

Bytes are damaged as bytes; where a format is known, its content is also changed and written well-formed again, so that
what is wrong gets past the parser: keys and values of JSON and YAML, cells of tables, fields of protocol buffers, the
header of safetensors, members of a zip archive, chunks of a PNG with their checksums.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from .watch import MARKER

OUTSIDE = "../outside/secret"  # beside the folder of the reader's files, see `watch.Bait`
NUMBERS = (
    *(0, -1, 1, 2, 255, 256, 65536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64),
    *(10**12, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "\0", "a\0b", "\n", "\r\n", "\t", ",", '"', "'", "\\", "%s%n", "{}", "{0}", "${HOME}", "$(id)", "`id`"),
    *("-", "--", "--help", "nan", "inf", "-1", "1e999", "0x10", "1_000", "١٢", "²", "true", "null", "None", "yes"),
    *("\ufeff", "\u202e", "\ud800", "\U0001f600", "Ⅷ", "e\u0301", "x" * 300, "x" * 5_000, "é" * 300, "[0, 2]", "a/b"),
    *("/", ".", "..", "../..", OUTSIDE, f"{OUTSIDE}.json", f"{OUTSIDE}.jpg", f"{OUTSIDE}.bin", f"{OUTSIDE}.faces"),
    *("/etc/passwd", "/etc/hostname", "/dev/zero", "/proc/self/mem", "C:\\Windows", "file:///etc/passwd", "~root/x"),
    *(f"{MARKER}:Space", f"{MARKER}.py:Space", "os:system", f"http://127.0.0.1:9/{MARKER}", f"os.system('{MARKER}')"),
)
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)
)
NASTY_YAML = (
    f'!!python/object/apply:os.system ["touch {MARKER}"]\n',
    f'a: !!python/object/new:os.system ["touch {MARKER}"]\n',
    f"!!python/name:{MARKER}.thing\n",
    f"!!python/module:{MARKER}\n",
    LAUGHS,
    "a: &a [*a]\n",
    "task_options: &a {<<: *a}\n",
    LAUGHS.replace("i: ", "task_options: "),
    "&a {<<: *a}\n",
    "? [1, 2]\n: 3\n",
    "a: 2001-13-45\n",
    "a: 9999-99-99 99:99:99\n",
    "seed: " + "9" * 5000 + "\n",
    "a: 190:20:30:" + ":".join("59" for _ in range(2000)) + "\n",
    "seed: 1\nseed: 2\n",
    "--- 1\n--- 2\n",
    "%YAML 9.9\n--- {}\n",
    "a: !!binary '####'\n",
    "a: !!timestamp x\n",
    "a: !!set {1, 2}\n",
    "a: !!float x\n",
    "a: !!int ''\n",
    "=: =\n",
    "1: 2\n",
    "~: 2\n",
)
DEEP = (b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900, b"- " * 5_000, b"{a: " * 500 + b"}" * 500)
WHOLE = (
    b"", b"\0",
    b"\n", b"\xef\xbb\xbf", b"\xff\xfe{\0}\0", b"null", b"true", b"0", b"[]", b"{}", b'""', b"[[]]", b"[{}]",
    b"NaN", b'{"": {}}', bytes(1000), b"\xff" * 1000, b"9" * 10_000, b'"' + b"x" * 200_000 + b'"', b"\n" * 20_000,
    b"," * 20_000, b"a,b\n" * 5_000, b"\x80\x04cos\nsystem\n(S'touch " + MARKER.encode() + b"'\ntR.",
    b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x1f\x8b\x08" + bytes(50), b"<?xml version='1.0'?>",
    *DEEP,
)  # fmt: skip
WORDS = tuple(
    struct.pack(form, value & mask)
    for form, mask in (("<I", 2**32 - 1), (">I", 2**32 - 1), ("<Q", 2**64 - 1))
    for value in (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 2**20, 2**40, 100_000)
)


def mutate(data: bytes, kind: str, random: Random) -> bytes:
    """A damaged copy of a valid file.

    Args:
        data: the valid file.
        kind: a key of `KINDS`.
        random: decides all.
    """
    if random.random() < 0.03:
        whole = (*WHOLE, *(text.encode() for text in NASTY_YAML)) if kind == "yaml" else WHOLE
        return random.choice(whole)
    if kind in KINDS and random.random() < 0.7:
        return KINDS[kind](data, random)
    return damaged_bytes(data, random)


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """One to four injuries: bits, spans, sizes, ends."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at, end = sorted((random.randrange(len(data) + 1), random.randrange(len(data) + 1)))
        end = min(end, at + random.choice((1, 4, 64, 10**9)))
        word = random.choice(WORDS)
        near_start = random.randrange(min(len(data), 256) + 1)
        data = random.choice(
            (
                data[:at],
                data[at:],
                data[:at] + data[end:],
                data[:end] + data[at:end] + data[end:],
                data[:at] + bytes([random.randrange(256)]) + data[at + 1 :],
                data[:at] + word + data[at + len(word) :],
                data[:near_start] + word + data[near_start + len(word) :],
                data[:near_start] + bytes([random.randrange(256)]) + data[near_start + 1 :],
                data[:at] + word + data[at:],
                data[:at] + bytes(end - at) + data[end:],
                data[:at] + random.choice(TEXTS).encode("utf-8", "surrogatepass") + data[end:],
            )
        )
    return data


# ---- trees, of JSON and YAML


def damaged_tree(value: Any, random: Random) -> Any:
    """A value of JSON with one to three of its entries changed."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return nasty(random)
        _injure(*random.choice(places), places, random)
    return value


def _places(value: Any) -> Any:
    """Every entry as its container and key."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _injure(container: Any, key: Any, places: list[tuple[Any, Any]], random: Random) -> None:
    old = container[key]
    kind = random.randrange(9)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[random.choice((str(key).upper(), f"{key}s", *TEXTS))] = container.pop(key)
    elif kind == 2 and isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), copy.deepcopy(old))
    elif kind == 3:
        other, place = random.choice(places)
        try:
            container[key] = copy.deepcopy(other[place])
        except (KeyError, IndexError):  # moved by what was done before
            container[key] = None
    elif kind == 4:
        container[key] = random.choice(([old], {"a": old}, [old, old], str(old), [old] * 2_000, {str(old)[:50]: old}))
    elif kind == 5 and isinstance(old, int | float):
        container[key] = random.choice(
            (-old, old + 1, old * 1_000_000_007, float(old) if abs(old) < 1e300 else 0, f"{old}")
        )
    elif kind == 6 and isinstance(container, dict):
        container[random.choice(("extra", *TEXTS))] = nasty(random)
    else:
        container[key] = nasty(random)


def nasty(random: Random) -> Any:
    """A value that few expect."""
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(NUMBERS)
    if kind < 5:
        return random.choice(TEXTS)
    if kind == 5:
        value: Any = []
        for _ in range(random.choice((3, 90, 400))):
            value = [value] if random.random() < 0.5 else {"a": value}
        return value
    return random.choice((None, True, False, [], {}, [None], [[]], [{}], {"": ""}, [1, 2, 3], [float("nan")], ["a", 1]))


def _json(data: bytes, random: Random) -> bytes:
    return _dumped(damaged_tree(json.loads(data), random), random)


def _dumped(value: Any, random: Random) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # numbers of many digits cannot be written
        return b"[" + b"1" * 5000 + b"]"


def _json_lines(data: bytes, random: Random) -> bytes:
    lines = data.splitlines()
    at = random.randrange(len(lines))
    if random.random() < 0.3:
        return _lines(data, random)
    return b"\n".join((*lines[:at], _json(lines[at], random), *lines[at + 1 :])) + b"\n"


def _yaml(data: bytes, random: Random) -> bytes:
    if random.random() < 0.15:
        return data + random.choice(NASTY_YAML).encode()
    if random.random() < 0.3:
        return _lines(data, random)
    try:
        return yaml.safe_dump(damaged_tree(yaml.safe_load(data), random), sort_keys=False).encode(
            "utf-8", "surrogatepass"
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        return data + b"a: " + b"[" * 3000


# ---- lines and tables


def _lines(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(7)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == 3:
        lines.insert(at, random.choice(TEXTS).encode("utf-8", "surrogatepass"))
    elif kind == 4:
        lines[at] = lines[at] * random.choice((2, 3, 500))
    elif kind == 5:
        lines = lines * random.choice((2, 20))
    else:
        return _cells(data, random)
    return b"\n".join(lines)


def _cells(data: bytes, random: Random) -> bytes:
    """A word of a line, or a cell of a table, replaced by a nasty one."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    split = next((mark for mark in (b"\t", b",", b" ") if mark in lines[at]), b",")
    cells = lines[at].split(split)
    place = random.randrange(len(cells))
    kind = random.randrange(5)
    if kind == 0:
        del cells[place]
    elif kind == 1:
        cells.insert(place, cells[random.randrange(len(cells))])
    else:
        cells[place] = str(nasty(random) if abs(kind - 3) else random.choice(TEXTS)).encode("utf-8", "surrogatepass")
    lines[at] = split.join(cells)
    return b"\n".join(lines)


# ---- binary formats that hold others


def _head_line(data: bytes, random: Random) -> bytes:
    """A line of JSON before binary data."""
    head, _, rest = data.partition(b"\n")
    return _json(head, random) + b"\n" + rest


def _safetensors(data: bytes, random: Random) -> bytes:
    (length,) = struct.unpack_from("<Q", data)
    head = _dumped(damaged_tree(json.loads(data[8 : 8 + length]), random), random)
    return struct.pack("<Q", len(head)) + head + data[8 + length :]


def _zip(data: bytes, random: Random) -> bytes:
    """An archive whose members have right checksums, but one of which is damaged, renamed, doubled or gone."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        chosen, kind = random.choice(names), random.randrange(8)
        for name in names:
            content = old.read(name)
            if name == chosen and kind == 0:
                continue
            if name == chosen:
                name = random.choice((f"../{name}", f"/{name}", f"{name}x")) if kind == 1 else name
                content = content if kind == 1 else damaged_bytes(content, random)
            new.writestr(name, content)
    return made.getvalue()


def _gzip(data: bytes, random: Random) -> bytes:
    return gzip.compress(_lines(gzip.decompress(data), random), 1)


def _png(data: bytes, random: Random) -> bytes:
    """A chunk's content damaged, its checksum right."""
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    place = random.randrange(len(chunks))
    name, content = chunks[place]
    chunks[place] = (name, damaged_bytes(content, random) if random.random() < 0.8 else content * 2)
    return data[:8] + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _onnx(data: bytes, random: Random) -> bytes:
    import onnx

    model = onnx.load_from_string(data)
    for _ in range(random.choice((1, 1, 2))):
        _injure_message(random.choice(list(_messages(model))), random)
    return bytes(model.SerializeToString())


def _messages(message: Any) -> Any:
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                yield from _messages(inner)


def _injure_message(message: Any, random: Random) -> None:
    """One field set to what its type allows and nobody expects."""
    field = random.choice(message.DESCRIPTOR.fields)
    value: Any
    if field.type == field.TYPE_MESSAGE:
        if field.is_repeated and len(getattr(message, field.name)):
            entries = getattr(message, field.name)
            entries.add().CopyFrom(random.choice(entries)) if random.random() < 0.5 else entries.pop()
        else:
            message.ClearField(field.name)
        return
    if field.type == field.TYPE_STRING:
        value = random.choice([text for text in TEXTS if text.isprintable()])
    elif field.type == field.TYPE_BYTES:
        value = random.choice(WORDS)
    elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        value = random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    else:
        wide = field.type in (field.TYPE_INT64, field.TYPE_UINT64)
        value = random.choice((0, 1, -1, 7, 1000, 2**31 - 1, *((2**40, 2**62, -(2**63)) if wide else ())))
    try:
        if field.is_repeated:
            entries = getattr(message, field.name)
            if len(entries) and random.random() < 0.5:
                entries[random.randrange(len(entries))] = value
            else:
                entries.extend([value] * random.choice((1, 1, 20)))
        else:
            setattr(message, field.name, value)
    except (ValueError, TypeError):  # an enumeration that knows no such number
        message.ClearField(field.name)


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "json": _json, "json lines": _json_lines, "yaml": _yaml, "lines": _lines, "table": _cells, "head line": _head_line,
    "safetensors": _safetensors, "zip": _zip, "gzip": _gzip, "png": _png, "onnx": _onnx,
}  # fmt: skip
