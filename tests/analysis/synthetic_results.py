"""Results tables of known truth: power laws a family, seed noise, and a compute multiplier that is given."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Row = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the tables are drawn from. `multipliers`: how much compute a family's is worth against dense."""

    multipliers: dict[str, float] = field(default_factory=lambda: {"dense": 1.0, "moe": 1.4, "memory_plus": 2.0})
    budgets: tuple[float, ...] = (3e13, 1e14, 3e14)
    seeds: tuple[int, ...] = (0, 1)
    alpha: float = 0.08
    scale: float = 3.6
    offset: float = 0.0
    noise: float = 0.005
    """Standard deviation of a run's log loss."""
    facts: bool = True
    tuning: bool = True

    def loss(self, family: str, flops: float) -> float:
        """Nats per token without noise; `scale` is the loss above the offset at the first budget for dense."""
        effective = flops * self.multipliers[family] / self.budgets[0]
        return float(self.offset + self.scale * effective**-self.alpha)


def rows(truth: Truth, seed: int = 0) -> list[Row]:
    """One sweep: tuning runs at the smallest budget, then every family, budget and seed."""
    random = np.random.default_rng(seed)
    made: list[Row] = []
    for family in truth.multipliers:
        if truth.tuning:
            made += [_tuning(truth, family, rate, factor, random) for rate in RATES for factor in _factors(family)]
        for budget in truth.budgets:
            made += [_compared(truth, family, budget, run_seed, random) for run_seed in truth.seeds]
    return made


RATES = (0.002, 0.005, 0.01, 0.03)
SECONDS_PER_FLOP = {"dense": 1.0, "moe": 1.5, "memory_plus": 1.9}
SIZE = {"dense": 1.0, "moe": 9.1, "memory_plus": 9.15}


def _factors(family: str) -> tuple[float | None, ...]:
    return (1.0, 3.0) if family == "memory_plus" else (None,)


def _tuning(truth: Truth, family: str, rate: float, factor: float | None, random: np.random.Generator) -> Row:
    row = _compared(truth, family, truth.budgets[0], 1000, random)
    penalty = 0.05 * np.log(rate / 0.01) ** 2 + (0.04 if factor == 1.0 else 0.0)
    diverged = family == "moe" and rate == 0.03
    row |= {
        "name": f"tune-{family}-lr{rate:g}" + (f"-table{factor:g}" if factor else ""),
        "run_id": f"t{random.integers(16**10):011x}",
        "stage": "tune",
        "learning_rate": rate,
        "table_learning_rate": rate * factor if factor else "",
        "loss_nats": "" if diverged else float(row["loss_nats"]) + penalty,
        "status": "diverged" if diverged else "done",
    }
    if diverged:
        row |= {column: "" for column in row if column.startswith(("loss_", "score_"))}
    return row


def _compared(truth: Truth, family: str, budget: float, seed: int, random: np.random.Generator) -> Row:
    flops = budget * (1 + 0.004 * (family == "moe"))
    loss = truth.loss(family, budget) * float(np.exp(truth.noise * random.standard_normal()))
    size = 250e3 * (budget / truth.budgets[0]) ** 0.5
    row: Row = {
        "sweep": "memory_vs_moe",
        "name": f"{family}-{budget:.3g}-s{seed}",
        "run_id": f"{random.integers(16**11):012x}",
        "stage": "compare",
        "family": family,
        "scale": "laptop",
        "seed": seed,
        "budget_flops": budget,
        "status": "done",
        "learning_rate": 0.01,
        "table_learning_rate": 0.03 if family == "memory_plus" else "",
        "batch_tokens": 2048,
        "sequence_length": 128,
        "tokens": int(budget / 1.5e7),
        "params_total": int(size * SIZE.get(family, 5.0)),
        "params_active": int(size * 1.1),
        "params_table": int(size * 8) if family == "memory_plus" else 0,
        "flops_train": flops,
        "train_seconds": budget
        / 3e12
        * SECONDS_PER_FLOP.get(family, 1.2)
        * float(np.exp(0.01 * random.standard_normal())),
        "peak_memory_bytes": int(2e8 + 3 * size * SIZE.get(family, 5.0)),
        "loss_nats": loss,
        "loss_nats_facts": loss * 0.6,
        "loss_bpb_facts": loss * 0.3,
        "loss_nats_python_stdlib": loss * 1.4,
        "loss_bpb_python_stdlib": loss * 0.9,
    }
    if truth.facts:
        level = 1 / (1 + np.exp(-2.2 * (np.log(budget * truth.multipliers[family] / truth.budgets[0]) - 1.8)))
        recall = float(np.clip(0.125 + 0.875 * level + 0.02 * random.standard_normal(), 0, 1))
        row |= {
            "recall_chance": 0.125,
            "score_facts_recall_acc": recall,
            "score_facts_recall_acc_stderr": float(np.sqrt(recall * (1 - recall) / 400)),
            "score_facts_recall_exact_match": recall * 0.9,
            "score_facts_recall_exact_match_stderr": 0.02,
            "score_facts_recall_shuffled_acc": 0.125,
            "score_facts_recall_shuffled_acc_stderr": 0.017,
        }
    return row


