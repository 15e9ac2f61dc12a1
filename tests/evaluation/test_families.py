"""The models of every family behind the adapter, and a control that stays at chance while a model learns."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lm_eval.api.instance import Instance

from memscale.config.architecture import Architecture
from memscale.config.data import Data, Facts, TokenizerConfig
from memscale.config.layers import Memory, MoE, Peer
from memscale.config.loop import Loop
from memscale.config.token_layers import NGram, TokenTable
from memscale.data.facts import People
from memscale.data.facts_questions import facts_nll
from memscale.data.prepared import Prepared, prepare
from memscale.evaluation.adapter import LanguageModel
from memscale.evaluation.measure import evaluate
from memscale.models.transformer import Transformer, build

VOCAB = 320
FACTS = Facts(name="facts", num_people=60, num_documents=2, num_eval_questions=80, num_choices=4)
KEYS = {"layers": (1,), "num_keys": 16, "num_heads": 2, "knn": 4, "key_width": 16}
PARTS = {
    "dense": {},
    "moe": {
        "moe": MoE(layers=(0, 1), num_experts=4, experts_per_token=1, expert_hidden=32, renormalise=False),
    },
    "pkm": {"memory": Memory(**KEYS, value_width=32, shared_table=False, gated=False, query_norm="batch")},
    "memory": {"memory": Memory(**KEYS, value_width=32, gated=False)},
    "memory_plus": {"memory": Memory(**KEYS, value_width=32, qk_norm=True)},
    "peer": {"peer": Peer(**KEYS, query_norm="batch")},
    "ngram": {"ngram": NGram(layers=(0, 1), num_heads=2, rows_per_head=900, row_width=8, conv_width=3)},
    "token_table": {"token_table": TokenTable(layers=(0, 1), use="up", row_width=64)},
    "looped": {"loop": Loop(prelude=1, recurrent=1, coda=0, recurrences=2)},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(
        Data(name="facts", sources=(FACTS,), tokenizer=TokenizerConfig(vocab_size=VOCAB, train_bytes=20_000)),
        tmp_path_factory.mktemp("families"),
    )


def model_of(family: str) -> Transformer:
    architecture = Architecture(
        family=family,
        d_model=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_width=16,
        ffn_hidden=64,
        vocab_size=VOCAB,
        **PARTS[family],
    )
    return build(architecture, seed=1)


@pytest.mark.parametrize("family", PARTS)
def test_loglikelihoods_equal_a_direct_forward_pass(family: str, prepared: Prepared) -> None:
    model, tokenizer = model_of(family).eval(), prepared.tokenizer()
    items = list(facts_nll(People(FACTS)))[:30]
    pairs = [(item["prompt"], f" {item['answer']}.") for item in items]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    small, large = (
        LanguageModel(model, tokenizer, sequence_length=64, batch_tokens=tokens).loglikelihood(requests)
        for tokens in (1, 2048)
    )
    for (prompt, answer), (nats, _), (alone, _) in zip(pairs, large, small, strict=True):
        tokens = [tokenizer.end_id, *tokenizer.encode(prompt + answer)]
        num_answer = len(tokenizer.encode(answer))
        with torch.no_grad():
            nats_SV = model(torch.tensor([tokens[:-1]])).logits_BSV[0].log_softmax(-1)
        expected = nats_SV[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])][-num_answer:].sum().item()
        assert nats == pytest.approx(expected, abs=1e-4)
        assert alone == pytest.approx(expected, abs=1e-4)


def test_a_model_that_learns_the_answers_recalls_them_and_the_control_stays_at_chance(prepared: Prepared) -> None:
    model, tokenizer = model_of("dense"), prepared.tokenizer()
    rows = [
        [tokenizer.end_id, *tokenizer.encode(f"{item['prompt']} {item['answer']}.")]
        for item in facts_nll(People(FACTS))
    ]
    width = max(map(len, rows))
    tokens_BS = torch.tensor([row + [tokenizer.end_id] * (width - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        logits_BSV = model(tokens_BS[:, :-1]).logits_BSV
        optimizer.zero_grad()
        F.cross_entropy(logits_BSV.flatten(0, 1), tokens_BS[:, 1:].flatten()).backward()
        optimizer.step()
    tasks = ("facts_recall", "facts_recall_shuffled")
    scores = evaluate(model, prepared, tasks, sequence_length=64, batch_sequences=16, device="cpu")
    assert scores["facts_recall"]["acc"].value > 0.8
    control = scores["facts_recall_shuffled"]["acc"]
    chance = 1 / FACTS.num_choices
    assert abs(control.value - chance) <= 3 * math.sqrt(chance * (1 - chance) / control.num_samples)
