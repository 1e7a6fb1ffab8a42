"""Running untrusted Python: what a model wrote is run where it can neither reach nor keep anything.

>>> from entlaw.tasks.sandbox import Sandbox, UnitTests
>>> with Sandbox() as sandbox:  # doctest: +SKIP
...     sandbox.check("def double(x): return 2 * x", UnitTests(asserts=("assert double(4) == 8",))).verdict
'passed'
"""

from __future__ import annotations

from collections.abc import Callable

from entlaw.tasks.sandbox.host import ORDER, Sandbox, UnitTests
from entlaw.tasks.sandbox.limits import VERDICTS, Isolation, Limits, Outcome, Test, Verdict

__all__ = [
    "ORDER",
    "VERDICTS",
    "Isolation",
    "Limits",
    "Outcome",
    "Sandbox",
    "Test",
    "UnitTests",
    "Verdict",
    "run",
]


def run(
    program: str,
    *,
    stdin: str = "",
    limits: Limits | None = None,
    isolation: str = "auto",
    expect: str | Callable[[str], bool] | None = None,
) -> Outcome:
    """One program in a sandbox of its own; see :meth:`Sandbox.run`. For many, keep a :class:`Sandbox`.

    Raises
    ------
    SandboxUnavailable
        Nothing that isolates works on this machine; the text says what is missing.
    """
    with Sandbox(isolation) as sandbox:
        return sandbox.run(program, stdin=stdin, limits=limits, expect=expect)
