"""The line under correlated noise, with the noise's own parameters averaged out.

Scores of successive checkpoints wander together, and every score has the noise of a finite test. The errors of
R = m - a (x - centre) are modelled as

    V = sigma^2 (N + q K),      K_ij = exp(-abs(t_i - t_j) / tau),

N the white part (binomial and known when the number of answers is known, then sigma = 1; otherwise the
identity with unknown sigma) plus what is unknown of the entropy, K an AR(1) in steps, so irregular spacing is right.
Neither the share of the wander nor its correlation time can be estimated from ten points, so both are averaged over a
grid with the restricted likelihood (Patterson and Thompson 1971, Biometrika 58:545) times the priors below. Given them
everything is a closed form. One eigen-decomposition per tau; no iteration, no random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from entlaw.law.posterior import Posterior, binomial_variance

# Correlation time as a share of the window, log-uniform: how long a run wanders does not depend on how often somebody
# looked, so the prior is in units of the run, not of the spacing. Below a twentieth of the window a wander averages out
# like white noise (which q = 0 stands for); beyond twice the window it is a change of level, which the line absorbs.
N_TAU = 8
SHORTEST_TAU, LONGEST_TAU = 0.05, 2.0
# Ratio q of the wander's variance to the white one.
_Q_UNKNOWN = np.array([0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0])
_Q_KNOWN = np.concatenate([[0.0], 10.0 ** np.arange(-1.5, 3.01, 0.5)])
# Half-Cauchy priors on the wander's standard deviation. Its tail lets the data say otherwise, the scale only matters
# where they cannot (ten points). With known white noise the scale is half a point of score, what is left between the
# checkpoints of a run when thousands of answers are averaged; otherwise 0.4 of the unknown white noise.
PRIOR_WANDER_SD = 0.005
PRIOR_ROOT_Q = 0.4


@dataclass(frozen=True, eq=False)
class Regression:
    """The fitted line and what each point does to it.

    Attributes
    ----------
    posterior : Posterior
    leverage : ndarray, shape (n,)
        Diagonal of the generalised hat matrix, averaged over the grid; sums to 2.
    ceiling_without : ndarray, shape (n,)
        R at x = 1 refitted without each point (weights of the grid kept).
    curvature_p : float
        Two-sided p-value of an added x^2 term; NaN with fewer than 5 points.
    details : dict
        Figures of the noise model for the curious.
    """

    posterior: Posterior
    leverage: np.ndarray
    ceiling_without: np.ndarray
    curvature_p: float
    details: dict[str, Any]


def least_squares(x: np.ndarray, y: np.ndarray) -> Regression:
    """Unweighted least squares: the paper's fit, with Student t intervals.

    Parameters
    ----------
    x : ndarray, shape (n,)
        exp(H), at least two distinct values.
    y : ndarray, shape (n,)
        Performance.

    Returns
    -------
    Regression
    """
    n = len(x)
    centre, mean = float(x.mean()), float(y.mean())
    size = float(np.ptp(x))  # exp(H) of a sequence sum would overflow when squared
    u, v = (x - centre) / size, y - mean
    s_uu = float(u @ u)
    slope = float(u @ v) / s_uu
    residual = v - slope * u
    df = n - 2
    variance = float(residual @ residual) / df if df > 0 else np.inf
    leverage = 1.0 / n + u**2 / s_uu
    scale = np.diag([variance / s_uu, variance / n])
    posterior = Posterior(
        weight=np.ones(1),
        slope=np.array([-slope]),
        level=np.array([mean]),
        scale=scale[None],
        centre=centre,
        size=size,
        df=float(df),
        wander=np.zeros(1),
        nugget=np.array([variance]),
    )
    one = (1.0 - centre) / size
    with np.errstate(divide="ignore", invalid="ignore"):
        drop = residual / (1.0 - leverage)
        without = mean + slope * one - drop * (1.0 / n + one * u / s_uu)
    without[1.0 - leverage < 1e-12] = np.nan
    return Regression(
        posterior, leverage, without, _ols_curvature(u, residual, n), {"sigma": float(np.sqrt(variance))}
    )


def _ols_curvature(u: np.ndarray, residual: np.ndarray, n: int) -> float:
    if n < 5:
        return float("nan")
    from scipy.special import stdtr

    base = np.column_stack([np.ones(n), u])
    square = u**2 - base @ np.linalg.lstsq(base, u**2, rcond=None)[0]
    s = float(square @ square)
    rss = float(residual @ residual)
    if s <= 1e-14 * n:  # two distinct x only: no curvature can show
        return float("nan")
    gamma = float(square @ residual) / s
    left = max(rss - gamma**2 * s, 0.0) / (n - 3)
    if left <= 1e-24 * max(rss, 1e-300) or rss <= 1e-28:
        return float("nan") if rss <= 1e-28 else 0.0
    return float(2.0 * stdtr(n - 3, -abs(gamma) / np.sqrt(left / s)))


def careful(
    step: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    *,
    answers: float | None = None,
    count: np.ndarray | None = None,
    x_error: np.ndarray | None = None,
) -> Regression:
    """Generalised least squares, averaged over the noise grid.

    Parameters
    ----------
    step, x, y : ndarray, shape (n,)
        Steps (any spacing), exp(H) and performance.
    answers : float, optional
        Independent answers behind one score (problems x samples). Without it the size of the noise is unknown and the
        quantiles are Student t.
    count : ndarray, shape (n,), optional
        How many scores were averaged into each point (long logs).
    x_error : ndarray, shape (n, k), optional
        Factor F of the covariance F F' of what is left unknown of x after smoothing.

    Returns
    -------
    Regression
    """
    n = len(x)
    count = np.ones(n) if count is None else count
    plain = least_squares(x, y)
    centre, size = plain.posterior.centre, float(np.ptp(x))
    design = np.column_stack([-(x - centre) / size, np.ones(n)])  # parameters: s, m of Posterior
    mean = float(y.mean())
    v = y - mean
    if answers is None and n < 3:  # no residual is left to learn the size of the noise from
        return plain

    known = answers is not None
    unit, nugget = _white_part(plain, plain.posterior.a * -(x - centre) + mean, answers, count, x_error)
    tau = _correlation_times(step)
    eigen, to_eigen = _decorrelated(step, tau, unit, nugget)
    ty, tx = v @ to_eigen, np.einsum("ni,knj->kji", design, to_eigen)  # (K, n), (K, n, 2)

    q, log_prior = _ratios(known, unit)
    w = 1.0 / (1.0 + q[None, :, None] * eigen[:, None, :])  # (K, Q, n)
    xx = np.einsum("kqn,kni,knj->kqij", w, tx, tx)
    xy = np.einsum("kqn,kni,kn->kqi", w, tx, ty)
    det = xx[..., 0, 0] * xx[..., 1, 1] - xx[..., 0, 1] ** 2
    inverse = (
        np.stack(
            [np.stack([xx[..., 1, 1], -xx[..., 0, 1]], -1), np.stack([-xx[..., 0, 1], xx[..., 0, 0]], -1)], -2
        )
        / det[..., None, None]
    )
    beta = np.einsum("kqij,kqj->kqi", inverse, xy)
    e = ty[:, None, :] - np.einsum("kni,kqi->kqn", tx, beta)
    rss = np.einsum("kqn,kqn->kq", w, e**2)
    log_like = 0.5 * np.log(w).sum(-1) - 0.5 * np.log(det)
    df = n - 2
    if known:
        log_like -= 0.5 * rss
        sigma2 = np.ones_like(rss)
    else:
        # Exactly linear data leave no noise to weigh components with; scores all equal not even a scale.
        floor = max(1e-26 * float(v @ v), np.finfo(float).tiny)
        log_like -= 0.5 * df * np.log(rss + floor)
        sigma2 = rss / df if df > 0 else np.full_like(rss, np.inf)
    weight = _normalise(log_like + log_prior[None, :])

    flat = weight.ravel()
    posterior = Posterior(
        weight=flat,
        slope=beta[..., 0].ravel(),
        level=beta[..., 1].ravel() + mean,
        scale=(sigma2[..., None, None] * inverse).reshape(-1, 2, 2),
        centre=centre,
        size=size,
        df=np.inf if known else float(df),
        wander=(sigma2 * q[None, :] * unit).ravel(),
        nugget=sigma2.ravel() * unit,
        answers=float(answers) if answers is not None else None,
    )
    leverage, without = _influence(to_eigen, w, tx, ty, design, inverse, beta, weight, (1.0 - centre) / size)
    square = design[:, 0] ** 2 @ to_eigen
    curvature = _curvature_p(square, w, tx, e, inverse, rss, weight, known)
    details = _details(posterior, weight, tau, q)
    return Regression(posterior, leverage, without + mean, curvature, details)


def _white_part(
    plain: Regression,
    fitted: np.ndarray,
    answers: float | None,
    count: np.ndarray,
    x_error: np.ndarray | None,
) -> tuple[float, np.ndarray]:
    """Mean variance of one score's white noise, and N with what is unknown of the entropy; (n, n)."""
    white = binomial_variance(fitted, float(answers)) if answers is not None else np.ones(len(fitted))
    nugget = np.diag(white / count)
    if x_error is not None and x_error.size:
        per = 1.0 if answers is not None else float(plain.posterior.nugget[0]) * float(count.mean())
        if np.isfinite(per) and per > 0:
            nugget = nugget + plain.posterior.a**2 * (x_error @ x_error.T) / per
    return float(white.mean()), nugget


