"""`python -m analysis reproduce [NAME]`: published fits made again from their data, side by side with ours.

The exit code is 0 where all that could be made agrees, 1 where a number does not, and 2 for mistakes; data that are
not at hand are named with how to get them, and are no disagreement.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

from analysis import formatting
from analysis.card import FORMAT
from analysis.cli.output import TERMINAL, print_json, write_json
from analysis.errors import FitError
from analysis.published import fits, looped, memory_forms, memory_layers, sources
from analysis.published.comparison import Comparison, Line

COMPARISONS = {
    "chinchilla": fits.chinchilla,
    "llama3": fits.llama3,
    "routing": fits.routing,
    "overtraining": fits.overtraining,
    "memory_layers": memory_layers.memory_layers,
    "memory_forms": memory_forms.published_forms,
    "looped": looped.looped,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which comparisons, from which data, and where the answer goes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(COMPARISONS)} (default: all)")
    parser.add_argument("--data", metavar="DIR", type=Path, help="folder of the data (default: $MEMSCALE_DATA_DIR)")
    parser.add_argument("--no-download", action="store_true", help="use what is at hand only")
    parser.add_argument("--json", metavar="FILE", nargs="?", const=TERMINAL, help="write JSON (without FILE: print it)")
    parser.add_argument("--figures", metavar="DIR", type=Path, help="draw the published figures into this folder")


def run(chosen: argparse.Namespace) -> int:
    """Make the comparisons; returns 1 where a number disagrees."""
    if chosen.name is not None and chosen.name not in COMPARISONS:
        raise FitError(f"there is no published comparison '{chosen.name}'; there are: {', '.join(COMPARISONS)}")
    where = functools.partial(_find, chosen.data, not chosen.no_download)
    made: list[tuple[Comparison, float]] = []
    missing: dict[str, str] = {}
    for name, make in COMPARISONS.items():
        if chosen.name not in (None, name):
            continue
        begun = time.perf_counter()
        try:
            found = make(where)
        except sources.MissingError as error:
            missing[name] = str(error)
            continue
        made.append((found, time.perf_counter() - begun))
        if chosen.json != TERMINAL:
            _show(*made[-1])
    content = _as_json(made, missing)
    if chosen.json == TERMINAL:
        print_json(content)
    else:
        for name, reason in missing.items():
            print(f"{name}: not made. {reason}")
        if chosen.json is not None:
            write_json(Path(chosen.json), content)
        if chosen.figures is not None:
            _draw(where, chosen.figures)
        _summarise(made, missing)
    return 0 if all(line.agrees for found, _ in made for line in found.lines) else 1


def _find(data: Path | None, download: bool, source: sources.Source) -> Path:
    return sources.find(source, data, download=download)


def _show(found: Comparison, seconds: float) -> None:
    print(f"{found.name}: {found.title} ({found.source}), {formatting.significant(seconds)} s")
    width = max((len(line.what) for line in found.lines), default=0)
    if found.lines:
        print(f"  {'':<{width}}  {'published':>13}  {'ours':>13}")
    for line in found.lines:
        mark = "" if line.agrees else "  differs"
        print(f"  {line.what:<{width}}  {line.published:>13.7g}  {_ours(line):>13}{mark}")
    print("".join(f"  {note}\n" for note in found.notes))


def _ours(line: Line) -> str:
    """To one digit more than the published number is known to."""
    decimals = 0
    while decimals < 14 and 10.0**-decimals > line.tolerance * 0.2:
        decimals += 1
    return f"{line.ours:.{decimals}f}"


def _summarise(made: list[tuple[Comparison, float]], missing: dict[str, str]) -> None:
    lines = [line for found, _ in made for line in found.lines]
    agreeing = sum(line.agrees for line in lines)
    seconds = sum(taken for _, taken in made)
    without = f"; {len(missing)} not made for want of data" if missing else ""
    print(f"{agreeing} of {len(lines)} published numbers agree, in {formatting.significant(seconds)} s{without}")


def _as_json(made: list[tuple[Comparison, float]], missing: dict[str, str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "comparisons": [
            {
                "name": found.name,
                "title": found.title,
                "source": found.source,
                "seconds": seconds,
                "numbers": [
                    {
                        "what": line.what,
                        "published": line.published,
                        "ours": line.ours,
                        "tolerance": line.tolerance,
                        "agrees": line.agrees,
                    }
                    for line in found.lines
                ],
                "notes": list(found.notes),
            }
            for found, seconds in made
        ],
        "missing": missing,
    }


def _draw(where: fits.Find, folder: Path) -> None:
    from analysis.allocation.from_table import isoflop
    from analysis.figures import allocation, published  # matplotlib: most of the start
    from analysis.figures import fit as fit_figures
    from analysis.fitting import fit_law
    from analysis.tables import observe

    made: list[Path] = []
    try:
        made += published.write_curves(memory_layers.figure_1(where(sources.MEMORY_FIGURE)), folder / "memory_layers")
        points = observe(
            where(sources.CHINCHILLA),
            loss="loss", params="Model Size", flops="Training FLOP", tokens_from_flops=True, drop_highest=5,
        )  # fmt: skip
        columns = {name: points.columns[name] for name in ("N", "D")}
        made += fit_figures.write(fit_law("chinchilla", columns, points.loss, bootstrap=1000), folder / "chinchilla")
        points = observe(
            where(sources.ISOFLOPS),
            loss="loss", params="params", tokens="tokens", flops="budget",
            where="experiment == 'llama_3__raw_loss'",
        )  # fmt: skip
        most = float(points.columns["C"].max())
        found = isoflop(points, at=[most], method="parabola", objective="log_lsq")  # as published
        made += allocation.write(found, folder / "llama3")
    except sources.MissingError as error:
        print(f"not drawn: {error}")
    print("".join(f"{path}\n" for path in made if path.suffix == ".png"), end="")
