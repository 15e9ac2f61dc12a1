"""Numbers for people: three significant digits, units, true minus signs, intervals rounded by their own width."""

from __future__ import annotations

import math

from analysis.interval import ConfidenceInterval

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
MEASURED_DIGITS = 2
"""Significant digits of an interval's half width; the value is rounded to the same place."""

FAMILY_WORDS = {
    "dense": "Dense",
    "moe": "MoE",
    "memory_plus": "Memory+",
    "memory": "Memory",
    "pkm": "PKM",
    "peer": "PEER",
    "ngram": "N-gram",
    "token_table": "Token table",
    "mixture": "Mixture",
    "looped": "Looped",
}


SETTING_WORDS = {
    "num_experts": "{} experts",
    "experts_per_token": "top {}",
    "shared_experts": "{} shared experts",
    "num_heads": "{} heads",
    "knn": "{} selected",
    "centred": "{} layers",
    "routing": "{}",
    "recurrences": "{} recurrences",
    "injection=none": "no injection",
    "gated=true": "gated",
    "gated=false": "not gated",
}
"""How a setting is written; the others as their key and value."""


def family(name: str) -> str:
    """A family as it is written in text and figures."""
    return FAMILY_WORDS.get(name, name)


def series(label: str) -> str:
    """A series as it is written: 'memory_plus num_slots=4096' is 'Memory+ 2¹² slots'."""
    return f"{family(label.partition(' ')[0])} {setting(label)}".rstrip()


def possessive(name: str) -> str:
    """A name with its apostrophe: Dense's, 2¹² slots'."""
    return name + ("'" if name.endswith("s") else "'s")


def setting(label: str) -> str:
    """The settings in a series' label, in words; '' for a family without settings."""
    return ", ".join(_setting(word) for word in label.split(" ")[1:])


def _setting(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return word
    if word in SETTING_WORDS:
        return SETTING_WORDS[word]
    plain = key.replace("_", " ")
    if value in ("true", "false"):
        return f"with{'' if value == 'true' else 'out'} {plain}"
    if key == "num_slots" and value.isdigit():
        return f"{slots(int(value))} slots"
    shown = value.replace("-", ", ") if key == "layers" else value
    words = SETTING_WORDS.get(key, plain + " {}").format(shown.replace("_", " "))
    return words.removesuffix("s") if value == "1" and words.startswith("1 ") else words


def slots(number: float) -> str:
    """A number of slots: a power of two as such, another square as one, else with its digits."""
    whole = round(number)
    if whole & (whole - 1) == 0:
        return "2" + str(whole.bit_length() - 1).translate(SUPERSCRIPT)
    root = math.isqrt(whole)
    return f"{root}²" if root * root == whole else f"{whole:,}"


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with so many decimals and a true minus sign; never a negative zero."""
    text = f"{abs(value):.{decimals}f}"
    zero = float(text) == 0
    before = MINUS if value < 0 and not zero else "+" if sign and not zero else ""
    return before + text


def significant(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits, in plain notation between 1e-4 and 1e6, else with a power of ten.

    What is no finite number is 'inf' or 'not known'.
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "not known" if math.isnan(value) else fixed(value, 0)
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -5 < exponent < 6:
        return fixed(value, max(0, digits - 1 - exponent))
    return power(value, digits)


def power(value: float, digits: int = 3) -> str:
    """A number as mantissa x 10^n, trailing zeros dropped."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    ten = "10" + str(int(exponent)).translate(SUPERSCRIPT)
    return ten if mantissa == "1" else f"{mantissa.replace('-', MINUS)}{TIMES}{ten}"


def count(value: float) -> str:
    """Parameters or tokens: 1.29M, 35.6B."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= limit * 0.9995:
            return significant(value / limit) + unit
    return significant(value)


def short_count(value: float) -> str:
    """A count for an axis: as `count`, without trailing zeros (2M, 1.5M)."""
    text = count(value)
    digits = text.rstrip("TBMK")
    return digits.rstrip("0").rstrip(".") + text[len(digits) :] if "." in digits else text


def duration(seconds: float) -> str:
    """A duration with a unit that suits its length."""
    if seconds < 120:
        return f"{significant(seconds)} s"
    return f"{significant(seconds / 60)} min" if seconds < 7200 else f"{significant(seconds / 3600)} h"


def size(num_bytes: float) -> str:
    """A number of bytes in GiB, or in MiB below one."""
    return f"{significant(num_bytes / 2**30)} GiB" if num_bytes >= 2**30 else f"{significant(num_bytes / 2**20)} MiB"


def decimals_for(interval: ConfidenceInterval | None, value: float, most: int = 8) -> int:
    """Decimals that show two digits of the interval's half width, at most `most`, unless an end would read as zero."""
    if interval is None or not math.isfinite(interval.upper - interval.lower):
        sized = value != 0 and math.isfinite(value)
        return min(most, max(0, 2 - math.floor(math.log10(abs(value))))) if sized else min(most, 3)
    half = (interval.upper - interval.lower) / 2
    if half == 0:
        return min(most, 4)
    decimals = min(most, max(0, MEASURED_DIGITS - 1 - math.floor(math.log10(half))))
    ends = (interval.lower, interval.upper)
    while decimals < 8 and any(end != 0 and float(f"{end:.{decimals}f}") == 0 for end in ends):
        decimals += 1
    return decimals


def bracket(interval: ConfidenceInterval | None, decimals: int, *, sign: bool = False) -> str:
    """'[lower, upper]'; '' where there is none."""
    if interval is None:
        return ""
    lower, upper = (
        fixed(end, decimals, sign=sign) if math.isfinite(end) else (f"{MINUS}∞" if end < 0 else "∞")
        for end in (interval.lower, interval.upper)
    )
    return f"[{lower}, {upper}]"


def with_interval(
    value: float, interval: ConfidenceInterval | None, *, sign: bool = False, suffix: str = "", most: int = 3
) -> str:
    """'value [lower, upper]', rounded by the interval."""
    decimals = decimals_for(interval, value, most)
    shown = fixed(value, decimals, sign=sign) + suffix
    return f"{shown} {bracket(interval, decimals, sign=sign)}".rstrip()


def times(value: float, interval: ConfidenceInterval | None) -> str:
    """A multiplier: 'x1.42 [1.10, 1.85]'."""
    return TIMES + with_interval(value, interval, most=2)


def level(share: float) -> str:
    """The level of an interval: '95 %', '99.2 %'."""
    return f"{100 * share:.3g} %"


def counted(number: float, word: str) -> str:
    """A number of things: '1 run', '3 runs', '2.5 degrees of freedom'."""
    noun, space, rest = word.partition(" of ")
    shown = f"{number:.3g}" if isinstance(number, float) else str(number)
    return f"{shown} {noun}{'' if shown == '1' else 's'}{space}{rest}"


def verb(number: float, one: str, several: str) -> str:
    """The verb of a number of things, such as 'is' or 'are'."""
    return one if number == 1 else several
