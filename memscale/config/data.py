"""Training data: weighted sources, one tokenizer for all of them, and the share of each that is held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from memscale.config.checks import at_least, between, one_of, positive, require


@dataclass(frozen=True, kw_only=True)
class Source:
    """The settings that every source has; `kind` chooses the subclass."""

    kind: ClassVar[str]

    name: str
    """The key in the YAML; part of the names of metrics and files."""
    weight: float = 1.0
    """Share of the training tokens, relative to the other sources' weights."""
    held_out: float = 0.05
    """Fraction of the documents kept for validation, chosen by a hash of each document's content
    (facts: of each person's descriptions)."""

    def __post_init__(self) -> None:
        positive("weight", self.weight)
        between("held_out", self.held_out, 0.001, 0.5)


NUM_ATTRIBUTES = 6
"""Facts about each synthetic person."""


@dataclass(frozen=True, kw_only=True)
class Facts(Source):
    """Synthetic people with six attributes each, drawn uniformly, so that the information content is known in bits.

    Each person has `num_documents` different documents. Held out from training are some descriptions, one sentence
    template per attribute, and a share of the questions, whose facts then occur in training as statements only.
    """

    kind: ClassVar[str] = "facts"

    num_people: int | None = None
    """None: derived from `bits_per_parameter` when the sweep is planned."""
    bits_per_parameter: float = 0.2
    """Bits of facts per non-embedding parameter of the smallest dense model of the sweep."""
    num_documents: int = 30
    """Different training documents about each person; later epochs repeat them."""
    num_values: int = 64
    """Possible values of each attribute; one fact has log2(num_values) bits."""
    question_share: float = 0.2
    """Fraction of the documents that are questions with answers instead of a description."""
    held_out_questions: float = 0.4
    """Fraction of the (person, attribute) questions that training never asks."""
    num_eval_questions: int = 400
    """Held-out questions that each trained model is evaluated on; all of them where there are fewer."""
    num_choices: int = 8
    """Choices of a multiple-choice question, the right answer included."""
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
        """Entropy of one person's attributes: NUM_ATTRIBUTES x log2(num_values), since they are independent."""
        return NUM_ATTRIBUTES * math.log2(self.num_values)


@dataclass(frozen=True, kw_only=True)
class PythonStdlib(Source):
    """The source code of the running Python's standard library, one document a file: real text on every machine."""

    kind: ClassVar[str] = "python_stdlib"

    max_bytes: int = 8_000_000
    """Files are added in the order of a hash of their names until this many bytes are reached."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("max_bytes", self.max_bytes, 10_000)


@dataclass(frozen=True, kw_only=True)
class TextFiles(Source):
    """The user's own `.txt`, `.jsonl`, `.jsonl.gz` and `.parquet` files."""

    kind: ClassVar[str] = "text_files"

    files: tuple[str, ...] = ()
    """Paths or glob patterns; empty: those of `data.files`."""
    text_column: str = "text"
    """Column of `.jsonl` and `.parquet` files that holds the text."""


@dataclass(frozen=True, kw_only=True)
class Hub(Source):
    """A data set of the Hugging Face hub, by its name or the path of a local copy; read with `datasets`."""

    kind: ClassVar[str] = "hf"

    path: str
    config_name: str | None = None
    """Configuration of a data set that has several."""
    split: str = "train"
    revision: str | None = None
    """Commit to read; required for a data set on the hub, so that a digest identifies one content."""
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
    """Settings of the byte-level BPE that is trained on the training documents of all sources."""

    kind: str = "bpe"
    vocab_size: int = 1024
    train_bytes: int = 4_000_000
    """Bytes of text to train the tokenizer on, divided among the sources by weight."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, TOKENIZERS)
        at_least("vocab_size", self.vocab_size, 260)
        at_least("train_bytes", self.train_bytes, 10_000)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The mixture of sources that a sweep trains on."""

    name: str
    sources: tuple[Source, ...]
    """In YAML a mapping from each source's name to its keys."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    files: tuple[str, ...] = ()
    """Files of those `text_files` sources that list none themselves."""
    validation_tokens: int = 16_384
    """Held-out tokens of each source that one validation reads; all of them where there are fewer."""

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "sources is empty; a model needs at least one source to read")
        at_least("validation_tokens", self.validation_tokens, 1)
