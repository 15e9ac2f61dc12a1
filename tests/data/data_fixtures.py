"""Small mixtures on real text for the tests of this folder, and the paths of the shared data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memscale.config.data import Data, Facts, PythonStdlib, Source, TextFiles, TokenizerConfig

SHARED = Path(os.environ.get("MEMSCALE_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data")

_HERE = Path(__file__).parent
CHILD = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_HERE.parents[1]), str(_HERE)])}
"""Environment in which a child process finds memscale, installed or not, and the modules of this folder."""

WIKITEXT = sorted((SHARED / "text").glob("wikitext2_*.txt"))
needs_wikitext = pytest.mark.skipif(not WIKITEXT, reason=f"no wikitext2_*.txt in {SHARED}/text (set MEMSCALE_DATA_DIR)")


def facts(num_people: int = 40, num_documents: int = 8, name: str = "facts", **settings: object) -> Facts:
    return Facts(name=name, num_people=num_people, num_documents=num_documents, **settings)


def stdlib(max_bytes: int = 300_000, name: str = "code", **settings: object) -> PythonStdlib:
    return PythonStdlib(name=name, max_bytes=max_bytes, **settings)


def text(*files: object, name: str = "text", **settings: object) -> TextFiles:
    return TextFiles(name=name, files=tuple(str(file) for file in files), **settings)


def mixture(*sources: Source, vocab_size: int = 400, **settings: object) -> Data:
    tokenizer = TokenizerConfig(vocab_size=vocab_size, train_bytes=200_000)
    return Data(name="test", sources=sources, tokenizer=tokenizer, **settings)
