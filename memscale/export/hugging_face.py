"""Maps a model's weights to the Hugging Face model type that computes the same function.

The type:

1. dense: Llama.
2. Softmax scores, renormalised, experts in every layer, none shared: Mixtral.
3. Other softmax scores (not renormalised, dense layers between, shared experts): Qwen2-MoE.
4. Sigmoid scores, with or without a balance bias, dense layers only before the first expert layer: GLM-4-MoE.
5. `expert_choice` is exported as what it is in evaluation: token choice. Memory layers, looped models and experts that
   the token's id names (`hash`) have no type; DeepSeek-V4 has such experts, in a decoder of another kind. OLMoE fits
   none of our models, since it always normalises queries and keys.

The differences that are converted:

1. Rotary positions rotate the pairs (i, i + W / 2) of a head there and (2 i, 2 i + 1) here: rows of queries and keys
   are reordered.
2. Fused matrices are split.
3. The shared expert of Qwen2-MoE has a gate sigmoid(x . g). With g = 0 it is 1/2, so the output matrix is doubled,
   which is exact.

Checked against transformers 5.23; 4.57 also loads these folders, except Qwen2-MoE models with heads x head width
different from d_model, which it refuses.

Shapes: D model width, W width of a head, E experts, F hidden width, H heads, G key/value heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from memscale.config.architecture import Architecture
from memscale.config.layers import MoE
from memscale.errors import ConfigError
from memscale.models.transformer import Transformer

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
}
"""Hugging Face `model_type` -> class of transformers."""
_GROUPED = 8
"""transformers 5 runs experts with torch's grouped_mm, which needs rows of a multiple of 16 bytes (8 bfloat16 values).
For other widths config.json selects one matrix product per expert."""


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """The content of config.json and of model.safetensors."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def mapped(model: Transformer, *, sequence_length: int, end_id: int) -> Mapped:
    """Return the configuration and the tensors of `model` for a Hugging Face type.

    Args:
        model: A trained model.
        sequence_length: The sequence length of training, as `max_position_embeddings`.
        end_id: The end-of-document token, as start and end token.

    Raises:
        ConfigError: No type computes the same function.

    Example:
        >>> model = Transformer(Architecture(family="dense", d_model=32, num_layers=1, num_heads=2, num_kv_heads=2,
        ...                                  head_width=16, ffn_hidden=64, vocab_size=300))
        >>> exported = mapped(model, sequence_length=128, end_id=0)
        >>> exported.config["model_type"], tuple(exported.tensors["model.layers.0.self_attn.q_proj.weight"].shape)
        ('llama', (32, 32))
    """
    a = model.architecture
    kind = hugging_face_type(a)
    tensors = {name: value.detach().contiguous() for name, value in _tensors(model, kind)}
    config = {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "vocab_size": a.vocab_size,
        "hidden_size": a.d_model,
        "intermediate_size": a.ffn_hidden,
        "num_hidden_layers": a.num_layers,
        "num_attention_heads": a.num_heads,
        "num_key_value_heads": a.num_kv_heads,
        "head_dim": a.head_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": sequence_length,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_theta,  # where 4.x looks
        "rope_parameters": {"rope_type": "default", "rope_theta": a.rope_theta},
        "tie_word_embeddings": a.tied_embeddings,
        "bos_token_id": end_id,  # documents start after an end token, as in training
        "eos_token_id": end_id,
        "dtype": str(model.embedding.weight.dtype).removeprefix("torch."),
        **(_expert_config(a, a.moe, kind) if a.moe is not None else {}),
    }
    return Mapped(config=config, tensors=tensors)


def hugging_face_type(a: Architecture) -> str:
    """Return the type that can represent `a`, a key of CLASSES. Raises ConfigError with the reason where none can.

    Example:
        >>> hugging_face_type(Architecture(family="dense", d_model=64, num_layers=4, num_heads=4, num_kv_heads=2,
        ...                                head_width=16, ffn_hidden=176, vocab_size=1024))
        'llama'
    """
    if a.loop is not None:
        raise ConfigError(
            "no Hugging Face type applies layers several times with the same weights, as the family 'looped' does "
            "(Huginn's own code has other norms, and starts from noise); runs of dense and moe can be exported"
        )
    if a.family not in ("dense", "moe"):
        raise ConfigError(
            f"no Hugging Face type holds the layers of the family '{a.family}'; runs of dense and moe can be exported"
        )
    if a.moe is None:
        if a.d_model % a.num_heads:
            raise ConfigError(
                f"transformers refuses a Llama whose width ({a.d_model}) is not a multiple of its heads "
                f"({a.num_heads}); choose num_heads accordingly to export such models"
            )
        return "llama"
    if not a.moe.has_router:
        raise ConfigError(
            "no Hugging Face type holds experts that the token's id names (routing 'hash'); runs with the routings "
            "token_choice and expert_choice can be exported"
        )
    moe, everywhere = a.moe, a.moe.layers == tuple(range(a.num_layers))
    if moe.scores == "softmax":
        if moe.balance == "bias":
            raise ConfigError(
                "no Hugging Face type has both softmax scores and a bias that chooses experts (balance 'bias'); "
                "with scores 'sigmoid' GLM-4-MoE has, with balance 'loss' or 'none' Mixtral or Qwen2-MoE"
            )
        return "mixtral" if everywhere and moe.renormalise and not moe.shared_experts else "qwen2_moe"
    if moe.layers != tuple(range(moe.layers[0], a.num_layers)):
        raise ConfigError(
            f"experts with sigmoid scores are in the layers {list(moe.layers)} of {a.num_layers}; GLM-4-MoE, which "
            "holds them, has dense layers before all its expert layers only"
        )
    if moe.num_experts < 2:
        raise ConfigError("a single expert with sigmoid scores cannot be exported: GLM-4-MoE needs two or more")
    return "glm4_moe"


