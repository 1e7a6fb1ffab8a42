"""What a user's machine may lack or bring: a torch that does not load, libraries that deprecate."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPO


def run_python(code, *, flags=(), path=None):
    """Run ``code`` in a process of its own, with a folder in front of what is installed."""
    found = os.pathsep.join([*([str(path)] if path else []), str(REPO)])
    env = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"} | {"PYTHONPATH": found}
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, env=env, check=False
    )


@pytest.mark.parametrize("command", [["train", "-o", "run"], ["eval", "run"]])
def test_a_torch_that_does_not_load_is_an_error_with_a_way_out(tmp_path, command):
    for name, says in {
        "torch": "raise OSError('libcudart.so.13: cannot open shared object file')",
        "transformers": "",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(says)
    done = run_python(f"from entlaw.cli.app import run; raise SystemExit(run({command!r}))", path=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "libcudart.so.13" in done.stderr and "CPU build" in done.stderr
    assert "Traceback" not in done.stderr and "No module" not in done.stderr


LIBRARY = "import warnings\ndef call():\n    warnings.warn('old argument', {kind}, stacklevel=2)\n"
MAIN = (
    "import entlaw.cli.app as app, noisy\n"
    "app.run = lambda tokens: noisy.call() or 0\n"
    "import entlaw.cli.__main__ as start\n"
    "start.main()"
)


@pytest.mark.parametrize("kind", ["DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"])
def test_a_users_run_does_not_print_a_librarys_deprecation(tmp_path, kind):
    (tmp_path / "noisy.py").write_text(LIBRARY.format(kind=kind))
    quiet = run_python(MAIN, path=tmp_path)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    asked = run_python(MAIN, path=tmp_path, flags=["-W", "always"])
    assert "old argument" in asked.stderr
