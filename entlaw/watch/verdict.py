"""What a watcher makes of a run so far: what is left to gain, one of four words about it, and what should not wait.

The forecast is :class:`entlaw.law.forecast.Outlook`'s: the law with an intercept that goes on growing. The law alone
would call a run saturated as soon as its entropy is spent, while accuracy often still grows (LOG.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.findings import Finding, has_error
from entlaw.law.forecast import Outlook
from entlaw.law.growth import Gain, gain_until
from entlaw.law.posterior import Predictive
from entlaw.law.shapes import Fit, Forecast
from entlaw.limits import FEW_POINTS
from entlaw.points import Points
from entlaw.runs.run import Run
from entlaw.watch.report import Alert, Stop, Verdict

# Where the end of the run is not known, what is left to gain is asked for as long a time again.
_AGAIN = 2.0
# A point of accuracy: less is lost in the noise of most tests.
MEANINGFUL_GAIN = 0.01
# Odds of four to one either way before a word is said; between them it cannot be told.
LIKELY = 0.8
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
# exp(H) - 1 is then below 0.05: nothing that is left to spend can move R much, and groups of samples are all alike.
COLLAPSED = 0.05
# Reports without it after which an alarm is over: an entropy that stays near the edge would be told of again and again.
OVER = 5


@dataclass(frozen=True)
class Ahead:
    """A run's future as seen from its last point.

    Attributes
    ----------
    refused : tuple of Finding
        Why nothing can be said; empty if it can.
    final : Forecast or None
        R at the end; None when the end is not known, reached, or nothing can be said.
    gain : Gain or None
        To the end; with an unknown end, over as long a time again.
    """

    refused: tuple[Finding, ...]
    final: Forecast | None
    gain: Gain | None
    _end: Predictive | None = None
    _ceiling: Predictive | None = None

    def probability(self, quantity: str, above: float) -> float | None:
        """P(quantity > above).

        Parameters
        ----------
        quantity : {"gain", "final", "ceiling"}
        above : float
            Fraction.

        Returns
        -------
        float or None
            None where it cannot be told.
        """
        if quantity == "gain":
            return self.gain.above(above) if self.gain is not None else None
        asked = self._end if quantity == "final" else self._ceiling
        return None if asked is None else 1.0 - float(asked.cdf(above))


def look_ahead(run: Run | Points, total_steps: float | None, level: float) -> Ahead:
    """Look ahead from the last point of a run.

    Parameters
    ----------
    run : Run or Points
        As it was at its last point.
    total_steps : float or None
        Where it will end.
    level : float
        Of the interval of ``final``.

    Returns
    -------
    Ahead
    """
    seen = Outlook.of(run)
    points = seen.points
    if not seen.can_answer:
        return Ahead(tuple(f for f in seen.findings if f.severity == "error"), None, None)
    now, start = float(points.step[-1]), points.start
    end = total_steps if total_steps is not None else start + _AGAIN * max(now - start, 1.0)
    if end <= now:
        return Ahead((), None, Gain(float(points.score[-1]), _nothing(), points.shares))
    gain = gain_until(points, end)
    if total_steps is None:
        return Ahead((), None, gain, None, seen.ceiling())
    return Ahead((), seen.forecast(end, level), gain, seen.at_step(end), seen.ceiling())


def _nothing() -> Predictive:
    """At the end of a run nothing is left."""
    return Predictive(np.ones(1), np.zeros(1), np.zeros(1))


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
    if points < FEW_POINTS:
        return "cannot-tell", f"{points} of the {FEW_POINTS} points that a forecast wants"
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


def alarms(
    step: float,
    entropy: np.ndarray,
    fit: Fit | None,
    target: float | None,
    stop: Stop | None,
    findings: Sequence[Finding],
) -> tuple[Alert, ...]:
    """All that is the case at a point, whether told before or not.

    Parameters
    ----------
    step : float
    entropy : ndarray, shape (n,)
        Of all points so far (nats/token), also of those that the fit leaves out.
    fit : Fit or None
    target : float or None
        Performance that the run is meant to reach.
    stop : Stop or None
    findings : sequence of Finding

    Returns
    -------
    tuple of Alert
    """
    found = []
    by_code = {f.code: f for f in findings}
    if len(entropy) >= 3:
        recent = float(np.median(entropy[-3:]))  # one value gone astray is no collapse
        if recent < COLLAPSED:
            found.append(
                Alert(
                    "entropy-collapsed", step, f"entropy is {recent:.3f} nats per token",
                    "the policy hardly explores any more: what it has not found by now it will not find",
                )
            )  # fmt: skip
    exploded = by_code.get("entropy-exploded")
    if exploded is not None:
        found.append(Alert("entropy-exploding", step, exploded.what, exploded.why))
    if (
        target is not None
        and fit is not None
        and len(entropy) >= FEW_POINTS
        and not has_error(tuple(findings))
    ):
        interval = fit.ceiling_interval
        if interval.hi < target:
            found.append(
                Alert(
                    "ceiling-below-target", step,
                    f"the ceiling is {fit.ceiling:.3f} [{interval.lo:.3f}, {interval.hi:.3f}], the target {target:.3f}",
                    "by the law as fitted so far, spending all entropy that is left does not reach it",
                )
            )  # fmt: skip
    if stop is not None and stop.fired:
        found.append(
            Alert("stop-rule", step, f"{stop.rule} held at {stop.in_a_row} validations in a row", stop.why)
        )
    return tuple(found)


def new_alarms(now: Sequence[Alert], standing: Mapping[str, int]) -> tuple[Alert, ...]:
    """Those whose code does not stand already."""
    return tuple(alert for alert in now if alert.code not in standing)


def standing_alarms(now: Sequence[Alert], standing: Mapping[str, int]) -> dict[str, int]:
    """Codes that were the case lately, with the reports since."""
    rest = {code: since + 1 for code, since in standing.items() if since + 1 < OVER}
    return rest | {alert.code: 0 for alert in now}
