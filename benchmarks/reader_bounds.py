"""Time and memory of reading the worst inputs: every family of ``hostile_inputs`` at n, 2n, 4n and 8n bytes.

Each file is read to the end (rows, choice of keys, pairs) in a process of its own, which is stopped after some seconds
of CPU time or at some GB of address space. The exponent is the slope of log(seconds) over log(size) between the two
largest sizes that took at least 0.05 s: 1 is linear, 2 quadratic. ``over`` marks more than 10 s or 1 GB for 8n = 1 MB.

Run: python benchmarks/reader_bounds.py [--megabytes 1] [--seconds 20] [--reader NAME] [--grep TEXT]
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import hostile_binary  # noqa: F401 - registers its families
import hostile_tables  # noqa: F401
from hostile_inputs import FAMILIES, Family

from entlaw.errors import EntlawError
from entlaw.runs.reader import scan

SECONDS, MEGABYTES = 10.0, 1000.0


@dataclass(frozen=True)
class Measured:
    """What reading one file took.

    Attributes
    ----------
    seconds, megabytes : float
        CPU time, and the peak of memory above that of the process before it reads.
    outcome : str
        ``N runs``, the error's first words, ``time``, ``memory`` or ``crash: ...``.
    """

    seconds: float
    megabytes: float
    outcome: str

    @property
    def stopped(self) -> bool:
        """Whether it did not come to its end."""
        return self.outcome.startswith(("time", "memory", "crash"))

    @property
    def over(self) -> bool:
        """Whether it is past the bound that every input of 1 MB must keep."""
        return self.stopped or self.seconds > SECONDS or self.megabytes > MEGABYTES


def read_all(path: Path) -> str:
    """Read a source as `entlaw doctor` does; what came of it."""
    try:
        readings = list(scan(path))
    except EntlawError as error:
        return f"refused: {error.what}"
    except MemoryError:
        return "memory"
    except Exception as error:
        return f"crash: {type(error).__name__}: {error}"
    errors = {r.error.what for r in readings if r.error is not None}
    return f"{len(readings)} runs" + (f" ({min(errors)})" if errors else "")


def measure(path: Path, seconds: float, gigabytes: float) -> Measured:
    """Read a source in a child process with limits."""
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
        room = address_space() + int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        os.write(writer, f"{resident():.0f}\n".encode())
        os.write(writer, read_all(path).encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as handle:
        before, _, outcome = handle.read().decode().partition("\n")
    _, status, usage = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        outcome = "time" if os.WTERMSIG(status) in (9, 24) else f"crash: signal {os.WTERMSIG(status)}"
    took = usage.ru_utime + usage.ru_stime
    return Measured(
        took,
        max(0.0, usage.ru_maxrss * 1024 / 1e6 - float(before)),
        outcome or f"crash after {time.perf_counter() - began:.1f} s",
    )


def resident() -> float:
    """Resident memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def address_space() -> int:
    """Address space of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def exponent(sizes: list[int], found: list[Measured]) -> float:
    """Slope of log(seconds) over log(size) between the two largest sizes; NaN where they took no time."""
    pairs = [(s, m.seconds) for s, m in zip(sizes, found, strict=True) if m.seconds >= 0.05]
    if len(pairs) < 2:
        return math.nan
    (s0, t0), (s1, t1) = pairs[-2:]
    return math.log(t1 / t0) / math.log(s1 / s0)


def sweep(one: Family, sizes: list[int], seconds: float, gigabytes: float) -> list[Measured]:
    """A family at growing sizes; it ends with the first that is stopped."""
    out: list[Measured] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="entlaw-bounds-") as folder:
            path = Path(folder) / one.file
            one.write(path, size)
            out.append(measure(path, seconds, gigabytes))
        if out[-1].outcome in ("time", "memory"):
            break
    return out


def warm_up() -> None:
    """Load what readers load, so that no measured process does: Arrow reserves a GB of addresses when it starts."""
    with tempfile.TemporaryDirectory(prefix="entlaw-bounds-") as folder:
        for one in FAMILIES:
            if one.name in ("many row groups", "words in every row", "one history row"):
                one.write(Path(folder) / one.file, 5000)
        read_all(Path(folder))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--gigabytes", type=float, default=1.5)
    parser.add_argument("--reader", default="")
    parser.add_argument("--grep", default="")
    args = parser.parse_args()
    warm_up()
    largest = int(args.megabytes * 1e6)
    sizes = [largest // 8, largest // 4, largest // 2, largest]
    chosen = [f for f in FAMILIES if args.reader in ("", f.reader) and args.grep in f.name]
    width = max(len(f.name) for f in chosen)
    print(f"{'reader':13} {'family':{width}}  s at n, 2n, 4n, 8n = {args.megabytes:g} MB   exp     MB  ")
    n_over = 0
    for one in chosen:
        found = sweep(one, sizes, args.seconds, args.gigabytes)
        over = any(m.over for m in found)
        n_over += over
        times = " ".join(f"{m.seconds:6.2f}" for m in found).ljust(27)
        line = f"{one.reader:13} {one.name:{width}}  {times} {exponent(sizes[: len(found)], found):5.2f} "
        line += f"{max(m.megabytes for m in found):6.0f}  {'OVER ' if over else ''}{found[-1].outcome[:90]}"
        print(line, flush=True)
    print(
        f"{n_over} of {len(chosen)} families are over {SECONDS:g} s or {MEGABYTES:g} MB at {args.megabytes:g} MB"
    )
    sys.exit(1 if n_over else 0)


if __name__ == "__main__":
    main()
