"""`gains`: the gain of a family over another, from a table.

All families of the table are used, not only the two compared: the noise of a run and the form of the law are estimated
from all of them. So a sweep's results table gives the same numbers here as in its report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.errors import FitError, TableError
from analysis.gains.gain import Gain, gain_between
from analysis.gains.run_table import runs_along
from analysis.gains.scaling_curves import FLOPS, PARAMETERS, Axis
from analysis.tables import Exclusion, Observations, TableLike, TableOptions, observe
from analysis.tables.cells import place, source, text
from analysis.tables.frames import as_frame, text_columns

if TYPE_CHECKING:
    from typing_extensions import Unpack

AXES: dict[str, Axis] = {"C": FLOPS, "N": PARAMETERS}
SEED_COLUMN = "seed"


@dataclass(frozen=True, kw_only=True)
class Gains(Gain):
    """A `Gain` with the source of its table, as a card needs it."""

    source: str
    sha256: str
    exclusions: tuple[Exclusion, ...]

    def __len__(self) -> int:
        return len(self.runs)


def gains(
    table: TableLike,
    *,
    of: str,
    over: str,
    family: str,
    axis: Literal["C", "N"] = "C",
    at: float | Sequence[float] = (),
    **options: Unpack[TableOptions],
) -> Gains:
    """The gain of family `of` over family `over`, in loss and as a multiplier of compute or parameters.

    The difference in loss is given at each level that both families have, as the mean of these, and by the fitted laws
    L = A x^-alpha (with an irreducible loss where the table determines it). The multiplier is the factor of x that the
    baseline needs for the same loss (Hoffmann et al. 2022 compare models so; see `analysis.gains.multipliers`).
    Intervals are 95 % t intervals. Their noise comes from replicates (rows of a family at the same level, paired by
    seed where the table has a column of seeds), else from the residuals of the laws.

    Args:
        table: A DataFrame or the path of a file; columns C (training FLOPs) or N (parameters) and loss, or any others
            named by `options`.
        of: Name of the family, as in the table.
        over: Name of the family it is compared with.
        family: The column that names the family of each row.
        axis: 'C' for training FLOPs, 'N' for parameters.
        at: FLOPs (or parameters) at which to compute the multiplier; by default the end of the common range.
        **options: Columns and rules for rows; see `analysis.observe`. A column of seeds (`seed_column`) or of runs
            with checkpoints (`cluster`) names the rows that share a part of their noise.

    Returns:
        Differences, laws and multipliers; `to_frame()` gives them as a table, `summary()` as text.

    Raises:
        TableError: A column is missing, or a row cannot be used.
        FitError: A family is missing or has runs at fewer than two levels, several models have equal FLOPs, or `at` is
            not a number above zero.

    Example:
        >>> import pandas as pd
        >>> flops = [1e17, 1e18, 1e19, 1e20] * 2
        >>> loss = [3.61, 3.02, 2.49, 2.08, 3.30, 2.76, 2.28, 1.90]
        >>> runs = pd.DataFrame({"C": flops, "loss": loss, "kind": ["dense"] * 4 + ["memory"] * 4})
        >>> found = gains(runs, of="memory", over="dense", family="kind")
        >>> round(found.multiplier.value, 2), [round(end, 2) for end in found.multiplier.interval]
        (3.06, [2.62, 3.57])
        >>> list(found.to_frame().columns)
        ['quantity', 'at', 'value', 'lower', 'upper', 'note']
    """
    if isinstance(table, Observations):
        raise TableError("gains reads the column of the family: give the table itself and its options")
    if axis not in AXES:
        raise FitError(f"there is no axis {axis!r} of a gain; there are: {', '.join(AXES)}")
    frame = as_frame(table, text=text_columns(family, options.get("cluster"), where=options.get("where")))
    observed = observe(frame, reads={axis, *_others(frame, options)}, family=family, **options)
    seed_column = options.get("seed_column", SEED_COLUMN)
    return gains_of(observed, frame, of=of, over=over, family=family, axis=axis, at=at, seed_column=seed_column)


def gains_of(
    observed: Observations,
    frame: pd.DataFrame,
    *,
    of: str,
    over: str,
    family: str,
    axis: str = "C",
    at: float | Sequence[float] = (),
    seed_column: str | None = SEED_COLUMN,
) -> Gains:
    """As `gains`, from a table that is read already: `frame` holds the rows of `observed` by their index."""
    if axis not in observed.columns:
        words = {"C": "training FLOPs (flops=COLUMN, --flops COL)", "N": "parameters (params=COLUMN, --params COL)"}
        raise FitError(f"a gain along {axis} needs the column of {words[axis]}")
    if family not in frame.columns:
        listed = ", ".join(f"'{name}'" for name in list(frame.columns)[:30])
        raise TableError(f"the table has no column '{family}' that names the family. It has: {listed}")
    label_N = _labels(observed, frame, family)
    of, over = str(of), str(over)
    if of == over:
        raise FitError(f"of and over name one family, '{of}'; give two, such as --of memory --over dense")
    for name in (of, over):
        if name not in label_N:
            there = ", ".join(dict.fromkeys(label_N))
            raise FitError(f"no row of family '{name}' is left in column '{family}'; the families there are: {there}")
    for option, given in (("weight", observed.weight), ("stderr", observed.stderr), ("train", observed.held_out)):
        if given is not None:
            raise FitError(
                f"a gain does not use {option}: every run counts alike, and its noise comes from the replicates. Leave"
                " the option out"
            )
    clustered = observed.checkpoints and observed.cluster is not None
    runs = runs_along(
        AXES[axis],
        series=label_N.tolist(),
        x=observed.columns[axis],
        loss=observed.loss,
        unit=_units(observed, frame, seed_column),
        size=_size(observed, axis, clustered),
        row=observed.row,
    )
    found = gain_between(runs, of, over, AXES[axis], at=_places(at), clustered=clustered)
    return Gains(
        **{**vars(found), "warnings": (*observed.warnings, *found.warnings)},
        source=observed.source,
        sha256=observed.sha256,
        exclusions=observed.exclusions,
    )


def _labels(observed: Observations, frame: pd.DataFrame, family: str) -> npt.NDArray[np.generic]:
    """The family of each row in use. Raises TableError for a row without a family."""
    column = frame.loc[observed.row, family]
    empty = column.isna() | (column.astype(str).str.strip() == "")
    if empty.any():
        at = int(np.flatnonzero(frame.index == column.index[empty.to_numpy()][0])[0])
        raise TableError(
            f"{source(frame)}, {place(frame, at)}, column '{family}': it names no family. Mend the table, or leave such"
            " rows out (--where)"
        )
    return np.asarray(text(column))


def _places(at: float | Sequence[float]) -> list[float]:
    """`at` as a list. Raises FitError for values that are not numbers above zero."""
    try:
        places = [float(one) for one in np.atleast_1d(np.asarray(at))]
    except (TypeError, ValueError):
        places = [math.nan]
    if not all(math.isfinite(one) and one > 0 for one in places):
        raise FitError(f"at = {at!r}: give numbers above 0, such as 1e21 or [1e21, 1e22]")
    return places


def _others(frame: pd.DataFrame, options: TableOptions) -> set[str]:
    """The other letters that the table has, which distinguish models at the same level."""
    named = {"N": options.get("params"), "D": options.get("tokens"), "C": options.get("flops")}
    return {letter for letter, column in named.items() if column is not None or letter in frame.columns}


def _units(observed: Observations, frame: pd.DataFrame, seed_column: str | None) -> npt.NDArray[np.generic] | None:
    """Label of the noise that rows share: the run of a checkpoint, else the seed; None if the table has neither."""
    if observed.cluster is not None:
        return observed.cluster
    if seed_column not in frame.columns:
        return None
    return text(frame.loc[observed.row, seed_column])


def _size(observed: Observations, axis: str, clustered: bool) -> npt.NDArray[np.float64] | None:
    """What distinguishes models at the same level: parameters at equal FLOPs, tokens at equal parameters."""
    other = observed.columns.get("N" if axis == "C" else "D")
    if other is None or clustered:
        return None
    return other
