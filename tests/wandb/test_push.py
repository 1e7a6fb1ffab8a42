"""What `entlaw push` assembles, without a server: the same bytes each time, no paths, no numbers of refused fits."""

from __future__ import annotations

import json

import pytest

from entlaw.cli.fit import as_dict, one
from entlaw.cli.options import FitFlags
from entlaw.cli.output import plain
from entlaw.report.wandb_push import (
    SUMMARY_KEYS,
    TABLE_COLUMNS,
    Result,
    analysis,
    identity_of,
    result,
    stale,
    summary,
)
from entlaw.runs.reader import scan
from entlaw.runs.wandb.stored import Identity
from tests.conftest import law_records, write_jsonl


def made(path, identity=None, name=None, **records) -> Result:
    (reading,) = scan(write_jsonl(path, law_records(**records)))
    o = one(reading, FitFlags())
    reason = o.error.what if o.error else None
    return result(
        name or reading.name, reading.path, identity, o.verdict, reason, plain(as_dict(o)), o.fit, reading.run
    )


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
    assert flat.verdict == "refused" and flat.fit is None
    told = summary(flat, "1")
    assert told["entlaw/reason"] and not any(isinstance(v, (int, float)) for v in told.values())
    whole = push([flat])
    assert set(whole.files) == {"fit.json"} and not whole.figures
    assert "ceiling" not in json.loads(whole.files["fit.json"])["runs"][0]
    (row,) = whole.rows
    assert row[TABLE_COLUMNS.index("ceiling")] is None and len(row) == len(TABLE_COLUMNS)
    good = summary(made(tmp_path / "b.jsonl"), "1")
    gone = stale({**good, "entlaw/other": 1, "loss": 2}, told)
    assert "entlaw/ceiling" in gone and set(gone) == set(good) - set(told)
    assert set(gone) <= set(SUMMARY_KEYS)


@pytest.mark.parametrize("details, expected", [
    ({"entity": "e", "project": "p", "run_id": "r", "host": "https://own/"}, Identity("https://own", "e", "p", "r")),
    ({"entity": "e", "project": "p", "run_id": "r"}, Identity("https://h", "e", "p", "r")),
    ({"run_id": "/a/folder"}, None), ({"entity": "", "project": "p", "run_id": "r"}, None), ({}, None),
])  # fmt: skip
def test_where_a_run_is(details, expected):
    assert identity_of(details, "https://h") == expected
