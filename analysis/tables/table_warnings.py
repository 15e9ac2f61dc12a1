"""What a reader of a fit must know about its table: rows that repeat, columns that do not vary, training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import formatting
from analysis.tables.columns import FAMILY, RATE, SCHEDULE
from analysis.tables.filters import listed
from analysis.tables.observations import FLOPS, PARAMS, TOKENS, IntArray, Observations
from analysis.tables.replicates import Repeats, numbered
from analysis.tables.training_checks import rates_at_the_edge, unfinished_schedules

WORDS = {PARAMS: "parameters", TOKENS: "tokens", FLOPS: "FLOPs"}


def repeat_warnings(rows: IntArray, repeats: Repeats) -> list[str]:
    """Warnings of rows that repeat others."""
    warnings = []
    twice = [int(row) for row in rows[repeats.duplicated]]
    if twice:
        first = int(rows[repeats.duplicate_of[np.flatnonzero(repeats.duplicated)[0]]])
        warnings.append(
            f"{listed(twice)} {formatting.verb(len(twice), 'agrees', 'agree')} with an earlier row"
            " in every column that is used, the loss among them (row"
            f" {twice[0]} with row {first}): one run counted twice makes intervals too narrow"
            " (--drop-duplicates)"
        )
    seeds = [int(row) for row in rows[repeats.same_seed >= 0]]
    if seeds:
        warnings.append(
            f"{listed(seeds)} {formatting.verb(len(seeds), 'has', 'have')} the columns and the seed"
            " of an earlier row, but another loss"
        )
    return warnings


def training_warnings(observations: Observations, trained: pd.DataFrame) -> list[str]:
    """Warnings of how the runs were trained, as far as the table has columns for it.

    `trained` holds each row's family, and its rate and the end of its schedule where the table has them.
    """
    warnings = []
    if RATE in trained:
        setting = numbered([*observations.columns.values(), trained[FAMILY].to_numpy()], len(observations))
        rate = trained[RATE].to_numpy(dtype=np.float64)
        warnings += rates_at_the_edge(rate, observations.loss, setting, observations.row)
    if SCHEDULE in trained:
        end = trained[SCHEDULE].to_numpy(dtype=np.float64)
        warnings += unfinished_schedules(observations.columns[TOKENS], end, observations.row)
    return warnings


def flat_warnings(observations: Observations) -> list[str]:
    """Warnings of columns that do not vary: a law cannot describe how the loss changes with them."""
    if len(observations) < 2:
        return []
    warnings = [
        f"every point has the same {WORDS.get(letter, letter)} ({letter} = {values[0]:.3g}): how the loss changes with"
        f" {letter} cannot be told"
        for letter, values in observations.columns.items()
        if np.ptp(values) == 0
    ]
    if np.ptp(observations.loss) == 0:
        warnings.append(f"every point has the same loss ({observations.loss[0]:.3g})")
    return warnings
