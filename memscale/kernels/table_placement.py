"""Where a table, its gradient's rows and the optimizer's state of them lie: on the device, in host memory, in a file.

On the device a step reads rows where they are. Tables larger than a GPU's memory lie in pinned host memory and are
optimised there, by the CPU's kernels: a step fetches the rows it reads, and sends back the gradients that they are made
of, which are smaller. Tables larger than the machine's memory lie in a file: the rows in use are in the page cache, the
rest on the disk. The file has no name, so that nothing is left of it, whatever ends the process.
Refuses a placement it does not know, and a file without a folder or with no room.
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
"""Bytes from which memory is asked for in huge pages: rows read at random would else miss the page table's cache."""


@dataclass(frozen=True, kw_only=True)
class TablePlacement:
    """A placement."""

    placement: str = "device"
    folder: Path | None = None
    """Of the file; needed for the placement 'file' alone."""

    def __post_init__(self) -> None:
        one_of("table_memory", self.placement, TABLE_MEMORIES)
        require(
            self.placement != "file" or self.folder is not None,
            "table_memory is 'file', which needs a folder to lay the file in",
        )

    @property
    def staged(self) -> bool:
        """Whether a step fetches rows before it reads them."""
        return self.placement != "device"

    def zeros(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """Return a tensor of zeros, for a model on `device`. Raises ConfigError."""
        device = torch.device(device)
        num_bytes = torch.Size(shape).numel() * dtype.itemsize
        if self.placement == "file":
            return torch.frombuffer(self._file(num_bytes), dtype=dtype).view(*shape)
        if self.placement == "host" and device.type == "cuda":
            return torch.zeros(*shape, dtype=dtype, pin_memory=True)
        if device.type == "cpu" and num_bytes >= _HUGE:
            return torch.frombuffer(_anonymous(num_bytes), dtype=dtype).view(*shape)
        return torch.zeros(*shape, dtype=dtype, device=device)

    def _file(self, num_bytes: int) -> mmap.mmap:
        """Map a file that is removed from its folder at once, and goes when the mapping does."""
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        require(
            num_bytes <= free,
            f"a table's file needs {num_bytes / 1e9:.3g} GB in {self.folder}, where {free / 1e9:.3g} GB are free; make "
            "room, or take a smaller table",
        )
        with tempfile.TemporaryFile(dir=self.folder) as file:
            # Reserved now, for a write to a mapped page has no way to say that the disk is full.
            os.posix_fallocate(file.fileno(), 0, num_bytes)
            return mmap.mmap(file.fileno(), num_bytes)


ON_DEVICE = TablePlacement()


def _anonymous(num_bytes: int) -> mmap.mmap:
    mapped = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapped.madvise(mmap.MADV_HUGEPAGE)
    return mapped
