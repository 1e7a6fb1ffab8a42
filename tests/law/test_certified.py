"""Least squares against NIST's certified values, and weighted sums against exact and extended arithmetic.

StRD linear problems (https://www.itl.nist.gov/div898/strd/lls/): the single line, Norris, is in test_paper_fit.py.
"Digits" are -log10 of the relative error. Double precision carries 15.9; what is lost is the problem's condition, so
each demand stands beside numpy's own least squares (SVD) on the same data.
"""

from fractions import Fraction

import numpy as np
import pytest
import statsmodels.api as sm

from entlaw.law import noise
from entlaw.law.meta import meta_regression
from entlaw.law.posterior import binomial_variance
from entlaw.law.sizes import SizedFit, fit_sizes

needs_long_double = pytest.mark.skipif(
    np.finfo(np.longdouble).eps >= np.finfo(float).eps, reason="long double is no longer than double here"
)

# Wampler's deltas: Wampler3 is the polynomial plus these, 4 and 5 have 100 and 10,000 times as much.
_DELTA = np.array(
    [
        759,
        -2048,
        2048,
        -2048,
        2523,
        -2048,
        2048,
        -2048,
        1838,
        -2048,
        2048,
        -2048,
        1838,
        -2048,
        2048,
        -2048,
        2523,
        -2048,
        2048,
        -2048,
        759,
    ],
    dtype=float,
)
_X = np.arange(21.0)
_POWERS = np.vander(_X, 6, increasing=True)
_WAMPLER_SE = np.array(
    [
        2152.32624678170,
        2363.55173469681,
        779.343524331583,
        101.475507550350,
        5.64566512170752,
        0.112324854679312,
    ]
)
_WAMPLER_SD = 2360.14502379268


def _wampler(k):
    """y, certified beta, its standard errors, residual standard deviation."""
    if k == 2:  # the file's five decimals: sums of powers of tenths, exact in hundred-thousandths
        y = np.array([sum(10 ** (5 - j) * t**j for j in range(6)) / 10**5 for t in range(21)])
        return y, 10.0 ** -np.arange(6.0), None, 0.0
    times = {1: 0.0, 3: 1.0, 4: 100.0, 5: 10000.0}[k]
    y = _POWERS.sum(axis=1) + times * _DELTA
    return y, np.ones(6), times * _WAMPLER_SE if times else None, times * _WAMPLER_SD


def _longley():
    data = sm.datasets.longley.load_pandas().data
    x = data[["GNPDEFL", "GNP", "UNEMP", "ARMED", "POP", "YEAR"]].to_numpy(dtype=float)
    beta = np.array(
        [
            -3482258.63459582,
            15.0618722713733,
            -0.358191792925910e-01,
            -2.02022980381683,
            -1.03322686717359,
            -0.511041056535807e-01,
            1829.15146461355,
        ]
    )
    error = np.array(
        [
            890420.383607373,
            84.9149257747669,
            0.334910077722432e-01,
            0.488399681651699,
            0.214274163161675,
            0.226073200069370,
            455.478499142212,
        ]
    )
    return (
        np.column_stack([np.ones(16), x]),
        data["TOTEMP"].to_numpy(dtype=float),
        beta,
        error,
        304.854073561965,
    )


def _pontius():
    y = np.array(
        [
            0.11019,
            0.21956,
            0.32949,
            0.43899,
            0.54803,
            0.65694,
            0.76562,
            0.87487,
            0.98292,
            1.09146,
            1.20001,
            1.30822,
            1.41599,
            1.52399,
            1.63194,
            1.73947,
            1.84646,
            1.95392,
            2.06128,
            2.16844,
            0.11052,
            0.22018,
            0.32939,
            0.43886,
            0.54798,
            0.65739,
            0.76596,
            0.87474,
            0.98300,
            1.09150,
            1.20004,
            1.30818,
            1.41613,
            1.52408,
            1.63159,
            1.73965,
            1.84696,
            1.95445,
            2.06177,
            2.16829,
        ]
    )
    x = np.tile(150000.0 * np.arange(1, 21), 2)
    beta = np.array([0.673565789473684e-03, 0.732059160401003e-06, -0.316081871345029e-14])
    error = np.array([0.107938612033077e-03, 0.157817399981659e-09, 0.486652849992036e-16])
    return np.vander(x, 3, increasing=True), y, beta, error, 0.205177424076185e-03


def digits(got, certified):
    """Fewest right digits, 16 at most."""
    certified = np.asarray(certified, dtype=float)
    error = np.abs(np.asarray(got, dtype=float) - certified) / np.abs(certified)
    return float(-np.log10(max(error.max(), 1e-16)))


def _case(name):
    if name == "Longley":
        return _longley()
    if name == "Pontius":
        return _pontius()
    y, beta, error, sd = _wampler(int(name[-1]))
    return _POWERS, y, beta, error, sd


