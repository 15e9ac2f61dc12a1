"""Training data: weighted sources, one tokenizer for all of them, and the share of each that is held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from memscale.config.checks import require
from memscale.config.names import FolderName
from memscale.config.ranges import Bytes, Checked, Column, Count, Factor, OneOf, PerParameter, Range, Seed

OnBadRows = Annotated[str, OneOf(("refuse", "skip"))]
HeldOut = Annotated[float, Range(0.001, 0.5, "both sides need text")]
Asked = Annotated[float, Range(0.01, 1, "training and evaluation need questions")]
DenseCount = Annotated[int, Range(10, 2**24, "its key would have four words; give facts more value_words instead")]
Passes = Annotated[int, Range(1, 1_000, "later epochs repeat them")]
ValueWords = Annotated[int, Range(1, 16, "longer values are text, not facts")]
People = Annotated[int, Range(10, 100_000_000, "their names run out, and fewer make no questions")]
Documents = Annotated[int, Range(1, 1_000_000, "there are no more wordings")]
Values = Annotated[int, Range(2, 64, "each attribute has as many words")]
Choices = Annotated[int, Range(2, 64, "they are values of one attribute")]


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What can be counted of a source of facts."""

    num_facts: int
    bits: float
    """Entropy of all facts together."""
    tokens_per_fact: float | None = None
    """Training tokens in which a fact is read once; None: not known, so exposures cannot be asked for."""


@dataclass(frozen=True, kw_only=True)
class Source(Checked):
    """The settings that every source has; `kind` chooses the subclass."""

    kind: ClassVar[str]

    name: FolderName
    """The key in the YAML; part of the names of metrics and files."""
    weight: Factor = 1.0
    """Share of the training tokens, relative to the other sources' weights."""
    held_out: HeldOut = 0.05
    """Fraction of the documents kept for validation, chosen by a hash of each document's content
    (facts: of each person's descriptions; dense_facts holds out one wording of each fact instead)."""

    @property
    def by_budget(self) -> bool:
        """Whether its size follows from the dense model of each budget, so that budgets have data of their own."""
        return False

    def sized(self, num_params: float, bits_per_parameter: float | None = None) -> Source:  # noqa: ARG002
        """Return the source as a budget reads it; itself where its size does not follow from the budget.

        Args:
            num_params: Non-embedding parameters of the budget's dense model.
            bits_per_parameter: What the budget asks for; None: what the source says.

        Raises:
            ConfigError: That makes too few or too many facts.
        """
        return self

    @property
    def knowledge(self) -> Knowledge | None:
        """What can be counted of its facts; None: it has none, or its size is not known yet."""
        return None


NUM_ATTRIBUTES = 6
"""Facts about each synthetic person."""


@dataclass(frozen=True, kw_only=True)
class Facts(Source):
    """Synthetic people with six attributes each, drawn uniformly, so that the information content is known in bits.

    Each person has `num_documents` different documents. Held out from training are some descriptions, one sentence
    template per attribute, and a share of the questions, whose facts then occur in training as statements only.
    """

    kind: ClassVar[str] = "facts"

    num_people: People | None = None
    """None: derived from `bits_per_parameter` when the sweep is planned."""
    bits_per_parameter: PerParameter = 0.2
    """Bits of facts per non-embedding parameter of the smallest dense model of the sweep."""
    num_documents: Documents = 30
    """Different training documents about each person; later epochs repeat them."""
    num_values: Values = 64
    """Possible values of each attribute; one fact has log2(num_values) bits."""
    question_share: Annotated[float, Range(0, 0.9, "the rest describes the people")] = 0.2
    """Fraction of the documents that are questions with answers instead of a description."""
    held_out_questions: Asked = 0.4
    """Fraction of the (person, attribute) questions that training never asks."""
    num_eval_questions: Count = 400
    """Held-out questions that each trained model is evaluated on; all of them where there are fewer."""
    num_choices: Choices = 8
    """Choices of a multiple-choice question, the right answer included."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.num_choices <= self.num_values,
            f"num_choices is {self.num_choices}, but an attribute has only {self.num_values} values; lower num_choices",
        )

    @property
    def bits_per_person(self) -> float:
        """Entropy of one person's attributes: NUM_ATTRIBUTES x log2(num_values), since they are independent."""
        return NUM_ATTRIBUTES * math.log2(self.num_values)

    @property
    def knowledge(self) -> Knowledge | None:
        """Six facts a person; how many tokens tell one is not known, since documents tell several in many wordings."""
        if self.num_people is None:
            return None
        return Knowledge(num_facts=NUM_ATTRIBUTES * self.num_people, bits=self.bits_per_person * self.num_people)


NUM_VALUE_WORDS = 64
"""Words for each place of a value of dense facts: one that is drawn uniformly has log2(NUM_VALUE_WORDS) = 6 bits."""
NUM_KEY_WORDS = 128
"""Words for each place of a key."""
LEAST_FACTS = 10
"""Fewer dense facts make no evaluation."""
ENTRIES_PER_DOCUMENT = 32
"""Dense facts in a document."""


