"""What each number and text of a configuration may be, and why: declared beside the field, checked by `Checked`.

A field says its range by its type, `seed: Seed`; the types are named here, so that a seed is the same everywhere.
`memscale.config.keys` lists them for docs/keys.md. Refuses numbers outside their range, infinite ones, words that are
not of a closed set, and texts with control characters.
"""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from memscale.errors import ConfigError, nearest, shown


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included unless `above_low`."""

    low: float
    high: float
    why: str
    """Why not more, for the message and the documentation."""
    above_low: bool = False

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, or None."""
        if self.least <= value <= self.high:
            return None
        if value < self.least:
            least = "greater than zero" if self.above_low else f"at least {_number(self.low)}"
            return f"is {value}; it must be {least}"
        digits = str(value)
        shown = digits if len(digits) < 30 else f"{digits[:20]}... ({len(digits)} digits)"
        return f"is {shown}; it must be at most {_number(self.high)} ({self.why})"

    @property
    def least(self) -> float:
        """The smallest number of the range."""
        return math.nextafter(self.low, math.inf) if self.above_low else self.low

    def __str__(self) -> str:
        """The range for a table, such as '1 to 4,096'."""
        return f"{'above ' if self.above_low else ''}{_number(self.low)} to {_number(self.high)}"


@dataclass(frozen=True)
class OneOf:
    """A closed set of words."""

    words: tuple[str, ...]
    why: str = ""

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, or None."""
        if value in self.words:
            return None
        return f"is {shown(value)}; valid: {', '.join(self.words)}.{nearest(str(value), self.words)}"

    def __str__(self) -> str:
        """The words, with commas between them."""
        return ", ".join(f"`{word}`" for word in self.words)


@dataclass(frozen=True)
class Text:
    """Texts in which `pattern` is found from end to end, of at most `longest` characters."""

    pattern: str
    needs: str
    why: str
    longest: int = 4_096

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with `value`, or None."""
        if len(value) > self.longest:
            return f"has {len(value):,} characters; {self.longest:,} are the most ({self.why})"
        if re.fullmatch(self.pattern, value) is None:
            return f"is {shown(value)}; it needs {self.needs} ({self.why})"
        return None

    def __str__(self) -> str:
        """What is needed."""
        return self.needs


Rule = Range | OneOf | Text

ANY_NUMBER = Range(-(2**63), 2**63 - 1, "the results table stores it in 64 bits")
"""The rule for numbers whose key is not known yet: values of a grid."""
LINE = Text(
    r"[^\x00-\x1f\x7f\ud800-\udfff]*", "one line without control characters", "it is shown and stored as a line"
)
"""The rule for texts that have no other."""

Seed = Annotated[int, Range(0, 2**63 - 1, "the results table stores it in 64 bits")]
Width = Annotated[int, Range(1, 2**20, "no layer is wider, and products of widths stay exact in 64 bits")]
LayerCount = Annotated[int, Range(1, 4_096, "no stack is deeper, and a plan lists its layers")]
LayerIndex = Annotated[int, Range(0, 4_095, "no stack is deeper")]
EndLayers = Annotated[int, Range(0, 4_096, "no stack is deeper")]
Recurrences = Annotated[int, Range(1, 4_096, "no stack is deeper, however often its layers are applied")]
Heads = Annotated[int, Range(1, 65_536, "each has two values of the model's width or more")]
Experts = Annotated[int, Range(1, 2**20, "the router scores each of them for every token")]
SharedExperts = Annotated[int, Range(0, 4_096, "every token passes through each of them")]
Slots = Annotated[int, Range(1, 2**40, "a larger table has no machine to be on")]
Selected = Annotated[int, Range(1, 65_536, "each is read for every head and token")]
VocabSize = Annotated[int, Range(1, 2**24, "the logits of a token are one row of as many numbers")]
TokenCount = Annotated[float, Range(0, 1e18, "counts of tokens stay exact in 64 bits", above_low=True)]
WholeTokens = Annotated[int, Range(1, 10**18, "counts of tokens stay exact in 64 bits")]
SequenceLength = Annotated[int, Range(8, 2**24, "attention compares each token with as many")]
BatchTokens = Annotated[int, Range(1, 2**36, "one step sees them all")]
Flops = Annotated[float, Range(0, 1e32, "a million times the largest training so far", above_low=True)]
Exposures = Annotated[float, Range(0, 1e6, "every fact has long been learnt", above_low=True)]
PerParameter = Annotated[float, Range(0, 1e9, "tokens or bits for each parameter", above_low=True)]
Rate = Annotated[float, Range(0, 1e3, "a step of AdamW moves each weight by about the rate", above_low=True)]
Factor = Annotated[float, Range(0, 1e6, "a factor on a rate, a batch or a weight", above_low=True)]
Decay = Annotated[float, Range(0, 1e3, "a step shrinks weights by rate x decay")]
LossWeight = Annotated[float, Range(0, 1e6, "a weight beside the loss of 1")]
Share = Annotated[float, Range(0, 1, "it is a share")]
Count = Annotated[int, Range(1, 10**9, "no machine counts through more")]
Bytes = Annotated[int, Range(10_000, 10**15, "a petabyte is more than a disk holds; less than 10 kB is no text")]
Seconds = Annotated[float, Range(0, 1e8, "three years", above_low=True)]
Minutes = Annotated[int, Range(1, 5_256_000, "ten years")]
Tries = Annotated[int, Range(0, 10**6, "more is without limit: null")]
Hardware = Annotated[int, Range(1, 10**6, "no machine has more")]
Gpus = Annotated[int, Range(0, 1_024, "no node has more")]
Threshold = Annotated[float, Range(0, 1e32, "no run has more parameters or FLOPs")]

