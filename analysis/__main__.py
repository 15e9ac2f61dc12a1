"""python -m analysis VERB TABLE: the answer of a table of runs, from a terminal."""

from __future__ import annotations

import sys

from analysis.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
