"""The layers of a looped model beside a dense one, and the parameters that its recurrences share.

Refuses layers that no whole number of recurrences shares out.
"""

from __future__ import annotations

from memscale.config.architecture import Architecture
from memscale.config.family import LoopedFamily
from memscale.config.loop import Loop
from memscale.config.matching import Matching
from memscale.errors import ConfigError, PlanError


def loop_of(family: LoopedFamily, depth: int) -> Loop:
    """Return the loop of `family` beside a dense model of `depth` layers.

    Layers that are null make a token pass through `depth` layers. Raises PlanError where no numbers of layers do.

    Example:
        >>> loop = loop_of(LoopedFamily(name="looped", recurrences=4), depth=20)
        >>> loop.prelude, loop.recurrent, loop.coda
        (2, 4, 2)
    """
    prelude, recurrent, coda, times = family.prelude, family.recurrent, family.coda, family.recurrences
    if recurrent is None and prelude is not None and coda is not None:
        recurrent = (depth - prelude - coda) // times
        if recurrent < 1 or prelude + recurrent * times + coda != depth:
            raise _indivisible(
                family, depth, f"prelude {prelude} and coda {coda} leave {depth - prelude - coda}, no whole layers"
            )
    elif recurrent is None:
        room = depth - (1 if prelude is None else prelude) - (1 if coda is None else coda)
        recurrent = max(1, room // times)  # a stack without room for an end of its own has none
    ends = depth - recurrent * times
    if prelude is None:
        prelude = (ends + 1) // 2 if coda is None else ends - coda
    if coda is None:
        coda = ends - prelude
    if min(prelude, coda) < 0:
        least = (family.prelude or 0) + (family.coda or 0)
        raise _indivisible(family, depth, f"{recurrent} recurrent and {least} other layers need more")
    try:
        return Loop(prelude=prelude, recurrent=recurrent, coda=coda, recurrences=times, injection=family.injection)
    except ConfigError as error:
        raise PlanError(f"families.{family.name}: {error}") from error


def _indivisible(family: LoopedFamily, depth: int, given: str) -> PlanError:
    """Return the error for a loop that no whole numbers of layers make as deep as the dense model."""
    fitting = [r for r in range(1, depth + 1) if _divides(family, depth, r)]
    options = f"; recurrences that divide: {', '.join(map(str, fitting[:12]))}" if fitting else ""
    layers = [name for name in ("prelude", "recurrent", "coda") if getattr(family, name) is not None]
    free = f"; leave {' or '.join(layers)} null, so that it is chosen" if layers else ""
    return PlanError(
        f"families.{family.name}: a token is to pass through as many layers as the budget's dense model has, {depth}, "
        f"but {given} in {family.recurrences} recurrences{options}. Change families.{family.name}.recurrences{free}; "
        "or give prelude, recurrent and coda, and with them any depth"
    )


def _divides(family: LoopedFamily, depth: int, times: int) -> bool:
    prelude, recurrent, coda = family.prelude, family.recurrent, family.coda
    if recurrent is not None:
        return depth - recurrent * times >= (prelude or 0) + (coda or 0)
    if prelude is not None and coda is not None:
        rest = depth - prelude - coda
        return rest >= times and rest % times == 0
    return depth - times >= (prelude or 0) + (coda or 0)


def recurrent_params(architecture: Architecture) -> int | None:
    """Return the parameters that every recurrence uses: of the recurrent layers and the injection; None without a loop.

    N_rec of the law of arXiv 2604.21106 (`analysis.laws.looped`), which does not say where it counts the injection's
    2 d^2; they are used once in each recurrence, so they are counted here.
    """
    a, loop = architecture, architecture.loop
    if loop is None:
        return None
    projections = 2 * a.head_width * (a.num_heads + a.num_kv_heads)
    injection = 2 * a.d_model**2 if loop.injection == "concatenate" else 0
    return loop.recurrent * a.d_model * (projections + 2 + 3 * a.ffn_hidden) + injection


def num_kv_heads(loop: Loop, dense: Architecture, matching: Matching) -> int:
    """Return the dense model's number; where its cache of keys and values is to be met, the nearest that there can be.

    The cache grows with the layers that a token passes through, depth x num_kv_heads; heads share keys in equal groups.
    """
    if "kv_cache_bytes" not in matching.equal:
        return dense.num_kv_heads
    wanted = dense.num_kv_heads * dense.num_layers
    divisors = [number for number in range(1, dense.num_heads + 1) if dense.num_heads % number == 0]
    return min(divisors, key=lambda number: (abs(number * loop.depth - wanted), number))
