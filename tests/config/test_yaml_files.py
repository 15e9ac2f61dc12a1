"""A slip in a YAML file is one sentence with file and line, and no file can exhaust the machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memscale.config.load import load_sweep, sweep_names
from memscale.config.yaml_files import MOST_DEPTH, check_yaml
from memscale.errors import ConfigError

SWEEPS = Path(__file__).parents[2] / "sweeps"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"a: 1\nb:\n\tc: 1\n", r"line 3: a tab, or .* indent with spaces"),
        (b"a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' for the second time"),
        (b"a: 1\nb: {c: 1, c: 2}\n", r"line 2: the key 'c' for the second time"),
        ("a: 1\nb: Zürich\n".encode("latin-1"), r"line 2: the byte 0xfc is not UTF-8"),
        ("a: 1\n".encode("utf-16"), r"line 1: the byte 0xff is not UTF-8"),
        (b"a: 1\nb: x\0y\n", r"line 2: the control character '\\x00'"),
        (b"a: " + b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), r"line 1: nested more than 30 levels"),
        (b"a: " + b"[" * 100_000, r"line 1: nested more than 30 levels"),
        (BOMB.encode(), r"line 5: more than 100,000 values, with what its aliases"),
        (b"a: &a [1, *a]\n", r"line 1: \*a holds itself"),
        (b"a: *b\n", r"line 1: .*"),
        (b"a: 1\nb: c: d\n", r"line 2: a second ': ' in one line"),
        (b"a: 1\nb: 'open\n", r"line \d: a quote that is not closed"),
        (b"- 1\n", r"line 1: a list; a file of a sweep is keys with values"),
        (b"word\n", r"line 1: not keys with values"),
        (b"a: 1\n---\nb: 1\n", r"line 2: a second document"),
        (b"a: !!python/object/apply:os.system [x]\n", r"line 1: the tag .*python.*is not read"),
        (b"a: " + b"9" * 5_000 + b"\n", r"line 1: a number of 5,000 digits"),
        (b"a: 1\n{b: 1}: 2\n", r"line 2: "),
        (b"#" * 1_000_001, r"has 1,000,001 bytes"),
    ],
)
def test_slips_are_told_with_file_and_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.yaml.*{said}|mine\.yaml {said}"):
        check_yaml(path)


def test_anchors_and_merges_of_a_sensible_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {b: 1}\nc: [*a, *a]\nd: {e: *a, <<: {f: 2}}\n", encoding="utf-8")
    check_yaml(path)


def test_the_shipped_files_pass() -> None:
    for path in SWEEPS.rglob("*.yaml"):
        check_yaml(path)


def test_a_broken_file_stops_the_sweeps_that_use_it_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps"
    shutil.copytree(SWEEPS, folder)
    (folder / "recipe" / "berges2024.yaml").write_bytes(b"a:\n\tb: 1\n")
    (folder / "other.yaml").write_bytes(b"\xff")
    assert "other" in sweep_names(folder)
    load_sweep("memory_vs_moe", ["launcher=local"], folder=folder)
    for overrides, name in ((["recipe=berges2024"], "memory_vs_moe"), (["scale=node"], "memory_ablations")):
        with pytest.raises(ConfigError, match=r"berges2024\.yaml, line 2: a tab"):
            load_sweep(name, ["launcher=local", *overrides], folder=folder)


@pytest.mark.parametrize(
    "override, said",
    [
        ("data.files=/tmp/données/a.txt", "\"data.files='/tmp/données/a.txt'\""),
        ("data.files=/tmp/run=1/a.txt", "\"data.files='/tmp/run=1/a.txt'\""),
        ("data.files=a b#c", "\"data.files='a b#c'\""),
        ("scale.seeds=1,2", "scale.seeds=[1,2]"),
        ("recipe.clip_norm", "needs key=value"),
        ("=1", "needs key=value"),
        ("a=" + "[" * 100 + "]" * 100, "more than 30 levels"),
        ("a=" + "x" * 30_000, "20,000 are the most"),
        ("a=x\0y", "remove it"),
        ("a=" + "9" * 5_000, "more than 400 digits"),
        ("recipe.clip_norm=[1", "recipe.clip_norm on the command line"),
    ],
)
def test_an_override_that_hydra_cannot_read_is_told_with_the_quoting_that_works(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep("memory_vs_moe", ["launcher=local", override], folder=SWEEPS)
    told = str(caught.value)
    assert said in told
    assert "Exception" not in told
    assert len(told) < 1_500


@pytest.mark.parametrize(
    "path", ["/tmp/données/a.txt", "/tmp/run=1/a.txt", "a b#c, [d]: {e}", "it's", "[back\\slash\\"]
)
def test_the_quoting_that_is_told_works(path: str) -> None:
    def told(override: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load_sweep("memory_vs_moe", ["launcher=local", "data=text_files", override], folder=SWEEPS)
        return str(caught.value)

    quoted = told(f"data.files={path}").partition('needs quotes twice: "')[2].partition('", or SET=')[0]
    sweep = load_sweep("memory_vs_moe", ["launcher=local", "data=text_files", quoted], folder=SWEEPS).sweep
    assert sweep.data.files == (path,)
