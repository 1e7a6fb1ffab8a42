"""The caller's side: one process from which sandboxed cells are forked, and the verdicts on what they did.

What decides "passed" never runs where the program runs: expected output is compared here, and unit tests run in a
second cell that exchanges plain values with the program's (see ``docs/sandbox.md``).
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from entlaw.errors import SandboxUnavailable, UsageError
from entlaw.tasks.sandbox.limits import Isolation, Limits, Outcome, Test, Verdict
from entlaw.tasks.sandbox.place import HERE, around, hidden, interpreter, python, readable
from entlaw.tasks.sandbox.verdicts import exit_code, judge, judge_check, lines, read_report

ORDER: tuple[Isolation, ...] = ("namespaces", "bwrap", "landlock")
FIRST = "import colorsys, wave\nprint('here')"  # modules that nothing else has imported yet
GRACE_S = 45.0  # beyond the wall-time limit: the cell's own monitor answers long before


@dataclass(frozen=True)
class UnitTests:
    """Tests that call what the program defines.

    Attributes
    ----------
    module : str
        Text that defines ``check(candidate)``, ``test_*`` functions (the usual words of pytest are there),
        ``unittest`` classes, or that asserts at top level.
    asserts : tuple of str
        Statements, each one a test.
    setup : str
        Text run before them.
    entry_point : str
        The function that ``candidate`` stands for.
    trusted : str
        Text, such as a HumanEval prompt, whose definitions the tests use in place of the program's.
    """

    module: str = ""
    asserts: tuple[str, ...] = ()
    setup: str = ""
    entry_point: str = ""
    trusted: str = ""


class Sandbox:
    """Runs untrusted Python programs, from any number of threads at once.

    Parameters
    ----------
    isolation : {"auto", "namespaces", "bwrap", "landlock", "none"}
        auto: the first of the three that works here. "none" runs the program with this user's rights, under resource
        limits alone: only for programs that you would run yourself.
    packages : sequence of str
        Folders that programs may import from, beside the standard library.

    Raises
    ------
    SandboxUnavailable
        The isolation does not work on this machine; the text says what is missing.
    """

    def __init__(self, isolation: str = "auto", packages: Sequence[str] = ()) -> None:
        if isolation not in ("auto", "none", *ORDER):
            raise UsageError(f"{isolation!r} is no isolation", hint=f"auto, {', '.join(ORDER)} or none")
        if sys.platform != "linux":
            raise SandboxUnavailable(
                f"programs can be checked on Linux only, and this is {sys.platform}",
                why="what keeps an untrusted program in is Linux's own: namespaces, Landlock, seccomp",
                hint="run it in a Linux container or virtual machine (on Windows: WSL)",
            )
        self._lock = threading.Lock()
        self._cells: set[_Cell] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self.name = f"entlaw-sandbox-{os.getpid()}-{secrets.token_hex(4)}"  # seen in lists of processes
        self._packages = [os.path.realpath(p) for p in packages]
        self._paths, self._holes = readable(self._packages), hidden(self._packages)
        self.isolation: Isolation = "none"
        try:
            self._choose(isolation)
        except BaseException:
            self.close()
            raise

    def _choose(self, wanted: str) -> None:
        reasons = {}
        for each in ORDER if wanted == "auto" else (cast(Isolation, wanted),):
            self.isolation = each
            reasons[each] = self._missing()
            if not reasons[each]:
                return
        raise SandboxUnavailable(
            "untrusted programs cannot be run here: "
            + ("no isolation works" if wanted == "auto" else f"no {wanted}"),
            why="\n".join(f"{name}: {reason}" for name, reason in reasons.items()),
            hint="install bubblewrap, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or use a kernel with Landlock (5.19+); isolation "
            '"none" runs programs with your own rights',
        )

    def _missing(self) -> str:
        """Why the isolation does not work, by trying it; empty if it does."""
        if self.isolation == "bwrap" and shutil.which("bwrap") is None:
            return "bubblewrap (bwrap) is not installed"
        try:
            outcome = self.run(FIRST, limits=Limits(wall_s=60.0), expect="here")
        except SandboxUnavailable as error:
            return error.why or error.what
        if "ModuleNotFoundError" in outcome.stderr:
            where = os.path.dirname(os.__file__)
            return f"the user nobody, who takes root's place, cannot read this Python's library ({where})"
        return "" if outcome.passed else f"a first program did not run: {outcome.note or outcome.stderr}"

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the sandbox's process, and every program that still runs."""
        with self._lock:
            for cell in tuple(self._cells):
                cell.let_go()
            self._stop()

    def _stop(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._requests = self._process = None

    def run(
        self,
        program: str,
        *,
        stdin: str = "",
        limits: Limits | None = None,
        expect: str | Callable[[str], bool] | None = None,
    ) -> Outcome:
        """Run a program to its end.

        Parameters
        ----------
        program : str
            Python, run as ``__main__``.
        stdin : str
        limits : Limits
        expect : str or callable, optional
            The output that counts as right (blanks at line ends and final newlines aside), or a function that says
            whether an output is. Without it, a program that ends with code 0 has the verdict "exited", never "passed".

        Raises
        ------
        SandboxUnavailable
            The isolation could not be set up this time.
        """
        limits = limits or Limits()
        cell = self._start("program", limits, {"program": program, "stdin": stdin}, {})
        facts = cell.result(limits.wall_s + GRACE_S)
        verdict, note = judge(facts, limits)
        if verdict == "exited" and expect is not None:
            right = expect(facts["out"]) if callable(expect) else lines(facts["out"]) == lines(expect)
            verdict, note = ("passed", "") if right else ("failed", "the output is not the expected one")
        return self._outcome(verdict, note, facts)

    def check(self, program: str, tests: UnitTests, *, limits: Limits | None = None) -> Outcome:
        """Run unit tests on what a program defines; see :meth:`run`.

        The tests run in a cell of their own, under the same limits; the wall time is for all of them together.
        """
        limits = limits or Limits()
        to_candidate, from_candidate = os.pipe(), os.pipe()
        ends = [*to_candidate, *from_candidate]
        job = {**asdict(tests), "tests": tests.asserts}
        try:
            fds = {"link_in": to_candidate[0], "link_out": from_candidate[1]}
            candidate = self._start("candidate", limits, {"program": program}, fds)
            try:
                fds = {"link_in": from_candidate[0], "link_out": to_candidate[1]}
                checker = self._start("checker", limits, job, fds)
            except BaseException:
                candidate.end()
                raise
        finally:
            for fd in ends:
                os.close(fd)
        facts_tests = checker.result(limits.wall_s + GRACE_S)
        candidate.let_go()
        facts = candidate.result(GRACE_S)
        report = read_report(facts_tests)
        results = tuple(Test(*each) for each in report["results"])
        verdict, note = judge_check(facts, facts_tests, report, limits)
        return self._outcome(verdict, note, facts, results)

    def _outcome(
        self, verdict: Verdict, note: str, facts: dict[str, Any], tests: tuple[Test, ...] = ()
    ) -> Outcome:
        return Outcome(
            verdict=verdict,
            isolation=self.isolation,
            exit_code=exit_code(facts),
            stdout=facts["out"],
            stderr=facts["err"],
            seconds=facts["seconds"],
            cpu_s=facts.get("cpu_s", 0.0),
            tests=tests,
            note=note,
        )

    def _start(self, role: str, limits: Limits, payload: dict[str, Any], links: dict[str, int]) -> _Cell:
        ctl, leash = os.pipe(), os.pipe()
        hidden = _in_memory(json.dumps(payload).encode())
        fds = {"payload": hidden, "ctl": ctl[1], "leash": leash[0], **links}
        spec: dict[str, Any] = {
            "role": role,
            "isolation": self.isolation,
            "limits": asdict(limits),
            "paths": self._paths,
            "holes": self._holes,
            "packages": self._packages,
            "where": tempfile.gettempdir(),
            "fds": list(fds),
        }
        if self.isolation == "landlock":
            spec["paths"], spec["folders"] = around(self._paths, self._holes)
        if self.isolation == "bwrap":
            own = [os.path.join(HERE, "inside"), interpreter()]
            spec |= {"bwrap": shutil.which("bwrap"), "python": python(), "own_paths": own}
        try:
            self._send(json.dumps(spec).encode(), list(fds.values()))
        except BaseException:
            os.close(ctl[0])
            os.close(leash[1])
            raise
        finally:
            for fd in (hidden, ctl[1], leash[0]):
                os.close(fd)
        cell = _Cell(ctl[0], leash[1], self._cells)
        with self._lock:
            self._cells.add(cell)
        return cell

    def _send(self, data: bytes, fds: list[int]) -> None:
        with self._lock:
            for attempt in range(2):
                if self._requests is None:
                    self._boot()
                assert self._requests is not None
                try:
                    socket.send_fds(self._requests, [data], fds)
                    return
                except OSError as error:  # its process was killed: a new one, once
                    self._stop()
                    if attempt:
                        raise SandboxUnavailable(
                            "the sandbox's process does not start", why=str(error)
                        ) from error

    def _boot(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*python(), str(theirs.fileno()), self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={
                    "PYTHONHASHSEED": "0"
                },  # sets in the same order every time; and no secret of the caller's
                cwd="/",
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._requests = ours


class _Cell:
    """A program under way: an end to read its result from, and one whose closing ends it."""

    def __init__(self, ctl: int, leash: int, living: set[_Cell]) -> None:
        self.ctl, self.leash, self.living = ctl, leash, living
        self.lock = threading.Lock()

    def let_go(self) -> None:
        with self.lock:
            if self.leash >= 0:
                os.close(self.leash)
                self.leash = -1

    def end(self) -> None:
        self.living.discard(self)
        self.let_go()
        os.close(self.ctl)

    def result(self, patience_s: float) -> dict[str, Any]:
        """What the monitor tells, once the cell is empty."""
        parts, until = [], time.monotonic() + patience_s
        waiting = select.poll()
        waiting.register(self.ctl, select.POLLIN)
        try:
            while waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                part = os.read(self.ctl, 1 << 20)
                if not part:
                    break
                parts.append(part)
        finally:
            self.end()
        facts = json.loads(b"".join(parts) or b"{}")
        if "ready" not in facts or "setup" in facts:
            said = facts.get("err", "").strip().rpartition("\n")[2]
            raise SandboxUnavailable(
                "a program could not be isolated, so it was not run",
                why=facts.get("setup") or said or "its monitor, or the tool that isolates, was ended",
            )
        for name in ("out", "err", "report"):
            facts[name] = facts[name].encode("latin-1").decode("utf-8", "replace")
        return facts


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("payload", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd
