"""Writes safetensors files, hashing them on the way.

The format (eight bytes of header length, a JSON header, raw tensors) is simple enough to write directly. That takes one
pass over the data instead of two, needs no second copy of it in memory, and reports a full disk as the OSError it is.
The safetensors library reads them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 8


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write `tensors` to `path`, wait until they are on the disk, and return the file's SHA-256 in hexadecimal.

    Raises:
        OSError: The disk is full, or the file cannot be written.
    """
    header = memoryview(_header(tensors))
    digest = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        for content in chain((header,), map(_bytes, tensors.values())):
            digest.update(content)
            written = 0
            while written < content.nbytes:  # an unbuffered write may take only a part
                written += file.write(content[written:])
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(tensors: Mapping[str, torch.Tensor]) -> bytes:
    entries, start = {}, 0
    for name, tensor in tensors.items():
        end = start + tensor.nbytes
        entries[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return len(header).to_bytes(8, "little") + header


def _bytes(tensor: torch.Tensor) -> memoryview:
    """Return the tensor's memory, copied only where it lies on another device or is not contiguous."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data
