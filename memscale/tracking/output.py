"""What MLflow and the libraries below it write to a terminal or a log, without the secrets of the store's address."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from memscale.records.masking import has_secret, scrubbed


class Scrubbing(io.TextIOBase):
    """Writes to another stream what it is given, with an address's secrets masked."""

    def __init__(self, stream: TextIO, address: str) -> None:
        self._stream, self._address = stream, address

    def write(self, text: str) -> int:
        """Write text; a message is written in one piece, as logging and tracebacks do."""
        self._stream.write(scrubbed(text, self._address))
        return len(text)

    def flush(self) -> None:
        """Flush the stream below."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream below."""
        return self._stream.encoding


def scrub_output(address: str) -> None:
    """From now on this process writes no secret of `address` to its standard output and error."""
    if has_secret(address):
        sys.stdout, sys.stderr = Scrubbing(sys.stdout, address), Scrubbing(sys.stderr, address)
