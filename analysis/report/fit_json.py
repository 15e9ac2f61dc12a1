"""A fit as plain JSON values for machines, and as a few lines for people.

Decides that machines get every digit and people as many as the interval supports; that infinite ends of intervals are
null in JSON; and that every row left out stands in the card with the rule that left it out.
"""

from __future__ import annotations

import math
from typing import Any

from analysis import formatting
from analysis.allocation.parametric import Split
from analysis.inference.coefficients import Coefficient
from analysis.inference.result import Fit
from analysis.tables import Observations

FORMAT = 1


def as_json(fit: Fit, points: Observations | None = None, splits: tuple[Split, ...] = ()) -> dict[str, Any]:
    """The fit card; `points` add where the numbers came from and what was left out."""
    return {
        "format": FORMAT,
        "law": fit.law.name,
        "formula": fit.law.formula,
        "law_source": fit.law.source,
        **({} if points is None else _table(points)),
        "coefficients": {one.name: _coefficient(one) for one in fit.coefficients},
        "fixed": list(fit.fixed),
        "objective": {"name": fit.objective.name, "delta": fit.objective.delta, "value": fit.value},
        "scale": None if fit.log_scale is None else math.exp(fit.log_scale),
        "starts": {"num": fit.starts.num, "share_at_best": fit.starts.share_at_best},
        "local_optima": [
            {"coefficients": optimum.values, "objective": optimum.objective, "share": optimum.share}
            for optimum in fit.local_optima
        ],
        "bootstrap": None if fit.replicates is None else _bootstrap(fit),
        "n": fit.num_points,
        "exclusions": [] if points is None else _exclusions(points),
        "allocation": None if not splits else _allocation(fit, splits),
        "warnings": [
            *({"code": "table", "text": text} for text in (() if points is None else points.warnings)),
            *({"code": warning.code, "text": warning.text} for warning in fit.warnings),
        ],
        "seconds": fit.seconds,
    }


def _table(points: Observations) -> dict[str, Any]:
    return {
        "table": points.source,
        "sha256": points.sha256,
        "rows": points.num_rows,
        "columns": dict(points.column_names),
        "settings": points.num_settings,
        "replicated_settings": points.num_replicated,
    }


def _coefficient(one: Coefficient) -> dict[str, Any]:
    return {
        "value": one.value,
        "se": _finite(one.se),
        "ci80": [_finite(end) for end in one.ci80],
        "ci95": [_finite(end) for end in one.ci95],
        "at_bound": one.at_bound,
        "identified": one.identified,
    }


def _bootstrap(fit: Fit) -> dict[str, Any]:
    assert fit.replicates is not None
    return {
        "num": len(fit.replicates.theta),
        "cluster": fit.replicates.cluster,
        "seed": fit.replicates.seed,
        "share_converged": fit.replicates.share_converged,
    }


def _exclusions(points: Observations) -> list[dict[str, Any]]:
    return [{"row": one.row, "rule": one.rule, "reason": one.reason} for one in points.exclusions]


def _allocation(fit: Fit, splits: tuple[Split, ...]) -> dict[str, Any]:
    exponents = {one.name: one for one in fit.coefficients if one.name in ("a", "b") and fit.law.name == "chinchilla"}
    return {
        "convention": "C = 6 N D",
        **{name: _coefficient(one) for name, one in exponents.items()},
        "splits": [
            {
                "flops": one.flops,
                "params": one.params,
                "params_ci95": None if one.params_ci95 is None else [_finite(end) for end in one.params_ci95],
                "tokens": one.tokens,
                "tokens_ci95": None if one.tokens_ci95 is None else [_finite(end) for end in one.tokens_ci95],
                "tokens_per_param": one.tokens / one.params,
                "extrapolation": one.extrapolation,
            }
            for one in splits
        ],
    }


def as_text(fit: Fit, points: Observations | None = None, splits: tuple[Split, ...] = ()) -> str:
    """A table of coefficients with 95 % intervals, how the optimum was reached, what was left out, warnings."""
    objective = fit.objective.name + ("" if fit.objective.delta is None else f", delta {fit.objective.delta:g}")
    lines = [f"{fit.law.name}: {fit.law.formula}", f"({fit.law.source})", ""]
    lines += _coefficient_lines(fit)
    lines += [
        "",
        f"objective  {fit.value:.10g} ({objective}, summed over {fit.num_points} points)",
        f"starts     {round(fit.starts.share_at_best * fit.starts.num)} of {fit.starts.num} end at this optimum",
    ]
    if fit.replicates is not None:
        groups = f" of the groups of {fit.replicates.cluster}" if fit.replicates.cluster else ""
        lines.append(f"intervals  95 %, from {len(fit.replicates.theta):,} bootstrap refits{groups}")
    else:
        lines.append("intervals  95 %, from sandwich standard errors (--bootstrap 4000 gives those of resampling)")
    if points is not None:
        lines.append(
            f"columns    {', '.join(f'{letter} = {column}' for letter, column in points.column_names.items())}"
        )
        left_out = ", ".join(f"{number} by {rule}" for rule, number in points.excluded_by().items()) or "none"
        lines.append(f"left out   {left_out} (of {points.num_rows} rows)")
        if points.num_replicated:
            lines.append(f"replicates {points.num_replicated} of {points.num_settings} settings have several runs")
    if splits:
        lines += ["", "best split of C = 6 N D:", *(_split_line(one) for one in splits)]
    texts = [*(() if points is None else points.warnings), *(warning.text for warning in fit.warnings)]
    lines += ["", *(f"warning: {text}" for text in texts)] if texts else []
    return "\n".join([*lines, "", f"{formatting.significant(fit.seconds)} s"])


def _coefficient_lines(fit: Fit) -> list[str]:
    derived = {one.name: one.formula for one in fit.law.derived}
    meanings = {one.name: one.meaning for one in fit.law.parameters} | derived
    width = max(len(name) for name in meanings)
    lines = []
    for one in fit.coefficients:
        marks = " (fixed)" if one.name in fit.fixed else " (at its bound)" if one.at_bound else ""
        marks += "" if one.identified or one.at_bound else " (not identified)"
        ends = f"[{_number(one.ci95[0])}, {_number(one.ci95[1])}]" if one.name not in fit.fixed else ""
        lines.append(f"  {one.name:<{width}}  {_number(one.value):>9}  {ends:<24}{marks} {meanings[one.name]}".rstrip())
    return lines


def _split_line(one: Split) -> str:
    def ends(interval: tuple[float, float] | None) -> str:
        return "" if interval is None else f" [{formatting.count(interval[0])}, {formatting.count(interval[1])}]"

    beyond = f"  ({one.extrapolation:.3g} times the greatest at hand)" if one.extrapolation > 1.0 + 1e-9 else ""
    return (
        f"  {formatting.power(one.flops)} FLOPs: N {formatting.count(one.params)}{ends(one.params_ci95)}, "
        f"D {formatting.count(one.tokens)}{ends(one.tokens_ci95)}, "
        f"{formatting.significant(one.tokens / one.params)} tokens per parameter{beyond}"
    )


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "inf" if value > 0 else f"{formatting.MINUS}inf"
    return formatting.significant(value, 4)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
