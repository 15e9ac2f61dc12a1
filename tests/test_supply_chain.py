"""What memscale is installed with: every pin has hashes, and every licence is allowed."""

from __future__ import annotations

import re
from pathlib import Path

from audit.licences import EXCEPTIONS, Licence, installed, pinned

ROOT = Path(__file__).parents[1]
NOT_LOCKED = {"torch", "chinchilla", "fbgemm-gpu-cpu"}
"""The head of requirements.lock says why."""


def _pins(name: str) -> set[tuple[str, str]]:
    """(package, version) of the lines that hold for Python 3.11 and later."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([a-z0-9-]+)==([^ ;]+)([^\\]*)", line) for line in lines)
    return {(match[1], match[2]) for match in found if match and not re.search(r"python\w* < .3.11", match[3])}


def test_every_pin_is_locked_at_its_version_with_a_hash() -> None:
    constraints = {(name, version) for name, version in _pins("constraints.txt") if name not in NOT_LOCKED}
    assert _pins("requirements.lock") == constraints, "run: make lock"
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z])", lock)[1:]
    assert len(blocks) == len(constraints)
    for block in blocks:
        assert re.fullmatch(r"[^\n]*\\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n?)+", block), block[:200]


def test_the_licences_of_what_is_installed_are_allowed() -> None:
    licences = installed(pinned(ROOT / "constraints.txt"))
    assert len(licences) > 150
    assert [one.problem for one in licences if one.problem is not None] == []
    assert set(EXCEPTIONS) <= set(pinned(ROOT / "constraints.txt"))


def test_a_licence_is_allowed_by_each_of_its_parts_and_one_of_its_choices() -> None:
    for words in (
        "MIT",
        "Apache-2.0 OR GPL-3.0",
        "MIT AND (BSD-3-Clause)",
        "BSD-2-Clause AND Apache-2.0 WITH LLVM-exception",
    ):
        assert Licence("some", "1", words).problem is None, words
    for words in ("GPL-3.0", "MIT AND GPL-2.0", "none stated", "Proprietary", ""):
        assert "not in audit/licences.py" in str(Licence("some", "1", words).problem), words
