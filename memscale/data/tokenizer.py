"""A byte-level BPE tokenizer, trained once per digest and stored as one file.

Encoding is lossless for any text. The end-of-document token has the id 0 and no text: the characters '<|end|>' in a
document are encoded as ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memscale.config import data as config
from memscale.data.philox import Integers
from memscale.errors import DataError
from memscale.records.atomic import write_bytes

if TYPE_CHECKING:
    import tokenizers

END = "<|end|>"
END_ID = 0


class Tokenizer:
    """Converts between text and token ids.

    Example:
        >>> settings = config.TokenizerConfig(vocab_size=300, train_bytes=10_000)
        >>> text = trained(Path("tokenizer.json"), settings, lambda: iter(["one fish, two fish"] * 50))
        >>> ids = text.encode("two fish")
        >>> text.decode(ids), len(ids) < len("two fish")
        ('two fish', True)
    """

    def __init__(self, file: Path, vocab_size: int) -> None:
        """Load `file`, a tokenizer.json of the `tokenizers` library. Raises DataError where it is damaged."""
        import tokenizers

        try:
            content = file.read_text(encoding="utf-8")
            json.loads(content)
        except (OSError, ValueError) as error:  # the library raises bare Exception, so check first
            raise DataError(
                f"{file} is not a tokenizer ({error}). Remove it; it is trained again when needed"
            ) from None
        self._inner = tokenizers.Tokenizer.from_str(content)
        self._inner.encode_special_tokens = True
        self.end_id = END_ID
        self.vocab_size = vocab_size
        """Ids are below this. A small text may give fewer tokens; the remaining ids are not used."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without an end token."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Encode each text as `encode` does, on several threads."""
        return [coded.ids for coded in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of the ids; end tokens have none, and invalid UTF-8 becomes U+FFFD."""
        text: str = self._inner.decode(ids, skip_special_tokens=True)
        return text

    @cached_property
    def num_bytes_of(self) -> Integers:
        """Bytes of text of each id, [vocab_size]: in a byte-level BPE one per character of the token."""
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, index in self._inner.get_vocab(with_added_tokens=True).items():
            lengths[index] = 0 if token == END else len(token)
        return lengths


def trained(
    file: Path, settings: config.TokenizerConfig, sample: Callable[[], Iterator[str]], words: Sequence[str] = ()
) -> Tokenizer:
    """Return the tokenizer in `file`; where there is none, train it on the texts of `sample()` first.

    Each of `words` becomes one token, together with the space before it; the last ids of the vocabulary are theirs.
    """
    if not file.exists():
        write_bytes(file, _train(settings, sample(), words).to_str().encode())
    return Tokenizer(file, settings.vocab_size)


def _train(settings: config.TokenizerConfig, sample: Iterator[str], words: Sequence[str]) -> tokenizers.Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size - len(words),
        special_tokens=[END],  # the first id
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # all 256 bytes: no text is unknown
        show_progress=False,
    )
    inner.train_from_iterator(sample, trainer)
    inner.add_tokens([AddedToken(f" {word}", normalized=False) for word in words])
    return inner
