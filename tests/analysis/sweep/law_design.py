"""A results table of the design that laws of tables and experts are fitted to, drawn from given laws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.laws.registry import LAWS

CHINCHILLA = {"A": 60.0, "B": 90.0, "E": 1.2, "alpha": 0.3, "beta": 0.35}
STORED = {"c": 0.3, "alpha": 1.0, "beta": 0.3, "k": 2.0}
TRUTHS = {
    "memory_effective": {**CHINCHILLA, "m": 0.6, "gamma": 0.4},
    "memory_additive": {**CHINCHILLA, "M": 0.5, "T0": 3e5, "gamma": 0.4},
    "memory_log_linear": {**CHINCHILLA, "G": 0.05, "K0": 300.0},
    "stored_memory_effective": {**STORED, "m": 0.5, "gamma": 0.4},
    "stored_memory_additive": {**STORED, "m": 0.3, "gamma": 0.8},
    "stored_memory_log_linear": {**STORED, "G": 0.3, "K0": 300.0},
    "experts_effective": {"a": 60.0, "b": 90.0, "c": 1.2, "alpha": 0.3, "beta": 0.35, "m": 0.4, "gamma": 0.6},
    "experts_log_linear": {"a": 60.0, "b": 90.0, "c": 1.2, "alpha": 0.3, "beta": 0.35, "G": 0.08, "E0": 1.0},
    "stored_experts_additive": {**STORED, "m": 0.3, "gamma": 0.9},
}
WIDTHS = (32, 48, 64)
SLOTS = tuple(2**power for power in (10, 12, 13, 15, 17, 18, 20))
EXPERTS = (2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Three bases x lengths of training x sizes x seeds, dense beside them."""

    loss: str = "memory_log_linear"
    stored: str = "stored_memory_additive"
    tokens_per_parameter: tuple[float, ...] = (10.0, 25.0, 60.0)
    seeds: tuple[int, ...] = (0, 1)
    bits_per_parameter: tuple[float, ...] = (2.0, 1.0, 0.5)
    """Of each base's dense model."""
    noise: float = 0.004
    """Of a run's own, in nats."""
    shared: float = 0.01
    """Of a seed at a budget, whatever stands on the base."""

    @property
    def family(self) -> str:
        return "moe" if "experts" in self.loss else "memory_plus"


def rows(design: Design, seed: int = 0) -> list[dict[str, object]]:
    random = np.random.default_rng(seed)
    made: list[dict[str, object]] = []
    for at, width in enumerate(WIDTHS):
        params = 48.0 * width**2
        for length in design.tokens_per_parameter:
            tokens, bits = length * params, design.bits_per_parameter[at] * params
            for run_seed in design.seeds:
                common = design.shared * random.standard_normal()
                for size in (0, *(EXPERTS if design.family == "moe" else SLOTS)):
                    row = _row(design, width, params, tokens, bits, size, run_seed)
                    noise = common + design.noise * random.standard_normal()
                    row["loss_nats"] = float(str(row["loss_nats"])) + noise
                    share = float(str(row["bits_stored"])) / bits - 2 * noise
                    row |= {"bits_stored": share * bits, "score_dense_facts_nats": np.log(256) * (1 - share)}
                    made.append(row)
    return made


def _row(
    design: Design, width: int, params: float, tokens: float, bits: float, size: int, run_seed: int
) -> dict[str, object]:
    moe = design.family == "moe"
    letters = {"N": params, "D": tokens, "B": bits, "T": size * 64.0, "K": float(size), "E": float(size or 1)}
    columns = {name: np.array([value]) for name, value in letters.items()}
    setting = "" if size == 0 else f" num_experts={size}" if moe else f" num_slots={size}"
    family = "dense" if size == 0 else design.family
    budget = f"d{width}-{tokens / params:g}"
    return {
        "sweep": "memory_law",
        "name": f"{family}-{size}-{budget}-s{run_seed}",
        "stage": "compare",
        "family": family,
        "series": family + setting,
        "budget": budget,
        "seed": run_seed,
        "budget_flops": 6 * params * tokens,
        "flops_train": 6 * params * tokens,
        "status": "done",
        "tokens": tokens,
        "d_model": width,
        "num_slots": size if size and not moe else "",
        "num_experts": size if size and moe else "",
        "experts_per_token": 1 if size and moe else "",
        "params_table": 0 if moe else size * 64,
        "params_non_embedding": params,
        "bits_offered": bits,
        "loss_nats": float(LAWS[design.loss].predict(TRUTHS[design.loss], columns)[0]),
        "bits_stored": bits * float(LAWS[design.stored].predict(TRUTHS[design.stored], columns)[0]),
    }
