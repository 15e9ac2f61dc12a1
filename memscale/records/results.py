"""The results table: one row a run, every count by its own name. Rebuilt from run files at each call.

Runs without a result are rows too, with their state, which the caller passes. Of a run whose files are damaged the row
has what the plan says of it, and nothing else.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from memscale.config.data import DenseFacts, Facts
from memscale.errors import RecordError
from memscale.records.atomic import write_bytes
from memscale.records.layout import RunPaths, SweepPaths
from memscale.records.plan_file import PlanFile, PlanRow
from memscale.records.result_file import Result
from memscale.records.run_file import RunFile, read_run_file

Row = dict[str, Any]


def read_row(paths: RunPaths, status: str, result: Result | None) -> Row:
    """Return the row of one run whose files are whole (`memscale.records.inspection`).

    Args:
        paths: The run's folder.
        status: The run's state, for the column `status` of a run without a result.
        result: The run's result; None without one.

    Raises:
        RecordError: `run.json` is damaged, or the result lacks what a result has.

    """
    file = read_run_file(paths.run)
    row = _planned(file, status)
    if result is not None:
        try:
            row.update(_achieved(result.content))
            dense = _dense_facts(file)
            if dense is not None and "dense_facts" in result.content["scores"]:
                row.update(_stored(dense, result.content["scores"]))
                row.update(_per_parameter(row, "bits_stored"))
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{paths.result} lacks what a result has ({error!r})") from None
        row["verified"] = int(result.verified)
    return row


def planned_row(plan: PlanFile, planned: PlanRow, status: str) -> Row:
    """Return the row of a run by its plan alone, for one whose own files are missing or damaged."""
    row: Row = {name: value for name, value in asdict(planned).items() if name in _OF_PLAN}
    return {"sweep": plan.sweep, "scale": plan.scale, "status": status, **row}


def write_table(paths: SweepPaths, rows: Iterable[Row]) -> None:
    """Write the rows as Parquet and as CSV, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = list(rows)
    names = columns(table)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_bytes(paths.results_csv, text.getvalue().encode())
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([row.get(name) for row in table]) for name in names}), buffer)
    write_bytes(paths.results_parquet, buffer.getvalue())


