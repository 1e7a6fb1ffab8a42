"""Back-tests: nothing is seen early, sources count alike, and the arithmetic is what it says."""

import numpy as np
import pandas as pd
import pytest

from entlaw.law.backtest import (
    COLUMNS,
    OUTLOOK,
    PAPER_GIVEN,
    Plan,
    answered_only,
    backtest,
    origins_of,
    shares_answered,
    table,
)
from entlaw.law.rivals import LAST_VALUE, RIVALS
from entlaw.points import Points

from .common import law_arrays


def made(seed=0, n=25, source="a", **more) -> Points:
    t, h, r = law_arrays(n=n, seed=seed, **more)
    return Points.from_arrays(t, h, r, name=f"run{seed}", source=source)


def test_every_forecaster_is_scored_at_every_origin_and_horizon():
    rows = backtest([made(0), made(1)])
    assert list(rows.columns) == list(COLUMNS)
    names = {OUTLOOK, PAPER_GIVEN, *RIVALS}
    assert set(rows["forecaster"]) == names
    scored = rows[rows["crps"].notna()]
    count = scored.groupby(["run", "step", "horizon"])["forecaster"].nunique()
    assert (count == len(names)).all() and set(scored["horizon"]) == {"halfway", "end"}
    assert (scored["target"] > scored["step"]).all() and (scored["ratio"] > 1).all()


def test_a_forecast_does_not_depend_on_what_came_later():
    whole = made(3)
    step = whole.step
    late = step > 40
    other = Points.from_arrays(
        step,
        np.where(late, 0.9, whole.entropy),
        np.where(late, 0.1, whole.score),
        name="run3",
        source="a",
    )
    plan = Plan(origins=(), origin_steps=(40.0,))
    a, b = (backtest([h], plan).query("forecaster != @PAPER_GIVEN") for h in (whole, other))
    assert a["median"].tolist() == b["median"].tolist()
    assert a["answered"].tolist() == b["answered"].tolist()
    assert a["fell"].all() and not b["fell"].any()  # judged in hindsight, and only that


def test_the_row_of_the_last_value_can_be_worked_out_by_hand():
    h = made(5)
    rows = backtest([h], Plan(origins=(0.5,), origin_steps=()))
    row = rows[(rows["forecaster"] == LAST_VALUE.name) & (rows["horizon"] == "end")].iloc[0]
    past = h.until(h.step[0] + 0.5 * (h.step[-1] - h.step[0]))
    forecast = LAST_VALUE.forecast(past, h.step[-1])
    truth = h.score[-1]
    assert row["measured"] == truth and row["median"] == pytest.approx(past.score[-1])
    assert row["crps"] == pytest.approx(forecast.crps(truth))
    i = forecast.interval(0.8)
    assert row["in80"] == float(i.lo <= truth <= i.hi) and row["width80"] == pytest.approx(i.width)


def test_few_points_are_refusals_not_scores():
    rows = backtest([made(0, n=25)], Plan(origins=(0.05,), origin_steps=()))
    assert set(rows["forecaster"]) == {OUTLOOK} and rows["crps"].isna().all()
    assert not rows["answered"].any() and "too-few-evaluations" in rows["codes"].iloc[0]
    assert shares_answered(rows).tolist() == [0.0]


def test_origins_see_something_new_and_leave_something_over():
    h = made(0, n=10)  # steps 0, 4, ... 36
    found = origins_of(h, Plan(origins=(0.1, 0.11, 0.5, 0.95, 1.0), origin_steps=(36.0,)))
    assert found == pytest.approx(
        [3.6, 18.0]
    )  # 3.96 sees no other points than 3.6; after 32.4 little is left
    assert origins_of(Points.from_arrays([1.0], [0.5], [0.5]), Plan()) == []


def test_sources_count_alike_however_many_runs_they_have():
    rows = []
    for source, run, crps in [("a", "1", 0.1), ("a", "2", 0.3), ("b", "1", 0.6)]:
        for who, factor in [(OUTLOOK, 1.0), (LAST_VALUE.name, 2.0)]:
            rows.append(
                {
                    "source": source,
                    "run": run,
                    "forecaster": who,
                    "crps": factor * crps,
                    "measured": 0.5,
                    "median": 0.5 + crps,
                    "answered": True,
                }
                | {f"in{p}": 1.0 for p in (50, 80, 95)}
                | {f"width{p}": 0.1 for p in (50, 80, 95)}
            )
    rows += [rows[0]] * 10  # forecasts of one run do not add up either
    result = table(pd.DataFrame(rows))
    assert result.loc[OUTLOOK, "crps"] == pytest.approx((0.2 + 0.6) / 2)
    assert result.loc[OUTLOOK, "skill"] == pytest.approx(0.5)
    assert result.loc[LAST_VALUE.name, "skill"] == pytest.approx(0.0)
    assert result.loc[OUTLOOK, "rmse"] == pytest.approx(np.sqrt(((0.01 + 0.09) / 2 + 0.36) / 2))


def test_tables_break_down():
    rows = backtest([made(0), made(1, source="b")])
    by = table(answered_only(rows), ["horizon"])
    assert set(by.index.get_level_values("horizon")) == {"halfway", "end"}
    assert (by["sources"] == 2).all()
    assert set(table(rows, ["source"]).index.get_level_values("source")) == {"a", "b"}
    by_run = table(rows, ["run"]).xs(OUTLOOK, level="forecaster")
    for run, scores in by_run.iterrows():
        alone = table(rows[rows["run"] == run]).loc[OUTLOOK]
        pd.testing.assert_series_equal(scores, alone, check_names=False)


def test_two_processes_say_what_one_says():
    histories = [made(i) for i in range(3)]
    plan = Plan(origins=(0.4,), origin_steps=())
    pd.testing.assert_frame_equal(backtest(histories, plan), backtest(histories, plan, workers=2))


def test_on_runs_that_obey_the_law_the_outlook_beats_staying():
    rows = backtest(
        [made(i, n=40, noise=0.01) for i in range(12)], Plan(origins=(0.15, 0.3), origin_steps=())
    )
    result = table(answered_only(rows))
    assert result.loc[OUTLOOK, "skill"] > 0.3
    assert result.loc[OUTLOOK, "cover95"] > 0.85