def write(path: Path, table: list[Row]) -> Path:
    """As CSV, with every column that some row has."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(column for row in table for column in row)))
        writer.writeheader()
        writer.writerows(table)
    return path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A sweep that varies settings inside one family, on bases of several sizes; what each setting is worth is given.

    Rows are those of a planner: columns `series`, `budget`, `num_slots` and `d_model`, empty slots without a table.
    """

    slots: tuple[int, ...] = ()
    """Table sizes of memory_plus; empty: it stands once, with 2^14 slots."""
    slot_alpha: float = 0.02
    """The loss of memory_plus falls as slots^-alpha."""
    ablations: dict[str, float] = field(default_factory=dict)
    """Settings of memory_plus, each with what it adds to the log of the loss."""
    families: tuple[str, ...] = ("dense", "memory_plus")
    budgets: tuple[float, ...] = (1e14,)
    widths: tuple[int, ...] = (64,)
    """Several: model sizes at equal FLOPs."""
    best_width: float = 96.0
    """At the first budget; grows with the fourth root of FLOPs."""
    bowl: float = 0.04
    """Log loss per squared e-fold of width from the best."""
    seeds: tuple[int, ...] = (0, 1)
    noise: float = 0.002
    facts: bool = True


def settings_rows(sweep: Settings, seed: int = 0) -> list[Row]:
    """Every series at every budget, width and seed."""
    random = np.random.default_rng(seed)
    cells = [
        (label, budget, width, run_seed)
        for budget in sweep.budgets
        for width in sweep.widths
        for label in _series(sweep)
        for run_seed in sweep.seeds
    ]
    return [_setting_row(sweep, *cell, random) for cell in cells]


def _series(sweep: Settings) -> list[str]:
    labels = [family for family in sweep.families if family != "memory_plus" or not sweep.slots]
    if "memory_plus" in sweep.families:
        labels += [f"memory_plus num_slots={slots}" for slots in sweep.slots]
        labels += [f"memory_plus {setting}" for setting in sweep.ablations]
    return labels


def _setting_row(sweep: Settings, label: str, budget: float, width: int, seed: int, random: np.random.Generator) -> Row:
    family, _, setting = label.partition(" ")
    slots = int(setting.removeprefix("num_slots=")) if setting.startswith("num_slots=") else 2**14
    gain = {"dense": 0.0, "moe": -0.02}.get(family, -0.03 - sweep.slot_alpha * np.log(slots / 2**14))
    best = sweep.best_width * (budget / sweep.budgets[0]) ** 0.25
    size = sweep.bowl * np.log(width / best) ** 2 if len(sweep.widths) > 1 else 0.0
    log_loss = np.log(3.6) - 0.08 * np.log(budget / 1e14) + gain + size + sweep.ablations.get(setting, 0.0)
    loss = float(np.exp(log_loss + sweep.noise * random.standard_normal()))
    table = family == "memory_plus"
    dense_params = 12 * 4 * width**2 + 2 * 512 * width
    name = f"{budget:.0e}-d{width}" if len(sweep.widths) > 1 else f"{budget:.0e}"
    row: Row = {
        "sweep": "settings",
        "name": f"{label.replace(' ', '-').replace('=', '')}-{name}-s{seed}",
        "run_id": f"{random.integers(16**11):012x}",
        "stage": "compare",
        "family": family,
        "series": label,
        "budget": name,
        "scale": "laptop",
        "seed": seed,
        "budget_flops": budget,
        "status": "done",
        "learning_rate": 0.01,
        "num_slots": slots if table else "",
        "d_model": width,
        "tokens": int(budget / (6 * dense_params)),
        "params_total": dense_params + (slots * width if table else dense_params * 8 if family == "moe" else 0),
        "params_active": int(dense_params * 1.02),
        "flops_per_token_forward": 2 * dense_params + (int(8 * width * slots**0.5) if table else 0),
        "flops_train": budget * (1 + 1e-4 * random.standard_normal()),
        "train_seconds": budget / 1e12 * (1.9 if table else 1.0),
        "loss_nats": loss,
    }
    if sweep.facts:
        level = 0.5 if not table else 1 / (1 + np.exp(-0.5 * np.log(slots / 2**13)))
        recall = float(np.clip(0.125 + 0.8 * level + 0.02 * random.standard_normal(), 0, 1))
        row |= {
            "recall_chance": 0.125,
            "score_facts_recall_acc": recall,
            "score_facts_recall_acc_stderr": float(np.sqrt(recall * (1 - recall) / 400)),
        }
    return row
