"""Rolling origins: what would have been forecast at earlier steps of finished runs, and how wrong it was.

At each origin a forecaster sees the run up to that step and says how a later score will be distributed; the measured
score, its own noise included, is the truth. Scores are averaged over the forecasts of a run, then over the runs of a
source, then over sources, so that sixty runs of one ladder count as much as one run of somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from entlaw.findings import has_error
from entlaw.law.checks import forecast_findings
from entlaw.law.entropy_curve import entropy_nodes
from entlaw.law.forecast import Outlook
from entlaw.law.posterior import LEVELS, Predictive, crps_of_quantiles
from entlaw.law.regimes import has_fallen
from entlaw.law.rivals import LAST_VALUE, PAPER, RIVALS
from entlaw.limits import FEWEST_POINTS, PAPER_WINDOW
from entlaw.points import Points
from entlaw.process import hush_deprecations

OUTLOOK = "entlaw"
PAPER_GIVEN = "paper's law, true H given"
# Shares of a run's length at which it is looked at, and the paper's 36 steps.
ORIGINS = (0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.75)
# Targets as shares of the way from the origin to the end.
HORIZONS = {"halfway": 0.5, "end": 1.0}
# Less than this share of a run left is no future.
_LEAST_LEFT = 0.1
NOMINAL = (0.5, 0.8, 0.95)

COLUMNS = (
    "source",
    "run",
    "origin",
    "step",
    "n",
    "target",
    "horizon",
    "ratio",
    "regime",
    "fell",
    "answered",
    "codes",
    "forecaster",
    "measured",
    "median",
    "crps",
    "in50",
    "in80",
    "in95",
    "width50",
    "width80",
    "width95",
)


@dataclass(frozen=True)
class Plan:
    """What to forecast from where.

    Attributes
    ----------
    origins : tuple of float
        Shares of a run's length.
    origin_steps : tuple of float
        Steps.
    rivals : bool
        Forecast by the rivals too.
    """

    origins: tuple[float, ...] = ORIGINS
    origin_steps: tuple[float, ...] = (PAPER_WINDOW,)
    rivals: bool = True


def backtest(
    runs: Sequence[Points],
    plan: Plan = Plan(),
    *,
    workers: int = 1,
) -> pd.DataFrame:
    """Forecast finished runs from their past.

    Parameters
    ----------
    runs : sequence of Points
        Whole runs; ``source`` says which belong together.
    plan : Plan
    workers : int
        Processes; the answer does not depend on it.

    Returns
    -------
    pandas.DataFrame
        One row per run, origin, horizon and forecaster, columns :data:`COLUMNS`. ``origin`` is the share of the run
        seen, ``ratio`` target over origin in steps from the start; ``fell`` whether the run's entropy fell, judged from
        all of it; ``answered`` whether :class:`entlaw.law.forecast.Outlook` would have answered (scores are there
        either way); ``median`` and below are NaN where fewer than two points were seen.
    """
    if workers > 1 and len(runs) > 1:
        with ProcessPoolExecutor(
            min(workers, len(runs), os.cpu_count() or 1), initializer=hush_deprecations
        ) as pool:
            parts = list(pool.map(_one, runs, [plan] * len(runs), chunksize=4))
    else:
        parts = [_one(points, plan) for points in runs]
    return pd.DataFrame([row for part in parts for row in part], columns=list(COLUMNS))


def origins_of(points: Points, plan: Plan) -> list[float]:
    """Steps from which a run is looked at: those of the plan that see something new and leave something to forecast."""
    if points.n < 2:
        return []
    first, last = float(points.step[0]), float(points.step[-1])
    wanted = [first + share * (last - first) for share in plan.origins] + list(plan.origin_steps)
    seen: dict[int, float] = {}
    for step in sorted(wanted):
        n = int(np.searchsorted(points.step, step, side="right"))
        if n and step <= last - _LEAST_LEFT * (last - first):
            seen.setdefault(n, step)
    return list(seen.values())


def _one(points: Points, plan: Plan) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    if points.n < 2:
        return rows
    fell = has_fallen(points, forecast_findings(points))
    first, last = float(points.step[0]), float(points.step[-1])
    for origin in origins_of(points, plan):
        past = points.until(origin)
        outlook = Outlook.of(past, force=True)
        now = float(past.step[-1])
        index = {name: _nearest(points.step, now + share * (last - now)) for name, share in HORIZONS.items()}
        index = {name: i for name, i in index.items() if i >= past.n}
        answered = not has_error(outlook.findings)
        codes = ",".join(f.code for f in outlook.findings if f.severity == "error")
        start = points.start
        forecasts = _forecasts(points, outlook, sorted(set(index.values())), plan)
        for name, i in index.items():
            truth = float(points.score[i])
            ratio = (float(points.step[i]) - start) / max(now - start, 1e-9)
            place = (
                points.source,
                points.name,
                (now - first) / (last - first),
                now,
                past.n,
                float(points.step[i]),
                name,
                ratio,
                outlook.regime,
                fell,
                answered,
                codes,
            )
            rows += [(*place, forecaster, truth, *_score(p, truth)) for forecaster, p in forecasts[i].items()]
    return rows


def _forecasts(
    points: Points, outlook: Outlook, targets: list[int], plan: Plan
) -> dict[int, dict[str, Predictive | None]]:
    past = outlook.points
    if past.n < FEWEST_POINTS:  # a refusal: counted, not scored
        return {i: {OUTLOOK: None} for i in targets}
    steps = points.step[targets]
    nodes = [entropy_nodes(past, float(step)) for step in steps]
    out: dict[int, dict[str, Predictive | None]] = {}
    for i, step, node, forecast in zip(targets, steps, nodes, outlook.at_steps(steps, nodes), strict=True):
        out[i] = {OUTLOOK: forecast}
        if plan.rivals:
            out[i] |= {name: rival.forecast(past, float(step), node) for name, rival in RIVALS.items()}
            out[i][PAPER_GIVEN] = PAPER.forecast(past, float(step), points.entropy[i : i + 1])
    return out


def _score(forecast: Predictive | None, truth: float) -> tuple[float, ...]:
    if forecast is None:
        return (float("nan"),) * 8
    ends = np.array([[0.5 - 0.5 * level, 0.5 + 0.5 * level] for level in NOMINAL])
    q = forecast.quantile(np.concatenate([LEVELS, ends.ravel(), [0.5]]))
    lo, hi = q[len(LEVELS) : -1].reshape(-1, 2).T
    inside = ((lo <= truth) & (truth <= hi)).astype(float)
    return (
        float(q[-1]),
        float(crps_of_quantiles(q[: len(LEVELS)], truth)),
        *inside.tolist(),
        *(hi - lo).tolist(),
    )


def _nearest(step: np.ndarray, wanted: float) -> int:
    return int(np.argmin(np.abs(step - wanted)))


def answered_only(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of origins at which the outlook answered, all forecasters."""
    return rows[rows["answered"].astype(bool) & rows["crps"].notna()]


