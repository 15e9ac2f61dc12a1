"""A sweep's results as observations: the runs that are compared, with every count as the results table names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.errors import TableError
from analysis.tables.columns import ColumnMap
from analysis.tables.filters import INDEPENDENT, Filters
from analysis.tables.observations import SETTING, Exclusion, Observations
from analysis.tables.replicates import numbered
from analysis.tables.results import Results
from analysis.tables.selection import observe
from analysis.tables.suggestion import suggestion


def observe_results(
    results: Results,
    *,
    params: str = "params_active",
    tokens: str = "tokens",
    flops: str = "flops_train",
    loss: str = "loss_nats",
    factors: Mapping[str, str] | None = None,
    series: str | None = None,
) -> Observations:
    """The compared runs of a sweep (of one series, or of all) as observations.

    Which parameters N counts is the caller's choice, since it decides the exponents. Runs of different series are never
    replicates, even where they agree in every number. Raises TableError for a series or a column that is not there,
    and for a run without a value in a column.
    """
    labels = results.compare.labels
    if series is not None and series not in labels:
        raise TableError(f"{results.path} has no done run of the series '{series}'.{suggestion(series, labels)}")
    columns = ColumnMap(loss=loss, params=params, tokens=tokens, flops=flops, factors=factors or {})
    label = results.compare.frame["series"]
    others = {} if series is None else dict(label[label != series])
    frame = results.frame.drop(index=list(others))
    found = observe(frame, columns, Filters(checkpoints=INDEPENDENT))
    code = pd.factorize(results.frame["series"].loc[found.frame.index])[0].astype(np.int64)
    exclusions = [Exclusion(row=int(row), rule=f"series {series}", reason=f"of the series '{other}'")
                  for row, other in others.items()]  # fmt: skip
    return replace(
        found,
        num_rows=results.num_rows,
        frame=found.frame.assign(**{SETTING: numbered([found.setting, code], len(found))}),
        exclusions=tuple(sorted([*found.exclusions, *exclusions], key=lambda one: one.row)),
    )
