"""Checking answers by computer algebra, and the pool that keeps its time limit in any thread."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path

import pytest

from entlaw.errors import EntlawError, MissingExtra, UsageError
from entlaw.tasks import math as checking
from entlaw.tasks.pool import WorkerPool, _Worker
from tests.conftest import PATIENCE, wait_until

needs_algebra = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)
BEHAVE = "tests.tasks.checked:behave"


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(BEHAVE, workers=2, cpu_s=0.5, wall_s=PATIENCE, memory_gb=2.0) as made:
        yield made


@pytest.mark.parametrize("how", ["spin", "swallow", "power"])
def test_an_item_that_never_ends_costs_nobody_else(pool, how):
    replies = pool.map([["a"], [how], ["b"], ["c"], [how], ["d"]])
    assert [r.value for r in replies if r.status == "ok"] == ["a", "b", "c", "d"]
    assert [r.status for r in replies] == ["ok", "timeout", "ok", "ok", "timeout", "ok"]


@pytest.mark.parametrize(
    ("how", "status"), [("die", "crash"), ("memory", "error"), ("deep", "error"), ("noise", "ok")]
)
def test_an_item_that_breaks_its_process(pool, how, status):
    replies = pool.map([["a"], [how], ["b"]])
    assert [r.status for r in replies] == ["ok", status, "ok"]


def test_an_item_that_waits_is_given_up(monkeypatch):
    """The one that sleeps for a thousand seconds has a short time, so that the load of the machine decides nothing."""
    send, given = _Worker.send, []

    def short_for_the_sleeper(worker, arguments, wall_s):
        given.append(wall_s)
        send(worker, arguments, 0.2 if arguments == ["sleep"] else wall_s)

    monkeypatch.setattr(_Worker, "send", short_for_the_sleeper)
    with WorkerPool(BEHAVE, cpu_s=5.0, wall_s=PATIENCE) as pool:
        assert [r.status for r in pool.map([["a"]])] == ["ok"]
        assert [r.status for r in pool.map([["sleep"], ["b"]])] == ["timeout", "ok"]
    assert given == [PATIENCE] * 3


def test_a_process_that_was_taken_away_is_replaced(tmp_path):
    with WorkerPool("tests.tasks.checked:once") as pool:
        assert pool.map([[str(tmp_path / "seen")]])[0].value == "second time"


def test_threads_share_a_pool(pool):
    """math-verify's own time limit raises ValueError in any thread but the main one."""
    results: dict[int, list[str]] = {}

    def work(k: int) -> None:
        results[k] = [
            r.value if r.status == "ok" else r.status
            for r in pool.map([[f"{k}-{i}"] for i in range(20)] + [["spin"]])
        ]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: [f"{k}-{i}" for i in range(20)] + ["timeout"] for k in range(3)}


def test_order_and_number_of_workers_do_not_matter():
    with (
        WorkerPool("tests.tasks.checked:double", workers=3) as three,
        WorkerPool("tests.tasks.checked:double") as one,
    ):
        items = [[i] for i in range(200)]
        assert (
            [r.value for r in three.map(items)]
            == [r.value for r in one.map(items)]
            == [2 * i for i in range(200)]
        )


def test_close_ends_the_processes():
    pool = WorkerPool("tests.tasks.checked:double", workers=2)
    pool.map([[1], [2]])
    pids = [w.process.pid for w in pool._free]
    pool.close()
    assert pids and all(not Path(f"/proc/{pid}").exists() for pid in pids)
    assert pool.map([[4]])[0].value == 8  # starts again
    pool.close()


def test_a_function_that_is_not_there():
    with (
        WorkerPool("entlaw.tasks.math:no_such") as pool,
        pytest.raises(EntlawError, match="cannot start") as caught,
    ):
        pool.map([[1]])
    assert "AttributeError" in str(caught.value.why)


def test_impossible_limits():
    with pytest.raises(ValueError):
        WorkerPool("a:b", workers=0)


# math-verify -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verifier():
    with checking.MathVerifier(cpu_s=3.0) as made:
        yield made


