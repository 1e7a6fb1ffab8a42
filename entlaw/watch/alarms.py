"""What should not wait until somebody looks. Each is raised once, and again only after it was over for a while."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from entlaw.findings import Finding
from entlaw.law.results import Fit
from entlaw.watch.report import Alert, Stop
from entlaw.watch.verdict import FEWEST

# exp(H) - 1 is then below 0.05: nothing that is left to spend can move R much, and groups of samples are all alike.
COLLAPSED = 0.05
# Reports without it after which an alarm is over: an entropy that stays near the edge would be told of again and again.
OVER = 5


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
    if target is not None and fit is not None and len(entropy) >= FEWEST and not _refused(findings):
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


def _refused(findings: Sequence[Finding]) -> bool:
    return any(f.severity == "error" for f in findings)
