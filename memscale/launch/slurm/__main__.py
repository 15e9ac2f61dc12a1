"""`python -m memscale.launch.slurm SWEEP`: what a controller job runs.

Takes the next step of the sweep. Exit status: 0 all done, 3 running, 4 a person is needed. Any other one means that
the step could not be taken here; the job's script then submits itself anew on another node.
"""

from __future__ import annotations

import sys

from memscale.errors import MemscaleError
from memscale.launch.code_snapshot import check_running_code
from memscale.launch.start import reconcile_launched
from memscale.launch.states import DONE, RUNNING


class _Log:
    """Writes to the job's output."""

    live_seconds = 3600.0

    def line(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def live(self, text: str) -> None:
        """Write nothing: a log has no line to renew."""


def main(arguments: list[str] | None = None) -> int:
    """Take the next step of the sweep that `arguments` names; return the exit status."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        check_running_code()
        outcome = reconcile_launched(name, _Log())
    except MemscaleError as error:
        sys.stderr.write(f"memscale: {error}\n")
        return 2
    return {DONE: 0, RUNNING: 3}.get(outcome.state, 4)


if __name__ == "__main__":
    sys.exit(main())