RIGHT = [
    (r"\sqrt{2}", "1.41421356"),
    ("x^2 + 1", "1+x^2"),
    (r"3\pm2\sqrt2", r"3+2\sqrt2, 3-2\sqrt2"),
    (r"x \in [1,3]", "[1,3]"),
    ("y=2x+1", "2x+1"),
    (r"[1,2]\cup[3,4]", r"[3,4] \cup [1,2]"),
    (r"1+\sqrt{3} i", r"1+i\sqrt3"),
    (r"\ln 2 + i\pi / 3", r"\ln(2)+\frac{\pi i}{3}"),
    ("10^{10}", "10000000000"),
    (r"10\sqrt2\text{ cm}", r"10\sqrt{2}"),
    ("n", "n + 0"),
    ("2s", "s+s"),
    ("a + b + c", "c+a+b"),
    (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{E_{1}+2E_2}{3}"),
]
# Each of these is taken for right by math-verify's defaults, or was by an earlier version of ours.
WRONG = [
    (r"\frac{1}{2004!}", r"\frac{5}{2004!}"),
    (r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}", r"\frac{3}{3} E_{1}+\frac{2}{3} E_{2}"),
    (r"\hbar \omega(v+1 / 2)", r"\hbar \omega(v+6 / 2)"),
    (r"c^{2}\left(\gamma^{2}-1\right) \sin ^{2} \theta", r"c^{2}\left(\gamma^{2}-6\right) \sin ^{2} \theta"),
    (r"\frac \pi4 + 2 - \sqrt2", r"\frac \pi4 + 2 - \sqrt3"),
    (r"m \frac{d v}{d t}+b v=f", r"m \frac{d t}{d v}+b v=f"),
    (r"10\sqrt2\text{ cm}", r"10\sqrt{2}\text{ m}"),
    ("2s", "2"),
    (r"(-\infty,3]", r"(-\infty,3)"),
    ("x=1", "y=1"),
    ("2^{1009}", "2^{1010}"),
    (r"\sqrt{2}", "1.4142"),
    (r"\frac{\pi}{2}", "90"),
]


@needs_algebra
def test_equal_answers_and_different_ones(verifier):
    verdicts = verifier.verify_batch(
        [rf"\boxed{{{a}}}" for _, a in RIGHT + WRONG], [g for g, _ in RIGHT + WRONG]
    )
    assert [v.right for v in verdicts] == [True] * len(RIGHT) + [False] * len(WRONG)


@needs_algebra
def test_a_bomb_costs_one_item(verifier):
    bomb = r"\boxed{10^{10^{10^{10}}}+x}"
    verdicts = verifier.verify_batch([r"\boxed{1+x}", bomb, r"\boxed{x+1}"], ["x+1"] * 3)
    assert [v.right for v in verdicts] == [True, False, True]


@needs_algebra
def test_a_batch_in_a_thread_is_the_batch_in_the_main_thread(verifier):
    responses, golds = [rf"\boxed{{{a}}}" for _, a in RIGHT[:6]], [g for g, _ in RIGHT[:6]]
    here, there = verifier.verify_batch(responses, golds), []
    thread = threading.Thread(target=lambda: there.extend(verifier.verify_batch(responses, golds)))
    thread.start()
    thread.join()
    assert here == there


@needs_algebra
def test_one_call_with_processes_of_its_own():
    assert [v.right for v in checking.verify_batch([r"\boxed{1+x}", "7"], ["x+1", "7"], workers=2)] == [
        True,
        True,
    ]


def test_what_text_and_numbers_decide_starts_no_process():
    with checking.MathVerifier(engine="own") as own:
        verdicts = own.verify_batch(
            [r"\boxed{0.5}", "it is 3", "none", r"\boxed{x+1}"], ["1/2", "4", "1", "1+x"]
        )
        assert [(v.right, v.by) for v in verdicts] == [
            (True, "own"),
            (False, "own"),
            (False, "none"),
            (False, "none"),
        ]
        assert verdicts[2].note == "no answer found" and "not decided" in verdicts[3].note
        assert not own.pool._free


def test_nothing_to_check_is_no_error():
    with checking.MathVerifier(engine="own") as own:
        assert own.verify_batch([], []) == []
        with pytest.raises(ValueError, match="2 responses for 1"):
            own.verify_batch(["a", "b"], ["a"])


def test_missing_math_verify_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(checking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        checking.MathVerifier()
    assert "pip install" in str(caught.value.hint)
    checking.MathVerifier(engine="own").close()


def test_an_unknown_engine():
    with pytest.raises(UsageError):
        checking.MathVerifier(engine="sage")  # type: ignore[arg-type]


def test_a_worker_ends_with_its_parent():
    """Its input ends when the parent is gone, however that came about."""
    import subprocess
    import sys

    code = (
        "from entlaw.tasks.pool import WorkerPool; import os\n"
        "p = WorkerPool('tests.tasks.checked:double'); p.map([[1]])\n"
        "print(p._free[0].process.pid, flush=True); os._exit(1)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    pid = int(done.stdout)

    def gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    wait_until(gone)  # else it has outlived its parent
