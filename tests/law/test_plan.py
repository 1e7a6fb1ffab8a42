"""The noise budget: what is simulated is what was assumed, and more measurement never knows less."""

from dataclasses import replace

import numpy as np
import pytest

from entlaw.errors import UsageError
from entlaw.law.plan import Assumed, Design, budget, cheapest, designs, draw

QUIET = Assumed(wander=0.0, entropy_noise=0.0)


def test_simulated_scores_have_the_law_and_the_binomial_noise():
    design = Design(problems=200, samples=2, every=4)
    drawn = [draw(QUIET, design, np.random.default_rng(i)) for i in range(800)]
    scores = np.array([d.score for d in drawn])
    law = QUIET.b - QUIET.a * np.exp(drawn[0].entropy)
    np.testing.assert_allclose(scores.mean(axis=0), law, atol=4 * np.sqrt(0.25 / 400 / 800))
    np.testing.assert_allclose(scores.var(axis=0), law * (1 - law) / 400, rtol=0.25)
    assert drawn[0].step.tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert len(drawn[0].log_step) == 37


def test_wander_has_its_size_and_memory():
    assumed = Assumed(a=0.1, b=0.6, wander=0.05, wander_steps=5.0, entropy_noise=0.0)
    design = Design(problems=10**7, samples=1, every=1)
    law = assumed.b - assumed.a * np.exp(assumed.entropy(np.arange(37.0)))
    off = np.array([draw(assumed, design, np.random.default_rng(i)).score for i in range(600)]) - law
    assert off.std() == pytest.approx(0.05, rel=0.05)
    lag = np.mean(off[:, 5:] * off[:, :-5]) / off.var()
    assert lag == pytest.approx(np.exp(-1), abs=0.05)


def test_within_share_makes_answers_count_for_more():
    alike, apart = Assumed(wander=0.0), Assumed(wander=0.0, within=0.25)
    design = Design(500, 1, 4)
    spread = [
        np.std([draw(a, design, np.random.default_rng(i)).score[-1] for i in range(600)])
        for a in (alike, apart)
    ]
    assert spread[1] == pytest.approx(spread[0] / 2, rel=0.12)


def test_more_answers_and_more_validations_know_more():
    few, many = (budget(Assumed(), Design(n, 1, 4), replicates=60) for n in (200, 5000))
    assert many.half_width < 0.7 * few.half_width and many.rmse < few.rmse
    rare, often = (budget(Assumed(), Design(500, 1, e), replicates=60) for e in (6, 1))
    assert often.half_width < 0.8 * rare.half_width


def test_intervals_cover_where_the_assumptions_hold():
    found = budget(Assumed(wander=0.004, entropy_noise=0.01), Design(500, 1, 4), replicates=300)
    assert 0.91 <= found.coverage <= 0.99
    assert abs(found.bias) < 0.004
    assert budget(Assumed(), Design(500, 1, 4), replicates=30) == budget(
        Assumed(), Design(500, 1, 4), replicates=30
    )


def test_the_cheapest_that_will_do():
    budgets = [budget(QUIET, d, replicates=30) for d in designs([100, 1000, 4000], [1], [4])]
    chosen = cheapest(budgets, 0.03)
    assert chosen is not None and chosen.half_width <= 0.03
    assert all(b.half_width > 0.03 for b in budgets if b.design.answers < chosen.design.answers)
    assert cheapest(budgets, 1e-6) is None


def test_designs_are_all_combinations_that_can_be_fitted():
    made = designs([100, 10], [1, 2], [4, 40])
    assert {d.every for d in made} == {4}  # every 40 steps leaves one validation by step 36
    assert [d.answers for d in made] == sorted(d.answers for d in made) and len(made) == 4
    with pytest.raises(UsageError, match="four validations"):
        designs([100], [1], [13])
    with pytest.raises(UsageError, match="problems"):
        designs([0], [1], [4])


@pytest.mark.parametrize(
    "change",
    [{"a": 0.9}, {"entropy_first": 0.01}, {"tau": 0.0}, {"within": 2.0}, {"wander": -1.0}, {"b": np.nan}],
)
def test_runs_that_cannot_be_are_refused(change):
    with pytest.raises(UsageError):
        replace(Assumed(), **change).check()
