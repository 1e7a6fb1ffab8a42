"""What a run's entropy does, since when, whether it first learned a format, and what acts on it.

The verdict stands on the checks that also refuse fits (:mod:`entlaw.law.checks_entropy`), read by
:func:`entlaw.law.outlook.regime_of`. Two things are added. A run can have fallen and now stand still: the same check is
asked about the second half alone. And a run can have spent its entropy: it is then below ``COLLAPSED`` throughout its
last quarter. How often the verdicts are right on real runs is measured by ``benchmarks/regimes.py``.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from entlaw.findings import Finding, worst_first
from entlaw.law import checks_entropy
from entlaw.law.checks_entropy import COLLAPSED, EXPLODED_NATS, EXPLODED_RATIO, SIGNIFICANT, TURNED_UP_WARNING
from entlaw.law.evidence import Evidence
from entlaw.law.history import History, history_of_run
from entlaw.law.interventions import interventions as from_config
from entlaw.law.outlook import Regime, regime_of
from entlaw.law.rivals import MIN_POINTS
from entlaw.runs.run import Run

EntropyRegime = Literal["falling", "flat", "collapsed", "turned-up", "rising", "exploded", "unknown"]
REGIMES: tuple[EntropyRegime, ...] = ("falling", "flat", "collapsed", "turned-up", "rising", "exploded", "unknown")

# Half a log decides what a run does now: a quarter is mostly noise at 60 values, three quarters see the early fall.
_NOW = 0.5
# A level is the median of this share of the log, as in the trend's own levels.
_LEVEL_SHARE = 12
# Of the score's whole gain, what was gained before the entropy fell must exceed the law's share by this much.
FORMAT_EXCESS = 0.2
# A format score below this had something to learn, and one that gained this much has learned.
_FORMAT_KNOWN, _FORMAT_GAIN = 0.9, 0.1
# A format is learned when this share of its gain is made.
_FORMAT_DONE = 0.9
_FORMAT_KEY = re.compile(r"(^|[/_.])format([/_.]|$)")
# A fall that stops with more than this share of the entropy left was stopped by something.
HELD_SHARE = 0.5


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

    entropy: EntropyRegime
    since: float | None
    format: FormatPhase | None
    interventions: tuple[Finding, ...]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def regimes(run: Run | History) -> Regimes:
    """Judge a run's entropy, format phase and interventions.

    Parameters
    ----------
    run : Run or History
        A history has no configuration and no format score; what needs them is then left out.

    Returns
    -------
    Regimes
    """
    history = history_of_run(run) if isinstance(run, Run) else run
    findings = _checked(history.log_step, history.log_entropy, run if isinstance(run, Run) else None)
    whole = regime_of(findings, history)
    entropy = _now(whole, history)
    found = list(from_config(run.config)) if isinstance(run, Run) else []
    measured = _measured_format(run) if isinstance(run, Run) else None
    return Regimes(
        entropy, _since(entropy, whole, history), measured or _inferred_format(whole, history),
        tuple(found + _held(entropy, whole, history)), findings,
    )  # fmt: skip


def _checked(step: np.ndarray, entropy: np.ndarray, run: Run | None = None) -> tuple[Finding, ...]:
    """The checks of the entropy that need no score."""
    log = np.stack([step, entropy])
    evidence = Evidence(
        step=step, entropy=entropy, performance=np.full(len(step), np.nan), log=log, whole_log=log,
        later=np.zeros((3, 0)), until_step=None, fit=None, run=run, answers_known=False,
    )  # fmt: skip
    checks = (checks_entropy.resumed, checks_entropy.unit, checks_entropy.trend)
    return worst_first([finding for check in checks for finding in check(evidence)])


def _now(whole: Regime, history: History) -> EntropyRegime:
    if whole == "unknown" or whole == "exploded":
        return whole
    h = history.log_entropy
    if float(np.median(h[-max(3, len(h) // 4) :])) < COLLAPSED:
        return "collapsed"
    if whole == "rising" or whole == "turned-up":
        return whole
    if whole == "falling" and not _stands(history, int(len(h) * _NOW)):
        return "falling"
    return "flat"


def _stands(history: History, start: int) -> bool:
    """Whether the log from value ``start`` on does not fall."""
    step, h = history.log_step[start:], history.log_entropy[start:]
    if len(h) < MIN_POINTS:
        return False
    codes = {f.code for f in checks_entropy.trend(_bare(step, h))}
    return bool(codes & {"entropy-not-falling", "entropy-constant", "entropy-rising", "entropy-exploded"})


def _bare(step: np.ndarray, h: np.ndarray) -> Evidence:
    log = np.stack([step, h])
    none = np.zeros(0)
    return Evidence(none, none, none, log, log, np.zeros((3, 0)), None, None, None, False)


def _level(values: np.ndarray) -> np.ndarray:
    """Running median, shape as given, windows cut off at the ends."""
    half = max(1, len(values) // _LEVEL_SHARE // 2)
    padded = np.pad(values, half, constant_values=np.nan)
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1))


def _start_level(values: np.ndarray) -> float:
    return float(np.median(values[: int(np.clip(len(values) // 8, 1, 5))]))


def _since(entropy: EntropyRegime, whole: Regime, history: History) -> float | None:
    if entropy == "unknown":
        return None
    step, h = history.log_step, history.log_entropy
    level = _level(h)
    if entropy == "collapsed":
        above = np.flatnonzero(level >= COLLAPSED)
        return float(step[min(above[-1] + 1, len(step) - 1)] if above.size else step[0])
    if entropy == "exploded":
        start = _start_level(h)
        low = np.flatnonzero(level[: int(np.argmax(level)) + 1] <= max(EXPLODED_RATIO * start, start + EXPLODED_NATS))
        return float(step[low[-1]] if low.size else step[0])
    if entropy in ("rising", "turned-up"):
        return float(step[int(np.argmin(level))])
    if entropy == "flat" and whole == "falling":
        starts = (np.arange(0.0, _NOW, 1 / 16) * len(h)).astype(int)
        standing = [s for s in starts if _stands(history, int(s))]
        return float(step[standing[0] if standing else int(len(h) * _NOW)])
    if entropy == "falling":
        return float(step[int(np.argmax(level))])
    return float(step[0])


def _inferred_format(whole: Regime, history: History) -> FormatPhase | None:
    """Score gained before the entropy fell, beyond what the law gives for what it fell."""
    if whole in ("unknown", "spent", "not-falling", "rising") or history.n < MIN_POINTS:
        return None
    step, h, r = history.log_step, history.log_entropy, history.performance
    begin, level = _start_level(h), _level(h)
    low = float(level.min())
    fallen = np.flatnonzero(level < begin - TURNED_UP_WARNING * (begin - low))
    before = np.flatnonzero(history.step <= step[fallen[0]]) if fallen.size else np.zeros(0, int)
    if before.size < 2:
        return None
    last = int(before[-1])
    top = float(np.max(_level(r)))
    gain, whole_gain = float(r[last] - r[0]), top - float(r[0])
    noise = 1.4826 * float(np.median(np.abs(np.diff(r, 2)))) / np.sqrt(6.0)
    if whole_gain <= 0 or gain < SIGNIFICANT * np.sqrt(2.0) * noise:
        return None
    x, x0, x1 = np.exp(np.array([np.interp(history.step[last], step, level), begin, low]))
    law = (x0 - x) / (x0 - x1)
    if gain / whole_gain - max(float(law), 0.0) < FORMAT_EXCESS:
        return None
    return FormatPhase(float(history.step[0]), float(step[fallen[0]]), gain, False)


def _measured_format(run: Run) -> FormatPhase | None:
    """From a logged score of the format, where one grows to a level that stays."""
    for key in run.metrics.columns:
        if not _FORMAT_KEY.search(str(key)):
            continue
        series = run.metrics[key].dropna()
        if len(series) < MIN_POINTS:
            continue
        level = _level(series.to_numpy(float))
        first, high = float(series.iloc[: max(2, len(level) // 50)].mean()), float(level.max())
        if first > _FORMAT_KNOWN * high or high - first < _FORMAT_GAIN:
            continue
        done = int(np.flatnonzero(level >= first + _FORMAT_DONE * (high - first))[0])
        return FormatPhase(float(series.index[0]), float(series.index[done]), high - first, True)
    return None


def _held(entropy: EntropyRegime, whole: Regime, history: History) -> list[Finding]:
    """A fall that stops with much of the entropy left."""
    if entropy != "flat" or whole != "falling":
        return []
    h = history.log_entropy
    start, end = _start_level(h), float(np.median(h[-max(3, len(h) // 4) :]))
    if end < HELD_SHARE * start:
        return []
    return [
        Finding(
            "entropy-held", "info", f"entropy fell from {start:.3g} to {end:.3g} and stands there",
            "something may hold it up: a control, or a model that can learn no more",
            "look for an entropy bonus, a KL term or another control in the configuration", end,
        )
    ]  # fmt: skip
