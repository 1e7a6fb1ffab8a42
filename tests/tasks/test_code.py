"""Programs in responses: finding them, and checking them against each kind of tests."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from entlaw.errors import SandboxUnavailable, UnreadableSource, UsageError
from entlaw.tasks.code import CodeTests, CodeVerifier, assemble, extract, read_tests, same_output
from entlaw.tasks.sandbox import Limits, UnitTests
from tests.conftest import PATIENCE

HUMANEVAL = Path(__file__).parents[3] / "shared" / "data" / "problems" / "humaneval.jsonl.gz"


@pytest.fixture(scope="module")
def verifier():
    try:
        made = CodeVerifier(Limits(cpu_s=5.0, wall_s=PATIENCE))
    except SandboxUnavailable as error:
        pytest.skip(f"untrusted programs cannot be isolated here: {error.why}")
    with made:
        yield made


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("text\n```python\nx = 1\n```\nmore", "x = 1\n"),
        ("```python\nx = 1\n```\nbetter:\n```py\nx = 2\n```", "x = 2\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\nrun it:\n```bash\npython x.py\n```", "x = 1\n"),
        ("```python\nx = 1\n", "x = 1\n"),  # cut at the end of the response
        ("```Python3 title=x\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\n```python\n```", "x = 1\n"),
        ("no code", None),
        ("", None),
    ],
)
def test_extract(response, expected):
    assert extract(response) == expected


PROMPT = 'from math import pi\n\ndef helper(x):\n    return x\n\ndef area(r):\n    """of a circle"""\n'
COMPLETE = CodeTests(
    UnitTests(
        "def check(candidate):\n    assert abs(candidate(1) - 3.1416) < 1e-3",
        entry_point="area",
        trusted=PROMPT,
    ),
    prompt=PROMPT,
)


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("    return pi * r * r\n", True),
        ("    return pi * r * r\n\nprint(area(input()))\n\ndef test():\n    this is not", True),
        ("```python\ndef area(r):\n    return helper(pi) * r ** 2\n```", True),
        ("```python\n    return pi * r * r\n```", True),
        ("Here:\n```python\nimport math\ndef area(r): return math.pi * r ** 2\n```\nDone.", True),
        ("    return 3 * r * r\n", False),
        ("I do not know.", False),
        ("", False),
        ("```python\ndef other(r): return 3.14159 * r\n```", False),
    ],
)
def test_completions_and_whole_functions(verifier, response, right):
    verdict = verifier.verify(response, COMPLETE)
    assert verdict.reward == float(right), verdict


def test_no_program_is_told(verifier):
    assert assemble("nothing", CodeTests(UnitTests(asserts=("assert f()",)))) is None
    verdict = verifier.verify("nothing", CodeTests(UnitTests(asserts=("assert f()",))))
    assert (verdict.verdict, verdict.reward) == ("no program", 0.0)


SUM = "```python\nn = int(input())\nprint(sum(int(input()) for _ in range(n)) / 3)\n```"
PAIRS = {
    "io": json.dumps(
        {"inputs": ["2\n1\n2\n", "1\n1\n", "3\n1\n1\n2\n"], "outputs": ["1.0\n", "0.3333333", "9"]}
    )
}


def test_input_and_output(verifier):
    tests = read_tests(PAIRS)
    assert verifier.verify(SUM, tests).reward == 0.0
    with CodeVerifier(partial=True, isolation=verifier.sandbox.isolation) as partial:
        verdict = partial.verify(SUM, tests)
    assert (verdict.passed, verdict.tests, verdict.verdict) == (2, 3, "failed")
    assert verdict.reward == pytest.approx(2 / 3)
    assert verifier.verify(SUM, CodeTests(pairs=tests.pairs[:2])).reward == 1.0


def test_input_and_output_of_a_function(verifier):
    tests = read_tests(
        {"io": {"fn_name": "halves", "inputs": [[[2, 4]], [[]]], "outputs": [[[1.0, 2.0]], [[]]]}}
    )
    assert (
        verifier.verify("```python\ndef halves(xs): return tuple(x / 2 for x in xs)\n```", tests).reward
        == 1.0
    )
    method = "```python\nclass Solution:\n    def halves(self, xs): return [x / 2 for x in xs]\n```"
    assert verifier.verify(method, tests).reward == 1.0
    assert verifier.verify("```python\ndef halves(xs): return xs\n```", tests).reward == 0.0


def test_asserts_give_a_fraction_over_all_tests(verifier):
    tests = read_tests({"asserts": np.array([f"assert f({i}) == {i}" for i in range(4)], dtype=object)})
    response = "```python\nimport os\ndef f(x):\n    if x == 2: os._exit(0)\n    return x\n```"
    with CodeVerifier(partial=True, isolation=verifier.sandbox.isolation) as partial:
        verdict = partial.verify(response, tests)
    assert (verdict.passed, verdict.tests, verdict.reward) == (2, 4, 0.5)
    assert verifier.verify(response, tests).reward == 0.0


def test_pytest_text(verifier):
    tests = read_tests({"pytest": "from solution import f\n\ndef test_f():\n    assert f(2) == 4\n"})
    assert verifier.verify("```python\ndef f(x): return x * x\n```", tests).reward == 1.0
    assert verifier.verify("```python\ndef f(x): return x\n```", tests).reward == 0.0


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"prompt": "x"},
        {"io": "no json"},
        {"io": "[1]"},
        {"io": {"inputs": ["1"], "outputs": []}},
        {"io": {"inputs": [], "outputs": []}},
        {"io": {"inputs": [[1]], "outputs": [1], "fn_name": "f(); import os"}},
        {"asserts": "{"},
        {"asserts": "3"},
    ],
)
def test_tests_that_cannot_be_read(columns):
    with pytest.raises(UnreadableSource):
        read_tests(columns)


def test_code_tests_are_of_one_kind():
    with pytest.raises(UsageError):
        CodeTests()
    with pytest.raises(UsageError):
        CodeTests(UnitTests(), pairs=(("", ""),))


@pytest.mark.parametrize(
    ("got", "expected", "right"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("1 2 3", "1\n2\n3", True),
        ("1", "1.0", True),
        ("0.33333", "0.3333333", False),
        ("0.33333331", "0.3333333", True),
        ("10", "1 0", False),
        ("yes", "YES", False),
        ("nan", "0.5", False),
        ("", "1", False),
        ("1e400", "1.5", False),
    ],
)
def test_same_output(got, expected, right):
    assert same_output(got, expected) is right


def test_a_batch_keeps_its_order(verifier):
    items = []
    for i in range(16):
        wait = "import time; time.sleep(0.1)\n" if i % 3 == 0 else ""
        answer = i if i % 2 == 0 else i + 1
        items.append(
            (
                f"```python\n{wait}def f(): return {answer}\n```",
                read_tests({"asserts": [f"assert f() == {i}"]}),
            )
        )
    one = verifier.verify_batch(items, 1)
    assert [v.reward for v in one] == [float(i % 2 == 0) for i in range(16)]
    assert verifier.verify_batch(items, 4) == one
    with pytest.raises(UsageError):
        verifier.verify_batch(items, 0)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.skipif(not HUMANEVAL.is_file(), reason="../shared/data/problems/humaneval.jsonl.gz is not here")
def test_humaneval_reference_solutions_pass_and_broken_ones_do_not(verifier, every):
    with gzip.open(HUMANEVAL, "rt") as source:
        rows = [json.loads(line) for line in source]
    assert len(rows) == 164
    rows = rows[::every]
    tests = [read_tests(row) for row in rows]
    right = verifier.verify_batch([(r["canonical_solution"], t) for r, t in zip(rows, tests, strict=True)], 2)
    assert [(r["task_id"], v.note) for r, v in zip(rows, right, strict=True) if v.reward < 1] == []
    empty = verifier.verify_batch([("    return None\n", t) for t in tests], 2)
    assert [r["task_id"] for r, v in zip(rows, empty, strict=True) if v.reward > 0] == []
