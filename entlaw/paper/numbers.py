"""The numbers of the law's figures: least squares with an error that allows for drift, form against form,
progress along a run, and intervals by resampling what is independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.errors import FitRefused
from entlaw.law.fit import fit_points, lag_one
from entlaw.law.smooth import smooth_entropy
from entlaw.paper.members import Member
from entlaw.points import Points, answers_behind

# Blocks in time that are predicted in turn: long against the drift of checkpoints.
BLOCKS = 10
# A lag-1 correlation beyond this is a trend, and would make any error infinite.
MOST_CORRELATED = 0.95
RESAMPLES = 4000
LEAST_UNITS = 5
# The end of a curve is the mean of its smoothed values over this last share of the steps.
END_SHARE = 0.1
GRID = 241
# Scores averaged where runs are compared at one entropy.
NEAREST = 7


@dataclass(frozen=True)
class FittedLine:
    """R = b - a x by unweighted least squares over a whole run, the paper's method.

    Attributes
    ----------
    a, b : float
        Fractions.
    covariance : ndarray, shape (2, 2)
        Of (a, b); neighbouring checkpoints are not taken for independent.
    r_squared : float
    curvature_p : float
        Of a term in x^2 beside the line, with H smoothed and the noise's drift averaged over
        (:mod:`entlaw.law.noise`); NaN where it cannot be, or was not, tested.
    rmse_held_out_law, rmse_held_out_straight_line : float
        Root mean square error of blocks in time predicted from the rest, of the law and of a straight line in H.
    """

    a: float
    b: float
    covariance: np.ndarray
    r_squared: float
    curvature_p: float
    rmse_held_out_law: float
    rmse_held_out_straight_line: float

    @property
    def ceiling(self) -> float:
        """R at H = 0."""
        return self.b - self.a

    @property
    def a_se(self) -> float:
        """Standard error of a."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def b_se(self) -> float:
        """Standard error of b."""
        return float(np.sqrt(self.covariance[1, 1]))

    def at(self, entropy: np.ndarray) -> np.ndarray:
        """R of the line at entropies in nats/token."""
        return self.b - self.a * np.exp(entropy)


def whole_line(member: Member, bend: bool = False) -> FittedLine:
    """The law over all points of a run.

    Parameters
    ----------
    member : Member
        At least four points of distinct entropies.
    bend : bool
        Test for a bend too, which takes most of the time.
    """
    x, r = np.exp(member.entropy), member.score
    a, b = least_squares(x, r)
    residual = r - (b - a * x)
    total = float(np.sum((r - r.mean()) ** 2))
    return FittedLine(
        a,
        b,
        covariance(x, r),
        1.0 - float(residual @ residual) / total if total > 0 else float("nan"),
        _curvature(member) if bend else float("nan"),
        held_out_error(x, r),
        held_out_error(member.entropy, r),
    )


def least_squares(x: np.ndarray, r: np.ndarray) -> tuple[float, float]:
    """a and b of r = b - a x; a is 0 where x does not vary."""
    centred = x - x.mean()
    power = float(centred @ centred)
    a = -float(centred @ r) / power if power > 0 else 0.0
    return a, float(r.mean()) + a * float(x.mean())


