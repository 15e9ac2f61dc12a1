"""The back ends of the memory kernels, and which of them runs on a given tensor.

A back end is a pair of modules of `memscale.kernels` with the same functions, so that every op is written once:

| modules | what they do | functions |
|---|---|---|
| `bags_torch`, `bags_numba`, `bags_triton` | sums over bags of rows | `embedding_bag`, `per_sample_weight_grad`, ... |
| `rows_torch`, `rows_numba`, `rows_triton` | AdamW on rows | `catch_up`, `update` |

"torch" runs every type on every device and is the reference in tests; "numba" runs float32 and float64 on the CPU;
"triton" runs float16, bfloat16, float32 and float64 on a GPU (anywhere under TRITON_INTERPRET=1).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from types import ModuleType

import torch
from torch import Tensor

from memscale.errors import ConfigError, nearest

BACKENDS = ("torch", "numba", "triton")
NUMBA_TYPES = (torch.float32, torch.float64)
TRITON_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

log = logging.getLogger(__name__)


def choose_backend(like: Tensor, backend: str | None = None) -> str:
    """Return the name of the back end for tensors such as `like`.

    That is `backend` if given, else Numba on the CPU and Triton on a GPU where they run this type, else torch. The
    choice for each device and type is logged once.

    Raises:
        ConfigError: `backend` is unknown, not installed, or does not run this type on this device.
    """
    return _chosen(like.device.type, like.dtype, backend)


def bags(like: Tensor, backend: str | None = None) -> ModuleType:
    """Return the module that sums bags of rows for tensors such as `like`.

    Raises:
        ConfigError: As `choose_backend`.
    """
    return _module("bags", choose_backend(like, backend))


def rows(like: Tensor, backend: str | None = None) -> ModuleType:
    """Return the module that runs AdamW on rows of tables such as `like`.

    Raises:
        ConfigError: As `choose_backend`.
    """
    return _module("rows", choose_backend(like, backend))


@functools.cache
def _chosen(device: str, dtype: torch.dtype, asked: str | None) -> str:
    unable = {"torch": None, "numba": _numba_cannot(device, dtype), "triton": _triton_cannot(device, dtype)}
    if asked is not None:
        if asked not in BACKENDS:
            raise ConfigError(f"backend is '{asked}'; valid: {', '.join(BACKENDS)}.{nearest(asked, BACKENDS)}")
        if unable[asked] is not None:
            raise ConfigError(f"the {asked} back end {unable[asked]}; given was {dtype} on {device}. Use torch")
        return asked
    preferred = "numba" if device == "cpu" else "triton"
    chosen = "torch" if unable[preferred] is not None else preferred
    log.info("memory kernels for %s on %s: %s", str(dtype).removeprefix("torch."), device, chosen)
    return chosen


def _numba_cannot(device: str, dtype: torch.dtype) -> str | None:
    """What the back end needs, in words, if it cannot run this; else None."""
    return None if device == "cpu" and dtype in NUMBA_TYPES else "runs float32 and float64 on the CPU"


def _triton_cannot(device: str, dtype: torch.dtype) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "needs the package triton"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if (device == "cuda" or interpreted) and dtype in TRITON_TYPES:
        return None
    return "runs floating-point types on a GPU (or anywhere under TRITON_INTERPRET=1)"


@functools.cache
def _module(kind: str, backend: str) -> ModuleType:
    # Imported where first used: Numba takes half a second, Triton more.
    return importlib.import_module(f"memscale.kernels.{kind}_{backend}")
