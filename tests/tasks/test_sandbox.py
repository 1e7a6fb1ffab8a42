"""The sandbox's parts: values on the wire, the filter, verdicts, refusal, and what honest programs may expect."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import SandboxUnavailable, UsageError
from entlaw.tasks.sandbox import Limits, Sandbox, UnitTests, host, place, run
from entlaw.tasks.sandbox.inside import kernel, pytest_words, seccomp, tree, wire
from tests.conftest import PATIENCE, wait_until


@pytest.fixture(scope="module")
def sandbox():
    try:
        made = Sandbox()
    except SandboxUnavailable as error:
        pytest.skip(f"untrusted programs cannot be isolated here: {error.why}")
    with made:
        yield made


# values --------------------------------------------------------------------------------------------------------------

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.binary().map(bytearray)
    | st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5))
)
hashable = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    atoms | st.sets(hashable) | st.frozensets(hashable),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(deque)
        | st.dictionaries(hashable, inner)
    ),
    max_leaves=20,
)


def refuse(obj):
    raise wire.WireError("not plain")


def same(a, b):
    """Equal in type and value, NaN and signed zero included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a == b


@given(values)
@settings(deadline=None, max_examples=200)
def test_values_survive_the_wire(value):
    assert same(wire.decode(wire.encode(value, refuse), refuse), value)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_hostile_bytes_are_refused_or_plain(data):
    try:
        value = wire.decode(data, refuse)
    except wire.WireError:
        return
    plain = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, deque)
    assert value is None or type(value) in (*plain, bool, Fraction, Decimal)


