"""Real public logs, as published: read by content with no option, equal to an independent reading."""

import json

import numpy as np
import pandas as pd
import pytest

from entlaw import read
from tests.conftest import SHARED, needs_shared

pytestmark = needs_shared


def pairs():
    for meta in sorted(SHARED.glob("*/meta.json")):
        told = json.loads(meta.read_text())
        for entry in told if isinstance(told, list) else [told]:
            yield pytest.param(
                meta.parent / entry["raw"],
                meta.parent / entry["csv"],
                id=f"{meta.parent.name}-{entry['csv']}",
            )


@pytest.mark.parametrize("raw, csv", list(pairs()))
def test_equals_the_independent_reading(raw, csv):
    (run,) = read(raw)
    want = pd.read_csv(csv).set_index("step")
    for column, series in (
        ("entropy", run.metrics[run.entropy.key]),
        ("performance", run.metrics[run.performance_key] * run.performance_scale),
    ):
        theirs, ours = want[column].dropna(), series.dropna()
        assert ours.index.tolist() == theirs.index.tolist()
        np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("raw, csv", list(pairs()))
def test_next_pairing_equals_the_entropy_logged_one_step_later(raw, csv):
    from entlaw import Selection

    (run,) = read(raw, Selection(align="next"))
    want = pd.read_csv(csv).set_index("step")
    after = want["entropy_next"].dropna()
    inside = run.points[
        run.points["step"].isin(after.index) & (run.points["entropy_step"] > run.points["step"])
    ]
    if len(after):  # logs of every 5th or 10th step have no entropy one step later
        assert len(inside) > 0
        np.testing.assert_allclose(inside["entropy"], after[inside["step"]], rtol=0, atol=1e-12)
