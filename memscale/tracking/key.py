"""The key of the UI: an ASGI application in front of MLflow's that lets nobody in without it, whatever the path.

Three ways to show the key, of which a browser takes the first two:

1. `?token=KEY` in the address, once. The answer sets a cookie and leads to the same address without the key, so that
   neither history nor a Referer keeps it; what follows `#` stays.
2. The cookie. Every port of a host gets it, so a request that a page of another port makes is refused: a browser says
   where a request comes from in `Origin` and `Sec-Fetch-Site`.
3. `Authorization: Bearer KEY`, which MLflow's client sends where MLFLOW_TRACKING_TOKEN is set.

Everything else is answered 401, and a WebSocket is closed before it opens.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PARAMETER = "token"
_REFUSED = b"This page needs its key: open the whole address that `make ui` printed, or start `make ui` again.\n"


def new_key() -> str:
    """Return a random key of 192 bits that an address may hold."""
    return secrets.token_urlsafe(24)


class KeyRequired:
    """An ASGI application that hands on to another what comes with the key."""

    def __init__(self, application: Application, key: str, *, cookie: str) -> None:
        """`cookie` is the cookie's name; two servers on one host need two, since cookies know no ports."""
        self._application, self._key, self._cookie = application, key, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        if scope["type"] == "http" and scope["method"] == "GET" and self._in_address(scope):
            await _answer(send, 303, self._welcome(scope))
        elif self._in_header(headers) or (self._in_cookie(headers) and not _is_from_another_page(headers)):
            await self._application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _answer(send, 401, [("www-authenticate", "Bearer"), ("content-type", "text/plain")], _REFUSED)

    def _is_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._key.encode())

    def _in_address(self, scope: Scope) -> bool:
        return any(name == PARAMETER and self._is_key(value) for name, value in _query(scope))

    def _in_header(self, headers: Iterable[tuple[str, str]]) -> bool:
        given = [value.split(" ", 1) for name, value in headers if name == "authorization"]
        return any(len(one) == 2 and one[0].lower() == "bearer" and self._is_key(one[1].strip()) for one in given)

    def _in_cookie(self, headers: Iterable[tuple[str, str]]) -> bool:
        pairs = [
            pair.strip().partition("=") for name, value in headers if name == "cookie" for pair in value.split(";")
        ]
        return any(name == self._cookie and self._is_key(value) for name, _, value in pairs)

    def _welcome(self, scope: Scope) -> list[tuple[str, str]]:
        rest = urlencode([(name, value) for name, value in _query(scope) if name != PARAMETER])
        path = "/" + bytes(scope.get("raw_path") or b"/").decode("latin-1").partition("?")[0].lstrip("/")
        return [
            ("location", f"{path}?{rest}" if rest else path),
            ("set-cookie", f"{self._cookie}={self._key}; Path=/; HttpOnly; SameSite=Lax"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ]


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(bytes(scope["query_string"]).decode("latin-1"), keep_blank_values=True)


def _is_from_another_page(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a browser made this request for a page of another origin; a person's own navigation is none."""
    named = dict(headers)
    origin, host = named.get("origin"), named.get("host", "")
    if origin is not None and origin.partition("://")[2] != host:
        return True
    return named.get("sec-fetch-site", "none") not in ("none", "same-origin") and (
        named.get("sec-fetch-mode") != "navigate"
    )


async def _answer(send: Send, status: int, headers: Iterable[tuple[str, str]], body: bytes = b"") -> None:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    encoded.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
