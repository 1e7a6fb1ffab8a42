"""May this fit be believed, and may this run be forecast? Coded findings; those of severity error refuse.

Here are the checks of the scores and of the fit itself, and the lists of all checks, each in the order of what a reader
should hear first among equals. The checks of the entropy are in :mod:`entlaw.law.checks_entropy`, those of the
configuration in :mod:`entlaw.law.interventions`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from entlaw.findings import Finding, worst_first
from entlaw.law.checks_entropy import Evidence, reach, resumed, trend, unit
from entlaw.law.interventions import interventions
from entlaw.law.shapes import MOST_ENTROPY, Fit
from entlaw.limits import FEW_POINTS, FEWEST_POINTS
from entlaw.points import Points
from entlaw.runs.run import Run

# Scores may leave [0, 1] by this much through rounding.
SCORE_SLACK = 0.01
# Percent beside fractions: a jump of more than this factor between neighbouring values, across 1.
MIXED_RATIO = 10.0
# At this leverage a point's own residual is 1/50 of its error: it is not tested, it is obeyed.
LEVERAGE_ERROR, LEVERAGE_WARNING = 0.98, 0.85
# ... which refuses only if the others could not draw the line themselves: H = 0 further off than their own range.
REACH_OF_REST = 1.0
# A ceiling that moves by more than a quarter of its interval when one point goes: one clean run of ten points in
# twenty does, a run with one evaluation gone wrong usually does.
MOVES_BY_HALF_WIDTHS = 0.5
# Small enough that a true line seldom raises it, also with several checks run side by side.
SURE = 0.01
# Beyond twice the standard error of a lag-1 autocorrelation under white noise.
AUTOCORRELATION_SE = 2.0
# Half the possible range of a score: an interval this wide excludes little; the whole range: nothing.
WIDE, USELESS = 0.5, 1.0
# Scores are a fraction of 1; below this nothing is measured.
NO_SPREAD = 1e-9
# 2.5 % of measurements made at the ceiling itself lie above the band by noise; four times that does not happen.
ABOVE_SHARE = 0.1


def diagnose(fit: Fit, run: Run | None = None) -> tuple[Finding, ...]:
    """Findings about a fit, worst first.

    Parameters
    ----------
    fit : Fit
    run : Run, optional
        The run it was made from: adds the whole entropy log, the points after the window and the configuration.

    Returns
    -------
    tuple of Finding
        Of the diagnostics only; what the reader found is in ``run.findings``.
    """
    whole = fit.points.given if run is None else Points.from_run(run)
    known = fit.noise.get("answers") is not None
    return worst_first(fit_findings(Evidence(whole, fit.until_step, fit, run, known)))


def fit_findings(evidence: Evidence) -> list[Finding]:
    """Findings about a fit, in the order of the checks."""
    checks = (resumed, unit, score, trend, count, slope, reach, influence, ceiling, shape)
    found = [finding for check in checks for finding in check(evidence)]
    return found + (interventions(evidence.run.config) if evidence.run is not None else [])


def forecast_findings(points: Points) -> tuple[Finding, ...]:
    """What speaks against a forecast from these points, worst first; those of severity error refuse."""
    evidence = Evidence(points)
    checks = (resumed, unit, trend, count, score) if points.n >= FEWEST_POINTS else (count,)
    return worst_first([finding for check in checks for finding in check(evidence)])


def entropy_findings(points: Points, run: Run | None = None) -> tuple[Finding, ...]:
    """Findings about the entropy log alone, worst first."""
    evidence = Evidence(points.log_alone(), run=run)
    return worst_first([finding for check in (resumed, unit, trend) for finding in check(evidence)])


def count(e: Evidence) -> Iterator[Finding]:
    """Enough evaluations in the window?"""
    n = len(e.seen.step)
    where = "" if e.until_step is None else f" up to step {e.until_step:g}"
    if n < FEWEST_POINTS:
        longer = (
            "fit a longer window (--until-step, --all)"
            if e.later.n
            else "wait for more or look from a later step"
        )
        more = f"; the run has {n + e.later.n} in all" if e.later.n else ""
        yield Finding(
            "too-few-evaluations",
            "error",
            f"{n} evaluation{'' if n == 1 else 's'}{where}{more}",
            f"with fewer than {FEWEST_POINTS} points a line always fits, and no interval can be trusted"
            + _wide_steps(e),
            f"{longer}, evaluate more often, or use the training score (--on train)",
            float(n),
        )
    elif n < FEW_POINTS:
        yield Finding(
            "few-evaluations",
            "warning",
            f"{n} evaluations{where}",
            "the size of the noise is hardly known, so the intervals are wide and rest on assumptions",
            "evaluate more often early in the run; give --problems and --samples",
            float(n),
        )


def _wide_steps(e: Evidence) -> str:
    """Why a window holds hardly a point of a run whose steps go up by more than it at a time."""
    steps = np.concatenate([e.seen.step, e.later.step])
    if e.until_step is None or len(steps) < FEWEST_POINTS:
        return ""
    stride = float(np.median(np.diff(steps)))
    if stride <= e.until_step:
        return ""
    return (
        f"; the steps of this log go up by {stride:.12g} at a time, so they may count samples or tokens: "
        f"{e.until_step:g} of them are --until-step {e.until_step * stride:.12g}"
    )


def score(e: Evidence) -> Iterator[Finding]:
    """Can these numbers have a ceiling?"""
    r = e.seen.score
    if len(r) == 0:
        return
    if len(r) >= 2 and np.ptp(r) <= NO_SPREAD:
        yield Finding(
            "performance-constant",
            "error",
            f"performance is {r[0]:.4g} at all {len(r)} points",
            "nothing was learned or nothing was measured: the slope is zero by construction",
            "check the key, and whether the verifier works",
            0.0,
        )
    ordered = np.sort(r)
    inside, outside = ordered[(ordered > 0) & (ordered <= 1.0)], ordered[ordered > 1.0 + SCORE_SLACK]
    # A reader has judged the units of a run already, from the whole series; plain arrays come unjudged.
    unjudged = e.run is None
    told = e.run is not None and any(f.code in ("not-a-score", "mixed-units") for f in e.run.findings)
    if unjudged and len(inside) and len(outside) and outside[0] > MIXED_RATIO * inside[-1]:
        yield Finding(
            "performance-mixed-units",
            "error",
            f"{len(inside)} scores are at most {inside[-1]:.3g} and {len(outside)} at least {outside[0]:.3g}",
            "percent and fractions in one series: no line goes through both",
            "bring the scores to one unit, or choose a key that has one",
            float(outside[0]),
        )
    elif (r.min() < -SCORE_SLACK or r.max() > 1.0 + SCORE_SLACK) and (e.answers_known or not told):
        yield Finding(
            "performance-not-a-score",
            "error" if e.answers_known else "warning",
            f"performance runs from {r.min():.3g} to {r.max():.3g}, not within 0 to 1",
            "binomial noise is defined for a share of right answers only"
            if e.answers_known
            else "a reward with format or length terms has no accuracy for a ceiling",
            "leave out --problems, or choose an accuracy key"
            if e.answers_known
            else "choose an accuracy key (--on KEY)",
            float(r.max()),
        )


def slope(e: Evidence) -> Iterator[Finding]:
    """Does R rise as H falls?"""
    fit = e.fit
    if fit is None or np.ptp(e.seen.score) <= NO_SPREAD:
        return
    if not fit.a > 0:
        yield Finding(
            "slope-not-positive",
            "error",
            f"a = {fit.a:.3g}: performance does not rise as entropy falls",
            "the law needs a > 0; b - a is then a floor, not a ceiling",
            "look whether R falls or H rises, and for which steps; another window may hold the law",
            fit.a,
        )
        return
    i = fit.posterior.slope_interval(fit.ceiling_interval.level)
    if not i.lo > 0:
        where = f"[{i.lo:.3g}, {i.hi:.3g}]" if np.isfinite(i.width) else "without bounds"
        yield Finding(
            "slope-uncertain",
            "warning",
            f"a = {fit.a:.3g}, {i.level:.0%} interval {where} holds 0",
            "these points do not show that R follows H at all",
            "fit a longer window or evaluate on more problems",
            i.lo,
        )


def influence(e: Evidence) -> Iterator[Finding]:
    """Is it one point that draws the line?"""
    fit = e.fit
    if fit is None or fit.n < 3 or np.ptp(e.seen.score) <= NO_SPREAD:
        return
    p = fit.points
    top = int(np.argmax(p.leverage))
    moved = np.abs(p.ceiling_without - fit.ceiling)
    half = 0.5 * fit.ceiling_interval.width
    far = int(np.nanargmax(moved)) if np.isfinite(moved).any() else top
    if p.leverage[top] > LEVERAGE_WARNING:
        rest = np.exp(np.clip(np.delete(p.entropy, top), -50.0, MOST_ENTROPY))
        severe = p.leverage[top] > LEVERAGE_ERROR and rest.min() - 1.0 > REACH_OF_REST * np.ptp(rest)
        yield Finding(
            "one-point-carries-fit",
            "error" if severe else "warning",
            f"the point at step {p.step[top]:g} has leverage {p.leverage[top]:.3f}; without it "
            + (
                f"the ceiling is {p.ceiling_without[top]:.3g} instead of {fit.ceiling:.3g}"
                if np.isfinite(p.ceiling_without[top])
                else "there is no line"
            ),
            "the slope is drawn through that point whatever its error; the others cover almost no range of exp(H)",
            "evaluate more often while the entropy falls, and compare with a fit without that point",
            float(p.leverage[top]),
        )
    elif np.isfinite(half) and moved[far] > MOVES_BY_HALF_WIDTHS * half:
        yield Finding(
            "one-point-carries-fit",
            "warning",
            f"without the point at step {p.step[far]:g} the ceiling is {p.ceiling_without[far]:.3g} instead of "
            f"{fit.ceiling:.3g}",
            "one evaluation moves the answer by more than a quarter of its interval",
            "look at that evaluation; compare with a fit without it",
            float(moved[far]),
        )


def shape(e: Evidence) -> Iterator[Finding]:
    """Is it a line, and are its errors independent?"""
    fit = e.fit
    if fit is None:
        return
    p = fit.noise.get("curvature_p", np.nan)
    if p < SURE:
        yield Finding(
            "curvature",
            "warning",
            f"R bends against exp(H) (p = {p:.2g} for an added square)",
            "a curved relation fitted by a line misses the ceiling in one direction, and no interval here knows",
            "compare windows; early format learning or saturation bends the curve",
            float(p),
        )
    r1, n = fit.residual_autocorrelation, fit.n
    if n >= FEW_POINTS and r1 > AUTOCORRELATION_SE / np.sqrt(n):
        taken = fit.method == "careful"
        yield Finding(
            "residuals-autocorrelated",
            "info" if taken else "warning",
            f"lag-1 autocorrelation of the residuals is {r1:.2f}",
            "neighbouring evaluations err together"
            + (
                "; the careful intervals allow for it"
                if taken
                else ", so least-squares intervals are too narrow"
            ),
            "" if taken else "use --method careful",
            r1,
        )


def ceiling(e: Evidence) -> Iterator[Finding]:
    """Is the ceiling a possible number, narrow enough to use, and above what was reached?"""
    fit = e.fit
    if fit is None:
        return
    i = fit.ceiling_interval
    bounded = (
        len(e.seen.score) > 0 and e.seen.score.min() >= -SCORE_SLACK and e.seen.score.max() <= 1 + SCORE_SLACK
    )
    if bounded and not -SCORE_SLACK <= fit.ceiling <= 1.0 + SCORE_SLACK:
        yield Finding(
            "ceiling-outside",
            "warning",
            f"the ceiling is {fit.ceiling:.3g}, outside 0 to 1",
            "a score cannot go there: the line must bend before H = 0 (reported as fitted, not clipped)",
            "read it as 'no ceiling below 1 is visible yet'"
            if fit.ceiling > 1
            else "look at the slope's sign",
            fit.ceiling,
        )
    if bounded and not i.width <= WIDE:
        severe = not i.width <= USELESS
        width = f"{i.width:.2g} wide" if np.isfinite(i.width) else "unbounded"
        yield Finding(
            "ceiling-not-identified",
            "error" if severe else "warning",
            f"the {i.level:.0%} interval of the ceiling is {width}",
            "that is " + ("as wide as all possible scores" if severe else "half of all possible scores"),
            "fit a longer window, evaluate on more problems, or give --problems and --samples",
            i.width,
        )
    if not np.isfinite(i.hi):
        return
    top = float(fit.prediction_at(np.zeros(1), i.level).hi[0])  # one measurement at the ceiling
    later = e.later.score > top
    if later.size and later.mean() > ABOVE_SHARE:
        yield Finding(
            "points-above-ceiling",
            "warning",
            f"{later.sum()} of {later.size} later scores are above the ceiling by more than noise (up to "
            f"{e.later.score.max():.3g}; {top:.3g} could be noise)",
            "the run has passed the ceiling that its early part promised: the law failed here",
            "fit a longer window; do not quote this ceiling",
            float(later.mean()),
        )
    fitted = e.seen.score > top
    if fitted.mean() > ABOVE_SHARE:
        yield Finding(
            "points-above-ceiling",
            "warning",
            f"{fitted.sum()} of {fitted.size} fitted scores are above the ceiling by more than noise (up to "
            f"{e.seen.score.max():.3g}; {top:.3g} could be noise)",
            "a ceiling that was passed is none: the line does not hold at the low end of H",
            "look at the late points; a steep early phase may draw the line",
            float(fitted.mean()),
        )
