"""The procedural task: right answers, disjoint parts, a stream that can be entered anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entlaw.tasks import Problem
from entlaw.tasks.arithmetic import Arithmetic, is_held_out, results

TASK = Arithmetic()


def left_to_right(prompt: str) -> int:
    """The same by Python's own expressions, one operation at a time."""
    forms = {"|": "abs({a}-{b})", "^": "{a}**{b}", "&": "{a}**2+{b}"}
    value = int(prompt[0])
    for sign, digit in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        form = forms.get(sign, "{a}" + sign + "{b}")
        value = eval(form.format(a=value, b=digit)) % 10
    return value


@given(seed=st.integers(0, 10_000), held_out=st.booleans())
def test_answers_are_right_and_the_parts_are_kept(seed, held_out):
    problem = TASK.draw(np.random.default_rng(seed), held_out)
    assert int(problem.answer) == left_to_right(problem.prompt)
    assert len(list(results(problem.prompt))) == int(problem.level)
    assert is_held_out(problem.prompt) == held_out


def test_the_worked_example():
    assert list(results("3+5*2-7=")) == [8, 6, 9]
    assert list(results("3|5&4^2=")) == [2, 8, 4]


def test_training_and_validation_never_meet():
    training = {p.prompt for p in TASK.training(0, 0, 3000)}
    validation = {p.prompt for p in TASK.validation(500, 12345)}
    assert len(validation) == 500
    assert not training & validation
    assert len(training) > 2000  # a varied stream


def test_the_stream_can_be_entered_anywhere_and_depends_on_its_seed():
    whole = TASK.training(7, 0, 20)
    assert TASK.training(7, 5, 3) == whole[5:8]
    assert TASK.training(8, 0, 20) != whole


def test_levels_are_the_ones_asked_for():
    task = Arithmetic(operations=(3, 9), operators="+")
    problems = task.training(0, 0, 200)
    assert {p.level for p in problems} == {"3", "9"}
    assert all(set(p.prompt) <= set("0123456789+=") for p in problems)


def test_too_few_different_problems_is_said():
    """One in eight of a hundred sums is held out."""
    with pytest.raises(ValueError, match="fewer than 40"):
        Arithmetic(operations=(1,), operators="+").validation(40, 0)


SCORES = [
    ("9", True, 1),
    ("869", True, 1),
    ("869", False, 0),
    ("868", True, 0),
    ("", True, 0),
    ("9=", True, 0),
]


@pytest.mark.parametrize(("response", "finished", "reward"), SCORES)
def test_score(response, finished, reward):
    assert TASK.score(Problem("3+5*2-7=", "9", "3"), response, finished) == reward


def test_clean_demonstrations_are_right_and_slips_come_at_their_rate():
    rng = np.random.default_rng(0)
    problems = TASK.training(0, 0, 2000)
    for p in problems[:200]:
        assert TASK.demonstration(rng, p, 1.0, 0.0) == "".join(map(str, results(p.prompt)))
        assert TASK.demonstration(rng, p, 0.0, 0.0) == p.answer
    bare = [TASK.demonstration(rng, p, 0.0, 0.5) for p in problems]
    wrong = np.mean([b != p.answer for b, p in zip(bare, problems, strict=True)])
    assert wrong == pytest.approx(0.45, abs=0.05)  # half are redrawn, a tenth of these by luck the same
    chains = [len(TASK.demonstration(rng, p, 0.5, 0.1)) > 1 for p in problems]
    assert np.mean(chains) == pytest.approx(0.5, abs=0.05)


def test_a_slip_is_carried_on():
    rng = np.random.default_rng(1)
    problem = Problem("3+5*2-7=", "9", "3")
    for _ in range(50):
        first, second, third = map(int, TASK.demonstration(rng, problem, 1.0, 0.3))
        steps_right = [first == 8, second == first * 2 % 10, third == (second - 7) % 10]
        if all(steps_right):
            assert third == 9
    chains = {TASK.demonstration(rng, problem, 1.0, 1.0) for _ in range(100)}
    assert len(chains) > 50


def test_other_problems_to_train_on_and_the_same_to_validate_on():
    task = Arithmetic(train_operations=(2, 3), train_operators="+-")
    assert task.validation(50, 0) == Arithmetic().validation(50, 0)
    drawn = task.training(0, 0, 200)
    assert {p.level for p in drawn} == {"2", "3"}
    assert {c for p in drawn for c in p.prompt if not c.isdigit()} == {"+", "-", "="}
    assert Arithmetic(train_operations=(2, 3)).training(0, 0, 50) == Arithmetic((2, 3)).training(0, 0, 50)
