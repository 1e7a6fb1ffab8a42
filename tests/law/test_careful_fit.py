"""The careful method against a derivation that shares no algebra with it, and on runs with a known truth."""

import subprocess
import sys

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, stats

from entlaw.api import fit
from entlaw.errors import FitRefused, MissingSeries, SourceNotFound, UsageError
from entlaw.law import noise
from entlaw.law.fit import fit_points
from entlaw.law.posterior import binomial_variance, mixture_cdf, mixture_quantile
from entlaw.points import Points
from tests.law.common import A, B, as_run, law_arrays


def by_hand(step, x, y, answers):
    """Every component by explicit covariance matrices and inverses: weights, coefficients, scales."""
    n = len(x)
    design = np.column_stack([-x, np.ones(n)])
    known = answers is not None
    if known:
        slope, intercept = np.polyfit(x, y, 1)
        white = binomial_variance(intercept + slope * x, answers)
    else:
        white = np.ones(n)
    unit = white.mean()
    q, log_prior = noise._ratios(known, unit)
    found = []
    for tau in noise._correlation_times(step):
        kernel = np.exp(-np.abs(np.subtract.outer(step, step)) / tau)
        for qi, lp in zip(q, log_prior, strict=True):
            v = np.diag(white) + qi * unit * kernel
            gls = sm.GLS(y, design, sigma=v).fit()
            inv = np.linalg.inv(v)
            e = y - design @ gls.params
            rss = e @ inv @ e
            information = design.T @ inv @ design
            log_like = -0.5 * np.linalg.slogdet(v)[1] - 0.5 * np.linalg.slogdet(information)[1]
            log_like += -0.5 * rss if known else -0.5 * (n - 2) * np.log(rss)
            sigma2 = 1.0 if known else rss / (n - 2)
            found.append((log_like + lp, gls.params, sigma2 * np.linalg.inv(information), sigma2 * qi * unit))
    log_weight = np.array([f[0] for f in found])
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return weight, *(np.array([f[i] for f in found]) for i in (1, 2, 3))


