"""How a run's score goes on: the law with a wandering intercept, and growth that saturates in the step.

In z = asin(sqrt(R)) (where the noise of a share does not depend on the share; rewards of another kind are only scaled),

    z(t) = m + c g(t) - a (exp(H(t)) - exp(H now)) + w(t) + noise,

g a Hill curve 1/(1 + (t_mid/t)^B), ScaleRL's (arXiv 2510.13786, Eq. 1), w a random walk in logarithmic time. With c = 0
and w = 0 this is the paper's law; what the law leaves out, that accuracy goes on growing while entropy hardly falls, is
c g and w. Given the shape of g and the size of w the model is linear with Gaussian priors: closed forms, one
eigen-decomposition, no iteration, no random numbers. Shapes and sizes are averaged over by their marginal likelihood.

What R is at a given entropy is asked of the same model at the step where the entropy is forecast to be that low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from entlaw.law.entropy_curve import MAX_ENTROPY, entropy_nodes
from entlaw.law.posterior import Predictive, to_arcsine
from entlaw.law.smooth import block_means
from entlaw.points import Points


@dataclass(frozen=True)
class Prior:
    """What is believed before a run is seen; z has units of arcsine, a share from 0 to 1 being 1.57 wide.

    Set from what scores and runs can be, that of the law from the coefficients of the paper (0.04 to 0.24), and left
    alone: choosing them by back-test on other sources' runs made forecasts worse (docs/backtest.md).

    Attributes
    ----------
    middles, powers : tuple
        Grid of t_mid, in units of the history's length, and of B.
    wander : tuple
        Grid of the random walk's variance per unit of log time, in units of the noise of one score.
    knee : float
        Log time is log(t/now + knee): before that share of the history time is nearly linear.
    level, growth, law : tuple of (mean, sd)
        Of m, c and a.
    noise : (sd, weight)
        Guess of the noise of one score, and how many scores it counts for.
    known_weight : float
        How many scores the binomial noise counts for where the number of answers is known.
    surprise : (probability, factor)
        The future is unlike the past with this probability, and all spreads are then larger by this factor: what no
        run's own past can say.
    """

    middles: tuple[float, ...] = tuple(float(x) for x in np.geomspace(0.02, 10.0, 12))
    powers: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0)
    wander: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    knee: float = 0.1
    level: tuple[float, float] = (0.7, 1.0)
    growth: tuple[float, float] = (0.15, 0.4)
    law: tuple[float, float] = (0.1, 0.2)
    noise: tuple[float, float] = (0.03, 1.0)
    known_weight: float = 20.0
    surprise: tuple[float, float] = (0.05, 4.0)


PRIOR = Prior()
# Averaged to this many points: more say nothing about three coefficients, and the cost grows with the cube.
MAX_POINTS = 40
# An entropy that is not reached within this many times the history is taken as reached then.
LONGEST = 4.0
_LOOKS = 13
# The law's column is cut here: exp of more would make one point the whole fit.
_CUT = min(MAX_ENTROPY, 5.0)
# A reward that is no share is scaled so that its range so far is as wide as a usual score's.
_USUAL_RANGE = 0.6
# Components that together weigh less than this are dropped.
_NEGLIGIBLE = 0.02
# End points outside what a share can be make a shape unlikely by this factor (in logs); not impossible: a share near 1.
_BEYOND = -6.0


@dataclass(frozen=True, eq=False)
class _Data:
    """Points as the model sees them: z, how many scores are in each, and what is known of their noise."""

    z: np.ndarray
    count: np.ndarray
    step: np.ndarray
    entropy: np.ndarray
    unit: float
    shares: bool
    noise: tuple[float, float]  # guess of its variance, and weight


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Closed forms on the grid: r sizes of the wander, s shapes, k coefficients, n points."""

    prior: Prior
    data: _Data
    to_eigen: np.ndarray  # (n, n), rows
    w: np.ndarray  # (r, n)
    design: np.ndarray  # (s, n, k), in eigen coordinates
    beta: np.ndarray  # (r, s, k)
    inverse: np.ndarray  # (r, s, k, k)
    residual: np.ndarray  # (r, s, n)
    variance: np.ndarray  # (r, s)
    weight: np.ndarray  # (r, s)
    df: float

    def at(self, design: np.ndarray, walk: np.ndarray, own: float, *, measured: bool) -> Predictive:
        """Distribution where the columns are ``design`` (s, nodes, k) and the walk has covariances (n,), own ()."""
        ratio = np.asarray(self.prior.wander)
        k = self.to_eigen @ walk
        gain = self.w * ratio[:, None] * k  # (r, n)
        mean = (
            np.einsum("sqi,rsi->rsq", design, self.beta)
            + np.einsum("rn,rsn->rs", gain, self.residual)[..., None]
        )
        left = design[None] - np.einsum("rn,sni->rsi", gain, self.design)[:, :, None, :]
        walked = np.maximum(ratio * own - (gain * k) @ np.ones(len(k)) * ratio, 0.0)
        spread = np.einsum("rsqi,rsqi->rsq", np.einsum("rsqi,rsij->rsqj", left, self.inverse), left)
        spread = (spread + walked[:, None, None] + (1.0 if measured else 0.0)) * self.variance[..., None]
        # Nodes of an uncertain entropy become part of each component's spread.
        centre = mean.mean(axis=-1).ravel()
        total = (spread.mean(axis=-1) + mean.var(axis=-1)).ravel()
        weight = self.weight.ravel()
        order = np.argsort(-weight)
        order = order[: int(np.searchsorted(np.cumsum(weight[order]), 1.0 - _NEGLIGIBLE)) + 1]
        weight, centre, scale = weight[order] / weight[order].sum(), centre[order], np.sqrt(total[order])
        p, factor = self.prior.surprise
        if p > 0:
            weight = np.concatenate([(1.0 - p) * weight, p * weight])
            centre, scale = np.concatenate([centre, centre]), np.concatenate([scale, factor * scale])
        unit = self.data.unit
        if self.data.shares:
            return Predictive(weight, centre, scale, self.df, 0.0, 1.0, arcsine=True)
        return Predictive(weight, centre * unit, scale * unit, self.df)


