"""The noise budget before a run: how many problems and samples, validated how often, to know the ceiling early enough.

By simulation: runs that obey an assumed law are drawn with binomial scores, a wander between checkpoints and noisy
entropies, and fitted as ``entlaw fit`` would at the end of the window. What counts is not only how wide the interval is
but how far the estimate is off, and whether the interval holds the truth as often as it says.

What is found holds for runs that obey the law. How far real runs leave it is another matter (``entlaw backtest``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from entlaw.errors import FitRefused, UsageError
from entlaw.law.entropy_curve import exponential
from entlaw.law.fit import fit_law, fit_points
from entlaw.law.shapes import law
from entlaw.limits import FEWEST_POINTS, PAPER_WINDOW
from entlaw.points import Points, answers_behind
from entlaw.runs.run import Run


@dataclass(frozen=True)
class Assumed:
    """A run as it is expected.

    Attributes
    ----------
    a, b : float
        Of R = b - a exp(H) (fractions); 0 <= R <= 1 for all H met.
    entropy_first, entropy_floor : float
        H before training and where it levels off, nats/token.
    tau : float
        Steps in which the distance to the floor falls to 1/e.
    wander : float
        Standard deviation of what moves the policy's true score around the law (fraction).
    wander_steps : float
        Steps over which it is forgotten (its correlation falls to 1/e).
    entropy_noise : float
        Standard deviation of one logged entropy, nats.
    within : float
        Share of p(1 - p) that is within problems: 1 if all problems are alike, less if some are always right and others
        always wrong. Only this part is drawn anew at each validation of one fixed test.
    """

    a: float = 0.25
    b: float = 0.85
    entropy_first: float = 1.0
    entropy_floor: float = 0.05
    tau: float = 25.0
    wander: float = 0.006
    wander_steps: float = 10.0
    entropy_noise: float = 0.02
    within: float = 1.0

    @property
    def ceiling(self) -> float:
        """b - a."""
        return self.b - self.a

    def entropy(self, step: np.ndarray) -> np.ndarray:
        """H at a step."""
        fall = np.exp(-np.asarray(step, dtype=float) / self.tau)
        return self.entropy_floor + (self.entropy_first - self.entropy_floor) * fall

    def check(self) -> None:
        """Raise UsageError for a run that cannot be."""
        for name in ("tau", "wander_steps", "within"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise UsageError(f"{name} = {getattr(self, name):g} must be positive")
        for name in ("wander", "entropy_noise", "entropy_floor"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} = {getattr(self, name):g} must not be negative")
        if self.within > 1:
            raise UsageError(f"within = {self.within:g} is a share: at most 1")
        if not self.entropy_first > self.entropy_floor:
            raise UsageError("entropy must fall: entropy_first must be above entropy_floor")
        ends = law(self.a, self.b, [self.entropy_first, self.entropy_floor])
        if not (np.isfinite(ends).all() and (ends >= 0).all() and (ends <= 1).all()):
            raise UsageError(
                f"R would go from {ends[0]:.3f} to {ends[1]:.3f}: not a score",
                hint="choose a, b and entropy_first so that b - a exp(H) stays within 0 and 1",
            )


@dataclass(frozen=True)
class Design:
    """How a run is validated.

    Attributes
    ----------
    problems, samples : int
    every : int
        Steps between validations; the first is made before training.
    until_step : float
        End of the fit window.
    """

    problems: int
    samples: int
    every: int
    until_step: float = PAPER_WINDOW

    @property
    def validations(self) -> int:
        """Made by the end of the window."""
        return int(self.until_step // self.every) + 1

    @property
    def answers(self) -> int:
        """Generated for validation by the end of the window."""
        return self.validations * self.problems * self.samples


@dataclass(frozen=True)
class Budget:
    """What a design gives.

    Attributes
    ----------
    design : Design
    half_width : float
        Median over simulated runs of half the ceiling's interval (fraction).
    rmse, bias : float
        Of the ceiling's estimate.
    coverage : float
        Share of intervals that hold the true ceiling.
    within_margin : float
        Share of estimates off by no more than the margin.
    refused : float
        Share of runs in which nothing could be fitted.
    """

    design: Design
    half_width: float
    rmse: float
    bias: float
    coverage: float
    within_margin: float
    refused: float


def designs(
    problems: Sequence[int], samples: Sequence[int], every: Sequence[int], until_step: float = PAPER_WINDOW
) -> list[Design]:
    """All combinations, cheapest first.

    Raises
    ------
    UsageError
        A number below 1, or a window with fewer than four validations in every design.
    """
    for name, values in (("problems", problems), ("samples", samples), ("every", every)):
        if not values or min(values) < 1:
            raise UsageError(f"{name} must be numbers of at least 1")
    made = [Design(n, k, e, until_step) for n, k, e in product(problems, samples, every)]
    usable = [d for d in made if d.validations >= FEWEST_POINTS]
    if not usable:
        raise UsageError(
            f"no design has four validations by step {until_step:g}",
            why="fewer are refused by `entlaw fit`",
            hint="validate more often, or fit a longer window",
        )
    return sorted(usable, key=lambda d: (d.answers, d.every))


def budget(
    assumed: Assumed,
    design: Design,
    *,
    margin: float = 0.02,
    level: float = 0.95,
    replicates: int = 200,
    seed: int = 0,
) -> Budget:
    """Simulate runs of one design and fit them.

    Parameters
    ----------
    assumed : Assumed
    design : Design
    margin : float
        What the ceiling's estimate may be off (fraction).
    level : float
        Of the interval.
    replicates : int
    seed : int
        The same runs' luck for every design, so that designs differ by what they are.

    Returns
    -------
    Budget
    """
    assumed.check()
    truth = assumed.ceiling
    estimate, half, hit = [], [], []
    for i in range(replicates):
        rng = np.random.default_rng([seed, i])
        try:
            fitted = fit_points(draw(assumed, design, rng), until_step=design.until_step, level=level)
        except FitRefused:
            continue
        interval = fitted.ceiling_interval
        estimate.append(fitted.ceiling)
        half.append(interval.width / 2)
        hit.append(interval.lo <= truth <= interval.hi)
    if not estimate:
        nan = float("nan")
        return Budget(design, nan, nan, nan, nan, 0.0, 1.0)
    off = np.array(estimate) - truth
    return Budget(
        design,
        float(np.median(half)),
        float(np.sqrt(np.mean(off**2))),
        float(off.mean()),
        float(np.mean(hit)),
        float(np.mean(np.abs(off) <= margin)),
        1.0 - len(estimate) / replicates,
    )


def draw(assumed: Assumed, design: Design, rng: np.random.Generator) -> Points:
    """One simulated run up to the end of the window: entropies with their noise, one logged at every step."""
    every_step = np.arange(0.0, np.floor(design.until_step) + 1)
    shock = rng.standard_normal(len(every_step))
    keep = np.exp(-1.0 / assumed.wander_steps)
    wander = np.empty(len(every_step))
    wander[0] = shock[0]
    for i in range(1, len(every_step)):
        wander[i] = keep * wander[i - 1] + np.sqrt(1 - keep**2) * shock[i]
    true_entropy = assumed.entropy(every_step)
    noise = assumed.entropy_noise * rng.standard_normal(len(every_step))
    logged = np.maximum(true_entropy + noise, 1e-6)
    at = every_step[:: design.every].astype(int)
    p = np.clip(law(assumed.a, assumed.b, true_entropy[at]) + assumed.wander * wander[at], 0.0, 1.0)
    # Answers to one fixed test vary by their part within problems only: as many fewer independent ones would.
    answers = max(1, round(design.problems * design.samples / assumed.within))
    score = rng.binomial(answers, p) / answers
    return Points.from_arrays(
        every_step[at],
        logged[at],
        score,
        log=(every_step, logged),
        answers=answers_behind(design.problems, design.samples),
    )


def plan(
    assumed: Assumed,
    candidates: Iterable[Design],
    *,
    margin: float = 0.02,
    level: float = 0.95,
    replicates: int = 200,
    seed: int = 0,
) -> Iterator[Budget]:
    """Budgets of many designs, one by one."""
    for design in candidates:
        yield budget(assumed, design, margin=margin, level=level, replicates=replicates, seed=seed)


def cheapest(budgets: Iterable[Budget], margin: float) -> Budget | None:
    """The design with the fewest answers whose interval is no wider than ±margin; None if none is."""
    fine = [b for b in budgets if b.half_width <= margin]
    return min(fine, key=lambda b: (b.design.answers, b.half_width), default=None)


def assumed_from(run: Run) -> Assumed:
    """Read off a finished run what a plan assumes.

    Parameters
    ----------
    run : Run

    Returns
    -------
    Assumed

    Raises
    ------
    FitRefused
        Nothing can be fitted, entropy does not fall, or its scores are none.
    """
    points = Points.from_run(run)
    fitted = fit_law(points, run=run, until_step=None, force=True)
    step, entropy = points.own_log
    first, floor, tau = exponential(step, entropy)
    post = fitted.posterior
    wander = float(np.sqrt(post.weight @ post.wander))
    residual = entropy - (floor + (first - floor) * np.exp(-(step - step[0]) / tau))
    # Successive differences: what is logged, not what the curve misses.
    noise = float(np.std(np.diff(residual)) / np.sqrt(2)) if len(residual) > 2 else 0.0
    a, b = fitted.a, fitted.b
    ends = law(a, b, [first, floor])
    if not (first > floor and a > 0 and ends.min() >= 0 and ends.max() <= 1):
        raise FitRefused(
            "this run is no model for a plan",
            where=run.name,
            why=f"R = {b:.3f} - {a:.3f} exp(H) over H {first:.3f} -> {floor:.3f} is not a score that rises",
            hint="choose a run that obeys the law, or leave --like out",
        )
    spacing = float(np.median(np.diff(fitted.points.step))) if fitted.n > 1 else 1.0
    r = fitted.residual_autocorrelation
    memory = -spacing / float(np.log(r)) if 0.05 < r < 0.95 else spacing
    return Assumed(a, b, first, floor, tau, wander, max(memory, 0.5), noise)
