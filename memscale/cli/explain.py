"""`memscale plan SWEEP --explain RUN`: what one run is made of, part by part, and what that costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from memscale.cli.console import console
from memscale.cli.matches import NAMES
from memscale.config.codec import to_plain
from memscale.errors import ConfigError, nearest
from memscale.launch.formatting import percent, quantity, size
from memscale.launch.workers import workers_for
from memscale.planning.accounting import TRAINING_PASSES, components, conventions, evaluation_flops
from memscale.planning.knowledge import offered_facts
from memscale.planning.plan import Plan
from memscale.planning.planned_runs import PlannedRun
from memscale.planning.training_memory import SHARDINGS, Parallelism, training_memory
from memscale.planning.weight_bytes import BYTES_PER_WEIGHT, decode_bytes, kv_cache_bytes, training_bytes

_NUM_GPUS = 8
_CONVENTIONS = {
    "six_n_total": "6 N, all parameters",
    "six_n_active": "6 N, active parameters",
    "six_n_non_embedding": "6 N, without embedding and LM head",
    "palm": "PaLM: 6 N active + full attention",
    "ludziejewski": "6 N active with both embeddings (Ludziejewski et al. 2025)",
}
_PARALLELISMS = (
    Parallelism(),
    *(Parallelism(num_gpus=_NUM_GPUS, sharding=sharding) for sharding in SHARDINGS),
)


def explain(plan: Plan, name: str, *, as_json: bool) -> None:
    """Print the parts of the run called `name`. Raises ConfigError where the plan has none of that name."""
    found = next((run for run in plan.runs if run.name == name), None)
    if found is None:
        names = [run.name for run in plan.runs]
        raise ConfigError(
            f"no run '{name}' in the plan of {plan.sweep.name}; it has {len(names)}, such as {names[-1]}."
            f"{nearest(name, names)}"
        )
    content = explained(plan, found)
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        _print(plan, found, content)


def explained(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    """Everything about `run` as plain values; documented in docs/interfaces.md."""
    length, architecture = plan.sweep.scale.sequence_length, run.architecture
    baseline = plan.by_budget[run.budget]
    per_token = TRAINING_PASSES * run.counts.flops_per_token_forward
    parts = components(architecture, length)
    others = asdict(conventions(architecture, length))
    # As many tokens go through the model at once as the whole batch has: fewer cost more bytes per token.
    trained = training_bytes(architecture, length, run.batch_tokens)
    return {
        "format": 2,
        "sweep": plan.sweep.name,
        "name": run.name,
        "run_id": run.run_id,
        "series": run.series,
        "family": run.family,
        "budget": run.budget,
        "sequence_length": length,
        "tokens": run.tokens,
        "batch_tokens": run.batch_tokens,
        "stage": run.stage,
        "facts": [asdict(facts) for facts in offered_facts(baseline.data, baseline.params_non_embedding, run.tokens)],
        "architecture": to_plain(architecture),
        "components": [
            {
                "name": part.name,
                "params": part.params,
                "params_active": part.active,
                "flops_per_token_forward": part.flops,
                "share_of_flops": part.flops / run.counts.flops_per_token_forward,
                "decode_bytes": BYTES_PER_WEIGHT * part.decode_weights,
            }
            for part in parts
        ],
        "totals": {
            **asdict(run.counts),
            "flops_per_token_evaluation": evaluation_flops(architecture, length),
            "flops_per_token_train": per_token,
            "flops_train": run.flops_train,
        },
        "conventions": {
            key: {"flops_per_token_train": value, "over_ours": value / per_token} for key, value in others.items()
        },
        "bytes": {
            "bytes_per_weight": BYTES_PER_WEIGHT,
            "decode_bytes": decode_bytes(architecture, length),
            "kv_cache_bytes": kv_cache_bytes(architecture, length),
            "training_bytes_per_token": trained,
        },
        "training_memory": _memory(plan, run),
        "matched": {
            "mismatch": dict(run.mismatch),
            "flops_mismatch": run.flops_mismatch,
            "params_mismatch": run.params_mismatch,
            "tolerance": plan.sweep.matching.tolerance,
        },
    }


def _memory(plan: Plan, run: PlannedRun) -> dict[str, Any]:
    """Bytes of each GPU at one sequence at a time, by part, on one GPU and on eight."""
    precision = "bfloat16" if workers_for(plan.sweep.launcher, 1)[0].device == "cuda" else "float32"
    rows = []
    for parallelism in _PARALLELISMS:
        memory = training_memory(
            run.architecture,
            plan.sweep.scale.sequence_length,
            parallelism=parallelism,
            precision=precision,
            averaged=plan.sweep.recipe.average is not None,
        )
        rows.append({**asdict(parallelism), **asdict(memory), "total": memory.total})
    return {"micro_batch_sequences": 1, "precision": precision, "per_gpu": rows}


def _print(plan: Plan, run: PlannedRun, content: dict[str, Any]) -> None:
    out = console()
    a, totals = run.architecture, content["totals"]
    lines = [
        f"{run.name}   {run.run_id or 'its rates await tuning'}   {run.series} at {run.budget}",
        f"width {a.d_model}, {a.num_layers} layers, {a.num_heads} heads of {a.head_width} "
        f"({a.num_kv_heads} of keys and values), FFN {a.ffn_hidden}, vocabulary {a.vocab_size}",
    ]
    part = a.moe or a.memory or a.peer
    if part is not None:
        settings = ", ".join(f"{key} {_plain(value)}" for key, value in asdict(part).items())
        lines.append(f"{a.sparse_kind(part.layers[0])}: {settings}")
    lines.append(
        f"trained on {quantity(run.tokens)} tokens, {quantity(run.batch_tokens)} a batch, sequences of "
        f"{content['sequence_length']}: {quantity(run.flops_train)} FLOPs"
    )
    for facts in content["facts"]:
        read = "" if facts["exposures"] is None else f", each read {facts['exposures']:.3g} times on average"
        lines.append(
            f"{quantity(facts['num_facts'])} facts of {facts['source']}, {quantity(facts['bits'])} bits: "
            f"{facts['bits_per_parameter']:.3g} for each non-embedding parameter of the budget's dense model{read}"
        )
    out.print("\n".join(lines), markup=False, soft_wrap=True)
    out.print(_components(content))
    rest = [
        f"total     {quantity(totals['params_total'])} parameters: {quantity(totals['params_active'])} active, "
        f"{quantity(totals['params_non_embedding'])} non-embedding, {quantity(totals['params_table'])} in tables",
        f"FLOPs     {quantity(totals['flops_per_token_forward'])} forward and "
        f"{quantity(totals['flops_per_token_train'])} training per token",
    ]
    if totals["flops_per_token_evaluation"] != totals["flops_per_token_forward"]:
        evaluated = quantity(totals["flops_per_token_evaluation"])
        rest.append(f"          {evaluated} forward in evaluation, where each token chooses its experts")
    out.print("\n".join(rest), markup=False, soft_wrap=True)
    _print_conventions(out, content)
    _print_bytes(out, content)
    _print_memory(out, content)
    out.print(_matched(plan, run), markup=False, soft_wrap=True)


def _plain(value: object) -> str:
    return str(list(value)) if isinstance(value, list | tuple) else str(value)


def _new_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table


def _components(content: dict[str, Any]) -> Table:
    table = _new_table("component", "params", "active", "forward FLOPs/token", "share", "read per decoded token")
    for part in content["components"]:
        table.add_row(
            part["name"],
            quantity(part["params"]),
            quantity(part["params_active"]),
            quantity(part["flops_per_token_forward"]),
            f"{part['share_of_flops']:.1%}",
            size(part["decode_bytes"]),
        )
    return table


def _print_conventions(out: Console, content: dict[str, Any]) -> None:
    table = _new_table("training FLOPs per token by other conventions", "FLOPs", "over ours")
    for key, one in content["conventions"].items():
        ratio = f"{one['over_ours']:.3g}"
        table.add_row(_CONVENTIONS.get(key, key), quantity(one["flops_per_token_train"]), ratio)
    out.print(table)


def _print_bytes(out: Console, content: dict[str, Any]) -> None:
    text = content["bytes"]
    out.print(
        f"bytes     weights of {text['bytes_per_weight']} bytes: {size(text['decode_bytes'])} read per decoded token "
        f"(and {size(text['kv_cache_bytes'])} of keys and values at {content['sequence_length']} tokens), "
        f"{size(text['training_bytes_per_token'])} per trained token",
        markup=False,
        soft_wrap=True,
    )


def _print_memory(out: Console, content: dict[str, Any]) -> None:
    text = content["training_memory"]
    table = _new_table(
        f"memory of each GPU, {text['precision']}, 1 sequence at once", "weights", "gradients", "optimizer",
        "activations", "total",
    )  # fmt: skip
    for row in text["per_gpu"]:
        gpus = "1 GPU" if row["num_gpus"] == 1 else f"{row['num_gpus']} GPUs, sharding {row['sharding']}"
        parts = ("weights", "gradients", "optimizer", "activations", "total")
        table.add_row(gpus, *(size(row[part]) for part in parts))
    out.print(table)


def _matched(plan: Plan, run: PlannedRun) -> str:
    held = [f"{NAMES[name]} {percent(mismatch)}" for name, mismatch in run.mismatch]
    text = f"held: {', '.join(held)} off the dense model" if held else "nothing is held equal per token"
    if "flops_per_token" not in dict(run.mismatch):
        text += f"; FLOPs per token {percent(run.flops_mismatch)} off it, not held"
    if run.params_mismatch is not None:
        how = "held" if plan.sweep.matching.sparse_equal == "total_params" else "not held"
        text += f"; total parameters {percent(run.params_mismatch)} off the mean of the budget's sparse models, {how}"
    return f"matched   {text}"
