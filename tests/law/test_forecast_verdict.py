"""The forecast's verdict: the odds decide, from 8 points on, and only of a run that is not refused."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.findings import Finding
from entlaw.law.ahead import LIKELY, judge
from entlaw.limits import FEW_POINTS


def judged(p, *findings, n=FEW_POINTS):
    """The verdict at a chance of gaining more than a point; None where that is not known."""
    gain = None if p is None else SimpleNamespace(to_step=80.0, amount="1 point", probability_above=lambda: p)
    return judge(SimpleNamespace(points=SimpleNamespace(n=n), findings=findings), gain)


def error(code, severity="error"):
    return Finding(code, severity, f"it is {code}")


@given(st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_the_odds_decide(p):
    verdict, why = judged(p)
    assert verdict == ("improving" if p >= LIKELY else "plateau" if p <= 1.0 - LIKELY else "uncertain")
    assert f"{p:.2f} by step 80" in why


@pytest.mark.parametrize("code", ["entropy-rising", "entropy-exploded", "mixed-units", "starts-late"])
def test_an_error_refuses_whatever_the_odds_and_a_warning_does_not(code):
    assert judged(0.99, error("too-few-evaluations"), error(code)) == ("refused", f"it is {code}")
    assert judged(None, error(code), n=2) == ("refused", f"it is {code}")
    assert judged(0.99, error(code, "warning"))[0] == "improving"


def test_too_few_points_leave_it_open():
    assert judged(0.99, n=FEW_POINTS - 1)[0] == "uncertain"
    assert judged(None, error("too-few-evaluations"), n=2) == (
        "uncertain",
        "2 points so far, and a forecast wants 8",
    )
