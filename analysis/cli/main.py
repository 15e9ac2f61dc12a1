"""`python -m analysis VERB TABLE ...`: finds the verb's own file and imports nothing else.

Mistakes end with one line on stderr and exit code 2; a bug ends with exit code 1, the traceback, and how to report it.
JSON has all digits.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence

from analysis.errors import AnalysisError, bug_report

VERBS = {
    "report": "write figures, analysis.json and one self-contained report.html of a sweep's results",
    "fit": "fit a law to any table of runs, or each series of a sweep's results",
    "predict": "the loss of runs that were not made, with intervals for the law and for the next run",
    "isoflop": "the best parameters and tokens for given FLOPs, by all three approaches",
    "compare": "laws ranked by what they predict of runs they have not seen",
    "downstream": "a task's metric from compute, through the loss",
    "gain": "what one family gains over another in compute, parameters and loss, with intervals",
    "design": "the next runs that would narrow the best split most for given FLOPs",
    "laws": "laws of memory tables and experts of a sweep's results, ranked by what they predict",
    "findings": "the page of findings from the results tables beside it",
    "reproduce": "published fits made again, beside what was reported",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal in another encoding still shows the rest
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    verb = given[0]
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f". Did you mean '{close[0]}'?" if close else ""
        print(f"analysis: there is no verb '{verb}'; there are: {', '.join(VERBS)}{hint}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"analysis.cli.{verb}")
    parser = argparse.ArgumentParser(prog=f"python -m analysis {verb}", description=f"{VERBS[verb].capitalize()}.")
    module.add_arguments(parser)
    try:
        status: int = module.run(parser.parse_args(given[1:]))
        sys.stdout.flush()
    except AnalysisError as error:
        print(f"analysis {verb}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            place = f" ({error.filename})" if error.filename else ""
            print(f"analysis {verb}: the system refused: {error.strerror or error}{place}", file=sys.stderr)
            return 2
        # The reader (head, less) has seen enough; give the interpreter nothing to flush into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        print(
            f"analysis {verb}: the memory of this machine is used up; ask for less, or use a larger one",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nanalysis {verb}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - a person's slips have their own errors: what is left is a bug
        print(bug_report("analysis", given, error), file=sys.stderr)
        return 1
    return status


def _help() -> str:
    width = max(map(len, VERBS))
    lines = ["python -m analysis VERB TABLE ...", "", *(f"  {verb:{width}}  {text}" for verb, text in VERBS.items())]
    return "\n".join([*lines, "", "python -m analysis VERB --help says more about one."])
