"""What a model reads: weighted sources, one tokenizer for all of them, and how much of each is held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from memscale.config.checks import at_least, between, one_of, positive, require


@dataclass(frozen=True, kw_only=True)
class Source:
    """What every source has; `kind` chooses the class below."""

    kind: ClassVar[str]

    name: str
    """Its key in the YAML; names the source in metrics and files."""
    weight: float = 1.0
    """Share of the training tokens, relative to the other sources' weights."""
    held_out: float = 0.05
    """Fraction of the documents kept for validation, chosen by a hash of each document's content
    (facts: of each person's descriptions)."""

    def __post_init__(self) -> None:
        positive("weight", self.weight)
        between("held_out", self.held_out, 0.001, 0.5)


NUM_ATTRIBUTES = 6
"""Facts known of each invented person."""


@dataclass(frozen=True, kw_only=True)
class Facts(Source):
    """Invented people with six attributes each, drawn uniformly: the knowledge is known to the bit.

    Each person has `num_documents` different descriptions; held out are descriptions, some sentence templates, and a
    share of the questions (their facts are told in statements only).
    """

    kind: ClassVar[str] = "facts"

    num_people: int | None = None
    """None: sized from `bits_per_parameter`, the rule of the sweep, when the sweep is planned."""
    bits_per_parameter: float = 0.2
    """Knowledge in bits per non-embedding parameter of the smallest dense model of the sweep."""
    num_documents: int = 30
    """Different descriptions of each person to train on; later exposures repeat them."""
    num_values: int = 64
    """Values of each attribute; one fact holds log2(num_values) bits."""
    question_share: float = 0.2
    """Share of the documents that are question and answer instead of a description."""
    held_out_questions: float = 0.4
    """Share of the (person, attribute) questions never asked in training."""
    num_eval_questions: int = 400
    """Held-out questions put to each trained model (fewer where there are not as many)."""
    num_choices: int = 8
    """Answers offered per multiple-choice question, the right one among them."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_people is not None:
            at_least("num_people", self.num_people, 10)
        positive("bits_per_parameter", self.bits_per_parameter)
        at_least("num_documents", self.num_documents, 1)
        between("num_values", self.num_values, 2, 64)
        between("question_share", self.question_share, 0.0, 0.9)
        between("held_out_questions", self.held_out_questions, 0.01, 1.0)
        at_least("num_eval_questions", self.num_eval_questions, 1)
        between("num_choices", self.num_choices, 2, self.num_values)
        at_least("seed", self.seed, 0)

    @property
    def bits_per_person(self) -> float:
        """Each attribute is one of `num_values`, drawn uniformly and independently."""
        return NUM_ATTRIBUTES * math.log2(self.num_values)


@dataclass(frozen=True, kw_only=True)
class PythonStdlib(Source):
    """The source code of the running Python's standard library, split by file: real text that every machine has."""

    kind: ClassVar[str] = "python_stdlib"

    max_bytes: int = 8_000_000
    """Files are taken in the order of a hash of their names until this many bytes are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("max_bytes", self.max_bytes, 10_000)


@dataclass(frozen=True, kw_only=True)
class TextFiles(Source):
    """The user's own .txt, .jsonl, .jsonl.gz and .parquet files."""

    kind: ClassVar[str] = "text_files"

    files: tuple[str, ...] = ()
    """Paths or glob patterns; empty: those of `data.files`."""
    text_column: str = "text"
    """Column of .jsonl and .parquet files that holds the text."""


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """A data set by its Hugging Face name (or the path of a local copy), read through `datasets`."""

    kind: ClassVar[str] = "hf"

    path: str
    config_name: str | None = None
    """Configuration of the data set, where it has several."""
    split: str = "train"
    revision: str | None = None
    """Commit to read; needed for a data set on the hub, so that the digest means one content."""
    text_column: str = "text"
    max_documents: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.path), "path is empty; give the data set's name on the hub or the folder of a local copy")
        if self.max_documents is not None:
            at_least("max_documents", self.max_documents, 2)


SOURCES: tuple[type[Source], ...] = (Facts, PythonStdlib, TextFiles, Hub)
TOKENIZERS = ("bpe",)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """A byte-level BPE trained on the sources' training documents."""

    kind: str = "bpe"
    vocab_size: int = 1024
    train_bytes: int = 4_000_000
    """Text the tokenizer is trained on, divided among the sources by weight."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, TOKENIZERS)
        at_least("vocab_size", self.vocab_size, 260)
        at_least("train_bytes", self.train_bytes, 10_000)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The mixture a sweep trains on."""

    name: str
    sources: tuple[Source, ...]
    """In YAML a mapping from each source's name to its keys."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    files: tuple[str, ...] = ()
    """Files of the `text_files` sources that name none themselves."""
    validation_tokens: int = 16_384
    """Tokens of each source's held-out part that a validation reads (fewer where there are not as many)."""

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "sources is empty; a model needs at least one source to read")
        at_least("validation_tokens", self.validation_tokens, 1)