@given(values, st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_values_are_refused_or_plain(value, data):
    whole = bytearray(wire.encode(value, refuse))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(wire.WireError):
        wire.decode(bytes(whole), refuse)


def test_subclasses_arrive_without_their_class():
    class Liar(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

        def __index__(self):
            return 99

    got = wire.decode(wire.encode([Liar(3), Counter("aab"), OrderedDict(a=1)], refuse), refuse)
    assert [type(g) for g in got] == [int, dict, dict]
    assert got == [3, {"a": 2, "b": 1}, {"a": 1}]
    pair = wire.decode(wire.encode(namedtuple("P", "x y")(1, 2), refuse), refuse)
    assert type(pair) is tuple


def test_what_is_too_deep_or_too_long_is_refused():
    loop: list = []
    loop.append(loop)
    with pytest.raises(wire.WireError, match="nested"):
        wire.encode(loop, refuse)
    with pytest.raises(wire.WireError, match="long"):
        wire.encode(bytes(wire.LONGEST + 1), refuse)
    data = wire._part(b"N")
    for _ in range(1000):
        data = wire._part(b"l", data)
    with pytest.raises(wire.WireError, match="nested"):
        wire.decode(data, refuse)


# the filter ----------------------------------------------------------------------------------------------------------


def decide(code, machine, number, args=(0,) * 6):
    """What a BPF filter returns: an interpreter of the few instructions, written from the kernel's documentation."""
    data = struct.pack("<iIQ6Q", number, machine, 0, *args)
    lines = [struct.unpack_from("=HBBI", code, i) for i in range(0, len(code), 8)]
    at, held = 0, 0
    while True:
        op, yes, no, k = lines[at]
        at += 1
        if op == 0x20:
            (held,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            return k
        else:
            truth = {0x15: held == k, 0x25: held > k, 0x45: bool(held & k)}[op]
            at += yes if truth else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_as_its_table_says(machine):
    arch, column = seccomp.AUDIT_ARCH[machine], 0 if machine == "x86_64" else 1
    code, strict = seccomp.program(machine), seccomp.program(machine, signals=False)
    refused = {n[column] for n in seccomp.REFUSED.values()}
    signals = {n[column] for n in seccomp.SIGNALS.values()}
    eperm, enosys, allow = 0x50001, 0x50026, 0x7FFF0000
    for number in range(600):
        expected = enosys if number > 449 or number == 435 else eperm if number in refused else allow
        assert decide(code, arch, number) == expected, number
        assert decide(strict, arch, number) == (eperm if number in signals else expected), number
    assert decide(code, arch ^ 1, 0) == 0x80000000
    assert decide(code, arch, 0x40000000 + 1) == enosys
    clone, fcntl, ioctl, prlimit = ((56, 72, 16, 302), (220, 25, 29, 261))[column]
    assert decide(code, arch, clone, (0x10000011, 0, 0, 0, 0, 0)) == eperm  # a new user namespace
    assert decide(code, arch, clone, (0x3D0F00, 0, 0, 0, 0, 0)) == allow  # a thread
    assert decide(code, arch, fcntl, (0, 1031, 0, 0, 0, 0)) == eperm
    assert decide(code, arch, fcntl, (0, 1, 0, 0, 0, 0)) == allow
    assert decide(code, arch, ioctl, (0, 0x5412, 0, 0, 0, 0)) == eperm
    assert decide(code, arch, prlimit, (1, 7, 0, 0, 0, 0)) == eperm
    assert decide(code, arch, prlimit, (0, 7, 0, 0, 0, 0)) == allow


def test_a_machine_without_a_table_is_refused():
    with pytest.raises(kernel.SetupError, match="no filter"):
        seccomp.program("riscv64")


# refusal -------------------------------------------------------------------------------------------------------------


def test_without_isolation_nothing_runs(monkeypatch):
    """Each isolation fails here for a reason of its own; the error tells them all, and nothing is run unasked."""
    ran = []

    def broken(self, program, **_):
        ran.append(self.isolation)
        raise SandboxUnavailable("not run", why=f"broken {self.isolation}")

    monkeypatch.setattr(Sandbox, "run", broken)
    monkeypatch.setattr(host.shutil, "which", lambda name: None)
    with pytest.raises(SandboxUnavailable) as caught:
        Sandbox()
    text = str(caught.value)
    assert "broken namespaces" in text and "broken landlock" in text and "bwrap) is not installed" in text
    assert '"none"' in text
    assert ran == ["namespaces", "landlock"]
    assert caught.value.exit_code == 2


def test_a_step_that_fails_is_told_and_nothing_runs(sandbox, tmp_path):
    """The kernel refuses one step of the set-up: the program must not run less isolated, but not at all."""
    if sandbox.isolation != "namespaces":
        pytest.skip("namespaces do not work here")
    with (
        Sandbox("namespaces") as broken,
        pytest.raises(SandboxUnavailable, match="mount /tmp: Invalid argument"),
    ):
        broken.run(f"open({str(tmp_path / 'x')!r}, 'w')", limits=Limits(tmp_files=10**30))
    assert not list(tmp_path.iterdir())


def test_isolation_none_must_be_asked_for_and_is_told():
    outcome = run("print('hello')", isolation="none", expect="hello")
    assert outcome.passed
    assert outcome.isolation == "none"


@pytest.mark.parametrize("bad", [{"cpu_s": 0}, {"memory_mb": -1}, {"open_files": 3}, {"wall_s": math.nan}])
def test_limits_must_make_sense(bad):
    with pytest.raises(UsageError):
        Limits(**bad)


def test_unknown_isolation():
    with pytest.raises(UsageError, match="docker"):
        Sandbox("docker")


# honest programs -----------------------------------------------------------------------------------------------------


def test_output_is_compared_outside(sandbox):
    program = "n = int(input())\nprint(sum(map(int, input().split())), end=' \\n\\n')"
    assert sandbox.run(program, stdin="3\n1 2 3\n", expect="6").verdict == "passed"
    assert sandbox.run(program, stdin="3\n1 2 4\n", expect="6").verdict == "failed"
    assert sandbox.run(program, stdin="3\n1 2 3\n").verdict == "exited"
    assert sandbox.run("import sys; sys.exit(3)", expect="").exit_code == 3
    assert sandbox.run("print(6); raise SystemExit(1)", expect="6").verdict == "failed"
    long = "x" * 3_000_000
    assert sandbox.run("print(len(input()))", stdin=long, expect="3000000").passed


def test_a_program_is_the_main_module(sandbox):
    program = (
        "import sys, atexit, threading, dataclasses, pickle\n"
        "@dataclasses.dataclass\nclass P:\n    x: int\n"
        "assert pickle.loads(pickle.dumps(P(2))) == P(2)\n"
        "atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (threading.main_thread().join(), print('thread'))).start()\n"
        "if __name__ == '__main__': print('main', sys.argv, end='\\n')"
    )
    assert sandbox.run(program).stdout == "main ['main.py']\nthread\nlast\n"


def test_a_traceback_is_told(sandbox):
    outcome = sandbox.run("def f():\n    raise ValueError('why')\nf()")
    assert outcome.verdict == "failed"
    assert outcome.note == "ValueError: why"
    assert 'File "main.py", line 2' in outcome.stderr


def test_what_honest_programs_use_works(sandbox):
    program = (
        "import asyncio, tempfile, subprocess, threading, concurrent.futures, sqlite3, json, zoneinfo, ssl, os\n"
        "async def f():\n    await asyncio.sleep(0.01)\n    return 1\n"
        "print(asyncio.run(f()))\n"
        "with tempfile.NamedTemporaryFile('w+') as t: t.write('x'); t.seek(0); print(t.read())\n"
        "with concurrent.futures.ThreadPoolExecutor(4) as p: print(sum(p.map(abs, range(10))))\n"
        "pid = os.fork()\nif pid == 0: os._exit(5)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "print(sqlite3.connect(':memory:').execute('select 1+1').fetchone(), len(os.urandom(4)))\n"
        "open('/dev/null', 'w').write('x')"
    )
    outcome = sandbox.run(program)
    assert outcome.stdout == "1\nx\n45\n5\n(2,) 4\n", outcome.stderr


def test_two_programs_do_not_meet(sandbox):
    sandbox.run("open('/tmp/note', 'w').write('x'); import os; os.environ['A'] = 'b'")
    outcome = sandbox.run(
        "import os; print(os.listdir('/tmp') if os.getcwd() == '/tmp' else os.listdir('.'), 'A' in os.environ)"
    )
    assert outcome.stdout == "[] False\n"


def test_sets_come_in_the_same_order_every_time():
    program = "print({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})"
    seen = set()
    for _ in range(2):
        try:
            seen.add(run(program).stdout)
        except SandboxUnavailable:
            pytest.skip("untrusted programs cannot be isolated here")
    assert len(seen) == 1


def test_many_at_once(sandbox):
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: sandbox.run(f"print({i} ** 2)").stdout, range(24)))
    assert got == [f"{i**2}\n" for i in range(24)]


def test_descriptors_are_given_back(sandbox):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        sandbox.run("print(1)")
        sandbox.check("f = abs", UnitTests(asserts=("assert f(-1) == 1",)))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_whose_process_was_killed_starts_again(sandbox):
    with Sandbox(sandbox.isolation) as own:
        own._process.kill()
        own._process.wait()
        assert own.run("print(1)", expect="1").passed


def test_closing_ends_what_runs(sandbox):
    own = Sandbox(sandbox.isolation)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(own.run, "import time; time.sleep(1000)", limits=Limits(wall_s=900.0))
        wait_until(lambda: len(named(own.name.encode())) >= 3)  # its own process, a monitor, the program
        own.close()
        outcome = under_way.result(timeout=PATIENCE)
    assert (outcome.verdict, outcome.note) == ("killed", "it was ended from outside")
    assert own._process is None


def test_the_caller_is_killed_and_nothing_stays(tmp_path, sandbox):
    """Killed with SIGKILL in the middle of a program that would run for long."""
    code = (
        "from entlaw.tasks.sandbox import Sandbox, Limits\n"
        f"s = Sandbox({sandbox.isolation!r})\nprint(s.name, flush=True)\n"
        "s.run('import os, time\\nos.fork()\\ntime.sleep(1000)', limits=Limits(wall_s=900))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    with caller:
        name = caller.stdout.readline().strip()
        wait_until(lambda: len(named(name)) >= 4)  # the sandbox's, a monitor, the program and its child
        caller.kill()
    wait_until(lambda: not named(name))


def named(name):
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and name in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found


# checks --------------------------------------------------------------------------------------------------------------


def test_arguments_changed_in_place(sandbox):
    program = (
        "def fill(xs, d, s):\n    xs.append([1]); d['k'] = xs; s.discard(1)\n    return xs\n"
        "def clean(xs):\n    for x in xs: x.sort()\n"
    )
    tests = UnitTests(
        asserts=(
            "xs, d, s = [], {}, {1, 2}\ngot = fill(xs, d, s)\nassert xs == [[1]] and d == {'k': [[1]]} and s == {2}",
            "xs = []\nassert fill(xs, {}, set()) is xs",
            "m = [[3, 1], [2]]\nassert clean(m) is None and m == [[1, 3], [2]]",
        )
    )
    outcome = sandbox.check(program, tests)
    assert outcome.passed, outcome.tests


def test_functions_as_arguments_and_results(sandbox):
    program = (
        "def twice(f): return lambda x: f(f(x))\n"
        "def total(xs, key=None): return sum(map(key or int, xs))\n"
        "def count(n):\n    for i in range(n): yield i\n"
        "def safe(f):\n    try: return f(0)\n    except ZeroDivisionError: return 'caught'\n"
    )
    tests = UnitTests(
        asserts=(
            "assert twice(lambda x: x + 3)(1) == 7",
            "assert total(['a', 'bb'], key=len) == 3",
            "assert list(count(3)) == [0, 1, 2]",
            "assert safe(lambda x: 1 // x) == 'caught'",
            "assert next(count(1)) == 0",
        )
    )
    outcome = sandbox.check(program, tests)
    assert outcome.passed, outcome.tests


def test_classes_and_exceptions(sandbox):
    program = (
        "class Empty(ValueError): pass\n"
        "class Stack:\n    LIMIT = 3\n    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x); return self\n"
        "    def pop(self):\n        if not self.items: raise Empty('nothing here')\n        return self.items.pop()\n"
        "    def __len__(self): return len(self.items)\n    def __getitem__(self, i): return self.items[i]\n"
        "    def __eq__(self, other): return isinstance(other, Stack) and self.items == other.items\n"
        "    def __add__(self, other):\n        s = Stack(); s.items = self.items + other.items; return s\n"
        "    def __repr__(self): return f'Stack({self.items})'\n"
    )
    module = (
        "import pytest\nfrom solution import Stack, Empty\n"
        "def test_len():\n    s = Stack().push(1).push('b')\n"
        "    assert len(s) == 2 and s[1] == 'b' and s.pop() == 'b'\n"
        "def test_same():\n    assert Stack().push(1) == Stack().push(1)\n    assert Stack().push(1) != Stack()\n"
        "    assert Stack() != 3 and not (Stack() == [])\n"
        "def test_add():\n    assert (Stack().push(1) + Stack().push(2)).items == [1, 2]\n"
        "def test_raises():\n    with pytest.raises(Empty, match='nothing'):\n        Stack().pop()\n"
        "    with pytest.raises(ValueError):\n        Stack().pop()\n"
        "def test_text():\n    assert str(Stack().push(1)) == 'Stack([1])' and isinstance(Stack(), Stack)\n"
        "    assert Stack.LIMIT == 3\n"
        "@pytest.mark.parametrize('n, expected', [(1, 1), (2, 2)])\n"
        "def test_many(n, expected):\n    s = Stack()\n"
        "    for i in range(n): s.push(i)\n    assert len(s) == expected\n"
        "class TestMore:\n    def test_set(self):\n        s = Stack(); s.items = [7]\n        assert s.pop() == 7\n"
    )
    outcome = sandbox.check(program, UnitTests(module))
    assert outcome.passed, outcome.tests
    assert [t.name for t in outcome.tests][-3:] == ["test_many[0]", "test_many[1]", "TestMore.test_set"]
    broken = sandbox.check(program.replace("self.items.append(x)", "pass"), UnitTests(module))
    assert 0 < broken.fraction < 1


def test_unittest_classes_and_top_level(sandbox):
    module = (
        "import unittest\nfrom solution import inc\nclass T(unittest.TestCase):\n"
        "    def test_one(self): self.assertEqual(inc(1), 2)\n    def test_two(self): self.assertEqual(inc(2), 3)\n"
        "    def test_error(self):\n        with self.assertRaises(TypeError): inc('a')\n"
    )
    good, bad = "def inc(x): return x + 1", "def inc(x): return 2"
    assert sandbox.check(good, UnitTests(module)).fraction == 1.0
    assert sandbox.check(bad, UnitTests(module)).fraction == pytest.approx(1 / 3)
    assert sandbox.check(good, UnitTests("assert inc(1) == 2")).passed
    assert not sandbox.check(bad, UnitTests("assert inc(2) == 3")).passed
    assert sandbox.check(good, UnitTests()).verdict == "failed"  # no test is no success


def test_trusted_text_wins_over_the_program(sandbox):
    tests = UnitTests(
        "def check(candidate):\n    assert abs(poly(candidate(3))) < 1e-9",
        entry_point="root",
        trusted="def poly(x):\n    return x - 3\n\ndef root(a):\n    '''zero of poly'''\n",
    )
    assert sandbox.check("def root(a): return a", tests).passed
    assert not sandbox.check("def poly(x): return 0\ndef root(a): return 5", tests).passed


@pytest.mark.parametrize(
    "tests",
    [
        UnitTests(asserts=("assert abs(f(1) - 2) < 1e-9",)),
        UnitTests(asserts=("assert math.isclose(f(1), 2)",), setup="import math"),
        UnitTests(asserts=("assert math.isclose(f(1), 2)",)),
        UnitTests("from solution import *\ndef test_f():\n    assert abs(f(1) - 2) < 1e-9"),
        UnitTests("def check(candidate):\n    assert abs(candidate(1) - 2) < 1e-9", entry_point="f"),
        UnitTests("def check(candidate):\n    assert near(candidate(1), 2)", entry_point="f"),
        UnitTests("def helper(): pass\ndef nobody_calls():\n    assert f(1) == 2"),
    ],
)
def test_names_of_the_program_do_not_replace_what_tests_use(sandbox, tests):
    program = (
        "def abs(x): return 0\nclass math:\n    isclose = staticmethod(lambda *_: True)\n"
        "def near(*_): return True\ndef f(x): return 7"
    )
    assert not sandbox.check(program, tests).passed


def test_a_builtin_name_can_be_the_solution(sandbox):
    program = "def abs(x): return x if x > 0 else -x"
    module = "from solution import abs\ndef test_abs():\n    assert abs(-2) == 2"
    assert sandbox.check(program, UnitTests(module)).passed
    check = "def check(candidate):\n    assert candidate(-2) == 2"
    assert sandbox.check(program, UnitTests(check, entry_point="abs")).passed


def test_the_first_failure_does_not_hide_the_rest(sandbox):
    tests = UnitTests(
        asserts=("assert f(1) == 1", "assert f(2) == 0", "assert f(3) == 3", "assert f(0) == 0")
    )
    outcome = sandbox.check("def f(x):\n    if x == 0: raise SystemExit(0)\n    return x", tests)
    assert [t.passed for t in outcome.tests] == [True, False, True, False]
    assert outcome.tests[3].why.startswith("CandidateExit")
    assert outcome.verdict == "failed" and outcome.fraction == 0.5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0 + 1e-9, True),
        (1.1, False),
        ([1.0, 2.0 + 1e-9], True),
        ([1.0], False),
        ({"a": 1.0}, False),
        ("x", False),
    ],
)
def test_approx(value, expected):
    assert (value == pytest_words.Approx([1.0, 2.0] if isinstance(value, list) else 1.0)) is expected
    assert (value == pytest.approx([1.0, 2.0] if isinstance(value, list) else 1.0)) is expected  # the model


