"""Identity: everything that changes the result, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import pytest

from memscale.config.architecture import Architecture
from memscale.config.checks import added_later
from memscale.config.codec import from_plain, to_plain
from memscale.config.layers import Memory
from memscale.config.optimizer import Optimizer, Schedule
from memscale.config.run import Digests, Run
from memscale.errors import PlanError
from memscale.planning.identity import Identities, canonical, refuse_duplicates, run_id

RUN = Run(
    architecture=Architecture(
        family="memory_plus",
        d_model=64,
        num_layers=4,
        num_heads=4,
        num_kv_heads=4,
        head_width=16,
        ffn_hidden=96,
        vocab_size=512,
        memory=Memory(layers=(1, 3), num_keys=64, num_heads=4, knn=8, key_width=32, value_width=64),
    ),
    optimizer=Optimizer(learning_rate=5e-3, table_learning_rate=2e-2),
    schedule=Schedule(),
    tokens=4096,
    batch_tokens=1024,
    sequence_length=128,
    seed=0,
    validations=2,
    digests=Digests(data="a", tokenizer="b", evaluation="c"),
)


def changed(value: object) -> object:
    """A value of the same type that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or 1
    if isinstance(value, str):
        return {"wsd": "cosine"}.get(value, value + "x")
    if isinstance(value, tuple):
        return value[:-1]
    raise AssertionError(value)


def leaves(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if dataclasses.is_dataclass(value):
        return [leaf for f in dataclasses.fields(value) for leaf in leaves(getattr(value, f.name), (*path, f.name))]
    return [path] if value is not None else []


def test_every_part_of_a_run_changes_its_identity() -> None:
    seen = {run_id(RUN)}
    for path in leaves(RUN):
        plain = to_plain(RUN)
        node = plain
        for key in path[:-1]:
            node = node[key]
        value = RUN
        for key in path:
            value = getattr(value, key)
        node[path[-1]] = to_plain(changed(value))
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        seen.add(hashlib.sha256(text.encode()).hexdigest()[:12])
    assert len(seen) == len(leaves(RUN)) + 1


def test_the_identity_is_the_hash_of_canonical_json() -> None:
    text = json.dumps(to_plain(RUN), sort_keys=True, separators=(",", ":"))
    assert canonical(RUN) == text
    assert run_id(RUN) == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_numbers_that_round_alike_are_not_alike() -> None:
    near = dataclasses.replace(RUN, optimizer=Optimizer(learning_rate=5.000000001e-3, table_learning_rate=2e-2))
    assert run_id(near) != run_id(RUN)


def test_nothing_without_a_canonical_form_gets_an_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"loss": math.nan})
    with pytest.raises(TypeError):
        canonical({"when": object()})


def test_two_runs_of_one_identity_are_refused_and_both_named() -> None:
    def named(*runs: Run) -> list[tuple[str, str, Run]]:
        return [(name, run_id(run), run) for name, run in zip(("one", "other"), runs, strict=True)]

    refuse_duplicates(named(RUN, dataclasses.replace(RUN, seed=1)))
    with pytest.raises(PlanError, match=r"'one' and 'other' are the same experiment"):
        refuse_duplicates(named(RUN, dataclasses.replace(RUN, seed=0)))


def test_identities_made_together_are_those_made_alone() -> None:
    whole = dataclasses.replace(RUN, schedule=Schedule(final_fraction=0))
    broken = dataclasses.replace(RUN, schedule=Schedule(final_fraction=0.0))
    assert whole == broken
    assert run_id(whole) != run_id(broken)  # 0 and 0.0 are equal, but written differently
    together = Identities()
    runs = [whole, broken, RUN, dataclasses.replace(RUN, seed=3), whole]
    assert [together.run_id(run) for run in runs] == [run_id(run) for run in runs]


def test_what_was_added_later_is_in_the_identity_only_where_it_is_used() -> None:
    """The id of RUN is the one it had before there were Muon, clipping apart, a table's schedule and `init`."""
    assert run_id(RUN) == "a0ea8d769197"
    assert set(to_plain(RUN)) & {"init", "table_schedule"} == set()
    assert set(to_plain(RUN.optimizer)) & {"matrix_optimizer", "clipping"} == set()
    optimizer, schedule = RUN.optimizer, Schedule(kind="cosine")
    used = [
        dataclasses.replace(RUN, optimizer=dataclasses.replace(optimizer, matrix_optimizer="muon")),
        dataclasses.replace(RUN, optimizer=dataclasses.replace(optimizer, clipping="apart")),
        dataclasses.replace(RUN, table_schedule=schedule),
        dataclasses.replace(RUN, table_schedule=RUN.schedule),
        dataclasses.replace(RUN, init="published"),
    ]
    assert len({run_id(one) for one in (RUN, *used)}) == len(used) + 1
    assert all(from_plain(Run, to_plain(one)) == one for one in (RUN, *used))
    assert [Identities().run_id(one) for one in used] == [run_id(one) for one in used]


def test_a_field_is_compared_with_what_was_before_and_not_with_its_default() -> None:
    @dataclasses.dataclass(frozen=True)
    class Later:
        rule: str = dataclasses.field(default="new", metadata=added_later("old"))

    assert to_plain(Later()) == {"rule": "new"}
    assert to_plain(Later(rule="old")) == {}
