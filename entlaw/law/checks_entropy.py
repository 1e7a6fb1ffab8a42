"""What the checks look at, and the checks of the regressor: is this an entropy, does it fall, and far enough?

Thresholds are set from what the quantity can be and from what the law needs, not from a collection of runs. What a run
does is judged by its own start, because models start anywhere from 0.03 nats (trained on instructions) to 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entlaw.findings import Finding
from entlaw.law.levels import at_ends, start_level
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
# From near zero a small share of the fall can be another policy: three times its low, and more than what counts as
# spent.
TURNED_UP_RATIO = 3.0
# "Exploded": so many times the choices per token, exp(H), that there were at the start.
EXPLODED_CHOICES = 1.5
# "Collapsed", the entropy is spent: below this share of the start. exp(H) is convex, so that of exp(H) - 1, which is
# what the law lets a run spend, an even smaller share is left. From 0.8 nats, a usual start, this is 0.1.
SPENT = 1 / 8
# A run that comes back to its start has fallen in between where less than this share of the start was left.
FELL_TO = 0.5
# Distance from the lowest x = exp(H) to x = 1 in units of the range covered. At 1 the ceiling is as far away as all
# that was seen (the interval is about 2.5 times the line's); at 4 it is a guess.
REACH_WARNING, REACH_ERROR = 1.0, 4.0
# A continued log that begins below this shows next to nothing of the law, whatever came before: exp(H) - 1 < 0.1.
_LITTLE_TO_SEE = 0.1
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
        Level of the first and of the last values. The start is that of single steps, however long the log: a run can
        spend its entropy in the first twenty of a thousand.
    low : float
        Lowest level.
    high_after : float
        Highest level after the lowest one, the end included.
    high : float
        Highest level of all.
    first : float
        Mean of the first two values: a steep start is over before a level can show it.
    error : float
        Standard error of the start and of the end (root mean square of both); 0 with fewer than 6 values, whose wiggles
        may be the curve itself.
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


def _noise(values: np.ndarray) -> float:
    """Standard deviation of one value: second differences cancel a trend; 1.4826 and 6 make their median one."""
    return 1.4826 * float(np.median(np.abs(np.diff(values, 2)))) / np.sqrt(6.0)


def trend_of(values: np.ndarray) -> Trend | None:
    """Levels of a series (see :class:`Trend`); None with fewer than 3 values."""
    single = values
    values = block_means(_MOST, values)[1][0]
    m = len(values)
    if m < 3:
        return None
    ends = at_ends(m)
    width = max(ends, m // 12)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    # The mean is what the policy's entropy is; a tenth is cut off either side, where single batches go astray.
    cut = max(width // 10, (width - 1) // 2 if width < _TRIM_FROM else 0)
    level = np.sort(windows, axis=1)[:, cut : width - cut].mean(axis=1)
    lowest = int(np.argmin(level))
    end = float(np.median(values[-ends:]))
    noise = np.hypot(_noise(single), _noise(values)) / np.sqrt(2.0)
    return Trend(
        start=start_level(single),
        end=end,
        low=float(level[lowest]),
        high_after=max(float(level[lowest:].max()), end),
        high=float(level.max()),
        first=float(single[:2].mean()),
        error=1.2533 * float(noise) / np.sqrt(ends) if m >= 6 else 0.0,
        n=m,
    )


def mostly_negative(h: np.ndarray) -> bool:
    """Whether these are no entropies, because most are below 0: more than a few are no rounding and no glitch."""
    return bool(len(h) and h.min() < -NEGATIVE_SLACK and np.median(h) < 0)


def unit(e: Evidence) -> Iterator[Finding]:
    """Is it nats per token at all?"""
    h = np.concatenate([e.seen.log_entropy, e.seen.entropy])
    h = h if len(h) else e.whole.log_entropy
    if not len(h):
        return
    run = e.run
    meanings = [] if run is None else [m for m in (run.entropy, run.entropy_log) if m is not None]
    meaning = next((m for m in meanings if m.unit == "nats/sequence" or m.averaging == "sequence-sum"), None)
    if meaning is not None:
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
        yield Finding(
            "entropy-negative",
            "error" if mostly_negative(h) else "warning",
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
    if mostly_negative(e.seen.log_entropy):  # with its sign turned, a fall looks like a rise
        return
    clear = SIGNIFICANT * np.sqrt(2.0) * t.error  # of a difference of two levels
    fall, least = t.start - t.end, max(clear, LEAST_CHANGE * size)
    if t.high_after - t.start > max(clear, np.log(EXPLODED_CHOICES)):
        yield Finding(
            "entropy-exploded",
            "error",
            f"entropy went from {t.start:.3g} to {t.high_after:.3g}",
            "a policy that drifts into noise is another regime: R then falls for another reason than the law's",
            "fit only the part before the rise (--until-step), and look at the responses after it",
            t.high_after,
        )
    elif fall < -least:
        yield Finding(
            "entropy-rising",
            "error",
            f"entropy rose from {t.start:.3g} to {t.end:.3g} in the window",
            "the law describes entropy being spent; it was not shown for entropy that is held up or rises",
            "look for an entropy bonus, clip-higher or a KL term; or fit a window in which it falls",
            -fall,
        )
    elif fall < least and not t.start - t.low > max(clear, FELL_TO * size):
        yield Finding(
            "entropy-not-falling",
            "error",
            f"entropy {'rose' if fall < 0 else 'fell'} by {abs(fall):.3g} from {t.start:.3g}, not more than its noise "
            f"({clear:.2g}) or {LEAST_CHANGE:.0%} of itself",
            "a slope fitted on noise in H says nothing about the ceiling",
            "fit a longer window (--until-step, --all), or accept that this run does not spend entropy",
            fall,
        )
    else:
        yield from _turns(t, clear, least)


def _turns(t: Trend, clear: float, least: float) -> Iterator[Finding]:
    """Of a run that fell: did it come back, or rise first?"""
    drop, back = max(t.high, t.first) - t.low, t.high_after - t.low
    anew = back > SPENT * t.start and t.high_after > TURNED_UP_RATIO * t.low
    if back > least and (anew or back > TURNED_UP_WARNING * drop):
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
    low = level < _LITTLE_TO_SEE
    yield Finding(
        "starts-late",
        "error" if low else "warning",
        f"the log starts at step {step[0]:g}, with entropy {level:.3g}",
        "a continued run: what it gained while its entropy fell is not in this log, and so little is left to fall that "
        "the slope cannot be seen"
        if low
        else "a continued run: the steep early part, which fixes the slope, is missing",
        "add the log of the first part of the run"
        + ("" if low else ", or set --until-step with this in mind"),
        level if low else float(step[0]),
    )
