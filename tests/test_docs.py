"""The documentation is true: examples of logs are read as it says, links lead somewhere, commands exist."""

from __future__ import annotations

import re

import pytest

from entlaw.runs.prepare import Selection
from entlaw.runs.reader import scan
from tests.conftest import REPO

DOCS = sorted((REPO / "docs").glob("**/*.md"))
EXAMPLE = re.compile(
    r"<!-- example: (\S+), framework (\S+), entropy (\S+), score (\S+) -->\n```\w+\n(.*?)\n```", re.DOTALL
)
EXAMPLES = EXAMPLE.findall((REPO / "docs" / "logs.md").read_text())


def test_there_are_examples():
    assert len(EXAMPLES) == 8


@pytest.mark.parametrize("name, framework, entropy, score, text", EXAMPLES, ids=lambda v: str(v)[:20])
def test_an_example_is_read_as_the_page_says(tmp_path, name, framework, entropy, score, text):
    (tmp_path / name).write_text(text + "\n")
    (reading,) = scan([str(tmp_path / name)], Selection())
    assert reading.run is not None, reading.error
    run = reading.run
    assert (run.provenance.framework, run.entropy.key) == (framework, entropy)
    if score.startswith(
        ("val", "test", "eval")
    ):  # two or three validations are too few to be chosen by themselves
        (reading,) = scan([str(tmp_path / name)], Selection(on="val"))
        run = reading.run
        assert run is not None and run.performance_kind == "validation"
    assert run.performance_key == score


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in link and not link.startswith("mailto:"):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", [*DOCS, REPO / "README.md"], ids=lambda p: p.name)
def test_commands_and_options_exist(page):
    """Every `entlaw COMMAND --option` of a shell block is one of that command's own."""
    from entlaw.cli.app import app

    blocks = re.findall(r"```(?:bash|sh|console)?\n(.*?)```", page.read_text(), re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        found = re.match(r"\s*\$?\s*entlaw ([a-z]+)\b(.*)", re.split(r" # |;|\|", line)[0])
        if not found or found[1] == "data":
            continue
        command = app[found[1]]
        known = {name for argument in command.assemble_argument_collection() for name in argument.names}
        for option in re.findall(r"(?<=\s)(--?[a-z][\w-]*)", re.sub(r"'[^']*'|\"[^\"]*\"", "''", found[2])):
            assert option in known or option in ("--help", "-h"), f"{page.name}: {line.strip()}"


NUMBER = re.compile(r"(-?\d[\d,]*\.?\d*)<!--(\w+):([^>]+?)-->")


def test_numbers_of_the_page_on_the_paper_are_those_of_the_figures():
    """``88<!--fig2:gained_at_a_third-->`` is that finding of that figure, rounded as written; ``*100``: in percent."""
    import json

    found = NUMBER.findall((REPO / "docs" / "paper.md").read_text())
    assert len(found) > 20
    for text, figure, key in found:
        key, _, factor = key.partition("*")
        value = json.loads((REPO / "figures" / f"{figure}.json").read_text())["findings"][key] * float(
            factor or 1
        )
        decimals = len(text.partition(".")[2])
        # Half a unit of the last place, and a hair for numbers that lie on the edge.
        assert abs(float(text.replace(",", "")) - value) <= 0.5001 * 10**-decimals, (text, figure, key, value)


def test_tables_are_what_the_registries_give():
    """Where this fails, a page is out of date: `python docs/tables.py` writes it."""
    import runpy

    from entlaw.law.rivals import RIVALS
    from entlaw.train.advantages import ESTIMATORS
    from entlaw.train.controls import CONTROLS
    from entlaw.train.losses import LOSSES
    from entlaw.train.recipe import settings

    script = runpy.run_path(str(REPO / "docs" / "tables.py"))
    assert [page.name for page in script["stale"]()] == []

    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS)
    tables = {name: text for _, name, text in script["PLACE"].findall(pages)}
    assert sorted(tables) == sorted(script["TABLES"])
    assert pages.count("<!-- table: ") == pages.count("<!-- end of table -->") == len(tables)

    def first_cells(name: str) -> list[str]:
        return re.findall(r"^\| `([^`]+)` \|", tables[name], re.MULTILINE)

    assert first_cells("estimators")[1:] == list(ESTIMATORS)  # after the head, which is code too
    assert first_cells("losses")[1:] == list(LOSSES)
    assert first_cells("rivals") == list(RIVALS)
    assert first_cells("controls") == [cls.switch for cls in CONTROLS.values()]
    assert sorted(first_cells("settings")) == sorted(key.rpartition(".")[2] for key in settings())


def test_cells_of_a_table_are_escaped():
    import runpy

    cell = runpy.run_path(str(REPO / "docs" / "tables.py"))["_cell"]
    assert cell("`a|b` |x| <think> `<b>` p < 1") == r"`a\|b` \|x\| &lt;think> `<b>` p < 1"
