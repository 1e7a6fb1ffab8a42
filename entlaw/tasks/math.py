r"""Checking mathematical answers: text, exact numbers and lists first, then computer algebra (math-verify).

The last step runs in worker processes with a time limit of its own: math-verify's needs signals, which only the main
thread may use, and an expression such as ``10^{10^{10}}`` must cost one response its reward, not a batch.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from entlaw.errors import MissingExtra, UsageError
from entlaw.tasks.answers import LONGEST, Where, final_answer, plain
from entlaw.tasks.pool import Reply, WorkerPool
from entlaw.tasks.quantities import decide, parted

Comparer = Literal["math-verify", "own"]


@dataclass(frozen=True)
class MathVerdict:
    """Whether a response is right, and how that was found.

    Attributes
    ----------
    right : bool
    answer : str or None
        What was found in the response.
    by : {"own", "math-verify", "none"}
        own: text, numbers, lists; none: there was nothing to compare, or no decision.
    note : str
        Why there is no answer or no decision; empty otherwise.
    """

    right: bool
    answer: str | None
    by: str
    note: str = ""


class MathVerifier:
    """Checks answers, keeping its worker processes between calls; usable from any thread.

    Parameters
    ----------
    workers : int
        Processes for computer algebra, started when first needed.
    cpu_s : float
        CPU seconds for one comparison.
    engine : {"math-verify", "own"}
        own: text, numbers and lists alone; what they cannot decide counts as wrong.

    Raises
    ------
    MissingExtra
        math-verify is not installed.
    """

    def __init__(
        self, workers: int = 1, cpu_s: float = 5.0, engine: Comparer = "math-verify", wall_s: float = 300.0
    ) -> None:
        if engine not in ("math-verify", "own"):
            raise UsageError(f"{engine!r} is no way of checking answers", hint="math-verify or own")
        if engine == "math-verify":
            need_math_verify()
        self.engine = engine
        self.pool = WorkerPool("entlaw.tasks.math:equal", workers, cpu_s, wall_s)

    def verify(self, response: str, answer: str, where: Where = "any", rounded: bool = False) -> MathVerdict:
        """One response; see :meth:`verify_batch`."""
        return self.verify_batch([response], [answer], where, rounded)[0]

    def verify_batch(
        self, responses: Sequence[str], answers: Sequence[str], where: Where = "any", rounded: bool = False
    ) -> list[MathVerdict]:
        """A verdict a response, in order; an item that hangs or breaks its process is wrong, with a note, alone.

        Parameters
        ----------
        responses, answers : sequence of str
            What the model wrote, and the reference; of one length.
        where : {"boxed", "any"}
            Where an answer is looked for, as in :func:`entlaw.tasks.answers.final_answer`.
        rounded : bool
            The references are measured decimals, as in :func:`entlaw.tasks.quantities.decide`.

        Raises
        ------
        ValueError
            The sequences differ in length.
        """
        if len(responses) != len(answers):
            raise ValueError(f"{len(responses)} responses for {len(answers)} answers")
        found = [final_answer(r, where) for r in responses]
        own = [
            None if a is None else decide(gold, a, rounded) for gold, a in zip(answers, found, strict=True)
        ]
        # Responses of one group often agree, and are compared once.
        pairs = {
            (gold, a): None
            for gold, a, decided in zip(answers, found, own, strict=True)
            if a is not None and decided is None and self.engine == "math-verify"
        }
        replies = dict(zip(pairs, self.pool.map([list(p) for p in pairs]), strict=True)) if pairs else {}
        return [
            _verdict(a, decided, replies.get((gold, a or "")))
            for gold, a, decided in zip(answers, found, own, strict=True)
        ]

    def close(self) -> None:
        """End the worker processes."""
        self.pool.close()

    def __enter__(self) -> MathVerifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def verify_batch(
    responses: Sequence[str],
    answers: Sequence[str],
    workers: int = 1,
    where: Where = "any",
    rounded: bool = False,
) -> list[MathVerdict]:
    """:meth:`MathVerifier.verify_batch` with processes for this call alone, which take a second or two to start."""
    with MathVerifier(workers) as verifier:
        return verifier.verify_batch(responses, answers, where, rounded)


def need_math_verify() -> None:
    """Raise MissingExtra unless math-verify is installed; does not import it, which takes a second."""
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtra(
            "checking mathematical answers needs math-verify",
            why="fractions, roots, sets and equations in LaTeX are compared by computer algebra",
            hint="pip install 'entlaw[math]'",
        )


def _verdict(answer: str | None, decided: bool | None, reply: Reply | None) -> MathVerdict:
    if answer is None:
        return MathVerdict(False, None, "none", "no answer found")
    if decided is not None:
        return MathVerdict(decided, answer, "own")
    if reply is None:
        return MathVerdict(False, answer, "none", "not decided by text, numbers and lists")
    if reply.status == "ok" and reply.value in (True, False):
        return MathVerdict(reply.value, answer, "math-verify")
    return MathVerdict(False, answer, "none", f"{reply.status}: {reply.value}")


# In the worker -----------------------------------------------------------------------------------


# Other text math-verify would read as a number alone, dropping the rest.
_PLAIN_EXPRESSION = re.compile(r"[\d\s.,+*/^()%!-]+")
_DERIVATIVE = re.compile(r"\\frac\s*\{\s*(?:d|\\partial)\b|\^\s*\{?\s*\\prime|'|\\dd?ot\b")


def equal(gold: str, answer: str) -> bool | str:
    """Whether computer algebra takes two answers for the same; a reason if it cannot read one of them.

    math-verify's yes is not taken on trust: both are evaluated at a few points, which must agree. Its no is looked at
    once more where a difference of the two expands to nought. To be called in a worker process: it has no time limit of
    its own.
    """
    (gold, unit), (answer, other) = parted(plain(gold)), parted(plain(answer))
    if unit and other and unit != other:
        return False
    if _DERIVATIVE.search(gold) or _DERIVATIVE.search(answer):
        return "derivatives are compared as text alone"
    first, second = formulas(gold), formulas(answer)
    if not first or not second:
        return "cannot read " + ("the reference" if not first else "the answer")
    from math_verify import verify

    said = bool(verify(first, second, timeout_seconds=None))
    pairs = [(a, b) for a in first for b in second]
    if said:
        return not any(differ(a, b) for a, b in pairs)
    return any(_no_difference(a, b) for a, b in pairs)


def formulas(text: str) -> list[Any]:
    """What math-verify reads in an answer; empty if nothing, or nothing finite."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    if len(text) > LONGEST:
        return []
    bare = plain(text).replace("\\degree", "")
    # Units are parted before: math-verify would take the s of 2s for seconds.
    how = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all")
    latex = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=how)]
    # E alone is Euler's number to the parser, which then trips over E_1.
    bare = re.sub(r"(?<![A-Za-z\\\\])E(?=_)", r"\\Xi", bare)
    # first_match: where the whole cannot be read, a part of it that can (the 2/3 of "... + 2/3 E_2") is no answer.
    found: list[Any] = parse(
        f"\\boxed{{{bare}}}",
        latex,
        fallback_mode="no_fallback",
        extraction_mode="first_match",
        parsing_timeout=None,
    )
    if not found and _PLAIN_EXPRESSION.fullmatch(bare):
        found = parse(bare, [ExprExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
    return [f for f in found if not (isinstance(f, sympy.Basic) and f.has(sympy.zoo, sympy.nan))]


def differ(first: Any, second: Any) -> bool:
    """Whether two expressions have clearly different values somewhere; False where that cannot be said."""
    import sympy

    if not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr)):
        return False
    symbols = sorted(first.free_symbols | second.free_symbols, key=str)
    # Decimals in an expression are rounded ones.
    tolerance = 1e-5 if first.has(sympy.Float) or second.has(sympy.Float) else 1e-12
    if _is_percent(first) or _is_percent(second):
        return False  # 50% is 50 by convention
    for shift in range(3) if symbols else range(1):
        at = {s: sympy.Rational(7 + 5 * k + 3 * shift, 11 + 2 * k) for k, s in enumerate(symbols)}
        try:
            a, b = (complex(e.subs(at).evalf(30)) for e in (first, second))
            exact = sympy.Abs((first - second).subs(at)).evalf(30) if abs(a) + abs(b) == 0 else None
        except (TypeError, ValueError, OverflowError, ArithmeticError, AttributeError):
            continue
        size = max(abs(a), abs(b))
        if size == float("inf") or size != size:
            continue
        if size == 0:
            if exact is not None and exact.is_number and exact != 0:
                return True  # both too small for a float, and not the same
            continue
        if abs(a - b) > tolerance * size:
            return True
    return False


def _is_percent(expression: Any) -> bool:
    import sympy

    return bool(expression.has(sympy.UnevaluatedExpr))


def _no_difference(first: Any, second: Any) -> bool:
    import sympy

    if not (isinstance(first, sympy.Expr) and isinstance(second, sympy.Expr)):
        return False
    try:
        return bool(sympy.expand(first.doit() - second.doit()) == 0)
    except (TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return False
