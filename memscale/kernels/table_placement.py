"""Where a memory table and its optimizer state lie: in device memory, in host memory, or in a file.

- "device": a step reads rows where they are.
- "host": pinned host memory, for tables larger than a GPU's memory. Rows are optimised there by the CPU kernels; a step
  copies the rows it looks up to the GPU, and sends back slots, weights and token gradients, which are smaller.
- "file": a memory-mapped file, for tables larger than the machine's memory. Rows in use are in the page cache, the rest
  on the disk. The file is unlinked as soon as it is open, so nothing is left of it however the process ends.

Raises ConfigError for an unknown placement, and for a file without a folder or with too little space.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from memscale.config.checks import one_of, require
from memscale.config.launcher import TABLE_MEMORIES

_HUGE = 1 << 22
"""Bytes from which memory is allocated in huge pages: random row accesses would otherwise miss the TLB."""


@dataclass(frozen=True, kw_only=True)
class TablePlacement:
    """A placement of tables: `kind` is "device", "host" or "file".

    Raises:
        ConfigError: The kind is unknown, or "file" without a folder.
    """

    kind: str = "device"
    folder: Path | None = None
    """Folder of the file; needed for 'file' alone."""

    def __post_init__(self) -> None:
        one_of("table_memory", self.kind, TABLE_MEMORIES)
        require(
            self.kind != "file" or self.folder is not None,
            "table_memory is 'file', which needs a folder to lay the file in",
        )

    @property
    def staged(self) -> bool:
        """Whether a step copies rows to the model's device before it uses them."""
        return self.kind != "device"

    def zeros(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """Return a tensor of zeros of this shape and type, for a model on `device`.

        Raises:
            ConfigError: The file would need more space than its folder has.
        """
        device = torch.device(device)
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        if self.kind == "file":
            return torch.frombuffer(self._file(num_bytes), dtype=dtype).view(*shape)
        if self.kind == "host" and device.type == "cuda":
            return torch.zeros(*shape, dtype=dtype, pin_memory=True)
        if device.type == "cpu" and num_bytes >= _HUGE:
            return torch.frombuffer(_anonymous(num_bytes), dtype=dtype).view(*shape)
        return torch.zeros(*shape, dtype=dtype, device=device)

    def _file(self, num_bytes: int) -> mmap.mmap:
        """Map a file that is unlinked at once: its space is released with the mapping."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        require(
            num_bytes <= free,
            f"a table's file needs {num_bytes / 1e9:.3g} GB in {self.folder}, where {free / 1e9:.3g} GB are free; make "
            "room, or take a smaller table",
        )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            # Reserved now, because a write to a mapped page cannot report a full disk.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)


ON_DEVICE = TablePlacement()


def _anonymous(num_bytes: int) -> mmap.mmap:
    mapped = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped
