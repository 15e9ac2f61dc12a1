"""Looks at the YAML files of a sweep before Hydra composes them, so that a slip is told with its file and line.

Refuses text that is not UTF-8, control characters, tabs, duplicate keys, tags, several documents, and files whose size,
depth or expanded aliases have no end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from memscale.errors import ConfigError

MOST_BYTES = 1_000_000
MOST_DEPTH = 30
MOST_NODES = 100_000
"""Values of a file, those of its aliases counted wherever they are used."""
LONGEST_NUMBER = 400
"""Characters of a value that is not quoted and begins like a number; Python refuses to read much longer ones."""
_TAGS = tuple(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq"))
_WORDS = {
    r"found character .*that cannot start any token": "a tab, or a character such as @ or %; indent with spaces, and "
    "put such a value in quotes",
    r"while scanning a quoted scalar": "a quote that is not closed",
    r"mapping values are not allowed": "a second ': ' in one line; put the value in quotes",
}
"""What PyYAML says, and what it means to a person."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def sweeps_folder() -> Path:
    """Return the folder of the sweep files: `./sweeps` if there is one, else that of the source tree."""
    here = Path("sweeps").absolute()
    return here if here.is_dir() else Path(__file__).resolve().parents[2] / "sweeps"


def check_sweep_files(folder: Path, name: str, overrides: Sequence[str]) -> None:
    """Look at every file that the sweep `name` of `folder` may be composed of.

    Args:
        folder: The folder of sweep files.
        name: The sweep's file name without `.yaml`.
        overrides: Hydra overrides; those that choose a group's file are followed.

    Raises:
        ConfigError: A file cannot be read as YAML, with its name and the line.
    """
    seen: set[Path] = set()
    chosen = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    waiting = [folder / f"{name}.yaml", *sorted(folder.glob(f"at/{name}_*.yaml"))]
    waiting += [folder / key.partition("@")[0] / f"{value}.yaml" for key, value in chosen if _is_word(value)]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        check_yaml(path)
        waiting += [folder / group / f"{option}.yaml" for group, option in _defaults(path)]


def check_yaml(path: Path) -> None:
    """Raise ConfigError, with file and line, unless `path` is one mapping in YAML of bounded size."""
    content = path.read_bytes()
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path} has {len(content):,} bytes; a file of a sweep has at most {MOST_BYTES:,}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ConfigError(
            f"{path}, line {_line(content, error.start)}: the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    odd = re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise ConfigError(f"{path}, line {line}: the control character {odd[0]!r} cannot stand in YAML; remove it")
    try:
        _Document(path).read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        raise slip(path, error) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from None


def slip(path: Path, error: yaml.MarkedYAMLError) -> ConfigError:
    """Return what PyYAML says of a file, as a sentence with file and line; `path` where it names no file."""
    mark = error.problem_mark or error.context_mark
    named = mark is not None and str(mark.name).startswith("/")
    return ConfigError(
        f"{mark.name if mark and named else path}, line {mark.line + 1 if mark else 1}: {_plainly(error)}"
    )


@dataclass
class _Container:
    is_mapping: bool
    anchor: str | None
    nodes: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)


class _Document:
    """Counts what a stream of events would expand to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[_Container] = []
        self._sizes: dict[str, int] = {}
        self._documents = 0
        self._nodes = 0

    def read(self, events: Iterator[Any]) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                self._require(self._documents == 1, event, "a second document ('---'); a file holds one")
            elif isinstance(event, yaml.AliasEvent):
                open_anchors = {container.anchor for container in self._open}
                self._require(event.anchor not in open_anchors, event, f"*{event.anchor} holds itself")
                size = self._sizes.get(str(event.anchor))
                self._require(size is not None, event, f"*{event.anchor} names no anchor (&{event.anchor}) above it")
                self._add(event, size or 1, None)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                self._start(event)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                done = self._open.pop()
                if done.anchor is not None:
                    self._sizes[done.anchor] = done.nodes
                if self._open:
                    self._open[-1].nodes += done.nodes

    def _scalar(self, event: Any) -> None:
        self._check_tag(event)
        number = not event.style and len(event.value) > LONGEST_NUMBER and event.value[:1] in "+-.0123456789"
        self._require(not number, event, f"a number of {len(event.value):,} digits; {LONGEST_NUMBER} are the most")
        if event.anchor is not None:
            self._sizes[event.anchor] = 1
        self._require(bool(self._open), event, "not keys with values ('key: value'); a file of a sweep is a mapping")
        self._add(event, 1, event.value)

    def _start(self, event: Any) -> None:
        self._check_tag(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._require(bool(self._open) or is_mapping, event, "a list; a file of a sweep is keys with values")
        self._require(len(self._open) < MOST_DEPTH, event, f"nested more than {MOST_DEPTH} levels deep")
        if self._open:
            is_key = self._open[-1].is_mapping and self._open[-1].children % 2 == 0
            self._require(not is_key, event, "a list or mapping as a key; put '{' and '[' in a text in quotes")
            self._open[-1].children += 1
        self._open.append(_Container(is_mapping=is_mapping, anchor=event.anchor))
        self._count(event, 1)

    def _add(self, event: Any, nodes: int, value: str | None) -> None:
        """Add a scalar, or an alias (whose value is None), to the container that is open."""
        here = self._open[-1]
        if here.is_mapping and here.children % 2 == 0:
            self._require(value is not None, event, "an alias as a key; write the key out")
            assert value is not None
            self._require(value not in here.keys, event, f"the key '{value}' for the second time; remove one of them")
            here.keys.add(value)
        here.children += 1
        here.nodes += nodes
        self._count(event, nodes)

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        self._require(
            self._nodes <= MOST_NODES, event, f"more than {MOST_NODES:,} values, with what its aliases (*) stand for"
        )

    def _check_tag(self, event: Any) -> None:
        tag = event.tag
        known = tag is None or tag in _TAGS or tag == "!"
        self._require(known, event, f"the tag {tag}, which is not read here; remove it")

    def _require(self, condition: bool, event: Any, problem: str) -> None:
        if not condition:
            raise ConfigError(f"{self._path}, line {event.start_mark.line + 1}: {problem}")


def _defaults(path: Path) -> Iterator[tuple[str, str]]:
    """The (group, option) pairs of the file's defaults list, as far as they are written out."""
    found = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # a safe loader
    entries = found.get("defaults") if isinstance(found, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, str):
            group, _, option = entry.partition("@")[0].strip("/").rpartition("/")
            yield group, option
        elif isinstance(entry, dict):
            for key, option in entry.items():
                words = str(key).partition("@")[0].split()
                if words and isinstance(option, str) and _is_word(option):
                    yield words[-1].strip("/"), option


def _is_word(value: str) -> bool:
    return re.fullmatch(r"[\w.-]{1,200}", value) is not None and value.strip(".") != ""


def _plainly(error: yaml.MarkedYAMLError) -> str:
    told = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    return next((words for pattern, words in _WORDS.items() if re.search(pattern, told)), told)


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1
