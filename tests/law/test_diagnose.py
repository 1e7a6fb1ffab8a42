"""Every code fires on a run made for it, and a clean run raises none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from entlaw.api import fit
from entlaw.errors import FitRefused
from entlaw.findings import Finding, has_error
from entlaw.law.checks import diagnose, entropy_findings
from entlaw.law.checks_entropy import trend_of
from entlaw.law.fit import fit_points
from entlaw.points import Points
from entlaw.runs.run import EntropyMeaning
from tests.conftest import SHARED, needs_shared
from tests.law.common import A, B, as_run, law_arrays


def findings(run, **kw):
    """Codes by severity; the fit is forced where it exists."""
    try:
        found = fit(run, force=True, **kw).findings
    except FitRefused as refused:
        found = refused.findings
    assert all(f.what and f.why for f in found)
    assert [f.severity for f in found] == sorted(
        (f.severity for f in found), key=["error", "warning", "info"].index
    )
    return {f.code: f.severity for f in found}


def law(h, noise=0.004, seed=0):
    h = np.asarray(h, dtype=float)
    return B - A * np.exp(h) + noise * np.random.default_rng(seed).standard_normal(len(h))


def dense(n=37):
    t = np.arange(float(n))
    return t, 0.05 + 0.95 * np.exp(-t / 25)


# --- what must not be refused ---


def test_a_clean_run_raises_nothing():
    t, h = dense()
    run = as_run(t[::4], h[::4], law(h[::4]), log=(t, h))
    assert findings(run, problems=500) == {}
    assert findings((t, h, law(h))) == {}


@pytest.mark.parametrize(
    "tau, h0, every", [(25, 1.0, 4), (10, 0.6, 4), (40, 0.5, 2), (25, 2.2, 4), (15, 0.4, 1), (60, 1.2, 3)]
)
def test_clean_falling_runs_are_hardly_ever_refused(tau, h0, every):
    errors, warnings = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        t = np.arange(0.0, 37.0)
        h = 0.03 + (h0 - 0.03) * np.exp(-t / tau)
        at = slice(None, None, every)
        p = 0.75 - 0.08 * np.exp(h[at])
        r = rng.binomial(1000, p) / 1000
        noisy = h * (1 + 0.03 * rng.standard_normal(len(h)))
        found = findings(as_run(t[at], noisy[at], r, log=(t, noisy)), problems=1000)
        errors += "error" in found.values()
        warnings += bool(
            set(found) & {"curvature", "points-above-ceiling", "entropy-rose-first", "entropy-turned-up"}
        )
    assert errors == 0
    assert warnings <= 8


def test_a_hump_before_the_fall_is_a_warning_only():
    t = np.arange(0.0, 37.0)
    h = np.where(t < 10, 0.46 + 0.012 * t, 0.58 * np.exp(-(t - 10) / 30))
    found = findings((t, h, law(h)))
    assert found["entropy-rose-first"] == "warning" and "error" not in found.values()


# --- the entropy ---


@pytest.mark.parametrize(
    "make, code",
    [
        (lambda t: np.full(len(t), 0.5), "entropy-constant"),
        (lambda t: 0.5 + 0.002 * np.random.default_rng(0).standard_normal(len(t)), "entropy-not-falling"),
        (lambda t: 0.5 - 0.0003 * t, "entropy-not-falling"),
        (lambda t: 0.3 + 0.004 * t, "entropy-rising"),
        (lambda t: 0.3 + 0.05 * t, "entropy-exploded"),
        (lambda t: np.where(t < 20, 0.8 * np.exp(-t / 10), 0.1 * np.exp((t - 20) / 5)), "entropy-exploded"),
        (lambda t: np.where(t < 18, 0.8 - 0.03 * t, 0.26 + 0.02 * (t - 18)), "entropy-turned-up"),
        (lambda t: np.where(t < 18, np.exp(-t / 4), 0.011 + 0.012 * (t - 18)), "entropy-turned-up"),
        (lambda t: 40 + 60 * np.exp(-t / 20), "entropy-not-per-token"),
        (lambda t: -0.05 - 0.9 * np.exp(-t / 20), "entropy-negative"),
        (lambda t: 1.0 - 0.0025 * t, "entropy-range-small"),
    ],
)
def test_entropies_that_refuse(make, code):
    t = np.arange(0.0, 37.0)
    h = make(t)
    r = 0.5 + 0.003 * t + 0.01 * np.random.default_rng(1).standard_normal(len(t))
    assert findings((t, h, r)).get(code) == "error"
    with pytest.raises(FitRefused) as refused:
        fit((t, h, r))
    assert refused.value.exit_code == 4 and has_error(refused.value.findings)


def test_entropies_that_warn():
    t, h = dense()
    assert findings((t, h + 5.0 * (t == 3), law(h)))["entropy-high"] == "warning"
    assert findings((t, np.where(t == 30, -0.01, h), law(h)))["entropy-negative"] == "warning"
    slow = 0.05 + 0.95 * np.exp(-t / 100)
    assert findings((t, slow, law(slow)))["entropy-range-small"] == "warning"
    back = np.where(t < 24, np.exp(-t / 10), np.exp(-2.4) + 0.02 * (t - 24))
    assert findings((t, back, law(back)))["entropy-turned-up"] == "warning"


def test_a_meaning_that_says_sequence_sum_refuses_whatever_the_size():
    t, h = dense()
    meaning = EntropyMeaning("objective/entropy", unit="nats/sequence", averaging="sequence-sum")
    assert findings(as_run(t, h, law(h), meaning=meaning))["entropy-not-per-token"] == "error"


@pytest.mark.parametrize(
    ("change", "said"), [(0.0256, "rose by 0.0256 from 0.9"), (-0.0256, "fell by 0.0256 from 0.9")]
)
def test_an_entropy_that_hardly_moves_is_said_to_have_gone_the_way_it_went(change, said):
    t = np.arange(41.0)
    points = Points.from_arrays(t, 0.9 + change * (t > 20), np.linspace(0.2, 0.4, 41))
    (found,) = [f for f in entropy_findings(points) if f.code == "entropy-not-falling"]
    assert said in found.what and "-" not in found.what


def test_a_resumed_run_with_hardly_any_entropy_is_refused():
    t = np.arange(101.0, 300.0)
    rng = np.random.default_rng(0)
    h = 0.03 + 0.003 * rng.standard_normal(len(t))
    run = as_run(t[::10], h[::10], 0.89 + 0.01 * rng.standard_normal(20), log=(t, h))
    for window in (36.0, None, 250.0):
        assert findings(run, until_step=window)["starts-late"] == "error"
    with pytest.raises(FitRefused) as refused:
        fit(run)
    assert refused.value.findings[0].code == "starts-late" and refused.value.fit is None


def test_a_resumed_run_with_entropy_left_is_a_warning():
    t = np.arange(50.0, 150.0)
    h = 0.1 + 0.7 * np.exp(-(t - 50) / 30)
    found = findings(as_run(t[::5], h[::5], law(h[::5]), log=(t, h)), until_step=None)
    assert found["starts-late"] == "warning" and "error" not in found.values()


def test_a_log_of_every_tenth_step_is_not_a_resumed_one():
    t = np.arange(10.0, 400.0, 10.0)
    h = 0.05 + 0.9 * np.exp(-t / 80)
    assert "starts-late" not in findings((t, h, law(h)), until_step=None)


# --- the scores and the fit ---


def test_counts():
    few, too_few = ("few-evaluations", "warning"), ("too-few-evaluations", "error")
    for n, expected in ((2, too_few), (3, too_few), (4, few), (7, few), (8, None)):
        t, h, r = law_arrays(n=n, noise=0.001, every=36 / (n - 1))
        found = findings((t, h, r), problems=1000)
        told = [(k, v) for k, v in found.items() if "evaluations" in k]
        assert told == ([expected] if expected else [])


def test_scores():
    t, h = dense()
    r = law(h)
    assert findings((t, h, np.full(37, 0.4)))["performance-constant"] == "error"
    mixed = np.where(np.arange(37) % 3 == 0, 100 * r, r)
    assert findings((t, h, mixed))["performance-mixed-units"] == "error"
    assert findings((t, h, 3 * r - 0.5))["performance-not-a-score"] == "warning"
    assert findings((t, h, 3 * r - 0.5), problems=500)["performance-not-a-score"] == "error"
    assert "performance-not-a-score" not in findings((t, h, np.clip(r, 0, 1)))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("method", ["careful", "paper"])
@pytest.mark.parametrize("problems", [None, 100])
def test_a_score_that_never_moves_is_refused_for_that_and_nothing_else(value, method, problems):
    """A dead verifier logs exact zeros: no residual, no scale, and the noise grid must survive it."""
    t, h = dense()
    with pytest.raises(FitRefused) as refused:
        fit((t, h, np.full(37, value)), method=method, problems=problems)
    assert [f.code for f in refused.value.findings] == ["performance-constant"]
    assert refused.value.fit.ceiling == pytest.approx(value, abs=1e-9)


def test_a_point_without_which_there_is_no_line_prints_no_nan():
    t, h = np.arange(5.0), np.array([3.0, 0.5, 0.5, 0.5, 0.5])
    found = fit((t, h, law(h)), method="paper", force=True).findings
    told = [f.what for f in found if f.code == "one-point-carries-fit"]
    assert len(told) == 1 and "there is no line" in told[0] and "nan" not in told[0]


def test_what_the_reader_said_of_the_unit_is_not_said_again():
    t, h = dense()
    unread = as_run(t, h, 3 * law(h))
    assert findings(unread)["performance-not-a-score"] == "warning"
    read = replace(unread, findings=(Finding("not-a-score", "warning", "runs to 2", "no score"),))
    assert "performance-not-a-score" not in findings(read)
    assert findings(read, problems=50)["performance-not-a-score"] == "error"  # no binomial noise there


def test_slopes():
    t, h = dense()
    assert findings((t, h, 0.2 + 0.1 * np.exp(h)))["slope-not-positive"] == "error"
    r = 0.5 + 0.05 * np.random.default_rng(3).standard_normal(37) - 0.002 * np.exp(h)
    assert findings((t, h, r)).get("slope-uncertain") == "warning"


def test_one_point_that_carries_the_fit():
    t = np.arange(0.0, 37.0, 4.0)
    h = np.r_[2.5, np.linspace(0.22, 0.18, 9)]
    rng = np.random.default_rng(0)
    found = findings((t, h, 0.6 - 0.03 * np.exp(h) + 0.01 * rng.standard_normal(10)))
    assert found["one-point-carries-fit"] == "error"
    h = np.r_[2.0, np.linspace(0.9, 0.2, 9)]
    assert (
        findings((t, h, 0.6 - 0.03 * np.exp(h) + 0.01 * rng.standard_normal(10)))["one-point-carries-fit"]
        == "warning"
    )
    # Ordinary leverage, but an evaluation gone wrong at the end.
    t, h, r = law_arrays(noise=0.002)
    r[-1] -= 0.15
    found = fit((t, h, r), method="paper", force=True).findings
    assert "one-point-carries-fit" in {f.code for f in found}


def test_shape():
    t, h = dense()
    bent = 0.8 - 0.1 * np.exp(h) - 0.15 * (np.exp(h) - 1.6) ** 2
    assert (
        findings((t, h, bent + 0.003 * np.random.default_rng(0).standard_normal(37)))["curvature"]
        == "warning"
    )
    wave = law(h, 0.002) + 0.02 * np.sin(t / 3)
    assert findings((t, h, wave))["residuals-autocorrelated"] == "info"
    assert findings((t, h, wave), method="paper")["residuals-autocorrelated"] == "warning"


def test_ceilings():
    t, h = dense()
    high = 1.25 - 0.2 * np.exp(h) + 0.001 * np.random.default_rng(0).standard_normal(37)
    found = fit((t, h, high), force=True)
    assert found.ceiling > 1.0 and found.ceiling == pytest.approx(1.05, abs=0.01)  # reported, not clipped
    assert {f.code for f in found.findings} >= {"ceiling-outside"}
    loose = 0.4 - 0.05 * np.exp(h[::6]) + 0.06 * np.random.default_rng(2).standard_normal(7)
    assert findings((t[::6], h[::6] + 0.8, loose)).get("ceiling-not-identified") in ("warning", "error")


def test_later_points_above_the_ceiling():
    t = np.arange(0.0, 200.0, 4.0)
    h = 0.05 + 0.95 * np.exp(-t / 25)
    r = law(h) + 0.002 * np.maximum(t - 36, 0)
    found = findings((t, h, r))
    assert found["points-above-ceiling"] == "warning"
    assert "points-above-ceiling" not in findings((t, h, law(h)))


def test_fitted_points_above_the_ceiling():
    t = np.arange(0.0, 40.0)
    h = 0.02 + 1.5 * np.exp(-t / 6)
    r = (
        0.5
        - 0.1 * np.exp(h)
        + np.where(t > 34, 0.15, 0.0)
        + 0.002 * np.random.default_rng(0).standard_normal(40)
    )
    assert findings((t, h, r), method="paper", until_step=None)["points-above-ceiling"] == "warning"


def test_interventions_of_the_config_are_told():
    t, h = dense()
    config = {"actor_rollout_ref.actor.clip_ratio_high": 0.28, "actor_rollout_ref.actor.entropy_coeff": 0.01}
    found = findings(as_run(t, h, law(h), config=config))
    assert (
        found["clip-higher"] == "warning"
        and found["entropy-bonus"] == "warning"
        and "error" not in found.values()
    )


def test_diagnose_of_a_bare_fit_and_of_its_run_agree_where_they_can():
    t, h = dense()
    run = as_run(t, h, law(h), config={"beta": 0.1})
    bare = fit_points(Points.from_arrays(t, h, law(h)))
    assert bare.findings == () and diagnose(bare) == ()
    assert [f.code for f in diagnose(bare, run)] == ["kl-penalty"]
    rising = fit_points(Points.from_arrays(t, h[::-1], law(h)))
    assert has_error(diagnose(rising))


def test_refusal_carries_the_fit_and_force_returns_it():
    t, h = dense()
    with pytest.raises(FitRefused, match=r"rose|went") as refused:
        fit((t, h[::-1].copy(), law(h)))
    assert refused.value.fit is not None and refused.value.fit.findings == refused.value.findings
    forced = fit((t, h[::-1].copy(), law(h)), force=True)
    assert forced.a == refused.value.fit.a and has_error(forced.findings)


def test_findings_of_the_reader_are_kept():
    from dataclasses import replace

    from entlaw.findings import Finding

    t, h = dense()
    read = Finding("steps-overlap", "warning", "two segments overlap", "they disagree", "keep one")
    assert read in fit(replace(as_run(t, h, law(h)), findings=(read,))).findings


def test_trend_levels_are_robust_to_a_single_glitch():
    _, h = dense(60)
    glitch = h.copy()
    glitch[40] = 6.0
    plain, with_glitch = trend_of(h), trend_of(glitch)
    assert with_glitch.high_after == pytest.approx(plain.high_after, abs=0.05)
    assert trend_of(np.array([1.0, 0.5])) is None


@needs_shared
@pytest.mark.parametrize(
    "name, window, codes",
    [
        ("bihan_verl_ppo/run.csv", 36.0, {"starts-late", "too-few-evaluations"}),
        ("bihan_verl_ppo/run.csv", None, {"starts-late"}),
        ("rasbt_ch07/run_1.csv", None, {"entropy-exploded"}),
        ("rasbt_ch07/run_2.csv", None, {"entropy-turned-up"}),
        ("rasbt_ch07/run_3.csv", None, {"entropy-exploded"}),
        ("rasbt_ch07/run_4.csv", None, {"entropy-exploded"}),
        ("sunshine_trl/run_13.csv", None, {"entropy-exploded"}),
        ("sunshine_trl/run_14.csv", 36.0, {"entropy-exploded"}),
        ("verl_notebook_ppo/run.csv", 36.0, set()),
        ("tinker_arith/run.csv", 36.0, set()),
    ],
)
def test_real_runs(name, window, codes):
    table = pd.read_csv(SHARED / name)
    log = table[["step", "entropy"]].dropna()
    points = table[["step", "entropy", "performance"]].dropna()
    run = as_run(points["step"], points["entropy"], points["performance"], log=(log["step"], log["entropy"]))
    errors = {c for c, s in findings(run, until_step=window).items() if s == "error"}
    assert errors >= codes and bool(errors) == bool(codes)
