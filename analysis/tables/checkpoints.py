"""Checkpoints of one run, which look like independent runs: their losses share the run's noise.

How they are recognised, the first rule that applies:

1. A column that names the run (`run_id`, `run_name`, `hyper_id`, ...; `name` where there is a column of steps too).
   If each of its values has one N and one value of every factor, and some value has rows of different progress, rows
   of one value are checkpoints of one run. If no value repeats, every row is a run of its own.
2. A column of steps (`step`, `iteration`, `checkpoint`, ...; not `steps` or `num_steps`, which final runs have), with
   evenly spaced steps among rows that agree in N, factors and seed: at least 4 of them.
3. Without such columns: rows that agree in N, factors and seed differ in tokens (or FLOPs) alone, at least 6 of them,
   evenly spaced: logs are written every so many steps, while designs space tokens by factors. At least 60 % of the
   steps between neighbours equal their median, in groups that hold at least half of the rows.

Rows that agree in N, at least 5 to a group, whose tokens are spaced by factors, can be either. Designs give
themselves away by a few numbers of FLOPs or of tokens per parameter that the sizes share (isoFLOP grids, over-training
grids); for the rest the rule decides nothing and warns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import formatting
from analysis.errors import TableError
from analysis.tables.cells import parsed, text
from analysis.tables.columns import RATE
from analysis.tables.filters import AUTO, FINAL, Filters
from analysis.tables.observations import (
    CLUSTER,
    FLOPS,
    LOSS,
    PARAMS,
    STDERR,
    TOKENS,
    WEIGHT,
    Exclusion,
    Observations,
)  # fmt: skip
from analysis.tables.replicates import numbered

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

RUN_NAMES = frozenset({"run", "runid", "runname", "runuuid", "hyperid", "wandbid", "trialid", "jobid"})
STEP_NAMES = frozenset({"step", "globalstep", "trainstep", "trainingstep", "iteration", "iter", "checkpoint", "ckpt"})
LEAST_STEPS, LEAST_EVEN, LEAST_UNCLEAR = 4, 6, 5
"""Rows of a group for rules 2 and 3, and for a group that can be either."""
EVEN = 0.6
"""Share of the differences between neighbours that equal their median, for even spacing."""
SAME = 0.02
"""Differences are equal where they differ by less, relative."""
PROGRESS = (TOKENS, FLOPS)


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Which rows are of one run."""

    run: IntArray
    """Number of each row's run."""
    progress: FloatArray
    """Steps, tokens or FLOPs: the largest is the run's last row."""
    why: str
    sure: bool
    """Whether this is certain from the table; False: the rows may also be separate runs."""

    @property
    def num_runs(self) -> int:
        """Number of different runs."""
        return len(np.unique(self.run))

    @property
    def final(self) -> BoolArray:
        """Rows with the largest progress of their run."""
        last = pd.Series(self.progress).groupby(self.run).transform("max").to_numpy(dtype=np.float64)
        return np.asarray(self.progress == last)


def by_run(
    observations: Observations, found: Checkpoints | None, filters: Filters, cluster: str | None
) -> Observations:
    """The observations with checkpoints resampled by run, or left out but for each run's last, and a warning.

    `cluster` is the column that --cluster names. Raises TableError where runs are requested and none are found.
    """
    if cluster is not None and (found is None or not found.sure) and filters.checkpoints != AUTO:
        found = _clusters(observations, cluster)
    if found is None:
        if filters.checkpoints == AUTO:
            return observations
        raise TableError(
            f"{observations.source}: --checkpoints {filters.checkpoints}, but nothing says which rows are checkpoints"
            " of one run: give --cluster COL, a column with one value a run"
        )
    if filters.checkpoints == FINAL:
        rows = observations.row[~found.final]
        reason = "a later checkpoint of its run is in the table"
        return observations.without([Exclusion(row=int(one), rule="checkpoints final", reason=reason) for one in rows])
    if not found.sure and filters.checkpoints == AUTO:
        return observations if cluster is not None else _warned(observations, _unclear(observations, found))
    frame = observations.frame if cluster is not None else observations.frame.assign(**{CLUSTER: found.run})
    message = (
        f"{len(observations)} rows are checkpoints of {formatting.counted(found.num_runs, 'run')}"
        f" ({found.why}): they are resampled by"
        f" {'run' if cluster is None else repr(cluster)}, since a run's checkpoints share its noise; and a loss before"
        " the end of its schedule is higher than that of a run of so many tokens (--checkpoints final: only each run's"
        " last row; --checkpoints independent: each row is a run of its own)"
    )
    return _warned(replace(observations, frame=frame, checkpoints=True), message)