Prose = Annotated[
    str, Text(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*", "text without control characters", "it is shown", 20_000)
]
SlurmWord = Annotated[
    str, Text(r"[^\s\x00-\x1f\x7f\ud800-\udfff]+", "one word without spaces", "it becomes an option of sbatch")
]
SlurmMemory = Annotated[
    str,
    Text(r"\d{1,12}([KMGTkmgt]([iI]?[bB])?)?", "a whole number and a unit, such as 64G", "sbatch reads it; 0: all", 20),
]
DeviceMemory = Annotated[
    str,
    Text(
        r"\s*(?=[0-9.]*[1-9])[0-9]{1,12}(\.[0-9]{1,12})?\s*[KMGTkmgt]?([iI]?[bB])?\s*",
        "a number and a unit, such as 80G or 512M",
        "the forecast compares it with what a model needs",
        40,
    ),
]
ShellWord = Annotated[
    str, Text(r"[^\x00-\x1f\x7f\ud800-\udfff]+", "one option on a line of its own", "srun reads it", 1_000)
]
ShellLine = Annotated[str, Text(r"[^\x00\ud800-\udfff]*", "text without NUL", "a shell reads it", 20_000)]
Column = Annotated[str, Text(r"[^\x00\ud800-\udfff]+", "the name of a column", "a column has a name", 1_000)]


class RangeError(ConfigError):
    """A value is outside the range of its field; the codec puts the field's place before `problem`."""

    def __init__(self, field: str, problem: str) -> None:
        """`field` is a name in its class, `problem` what follows it, such as 'is 0; it must be at least 1'."""
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


class Checked:
    """A dataclass whose fields are checked against the ranges of their types. Raises RangeError."""

    def __post_init__(self) -> None:
        """Check every field; a class with checks of its own calls this first."""
        cls: Any = type(self)
        for name, low, high, numbers in _numbers(cls):  # millions of times per plan
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RangeError(name, numbers.problem(value) or f"is {value}; it must be {numbers}")
        for name, rule, several in _others(cls):
            value = getattr(self, name)
            for one in value if several and isinstance(value, tuple) else (value,):
                if one is None or (isinstance(one, str) is isinstance(rule, Range)):
                    continue  # null, or the other kind of a key that takes a word or numbers
                problem = rule.problem(one)
                if problem is not None:
                    raise RangeError(name, problem)


def rules(cls: type) -> dict[str, tuple[tuple[Rule, bool], ...]]:
    """Return for every field of a dataclass its rules, each with whether it holds for the elements of a tuple."""
    found = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        if typing.get_origin(hint) is not typing.ClassVar:
            found[name] = tuple(_rules_of(hint, several=False))
    return found


def _rules_of(hint: Any, *, several: bool) -> typing.Iterator[tuple[Rule, bool]]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        yield from ((one, several) for one in hint.__metadata__ if isinstance(one, Range | OneOf | Text))
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            yield from _rules_of(argument, several=several)
    elif origin is tuple:
        yield from _rules_of(arguments[0], several=True)
    elif hint is str:
        yield LINE, several


@functools.cache
def _numbers(cls: Any) -> tuple[tuple[str, float, float, Range], ...]:
    """The fields that are one number: name, smallest, largest, rule."""
    found = [(name, held[0][0]) for name, held in rules(cls).items() if len(held) == 1 and not held[0][1]]
    return tuple((name, rule.least, rule.high, rule) for name, rule in found if isinstance(rule, Range))


@functools.cache
def _others(cls: Any) -> tuple[tuple[str, Rule, bool], ...]:
    """Every other rule: name, rule, whether it holds for the elements of a tuple."""
    numbers = {name for name, *_ in _numbers(cls)}
    return tuple((name, rule, many) for name, held in rules(cls).items() if name not in numbers for rule, many in held)


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 10**7:
        return f"{int(value):,}"
    if isinstance(value, int):
        return f"{value:,}" if value.bit_length() < 40 or value == 2**63 - 1 else f"{value:.3g}"
    return f"{value:g}".replace("e+", "e")
