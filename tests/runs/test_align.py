"""Which entropy belongs to which score."""

import numpy as np
import pandas as pd
import pytest

from entlaw.runs.align import pair


def series(values):
    return pd.Series(list(values.values()), index=pd.Index(list(values), dtype=float), dtype=float)


H = series({t: 1.0 / (t + 1) for t in range(1, 21)})


def test_next_pairs_a_validation_with_the_entropy_of_the_following_step():
    points, findings = pair(H, series({4: 0.3, 8: 0.4}), "next")
    assert points["entropy_step"].tolist() == [5, 9]
    assert points["entropy"].tolist() == [H[5], H[9]]
    assert points["step"].tolist() == [4, 8]
    assert not findings


def test_same_pairs_with_its_own_step_only():
    points, findings = pair(H, series({4: 0.3, 8.5: 0.4}), "same")
    assert points["entropy_step"].tolist() == [4]
    assert [f.code for f in findings] == ["scores-without-entropy"]


def test_pretraining_validation_pairs_with_the_first_entropy_when_steps_start_at_zero():
    zero_based = series({t: 1.0 / (t + 1) for t in range(10)})
    points, _ = pair(zero_based, series({0: 0.1, 4: 0.3}), "next", pretraining_step=0.0)
    assert points["entropy_step"].tolist() == [0, 5]


def test_pretraining_validation_at_zero_with_steps_from_one():
    points, _ = pair(H, series({0: 0.1}), "next", pretraining_step=0.0)
    assert points["entropy_step"].tolist() == [1]


def test_last_validation_has_no_next_entropy_and_is_left_out():
    points, findings = pair(H, series({16: 0.3, 20: 0.4}), "next")
    assert points["step"].tolist() == [16]
    assert "nothing was logged after it" in findings[0].what


def test_entropy_far_after_the_validation_is_not_used():
    sparse = series({1: 1.0, 2: 0.9, 3: 0.8, 50: 0.1, 51: 0.1, 52: 0.1})
    points, findings = pair(sparse, series({10: 0.3, 50: 0.5}), "next")
    assert points["step"].tolist() == [50]
    assert "unpaired-scores" in [f.code for f in findings]


def test_sparse_entropy_is_said():
    _, findings = pair(series({0: 1.0, 5: 0.5, 10: 0.4}), series({5: 0.3}), "next")
    assert [f.code for f in findings] == ["entropy-sparse"]


@pytest.mark.parametrize("align", ["next", "same"])
def test_nothing_to_pair_gives_an_empty_frame(align):
    points, _ = pair(H, pd.Series([np.nan], index=[3.0]), align)
    assert len(points) == 0 and list(points.columns) == ["step", "entropy", "performance", "entropy_step"]


def test_pairing_recovers_the_law_that_shifted_pairing_hides():
    # R after update t follows the law of H(t + 1) exactly; pairing with H(t) must not be exact.
    steps = np.arange(1, 61)
    entropy = pd.Series(0.05 + np.exp(-steps / 10), index=steps.astype(float))
    scores = pd.Series(0.8 - 0.2 * np.exp(entropy.to_numpy()[1:]), index=steps[:-1].astype(float))

    def r_squared(align):
        points, _ = pair(entropy, scores, align)
        x, y = np.exp(points["entropy"]), points["performance"]
        return np.corrcoef(x, y)[0, 1] ** 2

    assert r_squared("next") == pytest.approx(1, abs=1e-12)
    assert r_squared("same") < 1 - 1e-6


def test_a_hole_in_the_entropy_that_moves_a_pair_is_said():
    holed = H.copy()
    holed[5.0] = np.nan
    points, findings = pair(holed, series({4: 0.3, 8: 0.4}), "next")
    assert points["entropy_step"].tolist() == [6, 9]
    assert [(f.code, f.severity, f.value) for f in findings] == [("paired-across-gap", "info", 1.0)]
