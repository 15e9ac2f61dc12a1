"""Tables and conditions of any kind through the verbs of the analysis: an answer, or one screen that says why not."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pandas as pd
import pytest

from analysis.cli import main as cli
from analysis.errors import AnalysisError
from analysis.tables import observe, read
from tests.fuzz.fuzzing import Tally, command, listing, number_of, one_screen, rng

CELLS = (
    "", " ", "nan", "NA", "null", "inf", "-inf", "0", "-1", "1e400", "1e-400", "1e308", "-1e308", "9" * 400, "1,5",
    "1.5.2", "abc", "é日",
    "=1+1", "'", '"', '"open', "a,b", "\0", "\t", "\r", "True", "1e7 ", "0x10", "1_000", "١٢٣", "2024-01-01",
    "x" * 2_000, "[1]", "{}",
)  # fmt: skip
VERBS = (
    ["fit", "{table}", "--law", "chinchilla"], ["fit", "{table}", "--law", "chinchilla", "--where", "{where}"],
    ["isoflop", "{table}"],
    ["fit", "{table}", "--law", "power"], ["compare", "{table}", "--laws", "chinchilla,power"],
    ["predict", "{table}", "--at", "N=1e9,D=1e10"], ["design", "{table}", "--target", "1e21", "--budget", "1e19"],
    ["downstream", "{table}", "--metric", "acc"], ["gain", "{table}", "--family", "family", "--of", "b", "--over", "a"],
    ["fit", "{table}"], ["report", "{table}"],
)  # fmt: skip
COLUMNS = ("N", "D", "C", "loss", "family", "acc")
PARTS = (
    "loss", "N", "D", "family", "`Model Size`", "acc", "nothing", "3", "1e400", "0", "-1", "'a'", "''", "'NA'",
    "True", "None", "[1]",
    "(1, 2)", "{1}", "()", "__import__('os')", "loss.x", "loss[0]", "lambda: 1", "1j", "f'{N}'", "b'x'", "...",
    "9" * 500, "`", "ʘ0", "ʘ9",
)  # fmt: skip
OPERATORS = (
    "<",
    "<=",
    "==",
    "!=",
    ">",
    "in",
    "not in",
    "is",
    "and",
    "or",
    "&",
    "|",
    "+",
    "-",
    "*",
    "/",
    "**",
    "%",
    "@",
    ",",
    "if",
    ":=",
)


def _rows(random_: random.Random) -> list[list[str]]:
    """A table as an honest law gives it."""
    rows = []
    for family in ("a", "b"):
        for size in (1e7, 3e7, 1e8, 3e8, 1e9):
            for ratio in (5, 20, 60):
                tokens = size * ratio
                loss = 1.7 + 400 * size**-0.34 + 410 * tokens**-0.28 + random_.gauss(0, 0.003) - 0.05 * (family == "b")
                rows.append(
                    [f"{size:g}", f"{tokens:g}", f"{6 * size * tokens:g}", f"{loss:.5f}", family, f"{1 / loss:.4f}"]
                )
    return rows


def _write(path: Path, random_: random.Random) -> None:
    rows = [list(COLUMNS), *_rows(random_)]
    for _ in range(random_.choice((0, 1, 1, 3, 30))):
        kind, row = random_.random(), random_.choice([row for row in rows if row])
        if kind < 0.6:
            row[random_.randrange(len(row))] = random_.choice(CELLS)
        elif kind < 0.7:
            rows.remove(row)
            rows.append([])
        elif kind < 0.8:
            rows.append(list(row))
        elif kind < 0.9 and row:
            del row[random_.randrange(len(row)) :]
            row.append("")
        else:
            column = random_.randrange(len(COLUMNS))
            value = random_.choice(CELLS)
            for other in rows[1:]:
                other[column : column + 1] = [value]
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(COLUMNS, map(_typed, row), strict=False))) for row in rows[1:]]
        content = "\n".join(lines).replace("NaN", random_.choice(("NaN", "null", "nan")))
    else:
        content = "\n".join(",".join(row) for row in rows)
    raw = content.encode("utf-8" if random_.random() < 0.95 else "utf-16", errors="surrogatepass")
    if random_.random() < 0.1:
        place = random_.randrange(len(raw))
        raw = raw[:place] + random_.randbytes(3) + raw[place + 1 :]
    path.write_bytes(raw)


def _typed(cell: str) -> object:
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell


def _condition(random_: random.Random) -> str:
    if random_.random() < 0.4:  # one that is well formed
        column, mark, value = (random_.choice(given) for given in (PARTS[:6], OPERATORS[:6], PARTS[7:14]))
        return f"{column} {mark} {value}" + random_.choice(("", " and loss < 9", " or not (N >= 1e8)"))
    parts = PARTS[:10] if random_.random() < 0.5 else PARTS
    words = [random_.choice(parts)]
    for _ in range(random_.choice((1, 1, 2, 3, 6))):
        words += [random_.choice(OPERATORS).replace("not&in", "not in"), random_.choice(parts)]
    if random_.random() < 0.2:
        words.insert(random_.randrange(len(words)), random_.choice(("not", "-", "(", ")", "\n", "#", "~")))
    if random_.random() < 0.02:
        words = ["(" * 150, *words, ")" * 150] if random_.random() < 0.5 else ["not"] * 400 + words
    return " ".join(words)


@pytest.mark.slow
def test_tables_through_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tally, random_ = Tally("tables x verbs"), rng("tables")
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    for number in range(number_of(44, 1_500)):
        table = inside / random_.choice(("table.csv", "table.jsonl"))
        _write(table, random_)
        words = VERBS[number % len(VERBS)]
        filled = [word.format(table=table, where=_condition(random_)) for word in words]
        if words[0] in ("fit", "compare", "predict"):
            filled += ["--bootstrap", "20"]
        with tally.attempt(" ".join(filled)):
            status, _ = command(cli.main, filled)
            tally.accepted += status == 0
            assert listing(tmp_path) - {"inside"} == {f"inside/{one}" for one in listing(inside)}
    tally.check(least_accepted=5)


def test_conditions(tmp_path: Path) -> None:
    tally, random_ = Tally("conditions"), rng("where")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(",".join(row) for row in [list(COLUMNS), *_rows(random_)]), encoding="utf-8")
    table = read(path).assign(**{"Model Size": range(30)})
    for _ in range(number_of(600, 5_000)):
        where = _condition(random_)
        with tally.attempt(where):
            _observe(table, where, tally)
    tally.check(least_accepted=50)


def _observe(table: pd.DataFrame, where: str, tally: Tally) -> None:
    try:
        kept = observe(table, loss="loss", params="N", tokens="D", where=where)
        tally.accepted += 1
        assert len(kept.frame) <= len(table)
    except AnalysisError as error:
        one_screen(str(error))


def test_tables_that_are_read(tmp_path: Path) -> None:
    tally, random_ = Tally("tables"), rng("read")
    for _ in range(number_of(150, 3_000)):
        path = tmp_path / random_.choice(("table.csv", "table.jsonl", "table.tsv"))
        _write(path, random_)
        with tally.attempt(repr(path.read_bytes()[:3_000])[:600]):
            try:
                observed = observe(read(path), loss="loss", params="N", tokens="D")
                tally.accepted += 1
                numbers = observed.frame.select_dtypes("number")
                assert not numbers.isin([math.inf, -math.inf]).to_numpy().any(), "an infinite number was accepted"
            except AnalysisError as error:
                one_screen(str(error))
    tally.check(least_accepted=5)
