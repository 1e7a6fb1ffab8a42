"""May this fit be believed? Coded findings; those of severity error refuse the fit.

The checks themselves are in :mod:`entlaw.law.checks_entropy`, :mod:`entlaw.law.checks_fit` and
:mod:`entlaw.law.interventions`; here they are given their evidence and called in order of what a reader should hear
first among equals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from entlaw.findings import Finding, worst_first
from entlaw.law import checks_entropy, checks_fit
from entlaw.law.evidence import Evidence
from entlaw.law.interventions import interventions
from entlaw.law.results import Fit
from entlaw.runs.run import Run

_CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    checks_entropy.resumed,
    checks_entropy.unit,
    checks_fit.score,
    checks_entropy.trend,
    checks_fit.count,
    checks_fit.slope,
    checks_entropy.reach,
    checks_fit.influence,
    checks_fit.ceiling,
    checks_fit.shape,
)


def diagnose(fit: Fit, run: Run | None = None) -> tuple[Finding, ...]:
    """Findings about a fit, worst first.

    Parameters
    ----------
    fit : Fit
    run : Run, optional
        The run it was made from: adds the whole entropy log, the points after the window and the configuration.

    Returns
    -------
    tuple of Finding
        Of the diagnostics only; what the reader found is in ``run.findings``.
    """
    p = fit.points
    if run is not None:
        columns = {k: run.points[k].to_numpy(dtype=float) for k in run.points.columns}
    else:
        columns = {"step": p.step, "entropy": p.entropy_logged, "performance": p.performance}
    known = fit.noise.get("answers") is not None
    return worst_first(diagnose_points(evidence_of(columns, fit.until_step, fit, run, answers_known=known)))


def diagnose_points(evidence: Evidence) -> list[Finding]:
    """Findings about the evidence, in the order of the checks."""
    found = [finding for check in _CHECKS for finding in check(evidence)]
    return found + (interventions(evidence.run.config) if evidence.run is not None else [])


def evidence_of(
    columns: Mapping[str, np.ndarray],
    until_step: float | None,
    fit: Fit | None,
    run: Run | None,
    *,
    answers_known: bool = False,
) -> Evidence:
    """Collect what the checks look at.

    Parameters
    ----------
    columns : mapping of ndarray, shape (n,)
        step, entropy, performance and, where known, entropy_step, of all points.
    until_step : float or None
    fit : Fit or None
    run : Run or None
    answers_known : bool

    Returns
    -------
    Evidence
    """
    t, h, r = (columns[k] for k in ("step", "entropy", "performance"))
    s = columns.get("entropy_step", t)
    keep = np.isfinite(t) & np.isfinite(h) & np.isfinite(r)
    order = np.flatnonzero(keep)[np.argsort(t[keep], kind="stable")]
    t, h, r, s = t[order], h[order], r[order], s[order]
    inside = np.ones(len(t), dtype=bool) if until_step is None else t <= until_step
    whole = np.stack(run.entropy_series()) if run is not None else np.stack([t, h])
    finite = np.isfinite(whole).all(axis=0)
    whole = whole[:, finite]
    end = np.inf
    if until_step is not None:
        paired = s[inside & np.isfinite(s)]
        end = max(until_step, float(paired.max()) if len(paired) else until_step)
    return Evidence(
        step=t[inside], entropy=h[inside], performance=r[inside], log=whole[:, whole[0] <= end], whole_log=whole,
        later=np.stack([t, h, r])[:, ~inside], until_step=until_step, fit=fit, run=run, answers_known=answers_known,
    )  # fmt: skip