def in_time(
    points: Points,
    steps: np.ndarray,
    *,
    prior: Prior = PRIOR,
    entropy: Sequence[np.ndarray] | None = None,
    measured: bool = True,
) -> list[Predictive]:
    """Distributions of the score at later steps.

    Parameters
    ----------
    points : Points
        At least 2 points.
    steps : ndarray, shape (m,)
        Later than the history.
    prior : Prior
    entropy : sequence of m ndarrays, optional
        Equally likely entropies at each of those steps, nats/token; by default they are forecast from the log.
    measured : bool
        Of one measured score; otherwise of the level behind it.

    Returns
    -------
    list of Predictive, length m
    """
    model = grown(points, prior)
    out = []
    for j, step in enumerate(np.asarray(steps, dtype=float)):
        nodes = entropy_nodes(points, step) if entropy is None else np.asarray(entropy[j], dtype=float)
        at, walk_at = model.columns(float(step), nodes)
        out.append(model.posterior.at(at, np.minimum(model.walk, walk_at), walk_at, measured=measured))
    return out


@dataclass(frozen=True, eq=False)
class Grown:
    """The model conditioned on a history, and how to ask it about a step."""

    posterior: _Posterior
    middle: np.ndarray  # (s, 1)
    power: np.ndarray  # (s, 1)
    walk: np.ndarray  # (n,)
    start: float
    length: float
    knee: float
    here: float  # exp(H) now
    entropy_now: float

    def columns(self, step: float, entropy: np.ndarray) -> tuple[np.ndarray, float]:
        """Columns of the design at a step, shape (s, nodes, 3), and its place in log time."""
        u = np.maximum((step - self.start) / self.length, 1e-4)
        g, g_now = _hill(u, self.middle, self.power)[:, 0], _hill(1.0, self.middle, self.power)[:, 0]
        at = np.empty((len(g), len(entropy), 3))
        at[..., 0], at[..., 1] = 1.0, (g - g_now)[:, None]
        at[..., 2] = self.here - np.exp(np.minimum(entropy, _CUT))
        return at, float(np.log(u + self.knee) - np.log(self.knee))


