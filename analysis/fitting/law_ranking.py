"""Laws ranked by what they predict of runs that were held out by stated splits, with intervals by groups of runs.

Decides that laws are ranked by the root mean square error over the kinds of split that extrapolate (each kind counts
alike, and each limit of a kind alike); what they predict inside the range is shown beside it and does not rank. A law
that cannot be fitted, or not to every part, stands at the end with its reason.

Intervals. Held-out runs that share noise (one seed at one budget) err together, so the groups are what is resampled
(10,000 draws of as many groups); the laws as fitted are given. All laws are read on the same draws: the ratio of a
law's error to the first one's is paired, and where its interval holds 1 the two are not distinguished. With fewer than
`MIN_GROUPS` groups there is no interval. Coefficients have intervals of a wild cluster bootstrap over the same groups.

Shapes: B draws, N runs, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis.errors import FitError
from analysis.fitting.cross_validation import Data, HeldOut, Options, predict_left_out
from analysis.fitting.fit_law import fit_law
from analysis.fitting.splits import Split
from analysis.inference.result import Fit
from analysis.inference.wild_bootstrap import wild_bootstrap
from analysis.interval import ConfidenceInterval
from analysis.laws.law import Law

FloatArray = npt.NDArray[np.float64]

NUM_DRAWS = 10_000
NUM_REFITS = 400
"""For the intervals of coefficients."""
MIN_GROUPS = 5
"""Of held-out runs; fewer give draws that are nearly alike, and no interval."""


@dataclass(frozen=True, kw_only=True)
class KindError:
    """How far a law's predictions lie from the runs held out by one kind of split."""

    kind: str
    parts: tuple[HeldOut, ...]
    rms: float
    """Root mean square error; not a number where a part could not be fitted."""
    ci95: ConfidenceInterval | None
    """None with fewer than `MIN_GROUPS` groups."""


@dataclass(frozen=True, kw_only=True)
class RankedLaw:
    """One law on one table."""

    law: Law
    fit: Fit | None
    """To all runs, with intervals by groups."""
    errors: Mapping[str, KindError]
    """By the kind of split."""
    score: float
    """What ranks: root mean square over the extrapolating kinds; not a number where one has no error."""
    over_first: float
    """Score over the first law's."""
    over_first_ci95: ConfidenceInterval | None
    """Paired; None for the first law itself, and where there are too few groups."""
    reason: str = ""
    """Why it has no place; '' where it has one."""

    @property
    def fit_rms(self) -> float:
        """Root mean square error on the runs that it was fitted to."""
        return math.nan if self.fit is None else float(np.sqrt(np.mean(self.fit.residuals**2)))

    @property
    def weak(self) -> tuple[str, ...]:
        """Coefficients that the table does not determine."""
        return () if self.fit is None else tuple(one.name for one in self.fit.coefficients if not one.identified)


def rank_by_splits(
    laws: Sequence[Law],
    columns_of: Mapping[str, Mapping[str, FloatArray]],
    data: Data,
    splits: Sequence[Split],
    groups: npt.NDArray[np.integer],
    *,
    extrapolating: Sequence[str],
    options: Options,
    groups_name: str = "groups",
    seed: int = 0,
) -> tuple[RankedLaw, ...]:
    """The laws, the best first.

    Args:
        laws: What is compared.
        columns_of: Each law's columns by its name.
        data: The runs; its `clusters` are not used here, for held-out runs share groups with fitted ones by design.
        splits: Which runs are held out.
        groups: Runs with one number share noise [N].
        extrapolating: The kinds of split that rank.
        options: How every fit is made, and the scale of the errors.
        groups_name: What the groups are, for people.
        seed: Of the draws and of the coefficients' intervals.

    Raises:
        FitError: No law can be fitted to the runs, with every reason.
    """
    data = replace(data, clusters=None)
    kinds = tuple(dict.fromkeys([*extrapolating, *(split.kind for split in splits)]))
    found = [
        _fitted(law, replace(data, columns=columns_of[law.name]), splits, kinds, groups, options, groups_name, seed)
        for law in laws
    ]
    if all(one.fit is None for one in found):
        raise FitError("no law could be fitted: " + "; ".join(f"{one.law.name}: {one.reason}" for one in found))
    group_N = np.unique(groups, return_inverse=True)[1].reshape(-1)
    draws_BG = _draws(int(group_N.max()) + 1, seed)
    squares = [_squares(one, splits, group_N, draws_BG) for one in found]
    scored = []
    for one, (point, drawn) in zip(found, squares, strict=True):
        errors = {
            kind: replace(error, rms=math.sqrt(point[kind]), ci95=_percentiles(np.sqrt(drawn[kind])))
            for kind, error in one.errors.items()
        }
        score = math.sqrt(float(np.mean([point[kind] for kind in extrapolating])))
        reason = one.reason or ("" if math.isfinite(score) else _missing(errors, extrapolating))
        scored.append(replace(one, errors=errors, score=score, reason=reason))
    order = sorted(range(len(scored)), key=lambda at: (not math.isfinite(scored[at].score), scored[at].score))
    first = order[0]
    drawn_scores = [np.mean([drawn[kind] for kind in extrapolating], axis=0) for _, drawn in squares]
    return tuple(
        replace(
            scored[at],
            over_first=scored[at].score / scored[first].score,
            over_first_ci95=None if at == first else _percentiles(np.sqrt(drawn_scores[at] / drawn_scores[first])),
        )
        for at in order
    )


