"""Usage statistics against counts by hand and other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memscale.models.transformer import build
from memscale.models.usage import Usage
from tests.models.zoo import ZOO, tokens_of


def test_even_use_has_no_divergence_and_single_use_the_most() -> None:
    even, single = Usage(8), Usage(8)
    even.add(torch.full((8,), 3.0))
    single.add_at(torch.tensor([[5, 5], [5, 5]]), torch.ones(2, 2))
    assert even.kl_from_uniform == pytest.approx(0.0, abs=1e-12)
    assert (even.used_share, even.max_share) == (1.0, 0.125)
    assert single.kl_from_uniform == pytest.approx(math.log(8))
    assert (single.used_share, single.max_share) == (0.125, 1.0)


def test_additions_add_up() -> None:
    usage = Usage(4)
    usage.add_at(torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.5, 0.5]))
    usage.add_at(torch.tensor([3]), torch.tensor([2.0]))
    shares = [0.25, 0.25, 0.5]
    assert usage.kl_from_uniform == pytest.approx(math.log(4) + sum(share * math.log(share) for share in shares))
    assert usage.used_share == 0.75


SPREADS = {"kl", "gini", "top_percent_share"}


amounts = st.lists(st.floats(0.0, 1e6).map(lambda value: round(value, 3)), min_size=1, max_size=300).filter(any)


@given(amounts)
@settings(deadline=None)
def test_inequality_is_what_others_compute(given_amounts: list[float]) -> None:
    usage, size = Usage(len(given_amounts)), len(given_amounts)
    usage.add(torch.tensor(given_amounts))
    x = np.asarray(torch.tensor(given_amounts), dtype=np.float64)  # as float32 has them
    differences = np.abs(x[:, None] - x[None, :]).sum()
    assert usage.gini == pytest.approx(differences / (2 * size * x.sum()), abs=1e-9)
    assert usage.kl_from_uniform == pytest.approx(scipy.stats.entropy(x, np.ones(size)), abs=1e-9)
    assert usage.used_share == np.count_nonzero(x) / size
    top = sorted(x)[-max(1, size // 100) :]
    assert usage.top_percent_share == pytest.approx(sum(top) / x.sum())
    assert usage.max_share == pytest.approx(x.max() / x.sum())


def test_inequality_at_both_ends() -> None:
    even, single = Usage(400), Usage(400)
    even.add(torch.full((400,), 2.5))
    single.add_at(torch.tensor([7]), torch.tensor([3.0]))
    assert even.gini == pytest.approx(0.0, abs=1e-12)
    assert even.top_percent_share == pytest.approx(0.01)
    assert single.gini == pytest.approx(1 - 1 / 400)
    assert single.top_percent_share == 1.0


def test_nothing_is_said_before_anything_was_added() -> None:
    usage = Usage(4)
    assert all(
        math.isnan(value)
        for value in (usage.gini, usage.top_percent_share, usage.kl_from_uniform, usage.used_share, usage.max_share)
    )


def statistics(name: str) -> dict[str, float]:
    model = build(ZOO[name], seed=0).eval()
    model.start_statistics()
    with torch.no_grad():
        model(tokens_of(model.architecture, (2, 9)))
    return model.statistics()


@pytest.mark.parametrize("name", ZOO)
def test_names_and_ranges(name: str) -> None:
    values, a = statistics(name), ZOO[name]
    if a.loop is not None:
        assert list(values) == [f"loop_change_{i + 1}" for i in range(a.loop.recurrences)]
        assert all(0 < value < 3 for value in values.values())
        return
    named: dict[str, tuple[str, int]] = {}
    for kind, part in a.parts.items():
        if kind == "token_table":
            continue  # the text decides how often its rows are read
        figures = {"kl", "gini", "top_percent_share", "max_load_share" if kind == "moe" else "used_share"}
        for which, layer in enumerate(part.layers):
            size = {"moe": a.moe and a.moe.num_experts, "ngram": a.ngram and a.ngram.table_rows(which)}.get(kind) or 81
            ending = "" if kind == "memory" and a.memory.shared_table else f"_{layer}"
            named |= {f"{kind}_{figure}{ending}": (figure, size) for figure in figures}
    assert set(values) == set(named)
    for key, (figure, size) in named.items():
        least, most = {"kl": (0, math.log(size)), "gini": (0, 1 - 1 / size)}.get(figure, (1 / size, 1 + 1e-9))
        assert least <= values[key] < most, key


def test_the_experts_of_evaluation_are_counted_also_with_expert_choice() -> None:
    """In training every expert would have the same load."""
    values = statistics("moe expert choice")
    assert values["moe_max_load_share_0"] > 0.25
    assert values["moe_gini_0"] > 0.05


def test_only_evaluation_between_start_and_end_is_counted() -> None:
    architecture = ZOO["memory_plus"]
    model, tokens = build(architecture, seed=0).eval(), tokens_of(architecture, (2, 9))
    model(tokens)
    assert model.statistics() == {}
    model.start_statistics()
    model.train()
    model(tokens)
    assert math.isnan(model.statistics()["memory_kl"])
    model.eval()
    model.start_statistics()
    model(tokens)
    once = model.statistics()
    model.start_statistics()
    for _ in range(2):
        model(tokens)
    assert model.statistics() == pytest.approx(once)


def test_the_table_is_counted_over_all_its_layers() -> None:
    architecture = ZOO["memory_plus"]
    model = build(architecture, seed=0)
    tokens = tokens_of(architecture, (1, 1))
    model.eval().start_statistics()
    model(tokens)
    used = model.statistics()["memory_used_share"] * 81
    lookups = architecture.memory.num_heads * architecture.memory.knn
    assert lookups < used <= 2 * lookups
