"""Stop rules: what they mean, and that what cannot be read is said where it stands."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UsageError
from entlaw.watch.rule import FORECAST, parse_rule

KNOWN = {"entropy": 0.2, "performance": 0.5, "step": 40.0}


def asked(**chances):
    """P(quantity > value), whatever the value."""
    return lambda quantity, value: chances.get(quantity)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("P(gain > 1%) < 0.05", True),
        ("P(gain > 1%) < 4%", True),
        ("p( GAIN>0.01 )<.04", True),
        ("P(gain > 1%) < 0.03", False),
        ("P(gain < 1%) > 0.95", True),
        ("P(gain <= 1%) >= 0.97", True),
        ("P(final > 40%) > 0.5", True),
        ("P(ceiling > 0.4) > 0.5", None),
        ("entropy < 0.3", True),
        ("entropy < 0.2", False),
        ("entropy <= 0.2", True),
        ("step > 50 or entropy < 0.3", True),
        ("step > 50 and P(ceiling > 0.4) > 0.5", False),  # one False decides, whatever the other
        ("step > 30 and P(ceiling > 0.4) > 0.5", None),
        ("step > 30 or P(ceiling > 0.4) > 0.5", True),
        ("step > 50 or P(ceiling > 0.4) > 0.5", None),
        ("step > 30 or step > 50 and step > 60", True),  # "and" binds closer
        ("(step > 30 or step > 50) and step > 60", False),
        ("performance >= 50%", True),
    ],
)
def test_what_rules_mean(text, holds):
    assert parse_rule(text).ask(asked(gain=0.03, final=0.9), KNOWN).holds is holds


def test_the_value_that_is_asked_for_and_the_probability_that_is_shown():
    seen = []

    def ask(quantity, value):
        seen.append((quantity, value))
        return 0.25

    answer = parse_rule("P(gain > 1.5%) < 0.05 or P(final < target) > 0.7", target=0.6).ask(ask, KNOWN)
    assert seen == [("gain", pytest.approx(0.015)), ("final", 0.6)]
    assert answer.holds is True and answer.probability == 0.25  # P(final < 0.6) is 0.75


@pytest.mark.parametrize(
    ("text", "says", "column"),
    [
        ("", "empty", 0),
        ("gain > 1%", "only its probability", 0),
        ("P(entropy < 1) > 0.5", "not of entropy", 2),
        ("P(gain > 1%) < 5", "between 0 and 1", 15),
        ("P(gain > 1%)", "ends where a comparison", 12),
        ("P(gain 1%) < 0.05", "comparison", 7),
        ("P(gain > ) < 0.05", "number is missing", 9),
        ("P(gain > 1% < 0.05", "')' is missing", 12),
        ("P(gain > target) < 0.05", "no target", 9),
        ("loss < 3", "no quantity 'loss'", 0),
        ("entropy < 0.3 entropy", "should end here", 14),
        ("entropy < 0.3 and", "ends where", 17),
        ("entropy $ 0.3", "'$' has no meaning", 8),
        ("(entropy < 0.3", "')' is missing", 14),
    ],
)
def test_what_cannot_be_read_is_said_where_it_stands(text, says, column):
    with pytest.raises(UsageError) as caught:
        parse_rule(text)
    assert says in caught.value.what
    shown, caret = caught.value.why.split("\n")
    assert shown == text and caret.index("^") - 8 == column


numbers = st.floats(0, 1, allow_nan=False).map(lambda x: round(x, 6))
terms = st.one_of(
    st.tuples(st.sampled_from(FORECAST), numbers, numbers).map(lambda t: f"P({t[0]} > {t[1]}) < {t[2]}"),
    st.tuples(st.sampled_from(sorted(KNOWN)), numbers).map(lambda t: f"{t[0]} < {t[1]}"),
)
rules = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]} and {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} or {p[1]})"),
    ),
    max_leaves=6,
)


@given(rules, st.dictionaries(st.sampled_from(FORECAST), st.floats(0, 1), max_size=3))
@settings(deadline=None, max_examples=80)
def test_any_rule_means_what_python_makes_of_it(text, chances):
    """With all probabilities known a rule is a Python expression."""
    chances = {name: chances.get(name, 0.5) for name in FORECAST}
    python = text
    for name in FORECAST:
        import re

        python = re.sub(rf"P\({name} > [^)]*\)", repr(chances[name]), python)
    assert parse_rule(text).ask(lambda q, v: chances[q], KNOWN).holds == eval(python, {}, dict(KNOWN))


@given(st.text(alphabet="P()gainfl <>=%.0123456789orandtgeypu", max_size=40))
@settings(deadline=None, max_examples=150)
def test_any_text_is_a_rule_or_a_message(text):
    try:
        parse_rule(text)
    except UsageError as error:
        assert error.what and "^" in (error.why or "")
