"""The page that `memscale plan` prints: what is trained, what was left out, how well it is matched, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from memscale.api import SweepPlan
from memscale.cli.console import console
from memscale.cli.matches import matched_lines
from memscale.config.architecture import Architecture
from memscale.launch.estimates import Estimate, numbers_behind, unit_hours
from memscale.launch.formatting import duration, percent, quantity, size
from memscale.launch.resolution import affordable, resolution_lines
from memscale.launch.tuning_cost import tuning_lines
from memscale.planning.device_memory import DeviceFit
from memscale.planning.forecast import checkpoint_bytes
from memscale.planning.knowledge import OfferedFacts, offered_facts
from memscale.planning.matrices import single_moments
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.tuning import COMPARE, is_tuning, round_of_stage, stage_of_round

MOST_ROWS = 40
MOST_LINES = 10


def print_plan(planned: SweepPlan, *, all_rows: bool = False) -> None:
    """Print a plan and its cost; `all_rows` prints every row of the table, however many there are."""
    out, plan, cost = console(), planned.plan, planned.estimate
    out.print("\n".join(_opening(plan, planned.planned.notes)), markup=False, soft_wrap=True)
    rows = _rows(plan)
    shown = rows if all_rows else rows[:MOST_ROWS]
    out.print(_table(plan, shown, cost))
    if len(shown) < len(rows):
        out.print(f"... and {len(rows) - len(shown)} rows more: --all prints them, --json has every run", markup=False)
    closing = [*_closing(plan, cost), *_resolution(planned)]
    out.print("\n".join(closing), markup=False, soft_wrap=True)


def _opening(plan: Plan, notes: Sequence[str]) -> Iterator[str]:
    sweep = plan.sweep
    compared, tuning = plan.stage(COMPARE), sum(is_tuning(run.stage) for run in plan.runs)
    series, budgets, seeds = (len({key(run) for run in compared}) for key in (_series, _budget, _seed))
    parts = f"{series} series x {budgets} budgets x {seeds} seeds"
    if series * budgets * seeds != len(compared):
        parts = f"{len(compared)} cells of {series} series, {budgets} budgets and {seeds} seeds"
    yield f"{sweep.name}   {sweep.question}"
    yield f"plan {plan.plan_hash}   {len(plan.runs)} runs = {parts}" + (f" + {tuning} to tune rates" if tuning else "")
    yield from (f"  {note}" for note in notes)


def _series(run: PlannedRun) -> str:
    return run.series


def _budget(run: PlannedRun) -> str:
    return run.budget


def _seed(run: PlannedRun) -> int:
    return run.seed


def _rows(plan: Plan) -> list[list[PlannedRun]]:
    """The runs of each stage, budget and series, in the plan's order."""
    rows: dict[tuple[str, str, str], list[PlannedRun]] = {}
    for run in plan.runs:
        rows.setdefault((run.stage, run.budget, run.series), []).append(run)
    return list(rows.values())


def _table(plan: Plan, rows: Sequence[list[PlannedRun]], cost: Estimate) -> Table:
    matching = plan.sweep.matching
    params_held = "total_params" in (*matching.equal, matching.sparse_equal)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("budget", "series", "runs", "layers"):
        table.add_column(name, justify="left" if name == "series" else "right")
    for name in ("params total / active", "tokens", "FLOPs mismatch", *_if(params_held, "params mismatch")):
        table.add_column(name, justify="right")
    for name in ("lr (table)", "time", "disk"):
        table.add_column(name, justify="right")
    optimizer = plan.sweep.recipe.matrix_optimizer
    for runs in rows:
        first = runs[0]
        saved = checkpoint_bytes(first.counts.params_total, single_moments(first.architecture, optimizer))
        table.add_row(
            first.budget,
            f"{first.series} ({first.stage})" if is_tuning(first.stage) else first.series,
            str(len(runs)),
            _layers(first.architecture),
            f"{quantity(first.counts.params_total)} / {quantity(first.counts.params_active)}",
            quantity(first.tokens),
            percent(first.flops_mismatch),
            *_if(params_held, percent(first.params_mismatch)),
            _rates(runs),
            duration(sum(cost.seconds[run.name] for run in runs)),
            size(len(runs) * saved),
        )
    return table


def _layers(architecture: Architecture) -> str:
    """The layers that a token passes through; those with weights of their own where they are fewer."""
    a = architecture
    return str(a.depth) if a.depth == a.num_layers else f"{a.depth} ({a.num_layers})"


def _if(shown: bool, text: str) -> tuple[str, ...]:
    return (text,) if shown else ()


def _rates(runs: list[PlannedRun]) -> str:
    rates = [run.run.optimizer for run in runs if run.run is not None]
    if not rates:
        stage = runs[0].stage
        return "from tuning" if stage == COMPARE else f"the best of {stage_of_round(round_of_stage(stage) - 1)}"
    low, high = min(one.learning_rate for one in rates), max(one.learning_rate for one in rates)
    text = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    tables = [one.table_learning_rate for one in rates if one.table_learning_rate is not None]
    if not tables:
        return text
    least, most = min(tables), max(tables)
    return f"{text} ({least:.3g})" if least == most else f"{text} ({least:.3g} to {most:.3g})"


