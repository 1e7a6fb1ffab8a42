"""Figure 8, Table 1 and the figure of the theory: against numpy, the logs themselves and made-up series."""

from __future__ import annotations

import numpy as np
import pytest

from entlaw.paper import fig8, table1, theory
from entlaw.paper.fig8 import BLOCK, relation
from entlaw.paper.library import NotEnoughRuns, library
from entlaw.runs import reader
from tests.conftest import REPO


def shipped(*names):
    return library([run for name in names for run in reader.read(REPO / "runs" / name)])


def test_correlation_and_slope_are_numpys():
    rng = np.random.default_rng(0)
    runs = [(x := rng.normal(1.0, 1.0, n), 0.5 * x + rng.normal(size=n)) for n in (110, 95)]
    found = relation(runs)
    x, y = (np.concatenate(v) for v in zip(*runs, strict=True))
    assert found.correlation[0] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.slope[0] == pytest.approx(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])
    assert found.steps == 205
    for value, lo, hi in (found.correlation, found.slope, found.around_trend):
        assert lo < value < hi


def test_two_trends_correlate_and_nothing_is_left_around_them():
    """Independent noise on two falling series: a raw correlation near 1 says nothing, and the other one says so."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(60):
        t = np.arange(400)
        x, y = (np.exp(-t / 60) + 0.05 * rng.normal(size=400) for _ in range(2))
        found = relation([(x, y)])
        assert found.correlation[1] > 0.7
        inside += found.around_trend[1] < 0 < found.around_trend[2]
    assert inside >= 50  # of 60, nominal 57


def test_a_true_relation_is_found_around_the_trend():
    rng = np.random.default_rng(2)
    t, shared = np.arange(400), rng.normal(size=400)
    x, y = (np.exp(-t / 60) + 0.1 * (shared + 0.5 * rng.normal(size=400)) for _ in range(2))
    assert relation([(x, y)]).around_trend[1] > 0.5


def test_a_run_of_one_block_has_no_interval():
    x = np.arange(BLOCK + 5.0)
    found = relation([(x, 2 * x)])
    assert found.slope[0] == pytest.approx(2.0) and np.isnan(found.slope[1])


def test_figure_8_is_of_the_log():
    held = shipped("on-policy-m-rl0", "on-policy-m-rl1", "grpo-m-rl0")
    drawn = fig8.draw(held)
    assert drawn.runs == (
        "on-policy-m-rl0",
        "on-policy-m-rl1",
    )  # several updates a rollout are another matter
    x = np.concatenate([r.metrics["cov/mean"].to_numpy() for r in held.runs[:2]])
    y = -np.concatenate([r.metrics["actor/entropy_change"].to_numpy() for r in held.runs[:2]])
    both = np.isfinite(x) & np.isfinite(y)
    assert drawn.findings["correlation tokens, A (Eq. 10)"] == pytest.approx(
        np.corrcoef(x[both], y[both])[0, 1]
    )
    hard = np.concatenate([r.metrics["cov/accuracy_0.125"].dropna() for r in held.runs[:2]])
    assert drawn.findings["covariance 1 of 8 right"] == pytest.approx(hard.mean())
    assert drawn.findings["share of steps below 0, 1 of 8 right"] == pytest.approx((hard < 0).mean())


def test_figure_8_without_an_on_policy_run():
    with pytest.raises(NotEnoughRuns, match="on-policy"):
        fig8.draw(shipped("grpo-m-rl0"))


def test_table_1_is_of_the_first_step_and_of_the_papers_numbers():
    held = shipped("grpo-m-rl0", "grpo-m-rl1", "clip-cov-m-rl0")
    drawn = table1.draw(held)
    assert drawn.runs == ("grpo-m-rl0", "grpo-m-rl1")
    row = drawn.table.set_index("share").loc["Top 2%"]
    first = [r.metrics["cov/top_0.02"].dropna().iloc[0] for r in held.runs[:2]]
    assert row["ours"] == pytest.approx(np.mean(first))
    assert row["standard_error"] == pytest.approx(abs(first[0] - first[1]) / 2)
    assert row["paper"] == 1.385 and row["paper_to_all"] == pytest.approx(1.385 / 0.003)
    assert r"2\%" in drawn.latex and "| Top 2% |" in drawn.markdown


def test_every_statement_of_the_theory_is_of_first_order():
    drawn = theory.draw(library([]))
    orders = {k: v for k, v in drawn.findings.items() if k.startswith("order")}
    assert len(orders) == 4 and all(0.98 < v < 1.02 for v in orders.values())
    # A wrong sign or factor would leave an error that does not shrink.
    smallest = drawn.table[drawn.table["step_size"] == drawn.table["step_size"].min()]
    assert (smallest["error"] < 1e-3).all()
