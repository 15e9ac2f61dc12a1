"""The licences of what is installed, held against a list of those that memscale may be shipped beside.

Licences come from the packages' own metadata: the SPDX expression, else the classifiers, else the text of the licence.
"""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC",
    "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Public-Domain", "Unlicense", "Zlib",
}  # fmt: skip
"""Permissive licences, and MPL-2.0, which asks for its own files alone."""
EXCEPTIONS = {
    "chardet": "LGPL-2.1-or-later: lm-eval's tables need it (mbstrdecoder); imported unchanged",
    "psycopg2-binary": "LGPL-3.0-or-later: the driver of the extra `postgres`, imported unchanged",
}
"""Packages with another licence, and why they may be used."""
_WORDS = {
    r"apache( software)?( license)?,?( version)?( 2(\.0)?)?( license)?": "Apache-2.0",
    r"(the )?mit( license)?( \(mit\))?": "MIT",
    r"bsd( license)?": "BSD",
    r"3-clause bsd license|(new|modified) bsd( license)?": "BSD-3-Clause",
    r"isc license( \(iscl\))?": "ISC",
    r"mozilla public license 2\.0 \(mpl 2\.0\)": "MPL-2.0",
    r"python software foundation license": "PSF-2.0",
    r"public domain": "Public-Domain",
    r"the unlicense \(unlicense\)": "Unlicense",
}
"""How classifiers and authors write them."""
_TEXTS = {
    r"Permission is hereby granted, free of charge": "MIT",
    r"Apache License\s+Version 2\.0": "Apache-2.0",
    r"Redistribution and use in source and binary forms": "BSD",
}
"""What stands in a file LICENSE."""


@dataclass(frozen=True)
class Licence:
    """The licence of an installed package."""

    package: str
    version: str
    words: str
    """As an SPDX expression where the package says one; choices are joined by OR."""

    @property
    def problem(self) -> str | None:
        """Why it may not be used, or None."""
        if self.package in EXCEPTIONS:
            return None
        choices = [re.findall(r"[\w.+-]+", choice) for choice in re.split(r"\bOR\b", self.words)]
        if any(choice and all(word in ALLOWED or word in ("AND", "WITH") for word in choice) for choice in choices):
            return None
        return f"{self.package} {self.version} has the licence '{self.words}', which is not in audit/licences.py"


def pinned(constraints: Path) -> list[str]:
    """Return the names of the packages in a constraints file."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.partition("==")[0] for line in lines if re.match("[a-z]", line)))


def installed(names: list[str]) -> list[Licence]:
    """Return the licences of those packages that are installed here, by name."""
    found = []
    for name in sorted(names):
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(Licence(name, package.version, _words(package)))
    return found


def _words(package: importlib.metadata.Distribution) -> str:
    metadata = package.metadata
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [
        one.rpartition("::")[2].strip() for one in metadata.get_all("Classifier") or [] if "License ::" in one
    ]
    said = [one for one in classifiers if one != "OSI Approved"] or [str(metadata.get("License") or "").split("\n")[0]]
    words = " OR ".join(dict.fromkeys(_spdx(one) for one in said if one))
    return words or _from_text(package)


def _spdx(words: str) -> str:
    plain = words.strip().lower()
    return next((spdx for pattern, spdx in _WORDS.items() if re.fullmatch(pattern, plain)), words.strip())


def _from_text(package: importlib.metadata.Distribution) -> str:
    for file in package.files or []:
        if re.search(r"licen[cs]e|copying", file.name, re.IGNORECASE):
            text = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")
            for pattern, spdx in _TEXTS.items():
                if re.search(pattern, text):
                    return spdx
    return "none stated"