def covariance(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Covariance of the least squares (a, b), shape (2, 2), for residuals that drift.

    The usual one times (1 + rho)/(1 - rho), rho the residuals' lag-1 correlation: neighbouring checkpoints are worth
    fewer independent ones (Bartlett 1946).
    """
    a, b = least_squares(x, r)
    residual, centred = r - (b - a * x), x - x.mean()
    n, power = len(x), float(centred @ centred)
    if n < 3 or power == 0:
        return np.full((2, 2), np.nan)
    rho = lag_one(residual)
    rho = min(max(rho, 0.0), MOST_CORRELATED) if np.isfinite(rho) else 0.0
    variance = float(residual @ residual) / (n - 2) * (1 + rho) / (1 - rho)
    cross = float(x.mean()) / power  # r = mean - a (x - mean(x)): a up means b up
    return variance * np.array([[1 / power, cross], [cross, 1 / n + float(x.mean()) ** 2 / power]])


def held_out_error(x: np.ndarray, r: np.ndarray, folds: int = BLOCKS) -> float:
    """Root mean square error of r = b - a x on contiguous blocks predicted from the others."""
    error = np.empty(len(r))
    for part in _blocks(len(x), folds):
        a, b = least_squares(np.delete(x, part), np.delete(r, part))
        error[part] = r[part] - (b - a * x[part])
    return float(np.sqrt(np.mean(error**2)))


def _blocks(n: int, blocks: int) -> list[np.ndarray]:
    return [part for part in np.array_split(np.arange(n), min(blocks, n // 2)) if len(part)]


def _curvature(member: Member) -> float:
    run = member.run
    shares = bool(member.score.min() >= 0 and member.score.max() <= 1)
    answers = answers_behind(run.problems, run.samples) if shares and run.problems else None
    points = Points.from_arrays(
        member.step,
        member.entropy,
        member.score,
        entropy_step=member.entropy_step,
        log=run.entropy_series(),
        answers=answers,
        apart=run.entropy_log is not None,
    )
    try:
        fit = fit_points(points, until_step=None)
    except FitRefused:
        return float("nan")
    return float(fit.noise["curvature_p"])


def moving_mean(value: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean, over fewer values at the ends.

    At the start as many on either side, so that a steep start is not flattened and the first value stays; at the end
    the values there are, so that the last point is not one noisy validation.

    Parameters
    ----------
    value : ndarray, shape (n,)
    window : int
        Odd.
    """
    n, total, half = len(value), np.concatenate([[0.0], np.cumsum(value)]), window // 2
    at = np.arange(n)
    before, after = np.minimum(at, half), np.minimum(n - 1 - at, half)
    after = np.where(at < half, np.minimum(before, after), after)
    return (total[at + after + 1] - total[at - before]) / (before + after + 1)


def smoothed(step: np.ndarray, value: np.ndarray) -> np.ndarray:
    """A series without its noise: the smoothing spline of :mod:`entlaw.law.smooth`, which fits any series in time."""
    lowest = float(value.min())
    return smooth_entropy(step, value - lowest, step, value - lowest).entropy + lowest


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come at each share of its length.

    Attributes
    ----------
    consumed, gained : ndarray, shape (GRID,)
        Of entropy and of performance: 0 at the start, 1 at the end of the run.
    consumed_of_all : ndarray, shape (GRID,)
        Of entropy, as a share of all there was: 1 would be H = 0.
    fell, rose : float
        Entropy consumed (nats/token) and performance gained (fraction) in the whole run.
    noise : float
        Standard deviation of one score about its smooth curve.
    """

    consumed: np.ndarray
    gained: np.ndarray
    consumed_of_all: np.ndarray
    fell: float
    rose: float
    noise: float


def shares() -> np.ndarray:
    """The shares of a run's length at which progress is read, shape (GRID,)."""
    return np.linspace(0.0, 1.0, GRID)


def progress(member: Member) -> RunProgress:
    """Normalised entropy consumed and performance gained, from smoothed curves (see `END_SHARE`)."""
    h_step, h = member.run.entropy_series()
    score = smoothed(member.step, member.score)
    first, last = float(member.step[0]), float(member.step[-1])
    inside = (h_step >= first) & (h_step <= last + 1)
    if inside.sum() < 2:
        h_step, h = member.step, member.entropy
        inside = np.ones(len(h), dtype=bool)
    h_step, h = h_step[inside], smoothed(h_step[inside], h[inside])
    h_curve, h_start, h_end = _read(h_step, h, first, last)
    r_curve, r_start, r_end = _read(member.step, score, first, last)
    fell, rose = h_start - h_end, r_end - r_start
    with np.errstate(divide="ignore", invalid="ignore"):
        return RunProgress(
            (h_start - h_curve) / fell,
            (r_curve - r_start) / rose,
            (h_start - h_curve) / h_start,
            fell,
            rose,
            float(np.std(member.score - score)),
        )


def _read(step: np.ndarray, value: np.ndarray, first: float, last: float) -> tuple[np.ndarray, float, float]:
    """The curve on the grid of shares, its start, and its end (mean of the last tenth)."""
    curve = np.interp(first + shares() * (last - first), step, value)
    return curve, float(curve[0]), float(curve[shares() >= 1.0 - END_SHARE].mean())


def first_reached(curve: np.ndarray, level: float) -> float:
    """Share of the run at which a curve of progress first reaches a level; NaN where it never does."""
    at = np.flatnonzero(curve >= level)
    return float(shares()[at[0]]) if len(at) else float("nan")


def over_policies(members: Sequence[Member], values: Sequence[np.ndarray]) -> np.ndarray:
    """Values of runs averaged within each starting policy, shape (policies, ...)."""
    groups: dict[object, list[np.ndarray]] = {}
    for m, value in zip(members, values, strict=True):
        groups.setdefault(m.policy, []).append(np.asarray(value, dtype=float))
    return np.array([np.mean(group, axis=0) for group in groups.values()])


def bootstrap(
    units: np.ndarray,
    of: Callable[[np.ndarray], np.ndarray] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of the mean over units (or of a function of the mean), units drawn with replacement.

    Parameters
    ----------
    units : ndarray, shape (n, ...)
        What is independent, along the first axis.
    of : callable, optional
        Of one mean.
    level : float
    seed : int

    Returns
    -------
    lo, hi : ndarray
        NaN with fewer than `LEAST_UNITS` units: drawn from so few, an interval holds the truth far too seldom.
    """
    n = len(units)
    picks = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), RESAMPLES) / n
    means = np.tensordot(picks, units, axes=1)
    drawn = means if of is None else np.array([of(mean) for mean in means])
    if n < LEAST_UNITS:
        empty = np.full(drawn.shape[1:], np.nan)
        return empty, empty
    lo, hi = np.quantile(drawn, [0.5 * (1 - level), 0.5 * (1 + level)], axis=0)
    return lo, hi


def score_at(member: Member, entropy: float) -> float:
    """Mean of the scores whose entropies are nearest to a value on the log scale: no form of the law is assumed."""
    far = np.abs(np.log(np.maximum(member.entropy, 1e-9) / entropy))
    return float(member.score[np.argsort(far, kind="stable")[:NEAREST]].mean())


def shared_entropy(members: Sequence[Member]) -> float:
    """An entropy that all runs have reached: 1.1 times the highest of their lowest (mean of the lowest tenth)."""
    lowest = [np.sort(m.entropy)[: max(1, len(m.entropy) // 10)].mean() for m in members]
    return 1.1 * float(max(lowest))


def one_way(groups: Sequence[Sequence[float]]) -> tuple[float, tuple[int, int], float]:
    """F test of equal means of groups: F, its degrees of freedom and p; NaN where no group has two values."""
    from scipy.special import fdtrc

    everything = np.concatenate([np.asarray(g, dtype=float) for g in groups])
    within = float(sum(np.sum((np.asarray(g) - np.mean(g)) ** 2) for g in groups))
    between = float(np.sum((everything - everything.mean()) ** 2)) - within
    df = (len(groups) - 1, len(everything) - len(groups))
    if df[0] < 1 or df[1] < 1 or within <= 0:
        return float("nan"), df, float("nan")
    f = between / df[0] / (within / df[1])
    return f, df, float(fdtrc(df[0], df[1], f))


def with_interval(
    name: str, value: float, lo: float = float("nan"), hi: float = float("nan")
) -> dict[str, float]:
    """A finding with its interval: ``name``, ``name_lo``, ``name_hi``."""
    return {name: float(value), f"{name}_lo": float(lo), f"{name}_hi": float(hi)}
