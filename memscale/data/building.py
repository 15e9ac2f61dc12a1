"""Builds a folder of prepared data: tokenizer, token files, evaluation sets, manifest.

1. A lease, released when its process dies, keeps two processes from building the same data.
2. Everything is written to a temporary folder beside the final one and flushed to disk. Leftovers of a killed build are
   removed first.
3. The sources are fingerprinted again; data that changed meanwhile are refused.
4. The folder is renamed, so that its final name exists only for complete data.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from memscale.config.data import Data, DenseFacts, Facts
from memscale.config.run import Digests
from memscale.data import dense_facts, facts_questions
from memscale.data import manifest as manifests
from memscale.data.corpora import Corpus, open_corpus, skipped_rows
from memscale.data.facts import People, knowledge_bits
from memscale.data.fingerprint import DIGITS, fingerprint, prepared_folder
from memscale.data.manifest import Manifest, PreparedSource
from memscale.data.packed import dtype_for, write_tokens
from memscale.data.split import key_of
from memscale.data.tokenizer import Tokenizer, trained
from memscale.errors import DataError
from memscale.records.access import make_folder
from memscale.records.atomic import fsync_directory
from memscale.records.lease import Lease, LeaseTakenError

Progress = Callable[[str, float], None]

HELD_OUT_TEXTS = 32
"""Largest number of documents of a held-out text set."""
HELD_OUT_TEXT_CHARACTERS = 2_000
"""Characters of each that are scored, so that an evaluation takes seconds."""

# Fractions of the total time at which each phase ends, for the progress; roughly measured on a laptop.
_READ, _TRAINED, _ENCODED = 0.15, 0.4, 0.95


def build(data: Data, root: Path, progress: Progress, tokenizer_data: Data) -> Path:
    """Return the folder of the prepared data under `root`/data, and build it where it does not exist.

    The tokenizer is trained on `tokenizer_data`, which may be `data`. Waits while another process builds the same data.
    Raises DataError where a source is unusable, the disk is full, or the sources change during the build.
    """
    digests = fingerprint(data, tokenizer_data)
    folder = prepared_folder(root, digests)
    make_folder(folder.parent)
    while not folder.exists():
        try:
            with Lease(root / "data" / f"{folder.name}.lock", "the preparation of these data"):
                if not folder.exists():
                    builder = _Builder(
                        data, tokenizer_data, digests, _aside(folder), folder.parent / "tokenizers", progress
                    )
                    _build_held(builder, folder)
        except LeaseTakenError:
            progress("waiting for another process that prepares the same data", 0.0)
            time.sleep(0.5)
    progress("data are ready", 1.0)
    return folder


def _aside(folder: Path) -> Path:
    """Return the name of a temporary folder beside `folder`."""
    return folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def _build_held(builder: _Builder, folder: Path) -> None:
    """Build beside `folder` and rename. The caller holds the lease, so leftovers of this name belong to no process."""
    aside = builder.aside
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, aside, ignore_errors=True)
        try:
            builder.build()
            _flush(aside)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(
                f"the disk that holds {folder.parent} is full ({error.strerror}); the data could not be prepared and "
                "nothing was kept. Free space there, or set MEMSCALE_RUNS to a folder on another disk"
            ) from None
        if fingerprint(builder.data, builder.tokenizer_data) != builder.digests:
            raise DataError(
                "the data changed while they were being prepared; nothing was kept. Run the same command again when "
                "their files are at rest"
            )
        os.rename(aside, folder)
        fsync_directory(folder.parent)


@dataclass(frozen=True)
class _Builder:
    data: Data
    tokenizer_data: Data
    digests: Digests
    aside: Path
    tokenizers: Path
    progress: Progress

    def build(self) -> None:
        started = time.monotonic()
        scratch = self.aside / "scratch"
        for inner in (scratch, self.aside / "tokens", self.aside / "evaluation"):
            inner.mkdir(parents=True)
        corpora = self._open(self.data)
        num_bytes = self._measure(corpora)
        tokenizer = self._tokenizer(corpora, num_bytes)
        sources = self._token_files(corpora, num_bytes, tokenizer)
        self.progress("writing the evaluation sets", _ENCODED)
        names = self._evaluation_sets(corpora)
        shutil.rmtree(scratch)
        self._manifest(sources, names, time.monotonic() - started)

    def _open(self, data: Data) -> dict[str, Corpus]:
        return {source.name: open_corpus(source, data, self.aside / "scratch") for source in data.sources}

    def _measure(self, corpora: Mapping[str, Corpus]) -> dict[str, int]:
        """Return the bytes of training text of each source."""
        num_bytes = {}
        for done, (name, corpus) in enumerate(corpora.items()):
            self.progress(f"reading {name}", _READ * done / len(corpora))
            num_bytes[name] = sum(len(text.encode()) for text in corpus.training())
        return num_bytes

    def _tokenizer(self, corpora: Mapping[str, Corpus], num_bytes: Mapping[str, int]) -> Tokenizer:
        self.progress("training the tokenizer", _READ)
        file = self.tokenizers / f"{self.digests.tokenizer[:DIGITS]}.json"
        tokenizer = trained(file, self.data.tokenizer, lambda: self._sample(corpora, num_bytes), self._words())
        shutil.copyfile(file, self.aside / "tokenizer.json")
        return tokenizer

    def _sample(self, corpora: Mapping[str, Corpus], num_bytes: Mapping[str, int]) -> Iterator[str]:
        """Yield about `train_bytes` of training documents, divided by weight and selected by hash."""
        data = self.tokenizer_data
        if data != self.data:
            corpora = self._open(data)
            num_bytes = self._measure(corpora)
        # Words that are tokens already teach the tokenizer nothing.
        others = [source for source in data.sources if not isinstance(source, DenseFacts)]
        sources = others or data.sources
        all_weights = sum(source.weight for source in sources)
        for source in sources:
            wanted = data.tokenizer.train_bytes * source.weight / all_weights
            below = wanted / num_bytes[source.name] * 2.0**64
            # A prefix gives other hashes than those of the split, which held out the smallest ones.
            yield from (text for text in corpora[source.name].training() if key_of("sample\0" + text) < below)

    def _words(self) -> tuple[str, ...]:
        has_dense_facts = any(isinstance(source, DenseFacts) for source in self.tokenizer_data.sources)
        return dense_facts.WORDS if has_dense_facts else ()

    def _token_files(
        self, corpora: Mapping[str, Corpus], num_bytes: Mapping[str, int], tokenizer: Tokenizer
    ) -> tuple[PreparedSource, ...]:
        done, total = 0, sum(num_bytes.values())
        prepared = []
        for source in self.data.sources:
            corpus, before = corpora[source.name], done

            def report(now: int, before: int = before, name: str = source.name) -> None:
                share = min(1.0, (before + now) / total)
                self.progress(f"encoding {name}", _TRAINED + (_ENCODED - _TRAINED) * share)

            report(0)
            files = (self.aside / "tokens" / f"{source.name}.{split}.bin" for split in manifests.SPLITS)
            train = write_tokens(next(files), corpus.training(), tokenizer, report)
            validation = write_tokens(next(files), corpus.held_out(), tokenizer, lambda _now: None)
            done += num_bytes[source.name]
            prepared.append(
                PreparedSource(
                    name=source.name,
                    kind=source.kind,
                    weight=source.weight,
                    train=train,
                    validation=validation,
                    skipped=skipped_rows(source, self.data, self.aside / "scratch"),
                )
            )
        return tuple(prepared)

    def _evaluation_sets(self, corpora: Mapping[str, Corpus]) -> tuple[str, ...]:
        sets: dict[str, list[dict[str, object]]] = {}
        for name, corpus in corpora.items():
            sets |= _sets_of(name, corpus)
        for name, lines in sets.items():
            with open(self.aside / "evaluation" / f"{name}.jsonl", "w", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        return tuple(sets)

    def _manifest(self, sources: tuple[PreparedSource, ...], names: tuple[str, ...], seconds: float) -> None:
        bits = [
            knowledge_bits(source.num_people, source.num_values)
            for source in self.data.sources
            if isinstance(source, Facts) and source.num_people is not None
        ]
        files = sorted(path for path in self.aside.rglob("*") if path.is_file())
        packages = ("numpy", "tokenizers")
        versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
        manifest = Manifest(
            digests=self.digests,
            vocab_size=self.data.tokenizer.vocab_size,
            dtype=dtype_for(self.data.tokenizer.vocab_size),
            knowledge_bits=bits[0] if bits else None,
            validation_tokens=self.data.validation_tokens,
            sources=sources,
            evaluation_sets=names,
            files=tuple(manifests.describe_files(self.aside, files)),
            versions=(f"python {platform.python_version()}", *versions),
            seconds=round(seconds, 3),
        )
        manifests.write(self.aside, manifest)


def _sets_of(name: str, corpus: Corpus) -> dict[str, list[dict[str, object]]]:
    if isinstance(corpus, People):
        return facts_questions.evaluation_sets(corpus)
    if isinstance(corpus, dense_facts.DenseEntries):
        return {"dense_facts": dense_facts.evaluation_set(corpus)}
    return {f"held_out_{name}": _texts(corpus)}


def _texts(corpus: Corpus) -> list[dict[str, object]]:
    """Return the beginnings of the first held-out documents with their `num_bytes`."""
    lines: list[dict[str, object]] = []
    for text in corpus.held_out():
        if len(lines) == HELD_OUT_TEXTS:
            break
        beginning = text[:HELD_OUT_TEXT_CHARACTERS]
        lines.append({"text": beginning, "num_bytes": len(beginning.encode())})
    return lines


def _flush(folder: Path) -> None:
    """Fsync every file and directory of `folder`."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            fsync_directory(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    fsync_directory(folder)
