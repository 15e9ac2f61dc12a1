"""`draw`: the figures of any answer, from a notebook; the verbs' --figures writes the same files."""

from __future__ import annotations

from pathlib import Path

from analysis.allocation.approaches import Approaches
from analysis.downstream.from_table import Downstream
from analysis.errors import FitError
from analysis.fitting.compare import Comparison
from analysis.gains.gain import Gain
from analysis.inference.result import Fit
from analysis.result import Result


def draw(found: Result, folder: str | Path) -> list[Path]:
    """Draw an answer into a folder, which is made where it is not there.

    Args:
        found: What `fit`, `gains`, `isoflop`, `compare` or `downstream` gave.
        folder: Where the files go; those of the same name are replaced.

    Returns:
        The files: each figure as .png and .pdf, and its data as .csv.

    Raises:
        FitError: There is no figure of such an answer.
        AnalysisError: The folder cannot be written.

    Example:
        >>> import tempfile
        >>> from analysis.gains import gains
        >>> loss = [3.61, 3.02, 2.49, 2.08, 3.30, 2.76, 2.28, 1.90]
        >>> runs = {"C": [1e17, 1e18, 1e19, 1e20] * 2, "loss": loss, "kind": ["dense"] * 4 + ["memory"] * 4}
        >>> found = gains(runs, of="memory", over="dense", family="kind")
        >>> [path.name for path in draw(found, tempfile.mkdtemp())]
        ['gain_compute.png', 'gain_compute.pdf', 'gain_compute.csv']
    """
    # Each of these knows matplotlib, which takes most of the start.
    folder = Path(folder)
    if isinstance(found, Gain):
        from analysis.figures import gains

        return gains.write([found], folder)
    if isinstance(found, Fit):
        from analysis.figures import fit

        return fit.write(found, folder)
    if isinstance(found, Approaches):
        from analysis.figures import allocation

        return allocation.write(found, folder)
    if isinstance(found, Downstream):
        from analysis.figures import downstream

        return downstream.write(found, folder)
    if isinstance(found, Comparison):
        from analysis.figures import model_selection

        return model_selection.write(found.scores, found.variants, found.scale, found.observations.loss, folder)
    raise FitError(
        f"there is no figure of {type(found).__name__}; draw takes what fit, gains, isoflop, compare or downstream gave"
    )
