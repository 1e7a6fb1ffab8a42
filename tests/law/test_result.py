"""One run with all that is said of it: windows, verdicts, state and horizon, gain, and runs of unusual shape."""

import json
from dataclasses import replace

import numpy as np
import pytest

from entlaw.errors import FitRefused, UsageError
from entlaw.findings import has_error
from entlaw.law.fit import fit_points
from entlaw.law.growth import gain_until
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.law.shapes import hold_out
from entlaw.limits import UNSET
from entlaw.points import Points
from tests.law.common import A, B, as_run, law_arrays

T = 4.0 * np.arange(60)


def scores(seed=0, noise=0.004, rise=0.0, tau=25.0, t=T):
    """Points of a run that obeys the law up to step 36, and rises above it from there on."""
    rng = np.random.default_rng(seed)
    h = 0.05 + 0.95 * np.exp(-t / tau)
    r = B - A * np.exp(h) + rise * np.maximum(t - 36.0, 0.0) / 200.0 + noise * rng.standard_normal(len(t))
    return t, h, r


def run_of(config=None, state=None, **more):
    made = as_run(*scores(**more), config=config)
    return (
        made
        if state is None
        else replace(made, provenance=replace(made.provenance, details={"state": state}))
    )


def changed_after(points, step):
    """The same run with another end."""
    late, late_log = points.step > step, points.log_step > step
    return replace(
        points,
        score=np.where(late, 0.9 * points.score, points.score),
        entropy=np.where(late, 1.1 * points.entropy, points.entropy),
        log_entropy=np.where(late_log, 1.1 * points.log_entropy, points.log_entropy),
    )


# Windows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "law", "seen", "n_law", "n_seen"),
    [(UNSET, 36.0, None, 10, 60), (100.0, 100.0, 100.0, 26, 26), (None, None, None, 60, 60)],
)
def test_the_law_and_the_forecast_have_their_windows_and_say_so(until, law, seen, n_law, n_seen):
    result = examine(run_of(), Settings(until_step=until, steps=(400.0,), entropies=(0.05,)))
    assert (result.law.until_step, result.law.n) == (law, n_law)
    assert [(one.until_step, one.n) for one in result.forecast.at] == [(seen, n_seen)] * 2
    told = result.to_dict()
    assert (told["law"]["until_step"], told["law"]["n"]) == (law, n_law)
    assert (told["forecast"]["until_step"], told["forecast"]["n"]) == (seen, n_seen)
    assert (result.held_out is None) == (law is None)
    assert result.held_out is None or result.held_out.n == 60 - n_law


def test_nothing_after_until_step_is_looked_at():
    points = Points.from_arrays(*scores())
    asked = Settings(until_step=80.0, steps=(300.0,), entropies=(0.1,), total_steps=400.0)
    one, two = (examine(p, asked).to_dict() for p in (points, changed_after(points, 80.0)))
    for told in (one, two):
        del told["held_out"], told["last"]  # what came later is named there, and there alone
        told["findings"] = [f for f in told["findings"] if f["code"] != "points-above-ceiling"]
    assert one == two


def test_without_until_step_the_law_has_the_papers_window_and_the_forecast_all():
    points = Points.from_arrays(*scores())
    one, two = (examine(p) for p in (points, changed_after(points, 36.0)))
    assert one.law.to_dict()["ceiling"] == two.law.to_dict()["ceiling"]
    assert one.forecast.at[0].median != two.forecast.at[0].median


def test_the_model_law_answers_from_its_own_window():
    (one,) = examine(run_of(), Settings(model="law", steps=(200.0,))).forecast.at
    assert (one.model, one.until_step, one.n) == ("law", 36.0, 10)


def test_the_early_forecast_of_the_last_score_knows_the_window_alone():
    points = Points.from_arrays(*scores())
    one, two = (examine(p).early for p in (points, changed_after(points, 36.0)))
    assert one.to_dict() == two.to_dict() and (one.step, one.n) == (236.0, 10)
    assert examine(points, Settings(until_step=None)).early is None


# Verdicts -----------------------------------------------------------------------------------------


def obeys(seed, floor, wander, noise):
    """A run of the law that wanders around it (AR(1), forgotten over 10 steps); its entropy falls to ``floor``."""
    rng = np.random.default_rng(seed)
    around, keep = rng.standard_normal(len(T)), np.exp(-4.0 / 10.0)
    for i in range(1, len(T)):
        around[i] = keep * around[i - 1] + np.sqrt(1 - keep**2) * around[i]
    h = floor + (1.0 - floor) * np.exp(-T / 25.0)
    score = B - A * np.exp(h) + wander * around + noise * rng.standard_normal(len(T))
    return Points.from_arrays(T, h, score)


