"""``entlaw demo``, ``entlaw.example()`` and ``python -m entlaw``: what works before there is a log."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import entlaw
from entlaw import files
from entlaw.cli.__main__ import main
from entlaw.errors import DataError
from entlaw.runs.example import folder
from tests.conftest import REPO


def test_the_demo_fits_the_sample_and_says_where_it_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "ceiling" in out and str(folder()) in out
    assert not list(tmp_path.iterdir())


def test_the_commands_that_the_demo_names_work_on_the_sample(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["demo"])
    named = [
        line.split("#")[0].split()[1:]
        for line in capsys.readouterr().out.splitlines()
        if "entlaw" in line[:9]
    ]
    assert [words[0] for words in named] == ["doctor", "fit", "predict", "watch", "report"]
    for words in named:
        more = ["--once"] if words[0] == "watch" else []
        assert main([str(folder()) if w == "LOG" else w for w in words] + more) == 0, words
    assert (tmp_path / "fit.png").exists() and (tmp_path / "report.html").exists()


def test_the_example_is_the_shipped_run():
    run = entlaw.example()
    assert run.name == "grpo-m-rl0" and len(run.points) == 61
    assert entlaw.fit(run).ceiling == pytest.approx(
        entlaw.fit(entlaw.read(REPO / "runs/grpo-m-rl0")[0]).ceiling
    )


def test_an_installation_that_is_not_whole_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "entlaw" / "files.py"))
    with pytest.raises(DataError, match="missing"):
        folder()


def test_python_m_entlaw_is_the_command():
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "entlaw", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, entlaw.__version__)


def test_figures_without_runs_say_the_way_out(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["figures", "fig1"]) == 3
    err = capsys.readouterr().err
    assert "--from" in err and "checkout" in err
