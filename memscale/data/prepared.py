"""Prepared data: what training and evaluation read. One folder, made once, the same for every run of a sweep.

`<root>/data/<first 16 digits of the digest>/` holds manifest.json, tokenizer.json, tokens/<source>.<split>.bin and
evaluation/<name>.jsonl. `prepare` makes it (in `building`) or finds it made; `Prepared.open` refuses a folder that is
not whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memscale.config.codec import to_plain
from memscale.config.data import Data
from memscale.config.run import Digests
from memscale.data import manifest as manifests
from memscale.data.building import build
from memscale.data.manifest import Manifest, PreparedSource
from memscale.data.packed import Tokens, read_tokens
from memscale.data.philox import Integers
from memscale.data.sampling import Sampler, Stream
from memscale.data.tokenizer import Tokenizer
from memscale.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Windows that cover the beginning of a source's held-out tokens, every token predicted once."""

    tokens: Integers
    """[windows, sequence_length + 1]; each row's targets are its inputs shifted. The first input is an end token."""
    num_bytes: int
    """UTF-8 bytes of text that the targets stand for; end tokens stand for none."""


class Prepared:
    """A whole folder of prepared data, opened."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Open a folder, comparing its files' sizes with the manifest. Raises DataError."""
        return cls(folder, manifests.read(folder))

    def verify(self) -> None:
        """Read every file and compare its checksum. Raises DataError."""
        manifests.verify(self.folder, self.manifest)

    def manifest_json(self) -> dict[str, Any]:
        """Return the manifest as plain values."""
        plain: dict[str, Any] = to_plain(self.manifest)
        return plain

    @property
    def digests(self) -> Digests:
        return self.manifest.digests

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def knowledge_bits(self) -> float | None:
        """Entropy of the facts in bits; None without facts."""
        return self.manifest.knowledge_bits

    @property
    def source_names(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.manifest.sources)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the files that `evaluation_set` finds."""
        return self.manifest.evaluation_sets

    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.folder / "tokenizer.json", self.vocab_size)

    def sampler(self, *, seed: int, sequence_length: int, batch_sequences: int) -> Sampler:
        """Return the training batches of a run. Raises DataError where a source has less than one sequence."""
        streams = [
            Stream(name=source.name, weight=source.weight, tokens=self.tokens(source.name, "train"))
            for source in self.manifest.sources
        ]
        return Sampler(streams, seed=seed, sequence_length=sequence_length, batch_sequences=batch_sequences)

    def validation(self, source_name: str, *, sequence_length: int, max_tokens: int) -> ValidationSet:
        """Return windows over the first `max_tokens` held-out tokens (fewer where there are not as many).

        At least one window, and whole windows only. Raises DataError where there is not one.
        """
        tokens = self.tokens(source_name, "validation")
        num_windows = max(1, min(max_tokens, len(tokens)) // sequence_length)
        if len(tokens) < sequence_length:
            raise DataError(
                f"source '{source_name}' has {len(tokens)} held-out tokens; one sequence needs {sequence_length}. "
                f"Give it more text, raise data.sources.{source_name}.held_out, or set a shorter scale.sequence_length"
            )
        targets = np.asarray(tokens[: num_windows * sequence_length], dtype=np.int64)
        tokenizer = self.tokenizer()
        starts = np.arange(num_windows)[:, None] * sequence_length
        windows = np.concatenate([[tokenizer.end_id], targets])[starts + np.arange(sequence_length + 1)]
        return ValidationSet(tokens=windows, num_bytes=int(tokenizer.num_bytes_of[targets].sum()))

    def evaluation_set(self, name: str) -> Path:
        """Return the JSONL file of an evaluation set. Raises DataError for a name that is not there."""
        if name not in self.evaluation_sets:
            raise DataError(
                f"the prepared data have no evaluation set '{name}'; there are: {', '.join(self.evaluation_sets)}."
                f"{nearest(name, self.evaluation_sets)}"
            )
        return self.folder / "evaluation" / f"{name}.jsonl"

    def tokens(self, source_name: str, split: str) -> Tokens:
        """Return all tokens of a source's split ('train' or 'validation'), mapped into memory."""
        source = self._source(source_name)
        return read_tokens(self.folder / "tokens" / f"{source.name}.{split}.bin", self.manifest.dtype)

    def _source(self, name: str) -> PreparedSource:
        for source in self.manifest.sources:
            if source.name == name:
                return source
        raise DataError(
            f"the prepared data have no source '{name}'; there are: {', '.join(self.source_names)}."
            f"{nearest(name, self.source_names)}"
        )


def prepare(data: Data, root: Path, *, progress: Callable[[str, float], None] | None = None) -> Prepared:
    """Return the prepared data of a mixture, making them under `root`/data first where they are not there.

    `progress` is told what is being done and the share of all work done, 0 to 1. Of several processes that prepare the
    same data at once one works, and the others wait for it. Raises DataError.
    """
    return Prepared.open(build(data, root, progress or (lambda _what, _share: None)))
