"""A byte-level BPE: trained once per digest, kept as one file, read everywhere through one small wrapper.

Any text can be encoded and comes back byte for byte. The end-of-document token is id 0 and stands for no text: the
characters '<|end|>' in a document are encoded as ordinary text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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
    """Text to token ids and back. `file` is a tokenizer.json of the `tokenizers` library."""

    def __init__(self, file: Path, vocab_size: int) -> None:
        import tokenizers

        try:
            content = file.read_text()
            json.loads(content)
        except (OSError, ValueError) as error:  # the library itself raises bare Exception, so look first
            raise DataError(
                f"{file} is no tokenizer ({error}). Remove it; it is trained anew when next needed"
            ) from None
        self._inner = tokenizers.Tokenizer.from_str(content)
        self._inner.encode_special_tokens = True
        self.end_id = END_ID
        self.vocab_size = vocab_size
        """Ids are below this. A small text may teach fewer tokens; the ids left over are never used."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without an end token."""
        ids: list[int] = self._inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Return what `encode` returns for each text, on several threads."""
        return [coded.ids for coded in self._inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        """Return the text of the ids; end tokens stand for none, bytes that are no UTF-8 for U+FFFD."""
        text: str = self._inner.decode(ids, skip_special_tokens=True)
        return text

    @cached_property
    def num_bytes_of(self) -> Integers:
        """Bytes of text that each id stands for, [vocab_size]: in a byte-level BPE, one per character of the token."""
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, index in self._inner.get_vocab(with_added_tokens=True).items():
            lengths[index] = 0 if token == END else len(token)
        return lengths


def trained(file: Path, settings: config.TokenizerConfig, sample: Callable[[], Iterator[str]]) -> Tokenizer:
    """Return the tokenizer in `file`, trained on the sample first where it is not there yet."""
    if not file.exists():
        write_bytes(file, _train(settings, sample()).to_str().encode())
    return Tokenizer(file, settings.vocab_size)


def _train(settings: config.TokenizerConfig, sample: Iterator[str]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=[END],  # the first id
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # all 256 bytes: no text is unknown
        show_progress=False,
    )
    inner.train_from_iterator(sample, trainer)
    return inner
