"""Passes over the steps of a log, against a slow and plain way to find them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.runs.passes import count_clashes, other_runs, segments, stitch

NONE = np.nan
ROWS = st.lists(
    st.tuples(st.integers(0, 6), *[st.sampled_from([NONE, 1.0, 2.0, 3.5])] * 3), min_size=1, max_size=50
)
ASIDE = np.array([False, False, True])


def table(rows):
    array = np.array(rows, dtype=float)
    return array[:, 0], array[:, 1:]


def plain_segments(step, data):
    """Row after row: the steps of each key so far, and whether one of them goes back."""
    cuts, seen, start = [], {}, 0
    for i, s in enumerate(step):
        keys = [k for k in (0, 1) if not np.isnan(data[i, k])]
        late = seen and s < max(max(steps) for steps in seen.values())
        if late and any(s <= t for k in keys for t in seen.get(k, [])):
            cuts.append((start, i))
            start, seen = i, {}
        for k in (*keys, "row"):
            seen.setdefault(k, []).append(s)
    return [*cuts, (start, len(step))]


@settings(deadline=None, max_examples=150)
@given(ROWS)
def test_segments_and_clashes_equal_the_plain_way(rows):
    step, data = table(rows)
    cuts = segments(step, data, ASIDE)
    assert cuts == plain_segments(step, data)
    clashes = 0
    for a, b in cuts:
        latest = {}
        for i in range(a, b):
            for k in (0, 1):
                if not np.isnan(data[i, k]):
                    clashes += latest.get((step[i], k), data[i, k]) != data[i, k]
                    latest[step[i], k] = data[i, k]
    assert count_clashes(step, data, ASIDE, cuts) == clashes


@settings(deadline=None, max_examples=150)
@given(ROWS)
def test_the_last_pass_over_a_step_counts_whole(rows):
    step, data = table(rows)
    cuts = segments(step, data, ASIDE)
    kept, findings = stitch(step, data, ASIDE, cuts)
    a, b = cuts[-1]
    assert set(range(a, b)) <= set(kept) and len(findings) == len(cuts) - 1
    assert len(set(kept)) == len(kept)
    dropped = set(range(len(step))) - set(kept)
    for row in dropped:  # only what a later pass went over, or had gone back before
        assert any(step[a:b].min() <= step[row] for a, b in cuts if a > row)


def test_passes_that_start_over_are_runs_where_they_are_long_and_differ():
    step = np.array([1, 2, 3, 4, 1, 2, 3, 3, 4, 5, 1, 2, 3], dtype=float)
    cuts = [(0, 4), (4, 7), (7, 10), (10, 13)]
    values = np.stack([10.0 + np.arange(13), 0.5 * np.arange(13), np.zeros(13)], axis=1)
    assert other_runs(step, values, ASIDE, cuts) == [4, 10]  # the third goes on from the second
    values[10:] = values[[4, 5, 7]]
    values[10:, 2] = 7.0  # a clock
    assert other_runs(step, values, ASIDE, cuts) == [
        4
    ]  # the last repeats what is left of the second and third
    values[12, 0] += 1.0
    assert other_runs(step, values, ASIDE, cuts) == [4, 10]


def test_a_pass_that_repeats_another_lends_what_the_other_lacks():
    step = np.array([1, 2, 3, 4, 1, 2, 3], dtype=float)
    values = np.array(
        [[1, 9, 5], [2, NONE, 5], [3, 8, 5], [4, 7, 5], [1, 9, 6], [2, 6, 6], [3, 8, 6]], dtype=float
    )
    kept, findings = stitch(step, values, ASIDE, [(0, 4), (4, 7)])
    assert sorted(kept) == list(range(7)) and [f.code for f in findings] == ["repeated-pass"]
