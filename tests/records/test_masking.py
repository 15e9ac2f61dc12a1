"""Secrets are seen where they stand, whatever they are made of, and what is none stays readable."""

from __future__ import annotations

import random
import string
from pathlib import Path
from urllib.parse import quote

import pytest

from memscale.records.masking import (
    has_secret,
    is_secret_variable,
    masked_address,
    masked_lines,
    scrubbed,
    without_user,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "address, shown",
    [
        ("postgresql+psycopg2://me:geheim@db:5432/mlflow", "postgresql+psycopg2://me:***@db:5432/mlflow"),
        ("postgresql://me:ge:heim@db/mlflow", "postgresql://me:***@db/mlflow"),
        ("postgresql://me:geh%40eim@db/mlflow", "postgresql://me:***@db/mlflow"),
        ("postgresql://db/mlflow?user=me&password=geheim", "postgresql://db/mlflow?user=me&password=***"),
        ("postgresql://db/mlflow?password=ge&heim&sslmode=no", "postgresql://db/mlflow?password=***&sslmode=no"),
        ("postgresql://db/mlflow?pass%77ord=geheim", "postgresql://db/mlflow?pass%77ord=***"),
        ("http://geheim@tracking:5000", "http://***@tracking:5000"),
        ("http://tracking:5000/", "http://tracking:5000/"),
        ("sqlite:////data/a:b@c/mlflow.db", "sqlite:////data/a:b@c/mlflow.db"),
        ("postgresql://me:ge/heim@db/mlflow", "postgresql://***"),
        ("postgresql://me:ge@heim@db/mlflow", "postgresql://***"),
        ("postgresql://db:5432/mlflow?password=ge@heim", "postgresql://***"),
        ("postgresql://me:ge#heim@db/mlflow", "postgresql://***"),
        ("postgresql://me:ge heim@db/mlflow", "postgresql://***"),
        ("me:geheim@db", "***"),
        ("./mlruns", "./mlruns"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secret(address: str, shown: str) -> None:
    assert masked_address(address) == shown
    assert has_secret(address) == (shown != address)


def test_no_password_at_all_is_shown() -> None:
    """Any password, as it is or encoded, in any place: nothing of four of its characters in a row is left."""
    draw = random.Random(0)
    forms = [
        "postgresql://me:{}@db:5432/mlflow",
        "postgresql://me:{}@db/mlflow?sslmode=require",
        "postgres://me:{}@db/mlflow",
        "mysql://db/mlflow?charset=utf8&password={}",
        "https://{}@tracking/path",
    ]
    harmless = "postgresql://me tracking/path db/mlflow failed with exception"
    for _ in range(1000):
        form = draw.choice(forms)
        password = "".join(draw.choices(string.ascii_letters + string.digits + string.punctuation + " ä", k=12))
        if form.startswith("https"):
            password = password.replace(":", ";")  # before a colon stands a user
        written = draw.choice([password, quote(password, safe="")])
        address = form.format(written)
        text = f"request to {address} failed with exception ({password}, {written})"
        for shown in (masked_address(address), scrubbed(text, address)):
            pieces = [one[i : i + 4] for one in (password, written) for i in range(len(one) - 3)]
            assert not [piece for piece in pieces if piece in shown and piece not in harmless], (address, shown)


def test_without_a_secret_a_text_stays_as_it_is() -> None:
    assert scrubbed("a text", "") == "a text"
    assert scrubbed("a text", "http://tracking:5000") == "a text"


def test_a_browser_is_given_no_user() -> None:
    assert without_user("http://me:geheim@tracking:5000/mlflow/") == "http://tracking:5000/mlflow"


def test_variables_are_known_by_name_or_content() -> None:
    assert is_secret_variable("MLFLOW_TRACKING_PASSWORD", "x")
    assert is_secret_variable("MLFLOW_TRACKING_TOKEN", "x")
    assert is_secret_variable("MLFLOW_TRACKING_URI", "postgresql://me:x@db/mlflow")
    assert not is_secret_variable("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert not is_secret_variable("MEMSCALE_RUNS", "/data/runs")


@pytest.mark.parametrize(
    "line",
    [
        '+PASSWORD = "geheim"',
        "+password: geheim123",
        "-DB_PASSWORD=geheim123",
        "+export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "+aws_access_key_id = AKIAIOSFODNN7EXAMPLE",
        '+    api_key="abcd-efgh-ijkl",',
        '+HF_TOKEN = "hf_abcdefghijklmnopqrstuv"',
        "+x = 'ghp_abcdefghijklmnopqrstuvwxyz0123456789'",
        "+uri = postgresql://me:geheim@db/mlflow",
        "+Authorization: Bearer abcdefghijklmnop.qrstuv",
        '+{"client_secret": "0123456789abcdef"}',
    ],
)
def test_a_line_that_looks_like_a_secret_is_masked(line: str) -> None:
    masked, count = masked_lines(f"diff --git a/x b/x\n@@ -1 +1 @@\n{line}\n context = 1")
    assert count == 1
    assert masked.split("\n")[2] == f"{line[0]}*** (a line that looks like a secret)"
    assert masked.endswith("\n context = 1")


def test_a_private_key_is_masked_to_its_end() -> None:
    key = "+-----BEGIN OPENSSH PRIVATE KEY-----\n+b3BlbnNzaC1rZXk\n+AAAA\n+-----END OPENSSH PRIVATE KEY-----\n+after"
    masked, count = masked_lines(key)
    assert (count, masked.split("\n")[-1]) == (4, "+after")
    assert "b3Blb" not in masked


def test_code_about_tokens_stays_readable() -> None:
    """Of this repository's own code, whose every file speaks of tokens, next to nothing is masked."""
    files = [*(ROOT / "memscale").rglob("*.py"), *(ROOT / "analysis").rglob("*.py"), *(ROOT / "sweeps").rglob("*.yaml")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    masked, count = masked_lines(text)
    assert count <= 5, [line for line, kept in zip(text.split("\n"), masked.split("\n"), strict=True) if line != kept]
