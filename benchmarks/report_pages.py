"""Reports of few and of many runs in a real browser: bytes, milliseconds until loaded, what the console said.

The shipped runs, the same ones again under other names until there are enough. Needs Chromium, on the PATH or by
ENTLAW_TEST_BROWSER; the page is a file of this machine, so no network is in the time.

Run: python benchmarks/report_pages.py [--runs 1 24 82 200] [--loads 5] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.html_browser import Browser, find  # noqa: E402

LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def logs(n: int, folder: Path) -> Path:
    """A folder of so many logs."""
    found = sorted((ROOT / "runs").glob("*/run.json"))
    for i in range(n):
        run = found[i % len(found)].parent
        target = folder / (run.name if i < len(found) else f"{run.name}-{i // len(found)}")
        target.mkdir(parents=True)
        for name in ("run.json", "metrics.jsonl.gz", "metrics.jsonl"):
            if (run / name).exists():
                shutil.copy(run / name, target / name)
    return folder


def measure(page: Path, program: str, loads: int) -> tuple[float, int, int]:
    """Median milliseconds until loaded, messages of the console, requests but for the page itself."""
    took, said, asked = [], 0, 0
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(program, Path(profile)) as one,
    ):
        for _ in range(loads):
            tab = one.open(page)
            took.append(float(tab.js(LOADED)))
            said += len(tab.complaints())
            asked += len([url for url in tab.requests() if url != page.as_uri()])
    return statistics.median(took), said, asked


def main() -> None:
    """Print a line a report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 24, 82, 200])
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    program = find()
    if program is None:
        sys.exit("no browser: `apt-get install chromium`, or ENTLAW_TEST_BROWSER=/path/to/chromium")
    version = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    print(f"{version}, {args.loads} loads each, load {os.getloadavg()[0]:.1f}")
    print(f"{'runs':>5} {'kB':>7} {'loaded, ms':>11} {'messages':>9} {'requests':>9}")
    with tempfile.TemporaryDirectory() as scratch:
        keep = args.keep or Path(scratch)
        for n in args.runs:
            page = keep / f"report-{n}.html"
            folder = logs(n, Path(scratch) / f"logs-{n}")
            subprocess.run(
                [sys.executable, "-m", "entlaw.cli", "report", str(folder), "-o", str(page)],
                check=True,
                capture_output=True,
            )
            took, said, asked = measure(page.resolve(), program, args.loads)
            print(f"{n:>5} {page.stat().st_size / 1e3:>7.0f} {took:>11.0f} {said:>9} {asked:>9}", flush=True)


if __name__ == "__main__":
    main()
