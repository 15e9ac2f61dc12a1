"""The safetensors writer against the safetensors library."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from memscale.training.tensor_file import write_tensors

TENSORS = {
    "matrix": torch.randn(7, 5, generator=torch.Generator().manual_seed(0)),
    "halves": torch.linspace(-3, 3, 9, dtype=torch.bfloat16),
    "transposed": torch.arange(12, dtype=torch.int64).reshape(3, 4).T,
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.zeros(0, 3),
    "flags": torch.tensor([True, False, True]),
}


def test_the_library_reads_back_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    write_tensors(path, TENSORS)
    loaded = load_file(path)
    assert loaded.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_returns_the_sum_of_what_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    digest = write_tensors(path, TENSORS)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(TENSORS)


def test_an_unknown_type_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "some.safetensors", {"complex": torch.zeros(2, dtype=torch.complex64)})
    assert not list(tmp_path.iterdir())
