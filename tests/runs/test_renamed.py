"""A series whose key was renamed while the run went on is one series, and only then."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw import read
from entlaw.runs.assemble import assemble

RENAMED = [
    ("actor/entropy_loss", "actor/entropy", "critic/score/mean"),
    ("actor/entropy", "train/actor/entropy", "critic/score/mean"),
    ("actor_entropy", "actor/entropy", "critic/score/mean"),
]


def frame(old, new, score, at, n=30, both=0):
    rows = []
    for t in range(n):
        row = {"step": float(t), score: t / 50}
        if t < at + both:
            row[old] = 1 - t / 40
        if t >= at:
            row[new] = 1 - t / 40
        rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("old", "new", "score"), RENAMED)
@pytest.mark.parametrize("both", [0, 1, 5])
def test_a_renamed_entropy_is_one_series(old, new, score, both):
    out = assemble(frame(old, new, score, 10, both=both))
    np.testing.assert_array_equal(out.metrics[new], 1 - np.arange(30) / 40)
    assert out.metrics[old].notna().sum() == 10 + both  # it stays as it was logged
    assert (out.first_row[new] >= 0).all()
    (told,) = [f for f in out.findings if f.code == "key-renamed"]
    assert old in told.what and new in told.what and "step 10" in told.what


def test_a_renamed_score_is_one_series(tmp_path):
    rows = frame("test_score/math", "val/test_score/math", "critic/score/mean", 20, n=40)
    rows["actor/entropy"] = 1 - rows["step"] / 60
    path = tmp_path / "log.csv"
    rows.to_csv(path, index=False)
    from entlaw import Selection

    (run,) = read(path, Selection(on="val/test_score/math"))
    assert len(run.metrics["val/test_score/math"].dropna()) == 40
    assert "key-renamed" in {f.code for f in run.findings}


REWARDS = [
    ("reward", "reward/mean"),
    ("train/reward", "mean_reward"),
    ("rewards/accuracy_reward", "rewards/accuracy_reward/mean"),
    ("train/rewards/accuracy_reward/mean", "rewards/accuracy_reward"),
]


@pytest.mark.parametrize(("old", "new"), REWARDS)
def test_a_reward_of_another_spelling_goes_on(old, new):
    out = assemble(frame(old, new, "other", 14))
    np.testing.assert_array_equal(out.metrics[new], 1 - np.arange(30) / 40)
    assert [f.code for f in out.findings].count("key-renamed") == 1


@pytest.mark.parametrize(("old", "new"), REWARDS)
def test_rewards_that_were_logged_together_or_far_apart_are_two(old, new):
    late = frame(old, new, "other", 14)
    late.loc[14:20, new] = np.nan
    for rows in (frame(old, new, "other", 14, both=1), late):
        before = rows[new].notna().sum()
        out = assemble(rows)
        assert out.metrics[new].notna().sum() == before
        assert "key-renamed" not in [f.code for f in out.findings]


def test_a_reward_that_was_renamed_twice_is_one_series():
    rows = frame("reward", "train/reward", "other", 10)
    rows["reward/mean"] = rows["train/reward"].where(rows["step"] >= 20)
    rows["train/reward"] = rows["train/reward"].where(rows["step"] < 20)
    out = assemble(rows)
    np.testing.assert_array_equal(out.metrics["reward/mean"], 1 - np.arange(30) / 40)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("reward", "eval/reward"),
        ("reward", "rewards/accuracy/mean"),
        ("rewards/accuracy", "rewards/format/mean"),
        ("eval/rewards/accuracy", "rewards/accuracy/mean"),
        ("entropy/math/mean", "entropy/code/mean"),  # two environments
        ("entropy", "rollout/entropy"),  # two trainers' names
        ("rewards/format/mean", "rewards/accuracy/mean"),  # two terms
        ("critic/score/mean", "critic/rewards/mean"),  # with and without penalties
        ("actor/entropy", "timing/entropy"),
    ],
)
def test_two_things_are_never_joined(old, new):
    out = assemble(frame(old, new, "other", 10))
    assert out.metrics[new].notna().sum() == 20
    assert "key-renamed" not in [f.code for f in out.findings]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 29), st.integers(0, 29), st.sampled_from([0.0, 0.1, -0.3]))
def test_series_that_overlap_are_joined_only_where_they_are_equal(first, last, shift):
    rows = frame("actor/entropy_loss", "actor/entropy", "critic/score/mean", 0)
    rows["actor/entropy"] = (1 - rows["step"] / 40).where(rows["step"] >= first)
    rows["actor/entropy_loss"] = (1 - rows["step"] / 40 + shift).where(rows["step"] <= last)
    out = assemble(rows)
    told = [f for f in out.findings if f.code == "key-renamed"]
    values = out.metrics["actor/entropy"]
    if last >= first and shift:
        assert not told
    if told:
        assert values.notna().sum() == 30 - max(first - last - 1, 0)
        assert ((values + values.index / 40 - 1)[first:].abs() < 1e-12).all()
    else:
        assert values.notna().sum() == 30 - first
