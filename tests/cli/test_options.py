"""The words of the command line: one word, one meaning over all commands."""

from __future__ import annotations

import pytest

from entlaw.cli.app import list_options, run
from entlaw.cli.options import MEANINGS

OPTIONS = list_options()
COMMANDS = sorted({command for commands in OPTIONS.values() for command in commands})
OF_A_SERVER = ("--filter", "--group", "--tag", "--sweep", "--limit", "--yes")
SHARED = [option for option, commands in OPTIONS.items() if len(commands) > 1]


@pytest.mark.parametrize("option", SHARED)
def test_an_option_of_several_commands_means_the_same_in_all(option):
    what = MEANINGS[option.removeprefix("--")]
    for command, help_ in OPTIONS[option].items():
        assert help_.startswith(what), f"entlaw {command} {option}: {help_}"


def test_every_meaning_is_of_an_option():
    assert {f"--{word}" for word in MEANINGS} <= set(OPTIONS)


def test_no_two_words_mean_the_same():
    told = [next(iter(commands.values())) for commands in OPTIONS.values()]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_no_flag_that_nobody_meant(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run([*command.split(), "--help"]) == 0
    told = capsys.readouterr().out
    assert not any(leak in told for leak in ("--empty-", "[default: ()]", "[default: False]", "[default: ]"))
    mine = [option for option in OF_A_SERVER if command in OPTIONS[option]]
    assert mine in ([], list(OF_A_SERVER))
    if mine:
        before, _, group = told.partition("─ Runs of a W&B project ─")
        assert all(f"│ {option} " in group and f"│ {option} " not in before for option in mine)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "--on" in OPTIONS and c in OPTIONS["--on"]])
def test_commands_that_read_logs_take_the_same_options(command):
    for option in (
        "--align",
        "--scale",
        "--score-range",
        "--entropy-key",
        "--step-key",
        "--join",
        *OF_A_SERVER,
    ):
        assert command in OPTIONS[option]
