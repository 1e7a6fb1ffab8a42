"""What the checks look at, and the checks of the regressor: is this an entropy, does it fall, and far enough?

Thresholds are set from what the quantity can be and from what the law needs, not from a collection of runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entlaw.findings import Finding
from entlaw.law.shapes import MOST_ENTROPY, Fit
from entlaw.law.smooth import block_means
from entlaw.points import Points
from entlaw.runs.run import Run

# ln(vocabulary) bounds entropy per token: 11.9 for 150 thousand tokens, 12.5 for 260 thousand.
IMPOSSIBLE_ENTROPY = 12.0
# A language model over its own text has 0.05 to 3 nats per token; above this it writes noise or the unit is another.
STRANGE_ENTROPY = 5.0
# A mean of -log p cannot be negative; this much is rounding.
NEGATIVE_SLACK = 1e-3
# A level differs when it does so by this many standard errors ...
SIGNIFICANT = 3.0
# ... and by more than this share of where it started: less moves the ceiling by nothing that can be measured.
LEAST_CHANGE = 0.05
# Of what fell, this share came back: the path is walked twice, and R need not have gone back with it.
TURNED_UP_WARNING, TURNED_UP_ERROR = 0.2, 0.5
# From near zero a small share of the fall can be another policy: three times its low, and a tenth of a nat.
TURNED_UP_RATIO, TURNED_UP_NATS = 3.0, 0.1
# "Exploded": beyond its own start by a half, and by more than a tenth of a nat.
EXPLODED_RATIO, EXPLODED_NATS = 1.5, 0.1
# Distance from the lowest x = exp(H) to x = 1 in units of the range covered. At 1 the ceiling is as far away as all
# that was seen (the interval is about 2.5 times the line's); at 4 it is a guess.
REACH_WARNING, REACH_ERROR = 1.0, 4.0
# Below this the entropy is spent: exp(H) - 1 < 0.1, so nothing that is left to spend can move R much.
COLLAPSED = 0.1
# A log that begins more than this many logging intervals after step 0 is a continuation.
LATE_START_INTERVALS = 3.0
# How many of the first entropies say where a continued log begins.
_FIRST = 10
# Longer series are averaged to this many values before their trend is looked at.
_MOST = 600
# From this width on a trimmed mean has something to trim; below, a level is a median.
_TRIM_FROM = 10


@dataclass(frozen=True)
class Trend:
    """How a noisy series goes, from levels (medians, or trimmed means of many values) of stretches of it.

    Attributes
    ----------
    start, end : float
        Level of the first and of the last values.
    low : float
        Lowest level.
    high_after : float
        Highest level after the lowest one, the end included.
    high : float
        Highest level of all.
    first : float
        Mean of the first two values: a steep start is over before a level can show it.
    error : float
        Standard error of one level; 0 with fewer than 6 values, whose wiggles may be the curve itself.
    n : int
        Number of values.
    """

    start: float
    end: float
    low: float
    high_after: float
    high: float
    first: float
    error: float
    n: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything a check may use.

    Attributes
    ----------
    whole : Points
        All points of the run and its entropy log.
    until_step : float or None
        End of the window that is judged; None for all.
    fit : Fit or None
        None when nothing was, or could be, fitted.
    run : Run or None
    answers_known : bool
        Whether the scores are taken as shares of a known number of answers.
    """

    whole: Points
    until_step: float | None = None
    fit: Fit | None = None
    run: Run | None = None
    answers_known: bool = False

    @cached_property
    def seen(self) -> Points:
        """What lies in the window."""
        return self.whole.until(self.until_step)

    @cached_property
    def later(self) -> Points:
        """What came after it."""
        return self.whole.after(self.until_step)

    @cached_property
    def trend(self) -> Trend | None:
        """Trend of the entropy in the window; None with fewer than 3 values."""
        return trend_of(self.seen.log_entropy)


