"""Which column of a table is which quantity, and which quantities are derived from others on request.

Refuses columns that the table lacks (it lists those there are and the closest), one name for two factors, factors
with a name that is taken, and a derivation whose inputs are not mapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.errors import TableError
from analysis.tables.observations import CLUSTER, FLOPS, LOSS, NO_FACTORS, PARAMS, STDERR, TOKENS, WEIGHT
from analysis.tables.suggestion import suggestion
from analysis.tables.units import check_units

RATE, SCHEDULE, FAMILY = "learning rate", "schedule's end", "family of the row"
"""What is looked at, but no law reads; no factor can have such a name."""
OPTIONS = {
    PARAMS: "--params", TOKENS: "--tokens", FLOPS: "--flops", LOSS: "--loss", RATE: "--learning-rate",
    SCHEDULE: "--schedule-tokens", WEIGHT: "--weight", STDERR: "--stderr", "metric": "--metric",
}  # fmt: skip
"""The option of the command line that names each column; factors have --factor."""


@dataclass(frozen=True, kw_only=True)
class ColumnMap:
    """Names of columns as the table has them; None: the table has none, or no law needs it."""

    loss: str
    params: str | None = None
    tokens: str | None = None
    flops: str | None = None
    factors: Mapping[str, str] = field(default_factory=dict)
    """Further columns by the name under which a law knows them: {'E': 'num_experts'}."""
    cluster: str | None = None
    """Rows with one value of this column are drawn together in a bootstrap."""
    status: str | None = "status"
    """How a run ended, where the table has such a column; None: do not look at it."""
    seed_column: str | None = "seed"
    """Random seed: distinguishes replicates from duplicates, where the table has such a column."""
    learning_rate: str | None = None
    """Looked at for edges of its sweep; no law reads it."""
    schedule_tokens: str | None = None
    """Tokens at which the schedule of the learning rate ends; no law reads them."""
    weight: str | None = None
    """Weight of a row in the fit's objective, above zero."""
    stderr: str | None = None
    """Standard error of a row's loss, in the loss's unit."""
    train: str | None = None
    """Marks rows as fitted ('train', true) or only predicted ('test', false)."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Units of counts: {'params': 'B', 'tokens': 'T', 'flops': 'PF-days'}; '1' for counts as they are. Units in a
    column's name ('Model Size (B)') and of single values ('1.3B') are found without it."""
    tokens_from_flops: bool = False
    """Derive the tokens as C / (6 N)."""
    flops_from_tokens: bool = False
    """Derive the FLOPs as 6 N D."""

    def __post_init__(self) -> None:
        check_units(self.units)
        for name in self.factors:
            if not name.isidentifier():
                raise TableError(f"--factor {name}=...: a factor's name is one word of letters, digits and '_'")
            if name in (PARAMS, TOKENS, FLOPS, *NO_FACTORS):
                option = OPTIONS.get(name, f"--{name}")
                raise TableError(f"--factor {name}=...: the name {name} is taken; give that column with {option}")
        for asked, given, inputs, option in (
            (self.tokens_from_flops, self.tokens, (self.params, self.flops), "--tokens-from-flops"),
            (self.flops_from_tokens, self.flops, (self.params, self.tokens), "--flops-from-tokens"),
        ):
            if asked and given is not None:
                raise TableError(f"{option} derives what the column '{given}' already gives; leave one of them out")
            if asked and None in inputs:
                other = "--flops" if option == "--tokens-from-flops" else "--tokens"
                raise TableError(f"{option} needs the columns of both inputs: give --params and {other}")
        if self.weight is not None and self.stderr is not None:
            raise TableError("--weight and --stderr both say how much a row counts; give one of them")
        if self.schedule_tokens is not None and self.tokens is None and not self.tokens_from_flops:
            raise TableError("--schedule-tokens is compared with the tokens of a run: give --tokens COL too")

    def measured(self) -> dict[str, str]:
        """The number columns by letter, those that are derived left out, the loss as 'loss'."""
        given = {PARAMS: self.params, TOKENS: self.tokens, FLOPS: self.flops, **self.factors, LOSS: self.loss}
        given |= {WEIGHT: self.weight, STDERR: self.stderr, RATE: self.learning_rate, SCHEDULE: self.schedule_tokens}
        return {letter: column for letter, column in given.items() if column is not None}

    def labels(self) -> dict[str, str]:
        """The columns that are not numbers, by their meaning."""
        given = {CLUSTER: self.cluster, "train": self.train}
        return {name: column for name, column in given.items() if column is not None}

    def derived(self) -> dict[str, str]:
        """The formulas of the columns that are derived, by letter. Kaplan et al. 2020: C = 6 N D."""
        asked = {TOKENS: (self.tokens_from_flops, "C / (6 N)"), FLOPS: (self.flops_from_tokens, "6 N D")}
        return {letter: formula for letter, (wanted, formula) in asked.items() if wanted}

    def check(self, source: str, columns: Sequence[str], family: str | None = None) -> None:
        """Raises TableError for a column that was named and is not there; `family` is a further column."""
        named = [(OPTIONS.get(letter, f"--factor {letter}"), column) for letter, column in self.measured().items()]
        named += [(f"--{name}", column) for name, column in self.labels().items()]
        named += [] if family is None else [("--family", family)]
        for option, default, column in (
            ("--status", "status", self.status),
            ("--seed-column", "seed", self.seed_column),
        ):
            if column is not None and column != default:
                named.append((option, column))
        for option, column in named:
            if column not in columns:
                raise TableError(f"{source} has no column '{column}' ({option}).{suggestion(column, columns)}")
