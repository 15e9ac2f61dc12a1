"""JSON files that carry a SHA-256 over their own bytes, so that an edited, cut or mixed-up file is noticed when read.

The digest is a key of the file, `digest`, and is taken over the whole file with this value empty. It guards against
mistakes, not against somebody who computes it anew. A file without the key, as earlier versions wrote it, is read and
called unverified.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from memscale.errors import RecordError
from memscale.records.atomic import parse_json, read_bytes, write_bytes

_HEAD = re.compile(rb'\{\n "format": \d+,\n "digest": "([0-9a-f]{64})"')
_KEY = b'"digest"'
_HEAD_BYTES = 200
"""The key stands in the first bytes of a file, where it has one."""


def write_sealed(path: Path, content: dict[str, Any], *, format: int) -> None:
    """Write `content` with `format` and `digest` as its first keys, whole or not at all."""
    text = json.dumps({"format": format, "digest": "", **content}, indent=1, allow_nan=False) + "\n"
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_bytes(path, text.replace('"digest": ""', f'"digest": "{digest}"', 1).encode())


def read_sealed(path: Path, *, format: int) -> tuple[dict[str, Any], bool]:
    """Read a JSON object of at most this format.

    Returns:
        The object without `digest`, and whether a digest confirmed it (False: an earlier version wrote none).

    Raises:
        RecordError: The file is missing, unreadable, of a newer format, or not what was written.

    """
    raw = read_bytes(path)
    content = parse_json(path, raw, format=format)
    verified = check_seal(path, raw)
    content.pop("digest", None)
    return content, verified


def check_seal(path: Path, raw: bytes) -> bool:
    """Compare the bytes of a file with its own digest; return False where it has none. Raises RecordError."""
    head = _HEAD.match(raw)
    if head is None:
        if _KEY in raw[:_HEAD_BYTES]:
            raise RecordError(f"{path} was written anew by another program than memscale, or its beginning is damaged")
        return False
    start, end = head.span(1)
    found = hashlib.sha256(raw[:start] + raw[end:]).hexdigest().encode()
    if found != head[1]:
        raise RecordError(f"{path} is not what memscale wrote: its SHA-256 differs; it was edited, cut or copied over")
    return True