def trend_of(values: np.ndarray) -> Trend | None:
    """Levels of a series (see :class:`Trend`); None with fewer than 3 values."""
    values = block_means(_MOST, values)[1][0]
    m = len(values)
    if m < 3:
        return None
    # An eighth of the series shows a level; more than 5 values at the ends would miss a steep start.
    ends = int(np.clip(m // 8, 1, 5))
    width = max(ends, m // 12)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    # The mean is what the policy's entropy is; a tenth is cut off either side, where single batches go astray.
    cut = max(width // 10, (width - 1) // 2 if width < _TRIM_FROM else 0)
    level = np.sort(windows, axis=1)[:, cut : width - cut].mean(axis=1)
    lowest = int(np.argmin(level))
    end = float(np.median(values[-ends:]))
    # Second differences cancel a trend; 1.4826 and 6 make their median a standard deviation of one value.
    wiggle = np.abs(np.diff(values, 2))
    noise = 1.4826 * float(np.median(wiggle)) / np.sqrt(6.0)
    return Trend(
        start=float(np.median(values[:ends])),
        end=end,
        low=float(level[lowest]),
        high_after=max(float(level[lowest:].max()), end),
        high=float(level.max()),
        first=float(values[:2].mean()),
        error=1.2533 * noise / np.sqrt(ends) if m >= 6 else 0.0,
        n=m,
    )


def unit(e: Evidence) -> Iterator[Finding]:
    """Is it nats per token at all?"""
    h = np.concatenate([e.seen.log_entropy, e.seen.entropy])
    h = h if len(h) else e.whole.log_entropy
    if not len(h):
        return
    meaning = e.run.entropy if e.run is not None else None
    if meaning is not None and (meaning.unit == "nats/sequence" or meaning.averaging == "sequence-sum"):
        yield Finding(
            "entropy-not-per-token",
            "error",
            f"{meaning.key} is summed over the response (up to {h.max():.4g})",
            "exp(H) of a sum is astronomically large and follows the response length",
            "log the mean entropy per token and fit that",
            float(h.max()),
        )
    elif np.median(h) > IMPOSSIBLE_ENTROPY:
        yield Finding(
            "entropy-not-per-token",
            "error",
            f"entropy is {np.median(h):.4g} (median), up to {h.max():.4g}",
            f"nats per token cannot exceed ln(vocabulary), about {IMPOSSIBLE_ENTROPY:g}: this is a sum or another unit",
            "log the mean entropy per token and fit that",
            float(np.median(h)),
        )
    elif h.max() > IMPOSSIBLE_ENTROPY:
        many = int((h > IMPOSSIBLE_ENTROPY).sum())
        yield Finding(
            "entropy-impossible",
            "error",
            f"{many} of {len(h)} entropies are above {IMPOSSIBLE_ENTROPY:g}, up to {h.max():.4g}",
            f"nats per token cannot exceed ln(vocabulary), about {IMPOSSIBLE_ENTROPY:g}: these are glitches, "
            "and exp(H) gives each of them the whole fit",
            "drop those records, or fit a window without them (--until-step)",
            float(h.max()),
        )
    elif h.max() > STRANGE_ENTROPY:
        yield Finding(
            "entropy-high",
            "warning",
            f"entropy reaches {h.max():.4g}",
            f"per token, more than {STRANGE_ENTROPY:g} nats is a policy that writes noise, or another unit",
            "check the key's unit; if it is per token, look at the responses",
            float(h.max()),
        )
    if h.min() < -NEGATIVE_SLACK:
        most = np.median(h) < 0
        yield Finding(
            "entropy-negative",
            "error" if most else "warning",
            f"entropy is as low as {h.min():.4g}",
            "entropy over tokens is not negative; some trainers log it as a loss with the sign turned",
            "turn the sign, or choose the key of the entropy itself",
            float(h.min()),
        )


def trend(e: Evidence) -> Iterator[Finding]:
    """Does it fall, and does it stay down?"""
    t = e.trend
    if t is None:
        return
    size = max(abs(t.start), 1e-12)
    if np.ptp(e.seen.log_entropy) <= 1e-9 * size:
        yield Finding(
            "entropy-constant",
            "error",
            f"entropy is {t.start:.4g} throughout the window",
            "the law says how R follows H; where H does not move there is nothing to fit",
            "check that the key is the policy's entropy, or fit a window in which it falls",
            0.0,
        )
        return
    clear = SIGNIFICANT * np.sqrt(2.0) * t.error  # of a difference of two levels
    fall = t.start - t.end
    if (
        t.high_after > max(EXPLODED_RATIO * t.start, t.start + EXPLODED_NATS)
        and t.high_after - t.start > clear
    ):
        yield Finding(
            "entropy-exploded",
            "error",
            f"entropy went from {t.start:.3g} to {t.high_after:.3g}",
            "a policy that drifts into noise is another regime: R then falls for another reason than the law's",
            "fit only the part before the rise (--until-step), and look at the responses after it",
            t.high_after,
        )
    elif fall < -max(clear, LEAST_CHANGE * size):
        yield Finding(
            "entropy-rising",
            "error",
            f"entropy rose from {t.start:.3g} to {t.end:.3g} in the window",
            "the law describes entropy being spent; it was not shown for entropy that is held up or rises",
            "look for an entropy bonus, clip-higher or a KL term; or fit a window in which it falls",
            -fall,
        )
    elif fall < max(clear, LEAST_CHANGE * size):
        yield Finding(
            "entropy-not-falling",
            "error",
            f"entropy fell by {fall:.3g} from {t.start:.3g}, not more than its noise ({clear:.2g}) or "
            f"{LEAST_CHANGE:.0%} of itself",
            "a slope fitted on noise in H says nothing about the ceiling",
            "fit a longer window (--until-step, --all), or accept that this run does not spend entropy",
            fall,
        )
    else:
        drop, back = max(t.high, t.first) - t.low, t.high_after - t.low
        anew = back > TURNED_UP_NATS and t.high_after > TURNED_UP_RATIO * t.low
        if back > max(clear, LEAST_CHANGE * size) and (anew or back > TURNED_UP_WARNING * drop):
            yield Finding(
                "entropy-turned-up",
                "error" if anew or back > TURNED_UP_ERROR * drop else "warning",
                f"entropy fell to {t.low:.3g} and came back to {t.high_after:.3g}, {back / drop:.0%} of the fall",
                "the law is a one-way exchange: on the way back R does not return along the same curve",
                "fit the falling part only (--until-step)",
                back / drop,
            )
        begin = max(t.start, t.first)
        if t.high - begin > max(clear, TURNED_UP_WARNING * drop) and t.high > t.high_after:
            yield Finding(
                "entropy-rose-first",
                "warning",
                f"entropy rose from {begin:.3g} to {t.high:.3g} before it fell",
                "early on a policy often learns the answer format, which moves R for another reason than the law's",
                "compare with a fit that starts after the peak",
                t.high - begin,
            )


def reach(e: Evidence) -> Iterator[Finding]:
    """How far is the ceiling from what was seen?"""
    if e.fit is None:
        return
    low, high = np.exp(np.clip(e.fit.entropy_range, -50.0, MOST_ENTROPY))
    if not high > low:
        return
    distance = max(low - 1.0, 0.0) / (high - low)
    if distance > REACH_WARNING:
        h = e.fit.entropy_range
        yield Finding(
            "entropy-range-small",
            "error" if distance > REACH_ERROR else "warning",
            f"H covers {h[1]:.3g} to {h[0]:.3g}; H = 0 is {distance:.1f} times that range of exp(H) away",
            "the ceiling is an extrapolation, and its error grows with that distance",
            "fit a longer window, so that more of the entropy is spent in it",
            float(distance),
        )


def resumed(e: Evidence) -> Iterator[Finding]:
    """Does the log begin in the middle of a run?"""
    step, h = e.whole.log_step, e.whole.log_entropy
    if len(step) < 2:
        return
    every = float(np.median(np.diff(step)))
    if step[0] <= max(1.0, LATE_START_INTERVALS * every):
        return
    level = float(np.median(h[:_FIRST]))
    if level < COLLAPSED:
        yield Finding(
            "resumed-after-collapse",
            "error",
            f"the log starts at step {step[0]:g} with entropy {level:.3g} already spent",
            "what the run gained while its entropy fell is not in this log, so the slope cannot be seen",
            "add the log of the first part of the run",
            level,
        )
    else:
        yield Finding(
            "starts-late",
            "warning",
            f"the log starts at step {step[0]:g}, with entropy {level:.3g}",
            "a continued run: the steep early part, which fixes the slope, is missing",
            "add the log of the first part of the run, or set --until-step with this in mind",
            float(step[0]),
        )