def _decorrelated(
    step: np.ndarray, tau: np.ndarray, unit: float, nugget: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the wander in units of N, (K, n), and T with V^-1 = T diag(1 / (1 + q eigen)) T', (K, n, n)."""
    lower = np.linalg.cholesky(nugget)
    distance = np.abs(step[:, None] - step[None, :])
    wander = unit * np.exp(-distance[None] / tau[:, None, None])
    half = np.linalg.solve(lower, wander)
    white_wander = np.linalg.solve(lower, half.transpose(0, 2, 1))
    eigen, vectors = np.linalg.eigh(0.5 * (white_wander + white_wander.transpose(0, 2, 1)))
    return np.maximum(eigen, 0.0), np.linalg.solve(lower.T, vectors)


def _details(posterior: Posterior, weight: np.ndarray, tau: np.ndarray, q: np.ndarray) -> dict[str, Any]:
    """Figures of the noise model for the curious."""
    return {
        "correlation_time": float(np.exp(weight.sum(1) @ np.log(tau))),
        "wander_share": float(weight.sum(0) @ (q / (1.0 + q))),
        "wander_sd": _root_mean(posterior.weight, posterior.wander),
        "white_sd": _root_mean(posterior.weight, posterior.nugget),
        "white_known": posterior.answers is not None,
        "answers": posterior.answers,
        "degrees_of_freedom": posterior.df,
        "components": int((posterior.weight > 1e-3).sum()),
    }


def _root_mean(weight: np.ndarray, variance: np.ndarray) -> float:
    return float(np.sqrt(weight @ variance)) if np.isfinite(variance).all() else float("inf")


def _correlation_times(step: np.ndarray) -> np.ndarray:
    window = float(np.ptp(step)) or 1.0  # all points at one step: any time will do
    return window * np.geomspace(SHORTEST_TAU, LONGEST_TAU, N_TAU)


def _ratios(known: bool, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Grid of q and the log prior mass of each node: a half-Cauchy on sqrt(q)."""
    q = _Q_KNOWN if known else _Q_UNKNOWN
    root = np.sqrt(q) / (PRIOR_WANDER_SD / np.sqrt(unit) if known else PRIOR_ROOT_Q)
    edge = np.concatenate([[0.0], 0.5 * (root[1:] + root[:-1]), [np.inf]])
    mass = 2.0 / np.pi * (np.arctan(edge[1:]) - np.arctan(edge[:-1]))
    return q, np.log(mass)


def _normalise(log_weight: np.ndarray) -> np.ndarray:
    weight = np.exp(log_weight - log_weight.max())
    return np.asarray(weight / weight.sum())


def _influence(
    to_eigen: np.ndarray,
    w: np.ndarray,
    tx: np.ndarray,
    ty: np.ndarray,
    design: np.ndarray,
    inverse: np.ndarray,
    beta: np.ndarray,
    weight: np.ndarray,
    one: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Leverage and leave-one-out ceiling (without the mean of y), averaged over the grid.

    Leaving point i out of a correlated set equals giving it a parameter of its own, so with P = V^-1 - V^-1 X (X' V^-1
    X)^-1 X' V^-1 the estimate moves by -(X' V^-1 X)^-1 X' V^-1 e_i (P y)_i / P_ii.
    """
    vx = np.einsum("kin,kqn,knj->kqij", to_eigen, w, tx)  # V^-1 X
    vy = np.einsum("kin,kqn,kn->kqi", to_eigen, w, ty)  # V^-1 y
    diag = np.einsum("kin,kqn->kqi", to_eigen**2, w)  # of V^-1
    gain = np.einsum("kqij,kqni->kqnj", inverse, vx)  # (X' V^-1 X)^-1 X' V^-1 e_n
    leverage = np.einsum("kq,nj,kqnj->n", weight, design, gain)
    p_diag = diag - np.einsum("kqnj,kqnj->kqn", vx, gain)
    p_y = vy - np.einsum("kqnj,kqj->kqn", vx, beta)
    to_ceiling = np.array([-one, 1.0])
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = np.where(p_diag > 1e-12 * diag, p_y / p_diag, np.nan)
    without = (beta @ to_ceiling)[..., None] - (gain @ to_ceiling) * delta
    return leverage, np.einsum("kq,kqn->n", weight, without)


def _curvature_p(
    square: np.ndarray,
    w: np.ndarray,
    tx: np.ndarray,
    e: np.ndarray,
    inverse: np.ndarray,
    rss: np.ndarray,
    weight: np.ndarray,
    known: bool,
) -> float:
    """p-value of x^2 (in eigen coordinates, shape (K, n)) added to the line, averaged over the grid."""
    n = tx.shape[1]
    if n < 5:
        return float("nan")
    from scipy.special import ndtr, stdtr

    cross = np.einsum("kqn,kn,kni->kqi", w, square, tx)
    own = np.einsum("kqn,kn->kq", w, square**2)
    left = own - np.einsum("kqi,kqij,kqj->kq", cross, inverse, cross)
    if np.any(left <= 1e-12 * own):  # two distinct x only: no curvature can show
        return float("nan")
    gamma = np.einsum("kqn,kn,kqn->kq", w, square, e) / left
    if known:
        tail = ndtr(-np.abs(gamma) * np.sqrt(left))
    else:
        variance = np.maximum(rss - gamma**2 * left, 0.0) / (n - 3)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs(gamma) * np.sqrt(left / variance)
        tail = np.where(np.isfinite(t), stdtr(n - 3, -t), 0.5)
    return float(2.0 * np.sum(weight * tail))
