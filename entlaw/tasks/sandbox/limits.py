"""What a program may use, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from entlaw.errors import UsageError

Isolation = Literal["namespaces", "bwrap", "landlock", "none"]
Verdict = Literal[
    "passed",  # the tests passed, or the output is the expected one
    "exited",  # ended by itself with code 0; nothing was compared, so this is no success
    "failed",  # wrong output or answer, an exception, or an exit code other than 0
    "timeout",  # CPU or wall time
    "memory",
    "output",
    "files",  # its own tmp outgrew the limit
    "killed",  # by a signal that was not ours: a crash
]
VERDICTS: tuple[Verdict, ...] = Verdict.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Limits:
    """What one program may use.

    Attributes
    ----------
    cpu_s, wall_s : float
        Seconds of CPU time, of all its processes together, and of wall time.
    memory_mb : int
        Of all its processes together.
    processes : int
        Processes and threads.
    file_mb, tmp_mb, tmp_files : int
        Size of one file, and of all files in its tmp together, and their number.
    open_files : int
    output_kb : int
        Of stdout and stderr together.

    Raises
    ------
    UsageError
        A limit that is not positive.
    """

    cpu_s: float = 10.0
    wall_s: float = 30.0
    memory_mb: int = 512
    processes: int = 32
    file_mb: int = 16
    tmp_mb: int = 32
    tmp_files: int = 1024
    open_files: int = 64
    output_kb: int = 1024

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise UsageError(f"the limit {name} must be positive, not {value!r}")
        if self.open_files < 16:
            raise UsageError(
                "the limit open_files must be at least 16: the interpreter needs some for itself"
            )


@dataclass(frozen=True)
class Test:
    """One unit test: its name, whether it passed, and the first line of why not."""

    __test__ = False

    name: str
    passed: bool
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of one program.

    Attributes
    ----------
    verdict : str
        One of :data:`VERDICTS`; only "passed" is success.
    isolation : {"namespaces", "bwrap", "landlock", "none"}
        What was in force.
    exit_code : int or None
        As of the shell: 128 + n for signal n; None if it was ended from outside.
    stdout, stderr : str
        As much as the limit allows.
    seconds : float
        Wall time, setting up included.
    cpu_s : float
        Of the program's main process; 0 if it was ended from outside.
    tests : tuple of Test
        Of a check: all that were run.
    note : str
        Why it is not "passed", one line.
    """

    verdict: Verdict
    isolation: Isolation
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    seconds: float = 0.0
    cpu_s: float = 0.0
    tests: tuple[Test, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the program did what it should."""
        return self.verdict == "passed"

    @property
    def fraction(self) -> float:
        """Passed tests over all tests; without tests, 1 or 0."""
        if not self.tests:
            return float(self.passed)
        return sum(t.passed for t in self.tests) / len(self.tests)
