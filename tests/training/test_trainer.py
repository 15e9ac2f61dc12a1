"""The loop: what it learns, writes, reports and refuses."""

from __future__ import annotations

import itertools
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import BATCH_SEQUENCES, SEQUENCE_LENGTH
from hypothesis import given
from hypothesis import strategies as st
from train_subprocess import do

from memscale.config.run import Run
from memscale.data.prepared import Prepared
from memscale.errors import ConfigError, DataError
from memscale.models.transformer import build
from memscale.records.layout import RunPaths
from memscale.records.metrics import read_metrics
from memscale.training import execution, trainer
from memscale.training.execution import Execution
from memscale.training.schedules import lr_factor
from memscale.training.trainer import Progress, TrainResult, train, validation_steps

FAMILIES = ("dense", "moe", "memory_plus")
ALL = (*FAMILIES, "moe_bias", "moe_choice", "moe_hash", "pkm", "pkm_batch", "memory", "peer", "memory_ultramem",
       "ngram", "token_table", "mixture", "looped")  # fmt: skip
MakeRun = Callable[..., Run]


def lines(root: Path) -> list[tuple[int, int, str, str, float]]:
    """All metrics but their times."""
    return [(m.step, m.tokens, m.split, m.name, m.value) for m in read_metrics(RunPaths(root).metrics)]


def same_weights(one: TrainResult, other: TrainResult) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    "family",
    [
        *FAMILIES,
        "moe_bias",
        "moe_choice",
        "moe_hash",
        "memory_ultramem",
        "ngram",
        "token_table",
        "mixture",
        "looped",
    ],
)
def test_learns(tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str) -> None:
    trained = do(make_run(family, num_steps=80), tmp_path, prepared)
    losses = [value for _, _, split, name, value in lines(tmp_path) if (split, name) == ("train", "loss")]
    assert trained.status == "done"
    assert 5.2 < losses[0] < 6.8  # about ln 300, and a half for logits of variance one
    assert losses[-1] < losses[0] - 1.0
    final = trained.losses["mixture"]["nats_per_token"]
    assert final is not None
    assert final == pytest.approx(losses[-1], abs=0.7)


@pytest.mark.parametrize("family", [*FAMILIES, "pkm_batch", "memory_ultramem", "looped"])
def test_is_the_textbook_loop(tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str) -> None:
    """The same run by torch's own optimizer and clipping, on the sampler's batches in order."""
    run = make_run(family, num_steps=6)
    trained = do(run, tmp_path, prepared)

    model = build(run.architecture, seed=run.seed)
    sampler = prepared.sampler(seed=run.seed, sequence_length=SEQUENCE_LENGTH, batch_sequences=BATCH_SEQUENCES)
    config = run.optimizer
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [parameter],
                "lr": config.table_learning_rate if "table" in name else config.learning_rate,
                "weight_decay": 0.1 if parameter.ndim >= 2 and "table" not in name else 0.0,
            }
            for name, parameter in model.named_parameters()
        ],
        betas=(config.beta1, config.beta2),
        eps=config.eps,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(run.schedule, min(step, 5), 6))
    expected = []
    for step in range(6):
        tokens_BT = torch.from_numpy(sampler.batch(step))
        output = model(tokens_BT[:, :-1])
        loss = torch.nn.functional.cross_entropy(output.logits_BSV.transpose(1, 2), tokens_BT[:, 1:])
        (loss + output.auxiliary_loss).backward()
        for parameter in model.parameters():
            parameter.grad = parameter.grad.to_dense()  # a table's comes as its touched rows
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
        expected.append(loss.item())
    assert [value for *_, name, value in lines(tmp_path) if name == "loss"] == pytest.approx(expected, rel=1e-4)
    for ours, theirs in zip(trained.model.parameters(), model.parameters(), strict=True):
        assert (ours - theirs).abs().mean() < 1e-4


@pytest.mark.parametrize("family", [*FAMILIES, "memory_ultramem", "looped"])
def test_stopped_anywhere_and_resumed_gives_the_same_bits(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "TRAIN_LINES", 4)  # a line every third step, so that stops lie between lines
    run = make_run(family)
    undisturbed = do(run, tmp_path / "undisturbed", prepared)
    for stop_after in (0, 1, 5, 8):  # 8 lies between validations, 5 behind one
        root = tmp_path / str(stop_after)
        stopped = do(run, root, prepared, stop_after=stop_after)
        assert (stopped.status, stopped.step) == ("stopped", stop_after)
        resumed = do(run, root, prepared)
        assert same_weights(resumed, undisturbed)
        assert lines(root) == lines(tmp_path / "undisturbed")
        assert resumed.losses == undisturbed.losses
        assert resumed.usage == undisturbed.usage


def test_metrics_are_cut_back_to_the_checkpoint_resumed_from(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun
) -> None:
    run = make_run()
    do(run, tmp_path / "undisturbed", prepared)
    root = tmp_path / "killed"
    do(run, root, prepared, stop_after=8, checkpoint_seconds=1e-9)
    shutil.rmtree(root / "checkpoints" / "step-8")  # as if killed between the metrics and the checkpoint
    do(run, root, prepared)
    assert lines(root) == lines(tmp_path / "undisturbed")


def test_resumed_from_the_end_says_the_same_and_writes_nothing(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun
) -> None:
    run = make_run("memory_plus")
    first = do(run, tmp_path, prepared)
    before = lines(tmp_path)
    again = do(run, tmp_path, prepared)
    assert again.status == "done"
    assert (again.losses, again.usage) == (first.losses, first.usage)
    assert again.train_seconds == pytest.approx(first.train_seconds)
    assert lines(tmp_path) == before


@pytest.mark.parametrize("family", ["dense", "memory_plus"])
def test_micro_batches_give_the_same_run_to_rounding(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str
) -> None:
    run = make_run(family)
    whole = do(run, tmp_path / "whole", prepared)
    parts = do(run, tmp_path / "parts", prepared, micro_batch_sequences=4)
    assert (whole.micro_batch_sequences, parts.micro_batch_sequences) == (6, 3)  # two equal parts, not 4 and 2
    for (step, _, split, name, value), other in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert (step, split, name) == (other[0], other[2], other[3])
        if name != "slots_used_share":
            assert other[4] == pytest.approx(value, rel=2e-2), (step, name)


def test_clipping_sees_the_gradient_of_the_whole_batch(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    """With a norm that always clips, one step is the same whatever the parts; clipped parts would sum to another."""
    run = make_run("dense", num_steps=1)
    run = replace(run, optimizer=replace(run.optimizer, clip_norm=1e-3, eps=1e-3))
    whole = do(run, tmp_path / "whole", prepared)
    parts = do(run, tmp_path / "parts", prepared, micro_batch_sequences=1)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_metrics_have_every_figure_once_where_it_is_due(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run("memory_plus")
    do(run, tmp_path, prepared)
    written = lines(tmp_path)
    assert max(Counter((step, split, name) for step, _, split, name, _ in written).values()) == 1
    steps_of = {(s, n): [x[0] for x in written if (x[2], x[3]) == (s, n)] for _, _, s, n, _ in written}
    assert steps_of["train", "loss"] == list(range(1, 13))
    assert steps_of["train", "learning_rate"] == list(range(1, 13))
    for name in ("nats_mixture", "nats_code", "bits_per_byte_code", "nats_facts", "bits_per_byte_facts"):
        assert steps_of["validation", name] == [4, 8, 12]
    assert all(steps == [4, 8, 12] for (split, _), steps in steps_of.items() if split == "memory")
    assert "memory" in {split for split, _ in steps_of}
    assert all(tokens == step * run.batch_tokens for step, tokens, *_ in written)


def test_a_long_run_writes_means_and_not_every_step(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    do(run, tmp_path / "each", prepared)
    monkeypatch.setattr(trainer, "TRAIN_LINES", 3)
    do(run, tmp_path / "means", prepared)
    each = [value for _, _, _, name, value in lines(tmp_path / "each") if name == "loss"]
    means = [(step, value) for step, _, _, name, value in lines(tmp_path / "means") if name == "loss"]
    assert [step for step, _ in means] == [4, 8, 12]
    for step, value in means:
        assert value == pytest.approx(sum(each[step - 4 : step]) / 4, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_is_a_status_and_leaves_no_bad_checkpoint(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = trainer.micro_batch.accumulate_gradients
    calls = itertools.count()

    def breaking(*arguments: object) -> object:
        loss = healthy(*arguments)
        return replace(loss, nats_per_token=loss.nats_per_token * (float("nan") if next(calls) == 6 else 1.0))

    monkeypatch.setattr(trainer.micro_batch, "accumulate_gradients", breaking)
    monkeypatch.setattr(trainer, "TRAIN_LINES", 3)
    trained = do(make_run(family), tmp_path, prepared, checkpoint_seconds=1e-9)
    assert trained.status == "diverged"
    assert trained.step == 7
    assert trained.validation is None
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-5", "step-6"]


def test_a_hopeless_learning_rate_diverges(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run("dense", num_steps=60, learning_rate=1e3)
    trained = do(run, tmp_path, prepared)
    assert trained.status == "diverged"
    assert trained.step < 60


def test_reports_begin_and_end_and_add_up(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run, reports = make_run(num_steps=5), list[Progress]()
    how = Execution(device="cpu", threads=1)
    trained = train(run, RunPaths(tmp_path), prepared, how, on_progress=reports.append, should_stop=lambda: False)
    assert (reports[0].step, reports[0].seconds_left, reports[0].loss) == (0, None, None)
    assert (reports[-1].step, reports[-1].tokens, reports[-1].seconds_left) == (5, run.tokens, 0.0)
    assert reports[-1].loss is not None
    assert trained.tokens == run.tokens
    assert trained.tokens_per_second == pytest.approx(run.tokens / trained.train_seconds)
    assert trained.peak_memory_bytes > 10_000_000


def test_train_seconds_add_up_over_attempts(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run()
    first = do(run, tmp_path, prepared, stop_after=6)
    second = do(run, tmp_path, prepared)
    assert second.train_seconds > first.train_seconds > 0


def test_the_micro_batch_of_the_checkpoint_wins(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run()
    do(run, tmp_path, prepared, stop_after=3, micro_batch_sequences=2)
    assert do(run, tmp_path, prepared, micro_batch_sequences=6).micro_batch_sequences == 2


def test_going_on_elsewhere_is_said(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run()
    try:
        do(run, tmp_path, prepared, stop_after=3, threads=2)
        do(run, tmp_path, prepared, threads=1)
    finally:
        torch.set_num_threads(1)
    assert "cpu, threads 2" in caplog.text
    assert "cpu, threads 1" in caplog.text


def test_a_gpu_out_of_memory_in_mid_run_goes_on_in_halves(
    tmp_path: Path, prepared: Prepared, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    undisturbed = do(run, tmp_path / "undisturbed", prepared, micro_batch_sequences=3)
    healthy = trainer.micro_batch.accumulate_gradients

    def small_gpu(model: torch.nn.Module, tokens_BT: torch.Tensor, sequences: int, *others: object) -> object:
        if sequences > 3:
            healthy(model, tokens_BT[:2], 2)  # it had got this far
            raise torch.OutOfMemoryError("CUDA out of memory")
        return healthy(model, tokens_BT, sequences, *others)

    monkeypatch.setattr(trainer.micro_batch, "accumulate_gradients", small_gpu)
    trained = do(run, tmp_path / "small", prepared)
    assert trained.micro_batch_sequences == 3
    assert same_weights(trained, undisturbed)


def test_other_data_than_planned_are_refused(tmp_path: Path, prepared: Prepared, make_run: MakeRun) -> None:
    run = make_run()
    other = replace(run, digests=replace(run.digests, data="0" * 64))
    with pytest.raises(DataError, match="planned for data 000000000000"):
        do(other, tmp_path, prepared)
    wider = replace(run, architecture=replace(run.architecture, vocab_size=301))
    with pytest.raises(DataError, match="301 tokens in its vocabulary"):
        do(wider, tmp_path, prepared)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device is"):
        execution.prepare_device(Execution(device=device))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_memory_that_a_step_frees_is_kept_for_the_next() -> None:
    # In a process of its own, as a worker is: what other tests leave on the heap would be measured with it.
    code = """
import resource, torch
from memscale.training import execution
execution.prepare_device(execution.Execution(device="cpu"))
for step in range(40):
    if step == 30:  # the heap has found its shape
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(16_000_000)  # 15,625 pages each, which a system without the setting faults in every time
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40_000


@given(st.integers(1, 5000), st.integers(0, 40))
def test_validations_are_evenly_spaced_and_end_at_the_end(num_steps: int, validations: int) -> None:
    steps = sorted(validation_steps(num_steps, validations))
    assert steps[-1] == num_steps
    assert len(steps) == min(num_steps, max(1, validations))
    gaps = [b - a for a, b in zip([0, *steps], steps, strict=False)]
    assert max(gaps) - min(gaps) <= 1
