"""What should not wait until somebody looks: each alarm is raised once, and again only after it was over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from entlaw.law.checks_entropy import SPENT
from entlaw.law.levels import start_level
from entlaw.law.result import Result
from entlaw.law.summary import format_interval, format_number
from entlaw.limits import FEW_POINTS
from entlaw.watch.report import Alert, Stop

# Reports without it after which an alarm is over: of an entropy near the edge it would be told again and again.
QUIET = 5


def find_alarms(
    result: Result, step: float, target: float | None = None, stop: Stop | None = None
) -> tuple[Alert, ...]:
    """All that is the case at the last point of a run, whether told before or not.

    Parameters
    ----------
    result : Result
        Of the points so far.
    step : float
        Step at which it is seen.
    target : float or None
        Performance that the run is meant to reach.
    stop : Stop or None

    Returns
    -------
    tuple of Alert
    """
    found = []
    points, ahead = result.points, result.forecast
    if points.n >= 3 and len(points.log_entropy):
        start = start_level(points.log_entropy)
        # Since the last but two points, and three values at least: one gone astray is no collapse.
        lately = max(3, int((points.log_step >= points.step[-3]).sum()))
        recent = float(np.median(points.log_entropy[-lately:]))
        if recent < SPENT * start:
            found.append(
                Alert(
                    "entropy-collapsed",
                    step,
                    f"entropy is {recent:.3f} nats per token, {recent / start:.0%} of its start",
                    "the policy hardly explores any more: what it has not found by now it will not find",
                )
            )
    exploded = next((f for f in (*ahead.findings, *result.findings) if f.code == "entropy-exploded"), None)
    if exploded is not None:
        found.append(Alert("entropy-exploding", step, exploded.what, exploded.why))
    judged = target is not None and result.points.n >= FEW_POINTS and ahead.verdict != "refused"
    ceiling = ahead.ceiling if judged else None
    if target is not None and ceiling is not None and ceiling.interval.hi < target:
        interval = f"{format_interval(ceiling.interval)} ({ceiling.interval.level:.0%})"
        found.append(
            Alert(
                "ceiling-below-target",
                step,
                f"the forecast at zero entropy is {format_number(ceiling.median)} {interval}, "
                f"the target {format_number(target)}",
                "as the run goes so far, spending all entropy that is left does not reach it",
            )
        )
    if stop is not None and stop.fired:
        found.append(
            Alert("stop-rule", step, f"{stop.rule} held at {stop.in_a_row} validations in a row", stop.why)
        )
    return tuple(found)


def select_new(now: Sequence[Alert], standing: Mapping[str, int]) -> tuple[Alert, ...]:
    """Those whose code does not stand already."""
    return tuple(alert for alert in now if alert.code not in standing)


def count_standing(now: Sequence[Alert], standing: Mapping[str, int]) -> dict[str, int]:
    """Codes that were the case lately, with the reports since."""
    rest = {code: since + 1 for code, since in standing.items() if since + 1 < QUIET}
    return rest | {alert.code: 0 for alert in now}
