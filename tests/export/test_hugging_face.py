"""Exported folders, loaded by `transformers`, against the models they were made of."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.config.data import Data, PythonStdlib, TokenizerConfig
from memscale.config.layers import MoE
from memscale.data.prepared import Prepared, prepare
from memscale.errors import ConfigError, RecordError
from memscale.export.folder import write_folder
from memscale.export.hugging_face import CLASSES, hugging_face_type, mapped
from memscale.models.transformer import Transformer, build
from tests.models.zoo import ZOO, architecture, hashed, moe, tokens_of

os.environ["HF_HUB_OFFLINE"] = "1"
LENGTH = 20


def everywhere(**changes: Any) -> MoE:
    return moe(**{"layers": (0, 1, 2), **changes})


def experts(part: MoE, **changes: Any) -> Architecture:
    return architecture("moe", moe=part, vocab_size=300, **changes)


TOP_1 = {"experts_per_token": 1, "renormalise": False}
HELD = {
    "MHA": ("llama", architecture("dense", vocab_size=300, num_kv_heads=4)),
    "GQA": ("llama", architecture("dense", vocab_size=300, rope_theta=300.0, norm_eps=1e-3)),
    "one key head, tied": ("llama", architecture("dense", vocab_size=300, num_kv_heads=1, tied_embeddings=True)),
    "top-2": ("mixtral", experts(everywhere(), rope_theta=300.0, norm_eps=1e-3)),
    "top-3, tied": ("mixtral", experts(everywhere(experts_per_token=3), tied_embeddings=True)),
    "all experts, rows of 16 bytes": ("mixtral", experts(everywhere(experts_per_token=5, expert_hidden=16))),
    "odd heads": ("mixtral", experts(everywhere(), num_heads=3, num_kv_heads=3)),
    "top-1": ("qwen2_moe", experts(everywhere(**TOP_1), rope_theta=300.0, norm_eps=1e-3)),
    "top-1, rows of 16 bytes": ("qwen2_moe", experts(everywhere(**TOP_1, expert_hidden=8))),
    "top-3, raw scores": ("qwen2_moe", experts(everywhere(experts_per_token=3, renormalise=False))),
    "some layers": ("qwen2_moe", experts(moe())),
    "shared": ("qwen2_moe", experts(everywhere(shared_experts=2), tied_embeddings=True)),
    "expert choice": (
        "qwen2_moe",
        experts(moe(**TOP_1, routing="expert_choice", balance="none"), num_kv_heads=1),
    ),
    "sigmoid": ("glm4_moe", experts(everywhere(scores="sigmoid"), rope_theta=300.0, norm_eps=1e-3)),
    "sigmoid, top-1": ("glm4_moe", experts(moe(layers=(2,), scores="sigmoid", **TOP_1), tied_embeddings=True)),
    "sigmoid, bias, shared": (
        "glm4_moe",
        experts(moe(layers=(1, 2), scores="sigmoid", balance="bias", bias_rate=0.05, shared_experts=1)),
    ),
}  # fmt: skip
held = pytest.mark.parametrize("name", HELD)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(
        Data(
            name="code",
            sources=(PythonStdlib(name="code", max_bytes=200_000),),
            tokenizer=TokenizerConfig(vocab_size=300, train_bytes=50_000),
        ),
        tmp_path_factory.mktemp("export"),
    )


def exported(model: Transformer, prepared: Prepared, folder: Path) -> Path:
    content = mapped(model, sequence_length=LENGTH, end_id=prepared.tokenizer().end_id)
    write_folder(folder, content, prepared.folder / "tokenizer.json")
    return folder


def loaded(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def text_tokens(prepared: Prepared, num_rows: int, seed: int = 0) -> Tensor:
    tokens = torch.from_numpy(prepared.tokens("code", "train")[: 40 * num_rows * LENGTH].astype("int64"))
    starts = torch.randint(len(tokens) - LENGTH, (num_rows, 1), generator=torch.Generator().manual_seed(seed))
    return tokens[starts + torch.arange(LENGTH)]


def trained(model: Transformer, prepared: Prepared, num_steps: int = 25) -> Transformer:
    """A few steps on real text, after which no norm gain is one and no weight is as it was drawn."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(num_steps):
        tokens = text_tokens(prepared, 8, seed=step)
        output = model.train()(tokens[:, :-1])
        optimizer.zero_grad()
        (F.cross_entropy(output.logits_BSV.flatten(0, 1), tokens[:, 1:].flatten()) + output.auxiliary_loss).backward()
        optimizer.step()
        for block in model.blocks:
            if hasattr(block.slot, "after_step"):
                block.slot.after_step()
    return model.eval()


@held
def test_transformers_computes_the_same_logits(name: str, prepared: Prepared, tmp_path: Path) -> None:
    kind, given = HELD[name]
    assert hugging_face_type(given) == kind
    for label, model in {"drawn": build(given, seed=1), "trained": trained(build(given, seed=2), prepared)}.items():
        theirs = loaded(exported(model.eval(), prepared, tmp_path / label))
        assert type(theirs).__name__ == CLASSES[kind]
        tokens = text_tokens(prepared, 6, seed=99)
        with torch.no_grad():
            found, expected = theirs(tokens).logits, model(tokens).logits_BSV
        assert found.dtype == expected.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
        assert expected.std() > 0.5  # logits that would show a difference