# Measured on x86-64, fewest digits of any coefficient, in this order: 11.1, 12.0, 9.2, 12.4, 9.3, 7.6, 6.5; of the
# standard errors 12.7, 14.7, -, -, 13.7, 13.6, 13.8. About one digit less
# is demanded. Wampler 4 and 5 hide coefficients of 1 under noise of 1e5 and 1e7.
@pytest.mark.parametrize(
    ("name", "of_beta", "of_error"),
    [
        ("Longley", 10.0, 11.5),
        ("Pontius", 11.0, 13.0),
        ("Wampler1", 8.3, None),
        ("Wampler2", 11.3, None),
        ("Wampler3", 8.3, 12.5),
        ("Wampler4", 6.6, 12.5),
        ("Wampler5", 5.0, 12.5),
    ],
)
def test_certified_values_of_nist(name, of_beta, of_error):
    x, y, beta, error, sd = _case(name)
    fit = meta_regression(y, np.full(len(y), sd**2), x)
    assert digits(fit.beta, beta) >= of_beta
    assert digits(fit.beta, beta) >= digits(np.linalg.lstsq(x, y, rcond=None)[0], beta) - 1.0
    assert fit.tau2 <= 1e-10 * max(sd**2, float(np.var(y)))  # sigma^2 as certified leaves nothing unexplained
    if of_error is not None:
        assert digits(np.sqrt(np.diag(fit.covariance)), error) >= of_error
        assert digits(np.sqrt(np.sum(fit.residual**2) / fit.df), sd) >= 11.0


@pytest.mark.parametrize("name", ["Longley", "Pontius", "Wampler3", "Wampler4"])
def test_without_known_variances_tau2_is_the_certified_residual_variance(name):
    x, y, _, error, sd = _case(name)
    fit = meta_regression(y, np.zeros(len(y)), x)
    # What stands for a zero variance is 1e-12 of y's.
    assert fit.tau2 == pytest.approx(sd**2, abs=2e-12 * np.var(y) + 1e-9 * sd**2)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), error, rtol=1e-8)


# Against exact rational arithmetic ----------------------------------------------------------------------------------


def exact_line(x, y, weight=None):
    """Slope and level at the mean of x of the weighted line, as fractions of the very doubles given."""
    fx, fy = [Fraction(float(c)) for c in x], [Fraction(float(c)) for c in y]
    w = [Fraction(1)] * len(fx) if weight is None else [Fraction(float(c)) for c in weight]
    total = sum(w)
    mx, my = (sum(a * b for a, b in zip(w, c, strict=True)) / total for c in (fx, fy))
    sxx = sum(a * (b - mx) ** 2 for a, b in zip(w, fx, strict=True))
    sxy = sum(a * (b - mx) * (c - my) for a, b, c in zip(w, fx, fy, strict=True))
    slope = sxy / sxx
    rss = sum(a * (c - my - slope * (b - mx)) ** 2 for a, b, c in zip(w, fx, fy, strict=True))
    return slope, my - slope * mx, rss, sxx


def narrow(seed, n=60):
    """H between 0.01 and 0.02: x = exp(H) is 1.01 to 1.02, and the line's intercept is far outside."""
    rng = np.random.default_rng(seed)
    h = np.linspace(0.02, 0.01, n) + 1e-4 * rng.standard_normal(n)
    x = np.exp(h)
    return 4.0 * np.arange(n), x, 0.85 - 0.25 * x + 0.002 * rng.standard_normal(n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1.0, 1e6), (1e150, 0.0)])
def test_the_papers_line_against_exact_arithmetic(seed, factor, offset):
    _, x, y = narrow(seed)
    x = factor * x + offset
    slope, intercept, rss, _ = exact_line(x, y)
    p = noise.least_squares(x, y).posterior
    # x is known to eps relative to itself; its spread is `lost` times smaller, and so many digits are lost.
    lost = float(np.max(np.abs(x)) / np.ptp(x))
    assert -p.a == pytest.approx(float(slope), rel=20 * np.finfo(float).eps * lost)
    assert p.b == pytest.approx(float(intercept), rel=50 * np.finfo(float).eps * lost)
    assert p.nugget[0] == pytest.approx(float(rss / (len(x) - 2)), rel=1e-12 * max(1.0, lost * 1e-3))


# Against long double ------------------------------------------------------------------------------------------------


def long_gls(design, y, v):
    """Coefficients, their unscaled covariance and the weighted residual sum of squares, by Cholesky in long double."""
    wide = np.longdouble
    n = len(y)
    a, lower = v.astype(wide), np.zeros((n, n), wide)
    for j in range(n):
        lower[j, j] = np.sqrt(a[j, j] - lower[j, :j] @ lower[j, :j])
        lower[j + 1 :, j] = (a[j + 1 :, j] - lower[j + 1 :, :j] @ lower[j, :j]) / lower[j, j]
    white = np.column_stack([design, y]).astype(wide)
    for j in range(n):
        white[j] = (white[j] - lower[j, :j] @ white[:j]) / lower[j, j]
    x, z = white[:, :2], white[:, 2]
    m = x.T @ x
    inverse = np.array([[m[1, 1], -m[0, 1]], [-m[1, 0], m[0, 0]]]) / (m[0, 0] * m[1, 1] - m[0, 1] ** 2)
    beta = inverse @ (x.T @ z)
    e = z - x @ beta
    return beta, inverse, e @ e