def _unclear(observations: Observations, found: Checkpoints) -> str:
    return (
        f"{len(observations)} rows are of {formatting.counted(found.num_runs, 'group')}:"
        f" {found.why}. If a group is one run's checkpoints,"
        " intervals that take rows as independent are too narrow (--checkpoints cluster: intervals by group;"
        " --checkpoints independent: each row is a run of its own)"
    )


def _warned(observations: Observations, message: str) -> Observations:
    return replace(observations, warnings=(*observations.warnings, message))


def _clusters(observations: Observations, cluster: str) -> Checkpoints:
    progress = next((observations.columns[one] for one in PROGRESS if one in observations.columns), observations.row)
    assert observations.cluster is not None
    return Checkpoints(
        run=observations.cluster, progress=progress.astype(np.float64), why=f"--cluster {cluster}", sure=True
    )


def find_checkpoints(
    here: pd.DataFrame, numbers: Mapping[str, FloatArray], seed: IntArray | None
) -> Checkpoints | None:
    """Apply the rules of this module to the rows that are left; None where every row is a run of its own."""
    steps = next((column for column in here.columns if _folded(column) in STEP_NAMES), None)
    step = _steps(here, steps) if steps is not None else None
    progress = step if step is not None else next((numbers[one] for one in PROGRESS if one in numbers), None)
    if progress is None or len(here) < 2:
        return None
    fixed = [v for name, v in numbers.items() if name not in (*PROGRESS, LOSS, WEIGHT, STDERR)]
    names = [one for one in here.columns if _folded(one) in RUN_NAMES or (_folded(one) == "name" and step is not None)]
    for column in names:
        run = pd.factorize(text(here[column]))[0].astype(np.int64)
        if len(np.unique(run)) == len(run):
            return None
        sizes = [v for name, v in numbers.items() if name not in (*PROGRESS, LOSS, WEIGHT, STDERR, RATE)]
        if all(_constant(values, run) for values in sizes) and not _constant(progress, run):
            return Checkpoints(run=run, progress=progress, why=f"the column '{column}' repeats", sure=True)
    run = numbered([*fixed, *([seed] if seed is not None else [])], len(here))
    if step is not None and _even_share(step, run, LEAST_STEPS) >= 0.5:
        return Checkpoints(run=run, progress=step, why=f"the column '{steps}' rises evenly", sure=True)
    return _by_tokens(numbers, run)


def _by_tokens(numbers: Mapping[str, FloatArray], run: IntArray) -> Checkpoints | None:
    """Rule 3, and groups that can be either."""
    letter = next((one for one in PROGRESS if one in numbers), None)
    if letter is None:
        return None
    progress, word = numbers[letter], {TOKENS: "tokens", FLOPS: "FLOPs"}[letter]
    if _even_share(progress, run, LEAST_EVEN) >= 0.5:
        why = f"rows that agree in all else differ in evenly spaced {word} alone"
        return Checkpoints(run=run, progress=progress, why=why, sure=True)
    sizes = pd.Series(progress).groupby(run).transform("nunique").to_numpy()
    if letter != TOKENS or PARAMS not in numbers or (sizes >= LEAST_UNCLEAR).mean() < 0.5:
        return None
    N, D = numbers[PARAMS], numbers[TOKENS]
    flops = numbers.get(FLOPS, 6 * N * D)
    num_sizes = len(np.unique(N))
    if num_sizes < 2 or _shared(flops, N) or _shared(D / N, N):
        return None
    why = "rows that agree in all else differ in tokens alone"
    return Checkpoints(run=run, progress=progress, why=why, sure=False)


def _shared(values: FloatArray, sizes: FloatArray) -> bool:
    """Whether most rows have a value (to two digits) that rows of another size have too."""
    rounded = pd.Series([f"{value:.1e}" for value in values])
    return bool((pd.Series(sizes).groupby(rounded).transform("nunique") > 1).mean() >= 0.5)


def _even_share(progress: FloatArray, run: IntArray, least: int) -> float:
    """Share of the rows that are in groups of at least `least` different, evenly spaced values."""
    table = pd.DataFrame({"run": run, "progress": progress})
    large = table[table.groupby("run")["progress"].transform("size") >= least]
    even = 0
    for _, group in large.groupby("run")["progress"]:
        gaps = np.diff(np.unique(group.to_numpy(dtype=np.float64)))
        if len(gaps) >= least - 1 and (np.abs(gaps / np.median(gaps) - 1) < SAME).mean() >= EVEN:
            even += len(group)
    return even / len(progress)


def _constant(values: FloatArray, run: IntArray) -> bool:
    return bool((pd.Series(values).groupby(run).nunique() <= 1).all())


def _steps(here: pd.DataFrame, column: str) -> FloatArray | None:
    values, is_text = parsed(here, column)
    return None if is_text.any() or not np.isfinite(values).all() else values


def _folded(column: object) -> str:
    return re.sub(r"[^a-z]", "", str(column).lower())
