"""The theory of section 3, checked in numbers: each first-order statement against the exact change of the entropy."""

from __future__ import annotations

import numpy as np

from entlaw.dynamics import softmax
from entlaw.paper import panels
from entlaw.paper.figure import Drawn, figure
from entlaw.paper.library import Library
from entlaw.report.style import COLUMN_WIDTH

ACTIONS, STATES, SEED = 50, 200, 0
STEPS = np.geomspace(1e-4, 1.0, 25)
# A statement holds to first order when its relative error shrinks in proportion to the step.
_SMALL = (1e-4, 1e-3)


@figure(
    "theory", "The theory's first-order statements, and where they end", paper="Section 3", needs="no run"
)
def draw(library: Library) -> Drawn:
    """See the module; needs no run."""
    del library
    rng = np.random.default_rng(SEED)
    logits = rng.normal(size=(STATES, ACTIONS)) * 1.5
    advantage = softmax.center(logits, rng.normal(size=(STATES, ACTIONS)))
    direction = rng.normal(size=(STATES, ACTIONS))
    bump = np.zeros((STATES, ACTIONS))
    bump[np.arange(STATES), rng.integers(0, ACTIONS, STATES)] = 1.0
    kinds = {
        "Lemma 1, any change of logits": [
            (softmax.lemma1(logits, eta * direction), softmax.entropy_change(logits, eta * direction))
            for eta in STEPS
        ],
        "Lemma 1, one logit": [
            (softmax.lemma1(logits, eta * bump), softmax.entropy_change(logits, eta * bump)) for eta in STEPS
        ],
        "Theorem 1, policy gradient": [
            (
                softmax.theorem1(logits, advantage, eta),
                softmax.entropy_change(logits, softmax.policy_gradient_step(logits, advantage, eta)),
            )
            for eta in STEPS
        ],
        "Theorem 2, natural policy gradient": [
            (
                softmax.theorem2(logits, advantage, eta),
                softmax.entropy_change(logits, softmax.natural_gradient_step(advantage, eta)),
            )
            for eta in STEPS
        ],
    }
    fig, axes = panels.subplots(COLUMN_WIDTH, 2.5)
    ax, table, findings = axes[0][0], panels.Sheet(), {}
    for i, (name, pairs) in enumerate(kinds.items()):
        # Of the norms over states: single states whose entropy happens not to change have no relative error.
        error = np.array([np.linalg.norm(said - true) / np.linalg.norm(true) for said, true in pairs])
        ax.plot(STEPS, error, ms=2.6, mew=0.6, mfc="none", lw=1.0, label=name, **panels.marker_style(i))
        table.add("", name, "", "relative error", step_size=STEPS, error=error)
        lo, hi = (int(np.argmin(abs(STEPS - s))) for s in _SMALL)
        findings[f"order, {name}"] = float(np.log(error[hi] / error[lo]) / np.log(STEPS[hi] / STEPS[lo]))
        for at in (1e-2, 1e-1, 1.0):
            findings[f"error at {at:g}, {name}"] = float(error[np.argmin(abs(STEPS - at))])
    ax.axhline(1.0, color=panels.GREY, lw=0.6, ls=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("step size η (or size of the change of logits)")
    ax.set_ylabel("relative error of the predicted ΔH")
    ax.legend(fontsize=6.0, loc="lower right")
    caption = (
        f"Relative error (norm over {STATES} random states of {ACTIONS} actions, advantages of unit "
        "variance) of the predicted change of entropy against the exact one, in the tabular setting that the "
        "paper proves it for. All fall in proportion to the step, as first-order statements must; above the "
        "dotted line a prediction is worse than none. Theorem 2's step is larger at equal η: the policy "
        "gradient's is multiplied by π. Shared parameters, Adam, clipping and sampled gradients are outside "
        "of the theory; how much of it survives them on real steps is Figure 8 and "
        "`benchmarks/entropy_change.py`."
    )
    return Drawn(fig, table.frame(), caption, (), findings)
