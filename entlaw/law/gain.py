"""What a run still has to gain, from its last point to a later step (:mod:`entlaw.law.growth`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from entlaw.law.growth import PRIOR, Prior, grown
from entlaw.law.history import History
from entlaw.law.predictive import Predictive, to_arcsine
from entlaw.law.rivals import entropy_nodes


@dataclass(frozen=True)
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


def gain_until(history: History, step: float, *, prior: Prior = PRIOR) -> Gain:
    """Distribution of the gain from the last point of a history to a later step.

    Parameters
    ----------
    history : History
        At least 2 points.
    step : float
        Later than the history.
    prior : Prior

    Returns
    -------
    Gain
    """
    model = grown(history, prior)
    last = float(history.step[-1])
    here, walk_now = model.columns(last, np.array([model.entropy_now]))
    there, walk_then = model.columns(step, entropy_nodes(history, step))
    present = model.posterior.at(here, np.minimum(model.walk, walk_now), walk_now, measured=False)
    # What the walk has done so far is in both levels: its steps to come know nothing of the scores seen.
    change = model.posterior.at(
        there - here, np.zeros(len(model.walk)), max(walk_then - walk_now, 0.0), measured=False
    )
    plain = Predictive(change.weight, change.mean, change.scale, change.df)
    return Gain(present.median, plain, model.posterior.data.shares)
