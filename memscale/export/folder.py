"""A Hugging Face folder on disk: written aside and renamed as a whole, so that it is complete or not there.

Refuses a folder that holds anything. The tokenizer is the run's own tokenizer.json, byte for byte.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from memscale.data.tokenizer import END
from memscale.errors import RecordError
from memscale.export.hugging_face import Mapped
from memscale.records.atomic import fsync_directory


def check_free(folder: Path) -> None:
    """Raise RecordError unless `folder` is absent, or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "is not empty" if folder.is_dir() else "is not a folder"
        raise RecordError(f"{folder} exists and {what}; an export never writes over anything: name another folder")


def write_folder(folder: Path, content: Mapped, tokenizer_file: Path) -> None:
    """Write what `transformers` reads with from_pretrained. Raises RecordError where `folder` holds anything."""
    folder = folder.absolute()
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir()
    try:
        # Some versions of transformers refuse weights that do not say whose they are.
        save_file(content.tensors, aside / "model.safetensors", metadata={"format": "pt"})
        shutil.copyfile(tokenizer_file, aside / "tokenizer.json")
        for name, plain in _json_files(content.config).items():
            (aside / name).write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        # safetensors keeps a file to its owner; who may read the others may read it.
        shutil.copymode(aside / "config.json", aside / "model.safetensors")
        for path in aside.iterdir():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        fsync_directory(aside)
        os.rename(aside, folder)  # an empty folder gives way, any other makes this fail
        fsync_directory(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _json_files(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    ends = {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]}
    return {
        "config.json": config,
        "generation_config.json": {**ends, "do_sample": False},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END,
            "eos_token": END,
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,  # 4.x would; 5.x never does
            "split_special_tokens": True,  # in a text, the end token's name is text
        },
    }
