"""Licences of everything that facenas needs at run time, from what is installed.

``python -m tests.supply_chain`` prints the table of docs/licences.md.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

# as packages write it -> SPDX
SPELLINGS = {
    "apache software license": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache-2.0": "Apache-2.0",
    "bsd license": "BSD", "bsd": "BSD", "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "revised bsd license (license.txt)": "BSD-3-Clause", "bsd-3-clause": "BSD-3-Clause",
    "mit license": "MIT", "mit": "MIT", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "mpl-2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0", "the unlicense (unlicense)": "Unlicense",
    "other/proprietary license": "proprietary", "nvidia proprietary software": "proprietary",
    "licenseref-nvidia-proprietary": "proprietary",
}  # fmt: skip
COMPATIBLE = {
    *("MIT", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "PSF-2.0", "MPL-2.0", "HPND", "MIT-CMU"),
    *("Unlicense", "Zlib", "ISC", "CC0-1.0", "BSL-1.0", "AFL-2.1", "Apache-2.0 WITH LLVM-exception"),
}


def dependencies(root: str = "facenas") -> dict[str, tuple[Distribution, set[str]]]:
    """All that is needed without extras, by name: the distribution, and what of ours or theirs needs it."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    left: list[tuple[str, str, frozenset[str]]] = [(root, "", frozenset())]
    done = set()
    while left:
        name, by, extras = left.pop()
        try:
            each = distribution(name)
        except PackageNotFoundError:
            continue  # the test of installed packages is `facenas doctor`
        key = canonical(name)
        if by:
            found.setdefault(key, (each, set()))[1].add(by)
        if (key, extras) in done:
            continue
        done.add((key, extras))
        for text in each.requires or ():
            needed = Requirement(text)
            wanted = [{"extra": extra} for extra in ("", *extras)]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in wanted):
                left.append((needed.name, key, frozenset(needed.extras)))
    found.pop(canonical(root), None)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(each: Distribution) -> str:
    """The licence as an SPDX expression, as far as the package says."""
    fields = each.metadata
    told = [fields.get("License-Expression") or ""]
    lines = [line for line in (fields.get("License") or "").splitlines()[:1] if len(line) < 40]
    classifiers = [text.rpartition(" :: ")[2] for text in fields.get_all("Classifier") or [] if "License ::" in text]
    for text in (*told, *lines, *classifiers):
        known = SPELLINGS.get(text.strip().lower())
        if known or set(parts(text)) & COMPATIBLE:
            return known or text.strip()
    return "unknown"


def parts(expression: str) -> list[str]:
    """The licences in an expression."""
    return [part.strip("() ") for part in re.split(r"\s+(?:AND|OR)\s+", expression)]


def table() -> list[str]:
    """A line a package: name, licence, who needs it."""
    return [
        f"| {name} | {licence(each)} | {', '.join(sorted(by))} |" for name, (each, by) in sorted(dependencies().items())
    ]


if __name__ == "__main__":
    print("\n".join(table()))
