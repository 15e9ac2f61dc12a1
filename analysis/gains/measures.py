"""What is compared: the losses, the recalls and the bits stored that a results table holds, and which families.

The measure that the sweep's question is about is the bits stored where the table has them, else the recall, else the
loss, unless whoever asks names another column. Which one it is never depends on the results.
"""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import FitError
from analysis.tables.runs import Runs, family_name
from analysis.tables.suggestion import suggestion

SUBJECTS = ("memory_plus", "memory", "pkm", "peer", "moe", "looped")
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
    more: str = ""
    """How a series with a larger value is said to differ: 'recalls more facts than'."""
    fewer: str = ""
    """As `more`, of a smaller value."""
    stderr_column: str | None = None
    """Standard error of measuring one run; used where the table has it."""

    @property
    def axis(self) -> str:
        """The words and the unit, for an axis; the words alone where these hold the unit."""
        if set(self.unit.split()) <= set(self.words.split()):
            return self.words
        return f"{self.words}, {'%' if self.factor == 100.0 else self.unit}"


LOSS = Measure(
    column="loss_nats",
    words="loss",
    unit="nats per token",
    more="reaches a higher loss than",
    fewer="reaches a lower loss than",
)
BITS = Measure(
    column="bits_stored",
    words="bits stored",
    unit="bits",
    decimals=0,
    more="stores more bits than",
    fewer="stores fewer bits than",
    lower_is_better=False,
    stderr_column="bits_stored_stderr",
)
BITS_PER_PARAMETER = Measure(
    column="bits_stored_per_parameter",
    words="bits stored per parameter",
    unit="bits per parameter",
    more="stores more bits than",
    fewer="stores fewer bits than",
    lower_is_better=False,
    stderr_column="bits_stored_per_parameter_stderr",
)
FACT_NATS = Measure(
    column="score_dense_facts_nats",
    words="loss of the facts' values",
    unit="nats per fact",
    stderr_column="score_dense_facts_nats_stderr",
)
MAIN_COLUMNS = (
    "bits_stored_per_parameter",
    "bits_stored",
    "score_dense_facts_recall",
    "score_facts_recall_acc",
    "loss_nats",
)
"""What a sweep is about where nobody says so: the first of these that the table has."""
RECALLS = (
    ("score_dense_facts_recall", "recall of dense facts"),
    ("score_facts_recall_acc", "recall of people"),
    ("score_facts_recall_exact_match", "recall of people, exact match"),
    ("score_facts_recall_statement_acc", "recall of people, asked as a statement"),
)


def pairs(families: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The families to compare, the pair that decides the headline first: (subject, baseline)."""
    subject = next((family for family in SUBJECTS if family in families), None)
    if subject is None:
        return ()
    return tuple((subject, baseline) for baseline in BASELINES if baseline in families and baseline != subject)


def named_pairs(runs: Runs) -> tuple[tuple[str, str], ...]:
    """The series to compare by default, as labels: the reference series of the families that `pairs` chooses.

    Families of one kind under several names, and no others (a sweep that compares a family with itself), are compared
    with the first name.
    """
    if len(runs.families) == 1:
        names = dict.fromkeys(family_name(label) for label in runs.labels)
        first, *others = (
            next(label for label in runs.series_of(runs.families[0]) if family_name(label) == name) for name in names
        )
        return tuple((other, first) for other in others)
    return tuple((runs.reference(subject), runs.reference(baseline)) for subject, baseline in pairs(runs.families))


def measures(runs: Runs) -> tuple[Measure, ...]:
    """What the table lets us compare; the loss of the mixture first."""
    found = [LOSS]
    found += [measure for measure in (BITS, BITS_PER_PARAMETER) if runs.has(measure.column)]
    for column, words in RECALLS:
        if runs.has(column):
            found.append(
                Measure(
                    column=column,
                    words=words,
                    unit="points",
                    factor=100.0,
                    decimals=1,
                    lower_is_better=False,
                    more="recalls more facts than",
                    fewer="recalls fewer facts than",
                    stderr_column=f"{column}_stderr",
                )
            )
    found += [FACT_NATS] if runs.has(FACT_NATS.column) else []
    if runs.has("score_facts_nll_nats"):
        found.append(Measure(column="score_facts_nll_nats", words="loss of the answers", unit="nats per answer"))
    sources = [column for column in loss_columns(runs, "loss_nats_") if runs.has(column)]
    if len(sources) > 1:
        found += [
            Measure(column=column, words=f"loss on {column.removeprefix('loss_nats_')}", unit="nats per token")
            for column in sources
        ]
    return tuple(found)


def main_measure(found: tuple[Measure, ...], named: str | None = None) -> Measure:
    """The measure that the question is about.

    Args:
        found: The measures of the table.
        named: The column that the sweep names; None where it names none.

    Raises:
        FitError: The table has no measure of that column.
    """
    by_column = {one.column: one for one in found}
    if named is None:
        return next(by_column[column] for column in MAIN_COLUMNS if column in by_column)
    if named not in by_column:
        close = suggestion(named, tuple(by_column))
        raise FitError(
            f"measure: the table has no measure '{named}', or not in every run; it has {', '.join(by_column)}.{close}"
        )
    return by_column[named]


def loss_columns(runs: Runs, prefix: str) -> list[str]:
    """Columns of the losses by source, in order of their names; standard errors are none."""
    return sorted(name for name in runs.numbers if name.startswith(prefix) and not name.endswith("_stderr"))
