"""1,000 runs, each with 2,000 bootstrap ceilings: closed forms against lmfit and statsmodels in a loop.

The closed forms are in ``many_fits.py`` beside this file. No command of entlaw uses them.

All three are given the same runs and the same resamples and must return the same ceilings. A loop over two million
refits takes minutes to hours, so each peer is timed on a subset of runs and replicates, and its total is that time
scaled up: the printed totals of the peers are extrapolated, ours is measured. Peers are used as their documentation
does for a straight line (lmfit: LinearModel with guessed start; also its bare minimize; statsmodels: OLS(y, X).fit()).

Then the interval that entlaw really reports: one careful fit, timed run by run.

Run: python benchmarks/fit_speed.py [--runs 1000] [--replicates 2000]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from many_fits import bootstrap_ceilings, fit_many, percentile_intervals, residual_indices

from entlaw.law.fit import fit_points
from entlaw.points import Points

Refit = Callable[[np.ndarray, np.ndarray], float]


def data(runs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps (n,), x (runs, n), y (runs, n): ten evaluations of runs that differ in a, b and speed."""
    rng = np.random.default_rng(seed)
    step = np.arange(0.0, 37.0, 4.0)
    tau, a, b = (
        rng.uniform(15, 40, (runs, 1)),
        rng.uniform(0.1, 0.4, (runs, 1)),
        rng.uniform(0.7, 1.0, (runs, 1)),
    )
    x = np.exp(0.05 + 0.95 * np.exp(-step / tau))
    return step, x, b - a * x + 0.02 * rng.standard_normal(x.shape)


def lmfit_model() -> Refit:
    """lmfit's LinearModel."""
    from lmfit.models import LinearModel

    model = LinearModel()

    def refit(x: np.ndarray, y: np.ndarray) -> float:
        result = model.fit(y, model.guess(y, x=x), x=x)
        return result.params["intercept"].value + result.params["slope"].value

    return refit


def lmfit_minimize() -> Refit:
    """lmfit's minimize on a residual function, its fastest way."""
    from lmfit import Parameters, minimize

    def residual(p: Parameters, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return y - (p["b"].value - p["a"].value * x)

    def refit(x: np.ndarray, y: np.ndarray) -> float:
        p = Parameters()
        p.add("a", value=0.2)
        p.add("b", value=0.8)
        found = minimize(residual, p, args=(x, y)).params
        return found["b"].value - found["a"].value

    return refit


def statsmodels_ols() -> Refit:
    """statsmodels' OLS."""
    import statsmodels.api as sm

    def refit(x: np.ndarray, y: np.ndarray) -> float:
        return float(sm.OLS(y, sm.add_constant(x)).fit().params.sum())

    return refit


def main() -> int:
    """Print seconds, ratios and differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--peer-runs", type=int, default=10)
    parser.add_argument("--peer-replicates", type=int, default=40)
    o = parser.parse_args()
    step, x, y = data(o.runs)
    indices = residual_indices(len(step), o.replicates, np.random.default_rng(1))

    ours = np.inf
    for _ in range(3):
        start = time.perf_counter()
        batch = fit_many(x, y)
        ceilings = bootstrap_ceilings(batch, indices)
        intervals = percentile_intervals(ceilings)
        ours = min(ours, time.perf_counter() - start)
    total = o.runs * (o.replicates + 1)
    print(f"{o.runs} runs x {o.replicates} residual-bootstrap refits of {len(step)} points, one thread")
    print(
        f"{'':<24}{'seconds':>12}{'refits timed':>14}{'us a refit':>12}{'ratio':>12}{'max |difference|':>18}"
    )
    print(f"{'closed forms':<24}{ours:>12.3f}{total:>14}{1e6 * ours / total:>12.3f}{'1':>12}{'':>18}")
    for name, make in (
        ("statsmodels OLS", statsmodels_ols),
        ("lmfit minimize", lmfit_minimize),
        ("lmfit LinearModel", lmfit_model),
    ):
        refit = make()
        refit(x[0], y[0])  # first call pays for imports and caches
        chosen = np.linspace(0, o.runs - 1, min(o.peer_runs, o.runs)).astype(int)
        few = min(o.peer_replicates, o.replicates)
        worst, count = 0.0, 0
        start = time.perf_counter()
        theirs = []
        for r in chosen:
            fitted = y[r] - batch.residual[r]
            theirs.append(
                [
                    refit(x[r], y[r]),
                    *(refit(x[r], fitted + batch.residual[r][indices[k]]) for k in range(few)),
                ]
            )
            count += few + 1
        seconds = time.perf_counter() - start
        mine = np.column_stack([batch.ceiling[chosen], ceilings[chosen, :few]])
        worst = float(np.abs(np.array(theirs) - mine).max())
        whole = seconds / count * total
        print(
            f"{name:<24}{whole:>11.0f}*{count:>14}{1e6 * seconds / count:>12.1f}{whole / ours:>12.0f}{worst:>18.1e}"
        )
    print("* extrapolated from the refits timed")
    width = float(np.median(intervals[:, 1] - intervals[:, 0]))
    print(f"\nmedian width of the bootstrap interval {width:.4f}")

    few_runs = min(o.runs, 200)
    times = []
    for r in range(few_runs):
        start = time.perf_counter()
        fit_points(Points.from_arrays(step, np.log(x[r]), y[r], answers=500))
        times.append(time.perf_counter() - start)
    print(
        f"careful fit with its interval, {len(step)} points: median {1e3 * np.median(times):.1f} ms, "
        f"slowest {1e3 * np.max(times[1:]):.1f} ms, so {o.runs} runs in {np.median(times) * o.runs:.1f} s "
        f"(extrapolated from {few_runs})"
    )
    for n in (40, 200, 10_000):
        t = np.linspace(0, 400, n)
        h = 0.05 + 0.95 * np.exp(-t / 60)
        rng = np.random.default_rng(2)
        r = 0.85 - 0.25 * np.exp(h) + 0.01 * rng.standard_normal(n)
        noisy = h + 0.01 * rng.standard_normal(n)
        start = time.perf_counter()
        fit_points(Points.from_arrays(t, noisy, r), until_step=None)
        print(f"careful fit, n = {n}: {1e3 * (time.perf_counter() - start):.1f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
