"""The gate in front of the UI: what is a key and what is none. Over MLflow itself: test_ui_page.py."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

import pytest

from memscale.tracking.key import KeyRequired, new_key


def answer(
    path: str, headers: dict[str, str] | None = None, *, kind: str = "http", method: str = "GET"
) -> list[MutableMapping[str, Any]]:
    """What the gate sends for a request; what is behind it answers 200."""
    sent: list[MutableMapping[str, Any]] = []

    async def behind(_scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("the gate reads no body")

    route, _, query = path.partition("?")
    scope = {
        "type": kind, "method": method, "path": route, "raw_path": route.encode(), "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
    }  # fmt: skip
    asyncio.run(KeyRequired(behind, "the-key", cookie="ui")(scope, receive, send))
    return sent


def test_the_address_gives_a_cookie_and_loses_its_key() -> None:
    first = answer("/?token=the-key&a=b%20c")[0]
    headers = dict(first["headers"])
    assert (first["status"], headers[b"location"]) == (303, b"/?a=b+c")
    assert headers[b"set-cookie"] == b"ui=the-key; Path=/; HttpOnly; SameSite=Lax"
    assert answer("/", {"cookie": "other=1; ui=the-key"})[0]["status"] == 200
    assert dict(answer("//elsewhere.org/?token=the-key")[0]["headers"])[b"location"] == b"/elsewhere.org/"


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "ui=another"},
        {"cookie": "uix=the-key"},
        {"authorization": "Basic the-key"},
        {"authorization": "Bearer the-key2"},
        {"cookie": "ui=the-key", "host": "127.0.0.1:5000", "origin": "http://127.0.0.1:6000"},
        {"cookie": "ui=the-key", "host": "127.0.0.1:5000", "origin": "null"},
        {"cookie": "ui=the-key", "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"cookie": "ui=\xff"},
    ],
)
def test_what_is_no_key_or_comes_from_another_page_is_refused(headers: dict[str, str]) -> None:
    assert answer("/ajax-api/x", headers)[0]["status"] == 401


def test_a_page_of_its_own_and_a_persons_click_are_let_in() -> None:
    own = {"cookie": "ui=the-key", "host": "localhost:5000", "origin": "http://localhost:5000"}
    assert answer("/ajax-api/x", own, method="POST")[0]["status"] == 200
    clicked = {"cookie": "ui=the-key", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert answer("/", clicked)[0]["status"] == 200


def test_the_key_in_an_address_changes_nothing_and_opens_no_socket() -> None:
    assert answer("/x?token=the-key", method="POST")[0]["status"] == 401
    assert answer("/x?token=the-key", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_keys_are_long_and_new() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(re.fullmatch(r"[\w-]{32}", key) for key in keys)
