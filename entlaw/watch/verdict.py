"""One of four words about a run, and why: cannot tell, keep going, saturating, the law does not apply."""

from __future__ import annotations

from collections.abc import Sequence

from entlaw.findings import Finding
from entlaw.watch.outlook import Ahead
from entlaw.watch.report import Verdict

# A point of accuracy: less is lost in the noise of most tests.
MEANINGFUL_GAIN = 0.01
# Odds of four to one either way before a word is said; between them it cannot be told.
LIKELY = 0.8
# As many points as the diagnostics want before they stop warning of few.
FEWEST = 8
# A verdict is told when it has held at so many reports in a row: odds near the edge cross it back and forth.
# Of 74 real runs the verdict changes 5 times (median; at most 13) told at once, 3 (7) told at the second, 3 (5) at the
# third, which comes later (benchmarks/stop_rule.py --confirm).
CONFIRM = 2

# Errors that no further point of the same kind will mend: this is not the process that the law describes.
OUT_OF_SCOPE = frozenset({
    "entropy-not-per-token", "entropy-impossible", "entropy-negative", "entropy-exploded", "entropy-rising",
    "entropy-turned-up", "entropy-not-falling", "entropy-constant", "resumed-after-collapse", "slope-not-positive",
    "performance-constant", "performance-mixed-units", "performance-not-a-score", "mixed-units",
})  # fmt: skip


def judge(points: int, ahead: Ahead, findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """The verdict on a run so far, and its reason in one sentence.

    Parameters
    ----------
    points : int
        Pairs of entropy and performance so far.
    ahead : Ahead
    findings : sequence of Finding
        Of the fit, worst first.

    Returns
    -------
    verdict : {"cannot-tell", "keep-going", "saturating", "does-not-apply"}
    why : str
    """
    if points < FEWEST:
        return "cannot-tell", f"{points} of the {FEWEST} points that a forecast wants"
    errors = [*(f for f in findings if f.severity == "error"), *ahead.refused]
    error = next((f for f in errors if f.code in OUT_OF_SCOPE), None)
    if error is not None:
        return "does-not-apply", error.what
    p = ahead.probability("gain", MEANINGFUL_GAIN)
    if p is None:
        return "cannot-tell", errors[0].what if errors else "what is left to gain is not known"
    told = f"P(gain > {100 * MEANINGFUL_GAIN:g} point) = {p:.2f}"
    if p >= LIKELY:
        return "keep-going", told
    if 1.0 - p >= LIKELY:
        return "saturating", told
    return "cannot-tell", told