def _expert_config(a: Architecture, moe: MoE, kind: str) -> dict[str, Any]:
    """Return the entries of config.json about experts."""
    per_token: dict[str, Any] = {"num_experts_per_tok": moe.experts_per_token, "output_router_logits": False}
    if a.d_model % _GROUPED or moe.expert_hidden % _GROUPED:
        per_token["experts_implementation"] = "eager"
    if kind == "mixtral":
        return {
            **per_token,
            "num_local_experts": moe.num_experts,
            "intermediate_size": moe.expert_hidden,
            "sliding_window": None,
        }
    others = {**per_token, "moe_intermediate_size": moe.expert_hidden, "norm_topk_prob": moe.renormalise}
    if kind == "qwen2_moe":
        return {
            **others,
            "num_experts": moe.num_experts,
            "shared_expert_intermediate_size": moe.shared_experts * moe.expert_hidden,
            "mlp_only_layers": [layer for layer in range(a.num_layers) if layer not in moe.layers],
            "decoder_sparse_step": 1,
            "qkv_bias": False,
        }
    return {
        **others,
        "n_routed_experts": moe.num_experts,
        "n_shared_experts": moe.shared_experts,
        "first_k_dense_replace": moe.layers[0],
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 1.0,
        "use_qk_norm": False,
        "partial_rotary_factor": 1.0,
        "num_nextn_predict_layers": 0,
    }


def _tensors(model: Transformer, kind: str) -> Iterator[tuple[str, Tensor]]:
    a, ours = model.architecture, model.state_dict()
    yield "model.embed_tokens.weight", ours["embedding.weight"]
    for layer in range(a.num_layers):
        prefix = f"model.layers.{layer}."
        block = {name.split(".", 2)[2]: value for name, value in ours.items() if name.startswith(f"blocks.{layer}.")}
        yield prefix + "input_layernorm.weight", block["attention_norm.weight"]
        yield prefix + "post_attention_layernorm.weight", block["slot_norm.weight"]
        for name, value in _attention(a, block["attention.qkv.weight"]):
            yield f"{prefix}self_attn.{name}.weight", value
        yield prefix + "self_attn.o_proj.weight", block["attention.out.weight"]
        if a.feed_forward_kind(layer) == "moe":
            for name, value in _EXPERTS[kind](block):
                yield prefix + name, value
        else:
            for name, value in _swiglu(block["slot.gate_up.weight"], block["slot.down.weight"]):
                yield f"{prefix}mlp.{name}.weight", value
    yield "model.norm.weight", ours["norm.weight"]
    if not a.tied_embeddings:
        yield "lm_head.weight", ours["head.weight"]


def _attention(a: Architecture, qkv: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Split the fused [(H + 2 G) W, D]; reorder the rows that are rotated: first of every pair, then second."""
    heads = qkv.view(-1, a.head_width, a.d_model)
    queries, keys, values = torch.split(heads, [a.num_heads, a.num_kv_heads, a.num_kv_heads])
    for name, turned in (("q_proj", queries), ("k_proj", keys)):
        yield name, torch.cat([turned[:, 0::2], turned[:, 1::2]], dim=1).flatten(0, 1)
    yield "v_proj", values.flatten(0, 1)


def _swiglu(gate_up: Tensor, down: Tensor) -> Iterator[tuple[str, Tensor]]:
    gate, up = gate_up.chunk(2)
    yield from (("gate_proj", gate), ("up_proj", up), ("down_proj", down))


def _routed(block: dict[str, Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
    for expert, (gate_up, down) in enumerate(zip(block["slot.gate_up"], block["slot.down"], strict=True)):
        yield expert, gate_up, down


def _mixtral(block: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    names = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    yield "block_sparse_moe.gate.weight", block["slot.router.weight"]
    for expert, gate_up, down in _routed(block):
        for name, value in _swiglu(gate_up, down):
            yield f"block_sparse_moe.experts.{expert}.{names[name]}.weight", value


def _listed(block: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the router and the routed experts under the names of all types but Mixtral."""
    yield "mlp.gate.weight", block["slot.router.weight"]
    for expert, gate_up, down in _routed(block):
        for name, value in _swiglu(gate_up, down):
            yield f"mlp.experts.{expert}.{name}.weight", value


def _qwen2_moe(block: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from _listed(block)
    gate_up, down = _shared(block)
    for name, value in _swiglu(gate_up, 2 * down):  # its gate halves them
        yield f"mlp.shared_expert.{name}.weight", value
    yield "mlp.shared_expert_gate.weight", gate_up.new_zeros(1, gate_up.shape[1])


def _glm4_moe(block: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield from _listed(block)
    router = block["slot.router.weight"]
    yield "mlp.gate.e_score_correction_bias", block.get("slot.balance_bias", router.new_zeros(len(router)))
    for name, value in _swiglu(*_shared(block)):
        yield f"mlp.shared_experts.{name}.weight", value


def _shared(block: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return all shared experts as one: a sum of SwiGLUs is the SwiGLU of the concatenated hidden units."""
    if "slot.shared.gate_up.weight" in block:
        return block["slot.shared.gate_up.weight"], block["slot.shared.down.weight"]
    router = block["slot.router.weight"]
    return router.new_empty(0, router.shape[1]), router.new_empty(router.shape[1], 0)


_EXPERTS = {"mixtral": _mixtral, "qwen2_moe": _qwen2_moe, "glm4_moe": _glm4_moe}