@dataclass(frozen=True, kw_only=True)
class DenseFacts(Source):
    """Synthetic facts with many bits per token: a key of two words or more, and a value of random words.

    Each fact is told in several wordings, of which one, another one from fact to fact, is held out from training and
    asked in the evaluation. The bits stored in a model are counted against the entropy of the values.
    """

    kind: ClassVar[str] = "dense_facts"

    num_facts: DenseCount | None = None
    """None: `bits_per_parameter` for each non-embedding parameter of each budget's own dense model."""
    bits_per_parameter: PerParameter = 1.0
    """Bits of values offered per non-embedding parameter of a budget's dense model; a budget may have its own."""
    value_words: ValueWords = 4
    """Words of a value, of 6 bits each."""
    num_passes: Passes = 3
    """Times that every fact is written, each time in a new order and in turn in another of its wordings; later epochs
    repeat them."""
    num_eval_facts: Count = 2_000
    """Facts that each trained model is asked; all of them where there are fewer."""
    seed: Seed = 0

    @property
    def bits_per_fact(self) -> float:
        """Entropy of a value: 6 bits for each of its words, which are drawn uniformly and independently."""
        return self.value_words * math.log2(NUM_VALUE_WORDS)

    @property
    def key_words(self) -> int:
        """Words of a key: two, or as many as make `num_facts` different keys."""
        words = 2
        while NUM_KEY_WORDS**words < (self.num_facts or 0):
            words += 1
        return words

    @property
    def tokens_per_fact(self) -> float:
        """Tokens of an entry where each word is one token.

        A mark, the words of key and value, the end of the line, and a share of the document's end token.
        """
        return self.key_words + self.value_words + 2 + 1 / ENTRIES_PER_DOCUMENT

    @property
    def bits_offered(self) -> float | None:
        """Entropy of all values; None before the facts are sized."""
        return None if self.num_facts is None else self.num_facts * self.bits_per_fact

    @property
    def by_budget(self) -> bool:
        """Whether `num_facts` is to follow from the dense model of each budget."""
        return self.num_facts is None

    @property
    def knowledge(self) -> Knowledge | None:
        """Its facts, their entropy, and the tokens of an entry."""
        if self.num_facts is None:
            return None
        bits = self.num_facts * self.bits_per_fact
        return Knowledge(num_facts=self.num_facts, bits=bits, tokens_per_fact=self.tokens_per_fact)

    def sized(self, num_params: float, bits_per_parameter: float | None = None) -> DenseFacts:
        """Return the source with `num_facts` by its rule, unless it is set.

        num_facts = bits_per_parameter x num_params / bits_per_fact, rounded.

        Args:
            num_params: Non-embedding parameters of the dense model.
            bits_per_parameter: Replaces the source's own; None: the source's own.

        Raises:
            ConfigError: There would be fewer than 10 facts, or more than 2^24.
        """
        if self.num_facts is not None:
            return self
        bits = self.bits_per_parameter if bits_per_parameter is None else bits_per_parameter
        num_facts = round(bits * num_params / self.bits_per_fact)
        require(
            num_facts >= LEAST_FACTS,
            f"data.sources.{self.name}: {bits:g} bits for each of {num_params:,.0f} dense parameters make {num_facts} "
            f"facts; at least {LEAST_FACTS} are needed. Raise bits_per_parameter",
        )
        return replace(self, num_facts=num_facts)


@dataclass(frozen=True, kw_only=True)
class PythonStdlib(Source):
    """The source code of the running Python's standard library, one document a file: real text on every machine."""

    kind: ClassVar[str] = "python_stdlib"

    max_bytes: Bytes = 8_000_000
    """Files are added in the order of a hash of their names until this many bytes are reached."""


@dataclass(frozen=True, kw_only=True)
class TextFiles(Source):
    """The user's own `.txt`, `.jsonl`, `.jsonl.gz` and `.parquet` files."""

    kind: ClassVar[str] = "text_files"

    files: tuple[str, ...] = ()
    """Paths or glob patterns; empty: those of `data.files`."""
    text_column: Column = "text"
    """Column of `.jsonl` and `.parquet` files that holds the text."""
    on_bad_rows: OnBadRows = "refuse"
    """What becomes of rows that are not UTF-8, not JSON, nested without end, or whose text is missing or null: `refuse`
    the data with file and row, or `skip` and count them."""


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
    text_column: Column = "text"
    on_bad_rows: OnBadRows = "refuse"
    """What becomes of rows whose text is missing or null: `refuse` the data, or `skip` and count them."""
    max_documents: Annotated[int, Range(2, 10**12, "one for each side of the split")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.path), "path is empty; give the data set's name on the hub or the folder of a local copy")


SOURCES: tuple[type[Source], ...] = (Facts, DenseFacts, PythonStdlib, TextFiles, Hub)
TOKENIZERS = ("bpe",)


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Checked):
    """Settings of the byte-level BPE that is trained on the training documents of all sources."""

    kind: Annotated[str, OneOf(TOKENIZERS)] = "bpe"
    vocab_size: Annotated[int, Range(260, 2**24, "every byte and the end token come first")] = 1024
    train_bytes: Bytes = 4_000_000
    """Bytes of text to train the tokenizer on, divided among the sources by weight."""


@dataclass(frozen=True, kw_only=True)
class Data(Checked):
    """The mixture of sources that a sweep trains on."""

    name: str
    sources: tuple[Source, ...]
    """In YAML a mapping from each source's name to its keys."""
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    files: tuple[str, ...] = ()
    """Files of those `text_files` sources that list none themselves."""
    validation_tokens: Count = 16_384
    """Held-out tokens of each source that one validation reads; all of them where there are fewer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.sources) > 0, "sources is empty; a model needs at least one source to read")