@held
def test_the_exported_model_has_the_parameters_of_ours(name: str, prepared: Prepared, tmp_path: Path) -> None:
    kind, given = HELD[name]
    theirs = loaded(exported(build(given, seed=1), prepared, tmp_path / "model"))
    extra = given.d_model * len(given.moe.layers) if given.moe is not None and kind == "qwen2_moe" else 0
    ours = sum(value.numel() for value in build(given, seed=1).parameters())
    assert sum(value.numel() for value in theirs.parameters()) == ours + extra  # Qwen2-MoE's shared gate, all zeros
    assert not getattr(theirs.config, "num_nextn_predict_layers", 0)  # no module that predicts several tokens
    assert theirs.config.max_position_embeddings == LENGTH
    for config in (theirs.config, theirs.generation_config):
        assert config.bos_token_id == config.eos_token_id == prepared.tokenizer().end_id


def test_transformers_generates_what_we_generate(prepared: Prepared, tmp_path: Path) -> None:
    model = trained(build(HELD["GQA"][1], seed=1), prepared)
    theirs = loaded(exported(model, prepared, tmp_path / "model"))
    tokens = text_tokens(prepared, 1, seed=5)[:, :6]
    generated = theirs.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=10)[0].tolist()
    expected = tokens[0].tolist()
    while len(expected) < len(generated):
        with torch.no_grad():
            expected.append(int(model(torch.tensor([expected])).logits_BSV[0, -1].argmax()))
    assert len(generated) > 8
    assert generated == expected


def test_the_tokenizer_gives_the_same_ids_and_the_text_back(prepared: Prepared, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = exported(build(HELD["GQA"][1], seed=1), prepared, tmp_path / "model")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(folder), prepared.tokenizer()
    texts = [
        Path(json.__file__).read_text(),
        Path(__file__).read_text(),
        "  two  spaces, a tab\t, don't , Grüße, 漢字, 🙂\n\n and <|end|> as text ",
        "",
    ]
    for text in texts:
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
    assert theirs.eos_token_id == theirs.bos_token_id == ours.end_id
    assert theirs.decode([ours.end_id, *ours.encode("a b")], skip_special_tokens=True) == "a b"


@pytest.mark.parametrize("name", [name for name, one in ZOO.items() if one.family not in ("dense", "moe")])
def test_tables_mixtures_and_loops_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"family '{ZOO[name].family}'"):
        mapped(build(ZOO[name], seed=0), sequence_length=8, end_id=0)


@pytest.mark.parametrize(
    "given, reason",
    [
        (experts(everywhere(balance="bias")), "softmax scores and a bias that chooses"),
        (experts(hashed()), "experts that the token's id names"),
        (experts(moe(scores="sigmoid")), r"in the layers \[0, 2\] of 3; GLM-4-MoE"),
        (experts(moe(num_experts=1, **TOP_1, scores="sigmoid", layers=(2,))), "a single expert"),
        (architecture("dense", num_heads=3, num_kv_heads=3), r"width \(16\) is not a multiple of its heads \(3\)"),
    ],
)
def test_what_no_type_computes_is_refused_with_the_reason(given: Architecture, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        hugging_face_type(given)


def test_a_folder_is_whole_or_absent_and_nothing_is_overwritten(prepared: Prepared, tmp_path: Path) -> None:
    model = build(HELD["GQA"][1], seed=1)
    content = mapped(model, sequence_length=LENGTH, end_id=0)
    with pytest.raises(OSError, match="nowhere"):
        write_folder(tmp_path / "a", content, tmp_path / "nowhere.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    folder = exported(model, prepared, tmp_path / "empty")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(before) == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    with pytest.raises(RecordError, match=r"not empty.*name another folder"):
        exported(build(HELD["GQA"][1], seed=2), prepared, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RecordError, match="is not a folder"):
        exported(model, prepared, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_the_weights_are_those_of_the_type_tensor_by_tensor(prepared: Prepared, tmp_path: Path) -> None:
    """transformers must not make up a tensor that is missing, nor leave one unread."""
    transformers = pytest.importorskip("transformers")
    for number, (_, given) in enumerate(HELD.values()):
        folder = exported(build(given, seed=1), prepared, tmp_path / str(number))
        _, told = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        assert not any(told[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_exporting_needs_no_transformers(prepared: Prepared, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from pathlib import Path\n"
        "from tests.export.test_hugging_face import HELD, exported\n"
        "from memscale.data.prepared import Prepared\n"
        "from memscale.models.transformer import build\n"
        f"exported(build(HELD['top-2'][1], seed=1), Prepared.open(Path({str(prepared.folder)!r})), "
        f"Path({str(tmp_path / 'out')!r}))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_tokens_of_the_vocabulary_beyond_the_tokenizer_exist_too(prepared: Prepared, tmp_path: Path) -> None:
    given = dataclasses.replace(HELD["GQA"][1], vocab_size=333)
    model = build(given, seed=1).eval()
    theirs = loaded(exported(model, prepared, tmp_path / "model"))
    tokens = tokens_of(given, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens).logits_BSV, rtol=0, atol=1e-4)
