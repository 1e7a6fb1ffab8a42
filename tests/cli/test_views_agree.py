"""All views of one run say the same: the commands, and Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import entlaw
from entlaw.cli.__main__ import main
from entlaw.law.result import Result, examine
from tests.conftest import REPO

# Laws that are passed, quoted with caution, and refused; entropy that falls, rises and is held.
RUNS = ("grpo-m-rl0", "prime-m-rl0", "random-reward-m-rl0", "entropy-target-0.3-m-rl0", "ppo-m-rl0")


def _of_document(out: str) -> dict[str, Any]:
    (run,) = json.loads(out)["runs"]
    return dict(run)


def _of_last_report(out: str) -> dict[str, Any]:
    told = [json.loads(line) for line in out.splitlines()]
    return dict([line for line in told if line["schema"] == "entlaw.watch/2"][-1])


# How each command is asked for one run, and where its answer stands.
COMMANDS: dict[str, tuple[list[str], Callable[[str], dict[str, Any]]]] = {
    "fit": (["fit", "--json"], _of_document),
    "predict": (["predict", "--json"], _of_document),
    "report": (["report", "--json"], _of_document),
    "watch": (["watch", "--once", "--json"], _of_last_report),
}
VIEWS = (*COMMANDS, "to_dict")


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {name: examine(entlaw.read(REPO / "runs" / name)[0]) for name in RUNS}


def told_by(view: str, name: str, result: Result, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a view says of a run."""
    if view == "to_dict":
        return result.to_dict()
    (command, *options), find = COMMANDS[view]
    main([command, str(REPO / "runs" / name), *options])
    return find(capsys.readouterr().out)


def facts(told: dict[str, Any]) -> dict[str, Any]:
    """What all views have to agree on."""
    law, ahead = told["law"], told["forecast"]
    return {
        "state": told["state"],
        "verdict": told["verdict"],
        "ceiling": law and law["ceiling"],
        "ceiling_interval": law and law["ceiling_interval"],
        "forecast": ahead["verdict"],
        "gain": ahead["gain"],
        "at": [
            {key: one[key] for key in ("step", "median", "intervals", "model", "n")} for one in ahead["at"]
        ],
    }


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_says_what_the_result_says(view, name, results, capsys):
    r = results[name]
    ahead = r.forecast
    expected = {
        "state": r.state,
        "verdict": r.verdict,
        "ceiling": r.law and r.law.ceiling,
        "ceiling_interval": r.law and vars(r.law.ceiling_interval),
        "forecast": ahead.verdict,
        "gain": ahead.gain and ahead.gain.to_dict(),
        "at": [
            {
                "step": one.step,
                "median": one.median,
                "intervals": [vars(i) for i in one.intervals],
                "model": one.model,
                "n": one.n,
            }
            for one in ahead.at
        ],
    }
    assert facts(told_by(view, name, r, capsys)) == expected


def test_the_runs_differ_in_what_is_said_of_them(results):
    """Or else their agreement would say little."""
    assert {r.verdict for r in results.values()} >= {"passed", "caution", "refused"}
    assert len({r.forecast.verdict for r in results.values()}) >= 2
