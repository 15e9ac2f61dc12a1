"""Prepared data, which training and evaluation read: one folder that all runs of a budget share, or of a sweep.

`<root>/data/<first 16 digits of the digest>/` has manifest.json, tokenizer.json, tokens/<source>.<split>.bin (each with
the digests of its blocks beside it), evaluation/<name>.jsonl, and in verified/ what each machine has verified.
`prepare` builds it (`memscale.data.building`) or finds it; `Prepared.open` refuses an incomplete folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memscale.config.codec import to_plain
from memscale.config.data import Data, DenseFacts
from memscale.config.run import Digests
from memscale.data import manifest as manifests
from memscale.data import verification
from memscale.data.building import build
from memscale.data.manifest import Manifest, PreparedSource
from memscale.data.packed import Tokens, read_tokens
from memscale.data.philox import Integers
from memscale.data.sampling import Sampler, Stream
from memscale.data.tokenizer import Tokenizer
from memscale.data.verification import CheckedBlocks, VerifiedFile
from memscale.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """Windows over the first held-out tokens of a source; every token is predicted once."""

    tokens: Integers
    """[windows, sequence_length + 1]; the targets of a row are its inputs shifted by one. The first input is an end
    token."""
    num_bytes: int
    """UTF-8 bytes of the text of all targets; end tokens have none."""


class Prepared:
    """An open folder of prepared data.

    Example:
        >>> from memscale.config.data import Facts, TokenizerConfig
        >>> mixture = Data(name="example", sources=(Facts(name="facts", num_people=20),),
        ...                tokenizer=TokenizerConfig(vocab_size=300, train_bytes=20_000))
        >>> data = prepare(mixture, Path("runs"))
        >>> data.source_names, data.knowledge_bits
        (('facts',), 720.0)
        >>> batches = data.sampler(seed=0, sequence_length=64, batch_sequences=4)
        >>> batches.batch(0).shape  # inputs and targets overlap, so one token more
        (4, 65)
        >>> text = data.tokenizer()
        >>> text.decode(text.encode("Ada was born in Rome."))
        'Ada was born in Rome.'
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use `Prepared.open` or `prepare`."""
        self.folder, self.manifest = folder, manifest
        self._checked: dict[str, CheckedBlocks] = {}

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Open a folder and compare the sizes of its files with the manifest. Raises DataError."""
        return cls(folder, manifests.read(folder))

    def verify(self) -> None:
        """Read every file and compare its digest with the manifest. Raises DataError, which names file and block."""
        verification.verify(self.folder, self.manifest)

    def verify_once(self) -> tuple[VerifiedFile, ...]:
        """Make sure that the files are what the manifest says; what this machine has read before is not read again.

        Of very large files the blocks are checked from now on when `sampler` or `validation` reads them. Raises
        DataError.
        """
        found = verification.verify_once(self.folder, self.manifest)
        item_bytes = np.dtype(self.manifest.dtype).itemsize
        for file in verification.large_files(self.manifest):
            self._checked[file.path] = CheckedBlocks(self.folder, file, item_bytes)
        return found

    def manifest_json(self) -> dict[str, Any]:
        """Return the manifest as plain values."""
        plain: dict[str, Any] = to_plain(self.manifest)
        return plain

    @property
    def digests(self) -> Digests:
        """SHA-256 of data, tokenizer and evaluation sets."""
        return self.manifest.digests

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.manifest.vocab_size

    @property
    def knowledge_bits(self) -> float | None:
        """Entropy of the facts in bits; None without facts."""
        return self.manifest.knowledge_bits

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of the sources, in the order of the configuration."""
        return tuple(source.name for source in self.manifest.sources)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """Names of the evaluation sets, for `evaluation_set`."""
        return self.manifest.evaluation_sets

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer. Raises DataError where its file is damaged."""
        return Tokenizer(self.folder / "tokenizer.json", self.vocab_size)

    def sampler(self, *, seed: int, sequence_length: int, batch_sequences: int) -> Sampler:
        """Return random access to the training batches of a run.

        Raises DataError where a source has fewer tokens than one sequence, or weights have no short exact ratio.
        """
        streams = [
            Stream(
                name=source.name,
                weight=source.weight,
                tokens=self.tokens(source.name, "train"),
                checked=self._checked.get(_token_file(source.name, "train")),
                in_order=source.kind == DenseFacts.kind,
            )
            for source in self.manifest.sources
        ]
        return Sampler(streams, seed=seed, sequence_length=sequence_length, batch_sequences=batch_sequences)

    def validation(self, source_name: str, *, sequence_length: int, max_tokens: int) -> ValidationSet:
        """Return windows over the first `max_tokens` held-out tokens of a source.

        Whole windows only, and at least one. Raises DataError where the source has fewer tokens than one window.
        """
        tokens = self.tokens(source_name, "validation")
        num_windows = max(1, min(max_tokens, len(tokens)) // sequence_length)
        if len(tokens) < sequence_length:
            raise DataError(
                f"source '{source_name}' has {len(tokens)} held-out tokens; one sequence needs {sequence_length}. "
                f"Give it more text, raise data.sources.{source_name}.held_out, or set a shorter scale.sequence_length"
            )
        if (checked := self._checked.get(_token_file(source_name, "validation"))) is not None:
            checked.check(0, num_windows * sequence_length)
        targets = np.asarray(tokens[: num_windows * sequence_length], dtype=np.int64)
        tokenizer = self.tokenizer()
        starts = np.arange(num_windows)[:, None] * sequence_length
        windows = np.concatenate([[tokenizer.end_id], targets])[starts + np.arange(sequence_length + 1)]
        return ValidationSet(tokens=windows, num_bytes=int(tokenizer.num_bytes_of[targets].sum()))

    def evaluation_set(self, name: str) -> Path:
        """Return the JSONL file of an evaluation set. Raises DataError for an unknown name."""
        if name not in self.evaluation_sets:
            raise DataError(
                f"the prepared data have no evaluation set '{name}'; there are: {', '.join(self.evaluation_sets)}."
                f"{nearest(name, self.evaluation_sets)}"
            )
        return self.folder / "evaluation" / f"{name}.jsonl"

    def tokens(self, source_name: str, split: str) -> Tokens:
        """Return all tokens of a split of a source ('train' or 'validation'), memory-mapped, [tokens]."""
        source = self._source(source_name)
        return read_tokens(self.folder / _token_file(source.name, split), self.manifest.dtype)

    def _source(self, name: str) -> PreparedSource:
        for source in self.manifest.sources:
            if source.name == name:
                return source
        raise DataError(
            f"the prepared data have no source '{name}'; there are: {', '.join(self.source_names)}."
            f"{nearest(name, self.source_names)}"
        )


def _token_file(source_name: str, split: str) -> str:
    return f"tokens/{source_name}.{split}.bin"


def prepare(
    data: Data, root: Path, *, tokenizer_data: Data | None = None, progress: Callable[[str, float], None] | None = None
) -> Prepared:
    """Return the prepared data of a mixture; build them under `root`/data where they do not exist.

    Args:
        data: The mixture, with every source of facts sized.
        root: The folder of all runs; the data are in its subfolder `data`.
        tokenizer_data: The mixture that the tokenizer is trained on; None: `data`.
        progress: Called with a description of the current phase and the completed fraction of all work, 0 to 1.

    Returns:
        The open folder. Of several processes that prepare the same data, one builds and the others wait.

    Raises:
        DataError: A source is missing, unreadable, empty, or changed during the build.
    """
    return Prepared.open(build(data, root, progress or (lambda _what, _share: None), tokenizer_data or data))
