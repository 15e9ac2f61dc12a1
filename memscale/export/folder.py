"""Writes a Hugging Face folder atomically: into a temporary folder that is renamed when complete.

Refuses a folder that is not empty. The tokenizer is an exact copy of the run's tokenizer.json.
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
    """Write a folder that `transformers` loads with `from_pretrained`.

    Args:
        folder: Where to write; absent or empty.
        content: Configuration and tensors (`memscale.export.hugging_face.mapped`).
        tokenizer_file: The tokenizer.json to copy.

    Raises:
        RecordError: `folder` exists and is not an empty folder.
    """
    folder = folder.absolute()
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    aside.mkdir()
    try:
        # Some versions of transformers refuse weights without this metadata.
        save_file(content.tensors, aside / "model.safetensors", metadata={"format": "pt"})
        shutil.copyfile(tokenizer_file, aside / "tokenizer.json")
        for name, plain in _json_files(content.config).items():
            (aside / name).write_text(json.dumps(plain, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        # safetensors makes the file readable for its owner only; give it the mode of the other files.
        shutil.copymode(aside / "config.json", aside / "model.safetensors")
        for path in aside.iterdir():
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        fsync_directory(aside)
        os.rename(aside, folder)  # replaces an empty folder, and fails for any other
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
            "split_special_tokens": True,  # the end token's name in a text is ordinary text
        },
    }
