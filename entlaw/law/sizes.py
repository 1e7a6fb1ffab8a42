"""a and b over model sizes: log-linear lines, leave-largest-out, a forecast for a size that was not trained.

The paper's section 2.4 (Fig. 7): a = alpha_0 + alpha_1 ln N and b = beta_0 + beta_1 ln N. Every quantity of interest is
one contrast of the pair (a, b): a itself, b, the ceiling b - a, or R at an entropy, b - a exp(H). Its variance in each
fit comes from the fit's 2 x 2 covariance, so that the strong correlation of a and b is carried to where it matters.

Two stages. Runs of one size are averaged, with a variance between runs that all sizes share. Then one
meta-regression over sizes (:mod:`entlaw.law.meta`): the size, not the run and not the checkpoint, is the unit, because
runs of one size share their base policy. With five sizes three degrees of freedom are left; the intervals show it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entlaw.errors import DataError, UsageError
from entlaw.findings import Finding, worst_first
from entlaw.law.examined import Examined
from entlaw.law.meta import MetaRegression, meta_regression, paule_mandel
from entlaw.law.shapes import Interval
from entlaw.runs.model_size import model_size

QUANTITIES = {"a": (1.0, 0.0), "b": (0.0, 1.0), "ceiling": (-1.0, 1.0)}

# Below, an interval for another size rests on one or two degrees of freedom.
_FEW_SIZES = 5
# A forecast beyond the largest size by more than this share of the fitted range of ln N has nothing behind it.
_FAR = 0.5
_SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False)
class SizedFit:
    """One run's coefficients and how large its model is.

    Attributes
    ----------
    name : str
    parameters : float
        Model size N; count it alike in all runs (the paper's is without embeddings).
    a, b : float
    covariance : ndarray, shape (2, 2)
        Of (a, b).
    """

    name: str
    parameters: float
    a: float
    b: float
    covariance: np.ndarray


def sized_fits(
    rows: Iterable[Examined], told: Mapping[str, float] | None = None
) -> tuple[list[SizedFit], dict[str, str]]:
    """The laws of runs whose model's size is known.

    Parameters
    ----------
    rows : iterable of Examined
    told : mapping, optional
        Glob of names to size, for runs whose log does not tell; of several that match the last one counts.

    Returns
    -------
    used : list of SizedFit
    left : dict of str to str
        Why each other run is left out, by name.
    """
    used: list[SizedFit] = []
    left: dict[str, str] = {}
    for one in rows:
        law = None if one.result is None else one.result.law
        if law is None:
            left[one.label] = one.failure.what if one.failure is not None else "no fit"
            continue
        names = (one.reading.name, one.label)
        given = [n for glob, n in (told or {}).items() if any(fnmatch.fnmatch(name, glob) for name in names)]
        run = one.reading.run
        known = model_size(run.config, one.reading.name) if run is not None and not given else None
        parameters = given[-1] if given else known[0] if known else None
        if parameters is None:
            left[one.label] = f"its log does not tell the model's size (--size '{one.label}=7B')"
        elif not np.isfinite(law.covariance).all():
            left[one.label] = "two points: a line without an error"
        else:
            used.append(SizedFit(one.label, parameters, law.a, law.b, law.covariance))
    return used, left


@dataclass(frozen=True, eq=False)
class SizeLine:
    """One quantity over ln N.

    Attributes
    ----------
    quantity : str
        ``a``, ``b``, ``ceiling`` or ``R(H=...)``.
    parameters : ndarray, shape (k,)
        The sizes, increasing.
    value, variance : ndarray, shape (k,)
        Mean of each size's runs, and its variance (fits' errors and differences between runs).
    runs : ndarray, shape (k,)
    between_runs : float
        Variance between runs of one size beyond the errors of their fits; 0 where no size has two runs.
    fit : MetaRegression
        Coefficients (intercept at ln N = ``centre``, slope per unit of ln N).
    centre : float
        Mean ln N.
    """

    quantity: str
    parameters: np.ndarray
    value: np.ndarray
    variance: np.ndarray
    runs: np.ndarray
    between_runs: float
    fit: MetaRegression
    centre: float

    @property
    def slope(self) -> float:
        """Change per unit of ln N."""
        return float(self.fit.beta[1])

    @property
    def intercept(self) -> float:
        """Value at N = 1, i.e. ln N = 0."""
        return float(self.fit.beta[0] - self.centre * self.fit.beta[1])

    def at(self, parameters: float, level: float = 0.95) -> tuple[float, Interval]:
        """The mean of many runs of a model of this size, and its interval."""
        x = np.array([1.0, np.log(parameters) - self.centre])
        return self.fit.mean(x), self.fit.interval(x, level, new_unit=True)

    def line_at(self, parameters: float, level: float = 0.95) -> Interval:
        """Interval of the line itself."""
        x = np.array([1.0, np.log(parameters) - self.centre])
        return self.fit.interval(x, level, new_unit=False)

    def slope_interval(self, level: float = 0.95) -> Interval:
        """Interval of the slope."""
        return self.fit.interval(np.array([0.0, 1.0]), level, new_unit=False)


@dataclass(frozen=True)
class LeftOut:
    """A size forecast from the others.

    Attributes
    ----------
    quantity : str
    parameters : float
    forecast : float
    interval : Interval
        Of what would be found there (the found value's own variance is inside).
    found : float
    """

    quantity: str
    parameters: float
    forecast: float
    interval: Interval
    found: float

    @property
    def inside(self) -> bool:
        """Whether the interval holds what was found."""
        return self.interval.lo <= self.found <= self.interval.hi


@dataclass(frozen=True, eq=False)
class Sizes:
    """Lines over model sizes with what speaks for and against them.

    Attributes
    ----------
    lines : dict of str to SizeLine
        ``a``, ``b``, ``ceiling``, and ``R(H=...)`` where asked for.
    left_out : tuple of LeftOut
        The largest size from the smaller ones (where at least 3 are left); one for each quantity.
    findings : tuple of Finding
    """

    lines: dict[str, SizeLine]
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        slopes = ", ".join(f"{name} {line.slope:+.3f}" for name, line in self.lines.items())
        return f"<Sizes: {len(self.lines['a'].parameters)} sizes; per unit of ln N: {slopes}>"

    def at(self, parameters: float, level: float = 0.95) -> SizeForecast:
        """The coefficients of a model of another size; as :func:`forecast_size`."""
        return forecast_size(self, parameters, level)


@dataclass(frozen=True, eq=False)
class SizeForecast:
    """What a size that was not trained should give.

    Attributes
    ----------
    parameters : float
    values : dict of str to (float, Interval)
    trust : bool
        Whether nothing speaks against it.
    findings : tuple of Finding
    """

    parameters: float
    values: dict[str, tuple[float, Interval]]
    trust: bool
    findings: tuple[Finding, ...]


def fit_sizes(fits: Sequence[SizedFit], *, entropies: Sequence[float] = (), level: float = 0.95) -> Sizes:
    """Fit a, b and the ceiling as lines in ln N.

    Parameters
    ----------
    fits : sequence of SizedFit
    entropies : sequence of float
        Also R at these entropies, nats/token.
    level : float
        Of the leave-largest-out intervals.

    Returns
    -------
    Sizes

    Raises
    ------
    UsageError
        A size that is not positive, or coefficients that are not finite.
    DataError
        Fewer than three sizes.
    """
    for fit in fits:
        if not (np.isfinite(fit.parameters) and fit.parameters > 0):
            raise UsageError(f"{fit.parameters:g} is no model size", where=fit.name)
        if not (np.isfinite([fit.a, fit.b]).all() and np.isfinite(fit.covariance).all()):
            raise UsageError(
                "coefficients or their covariance are not finite", where=fit.name, hint="leave this run out"
            )
    sizes = sorted({fit.parameters for fit in fits})
    if len(sizes) < 3:
        raise DataError(
            f"{len(sizes)} model sizes: a line over sizes with an error needs at least three",
            hint="add runs of other sizes",
        )
    contrasts = {**QUANTITIES, **{f"R(H={h:g})": (-float(np.exp(h)), 1.0) for h in entropies}}
    lines = {name: _line(name, contrast, fits) for name, contrast in contrasts.items()}
    left_out: list[LeftOut] = []
    smaller = [fit for fit in fits if fit.parameters < sizes[-1]]
    if len(sizes) >= 4:
        left_out = [_left_out(lines[name], contrast, smaller, level) for name, contrast in contrasts.items()]
    return Sizes(lines, tuple(left_out), _findings(lines, left_out, len(sizes)))


def forecast_size(sizes: Sizes, parameters: float, level: float = 0.95) -> SizeForecast:
    """Forecast the coefficients of a size that was not trained, with what speaks against believing it.

    Raises
    ------
    UsageError
        A size that is not positive.
    """
    if not (np.isfinite(parameters) and parameters > 0):
        raise UsageError(f"{parameters:g} is no model size", hint="e.g. 7e9")
    values = {name: line.at(parameters, level) for name, line in sizes.lines.items()}
    log_n = np.log(sizes.lines["a"].parameters)
    beyond = max(np.log(parameters) - log_n[-1], log_n[0] - np.log(parameters))
    found = [f for f in sizes.findings if f.severity == "warning"]
    if beyond > _FAR * np.ptp(log_n):
        found.append(
            Finding(
                "far-from-trained-sizes",
                "warning",
                f"{parameters:.3g} parameters lie {beyond / np.ptp(log_n):.1f} of the fitted range of ln N outside it",
                "a straight line in ln N has no reason to go on for ever; accuracy cannot",
                "train a size nearer to it",
                float(beyond / np.ptp(log_n)),
            )
        )
    ceiling, interval = values["ceiling"]
    if ceiling > 1.0:
        found.append(
            Finding(
                "ceiling-above-one",
                "warning",
                f"the ceiling would be {ceiling:.2f} [{interval.lo:.2f}, {interval.hi:.2f}]: accuracy ends at 1",
                "a line in ln N must bend before",
                "",
                ceiling,
            )
        )
    return SizeForecast(parameters, values, not found, worst_first(found))


def _line(name: str, contrast: tuple[float, float], fits: Sequence[SizedFit]) -> SizeLine:
    c = np.array(contrast)
    n = np.array([fit.parameters for fit in fits])
    q = np.array([c @ (fit.a, fit.b) for fit in fits])
    v = np.array([max(float(c @ fit.covariance @ c), 0.0) for fit in fits])
    sizes = np.unique(n)
    of_size = [n == size for size in sizes]
    between = _between_runs(q, v, of_size)
    weights = [1.0 / np.maximum(v[m] + between, 1e-300) for m in of_size]
    value = np.array([w @ q[m] / w.sum() for w, m in zip(weights, of_size, strict=True)])
    variance = np.array([1.0 / w.sum() for w in weights])
    log_n = np.log(sizes)
    centre = float(log_n.mean())
    x = np.column_stack([np.ones(len(sizes)), log_n - centre])
    runs = np.array([int(m.sum()) for m in of_size])
    return SizeLine(name, sizes, value, variance, runs, between, meta_regression(value, variance, x), centre)


def _between_runs(q: np.ndarray, v: np.ndarray, of_size: list[np.ndarray]) -> float:
    """Variance between runs of one size, shared by all sizes, beyond the fits' own errors (Paule and Mandel)."""
    repeated = [m for m in of_size if m.sum() > 1]
    df = float(sum(m.sum() - 1 for m in repeated))
    if df == 0:
        return 0.0

    def scatter(extra: float) -> float:
        total = 0.0
        for m in repeated:
            w = 1.0 / np.maximum(v[m] + extra, 1e-300)
            total += float(w @ (q[m] - w @ q[m] / w.sum()) ** 2)
        return total

    return paule_mandel(scatter, df, max(float(np.var(q)), 1e-300))


def _left_out(
    line: SizeLine, contrast: tuple[float, float], smaller: Sequence[SizedFit], level: float
) -> LeftOut:
    reduced = _line(line.quantity, contrast, smaller)
    x = np.array([1.0, np.log(line.parameters[-1]) - reduced.centre])
    interval = reduced.fit.interval(x, level, new_unit=True, extra=float(line.variance[-1]))
    return LeftOut(
        line.quantity, float(line.parameters[-1]), reduced.fit.mean(x), interval, float(line.value[-1])
    )


def _findings(lines: dict[str, SizeLine], left_out: list[LeftOut], k: int) -> tuple[Finding, ...]:
    found = []
    if k < _FEW_SIZES:
        found.append(
            Finding(
                "few-sizes",
                "warning",
                f"{k} model sizes leave {k - 2} degrees of freedom",
                "the interval of another size is wide, and a bend could not be seen",
                "add sizes",
                float(k),
            )
        )
    for name in ("a", "b", "ceiling"):
        p = curvature_p(lines[name])
        if p < _SIGNIFICANT:
            found.append(
                Finding(
                    "bent-over-sizes",
                    "warning",
                    f"{name} is not a straight line in ln N (p = {p:.3g})",
                    "a forecast for another size is wrong where a line bends",
                    "forecast near the trained sizes",
                    p,
                )
            )
    found += [
        Finding(
            "largest-size-missed",
            "warning",
            f"{entry.quantity} of the largest size, from the others: {entry.forecast:.3f} "
            f"[{entry.interval.lo:.3f}, {entry.interval.hi:.3f}], found {entry.found:.3f}",
            "what fails on the largest size that was trained will not do better beyond",
            "",
            entry.found,
        )
        for entry in left_out
        if not entry.inside
    ]
    if lines["a"].between_runs == 0.0 and (lines["a"].runs == 1).all():
        found.append(
            Finding(
                "one-run-a-size",
                "info",
                "one run for each size",
                "what differs between runs of one size is taken for a difference between sizes",
                "add seeds",
            )
        )
    return worst_first(found)


def curvature_p(line: SizeLine) -> float:
    """p value of a bend: a term in (ln N)^2 beside the line; NaN with fewer than four sizes."""
    log_n = np.log(line.parameters) - line.centre
    if len(log_n) < 4:
        return float("nan")
    x = np.column_stack([np.ones(len(log_n)), log_n, log_n**2])
    return meta_regression(line.value, line.variance, x).p_value(2)
