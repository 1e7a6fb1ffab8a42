"""Rows of a view of many runs: results, logs that cannot be read, and labels that tell them apart."""

import numpy as np
import pytest

from entlaw.law.examined import examine_reading, examine_readings, label_runs
from entlaw.law.result import examine
from entlaw.law.settings import Settings
from entlaw.runs.reader import scan

from ..conftest import law_records, write_jsonl


@pytest.fixture
def readings(tmp_path):
    """One run that obeys the law, one whose entropy does not fall, one log without entropy, one that is no log."""
    write_jsonl(tmp_path / "good.jsonl", law_records(n=60))
    write_jsonl(tmp_path / "flat.jsonl", law_records(n=60, entropy=0.7 + 0.001 * np.sin(np.arange(63))))
    write_jsonl(tmp_path / "blind.jsonl", [{"step": i, "val/accuracy": 0.1} for i in range(9)])
    (tmp_path / "broken.jsonl").write_bytes(b"\x00\x01 no log at all")
    return [r for n in ("good", "flat", "blind", "broken") for r in scan(str(tmp_path / f"{n}.jsonl"))]


def test_what_has_a_result_and_what_has_an_error(readings):
    good, flat, blind, broken = examine_readings(readings)
    assert good.verdict in ("ok", "caution") and good.failure is None and good.error is None
    assert flat.verdict == "refused" and flat.error is None and flat.failure.exit_code == 4
    for row, reading in zip((blind, broken), readings[2:], strict=True):
        assert row.result is None and row.verdict == "unreadable" and row.failure.exit_code == 3
        assert row.error is row.failure is reading.error
    assert [row.reading for row in (good, flat, blind, broken)] == readings


def test_a_row_s_json_is_the_result_s_with_label_and_path(readings):
    settings = Settings(until_step=None, level=0.9)
    row = examine_reading(readings[0], settings, "mine")
    told, result = row.to_dict(), examine(readings[0].run, settings)
    assert (told.pop("label"), told.pop("path")) == ("mine", readings[0].path)
    assert set(told) == set(result.to_dict()) and told["verdict"] == row.verdict == result.verdict
    assert told["law"]["ceiling"] == result.ceiling and told["law"]["until_step"] is None
    lost = examine_reading(readings[3]).to_dict()
    assert (
        lost["verdict"] == "unreadable" and lost["error"]["exit_code"] == 3 and lost["label"] == lost["name"]
    )


def test_labels_are_names_where_these_differ_and_unique_where_not(readings):
    assert label_runs(readings[:2]) == ["good", "flat"]
    good = readings[0]
    assert label_runs([good, readings[1], good]) == [
        f"good ({good.path}) #1",
        "flat",
        f"good ({good.path}) #2",
    ]