# parts ---------------------------------------------------------------------------------------------------------------


def test_installed_packages_are_out_of_sight(sandbox):
    for folder in place.hidden(()):
        if os.listdir(folder):
            outcome = sandbox.run(
                f"import os\nfor d, _, names in os.walk({folder!r}):\n    for n in names:\n"
                "        try: open(os.path.join(d, n)).close(); print('SEEN', n)\n        except OSError: pass"
            )
            assert "SEEN" not in outcome.stdout


def test_packages_that_are_asked_for(sandbox, tmp_path):
    (tmp_path / "helper.py").write_text("VALUE = 41\n")
    tmp_path.chmod(0o755)
    if sandbox.isolation == "namespaces":
        with Sandbox("namespaces", packages=[str(tmp_path)]) as own:
            assert own.run("import helper; print(helper.VALUE + 1)", expect="42").passed
            assert own.run(f"open({str(tmp_path / 'helper.py')!r}, 'a')").note.startswith(
                ("Permission", "OSError: [Errno 30")
            )


def test_folders_around_a_hole(tmp_path):
    for name in ("a/keep/x", "a/site-packages/secret", "b/y"):
        (tmp_path / name).mkdir(parents=True)
    whole, opened = place.around([str(tmp_path)], [str(tmp_path / "a/site-packages")])
    assert whole == [str(tmp_path / "a/keep"), str(tmp_path / "b")]
    assert opened == [str(tmp_path), str(tmp_path / "a")]


def test_usage_of_children_is_seen():
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(50_000_000); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        child.stdout.readline()
        assert child.pid in tree.descendants()
        assert tree.usage(0).memory > 45_000_000
        child.communicate(b"\n")
    assert child.pid not in tree.descendants()
