"""docs/examples.md shows docs/example.py and what it really prints.

Where this fails after a change of words or answers, ``python -m tests.test_examples`` writes page and picture anew.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import REPO

CODE, PAGE, PICTURE = (REPO / "docs" / name for name in ("example.py", "examples.md", "example.png"))
NUMBER = re.compile(r"-?\d+\.(\d+)")
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


def run_example(folder):
    """What the example prints in a folder that holds the runs it names."""
    for log in (REPO / "runs").glob("*-m-rl?"):
        if log.name.startswith(("grpo-m", "kl-cov-m")):
            shutil.copytree(log, folder / "runs" / log.name)
    environment = {**os.environ, "PYTHONPATH": str(REPO), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(CODE)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def test_the_page_shows_the_example_and_what_it_prints(tmp_path):
    blocks = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert blocks["python"] == CODE.read_text(encoding="utf-8")
    assert len(CODE.read_text(encoding="utf-8").splitlines()) <= 36
    printed, shown = run_example(tmp_path), blocks["text"]
    assert NUMBER.sub("#", printed).split() == NUMBER.sub("#", shown).split()
    for ours, theirs in zip(NUMBER.finditer(printed), NUMBER.finditer(shown), strict=True):
        # One unit in the last digit: another BLAS may round it the other way.
        assert abs(float(ours[0]) - float(theirs[0])) <= 1.01 * 10.0 ** -len(ours[1]), (ours[0], theirs[0])
    assert (tmp_path / "example.png").read_bytes().startswith(b"\x89PNG") and PICTURE.is_file()


def write_page():
    """Write the page's blocks and its picture."""
    with tempfile.TemporaryDirectory() as scratch:
        new = {"python": CODE.read_text(encoding="utf-8"), "text": run_example(Path(scratch))}
        shutil.copy(Path(scratch) / "example.png", PICTURE)
    page = BLOCK.sub(lambda m: f"```{m[1]}\n{new[m[1]]}```", PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write_page()
