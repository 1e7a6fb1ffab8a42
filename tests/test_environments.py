"""The locks hold what pyproject.toml asks for, and an install that fails says what is needed."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPO

LOCKS = REPO / "requirements"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
# Lock -> the extras that it holds, as in the Makefile.
HOLDS = {
    "demo": [],
    "test": ["test"],
    "dev": ["dev"],
    "lowest": ["test", "train", "math"],
    "vllm-cpu": ["test", "train", "math", "vllm-cpu"],
    "verl": ["test", "math", "verl"],
}


def asked(extras):
    """Every requirement of entlaw with these extras, those of extras that name extras included."""
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    for extra in extras:
        for line in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(line)
            found += asked(requirement.extras) if requirement.name == "entlaw" else [requirement]
    return found


def locked(name, python):
    """Version by package for one Python on Linux."""
    here = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    here |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    found = {}
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate(here):
                assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), line
                assert requirement.name not in found, f"{requirement.name} twice for Python {python}"
                found[requirement.name.lower()] = str(requirement.specifier)[2:]
    return found


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("name", HOLDS)
def test_a_lock_holds_what_pyproject_asks_for(name, python):
    if name == "lowest" and python != "3.11":
        pytest.skip("the lowest versions are for Python 3.11")
    versions = locked(name, python)
    for requirement in asked(HOLDS[name]):
        version = versions.get(requirement.name.lower())
        assert version, f"{requirement.name} is not in requirements/{name}.txt: run `make lock UPGRADE=`"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"requirements/{name}.txt has {requirement.name} {version}, pyproject.toml asks for "
            f"{requirement.specifier}: run `make lock UPGRADE=`"
        )


def test_the_lowest_lock_has_the_lower_bounds():
    versions = locked("lowest", "3.11")
    for requirement in asked(HOLDS["lowest"]):
        bound = next(s.version for s in requirement.specifier if s.operator == ">=")
        assert Version(versions[requirement.name.lower()]) == Version(bound), requirement


def test_no_lock_brings_cuda():
    for path in LOCKS.glob("*.txt"):
        if path.stem != "lowest":  # a torch that old has no build for CPUs on the ordinary index
            assert not re.search(r"^(nvidia|cuda|triton)", path.read_text(), re.MULTILINE), path.name


def test_the_classifiers_are_the_pythons_that_are_locked_for():
    told = {
        c.rpartition(" ")[2]
        for c in PROJECT["classifiers"]
        if c.startswith("Programming Language :: Python :: 3.")
    }
    assert told == {"3.11", "3.12", "3.13", "3.14"} and PROJECT["requires-python"] == ">=3.11"


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install", LOCKS / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_python_that_is_too_old_is_told_in_one_line(install, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    assert install.main([str(tmp_path / "venv"), "demo"]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "error: Python 3.9 is too old: entlaw needs 3.11 or newer"
    assert "PYTHON=" in told[1] and not (tmp_path / "venv").exists()


def test_the_script_is_read_by_old_pythons():
    """What is too old must get as far as the message: no syntax and no import newer than Python 3.6's."""
    import ast

    ast.parse((LOCKS / "install.py").read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("argv", [[], ["venv"], ["venv", "nothing"]])
def test_a_wrong_call_lists_the_locks(install, capsys, argv):
    assert install.main(argv) == 2
    assert "LOCK is one of demo, dev" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_left_alone(install, capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert install.main([str(tmp_path), "demo"]) == 3
    assert "not an environment that this script made" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_no_network_says_what_is_needed(tmp_path):
    env = {
        k: v for k, v in os.environ.items() if not k.startswith("PIP_") and not k.lower().endswith("_proxy")
    }
    # Port 9 of this machine answers nothing: what pip meets where there is no network.
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    env |= {"PIP_NO_CACHE_DIR": "1"}
    command = [sys.executable, str(LOCKS / "install.py"), str(tmp_path / "venv"), "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 3
    assert "error: the package index cannot be reached" in done.stderr and "PIP_INDEX_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "venv" / "lock.txt").exists()  # the next try begins anew


def test_a_torch_that_does_not_run_here_is_told(install, capsys):
    step = ["python", "-c", "import torch; torch.ones(1) + 1"]
    assert install.explain(step, ["OSError: libcudart.so.13: cannot open shared object file"]) == 3
    assert "does not run on this machine's CPU" in capsys.readouterr().err
