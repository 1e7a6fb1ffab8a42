"""Batched fits equal single fits; the bootstrap equals refitting."""

import numpy as np
import pytest

from entlaw.law.batch import bootstrap_ceilings, fit_many, percentile_intervals, residual_indices
from entlaw.law.fit import fit_points
from entlaw.points import Points
from tests.law.common import law_arrays


def runs(n_runs=6, n=10):
    step, h, _ = law_arrays(n=n)
    r = np.stack([law_arrays(n=n, noise=0.03, seed=s)[2] for s in range(n_runs)])
    return step, np.broadcast_to(np.exp(h), r.shape), r


def test_many_equal_one_by_one():
    step, x, y = runs()
    batch = fit_many(x.reshape(2, 3, -1), y.reshape(2, 3, -1))
    assert batch.a.shape == (2, 3) and batch.residual.shape == (2, 3, 10)
    for k in range(6):
        one = fit_points(Points.from_arrays(step, np.log(x[k]), y[k]), method="paper")
        at = np.unravel_index(k, (2, 3))
        assert (batch.a[at], batch.b[at], batch.ceiling[at]) == pytest.approx(
            (one.a, one.b, one.ceiling), abs=1e-12
        )
        c = np.array([-1.0, 1.0])
        assert batch.ceiling_se[at] == pytest.approx(np.sqrt(c @ one.covariance @ c), rel=1e-9)
        assert batch.r_squared[at] == pytest.approx(one.r_squared, abs=1e-12)
        assert batch.ceiling_weight[at] @ y[k] == pytest.approx(one.ceiling, abs=1e-12)


def test_a_bad_run_spoils_no_other():
    _, x, y = runs()
    x, y = x.copy(), y.copy()
    good = fit_many(x, y).ceiling
    x[1], y[2, 3] = 2.0, np.nan
    got = fit_many(x, y).ceiling
    assert np.isnan(got[[1, 2]]).all()
    np.testing.assert_array_equal(got[[0, 3, 4, 5]], good[[0, 3, 4, 5]])


@pytest.mark.parametrize("block", [1, 3])
def test_bootstrap_equals_refitting(block):
    _, x, y = runs(3)
    batch = fit_many(x, y)
    indices = residual_indices(10, 50, np.random.default_rng(0), block=block)
    mine = bootstrap_ceilings(batch, indices)
    assert mine.shape == (3, 50)
    for k in range(3):
        for i, index in enumerate(indices):
            slope, intercept = np.polyfit(x[k], y[k] - batch.residual[k] + batch.residual[k][index], 1)
            assert mine[k, i] == pytest.approx(intercept + slope, abs=1e-10)


def test_slicing_changes_nothing(monkeypatch):
    _, x, y = runs()
    batch, indices = fit_many(x, y), residual_indices(10, 40, np.random.default_rng(1))
    whole = bootstrap_ceilings(batch, indices)
    monkeypatch.setattr("entlaw.law.batch._SLICE", 41)
    np.testing.assert_array_equal(bootstrap_ceilings(batch, indices), whole)


def test_blocks_move_together_and_wrap():
    indices = residual_indices(10, 200, np.random.default_rng(2), block=4)
    assert indices.shape == (200, 10) and indices.min() == 0 and indices.max() == 9
    steps = np.diff(indices, axis=1) % 10
    assert np.all(steps[:, [0, 1, 2, 4, 5, 6]] == 1)


def test_percentiles():
    ceilings = np.arange(101.0).reshape(1, -1) / 100
    np.testing.assert_allclose(percentile_intervals(ceilings, 0.9), [[0.05, 0.95]])
