"""The outlook: when it answers, when it is silent, and what it says then."""

import numpy as np
import pytest

from entlaw.errors import FitRefused, UsageError
from entlaw.law.forecast import Outlook
from entlaw.points import Points

from .common import as_run, law_arrays


def made(n=15, seed=0, **more):
    return Points.from_arrays(*law_arrays(n=n, seed=seed, **more))


def with_entropy(entropy, n=20):
    t = np.arange(float(n))
    rng = np.random.default_rng(1)
    return Points.from_arrays(t, entropy(t), 0.4 + 0.01 * t + 0.01 * rng.standard_normal(n))


def test_a_falling_run_is_answered():
    o = Outlook.of(made())
    assert not o.refused and o.regime == "falling"
    i = o.at_step(200.0).interval(0.8)
    assert 0 <= i.lo < i.hi <= 1
    assert i.lo < 0.85 - 0.25 * np.exp(0.05) < i.hi
    assert o.ceiling().interval.hi <= 1.0
    there = o.forecast(200.0)
    assert 0.0 <= there.entropy < 0.3 and there.model == "growth" and there.n == o.points.n
    assert there.interval_at(0.8) == i


@pytest.mark.parametrize(
    ("entropy", "regime", "code"),
    [
        (lambda t: 0.5 + 0.1 * t, "exploded", "entropy-exploded"),
        (lambda t: 0.5 * (1 + 0.02 * t), "rising", "entropy-rising"),
        (lambda t: np.full(len(t), 0.5), "flat", "entropy-constant"),
        (lambda t: 0.5 + 0.001 * np.sin(9 * t), "flat", "entropy-not-falling"),
        (lambda t: 1.0 - 0.08 * t + np.maximum(t - 11, 0) * 0.18, "turned-up", "entropy-turned-up"),
    ],
)
def test_other_regimes_are_refused_by_code(entropy, regime, code):
    o = Outlook.of(with_entropy(entropy))
    assert o.refused and o.regime == regime
    assert code in {f.code for f in o.findings if f.severity == "error"}
    with pytest.raises(FitRefused) as caught:
        o.at_step(100.0)
    assert caught.value.exit_code == 4 and caught.value.findings == o.findings and caught.value.hint


def test_a_forced_outlook_answers_and_keeps_its_findings():
    h = with_entropy(lambda t: 0.5 * (1 + 0.02 * t))
    o = Outlook.of(h, force=True)
    assert o.refused and np.isfinite(o.at_step(100.0).median)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_points_are_refused_whatever_is_asked(n):
    h = made(10).until(4.0 * n - 4.0 if n else -1.0)
    assert h.n == n
    o = Outlook.of(h, force=n < 2)
    assert o.refused
    for ask in (lambda: o.at_step(99.0), lambda: o.at_entropy(0.1), o.ceiling):
        with pytest.raises(FitRefused):
            ask()


def test_the_continuation_of_a_run_with_hardly_any_entropy_is_refused():
    t = np.arange(101.0, 140.0)
    rng = np.random.default_rng(0)
    o = Outlook.of(
        Points.from_arrays(t, 0.04 - 0.0003 * (t - 101), 0.9 + 0.005 * rng.standard_normal(len(t)))
    )
    # Whether it was spent or never there, the log cannot tell.
    assert o.refused and o.regime == "falling" and o.findings[0].code == "starts-late"


def test_questions_that_make_no_sense_are_usage_errors():
    o = Outlook.of(made())
    for step in (10.0, np.nan, np.inf):
        with pytest.raises(UsageError):
            o.at_step(step)
    for entropy in (-0.1, np.nan):
        with pytest.raises(UsageError):
            o.at_entropy(entropy)


def test_a_run_is_seen_only_up_to_the_step_asked():
    step, entropy, r = law_arrays(n=30)
    run = as_run(step, entropy, r)
    changed = as_run(step, np.where(step > 40, 4.0, entropy), np.where(step > 40, 0.0, r))
    a, b = (Outlook.of(x, 40.0) for x in (run, changed))
    assert a.findings == b.findings
    assert a.at_step(116.0).quantile(0.1) == b.at_step(116.0).quantile(0.1)
    assert Outlook.of(changed).refused


def test_what_is_far_or_wide_is_said():
    vague = Outlook.of(made(5, noise=0.02, seed=3), width=8.0)
    codes = {f.code for f in vague.forecast(2000.0).findings}
    assert codes == {"forecast-far", "forecast-wide"}
    assert Outlook.of(made(25, noise=0.004)).forecast(120.0).findings == ()