@pytest.mark.parametrize("answers", [None, 500.0, 30 * 32.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_component_agrees_with_explicit_generalised_least_squares(answers, seed):
    rng = np.random.default_rng(seed)
    step = np.sort(rng.choice(np.arange(60.0), 11, replace=False))  # irregular on purpose
    x = np.exp(0.05 + 0.95 * np.exp(-step / 20))
    y = B - A * x + 0.02 * rng.standard_normal(len(x))
    mine = noise.careful(step, x, y, answers=answers)
    weight, beta, scale, wander = by_hand(step, x, y, answers)
    p = mine.posterior
    np.testing.assert_allclose(p.weight, weight, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(p.slope / p.size, beta[:, 0], rtol=1e-8)
    np.testing.assert_allclose(p.level + p.slope * p.centre / p.size, beta[:, 1], rtol=1e-8)
    np.testing.assert_allclose(p.wander, wander, rtol=1e-7, atol=1e-14)
    ceiling_var = np.einsum("i,kij,j->k", [-1.0, 1.0], scale, [-1.0, 1.0])
    mean, sd = p.at(np.ones(1), measured=False)
    np.testing.assert_allclose(sd[:, 0] ** 2, ceiling_var, rtol=1e-7)
    assert (p.a, p.b) == pytest.approx(tuple(weight @ beta), rel=1e-9)
    spread = beta - weight @ beta
    total = np.einsum("k,kij->ij", weight, scale) + np.einsum("k,ki,kj->ij", weight, spread, spread)
    np.testing.assert_allclose(p.covariance(), total, rtol=1e-6)
    # The interval's ends leave 2.5 % of the mixture outside, by scipy's own distributions.
    interval = p.ceiling_interval(0.95)
    each = stats.norm(mean[:, 0], sd[:, 0]) if answers else stats.t(len(x) - 2, mean[:, 0], sd[:, 0])
    assert weight @ each.cdf(interval.lo) == pytest.approx(0.025, abs=1e-8)
    assert weight @ each.cdf(interval.hi) == pytest.approx(0.975, abs=1e-8)


def test_leverage_and_leave_one_out_are_those_of_explicit_matrices(monkeypatch):
    monkeypatch.setattr(
        noise, "N_TAU", 1
    )  # one tau, one q: nothing is averaged, so deletion can be done for real
    monkeypatch.setattr(noise, "_Q_UNKNOWN", np.array([2.0]))
    step, h, y = law_arrays(n=9, noise=0.02, seed=4)
    x = np.exp(h)
    mine = noise.careful(step, x, y)
    tau = noise._correlation_times(step)[0]
    v = np.eye(9) + 2.0 * np.exp(-np.abs(np.subtract.outer(step, step)) / tau)
    design = np.column_stack([-x, np.ones(9)])
    inv = np.linalg.inv(v)
    hat = design @ np.linalg.inv(design.T @ inv @ design) @ design.T @ inv
    np.testing.assert_allclose(mine.leverage, np.diag(hat), atol=1e-10)
    assert mine.leverage.sum() == pytest.approx(2.0)
    for i in range(9):
        keep = np.arange(9) != i
        a, b = sm.GLS(y[keep], design[keep], sigma=v[np.ix_(keep, keep)]).fit().params
        assert mine.ceiling_without[i] == pytest.approx(b - a, abs=1e-9)
    square = sm.GLS(y, np.column_stack([design, x**2]), sigma=v).fit()
    assert mine.curvature_p == pytest.approx(square.pvalues[2], rel=1e-6)


def test_unknown_entropy_widens_and_never_narrows():
    step, h, y = law_arrays(n=12, noise=0.005, seed=1)
    x = np.exp(h)
    plain = noise.careful(step, x, y, answers=2000).posterior.ceiling_interval(0.95)
    error = 0.05 * np.diag(x)
    wide = noise.careful(step, x, y, answers=2000, x_error=error).posterior.ceiling_interval(0.95)
    assert wide.width > 1.2 * plain.width


def test_without_noise_the_truth_comes_back():
    step, h, r = law_arrays(noise=0.0)
    fit_ = fit_points(Points.from_arrays(step, h, r))
    assert (fit_.a, fit_.b) == pytest.approx((A, B), abs=1e-9)
    assert fit_.ceiling_interval.width < 1e-6
    assert not fit_.noise["entropy_smoothed"]


def test_noise_in_the_entropy_does_not_pull_the_slope_to_zero():
    # Plain least squares is biased by the error in H; the smoothed fit must not be.
    plain, careful = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        log_t = np.arange(0.0, 37.0)
        truth = 0.05 + 0.95 * np.exp(-log_t / 25)
        log_h = truth + 0.12 * rng.standard_normal(37)
        at = slice(None, None, 4)
        r = B - A * np.exp(truth[at]) + 0.003 * rng.standard_normal(10)
        plain.append(fit_points(Points.from_arrays(log_t[at], log_h[at], r), method="paper").a)
        careful.append(fit_points(Points.from_arrays(log_t[at], log_h[at], r, log=(log_t, log_h))).a)
    assert np.mean(plain) < 0.225  # attenuated by more than 10 %
    assert abs(np.mean(careful) - A) < 4 * np.std(careful) / np.sqrt(60) + 0.006


@pytest.mark.parametrize(
    "rho, wander, every, problems, low, high",
    [
        (0.0, 0.0, 4, 500, 0.92, 1.0),
        (0.6, 0.008, 4, 500, 0.90, 1.0),
        (0.95, 0.008, 1, 4000, 0.80, 0.97),
    ],
)
def test_the_ceiling_interval_covers(rho, wander, every, problems, low, high):
    rng = np.random.default_rng(11)
    covered, plain = [], []
    for _ in range(150):
        t = np.arange(0.0, 37.0, every)
        e = rng.standard_normal(len(t))
        w = np.empty(len(t))
        w[0] = wander * e[0]
        for i in range(1, len(t)):
            w[i] = rho * w[i - 1] + wander * np.sqrt(1 - rho**2) * e[i]
        h = 0.05 + 0.95 * np.exp(-t / 25)
        r = rng.binomial(problems, B - A * np.exp(h) + w) / problems
        i = fit_points(Points.from_arrays(t, h, r, answers=problems)).ceiling_interval
        covered.append(i.lo <= B - A <= i.hi)
        i = fit_points(Points.from_arrays(t, h, r), method="paper").ceiling_interval
        plain.append(i.lo <= B - A <= i.hi)
    assert low <= np.mean(covered) <= high
    if rho > 0.9:
        assert np.mean(plain) < 0.65  # where least squares fails, which is why the method exists


def test_correlation_depends_on_the_distance_in_steps():
    # Two clusters of evaluations far apart are two independent groups, whatever their order number says.
    step, h, r = law_arrays(n=10, noise=0.02, seed=2)
    stretched = np.concatenate([step[:5], step[5:] + 1000.0])
    near = noise.careful(step, np.exp(h), r).posterior.ceiling_interval(0.95)
    far = noise.careful(stretched, np.exp(h), r).posterior.ceiling_interval(0.95)
    assert near.lo != far.lo
    double = noise.careful(2 * step, np.exp(h), r).posterior.ceiling_interval(0.95)
    assert (double.lo, double.hi) == pytest.approx((near.lo, near.hi), abs=1e-12)  # the unit of time is free


def test_known_test_size_matters_as_it_should():
    step, h, _ = law_arrays()
    r = B - A * np.exp(h)
    widths = [
        fit_points(Points.from_arrays(step, h, r, answers=n)).ceiling_interval.width for n in (100, 500, 2500)
    ]
    assert widths[0] > widths[1] > widths[2]
    run = as_run(step, h, r)
    same = fit(run, problems=30, samples=32), fit(run, problems=960)
    assert same[0].ceiling_interval == same[1].ceiling_interval


def test_line_inside_prediction_and_both_grow_with_the_level():
    step, h, r = law_arrays(seed=7)
    at = np.linspace(0, 1.2, 25)
    for kw, answers in (({"method": "paper"}, None), ({}, None), ({}, 400)):
        fit_ = fit_points(Points.from_arrays(step, h, r, answers=answers), **kw)
        line, prediction, wide = (
            fit_.line_at(at, 0.9),
            fit_.prediction_at(at, 0.9),
            fit_.prediction_at(at, 0.99),
        )
        assert line.kind == "line" and prediction.kind == "prediction"
        assert np.all(prediction.lo < line.lo) and np.all(line.hi < prediction.hi)
        assert np.all(wide.lo < prediction.lo) and np.all(prediction.hi < wide.hi)
        ceiling = fit_.line_at(np.zeros(1), fit_.ceiling_interval.level)
        assert (ceiling.lo[0], ceiling.hi[0]) == pytest.approx(
            (fit_.ceiling_interval.lo, fit_.ceiling_interval.hi)
        )


def test_mixture_quantiles_against_a_general_root_finder():
    rng = np.random.default_rng(0)
    weight = rng.dirichlet(np.ones(7))
    mean, scale = rng.normal(0, 3, (7, 1)), rng.uniform(0.1, 5, (7, 1))
    for df in (1.0, 3.0, np.inf):
        for p in (0.001, 0.025, 0.5, 0.9):
            q = mixture_quantile(p, weight, mean, scale, df)
            root = optimize.brentq(
                lambda z, df=df, p=p: mixture_cdf(np.array([z]), weight, mean, scale, df)[0] - p,
                -1e5,
                1e5,
                xtol=1e-12,
            )
            assert q[0] == pytest.approx(root, rel=1e-7, abs=1e-7)


def test_long_runs_keep_their_numbers():
    rng = np.random.default_rng(0)
    t = np.arange(10_000.0)
    h = 0.05 + 0.95 * np.exp(-t / 1500)
    r = B - A * np.exp(h) + 0.05 * rng.standard_normal(len(t))
    fit_ = fit_points(Points.from_arrays(t, h + 0.02 * rng.standard_normal(len(t)), r), until_step=None)
    assert fit_.n == 10_000 and fit_.points.leverage.sum() == pytest.approx(2.0)
    assert fit_.ceiling_interval.lo < B - A < fit_.ceiling_interval.hi and fit_.ceiling_interval.width < 0.02
    assert np.abs(fit_.points.ceiling_without - fit_.ceiling).max() < 1e-3


def test_deterministic():
    step, h, r = law_arrays()
    one, two = fit_points(Points.from_arrays(step, h, r)), fit_points(Points.from_arrays(step, h, r))
    assert one.ceiling_interval == two.ceiling_interval and one.noise == two.noise


# Numbers of this version: a change is a change of the method and belongs in the changelog.
FROZEN = {
    ("paper", None): (0.247951844490, 0.847150759847, 0.586685433912, 0.611712396802),
    ("careful", None): (0.247565508601, 0.845561060066, 0.575801706919, 0.617207801077),
    ("careful", 500.0): (0.248367178880, 0.847673318291, 0.568036045767, 0.630340941933),
}


@pytest.mark.parametrize("method, problems", FROZEN)
def test_frozen_results(method, problems):
    step, h, r = law_arrays(noise=0.01, seed=0)
    fit_ = fit_points(Points.from_arrays(step, h, r, answers=problems), method=method)
    i = fit_.ceiling_interval
    assert (fit_.a, fit_.b, i.lo, i.hi) == pytest.approx(FROZEN[method, problems], abs=2e-9)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_two_points_have_a_line_and_no_interval():
    fit_ = fit_points(Points.from_arrays([0, 4], [1.0, 0.5], [0.2, 0.4]))
    assert fit_.ceiling_interval.lo == -np.inf and fit_.ceiling_interval.hi == np.inf
    assert fit_.b - fit_.a * np.e == pytest.approx(0.2)


@pytest.mark.parametrize(
    "h, r",
    [
        ([1.0], [0.2]),
        ([], []),
        ([0.5] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        ([np.nan, 0.5, 0.4], [0.1, 0.2, np.nan]),
        ([800.0, 700.5, 3.0, 2.0], [0.1, 0.2, 0.3, 0.4]),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_where_nothing_can_be_fitted_even_force_refuses(h, r, force):
    with pytest.raises(FitRefused) as caught:
        fit((np.arange(float(len(h))), np.array(h), np.array(r)), force=force)
    assert caught.value.fit is None and caught.value.findings and caught.value.exit_code == 4
    assert caught.value.hint


@pytest.mark.parametrize(
    "kw",
    [
        {"method": "magic"},
        {"level": 1.0},
        {"level": 0},
        {"problems": 0},
        {"problems": -3},
        {"samples": 4},
        {"problems": 5, "samples": 0},
        {"until_step": float("nan")},
    ],
)
def test_impossible_options_are_usage_errors(kw):
    with pytest.raises(UsageError):
        fit(as_run(*law_arrays()), **kw)
    if not kw.keys() & {"problems", "samples"}:
        with pytest.raises(UsageError):
            fit_points(Points.from_arrays(*law_arrays()), **kw)


@pytest.mark.parametrize(
    "given", [([0, 1], [1.0], [0.1, 0.2]), (["a"], ["b"], ["c"]), ([[0, 1]], [[1, 2]], [[1, 2]])]
)
def test_arrays_of_other_shapes_are_usage_errors(given):
    with pytest.raises(UsageError):
        fit_points(Points.from_arrays(*given))
    with pytest.raises(UsageError):
        fit(tuple(given))


def test_frames_tuples_and_runs_give_the_same_fit():
    step, h, r = law_arrays()
    run = as_run(step, h, r)
    frame = run.points[["step", "entropy", "performance"]]
    results = [fit(run), fit(frame), fit((step, h, r))]
    assert len({(f.a, f.b, f.ceiling_interval.lo) for f in results}) == 1
    # A frame is read like a log, and a text is a path: each fails as those do.
    with pytest.raises(MissingSeries, match="no performance score"):
        fit(frame[["step", "entropy"]])
    with pytest.raises(SourceNotFound):
        fit("a path")
    with pytest.raises(UsageError):
        fit({"step": step})


def test_the_fit_path_imports_nothing_heavy():
    code = (
        "import sys, numpy as np\nfrom entlaw.law.result import examine\nfrom entlaw.api import fit\n"
        "heavy = {'scipy', 'scipy.stats', 'matplotlib', 'torch', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "t = np.arange(0.0, 40.0, 4.0); h = 0.1 + np.exp(-t / 20)\n"
        "fit((t, h, 0.8 - 0.2 * np.exp(h) + 0.01 * np.cos(9 * t)))\n"
        "heavy = {'scipy.stats', 'matplotlib', 'torch', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("freak", [15.0, 50.0, 250.0, 400.0, 699.0, 1e6])
@pytest.mark.parametrize("at", [0, 5, 23])
@pytest.mark.parametrize("method", ["careful", "paper"])
def test_one_absurd_entropy_is_refused_and_never_a_crash(freak, at, method):
    t = np.arange(1.0, 25.0)
    h = 0.05 + np.exp(-t / 9)
    r = 0.8 - 0.2 * np.exp(h) + 0.004 * np.random.default_rng(0).standard_normal(24)
    h[at] = freak
    with pytest.raises(FitRefused):
        fit((t, h, r), method=method)


@pytest.mark.parametrize("freak", [1e13, -1e200, 1e308])
@pytest.mark.parametrize("method", ["careful", "paper"])
def test_one_absurd_score_is_refused_and_never_a_crash(freak, method):
    t = np.arange(1.0, 25.0)
    h = 0.05 + np.exp(-t / 9)
    r = 0.8 - 0.2 * np.exp(h)
    r[7] = freak
    with pytest.raises(FitRefused) as caught:
        fit((t, h, r), method=method, force=True)
    assert "performance-not-a-score" in [f.code for f in caught.value.findings]