@pytest.mark.parametrize(
    ("method", "floor", "wander", "noise", "least", "most"),
    [
        # At the ceiling itself: one-sided 2.5 % of 400 runs are 10; 3 to 21 hold it with 99.8 % (binomial).
        ("paper", 0.0, 0.0, 0.01, 3, 21),
        ("careful", 0.0, 0.01, 0.01, 3, 21),
        # 0.013 below it, where entropy is left: less.
        ("careful", 0.05, 0.01, 0.01, 0, 10),
    ],
)
def test_runs_that_obey_the_law_are_called_passed_as_rarely_as_said(
    method, floor, wander, noise, least, most
):
    passed = 0
    for seed in range(400):
        points = obeys(seed, floor, wander, noise)
        passed += hold_out(fit_points(points, method=method), points).passed
    assert least <= passed <= most


def test_a_run_that_rises_above_its_ceiling_is_found():
    found = [examine(Points.from_arrays(*scores(seed, rise=0.2))) for seed in range(20)]
    assert [one.verdict for one in found] == ["passed"] * 20
    low = [one.held_out.p_within < 0.025 for one in found]
    assert all(low) and all(one.passed for one in found)


def test_single_scores_above_the_ceiling_do_not_pass_it():
    t, h, r = scores(noise=0.002)
    r[20] += 0.1
    assert not examine(Points.from_arrays(t, h, r)).passed


def test_the_size_of_the_test_is_noise_of_the_late_mean():
    """Five equal late scores have no scatter; of 50 answers each, their mean has sqrt(p (1 - p) / 250)."""
    t, h, r = scores(noise=0.0)
    r[-5:] = 0.6
    held = examine(Points.from_arrays(t, h, r, answers=50)).held_out
    assert held.late_mean == pytest.approx(0.6)
    assert held.late_error == pytest.approx(np.sqrt(0.6 * 0.4 / 50 / 5))


def test_each_verdict_on_the_law_is_given():
    t, h, r = scores()
    assert examine(Points.from_arrays(t, h, r)).verdict == "ok"
    warned = examine(as_run(t, h, r, config={"actor.entropy_coeff": 0.01}))
    assert warned.verdict == "caution" and {f.severity for f in warned.findings} == {"warning"}
    assert examine(Points.from_arrays(*scores(rise=0.2))).verdict == "passed"
    assert examine(Points.from_arrays(t, h[::-1], r)).verdict == "refused"


def test_a_refused_law_shows_no_number_unless_forced_and_keeps_its_verdict():
    t, h, r = scores()
    rising = Points.from_arrays(t, h[::-1], r)
    plain, forced = examine(rising), examine(rising, Settings(force=True))
    assert plain.law is None and plain.to_dict()["law"] is None and plain.held_out is None
    with pytest.raises(FitRefused) as caught:
        _ = plain.ceiling
    assert caught.value is plain.refusal and plain.to_dict()["error"]["exit_code"] == 4
    assert forced.verdict == plain.verdict == "refused" and has_error(forced.findings)
    assert forced.ceiling == plain.refusal.fit.ceiling and forced.forecast.at


def test_the_forecasts_verdict_is_the_chance_of_a_gain():
    growing = examine(Points.from_arrays(*scores(rise=0.4)))
    assert growing.forecast.verdict == "improving" and growing.forecast.gain.probability_above() >= 0.8
    flat = examine(Points.from_arrays(*scores(noise=0.001, tau=8.0)))
    assert flat.forecast.verdict == "plateau" and flat.forecast.gain.probability_above() <= 0.2
    t, h, r = scores()
    rising = examine(Points.from_arrays(t, h[::-1], r))
    assert rising.forecast.verdict == "refused" and not rising.forecast.answered
    assert rising.forecast.why in {f.what for f in rising.forecast.findings}
    few = examine(Points.from_arrays(t[:5], h[:5], r[:5]))
    assert (
        few.forecast.verdict == "uncertain" and "5 points so far, and a forecast wants 8" in few.forecast.why
    )


# State and horizon --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "state", "until_step", "expected"),
    [
        ({}, None, UNSET, ("running", 472.0, "as-long-again", False)),
        ({"trainer.total_training_steps": 500}, None, UNSET, ("running", 500.0, "planned-end", False)),
        ({"trainer.total_training_steps": 236}, None, UNSET, ("finished", 472.0, "as-long-again", True)),
        # Steps counted from 0: the last of 237 is step 236.
        ({"trainer.total_training_steps": 237}, None, UNSET, ("finished", 472.0, "as-long-again", True)),
        ({"trainer.total_training_steps": 238}, None, UNSET, ("running", 238.0, "planned-end", False)),
        ({"trainer.total_training_steps": 500}, "crashed", UNSET, ("finished", 500.0, "planned-end", True)),
        ({}, "finished", UNSET, ("finished", 472.0, "as-long-again", True)),
        ({}, "running", UNSET, ("running", 472.0, "as-long-again", False)),
        # Looked at from an earlier step, what is to come is known to have come.
        ({}, "finished", 100.0, ("finished", 236.0, "last-score", False)),
        ({"trainer.total_training_steps": 500}, None, 100.0, ("running", 500.0, "planned-end", False)),
    ],
)
def test_state_and_horizon(config, state, until_step, expected):
    result = examine(run_of(config, state), Settings(until_step=until_step))
    gain = result.forecast.gain
    assert (result.state, gain.to_step, gain.until, gain.if_continued) == expected
    assert gain.from_step == (236.0 if until_step is UNSET else until_step)
    assert result.forecast.at[0].step == gain.to_step  # what is predicted where nothing is asked for
    assert ("if training continued" in result.summary().lower()) == gain.if_continued