def _hill(u: np.ndarray | float, middle: np.ndarray, power: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + (middle / u) ** power))


def grown(points: Points, prior: Prior) -> Grown:
    data = _data(points)
    start = points.start
    length = max(float(points.step[-1]) - start, 1e-9)
    u = np.maximum((data.step - start) / length, 1e-4)
    middle, power = (a.ravel()[:, None] for a in np.meshgrid(prior.middles, prior.powers))
    g, g_now = _hill(u, middle, power), _hill(1.0, middle, power)  # (s, n), (s, 1)
    x = np.exp(data.entropy)
    here = float(x[-max(1, len(x) // 5) :].mean())
    walk = np.log(u + prior.knee) - np.log(prior.knee)
    design = np.stack([np.ones_like(g), g - g_now, np.broadcast_to(here - x, g.shape)], axis=-1)
    beliefs = (prior.level, prior.growth, prior.law)
    posterior = _condition(data, design, walk, beliefs, prior, 1.0 - g_now[:, 0])
    return Grown(posterior, middle, power, walk, start, length, prior.knee, here, float(np.log(here)))


def at_entropy(
    points: Points, entropy: float, *, prior: Prior = PRIOR, measured: bool = True
) -> tuple[Predictive, float]:
    """Distribution of the score when the entropy will be at a given value, and about when that is.

    The score depends on when the entropy gets there, because accuracy goes on growing while entropy hardly falls. The
    step is the first at which the median forecast of the entropy is that low, at most :data:`LONGEST` times the
    history; half and twice that time are taken as equally likely.

    Parameters
    ----------
    points : Points
    entropy : float
        nats/token; 0 is the ceiling.
    prior : Prior
    measured : bool

    Returns
    -------
    Predictive
    step : float
    """
    start = points.start
    now = float(points.step[-1]) - start
    times = now * np.geomspace(1.0, LONGEST, _LOOKS)
    when = float(times[-1])
    for time in times:
        if np.median(entropy_nodes(points, start + time)) <= entropy:
            when = float(time)
            break
    guesses = start + np.maximum(when * np.array([0.5, 1.0, 2.0]), now * (1.0 + 1e-6))
    parts = in_time(points, guesses, prior=prior, entropy=[np.array([entropy])] * 3, measured=measured)
    first = parts[0]
    return replace(
        first,
        weight=np.concatenate([p.weight for p in parts]) / len(parts),
        mean=np.concatenate([p.mean for p in parts]),
        scale=np.concatenate([p.scale for p in parts]),
    ), start + when


def _data(points: Points) -> _Data:
    r, h = points.score, np.minimum(points.entropy, _CUT)
    count, (step, r, h) = block_means(MAX_POINTS, points.step, r, h)
    shares = points.shares
    unit = 1.0 if shares else max(float(np.ptp(points.score)), 1e-6) / _USUAL_RANGE
    z = to_arcsine(r) if shares else r / unit
    known = (0.25 / points.answers, -1.0) if shares and points.answers else (-1.0, -1.0)
    return _Data(z, count.astype(float), step, h, unit, shares, known)


def _condition(
    data: _Data,
    design: np.ndarray,
    walk: np.ndarray,
    beliefs: tuple[tuple[float, float], ...],
    prior: Prior,
    to_end: np.ndarray | None,
) -> _Posterior:
    """Condition the linear model on the data for every shape (s) and size of the walk (r).

    V = sigma^2 (1/count + ratio K), sigma^2 with an inverse gamma prior; coefficients have the prior sds of
    ``beliefs``, taken in units of a first guess of sigma, which keeps all of it conjugate.
    """
    n = len(data.z)
    known = data.noise[0] > 0
    guess0, weight0 = (data.noise[0], prior.known_weight) if known else (prior.noise[0] ** 2, prior.noise[1])
    root = np.sqrt(data.count)
    kernel = np.minimum(walk[:, None], walk[None]) * root[:, None] * root
    eigen, vectors = np.linalg.eigh(kernel)
    to_eigen = vectors.T * root
    z, columns = to_eigen @ data.z, np.einsum("mn,snk->smk", to_eigen, design)
    ratio = np.asarray(prior.wander)
    w = 1.0 / (1.0 + ratio[:, None] * np.maximum(eigen, 0.0))
    # 0.4549 is the median of chi-squared with one degree of freedom: a trend or a jump does not inflate this.
    rough = (
        0.5 * float(np.median(np.diff(data.z) ** 2)) / 0.4549 * float(data.count.mean()) if n > 2 else guess0
    )
    guess = max((n * rough + weight0 * guess0) / (n + weight0), 1e-8)
    mean, sd = np.array(beliefs).T
    precision = np.diag(guess / sd**2)

    weighted = w[:, None, :, None] * columns  # (r, s, n, k)
    gram = np.matmul(weighted.transpose(0, 1, 3, 2), columns) + precision
    right = np.einsum("rsnk,n->rsk", weighted, z) + precision @ mean
    inverse = np.linalg.inv(gram)
    beta = np.einsum("rsij,rsj->rsi", inverse, right)
    residual = z - np.einsum("snk,rsk->rsn", columns, beta)
    off = beta - mean
    rss = np.einsum("rn,rsn->rs", w, residual**2) + np.einsum("rsi,ij,rsj->rs", off, precision, off)
    df = weight0 + n
    variance = (rss + weight0 * guess0) / df
    log_weight = (
        0.5 * np.log(w).sum(axis=1)[:, None] - 0.5 * np.linalg.slogdet(gram)[1] - 0.5 * df * np.log(variance)
    )
    if to_end is not None and data.shares:
        end = beta[..., 0] + beta[..., 1] * to_end
        log_weight = log_weight + np.where((end < 0.0) | (end > 0.5 * np.pi), _BEYOND, 0.0)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    return _Posterior(prior, data, to_eigen, w, columns, beta, inverse, residual, variance, weight, float(df))


@dataclass(frozen=True, eq=False)
class Gain:
    """What the level behind the scores will gain from the last point on.

    Attributes
    ----------
    now : float
        The level at the last point: median, in units of performance.
    change : Predictive
        Distribution of the change, of the arcsine for shares. What is not known of the level itself cancels in it.
    shares : bool
    """

    now: float
    change: Predictive
    shares: bool

    def above(self, amount: float) -> float:
        """P(gain > amount), amount in units of performance."""
        least = amount
        if self.shares:
            if self.now + amount >= 1.0:
                return 0.0
            ends = to_arcsine(np.array([self.now, max(self.now + amount, 0.0)]))
            least = float(ends[1] - ends[0])
        return 1.0 - float(self.change.cdf(least))


def gain_until(points: Points, step: float, *, prior: Prior = PRIOR) -> Gain:
    """Distribution of the gain from the last point of a run to a later step.

    Parameters
    ----------
    points : Points
        At least 2 points.
    step : float
        Later than the run.
    prior : Prior

    Returns
    -------
    Gain
    """
    model = grown(points, prior)
    last = float(points.step[-1])
    here, walk_now = model.columns(last, np.array([model.entropy_now]))
    there, walk_then = model.columns(step, entropy_nodes(points, step))
    present = model.posterior.at(here, np.minimum(model.walk, walk_now), walk_now, measured=False)
    # What the walk has done so far is in both levels: its steps to come know nothing of the scores seen.
    change = model.posterior.at(
        there - here, np.zeros(len(model.walk)), max(walk_then - walk_now, 0.0), measured=False
    )
    plain = Predictive(change.weight, change.mean, change.scale, change.df)
    return Gain(present.median, plain, model.posterior.data.shares)
