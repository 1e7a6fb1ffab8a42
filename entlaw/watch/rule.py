"""Stop rules as users write them: ``P(gain > 1%) < 0.05``, ``P(ceiling < target) > 0.9 and step > 50``.

::

    rule     = part { "or" part }
    part     = term { "and" term }
    term     = "(" rule ")" | "P(" quantity op value ")" op number | known op value
    quantity = "gain" | "final" | "ceiling"            of which only a distribution is known
    known    = "entropy" | "performance" | "step"
    op       = "<" | "<=" | ">" | ">="
    value    = number [ "%" ] | "target"               1% is 0.01
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from entlaw.errors import UsageError

AskedQuantity = Literal["gain", "final", "ceiling"]
FORECAST: tuple[AskedQuantity, ...] = ("gain", "final", "ceiling")
KNOWN = ("entropy", "performance", "step")
_OPS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+)|(?P<word>[A-Za-z_]+)|(?P<sign><=|>=|[<>()%]))"
)

# P(quantity > value), or None where it is not known.
Ask = Callable[[AskedQuantity, float], "float | None"]


@dataclass(frozen=True)
class RuleAnswer:
    """What a rule says now.

    Attributes
    ----------
    holds : bool or None
        None: it is not known.
    probability : float or None
        The last probability that was asked for.
    """

    holds: bool | None
    probability: float | None = None


@dataclass(frozen=True)
class StopRule:
    """A parsed stop rule.

    Attributes
    ----------
    text : str
        As it was written.
    """

    text: str
    _tree: _Node

    def ask(self, ask: Ask, known: Mapping[str, float]) -> RuleAnswer:
        """Whether it holds.

        Parameters
        ----------
        ask : callable
            ``ask(quantity, value)`` is P(quantity > value), None where it is not known.
        known : mapping
            ``entropy``, ``performance``, ``step``.
        """
        return self._tree.ask(ask, known)


@dataclass(frozen=True)
class _Chance:
    quantity: AskedQuantity
    above: bool
    value: float
    op: str
    number: float

    def ask(self, ask: Ask, known: Mapping[str, float]) -> RuleAnswer:
        p = ask(self.quantity, self.value)
        if p is None:
            return RuleAnswer(None)
        p = p if self.above else 1.0 - p
        return RuleAnswer(_OPS[self.op](p, self.number), p)


@dataclass(frozen=True)
class _Plain:
    quantity: str
    op: str
    value: float

    def ask(self, ask: Ask, known: Mapping[str, float]) -> RuleAnswer:
        return RuleAnswer(_OPS[self.op](known[self.quantity], self.value))


@dataclass(frozen=True)
class _Joined:
    every: bool
    parts: tuple[_Node, ...]

    def ask(self, ask: Ask, known: Mapping[str, float]) -> RuleAnswer:
        answers = [part.ask(ask, known) for part in self.parts]
        p = next((a.probability for a in answers if a.probability is not None), None)
        decides = not self.every  # one False decides an "and", one True an "or"
        if any(a.holds is decides for a in answers):
            return RuleAnswer(decides, p)
        return RuleAnswer(None if any(a.holds is None for a in answers) else self.every, p)


_Node = _Chance | _Plain | _Joined


def parse_rule(text: str, target: float | None = None) -> StopRule:
    """Read a stop rule.

    Parameters
    ----------
    text : str
    target : float, optional
        What ``target`` stands for (fraction).

    Returns
    -------
    StopRule

    Raises
    ------
    UsageError
        With the place at which it cannot be read.
    """
    return StopRule(text.strip(), _Parser(text, target).whole())


class _Parser:
    def __init__(self, text: str, target: float | None) -> None:
        self._text, self._target, self._at = text, target, 0

    def whole(self) -> _Node:
        if not self._text.strip():
            raise self._wrong("the rule is empty")
        tree = self._rule()
        if self._peek() is not None:
            raise self._wrong("the rule should end here, or go on with `and` or `or`")
        return tree

    def _rule(self) -> _Node:
        parts = [self._part()]
        while self._take("or"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else _Joined(False, tuple(parts))

    def _part(self) -> _Node:
        parts = [self._term()]
        while self._take("and"):
            parts.append(self._term())
        return parts[0] if len(parts) == 1 else _Joined(True, tuple(parts))

    def _term(self) -> _Node:
        if self._take("("):
            inner = self._rule()
            self._need(")")
            return inner
        start, word = self._at, self._word("P(...), entropy, performance or step")
        if word == "p":
            self._need("(")
            start, name = self._at, self._word(" or ".join(FORECAST))
            quantity = next((one for one in FORECAST if one == name), None)
            if quantity is None:
                hint = "its value is known: write it without P( )" if name in KNOWN else ""
                raise self._wrong(f"P( ) is asked of {', '.join(FORECAST)}, not of {name}", start, hint)
            above = self._op() in (">", ">=")
            value = self._value()
            self._need(")")
            op = self._op()
            start, number = self._at, self._value()
            if not 0.0 <= number <= 1.0:
                raise self._wrong("a probability is between 0 and 1", start)
            return _Chance(quantity, above, value, op, number)
        if word in FORECAST:
            raise self._wrong(
                f"{word} is not known yet, only its probability", start, f"e.g. P({word} > 1%) < 0.05"
            )
        if word not in KNOWN:
            raise self._wrong(
                f"no quantity {word!r}", start, f"P( ) of {', '.join(FORECAST)}; or {', '.join(KNOWN)}"
            )
        return _Plain(word, self._op(), self._value())

    def _value(self) -> float:
        start = self._at
        kind, token = self._next("a number")
        if kind == "word" and token.lower() == "target":
            if self._target is None:
                raise self._wrong("no target was given", start, "give --target, or a number")
            return self._target
        if kind != "number":
            raise self._wrong(f"a number is missing before {token!r}", start)
        return float(token) / 100.0 if self._take("%") else float(token)

    def _op(self) -> str:
        start = self._at
        _, token = self._next("a comparison")
        if token not in _OPS:
            raise self._wrong(f"a comparison (<, <=, >, >=) is missing before {token!r}", start)
        return token

    def _word(self, wanted: str) -> str:
        start = self._at
        kind, token = self._next(wanted)
        if kind != "word":
            raise self._wrong(f"{wanted} should stand here, not {token!r}", start)
        return token.lower()

    def _need(self, token: str) -> None:
        if not self._take(token):
            raise self._wrong(f"{token!r} is missing")

    def _take(self, token: str) -> bool:
        found = self._peek()
        if found is None or found.group().strip().lower() != token:
            return False
        self._at = found.end()
        return True

    def _peek(self) -> re.Match[str] | None:
        if not self._text[self._at :].strip():
            return None
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise self._wrong(f"{self._text[self._at :].strip()[0]!r} has no meaning in a rule")
        return found

    def _next(self, wanted: str) -> tuple[str, str]:
        found = self._peek()
        if found is None:
            raise self._wrong(f"the rule ends where {wanted} should stand")
        self._at = found.end()
        kind = found.lastgroup or ""
        return kind, found.group(kind)

    def _wrong(self, what: str, at: int | None = None, hint: str = "") -> UsageError:
        at = self._at if at is None else at
        at += len(self._text[at:]) - len(self._text[at:].lstrip())
        return UsageError(
            f"the stop rule cannot be read: {what}",
            why=f"{self._text}\n        {' ' * at}^",
            hint=hint or 'e.g. "P(gain > 1%) < 0.05"',
        )
