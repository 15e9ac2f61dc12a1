"""`memscale VERB ...`: finds the verb's own file and imports nothing else.

Mistakes and faults that a person can mend end with one message and exit status 2, without a traceback. What is neither
is a bug: it ends with exit status 1, the traceback, and how to report it.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys

from memscale import __version__
from memscale.errors import MemscaleError, bug_report, nearest
from memscale.records.access import modes_of
from memscale.records.layout import runs_root

VERBS = {
    "plan": "show what a sweep would train; touches nothing",
    "sweep": "train what a sweep lacks, evaluate it, record it and write the report",
    "reconcile": "take the next step of a sweep on SLURM by hand; its controller jobs do",
    "status": "show the state of every run; what needs a person first",
    "watch": "status, renewed until all is done",
    "logs": "show the log of a run's last attempt",
    "retry": "let failed runs be trained again",
    "cancel": "stop a sweep or a run at the next step, with a checkpoint",
    "results": "write and show the results table",
    "figures": "rebuild the results table, the figures and the report from run files",
    "ui": "mirror the runs into MLflow and open its page",
    "data": "prepare a sweep's data and show what it holds",
    "train": "train one run's directory here, in the foreground",
    "evaluate": "evaluate a finished run again",
    "export": "write a finished run's weights as a Hugging Face folder",
    "doctor": "look at this machine and say what each finding means",
}

PLATFORM = frozenset(
    {
        "datasets", "hydra", "lm_eval", "mlflow", "numba", "omegaconf", "rich", "safetensors", "submitit",
        "tokenizers", "torch", "triton", "yaml",
    }
)  # fmt: skip
"""What may be absent where memscale was installed without its extra `platform`, as it is imported."""


def main(arguments: list[str] | None = None) -> int:
    """Run the verb that `arguments` (None: the command line's) begin with; return its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal in another encoding still shows the rest
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] == "--version":
        print(__version__)
        return 0
    verb = given[0]
    if verb not in VERBS:
        print(
            f"memscale: there is no verb '{verb}'; there are: {', '.join(VERBS)}.{nearest(verb, VERBS)}",
            file=sys.stderr,
        )
        return 2
    parser = argparse.ArgumentParser(prog=f"memscale {verb}", description=VERBS[verb])
    try:
        module = importlib.import_module(f"memscale.cli.{verb}")
        module.add_arguments(parser)
        words = parser.parse_intermixed_args(given[1:])  # options may come between overrides
        with modes_of(runs_root()):
            status: int = module.run(words)
        sys.stdout.flush()
    except MemscaleError as error:
        print(f"memscale {verb}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in PLATFORM:
            raise
        print(
            f"memscale {verb}: the package '{package}' is not installed here; only what fits laws to tables is"
            " (python -m analysis). In memscale's folder, install the extra `platform`: make setup, or"
            " pip install -c constraints.txt '.[platform]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        print(f"memscale {verb}: the system refused: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except MemoryError:
        print(
            f"memscale {verb}: the memory of this machine is used up; ask for less, or use a larger one",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"\nmemscale {verb}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001 - a person's slips have their own errors: what is left is a bug
        print(bug_report("memscale", given, error), file=sys.stderr)
        return 1
    return status


def _help() -> str:
    width = max(map(len, VERBS))
    lines = ["memscale VERB SWEEP [key=value ...]", "", *(f"  {verb:{width}}  {text}" for verb, text in VERBS.items())]
    return "\n".join([*lines, "", "memscale VERB --help says more about one. The same by name: make help"])


if __name__ == "__main__":
    sys.exit(main())
