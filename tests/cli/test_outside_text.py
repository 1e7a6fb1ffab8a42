"""Names of runs, keys and files come from other people: a terminal must not obey them, no encoding may fail on them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from entlaw.cli.__main__ import main
from tests.conftest import law_records

# Clipboard, title, cursor, 8-bit CSI, a turned direction of writing, and half of a character.
NASTY = "x\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202ey\ud83d"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.fixture
def folder(tmp_path):
    rows = [{"run": NASTY, f"k{NASTY}": 1.0, **record} for record in law_records(n=41)]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a\x1b[31m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "logs" / "b.jsonl").write_text("\n".join(map(json.dumps, law_records(n=41, a=0.3))))
    with open(os.fsencode(tmp_path / "logs") + b"/c\xff\x1b[2J.jsonl", "w") as broken:  # no UTF-8
        broken.write('{"step": 1}\n')
    return tmp_path / "logs"


@pytest.mark.parametrize(
    "command",
    [
        ["fit"],
        ["fit", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["predict", "--step", "80"],
        ["compare", "--json"],
        ["report", "-o", "out/all.html"],
        ["report", "-o", "out/all.csv"],
        ["fit", "-o", "out/all.json"],
        ["fit", "--plot", "out/all.svg"],
    ],
    ids=" ".join,
)
def test_no_command_prints_what_a_terminal_obeys(command, folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    sources = (
        [str(folder)] if command[0] != "compare" else [str(path) for path in sorted(folder.glob("[ab]*"))]
    )
    code = main([command[0], *sources, *command[1:]])
    out, err = capsys.readouterr()
    assert code in (0, 3, 4) and "unexpected" not in err, err
    assert not OBEYED.search(out + err)
    if "--json" in command:
        json.loads(out)
    for written in (tmp_path / "out").iterdir():
        assert not OBEYED.search(written.name) and not OBEYED.search(written.read_text(encoding="utf-8"))


def test_an_error_about_a_nasty_path_is_clean(folder, capsys):
    for path in folder.glob("c*"):
        assert main(["fit", str(path)]) == 3
        out, err = capsys.readouterr()
        assert "no entropy" in out + err and not OBEYED.search(out + err)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1"])
def test_a_poor_encoding_costs_characters_and_no_answer(encoding, folder, tmp_path):
    path = tmp_path / "wide.jsonl"
    path.write_text("\n".join(json.dumps({"run": "\u4e2d\u6587 \u2713", **r}) for r in law_records(n=41)))
    command = [sys.executable, "-m", "entlaw.cli", "fit", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = subprocess.run(command, capture_output=True, env=environment, check=True).stdout.decode(encoding)
    assert shown.startswith("?? ?:") or encoding == "cp437"  # which has a check mark
    told = subprocess.run([*command, "--json"], capture_output=True, env=environment, check=True).stdout
    assert json.loads(told.decode(encoding))["runs"][0]["name"] == "\u4e2d\u6587 \u2713"