def test_the_planned_end_is_the_users_where_he_says_it():
    result = examine(run_of({"total_steps": 500}), Settings(total_steps=300.0))
    assert (result.planned, result.forecast.gain.to_step) == (300.0, 300.0)


def test_the_gain_is_the_models_at_the_horizon():
    run = run_of({"total_steps": 500})
    ahead = examine(run).forecast
    direct = gain_until(Points.from_run(run), 500.0)
    assert ahead.gain.probability_above(0.02) == direct.above(0.02)
    assert ahead.probability_above("gain", 0.02) == direct.above(0.02)
    at_end = ahead.outlook.at_step(500.0)
    assert ahead.probability_above("final", 0.6) == 1.0 - float(at_end.cdf(0.6))
    assert ahead.probability_above("ceiling", 0.6) == ahead.ceiling.probability_above(0.6)
    assert examine(run_of()).forecast.probability_above("final", 0.6) is None  # no planned end


# Settings, levels, shapes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "magic"},
        {"model": "magic"},
        {"level": 0.0},
        {"level": 1.0},
        {"level": np.nan},
        {"problems": 0},
        {"problems": np.inf},
        {"samples": 4},
        {"problems": 5, "samples": -1},
        {"until_step": np.nan},
        {"until_step": np.inf},
        {"total_steps": -1.0},
        {"total_steps": np.nan},
        {"width": 0.0},
    ],
)
def test_settings_that_make_no_sense_are_usage_errors(settings):
    with pytest.raises(UsageError):
        examine(run_of(), Settings(**settings))


def test_what_cannot_be_predicted_is_told_beside_what_can():
    ahead = examine(run_of(), Settings(steps=(300.0, 20.0), entropies=(-1.0, 0.05))).forecast
    assert [(one.step, one.given_entropy) for one in ahead.at] == [(None, 0.05), (300.0, None)]
    assert len(ahead.failures) == 2 and all(isinstance(error, UsageError) for error in ahead.failures)


def test_another_level_needs_no_other_fit():
    result = examine(run_of())
    wide = result.at_level(0.99)
    anew = examine(run_of(), Settings(level=0.99))
    assert wide.law.posterior is result.law.posterior and wide.settings.level == 0.99
    for one in (wide, anew):
        assert one.ceiling_interval.level == one.forecast.at[0].interval.level == 0.99
    assert wide.to_dict() == anew.to_dict()
    with pytest.raises(UsageError):
        result.at_level(2.0)


def unusual():
    t, h, r = law_arrays(n=20)
    return {
        "none": Points.from_arrays([], [], []),
        "one": Points.from_arrays([0.0], [1.0], [0.2]),
        "one late": Points.from_arrays([500.0], [1.0], [0.2]),
        "two": Points.from_arrays([0.0, 4.0], [1.0, 0.9], [0.2, 0.3]),
        "three": Points.from_arrays(t[:3], h[:3], r[:3]),
        "rewards": Points.from_arrays(t, h, 20.0 * r - 8.0),
        "rewards of a test": Points.from_arrays(t, h, 20.0 * r - 8.0, answers=100),
        "negative steps": Points.from_arrays(t - 40.0, h, r),
        "equal steps": Points.from_arrays(np.zeros(20), h, r),
        "a log alone": Points.from_arrays([], [], [], log=(t, h)),
    }


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"force": True},
        {"until_step": -5.0},
        {"until_step": None},
        {"model": "law"},
        {"method": "paper"},
        {"steps": (100.0, 1.0), "entropies": (0.1, -1.0)},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", unusual())
def test_points_of_unusual_shape_have_a_result_in_every_view(shape, settings):
    result = examine(unusual()[shape], Settings(**settings), name=f"<{shape}>")
    told = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert told["name"] == f"<{shape}>" and told["n"] == result.points.n
    assert told["verdict"] == result.verdict and (told["law"] is None) == (result.law is None)
    assert len(result.to_frame()) == 1 and result.to_frame().loc[result.name, "verdict"] == result.verdict
    assert "nan" not in result.summary() and result.summary().startswith(result.name)
    assert f"&lt;{shape}&gt;" in result._repr_html_()
    assert result.verdict == "refused" or result.points.n >= 4


def test_rewards_that_are_no_shares_have_no_binomial_noise():
    points = unusual()["rewards of a test"]
    assert examine(points).points.answers is None
    assert examine(points, Settings(problems=100)).points.answers == 100  # the user says so, and is told