def shares_answered(rows: pd.DataFrame, by: str | None = "source") -> pd.Series:
    """Share of origins answered; over those of runs whose entropy fell where ``rows`` was cut to them."""
    one = rows[(rows["forecaster"] == OUTLOOK)].drop_duplicates(["source", "run", "step"])
    if by is None:
        return pd.Series({"all": float(one.groupby("source")["answered"].mean().mean())})
    return one.groupby(by, observed=True)["answered"].mean()


def table(rows: pd.DataFrame, by: Iterable[str] = ()) -> pd.DataFrame:
    """Scores of every forecaster, sources counting alike.

    Parameters
    ----------
    rows : DataFrame
        From :func:`backtest`, cut to what is asked about.
    by : iterable of str
        Columns to break down by, e.g. ``source``, ``horizon``, ``regime``.

    Returns
    -------
    DataFrame
        Index forecaster (and ``by``); columns forecasts, sources, rmse, median_error (median absolute error),
        crps, skill (1 - CRPS over that of the last value, sources' ratios averaged geometrically), cover50 .. width95.
    """
    rows = rows[rows["crps"].notna()].copy()
    by = list(by)
    rows["off"] = rows["median"] - rows["measured"]
    rows["error"], rows["square"] = rows["off"].abs(), rows["off"] ** 2
    keys = [*by, "forecaster"]
    source = [] if "source" in by else ["source"]
    run = [] if "run" in by else ["run"]  # a level named twice is ambiguous to pandas
    values = ["crps", "square", "in50", "in80", "in95", "width50", "width80", "width95"]
    per_run = rows.groupby([*keys, *source, *run], observed=True)[values].mean()
    per_source = per_run.groupby([*keys, *source], observed=True).mean()
    medians = rows.groupby([*keys, *source], observed=True)["error"].median()
    last = (
        per_source["crps"].xs(LAST_VALUE.name, level="forecaster")
        if LAST_VALUE.name in set(rows["forecaster"])
        else None
    )
    out = per_source.groupby(keys, observed=True).mean()
    out.insert(0, "forecasts", rows.groupby(keys, observed=True).size())
    out.insert(1, "sources", rows.groupby(keys, observed=True)["source"].nunique())
    out.insert(2, "rmse", np.sqrt(out.pop("square")))
    out.insert(3, "median_error", medians.groupby(keys, observed=True).mean())
    if last is not None:
        shared = per_source["crps"].reset_index()
        shared = (
            shared.merge(last.rename("last").reset_index(), on=[*by, *source] or None)
            if by or source
            else shared
        )
        ratio = np.log(shared["crps"].clip(lower=1e-9) / shared["last"].clip(lower=1e-9))
        skill = 1.0 - np.exp(ratio.groupby([shared[k] for k in keys], observed=True).mean())
        out.insert(5, "skill", skill)
    return out.rename(columns={f"in{p}": f"cover{p}" for p in (50, 80, 95)})
