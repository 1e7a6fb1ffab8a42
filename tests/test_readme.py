"""The worked example of the README runs, and its commands exist."""

import re

import entlaw
from entlaw.cli.__main__ import main
from tests.conftest import REPO


def test_python_example_runs(monkeypatch, capsys):
    monkeypatch.chdir(REPO)
    (code,) = re.findall(r"```python\n(.*?)```", (REPO / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out
    assert out.startswith("ceiling ") and "Interval(lo=" in out


def test_links_point_at_files():
    for page in [REPO / "README.md", *REPO.glob("docs/*.md"), REPO / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_version_is_one(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == entlaw.__version__
