"""Other libraries' errors, made short enough to stand inside ours."""

from __future__ import annotations


def reason(error: Exception, limit: int = 300) -> str:
    """The message of an error on one line, cut to ``limit`` characters, with the error's type if it says nothing."""
    text = " ".join(str(error).split())
    return text[:limit] or type(error).__name__
