"""Other libraries' errors, made short enough to stand inside ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from searchspaces.errors import CostError, FacenasError


def reason(error: Exception, limit: int = 300) -> str:
    """The message of an error on one line, cut to ``limit`` characters, with the error's type if it says nothing."""
    text = " ".join(str(error).split())
    return text[:limit] or type(error).__name__


@contextmanager
def failing_as(what: str, then: str = "") -> Iterator[None]:
    """Whatever a library raises inside becomes ``CostError("{what}: {its reason}{then}")``.

    Converters and runtimes raise errors of many kinds, bare ``Exception`` and those of other packages among them. Put
    nothing but the library's own calls inside; an error of facenas passes as it is.

    >>> with failing_as("Cannot load net.onnx", then=" Export it again."):
    ...     raise RuntimeError("bad magic.")
    Traceback (most recent call last):
    searchspaces.errors.CostError: Cannot load net.onnx: bad magic. Export it again.
    """
    try:
        yield
    except FacenasError:
        raise
    except Exception as error:
        raise CostError(f"{what}: {reason(error)}{then}") from error
