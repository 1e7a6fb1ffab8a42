"""What `entlaw push` assembles, without a server: the same bytes each time, no paths, no numbers of refused fits."""

from __future__ import annotations

import json

import pytest

from entlaw.cli.output import plain
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.report.wandb_push import (
    SUMMARY_KEYS,
    TABLE_COLUMNS,
    Pushed,
    analysis,
    identity_of,
    pushed,
    stale,
    summary,
)
from entlaw.runs.reader import scan
from entlaw.runs.wandb.stored import Identity
from tests.conftest import law_records, write_jsonl


def made(path, identity=None, name=None, settings=None, **records) -> Pushed:
    (reading,) = scan(write_jsonl(path, law_records(**records)))
    result = examine(reading.run, settings, name=name)
    return pushed(result, reading.path, identity, plain(result.to_dict()))


def push(results, **settings):
    return analysis(results, "https://h", "team", "proj", settings, {"entlaw": "1"})


def test_the_same_fits_give_the_same_bytes_and_another_fit_gives_others(tmp_path):
    first, again = (push([made(tmp_path / "a.jsonl")], until_step=36) for _ in range(2))
    assert (first.digest, first.to.run_id, first.files) == (again.digest, again.to.run_id, again.files)
    longer = push([made(tmp_path / "a.jsonl", n=30)], until_step=36)
    assert longer.to.run_id == first.to.run_id and longer.digest != first.digest
    assert push([made(tmp_path / "a.jsonl")], until_step=50).to.run_id != first.to.run_id
    assert not any(str(tmp_path).encode() in data for data in first.files.values())


def test_names_that_differ_only_in_case_or_signs_keep_their_files(tmp_path):
    names = ["A/b", "a b", "../..", "fit"]
    whole = push([made(tmp_path / "a.jsonl", name=name) for name in names])
    stems = [name for name in whole.files if name.endswith(".csv")]
    assert len({s.lower() for s in stems}) == len(whole.figures) == len(names)
    assert not any("/" in name or name.startswith(".") for name in whole.files)


def test_a_refused_fit_has_a_reason_and_no_numbers(tmp_path):
    flat = made(tmp_path / "a.jsonl", entropy=[0.7 + 0.001 * (i % 3) for i in range(70)])
    assert flat.result.verdict == "refused" and flat.result.law is None
    told = summary(flat, "1")
    assert told["entlaw/reason"] and not any(isinstance(v, (int, float)) for v in told.values())
    whole = push([flat])
    assert set(whole.files) == {"fit.json"} and not whole.figures
    (shown,) = json.loads(whole.files["fit.json"])["runs"]
    assert shown["law"] is shown["held_out"] is None and shown["reason"] and "error" not in shown
    (row,) = whole.rows
    assert row[TABLE_COLUMNS.index("ceiling")] is None and len(row) == len(TABLE_COLUMNS)
    good = summary(made(tmp_path / "b.jsonl"), "1")
    gone = stale({**good, "entlaw/other": 1, "loss": 2}, told)
    assert "entlaw/ceiling" in gone and set(gone) == set(good) - set(told)
    assert set(gone) <= set(SUMMARY_KEYS)


def test_the_forecast_is_pushed_beside_the_law(tmp_path):
    told = summary(made(tmp_path / "a.jsonl"), "1")
    found = examine(scan_one(tmp_path / "a.jsonl"))
    (at,) = found.forecast.at
    expected = {
        "state": "running",
        "forecast_verdict": found.forecast.verdict,
        "forecast_model": "growth",
        "forecast_n": 16,
        "forecast_step": 120.0,
        "forecast_median": at.median,
        "forecast_lo": at.interval.lo,
        "forecast_hi": at.interval.hi,
        "forecast_p_gain": found.forecast.gain.probability_above(0.01),
        "until_step": 36.0,
    }
    assert {key: told[f"entlaw/{key}"] for key in expected} == expected
    assert "entlaw/forecast_until_step" not in told  # all that is logged
    windowed = summary(made(tmp_path / "a.jsonl", settings=Settings(until_step=50.0)), "1")
    assert windowed["entlaw/forecast_until_step"] == windowed["entlaw/until_step"] == 50.0
    # The law refused for want of points in its window, the forecast given: only the forecast's numbers.
    few = summary(made(tmp_path / "few.jsonl", n=121, every=15), "1")
    assert few["entlaw/verdict"] == "refused" and not {"entlaw/ceiling", "entlaw/a", "entlaw/n"} & set(few)
    assert few["entlaw/forecast_n"] == 9 and 0.5 < few["entlaw/forecast_median"] < 0.7


def scan_one(path):
    (reading,) = scan(path)
    return reading.run


@pytest.mark.parametrize(
    "details, expected",
    [
        (
            {"entity": "e", "project": "p", "run_id": "r", "host": "https://own/"},
            Identity("https://own", "e", "p", "r"),
        ),
        ({"entity": "e", "project": "p", "run_id": "r"}, Identity("https://h", "e", "p", "r")),
        ({"run_id": "/a/folder"}, None),
        ({"entity": "", "project": "p", "run_id": "r"}, None),
        ({}, None),
    ],
)
def test_where_a_run_is(details, expected):
    assert identity_of(details, "https://h") == expected
