"""Histories through the real client: every row comes, or what is missing is said."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from entlaw.runs.wandb import client as client_module
from entlaw.runs.wandb import history as history_module
from entlaw.runs.wandb.address import parse
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.facts import describe_remote
from entlaw.runs.wandb.history import fetch, tidy
from entlaw.runs.wandb.listing import RunRef, find
from entlaw.runs.wandb.sdk import ServerError
from tests.wandb.source_server import _one_server, cut, status, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")


def logged(n: int, every: int = 7) -> list[dict]:
    """Rows of n steps: one key in all of them, one in every seventh, one in the steps between."""
    return [
        {"_step": i, "_timestamp": 1e9 + i, "_runtime": float(i), "loss": 1 / (i + 1)}
        | ({"val/acc": i / n} if i % every == 0 else {"other": -float(i)})
        for i in range(n)
    ]


def truth(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype(float)


def same(got: pd.DataFrame, rows: list[dict]) -> None:
    expected = truth(rows)
    assert set(got.columns) == set(expected.columns)
    pd.testing.assert_frame_equal(got[list(expected.columns)], expected, check_exact=True)


def ref(run_id: str = "r1") -> RunRef:
    return RunRef("me", "proj", run_id)


@pytest.mark.parametrize("exported", [0, 1500, 2500])
@pytest.mark.parametrize("state", ["running", "finished"])
def test_every_row_comes_wherever_the_server_keeps_it(wb, state, exported):
    rows = logged(2500)
    wb.add("me/proj/r1", rows, state=state, exported=exported)
    got = fetch(Client(), ref())
    same(got.rows, rows)
    assert got.last_step == 2499 and got.findings == ()
    assert got.how == ("export" if (state, exported) == ("finished", 2500) else "scan")
    assert wb.asked("RunSampledHistory", "RunFullHistory") == 0


@pytest.mark.parametrize("how", ["scan", "scan a key"])
def test_keys_that_were_never_logged_together_are_all_there(wb, how, monkeypatch):
    rows = logged(300)
    wb.add("me/proj/r1", rows, state="running")
    monkeypatch.setattr(history_module, "KEYED_SHARE", 0 if how == "scan" else 1)
    got = fetch(Client(), ref(), keys=["val/*", "other"])
    assert got.how == how and got.rows.columns[0] == "_step"
    expected = truth(rows)[["_step", "_timestamp", "val/acc", "other"]]
    pd.testing.assert_frame_equal(got.rows[list(expected.columns)], expected, check_exact=True)


def test_only_rows_behind_a_step(wb):
    rows = logged(50)
    wb.add("me/proj/r1", rows, state="running")
    got = fetch(Client(), ref(), after=39)
    same(got.rows, rows[40:])
    assert [v["minStep"] for op, v in wb.log if op == "HistoryPage"] == [40]
    assert fetch(Client(), ref(), after=49).rows.empty


def test_one_fetch_is_one_prefix_of_a_growing_run(wb):
    rows = logged(1500)
    run = wb.add("me/proj/r1", rows[:1200], state="running")

    def grow(handler, operation, v):  # between the question for the last step and each page
        if operation == "HistoryPage":
            run.rows = rows
        return False

    wb.faults.append(grow)
    got = fetch(Client(), ref())
    same(got.rows, rows[:1200])
    assert got.last_step == 1199


def test_steps_that_lie_far_apart_cost_no_more_pages(wb):
    rows = [{"_step": 1_000_000 * i, "tokens": float(i), "loss": 1 / (i + 1)} for i in range(400)]
    wb.add("me/proj/r1", rows, state="running")
    same(fetch(Client(), ref()).rows, rows)
    assert wb.asked("HistoryPage") <= 3


def test_values_that_json_cannot_spell_and_those_that_are_no_numbers(wb):
    rows = [
        {"_step": 0, "a": math.nan, "b": {"x": 1, "y": {"z": 2.5}}, "text": "hi", "flag": True},
        {
            "_step": 1,
            "a": math.inf,
            "h": {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]},
            "c": None,
        },
        {"_step": 2, "a": "NaN", "t": {"_type": "table-file", "ncols": 3, "nrows": 9}, "l": [1, 2, 3]},
        {"_step": 3, "a": "-Infinity", "b": {"x": 2}},
    ]
    wb.add("me/proj/r1", rows, state="running")
    got = fetch(Client(), ref())
    assert list(got.rows.columns) == ["_step", "a", "b.x", "b.y.z", "flag"]
    np.testing.assert_array_equal(got.rows["a"], [math.nan, math.inf, math.nan, -math.inf])
    np.testing.assert_array_equal(got.rows["b.x"], [1, math.nan, math.nan, 2])
    (told,) = [f for f in got.findings if f.code == "media-left-out"]
    assert all(name in told.what for name in ("text", "h", "t", "l")) and told.value == 4


@pytest.mark.parametrize("hidden", [1, 20])
def test_rows_that_the_server_counts_and_does_not_give_are_told(wb, hidden, monkeypatch):
    monkeypatch.setattr(history_module, "WAIT", 0.01)
    rows = logged(100)
    wb.add("me/proj/r1", rows, state="running", hide=hidden)
    got = fetch(Client(), ref())
    same(got.rows, rows[:-hidden])
    (told,) = got.findings
    assert told.code == "history-incomplete" and told.severity == "warning"
    assert f"{100 - hidden} of 100 rows" in told.what and "last step is 99" in told.what
    assert wb.asked("HistoryPage") == history_module.TRIES


def test_a_hole_in_the_middle_is_told_too(wb, monkeypatch):
    monkeypatch.setattr(history_module, "WAIT", 0.01)
    run = wb.add("me/proj/r1", logged(100), state="running")
    node = run.node()
    run.rows = run.rows[:40] + run.rows[60:]
    run.node = lambda: node
    got = fetch(Client(), ref())
    assert len(got.rows) == 80
    (told,) = got.findings
    assert (
        told.code == "history-incomplete" and "80 of 100 rows" in told.what and "loss 80 of 100" in told.what
    )


def test_half_a_page_that_comes_whole_the_next_time_is_no_loss(wb, monkeypatch):
    monkeypatch.setattr(history_module, "WAIT", 0.01)
    rows = logged(100)
    run = wb.add("me/proj/r1", rows, state="running", hide=50)

    def mend(handler, operation, v):
        run.hide = 0 if wb.asked("HistoryPage") > 1 else 50
        return False

    wb.faults.append(mend)
    got = fetch(Client(), ref())
    same(got.rows, rows)
    assert got.findings == ()


def test_a_history_that_is_not_given_at_all_is_an_error(wb, monkeypatch):
    monkeypatch.setattr(history_module, "WAIT", 0.01)
    wb.add("me/proj/r1", logged(30), state="running", hide=30)
    with pytest.raises(ServerError, match="up to step 29 and gives none") as caught:
        fetch(Client(), ref())
    assert caught.value.hint and caught.value.transient


def test_an_answer_that_ends_half_way_is_asked_for_again(wb, monkeypatch):
    monkeypatch.setattr(client_module, "PAUSE", 0.01)
    rows = logged(2500)
    wb.add("me/proj/r1", rows, state="running")
    wb.faults.append(cut(("HistoryPage",), 2))
    same(fetch(Client(), ref()).rows, rows)


def test_one_that_always_ends_half_way_is_an_error(wb, monkeypatch):
    monkeypatch.setattr(client_module, "PAUSE", 0.01)
    wb.add("me/proj/r1", logged(25), state="running")
    wb.faults.append(cut(("HistoryPage",), -1))
    with pytest.raises(ServerError, match="ended its answer early"):
        fetch(Client(), ref())


def test_an_export_that_cannot_be_downloaded_is_scanned(wb):
    rows = logged(60)
    wb.add("me/proj/r1", rows, exported=60)
    first = [True]

    def without(handler, operation, v):  # the archive is not there yet, when it is first asked for
        if operation != "RunParquetHistory" or not first:
            return False
        first.clear()
        return status(400)(handler, operation, v)

    wb.faults.append(without)
    got = fetch(Client(), ref())
    same(got.rows, rows)
    assert got.how == "scan"


def test_a_run_without_history(wb):
    wb.add("me/proj/r1", [])
    got = fetch(Client(), ref())
    assert (got.last_step, got.how, len(got.rows), list(got.rows.columns)) == (-1, "nothing", 0, ["_step"])


def test_what_the_server_says_of_a_run(wb):
    wb.add(
        "me/proj/r1",
        logged(20),
        name="my run",
        group="g",
        tags=["a"],
        state="running",
        config={
            "lr": 1e-6,
            "actor": {"clip": [0.2, 0.28]},
            "_wandb": {
                "value": {
                    "cli_version": "0.31.0",
                    "m": [
                        {"1": "train/step"},
                        {"2": "train/*", "5": 1},
                        {"1": "val/acc", "5": 1},
                        {"1": "x\\.y", "5": 9},
                    ],
                }
            },
        },
    )
    (one,) = find(Client(), parse("me/proj/r1"))
    known = describe_remote(Client(), one)
    assert (known.name, known.state, known.last_step, known.lines) == ("my run", "running", 19, 20)
    assert known.config == {"lr": 1e-6, "actor.clip": [0.2, 0.28]}
    assert known.step_of == {"train/*": "train/step", "val/acc": "train/step"}
    assert known.counts["loss"] == 20 and known.counts["val/acc"] == 3
    assert known.details["group"] == "g" and known.details["run_id"] == "r1"
    assert set(known.summary) == {"_step", "best"}


def test_rows_of_one_step_become_one():
    rows = pd.DataFrame({"a": [1.0, np.nan, 3.0], "_step": [2.0, 1.0, 2.0], "b": [np.nan, 5.0, np.nan]})
    expected = pd.DataFrame({"_step": [1.0, 2.0], "a": [np.nan, 3.0], "b": [5.0, np.nan]})
    pd.testing.assert_frame_equal(tidy(rows), expected)
