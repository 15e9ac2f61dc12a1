"""`python -m audit`: licences of what is installed, and known vulnerabilities of what is pinned.

The exit status is 1 where a licence is not allowed or a vulnerability is known, 3 where the database of vulnerabilities
cannot be reached, so that nothing is known of them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from audit.licences import EXCEPTIONS, installed, pinned

ROOT = Path(__file__).parents[1]
UNREACHABLE = 3
_NOT_FOUND = "could not be audited"
_AWAY = (
    "Connection",
    "Timeout",
    "ServiceError",
    "Max retries",
    "SSLError",
    "HTTPError",
    "Client Error",
    "Server Error",
)
"""Words of pip-audit where its service does not answer."""


def main() -> int:
    """Print what was found; return the exit status."""
    licences = installed(pinned(ROOT / "constraints.txt"))
    for one in licences:
        print(f"{one.package:32} {one.version:18} {EXCEPTIONS.get(one.package) or one.words}")
    problems = [one.problem for one in licences if one.problem is not None]
    print(f"{len(licences)} packages, {len(problems)} with a licence that is not allowed")
    print("".join(f"  {problem}\n" for problem in problems), end="")
    return max(_vulnerabilities(), 1 if problems else 0)


def _vulnerabilities() -> int:
    tool = shutil.which("pip-audit")
    if tool is None:
        print("vulnerabilities: not looked at, as pip-audit is not installed; make audit installs it")
        return UNREACHABLE
    command = [tool, "--requirement", str(ROOT / "requirements.lock"), "--require-hashes",
               "--disable-pip", "--no-deps", "--progress-spinner", "off", "--timeout", "10"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    print("".join(f"{line}\n" for line in done.stdout.splitlines() if _NOT_FOUND not in line), end="")
    unknown = done.stdout.count(_NOT_FOUND)
    if unknown:
        print(
            f"vulnerabilities: the database that answers here does not know {unknown} of the packages, so that nothing"
        )
        print("is known of them; run make audit where PyPI itself can be reached")
        return UNREACHABLE if done.returncode == 0 else 1
    if done.returncode == 0:
        print("vulnerabilities: none is known of the packages of requirements.lock")
        return 0
    if not done.stdout.strip() and any(word in done.stderr for word in _AWAY):
        last = done.stderr.strip().splitlines()[-1][:200]
        print(f"vulnerabilities: not known, as their database cannot be reached from here ({last})")
        return UNREACHABLE
    print(done.stderr, end="", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
