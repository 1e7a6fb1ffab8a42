"""How an early fit did on the points it had not seen, next to the simplest forecast there is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from entlaw.law.results import Fit


@dataclass(frozen=True)
class Holdout:
    """Errors on the points after the fit window, in units of performance.

    Attributes
    ----------
    n : int
        Number of points after the window.
    rmse : float
        Of the law given the entropy that was reached, as the paper reports it.
    rmse_last_value : float
        Of "the last value of the window stays".
    final_error, final_error_last_value : float
        Forecast minus observed, at the last point.
    above_ceiling : float
        Fraction of later points above the fitted ceiling.
    """

    n: int
    rmse: float
    rmse_last_value: float
    final_error: float
    final_error_last_value: float
    above_ceiling: float


def holdout(fit: Fit, points: pd.DataFrame) -> Holdout | None:
    """Score a fit on the points after its window.

    Parameters
    ----------
    fit : Fit
    points : pandas.DataFrame
        Columns step, entropy (as logged, nats/token), performance.

    Returns
    -------
    Holdout or None
        None when no point lies after the window.
    """
    if fit.until_step is None:
        return None
    rest = points[points["step"] > fit.until_step].dropna()
    if len(rest) == 0:
        return None
    r = rest["performance"].to_numpy(float)
    with np.errstate(
        over="ignore"
    ):  # a forced fit on a sequence sum may overflow; infinity is the honest error
        law = fit.b - fit.a * np.exp(rest["entropy"].to_numpy(float)) - r
    stay = fit.points.performance[-1] - r
    return Holdout(
        n=len(rest),
        rmse=float(np.sqrt(np.mean(law**2))),
        rmse_last_value=float(np.sqrt(np.mean(stay**2))),
        final_error=float(law[-1]),
        final_error_last_value=float(stay[-1]),
        above_ceiling=float(np.mean(r > fit.ceiling)),
    )