def _fitted(
    law: Law,
    data: Data,
    splits: Sequence[Split],
    kinds: Sequence[str],
    groups: npt.NDArray[np.integer],
    options: Options,
    groups_name: str,
    seed: int,
) -> RankedLaw:
    """The law fitted to all runs and to each part; errors are filled in by the caller."""
    empty = {kind: KindError(kind=kind, parts=(), rms=math.nan, ci95=None) for kind in kinds}
    unfitted = RankedLaw(law=law, fit=None, errors=empty, score=math.nan, over_first=math.nan, over_first_ci95=None)
    try:
        whole = fit_law(
            law, data.columns, data.loss, objective=options.objective, delta=options.delta, clusters=groups,
            cluster=groups_name, weights=data.weights, stderr=data.stderr,
        )  # fmt: skip
        whole = whole.with_replicates(wild_bootstrap(whole, groups, name=groups_name, num=NUM_REFITS, seed=seed))
    except FitError as error:
        return replace(unfitted, reason=str(error))
    parts = [
        (one.kind, predict_left_out(law, data, one.rows, one.label, one.limit, options, whole=whole)) for one in splits
    ]
    errors = {kind: replace(empty[kind], parts=tuple(part for its, part in parts if its == kind)) for kind in kinds}
    return replace(unfitted, fit=whole, errors=errors)


def _squares(
    one: RankedLaw, splits: Sequence[Split], group_N: npt.NDArray[np.intp], draws_BG: FloatArray
) -> tuple[dict[str, float], dict[str, FloatArray]]:
    """Mean squared error of each kind, as it is and on every draw [B] of the groups."""
    num_groups = draws_BG.shape[1]
    point, drawn = {}, {}
    for kind, error in one.errors.items():
        point[kind], drawn[kind] = math.nan, np.full(len(draws_BG), np.nan)
        if not error.parts or any(not len(part.error) for part in error.parts):
            continue
        held = np.unique(np.concatenate([group_N[split.rows] for split in splits if split.kind == kind]))
        sums_B, squares = np.zeros(len(draws_BG)), list[float]()
        for part in error.parts:
            square_G = np.asarray(
                np.bincount(group_N[part.rows], part.error**2, minlength=num_groups), dtype=np.float64
            )
            count_G = np.bincount(group_N[part.rows], minlength=num_groups).astype(np.float64)
            squares.append(float(square_G.sum() / count_G.sum()))
            with np.errstate(invalid="ignore"):
                sums_B += (draws_BG @ square_G) / (draws_BG @ count_G)
        point[kind] = float(np.mean(squares))
        if len(held) >= MIN_GROUPS:
            drawn[kind] = sums_B / len(error.parts)
    return point, drawn


def _draws(num_groups: int, seed: int) -> FloatArray:
    """How often each group is drawn [B, G]."""
    random = np.random.default_rng(seed)
    counts = random.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=NUM_DRAWS)
    return np.asarray(counts, dtype=np.float64)


def _percentiles(values_B: FloatArray) -> ConfidenceInterval | None:
    known_B = values_B[np.isfinite(values_B)]
    if len(known_B) < 0.9 * len(values_B):
        return None
    lower, upper = np.quantile(known_B, [0.025, 0.975])
    return ConfidenceInterval(lower=float(lower), upper=float(upper))


def _missing(errors: Mapping[str, KindError], extrapolating: Sequence[str]) -> str:
    """Why a law has no score."""
    for kind in extrapolating:
        parts = errors[kind].parts
        if not parts:
            return f"{kind}: the table has too few sizes to hold any out"
        for part in parts:
            if part.reason:
                return f"{kind}, {part.label}: {part.reason}"
    return "its predictions are no finite numbers"
