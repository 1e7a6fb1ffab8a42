r"""Numbers with units, and lists of them, compared exactly: the first rung of answer checking.

``decide`` says True, False, or that it does not know; only then is a computer-algebra system asked. Numbers are exact
fractions, so 123456789 is not 123456788, and 1e-9 is not 2e-9, whatever precision floats have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from entlaw.tasks.answers import LONGEST, canonical, plain, without_prefix, without_text

# Larger exponents are not written out: Fraction would fill the memory.
_LARGEST_EXPONENT = 400

_INTEGER = r"\d{1,3}(?:(?:,|\{,\})\d{3})+(?!\d)|\d+"
_PLAIN = rf"(?:{_INTEGER})(?:\.\d*)?|\.\d+"
_POWER = (
    r"\s*(?:\\times|\\cdot|\*|×|x)\s*10\s*\^\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))|[eE]([-+]?\d+)(?![\d.])"
)
_SCIENTIFIC = re.compile(rf"([-+]?)\s*({_PLAIN})(?:{_POWER})?")
_FRACTION = re.compile(
    r"([-+]?)\s*(?:\\frac\s*\{\s*([-+]?)\s*([\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}|([\d.,]+)\s*/\s*([\d.,]+))"
)
# "(073)", "{5}", "\\textbf{7}": a number in brackets or type of its own.
_WRAPPED = re.compile(
    r"\(([^(),;]+)\)|\{([^{}]+)\}|\\(?:text|textbf|textit|mathbf|mathrm|boldsymbol)\s*\{([^{}]*\d[^{}]*)\}"
)
_MIXED = re.compile(r"([-+]?)\s*(\d+)\s*(?:\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|\s(\d+)/(\d+))")

# Units whose confusion changes a quantity; spellings of one unit share a line.
_UNITS = """
%:percent,percentage; degree:degrees,deg; radian:radians,rad
m:meter,meters,metre,metres; cm:centimeter,centimeters,centimetre,centimetres; mm:millimeter,millimeters
km:kilometer,kilometers,kilometre,kilometres; nm:nanometer,nanometers; in:inch,inches; ft:foot,feet; yd:yard,yards
mile:miles,mi; g:gram,grams; kg:kilogram,kilograms; mg:milligram,milligrams; lb:pound,pounds,lbs; oz:ounce,ounces
s:second,seconds,sec,secs; min:minute,minutes,mins; h:hour,hours,hr,hrs; day:days; week:weeks; month:months; year:years
l:liter,liters,litre,litres; ml:milliliter,milliliters; dollar:dollars,usd; cent:cents; euro:euros
j:joule,joules; kj:kilojoule,kilojoules; ev; v:volt,volts; hz:hertz; km/h:kph,kmph; m/s; mph
m^2; m^3; cm^2; cm^3; km^2; ft^2; ft^3; in^2; in^3
"""
UNITS = {
    spelling: names.split(":")[0].strip()
    for names in re.split(r"[;\n]", _UNITS)
    if names.strip()
    for spelling in [
        names.split(":")[0].strip(),
        *(n.strip() for n in names.partition(":")[2].split(",") if n),
    ]
}
_BASES = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_CURRENCY = {"$": "dollar", "€": "euro", "£": "pound sterling"}


@dataclass(frozen=True)
class Quantity:
    """A number, how finely it was written, and its unit.

    Attributes
    ----------
    value : Fraction
    quantum : Fraction
        Place value of the last digit; 0 for a fraction, which is exact.
    unit : str
        Of :data:`UNITS`; "" for none, or for a thing counted ("9 apples").
    """

    value: Fraction
    quantum: Fraction
    unit: str = ""


def quantity(text: str) -> Quantity | None:
    r"""A number: decimal, thousands, scientific, ``a/b``, ``\frac``, mixed, with unit, percent or currency; or None."""
    if len(text) > LONGEST:
        return None
    currency = next(
        (
            name
            for sign, name in _CURRENCY.items()
            if re.match(rf"\s*-?\s*\\?{re.escape(sign)}\s*\d", text) and text.count(sign) % 2
        ),
        "",
    )  # - paired dollars are LaTeX
    bare = plain(re.sub("[€£]", "", text))
    while (match := _WRAPPED.fullmatch(bare)) is not None:
        bare = (match.group(1) or match.group(2) or match.group(3)).strip()
    number, rest = _number(bare)
    if number is None:
        return None
    unit = _unit(rest)
    if unit is None:
        return None
    return Quantity(*number, unit or currency)


def _number(text: str) -> tuple[tuple[Fraction, Fraction] | None, str]:
    """The number that a text begins with (value, quantum), and the rest."""
    if match := _MIXED.match(text):
        sign, whole, *parts = match.groups()
        top, bottom = (int(p) for p in parts if p is not None)
        if bottom and top < bottom:
            mixed = int(whole) + Fraction(top, bottom)
            return (-mixed if sign == "-" else mixed, Fraction(0)), text[match.end() :]
    if match := _FRACTION.match(text):
        sign, inner, *parts = match.groups()
        over, under = (_decimal(p) for p in parts if p is not None)
        if over is None or not under:
            return None, text
        ratio = over / under
        return (-ratio if (sign == "-") != (inner == "-") else ratio, Fraction(0)), text[match.end() :]
    match = _SCIENTIFIC.match(text)
    if match is None:
        return None, text
    sign, digits, *exponents = match.groups()
    exponent = int(next((e for e in exponents if e is not None), "0")[:6])
    decimal = _decimal(digits)
    if decimal is None or abs(exponent) > _LARGEST_EXPONENT:
        return None, text
    places = len(digits.partition(".")[2])
    value, quantum = decimal * Fraction(10) ** exponent, Fraction(10) ** (exponent - places)
    return (-value if sign == "-" else value, quantum), text[match.end() :]


def _decimal(digits: str) -> Fraction | None:
    digits = digits.replace("{,}", "").replace(",", "")
    if not re.fullmatch(r"\d+\.?\d*|\.\d+", digits) or len(digits) > 500:
        return None
    return Fraction(digits if not digits.endswith(".") else digits[:-1])


def _unit(rest: str) -> str | None:
    r"""The unit after a number: "" for none or an unknown thing; None if what follows is no unit but mathematics."""
    marked = re.fullmatch(
        r"(?:\s*\\(?:text|mathrm|mbox|textbf|operatorname)\s*\{[^{}]*\}\s*(?:\^\s*\{?-?\d\}?)?\s*/?)+", rest
    )
    bare = without_text(rest).strip()
    if not bare:
        return ""
    known = UNITS.get(
        re.sub(r"[\s{}\\]|\.$", "", bare).lower().replace("squared", "^2").replace("cubed", "^3")
    )
    if known is not None and (marked or bare[0] in "%\\" or len(bare) > 1):
        return known
    if power := re.fullmatch(r"([a-z]+)\^(\d)", re.sub(r"[\s{}]", "", bare.lower())):
        return f"{UNITS[power[1]]}^{power[2]}" if power[1] in UNITS else ("" if marked else None)
    if words := re.fullmatch(r"(?:square|sq\.?|cubic|cu\.?)\s+([a-z]+)\.?", bare.lower()):
        suffix = "^2" if bare.lower().startswith("s") else "^3"
        return UNITS[words.group(1)] + suffix if words.group(1) in UNITS else ""
    if marked or re.fullmatch(r"(?:[A-Za-z][a-z]+[\s.,-]*)+", bare):
        return "" if not re.search(r"\b(?:and|or|to|mod|if|for|over|times|plus|minus|base)\b", bare) else None
    return None


# Lists -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """Several answers: a tuple or interval keeps its order and its brackets, a set or bare list has none."""

    parts: tuple[str, ...]
    brackets: str = ""


def items(text: str) -> Items | None:
    r"""``(1, 2)``, ``[0, 1)``, ``\{1, 2\}``, ``1, 2``, ``1 and 2`` taken apart; None if the text is one answer."""
    bare = re.sub(r"(\d)\$?\s*,\s*\$(?=-?[\d\\])", r"\1, ", text)
    bare = re.sub(r"\\text\s*\{\s*,?\s*(?:and|or)\s*\}|\b(?:and|or)\b", ",", bare)
    bare = re.sub(r",[\s,]*,", ",", plain(bare))
    inner, brackets = bare, ""
    if len(bare) > 1 and bare[0] in "([" and bare[-1] in ")]" and _balanced(bare[1:-1]):
        inner, brackets = bare[1:-1], bare[0] + bare[-1]
    elif bare.startswith("\\{") and bare.endswith("\\}") and _balanced(bare[2:-2]):
        inner, brackets = bare[2:-2], "{}"
    parts = _split(inner, thousands=not brackets)
    if len(parts) < 2:
        return None if brackets != "{}" or not inner.strip() else Items((inner.strip(),), "")
    if any(not p for p in parts):
        return None
    return Items(tuple(parts), "" if brackets == "{}" else brackets)


def _balanced(text: str) -> bool:
    depth = 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _split(text: str, thousands: bool) -> list[str]:
    """Cut at commas and semicolons outside of brackets; the comma of 1,234 stays where numbers may have such."""
    parts, depth, start = [], 0, 0
    # "27,54,108" is a list although ",108" might belong to a number: one comma alone cannot.
    thousands = thousands and not re.search(r",(?!\s|\d{3}(?!\d))", text)
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if depth or c not in ",;":
            continue
        if (
            thousands
            and c == ","
            and re.match(r",\d{3}(?!\d)", text[i:])
            and re.search(r"(?<![\d.])\d{1,3}(?:,\d{3})*$", text[:i])
        ):
            continue
        parts.append(text[start:i].strip())
        start = i + 1
    return [*parts, text[start:].strip()]


# Deciding ----------------------------------------------------------------------------------------


def decide(gold: str, answer: str, rounded: bool = False) -> bool | None:
    """Whether an answer is right, as far as text, numbers and lists of them tell; None: not known.

    Parameters
    ----------
    gold, answer : str
        The reference and the answer found in a response, LaTeX or plain.
    rounded : bool
        The reference is a measured decimal: an answer written more finely is right if it rounds to it.
    """
    if len(gold) > LONGEST or len(answer) > LONGEST:
        return False
    if canonical(gold) == canonical(answer) and canonical(gold):
        return True
    (name, bare_gold), (other, bare_answer) = without_prefix(plain(gold)), without_prefix(plain(answer))
    if name and other and name != other:
        return None
    first, second = quantity(_keep(gold, name, bare_gold)), quantity(_keep(answer, other, bare_answer))
    if first is not None and second is not None:
        return same_quantity(first, second, rounded)
    if (name or other) and canonical(bare_gold) == canonical(bare_answer):
        return True
    numeral, other_numeral = _numeral(bare_gold), _numeral(bare_answer)
    if numeral is not None and other_numeral is not None and numeral[1]:
        return numeral[0] == other_numeral[0] and other_numeral[1] in ("", numeral[1])
    several, given = items(gold), items(answer)
    if several is None or given is None:
        return _same_matrices(bare_gold, bare_answer, rounded)
    return _same_items(several, given, rounded)


def _numeral(text: str) -> tuple[str, str] | None:
    r"""Digits and base of ``2677_9``, or digits alone; computer algebra would drop the base."""
    match = re.fullmatch(
        r"(?:\text\s*\{\s*)?([0-9A-Fa-f]+)\s*\}?(?:_\s*\{?\s*(?:\text\s*\{)?\s*(\d+|[a-z]+)\s*\}*)?", text
    )
    return (match[1].lstrip("0").upper(), _BASES.get(match[2] or "", match[2] or "")) if match else None


_MATRIX = re.compile(r"\\begin\s*\{([pbvV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)


def _same_matrices(gold: str, answer: str, rounded: bool) -> bool | None:
    """Matrices entry by entry; None if either is none, or an entry is not decided."""
    first, second = _MATRIX.fullmatch(gold.strip()), _MATRIX.fullmatch(answer.strip())
    if first is None or second is None:
        return None
    rows, others = (
        [row.split("&") for row in m[2].strip().removesuffix("\\\\").split("\\\\")] for m in (first, second)
    )
    if [len(row) for row in rows] != [len(row) for row in others]:
        return False
    found = [
        decide(g, a, rounded)
        for row, other in zip(rows, others, strict=True)
        for g, a in zip(row, other, strict=True)
    ]
    return False if False in found else None if None in found else True


def parted(text: str) -> tuple[str, str]:
    r"""An expression and the unit behind it, "" without: ``10\sqrt{2} \text{ cm}`` is (``10\sqrt{2}``, ``cm``)."""
    match = re.search(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}\s*(?:\^\s*\{?\d\}?)?\s*$", text)
    if match is None or not text[: match.start()].strip():
        return text, ""
    unit = _unit(match.group())
    return (text, "") if unit is None else (text[: match.start()].strip(), unit)


def _keep(text: str, name: str, bare: str) -> str:
    return bare if name else text  # plain() drops a currency sign, so only where a prefix was cut


def same_quantity(gold: Quantity, answer: Quantity, rounded: bool = False) -> bool:
    """Equal values, units that do not contradict each other, and two kinds of rounding.

    A decimal is right for a fraction without end (1/3) if it is its correct rounding to three or more significant
    digits; and, with ``rounded``, a finer decimal is right if it rounds to the reference.
    """
    if gold.unit and answer.unit and gold.unit != answer.unit:
        return False
    values = [answer.value]
    if "%" in (gold.unit, answer.unit) and gold.unit != answer.unit:
        values.append(answer.value * 100 if gold.unit else answer.value / 100)
    return any(_same_value(gold, v, answer.quantum, rounded) for v in values)


def _same_value(gold: Quantity, value: Fraction, quantum: Fraction, rounded: bool) -> bool:
    if gold.value == value:
        return True
    off = abs(gold.value - value)
    if gold.quantum == 0 and quantum and not _terminates(gold.value):
        return abs(value) >= 100 * quantum and off <= quantum / 2
    return bool(rounded and gold.quantum and quantum < gold.quantum and off <= gold.quantum / 2)


def _terminates(value: Fraction) -> bool:
    """Whether a fraction has a finite decimal expansion."""
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    return bottom == 1


def _same_items(gold: Items, answer: Items, rounded: bool) -> bool | None:
    if len(gold.parts) > 20 or len(answer.parts) > 20:
        return None
    if gold.brackets != answer.brackets:
        return None  # "(1,2)" for "1,2" may be meant: left to the algebra system
    if gold.brackets:
        if len(gold.parts) != len(answer.parts):
            return False
        found = [decide(g, a, rounded) for g, a in zip(gold.parts, answer.parts, strict=True)]
        return False if False in found else None if None in found else True
    left, unknown = list(answer.parts), False
    for g in gold.parts:
        found = [decide(g, a, rounded) for a in left]
        unknown = unknown or None in found
        if True not in found:
            return None if unknown else False
        left.pop(found.index(True))
    return None if left and unknown else not left
