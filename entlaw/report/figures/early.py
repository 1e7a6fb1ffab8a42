"""What is foretold of a run from its first steps, by the law and by forecasts that know less, and how wrong each is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entlaw.errors import FitRefused
from entlaw.law.growth import in_time
from entlaw.law.rivals import LAST_K, LAST_VALUE, PAPER, RIVALS, Rival
from entlaw.limits import PAPER_WINDOW
from entlaw.points import Points
from entlaw.report.figures.lawnumbers import least_squares
from entlaw.report.figures.lawruns import Member

LEAST_SEEN, LEAST_LATER = 4, 3

LAW = "the law, H given"
OUTLOOK = "entlaw's outlook"
_RIVALS: dict[str, tuple[str, bool]] = {  # our name: the rival's, and whether it is told the entropy
    LAW: (PAPER.name, True),
    "straight line in H, H given": ("linear in H", True),
    "the law, H foretold": (PAPER.name, False),
    "last value stays": (LAST_VALUE.name, False),
    f"mean of last {LAST_K} stays": (f"mean of last {LAST_K}", False),
    "sigmoid in step (ScaleRL)": ("sigmoid in step (ScaleRL)", False),
}
FORECASTERS = (*_RIVALS, OUTLOOK)
# The names of findings, in the order of `FORECASTERS`.
SHORT = dict(
    zip(
        FORECASTERS,
        ("law", "straight_line", "law_own_entropy", "last_value", "mean_of_last", "sigmoid", "outlook"),
        strict=True,
    )
)


@dataclass(frozen=True)
class Early:
    """Errors of forecasts from the first steps, as fractions.

    Attributes
    ----------
    a, b : float
        Of the law on the first steps, by least squares.
    rest : dict of str to float
        Root mean square error over all later scores, a forecaster.
    last : dict of str to float
        Size of the error at the last score.
    bias : float
        Mean of forecast less measured over all later scores, of the law.
    """

    a: float
    b: float
    rest: dict[str, float]
    last: dict[str, float]
    bias: float


def early_forecasts(member: Member, until: float = PAPER_WINDOW) -> Early | None:
    """Foretell a run from its points up to a step.

    Parameters
    ----------
    member : Member
    until : float

    Returns
    -------
    Early or None
        None where fewer than four distinct points are seen or fewer than three come later.
    """
    whole = Points.from_run(member.run)
    past, later = whole.until(until), whole.after(until)
    if len(np.unique(past.entropy)) < LEAST_SEEN or later.n < LEAST_LATER:
        return None
    steps, entropies, truth = later.step, later.entropy, later.score
    named: dict[str, Rival] = {rival.name: rival for rival in RIVALS}
    told: dict[str, np.ndarray] = {}
    for name, (rival, given) in _RIVALS.items():
        told[name] = _foretold(named[rival], past, steps, entropies if given else None)
    told[OUTLOOK] = _outlook(past, steps)
    a, b = least_squares(np.exp(past.entropy), past.score)
    rest = {name: float(np.sqrt(np.mean((f - truth) ** 2))) for name, f in told.items()}
    last = {name: float(abs(f[-1] - truth[-1])) for name, f in told.items()}
    return Early(a, b, rest, last, float(np.mean(told[LAW] - truth)))


def _foretold(rival: Rival, past: Points, steps: np.ndarray, entropies: np.ndarray | None) -> np.ndarray:
    """Medians at the later steps."""
    if entropies is None:
        return np.array([rival.forecast(past, float(step)).median for step in steps])
    pairs = zip(steps, entropies, strict=True)
    return np.array([rival.forecast(past, float(step), np.array([h])).median for step, h in pairs])


def _outlook(past: Points, steps: np.ndarray) -> np.ndarray:
    try:
        return np.array([p.median for p in in_time(past, steps)])
    except FitRefused:
        return np.full(len(steps), np.nan)