def careful_at(step, x, y, tau, q, answers, monkeypatch):
    """The careful regression with one node of its grid, as plain (a, b), covariance."""
    window = float(np.ptp(step))
    monkeypatch.setattr(noise, "N_TAU", 1)
    monkeypatch.setattr(noise, "SHORTEST_TAU", tau / window)
    monkeypatch.setattr(noise, "_Q_UNKNOWN", np.array([q]))
    monkeypatch.setattr(noise, "_Q_KNOWN", np.array([q]))
    return noise.careful(step, x, y, answers=answers).posterior


@needs_long_double
@pytest.mark.parametrize("answers", [None, 1024.0])
@pytest.mark.parametrize(("tau", "q"), [(5.0, 0.0), (20.0, 1.0), (120.0, 30.0), (400.0, 1000.0)])
def test_the_careful_line_against_long_double(answers, tau, q, monkeypatch):
    step, x, y = narrow(1)
    p = careful_at(step, x, y, tau, q, answers, monkeypatch)
    tau = noise._correlation_times(step)[0]
    if answers is None:
        white = np.ones(len(x))
    else:
        slope, intercept, *_ = exact_line(x, y)
        fitted = float(intercept) + float(slope) * x
        white = binomial_variance(fitted, answers)
    # Centred exactly, so that the reference does not depend on the condition of (x, 1).
    design = np.column_stack([-(x.astype(np.longdouble) - np.longdouble(p.centre)), np.ones(len(x))])
    distance = np.abs(step[:, None] - step[None, :]).astype(np.longdouble)
    v = np.diag(white.astype(np.longdouble)) + q * white.mean() * np.exp(-distance / np.longdouble(tau))
    beta, inverse, rss = long_gls(design, y, v)
    scale = 1.0 if answers else rss / (len(x) - 2)
    assert float(p.slope[0] / p.size) == pytest.approx(float(beta[0]), rel=1e-10)
    assert float(p.level[0]) == pytest.approx(float(beta[1]), rel=1e-12)
    to_unit = np.diag([1.0 / p.size, 1.0])
    np.testing.assert_allclose(
        to_unit @ p.scale[0] @ to_unit, (scale * inverse).astype(float), rtol=1e-10, atol=1e-14
    )


@pytest.mark.parametrize(("tau", "q"), [(5.0, 0.3), (60.0, 3.0), (200.0, 30.0)])
def test_the_careful_line_is_the_gls_of_statsmodels(tau, q, monkeypatch):
    step, x, y = narrow(2)
    p = careful_at(step, x, y, tau, q, None, monkeypatch)
    v = np.eye(len(x)) + q * np.exp(-np.abs(step[:, None] - step) / noise._correlation_times(step)[0])
    gls = sm.GLS(y, np.column_stack([-x, np.ones(len(x))]), sigma=v).fit()
    assert (p.a, p.b) == pytest.approx(tuple(gls.params), rel=1e-8)
    np.testing.assert_allclose(p.covariance(), gls.cov_params(), rtol=1e-7)


@needs_long_double
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", [1.0, 1e-6])
def test_lines_over_sizes_from_a_thousand_to_a_trillion_against_long_double(seed, level):
    """``level``: how small the coefficients are; variances stay 1e-4 of their square."""
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(1e3, 1e12, 10)
    fits = [
        SizedFit(
            f"{n:g}",
            n,
            *(level * np.array([0.3, 0.8]) * (1 + 0.02 * np.log(n) + 0.02 * rng.standard_normal(2))),
            (level * 0.01) ** 2 * rng.uniform(0.01, 10) * np.array([[1.0, 0.9], [0.9, 1.0]]),
        )
        for n in sizes
    ]
    for line in fit_sizes(fits).lines.values():
        wide = np.longdouble
        log_n = np.log(sizes.astype(wide)) - wide(line.centre)
        weight = 1 / (line.variance.astype(wide) + wide(line.fit.tau2))
        mx, my = (weight * log_n).sum() / weight.sum(), (weight * line.value).sum() / weight.sum()
        sxx = (weight * (log_n - mx) ** 2).sum()
        slope = (weight * (log_n - mx) * (line.value - my)).sum() / sxx
        residual = line.value - my - slope * (log_n - mx)
        q, df = (weight * residual**2).sum(), len(sizes) - 2
        assert line.fit.beta[1] == pytest.approx(float(slope), rel=1e-12)
        assert line.fit.beta[0] == pytest.approx(float(my - slope * mx), rel=1e-13)
        scale = max(1.0, float(q) / df)
        assert line.fit.covariance[1, 1] == pytest.approx(scale / float(sxx), rel=1e-12)
        # Paule and Mandel's equation holds in long double, or tau^2 is at its edge.
        assert float(q) == pytest.approx(df, rel=1e-9) if line.fit.tau2 > 0 else float(q) <= df * (1 + 1e-9)