def columns(rows: Iterable[Row]) -> list[str]:
    """Return every column that some row has, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


_OF_PLAN = (
    "name", "run_id", "stage", "family", "series", "seed", "budget", "budget_flops", "learning_rate",
    "table_learning_rate", "batch_tokens", "tokens", "d_model", "num_layers", "num_slots", "params_total",
    "params_active", "params_non_embedding", "params_table", "flops_per_token_forward", "flops_train",
)  # fmt: skip


def _planned(file: RunFile, status: str) -> Row:
    run, counts, conventions = file.run, file.counts, file.conventions
    row: Row = {
        "sweep": file.sweep,
        "name": file.name,
        "run_id": file.run_id,
        "stage": file.stage,
        "family": file.family,
        "series": file.series,
        "scale": file.scale,
        "seed": run.seed,
        "budget": file.budget,
        "budget_flops": file.budget_flops,
        "status": status,
        "learning_rate": run.optimizer.learning_rate,
        "table_learning_rate": run.optimizer.table_learning_rate,
        "batch_tokens": run.batch_tokens,
        "sequence_length": run.sequence_length,
        "tokens": run.tokens,
        "d_model": run.architecture.d_model,
        "num_layers": run.architecture.num_layers,
        "num_slots": run.architecture.num_slots,
        "training_sees_later_tokens": int(not run.architecture.trains_causally),
        "params_total": counts.params_total,
        "params_active": counts.params_active,
        "params_non_embedding": counts.params_non_embedding,
        "params_table": counts.params_table,
        "dense_params_non_embedding": file.dense_params_non_embedding,
        "rows_read_per_token": counts.rows_read_per_token,
        "flops_per_token_forward": counts.flops_per_token_forward,
        "flops_train": counts.flops_train,
        "flops_train_6n_total": conventions.six_n_total * run.tokens,
        "flops_train_6n_active": conventions.six_n_active * run.tokens,
        "flops_train_6n_non_embedding": conventions.six_n_non_embedding * run.tokens,
        "flops_train_ludziejewski": conventions.ludziejewski * run.tokens,
        "flops_train_palm": conventions.palm * run.tokens,
    }
    moe = run.architecture.moe
    if moe is not None:
        row["num_experts"] = moe.num_experts
        row["experts_per_token"] = moe.experts_per_token
        row["routing"] = moe.routing
        kept = "hash" if moe.routing == "hash" else "token_choice"
        row["routing_in_evaluation"] = f"{kept}, top {moe.experts_per_token}"
    loop = run.architecture.loop
    if loop is not None:
        row.update(_recurrence(row, loop.recurrences, loop.depth, counts.params_recurrent or 0))
    facts = [source for source in file.data.sources if isinstance(source, Facts) and source.num_people is not None]
    if facts:
        row["knowledge_bits"] = sum(source.bits_per_person * (source.num_people or 0) for source in facts)
        row["recall_chance"] = 1 / facts[0].num_choices
    dense = _dense_facts(file)
    if dense is not None:
        row["bits_offered"] = dense.bits_offered
        row.update(_per_parameter(row, "bits_offered"))
    return row


def with_recurrences(rows: list[Row]) -> list[Row]:
    """Return rows of a table with looped models in which dense ones have the same columns, with a single recurrence.

    A law of both (`analysis.laws.looped`) then reads them from one table.
    """
    if any("recurrences" in row for row in rows):
        for row in rows:
            if row.get("family") == "dense":
                row.update(_recurrence(row, 1, row["num_layers"], 0))
    return rows


def _recurrence(row: Row, recurrences: int, depth: int, recurrent: int) -> Row:
    """Return what a table with looped models says of each of them, and of a dense one."""
    return {
        "recurrences": recurrences,
        "depth": depth,
        "params_once": row["params_non_embedding"] - recurrent,
        "params_recurrent": recurrent,
    }


def _per_parameter(row: Row, name: str) -> Row:
    """Return a count of bits for each non-embedding parameter of the budget's dense model, where that is known."""
    params = row["dense_params_non_embedding"]
    return {f"{name}_per_parameter": row[name] / params} if params else {}


def _dense_facts(file: RunFile) -> DenseFacts | None:
    return next((source for source in file.data.sources if isinstance(source, DenseFacts) and source.num_facts), None)


def _stored(source: DenseFacts, scores: Mapping[str, Any]) -> Row:
    """Return the bits of the facts' values that a model holds, and their standard error.

    bits = F x (entropy of a value - mean nats / ln 2) for F facts. n of them are asked, drawn without replacement, so
    the standard error of their mean has the factor sqrt(1 - n / F) (Cochran 1977, section 2.4).
    """
    nats, num_facts = scores["dense_facts"]["nats"], source.num_facts
    assert num_facts is not None
    row: Row = {"bits_stored": num_facts * (source.bits_per_fact - nats["value"] / math.log(2))}
    if nats["stderr"] is not None:
        part_left_out = max(0.0, 1 - nats["num_samples"] / num_facts)
        row["bits_stored_stderr"] = num_facts * nats["stderr"] / math.log(2) * math.sqrt(part_left_out)
    return row


def _achieved(result: Mapping[str, Any]) -> Row:
    timings = result["timings"]
    row: Row = {
        "status": result["status"],
        "train_seconds": timings["train_seconds"],
        "tokens_per_second": timings["tokens_per_second"],
        "evaluation_seconds": timings["evaluation_seconds"],
        "peak_memory_bytes": result["peak_memory_bytes"],
    }
    for source, losses in result["losses"].items():
        if source == "mixture":
            row["loss_nats"] = losses["nats_per_token"]
            continue
        row[f"loss_nats_{source}"] = losses["nats_per_token"]
        row[f"loss_nats_{source}_stderr"] = losses.get("nats_stderr")
        row[f"loss_bpb_{source}"] = losses["bits_per_byte"]
    for task, metrics in result["scores"].items():
        for name, score in metrics.items():
            row[f"score_{task}_{name}"] = score["value"]
            row[f"score_{task}_{name}_stderr"] = score["stderr"]
    for name, value in result["usage"].items():
        row[f"usage_{name}"] = value
    return row
