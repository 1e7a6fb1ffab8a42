"""Rows pulled in parts are the rows of one pull; a history that has changed behind us is noticed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.runs.wandb.stored import grown, joined, last_step, ordered

values = st.floats(allow_nan=False, width=64)
histories = st.lists(
    st.tuples(st.integers(1, 4), st.dictionaries(st.sampled_from("abcde"), values, max_size=4)),
    min_size=2,
    max_size=20,
)


def frame(rows: list[dict[str, float]]) -> pd.DataFrame:
    return ordered(pd.DataFrame(rows, dtype=float))


def history(gaps: list[tuple[int, dict[str, float]]]) -> list[dict[str, float]]:
    steps = np.cumsum([gap for gap, _ in gaps])
    return [{"_step": float(s), **row} for s, (_, row) in zip(steps, gaps, strict=True)]


@settings(deadline=None, max_examples=100)
@given(histories, st.data())
def test_any_schedule_gives_what_one_pull_gives(gaps, data):
    rows = history(gaps)
    cuts = data.draw(st.lists(st.integers(1, len(rows)), max_size=6).map(sorted))
    have = None
    for cut in [*cuts, len(rows)]:
        seen = rows[:cut]
        # The row that is being written may be seen without its last keys.
        part = data.draw(st.integers(0, len(seen[-1]))) if cut < len(rows) else None
        if part is not None:
            seen = [*seen[:-1], {"_step": seen[-1]["_step"], **dict(list(seen[-1].items())[: part + 1])}]
        if have is None or seen[-1]["_step"] < last_step(have):
            have = frame(seen)
            continue
        got = grown(have, frame([r for r in seen if r["_step"] >= last_step(have)]))
        have = frame(seen) if got is None else got
    pd.testing.assert_frame_equal(have, frame(rows), check_exact=True)


def test_only_rows_that_were_not_there_are_needed():
    rows = history([(1, {"a": float(i)}) for i in range(10)])
    got = grown(frame(rows[:6]), frame(rows[5:]))
    pd.testing.assert_frame_equal(got, frame(rows), check_exact=True)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(
            [{"_step": 4.0, "a": 4.5}, {"_step": 5.0, "a": 5.0}], id="another value in the last known row"
        ),
        pytest.param([{"_step": 4.0, "b": 4.0}, {"_step": 5.0, "a": 5.0}], id="another key"),
        pytest.param([{"_step": 5.0, "a": 5.0}], id="the last known row is gone"),
        pytest.param([], id="the run is shorter than it was"),
        pytest.param([{"_step": 3.0, "a": 3.0}, {"_step": 4.0, "a": 4.0}], id="more than was asked for"),
        pytest.param([{"_step": 4.0, "a": 4.0}, {"_step": 4.0, "a": 4.0}], id="twice"),
    ],
)
def test_a_history_that_changed_behind_us_has_to_be_fetched_anew(now):
    known = frame([{"_step": float(i), "a": float(i)} for i in range(5)])
    assert grown(known, pd.DataFrame(now, dtype=float)) is None


def test_the_last_row_may_gain_keys():
    known = frame([{"_step": 0.0, "a": 0.0}, {"_step": 1.0, "a": 1.0}])
    got = grown(known, frame([{"_step": 1.0, "a": 1.0, "b": 7.0}]))
    assert got["b"].tolist()[1] == 7.0 and len(got) == 2


@settings(deadline=None, max_examples=100)
@given(histories, st.sets(st.sampled_from("abcde")))
def test_keys_fetched_later_are_put_beside(gaps, late):
    rows = history(gaps)
    whole = frame(rows)
    part = [{k: v for k, v in r.items() if k not in late} for r in rows]
    part = [r for r in part if len(r) > 1]  # a row of which no key was asked for is not sent
    more = [{k: v for k, v in r.items() if k in late or k == "_step"} for r in rows]
    more = [r for r in more if len(r) > 1]
    expected = whole[whole.drop(columns="_step").notna().any(axis=1)].reset_index(drop=True)
    if not part or not more:
        return
    got = joined(frame(part), frame(more))
    pd.testing.assert_frame_equal(got, ordered(expected), check_exact=True)


def test_the_order_of_columns_is_that_of_appearance_whatever_the_server_sends():
    rows = pd.DataFrame({"z": [np.nan, 1.0], "b": [1.0, np.nan], "_step": [0.0, 1.0], "a": [2.0, np.nan]})
    assert list(ordered(rows).columns) == ["_step", "a", "b", "z"]
