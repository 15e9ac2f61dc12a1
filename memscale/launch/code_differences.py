"""Whether the runs of one sweep were trained with different code, which may move their numbers apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from memscale.errors import RecordError
from memscale.records.atomic import read_json
from memscale.records.layout import RunPaths
from memscale.records.provenance import FORMAT

Codes = tuple[str, ...]
"""Digests of the code that trained a run (`memscale.records.attempts.codes_of`)."""
_MOST_NAMED = 5


def code_differences(sweep: str, runs: Sequence[tuple[str, RunPaths, Codes]]) -> str:
    """Return in a sentence which runs were trained with which code; '' where it was the same for all.

    Args:
        sweep: The sweep's name.
        runs: Name, folder and codes of each run that was begun.

    """
    groups: dict[Codes, list[tuple[str, RunPaths]]] = {}
    for name, paths, codes in runs:
        groups.setdefault(codes, []).append((name, paths))
    if len(groups) < 2:
        return ""
    first, *others = sorted(groups.items(), key=lambda group: -len(group[1]))
    told = [
        f"{len(first[1])} by {_shown(*first)}",
        *(f"{_names(runs)} by {_shown(codes, runs)}" for codes, runs in others),
    ]
    return (
        f"The runs were not all trained by the same code: {'; '.join(told)}. Where the change touches training, train"
        f" one part anew: move its folders away, then make sweep SWEEP={sweep}"
    )


def _names(runs: Sequence[tuple[str, RunPaths]]) -> str:
    named = ", ".join(name for name, _ in runs[:_MOST_NAMED])
    return named + (f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else "")


def _shown(codes: Codes, runs: Sequence[tuple[str, RunPaths]]) -> str:
    """The digests, and the commit of the last one by a run's provenance, where it has one."""
    shown = ", then ".join(code or "code that was not recorded" for code in codes)
    for _, paths in runs:
        with suppress(RecordError, KeyError, TypeError):
            git: Mapping[str, object] = read_json(paths.provenance, format=FORMAT)["git"]
            if git["commit"] is not None:
                return f"{shown} (commit {str(git['commit'])[:10]}{', edited' if git['dirty'] else ''})"
    return shown
