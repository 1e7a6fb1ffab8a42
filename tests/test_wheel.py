"""What a user gets who has no checkout: the wheel, in an empty folder, with no network and none of the extras.

The wheel is built here and unpacked beside this interpreter's packages; the commands are those of README.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPO, law_records, write_jsonl
from tests.test_readme import at_scale, commands, on_a_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None,
        reason="building a wheel without a network needs pip and hatchling here (pip install hatchling)",
    ),
]

# README's words for what a user has, and what makes a long command short.
MORE = {"watch": ["--once"], "plan": ["--replicates", "20", "--problems", "500"]}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    done = subprocess.run([*command, "-w", str(out), str(REPO)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place)
    return place


@pytest.fixture
def entlaw(installed, tmp_path):
    """Run a command from the wheel, in an empty folder, as ``python -m entlaw``."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "here").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ENTLAW", "XDG", "MPL", "WANDB"))}
    environment |= {"PYTHONPATH": str(installed), "HOME": str(home), "OMP_NUM_THREADS": "1"}

    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "entlaw", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path / "here")
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        assert "atplotlib" not in done.stderr, done.stderr
        return done

    return call


def sample(entlaw) -> Path:
    """Where the demo says that the sample's log is."""
    found = re.search(r"sample's log is in\n  (.+)\n", entlaw("demo").stdout)
    assert found
    return Path(found[1])


def test_the_wheel_holds_what_the_commands_need(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        file.relative_to(REPO).as_posix()
        for file in (REPO / "entlaw").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    shipped |= {f"entlaw/data/paper/{file.name}" for file in (REPO / "data/paper").iterdir()}
    shipped |= {
        f"entlaw/data/example/grpo-m-rl0/{file.name}" for file in (REPO / "runs/grpo-m-rl0").iterdir()
    }
    assert shipped <= names
    assert all(name.startswith(("entlaw/", "entlaw-")) for name in names)


def test_the_sample_is_the_wheels_own(entlaw, installed):
    assert sample(entlaw).is_relative_to(installed) and sample(entlaw).is_dir()


def test_every_command_of_the_readme_works(entlaw, tmp_path):
    log = str(sample(entlaw))
    for folder, names in {
        "sizes": ("m-1B", "m-2B", "m-4B"),
        "finished": [f"seed{i}" for i in range(6)],
    }.items():
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            write_jsonl(tmp_path / folder / f"{name}.jsonl", law_records(seed=i))
    other = write_jsonl(tmp_path / "other.jsonl", law_records(seed=9))
    found = [c for c in commands() if not c.startswith(("train", "eval")) and "my-run" not in c]
    found = [c for c in found if c not in at_scale() + on_a_server()]
    assert len(found) >= 15
    for command in found:
        name = command.split()[0]
        runs = str(tmp_path / "sizes" / "*") if name == "sizes" else log
        swapped = {"LOG": log, "runs/*": runs, "A": log, "B": str(other)}
        swapped["finished/*"] = str(tmp_path / "finished" / "*")
        words = [swapped.get(w, w) for w in shlex.split(command)]
        more = ["--from", log] if name == "figures" else MORE.get(name, [])
        done = entlaw(*words, *more)
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "here" / "fits.pdf").exists() and (tmp_path / "here" / "report.html").exists()


def test_figures_say_where_runs_come_from(entlaw):
    done = entlaw("figures", "all")
    assert done.returncode == 3 and "--from" in done.stderr and "checkout" in done.stderr


def test_recipes_and_data_sets_are_listed(entlaw):
    for words in (("train", "--list"), ("train", "--print-recipe"), ("data", "list"), ("verl", "--help")):
        assert entlaw(*words).returncode == 0, words
