"""What is compared: the losses and the recalls that a results table holds, and which families."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.tables.runs import Runs

SUBJECTS = ("memory_plus", "memory", "pkm", "peer", "moe")
BASELINES = ("moe", "dense")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing that is compared."""

    column: str
    words: str
    unit: str
    factor: float = 1.0
    """From the table's unit to the one shown (shares to points: 100)."""
    decimals: int = 3
    """Most decimals shown to people."""
    lower_is_better: bool = True
    stderr_column: str | None = None
    """Standard error of measuring one run, where the table has it."""


LOSS = Measure(column="loss_nats", words="loss", unit="nats per token")
RECALLS = (
    ("score_facts_recall_acc", "recall"),
    ("score_facts_recall_exact_match", "recall, exact match"),
    ("score_facts_recall_statement_acc", "recall, asked as a statement"),
)


def pairs(families: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The families to compare, the pair that decides the headline first: (subject, baseline)."""
    subject = next((family for family in SUBJECTS if family in families), None)
    if subject is None:
        return ()
    return tuple((subject, baseline) for baseline in BASELINES if baseline in families and baseline != subject)


def measures(runs: Runs) -> tuple[Measure, ...]:
    """What the table lets us compare; the loss of the mixture first."""
    found = [LOSS]
    for column, words in RECALLS:
        if runs.has(column):
            error = f"{column}_stderr" if runs.has(f"{column}_stderr") else None
            found.append(
                Measure(
                    column=column,
                    words=words,
                    unit="points",
                    factor=100.0,
                    decimals=1,
                    lower_is_better=False,
                    stderr_column=error,
                )
            )
    if runs.has("score_facts_nll_nats"):
        found.append(Measure(column="score_facts_nll_nats", words="loss of the answers", unit="nats per answer"))
    sources = [column for column in loss_columns(runs, "loss_nats_") if runs.has(column)]
    if len(sources) > 1:
        found += [
            Measure(column=column, words=f"loss on {column.removeprefix('loss_nats_')}", unit="nats per token")
            for column in sources
        ]
    return tuple(found)


def loss_columns(runs: Runs, prefix: str) -> list[str]:
    """Columns of the losses by source, in order of their names; standard errors are none."""
    return sorted(name for name in runs.numbers if name.startswith(prefix) and not name.endswith("_stderr"))
