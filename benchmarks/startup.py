"""Start-up times: `entlaw --help`, `entlaw fit` on one log, and which heavy packages each imports.

Run: python benchmarks/startup.py [LOG]
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

REPEATS = 7
HEAVY = ("torch", "wandb", "matplotlib", "scipy.stats", "transformers", "tensorboard")


def seconds(*command: str) -> tuple[float, float]:
    """Fastest and median wall time of a command."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        times.append(time.perf_counter() - start)
    times.sort()
    return times[0], times[len(times) // 2]


def heavy_imports(*args: str) -> list[str]:
    """Heavy packages that a command line has imported when it ends."""
    code = (
        "import sys; from entlaw.cli.__main__ import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"sys.stderr.write('HEAVY ' + ' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    return run.stderr.rsplit("HEAVY", 1)[-1].split()


def main() -> None:
    """Print the table."""
    default = sorted(Path(__file__).parents[1].glob("runs/*/metrics.jsonl*"))
    log = sys.argv[1] if len(sys.argv) > 1 else str(default[0])
    entlaw = str(Path(sys.executable).with_name("entlaw"))
    python = seconds(sys.executable, "-c", "pass")
    pandas = seconds(sys.executable, "-c", "import pandas")
    print(f"{'command':<28}{'fastest s':>10}{'median s':>10}  heavy imports   (of {REPEATS} runs, warm disk)")
    print(f"{'python -c pass':<28}{python[0]:>10.3f}{python[1]:>10.3f}")
    print(f"{'python -c import pandas':<28}{pandas[0]:>10.3f}{pandas[1]:>10.3f}")
    for name, args in (
        ("entlaw --help", ["--help"]),
        ("entlaw fit LOG", ["fit", log]),
        ("entlaw doctor LOG", ["doctor", log]),
    ):
        low, middle = seconds(entlaw, *args)
        print(f"{name:<28}{low:>10.3f}{middle:>10.3f}  {', '.join(heavy_imports(*args)) or 'none'}")


if __name__ == "__main__":
    main()
