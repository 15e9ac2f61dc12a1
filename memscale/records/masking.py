"""Secrets made unreadable before anything is shown or kept: in addresses, in messages, in the lines of a diff.

An address is shown in parts only where it can be taken apart without doubt. A password with characters that an address
cannot hold (`/`, `@`, `#`, spaces) leaves doubt about where it ends; of such an address only the scheme is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, unquote

MASK = "***"
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|auth|api_?key|private_?key|access_?key|sas|sig", re.IGNORECASE
)
_PLAIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.\-]*)://"
    r"(?:(?P<user>[^:@/?#\s]*)(?P<password>:[^@/?#\s]*)?@)?"
    r"(?P<host>[\w.\-]*(?::[\w\-]*)?|\[[0-9a-fA-F:.]*\](?::\d*)?)"
    r"(?P<path>/[^?#@\s]*)?(?:\?(?P<query>[^?#@\s]*))?",
    re.IGNORECASE,
)
_SQLITE = re.compile(r"(?P<path>sqlite:///[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
_VALUE = r"""(?:["'`][^"'`\s]{4,}["'`]|[\w+/.\-]*\d[\w+/.\-]{5,}[,;]?\s*$|[^\s()\[\]{}<>.,;]{8,}\s*$)"""
"""Something that is written out: quoted, or a word with digits or without brackets at the end of the line."""
_NAMED = re.compile(
    r"""(?:\w*passw\w*|passphrase|pwd|\w*secret\w*|credentials?|auth|\w*api[_-]?key|\w*(?:access|private)[_-]?key\w*"""
    r"""|(?:(?:access|auth|bearer|bot|hf|refresh|session)[_-])?\btoken|(?-i:[A-Z0-9_]*_TOKEN))"""
    rf"""["'`\]]*\s*[:=]>?\s*{_VALUE}""",
    re.IGNORECASE,
)
_HINTS = ("pass", "pwd", "secret", "credential", "auth", "key", "token")
"""One of which every match of _NAMED has: it is slow, and most lines have none."""
_WELL_KNOWN = re.compile(
    r"://[^\s/:@]*:[^\s@]+@|\b(?:[Bb]earer|[Bb]asic)\s+[\w+/.=\-]{16,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abposr]-|dapi|AIza|npm_|pypi-)[\w\-]{16,}"
    r"|\beyJ[\w\-]{10,}\.[\w\-]{10,}"
)
_KEY_BEGINS, _KEY_ENDS = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"), re.compile(r"-----END [A-Z ]*PRIVATE KEY")
_DIFF_MARKS = ("+++ ", "--- ", "@@ ", "diff --git ", "index ")


def masked_address(address: str) -> str:
    """Return an address for a person: without its password, or a token in the place of a user or of a parameter.

    Example:
        >>> masked_address("postgresql://me:geheim@db:5432/mlflow?sslmode=require&password=geheim")
        'postgresql://me:***@db:5432/mlflow?sslmode=require&password=***'
        >>> masked_address("postgresql://me:ge/heim@db/mlflow")
        'postgresql://***'
    """
    if (sqlite := _SQLITE.fullmatch(address)) is not None:
        return sqlite["path"] + _shown_query(sqlite["query"])
    found = _PLAIN.fullmatch(address)
    if found is None:
        if not set(address) & set(":@?#"):
            return address  # no address, but a path or nothing
        scheme, separator, _ = address.partition("://")
        return f"{scheme}://{MASK}" if separator and re.fullmatch(r"[\w+.\-]+", scheme) else MASK
    user, is_web = found["user"], found["scheme"].lower().startswith("http")
    if user is None:
        person = ""
    elif is_web and (found["password"] is None or not re.fullmatch(r"[\w.\-]*", user)):
        person = f"{MASK}@"  # a web server's user without a password is mostly a token
    else:
        person = f"{user}:{MASK}@" if found["password"] is not None else f"{user}@"
    shown = f"{found['scheme']}://{person}{found['host']}{found['path'] or ''}"
    return shown + _shown_query(found["query"])


def has_secret(address: str) -> bool:
    """Whether an address holds what must not be shown."""
    return masked_address(address) != address


def is_secret_variable(name: str, value: str) -> bool:
    """Whether an environment variable holds a secret: by its name, or as an address with a password."""
    return _SECRET_NAME.search(name) is not None or ("://" in value and has_secret(value))


def without_user(address: str) -> str:
    """Return a web address as a browser is given it: without user, password and parameters."""
    found = _PLAIN.fullmatch(address)
    if found is None:
        return masked_address(address)
    return f"{found['scheme']}://{found['host']}{found['path'] or ''}".rstrip("/")


def scrubbed(text: str, address: str) -> str:
    """Return a message of another program without the secrets of an address that it may quote, whole or in parts."""
    if not has_secret(address):
        return text
    text = text.replace(address, masked_address(address))
    for secret in sorted(set(_secrets(address)), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def masked_lines(text: str) -> tuple[str, int]:
    """Return a diff with the lines that look like secrets masked, and how many were."""
    kept, count, inside = [], 0, False
    for line in text.split("\n"):
        inside = inside or _KEY_BEGINS.search(line) is not None
        if inside or (not line.startswith(_DIFF_MARKS) and _looks_secret(line)):
            kept.append(f"{line[:1] if line[:1] in '+- ' else ''}{MASK} (a line that looks like a secret)")
            count += 1
        else:
            kept.append(line)
        inside = inside and _KEY_ENDS.search(line) is None
    return "\n".join(kept), count


def _looks_secret(line: str) -> bool:
    named = any(hint in line.lower() for hint in _HINTS) and _NAMED.search(line) is not None
    return named or _WELL_KNOWN.search(line) is not None


def _shown_query(query: str | None) -> str:
    if query is None:
        return ""
    return "?" + "&".join(_shown_parameter(one) for one in _parameters(query))


def _shown_parameter(parameter: str) -> str:
    name, separator, _ = parameter.partition("=")
    return f"{name}{separator}{MASK}" if separator and _SECRET_NAME.search(unquote(name)) else parameter


def _parameters(query: str) -> Iterable[str]:
    """The `name=value` of a query; an `&` that begins none belongs to the value before it."""
    return re.split(r"&(?=[\w%.\-]+=)", query)


def _secrets(address: str) -> Iterator[str]:
    """All that may be secret in an address, as written and decoded; of one that leaves doubt, every reading."""
    rest = address.partition("://")[2]
    readings = [rest.rpartition("@")[0], rest.partition("@")[0] if "@" in rest else ""]
    for reading in readings:
        user, separator, password = reading.partition(":")
        yield from _forms(password if separator else user)
        yield from (part for piece in re.split(r"[/@?#\s]", password) for part in _forms(piece))
    for name, value in parse_qsl(rest.partition("?")[2], keep_blank_values=True):
        if _SECRET_NAME.search(name):
            yield from _forms(value)
    for parameter in _parameters(rest.partition("?")[2]):
        name, _, value = parameter.partition("=")
        if _SECRET_NAME.search(unquote(name)):
            yield from _forms(value)


def _forms(secret: str) -> Iterator[str]:
    yield from (form for form in (secret, unquote(secret)) if len(form) > 2)