def _facts(plan: Plan) -> Iterator[str]:
    """What each budget is offered of each source of countable facts; a line for budgets that are offered the same."""
    same: dict[tuple[str, int], list[tuple[str, OfferedFacts]]] = {}
    for one in plan.baselines:
        for facts in offered_facts(one.data, one.params_non_embedding, one.tokens):
            same.setdefault((facts.source, facts.num_facts), []).append((one.name, facts))
    for (source, num_facts), offered in same.items():
        at = offered[0][0] if len(offered) == 1 else f"{len(offered)} budgets"
        density = _range([facts.bits_per_parameter for _, facts in offered])
        text = (
            f"{at}: {quantity(num_facts)} facts of {source}, {quantity(offered[0][1].bits)} bits, {density} for each "
        )
        text += "non-embedding parameter of the dense model"
        read = [facts.exposures for _, facts in offered if facts.exposures is not None]
        yield f"{text}, each fact read {_range(read)} times" if read else text


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _closing(plan: Plan, cost: Estimate) -> Iterator[str]:
    yield from _capped("facts     ", list(_facts(plan)))
    yield from matched_lines(plan)
    yield from _dropped(plan)
    yield from _capped("note      ", plan.notes)
    for choice in plan.choices:
        edge = "  at the edge of its grid: a better rate may lie outside" if choice.at_edge else ""
        table = f", table {choice.rates.table_learning_rate:g}" if choice.rates.table_learning_rate else ""
        yield f"chosen    {choice.family_name}: lr {choice.rates.learning_rate:g}{table}{edge}"
    left = cost.forecast
    yield (
        f"forecast  {duration(left.seconds)} on {left.workers} workers ({cost.basis}), {left.gpu_hours:.3g} "
        f"{unit_hours(cost)}, {size(left.disk_bytes)} disk"
    )
    yield from tuning_lines(plan, cost.seconds, unit_hours(cost))
    yield from _memory(cost)
    yield from _limits(plan, cost)
    yield f"already   {len(cost.done)} done, {left.runs_left} to run"


def _resolution(planned: SweepPlan) -> Iterator[str]:
    for number, line in enumerate(resolution_lines(planned.resolution)):
        yield f"resolves  {line}" if number == 0 else f"        {line}"
    compared = planned.plan.stage("compare")
    cost, seeds = planned.estimate, {run.seed for run in compared}
    a_seed = sum(cost.seconds[run.name] for run in compared) / len(seeds)
    yield f"          a seed more takes {duration(a_seed)} of one worker"
    affords = affordable(planned.plan, cost, planned.planned.paths)
    if affords:
        yield f"          {affords}"


def _dropped(plan: Plan) -> Iterator[str]:
    if not plan.dropped:
        yield "dropped   nothing"
        return
    yield f"dropped   {len(plan.dropped)} cells"
    yield from _capped("  ", [f"{one.name}: {one.reason}" for one in plan.dropped])


def _capped(lead: str, lines: Sequence[str]) -> Iterator[str]:
    yield from (f"{lead}{line}" for line in lines[:MOST_LINES])
    if len(lines) > MOST_LINES:
        yield f"{lead}... and {len(lines) - MOST_LINES} more: --json"


def _memory(cost: Estimate) -> Iterator[str]:
    (series, budget), worst = cost.worst
    kind = "GPU" if cost.device == "cuda" else "worker"
    text = f"memory    at most {size(worst.peak_bytes)} a {kind} ({series} at {budget}, "
    text += f"{_sequences(worst.micro_batch_sequences)})"
    if cost.device_bytes is None:
        yield f"{text}; what a {kind} has is not known here: name it with launcher.device_memory=80G"
        return
    beyond = [
        f"{series} at {budget} needs {size(one.peak_bytes)} with {_sequences(1)}: {_way_out(one)}"
        for (series, budget), one in cost.fits.items()
        if not one.fits
    ]
    yield f"{text} of {size(cost.device_bytes)}" + (f"; {len(beyond)} models do not fit" if beyond else "")
    yield from _capped("  ", beyond)


def _way_out(one: DeviceFit) -> str:
    remedy = one.remedy
    if remedy is None:
        return "no sharding over as many devices as the batch has sequences makes it fit"
    ways = remedy.parallelism
    return (
        f"fits on {ways.num_gpus} of them with {ways.sharding} sharding, {size(remedy.peak_bytes)} each "
        f"({_sequences(remedy.micro_batch_sequences)})"
    )


def _sequences(number: int) -> str:
    return f"{number} sequence{'s' if number > 1 else ''} at once"


def _limits(plan: Plan, cost: Estimate) -> Iterator[str]:
    limits = plan.sweep.limits
    named = [
        f"{name} {value:g}" for name, value in (("gpu_hours", limits.gpu_hours), ("disk_gb", limits.disk_gb)) if value
    ]
    if not named:
        return
    if not cost.excess:
        yield f"limits    {', '.join(named)}: kept"
    for one in cost.excess:
        yield f"ABOVE     {one.text}; memscale sweep refuses to start"
    if cost.excess:
        yield f"          {numbers_behind(cost)}"
