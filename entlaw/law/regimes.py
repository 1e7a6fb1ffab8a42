"""What a run's entropy does, since when, whether it first learned a format, and what acts on it.

The verdict stands on the checks that also refuse fits (:mod:`entlaw.law.checks_entropy`), read by :func:`regime_of`.
Two things are added. A run can have fallen and now stand still: the same check is asked about the second half alone.
And a run can have spent its entropy: throughout its last quarter it is then below the share ``SPENT`` of its own start.
:func:`has_fallen` asks for the course from start to end. How often the verdicts are right on real runs is measured by
``benchmarks/regimes.py``, which says how the labels are defined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np

from entlaw.findings import Finding
from entlaw.law.checks import entropy_findings
from entlaw.law.checks_entropy import (
    EXPLODED_CHOICES,
    SIGNIFICANT,
    SPENT,
    TURNED_UP_WARNING,
    Evidence,
    mostly_negative,
    trend,
)
from entlaw.law.interventions import interventions as from_config
from entlaw.law.levels import EARLY, end_level, falls_below, lowest, running_level, start_level
from entlaw.law.shapes import Interval
from entlaw.limits import FEWEST_POINTS
from entlaw.points import Points
from entlaw.runs.run import Run

# What the entropy does by the end of what is seen: one list for doctor, backtest and forecasts.
Regime = Literal["falling", "flat", "collapsed", "turned-up", "rising", "exploded", "unknown"]
REGIMES: tuple[Regime, ...] = get_args(Regime)
# In order: the first of these codes among the findings says what the entropy does from its start to its end.
_BY_CODE: tuple[tuple[str, Regime], ...] = (
    ("entropy-exploded", "exploded"),
    ("entropy-rising", "rising"),
    ("entropy-not-falling", "flat"),
    ("entropy-constant", "flat"),
    ("entropy-turned-up", "turned-up"),
)

# Half a log decides what a run does now: a quarter is mostly noise at 60 values, three quarters see the early fall.
_NOW = 0.5
# Less than this share of itself is no fall worth the name, where the log cannot tell it from none.
SMALL_FALL = 0.1
# Of the score's whole gain, at least this share must come before the entropy falls: less is wander.
FORMAT_SHARE = 0.2
# A format score below this had something to learn, and one that gained this much has learned.
_FORMAT_KNOWN, _FORMAT_GAIN = 0.9, 0.1
# A format is learned when this share of its gain is made.
_FORMAT_DONE = 0.9
_FORMAT_KEY = re.compile(r"(^|[/_.])format([/_.]|$)")
# A fall that stops with more than this share of the entropy left was stopped by something.
HELD_SHARE = 0.5


# Counts (right, said, true) of each verdict on all labelled runs, by benchmarks/regimes.py: precision is right / said,
# recall right / true. The rules for the format phase, for when a run stands still and for the end of a collapse were
# mended on the runs labelled by eye, so a new run may fare worse; counts below ten say little at all.
MEASURED: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "falling": (73, 78, 78),
        "flat": (17, 32, 24),
        "collapsed": (18, 19, 18),
        "turned-up": (28, 30, 41),
        "rising": (6, 8, 6),
        "exploded": (12, 12, 12),
        "format phase": (5, 5, 5),
        "entropy held (curve)": (4, 5, 5),
    }
)


@dataclass(frozen=True)
class FormatPhase:
    """Steps in which the score grew because answers took the wanted form.

    Attributes
    ----------
    start, end : float
        First and last step.
    gain : float
        What the score (or, where measured, the format score) gained in it.
    measured : bool
        From a logged format score; otherwise inferred from a score that grows before the entropy falls.
    """

    start: float
    end: float
    gain: float
    measured: bool


@dataclass(frozen=True)
class Regimes:
    """Verdicts about a run.

    Attributes
    ----------
    entropy : {"falling", "flat", "collapsed", "turned-up", "rising", "exploded", "unknown"}
        What the entropy does by the end of the log.
    since : float or None
        The step at which that began; None when unknown.
    format : FormatPhase or None
    interventions : tuple of Finding
        From the configuration; ``entropy-held`` from the curve.
    findings : tuple of Finding
        Of the checks of the entropy that the verdict stands on, worst first.
    """

    entropy: Regime
    since: float | None
    format: FormatPhase | None
    interventions: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    @property
    def precision(self) -> Interval | None:
        """95 % Wilson interval of how often this verdict was right on the labelled runs; None if never given there."""
        right, said, _ = MEASURED.get(self.entropy, (0, 0, 0))
        return wilson(right, said) if said else None

    @property
    def recall(self) -> Interval | None:
        """The same of how often this verdict was given where it is true."""
        right, _, true = MEASURED.get(self.entropy, (0, 0, 0))
        return wilson(right, true) if true else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def wilson(k: int, n: int, level: float = 0.95) -> Interval:
    """Interval of a share of k in n (Wilson 1927)."""
    from scipy.special import ndtri

    z = float(ndtri(0.5 * (1.0 + level)))
    p, scale = k / n, 1.0 + z * z / n
    centre, half = p + z * z / (2 * n), z * float(np.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)))
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale), level)


def regime_of(points: Points, findings: Sequence[Finding] | None = None) -> Regime:
    """What the entropy does by the end of what is seen.

    Parameters
    ----------
    points : Points
    findings : sequence of Finding, optional
        Of the checks of the entropy, where they were made already.

    Returns
    -------
    Regime
    """
    return _now(_course(points, entropy_findings(points) if findings is None else findings), points)


def has_fallen(points: Points, findings: Sequence[Finding] | None = None) -> bool:
    """Whether the entropy falls from the start to the end of what is seen, wherever it stands by now."""
    return _course(points, entropy_findings(points) if findings is None else findings) == "falling"


def _course(points: Points, findings: Sequence[Finding]) -> Regime:
    """What the entropy does from its start to its end, as the findings say."""
    if mostly_negative(points.log_entropy):
        return "unknown"
    codes = {f.code for f in findings}
    for code, regime in _BY_CODE:
        if code in codes:
            return regime
    if len(points.log_step) < FEWEST_POINTS or codes & {"entropy-not-per-token", "entropy-impossible"}:
        return "unknown"
    return "falling"


def regimes(run: Run | Points) -> Regimes:
    """Judge a run's entropy, format phase and interventions.

    Parameters
    ----------
    run : Run or Points
        Points have no configuration and no format score; what needs them is then left out.

    Returns
    -------
    Regimes
    """
    points, read = Points.of(run), run if isinstance(run, Run) else None
    findings = entropy_findings(points, read)
    whole = _course(points, findings)
    entropy = _now(whole, points)
    found = from_config(read.config) if read is not None else []
    measured = _measured_format(read) if read is not None else None
    return Regimes(
        entropy,
        _since(entropy, whole, points),
        measured or _inferred_format(whole, points),
        tuple(found + _held(entropy, whole, points)),
        findings,
    )


def _now(whole: Regime, points: Points) -> Regime:
    h = points.log_entropy
    if whole == "unknown" or len(h) < FEWEST_POINTS:
        return "unknown"
    if whole == "exploded":
        return whole
    # The end too: what was spent and comes back is not spent.
    if max(end_level(h), float(running_level(h)[-1])) < SPENT * start_level(h):
        return "collapsed"
    if whole == "rising" or whole == "turned-up":
        return whole
    if whole == "falling" and not _stands(points, int(len(h) * _NOW)):
        return "falling"
    return "flat"


def _stands(points: Points, start: int) -> bool:
    """Whether the log from value ``start`` on does not fall."""
    rest = points.log_alone(start)
    if len(rest.log_step) < FEWEST_POINTS:
        return False
    level = start_level(rest.log_entropy)
    for f in trend(Evidence(rest)):
        if f.code in ("entropy-constant", "entropy-rising", "entropy-exploded"):
            return True
        # A fall that a short or noisy log cannot tell from none is no stand: it must also be small.
        if f.code == "entropy-not-falling":
            return f.value is not None and f.value < SMALL_FALL * level
    return False


def _since(entropy: Regime, whole: Regime, points: Points) -> float | None:
    if entropy == "unknown":
        return None
    step, h = points.log_step, points.log_entropy
    if entropy == "collapsed":
        at = falls_below(h, SPENT * start_level(h))
    elif entropy == "exploded":
        rise = h[: int(np.argmax(running_level(h))) + 1]
        at = falls_below(-rise, -(start_level(h) + np.log(EXPLODED_CHOICES)))
    elif entropy in ("rising", "turned-up"):
        at = lowest(h)
    elif entropy == "falling":
        at = lowest(-h)
    else:
        at = _stands_from(points) if whole == "falling" else 0
    return float(step[min(at, len(step) - 1)])


def _stands_from(points: Points) -> int:
    """Index from which a log that fell stands, in the first half of it."""
    n = len(points.log_entropy)
    starts = (np.arange(0.0, _NOW, 1 / 16) * n).astype(int)
    standing = next((i for i, s in enumerate(starts) if _stands(points, int(s))), None)
    if standing is None:
        return int(n * _NOW)
    falls, stands = int(starts[max(standing - 1, 0)]), int(starts[standing])
    while stands - falls > EARLY:
        middle = (falls + stands) // 2
        falls, stands = (falls, middle) if _stands(points, middle) else (middle, stands)
    return stands


def _inferred_format(whole: Regime, points: Points) -> FormatPhase | None:
    """Score gained while the entropy was not yet below its start: the law gives nothing for that."""
    if whole in ("unknown", "collapsed", "flat", "rising") or points.n < FEWEST_POINTS:
        return None
    step, h, r = points.log_step, points.log_entropy, points.score
    begin, level = start_level(h), running_level(h, EARLY)
    fallen = np.flatnonzero(level < begin - TURNED_UP_WARNING * (begin - float(level.min())))
    if not fallen.size:
        return None
    up = np.flatnonzero(level[: fallen[0]] >= begin)
    # No tolerance below: with one standard error, nine plain falls among the labelled runs became phases.
    end = float(step[up[-1]]) if up.size else float(step[0])
    before = np.flatnonzero(points.step <= end)
    if before.size < 2:
        return None
    gain = float(r[before[-1]] - r[0])
    noise = 1.4826 * float(np.median(np.abs(np.diff(r, 2)))) / np.sqrt(6.0)
    lasting = float(np.max(running_level(r))) - float(r[0])
    if gain < SIGNIFICANT * np.sqrt(2.0) * noise or gain <= 0 or gain < FORMAT_SHARE * lasting:
        return None
    return FormatPhase(float(points.step[0]), end, gain, False)


def _measured_format(run: Run) -> FormatPhase | None:
    """From a logged score of the format, where one grows to a level that stays."""
    for key in run.metrics.columns:
        if not _FORMAT_KEY.search(str(key)):
            continue
        series = run.metrics[key].dropna()
        if len(series) < FEWEST_POINTS:
            continue
        level = running_level(series.to_numpy(float))
        first, high = float(series.iloc[: max(2, len(level) // 50)].mean()), float(level.max())
        if first > _FORMAT_KNOWN * high or high - first < _FORMAT_GAIN:
            continue
        done = int(np.flatnonzero(level >= first + _FORMAT_DONE * (high - first))[0])
        return FormatPhase(float(series.index[0]), float(series.index[done]), high - first, True)
    return None


def _held(entropy: Regime, whole: Regime, points: Points) -> list[Finding]:
    """A fall that stops with much of the entropy left."""
    if entropy != "flat" or whole != "falling":
        return []
    h = points.log_entropy
    start, end = start_level(h), end_level(h)
    if end < HELD_SHARE * start:
        return []
    return [
        Finding(
            "entropy-held",
            "info",
            f"entropy fell from {start:.3g} to {end:.3g} and stands there",
            "something may hold it up: a control, or a model that can learn no more",
            "look for an entropy bonus, a KL term or another control in the configuration",
            end,
        )
    ]
