"""Finding answers in text, exact numbers, lists; against Python's own arithmetic and by hand-made cases."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.tasks.answers import box_last, boxes, canonical, final_answer, last_box, one_box, thought
from entlaw.tasks.quantities import decide, items, quantity

integers = st.integers(-(10**30), 10**30)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so $\boxed{\frac{1}{2}}$ it is", r"\frac{1}{2}"),
        (r"first \boxed{1}, then much else that is long enough, and in the end \boxed{2}", "2"),
        (r"$\boxed{1}$ and $\boxed{3}$", "1, 3"),
        (r"\boxed{a \{ b \} {c}}", r"a \{ b \} {c}"),
        (r"\fbox{7}", "7"),
        (r"\boxed 5", "5"),
        (r"\boxed{\text{east}}", r"\text{east}"),
        ("... 72 clips\n#### 1,234", "1,234"),
        ("The answer is $x^2$.", "x^2"),
        ("the final answer is **5**.", "5"),
        ("**Answer:** 3.5", "3.5"),
        ("answer: 12 apples", "12 apples"),
        ("There are 3 of 10 - 3 = -7 left", "-7"),
        ("see 10-3", "3"),
        ("it is 1,234.5 or so", "1,234.5"),
        ("no number", None),
        ("", None),
        (r"\boxed{}", None),
    ],
)
def test_final_answer(response, answer):
    assert final_answer(response, "any") == answer


@pytest.mark.parametrize("response", ["#### 5", "The answer is 5", "5", r"\boxed{5"])
def test_only_a_complete_box_counts_where_a_box_is_asked_for(response):
    assert final_answer(response, "boxed") is None


def test_a_box_that_never_closes_hides_none_behind_it():
    assert last_box(r"\boxed{1 and then \boxed{2}") == "2"


ATTACKS = [
    "\\boxed{" * 20_000,
    "{" * 100_000,
    "\\boxed{1}," * 20_000,
    "1," * 100_000,
    "answer is " * 20_000,
    "-" * 100_000,
    "$" * 99_999,
    "\\" * 99_999,
    " " * 100_000,
    "\\frac{" * 300,
    "(" * 1999,
    "1 " * 999,
    "\\text{" * 300,
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_takes_no_longer_than_long_text(attack):
    start = time.process_time()
    found = final_answer(attack, "any")
    decide("1", found or "1,1")
    decide("1,1", attack[:2000])
    assert time.process_time() - start < 5


@given(integers, st.integers(1, 10**12))
def test_fractions_are_exact(top, bottom):
    sign, size = ("-" if top < 0 else ""), abs(top)
    want = Fraction(top, bottom)
    for text in (
        rf"{sign}\frac{{{size}}}{{{bottom}}}",
        f"{sign}{size}/{bottom}",
        rf"${sign}\dfrac{{{size}}}{{{bottom}}}$",
    ):
        found = quantity(text)
        assert found is not None and found.value == want


@given(st.decimals(-(10**12), 10**12, allow_nan=False, places=4))
def test_decimals_and_thousands_are_exact(number):
    assert quantity(f"{number:,}").value == Fraction(number)
    assert quantity(f"{number:f}").value == Fraction(number)


@given(st.integers(1, 9999), st.integers(-300, 300))
def test_scientific_notation(mantissa, exponent):
    want = Fraction(mantissa) * Fraction(10) ** exponent
    for text in (
        f"{mantissa}e{exponent}",
        rf"{mantissa} \times 10^{{{exponent}}}",
        rf"{mantissa}\cdot10^{{{exponent}}}",
    ):
        assert quantity(text).value == want


@pytest.mark.parametrize(
    "text",
    [
        "5x",
        r"3\pi",
        r"\sqrt{2}",
        "x",
        "",
        "1, 2",
        "5 mod 7",
        "1e999999999",
        "2^{10}",
        "10^{10^{10}}",
        "3 and 4",
        "1+1",
        "7 to 9",
    ],
)
def test_what_is_no_number(text):
    assert quantity(text) is None


@given(integers, integers)
def test_integers_are_the_same_only_if_they_are(a, b):
    assert decide(str(a), str(b)) == (a == b)
    assert decide(f"{a:,}", str(a)) is True


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("0.5", r"\frac12", True),
        ("1/3", "0.333", True),
        ("1/3", "0.334", False),
        ("1/3", "0.33", False),  # two digits are a guess
        ("1/2", "0.501", False),
        ("123456789", "123456788", False),
        ("1e-9", "2e-9", False),
        (r"50\%", "50", True),
        (r"50\%", "0.5", True),
        ("0.5", r"50\%", True),
        (r"50\%", "5000", False),
        (r"5 \text{ cm}", "5", True),
        (r"5 \text{ cm}", "5 m", None),
        (r"5 \text{ cm}", r"5\text{ m}", False),
        (r"15\mbox{ cm}^2", r"15\mbox{ cm}^3", False),
        ("5 apples", "5 pears", True),  # a thing counted: the question said which
        ("$18.90", "18.9", True),
        (r"45^\circ", "45", True),
        (r"2\frac{1}{3}", "7/3", True),
        ("073", "73", True),
        ("073", r"\textbf{(073) }", True),
        ("x = 5", "5", True),
        ("x = 5", "y = 5", None),
        (r"\text{(A)}", "A", True),
        ("2677_9", "2677_3", False),
        ("2677_9", "2677_{9}", True),
        ("1,3,5", r"\{5, 3, 1\}", True),
        ("1,3,5", "1,3", False),
        ("1,3", "1,3,5", False),
        ("1,1,2", "1,2,2", False),
        ("(1,2)", "(2,1)", False),
        ("(1,2)", r"\left(1,\; 2\right)", True),
        ("[0,1)", "[0,1]", None),
        ("27,54,108", "27, 54, 108", True),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 3 \end{pmatrix}", r"\begin{pmatrix}1&0\\0&3\end{pmatrix}", True),
        (r"\begin{pmatrix} 1 & 0 \\ 0 & 3 \end{pmatrix}", r"\begin{pmatrix}1&3\\0&3\end{pmatrix}", False),
        (r"\frac \pi4 + 2", r"\dfrac{\pi}{4}+2", True),
        ("x^2 + 1", "1 + x^2", None),
    ],
)
def test_decide(gold, answer, right):
    assert decide(gold, answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [("1.571", True), ("1.64", True), ("1.66", False), ("2", False), ("1.5", False), ("1.6", True)],
)
def test_a_measured_reference_takes_finer_answers(answer, right):
    assert decide("1.6", answer, rounded=True) is right
    assert decide("1.6", answer) is (answer == "1.6")


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms())
@settings(deadline=None)
def test_a_bare_list_has_no_order_and_a_tuple_has(numbers, random):
    shuffled = numbers[:]
    random.shuffle(shuffled)
    bare, other = ", ".join(map(str, numbers)), ", ".join(map(str, shuffled))
    assert decide(bare, other) is True
    assert decide(f"({bare})", f"({other})") is (numbers == shuffled)


def test_items_keep_what_brackets_enclose():
    assert items(r"(1, 2), (3, \frac{4}{5})").parts == ("(1, 2)", r"(3, \frac{4}{5})")
    assert items("1,234, 5,678").parts == ("1,234", "5,678")
    assert items(r"69$,$84").parts == ("69", "84")
    assert items("f(x, y)") is None


@given(st.text(max_size=60))
@settings(deadline=None)
def test_any_text_is_the_same_as_itself_and_breaks_nothing(text):
    if canonical(text):
        assert decide(text, text) is True
    final_answer(text)
    boxes(text)
    decide("1", text)


def test_format_rewards():
    assert (
        one_box(r"so \boxed{1}") == 1
        and one_box(r"\boxed{1} or \boxed{2}") == 0
        and one_box("1") == 0
        and one_box(r"\boxed{}") == 0
    )
    assert box_last(r"so \boxed{1}.") == 1 and box_last(r"\boxed{1}" + "x" * 200) == 0
    assert thought("<think>a</think>b") == 1
    for bad in (
        "a",
        "<think>a",
        "<think>a</think>",
        "b<think>a</think>b",
        "<think>a</think><think>a</think>b",
    ):
        assert thought(bad) == 0
