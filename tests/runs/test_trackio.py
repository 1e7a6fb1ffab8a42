"""trackio projects: the schema of the real package, several runs in one file, damage."""

from __future__ import annotations

import json
import math
import sqlite3
import stat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.source import Head, ReadOptions
from entlaw.runs.sources import trackio

# As trackio 0.43 creates them; values are written as JSON blobs (orjson), NaN and infinities as strings.
METRICS = """CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
 run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL, log_id TEXT, space_id TEXT)"""
CONFIGS = """CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, run_name TEXT NOT NULL,
 config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_id))"""
INDEX = "CREATE INDEX idx_metrics_run_step ON metrics(run_id, step)"
OLD_METRICS = """CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL,
 run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"""


def blob(record):
    def clean(value):
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
        return value

    return json.dumps(clean(record)).encode()


def project(path, runs, configs=True):
    """``runs``: (id, name, config, [(step, record)])."""
    db = sqlite3.connect(path)
    db.execute(
        "PRAGMA journal_mode = WAL"
    )  # as trackio sets it; gone from the folder once the file is closed
    for statement in (METRICS, CONFIGS, INDEX):
        db.execute(statement)
    for run_id, name, config, records in runs:
        for step, record in records:
            db.execute(
                "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES (?,?,?,?,?)",
                (run_id, "2026-01-02T03:04:05+00:00", name, step, blob(record)),
            )
        if configs:
            db.execute(
                "INSERT INTO configs (run_id, run_name, config, created_at) VALUES (?,?,?,?)",
                (run_id, name, blob(config), "2026-01-02T03:04:05+00:00"),
            )
    db.commit()
    db.close()
    return path


def records(scale, n=10):
    return [(2 * t, {"actor/entropy": scale / (t + 1), "val": t / 7.0}) for t in range(n)]


def read(path):
    return trackio.read(path, ReadOptions())


def test_several_runs_of_one_project(tmp_path):
    config = {"lr": 1e-6, "opt": {"name": "adam"}, "_Username": "someone"}
    path = project(
        tmp_path / "demo.db",
        [
            ("aaaaaaaaaaaa", "one", config, records(1.0)),
            ("bbbbbbbbbbbb", "two", {}, records(2.0)),
            ("cccccccccccc", "one", {}, records(3.0)),
        ],
    )
    first, second, third = read(path)
    assert [r.name for r in (first, second, third)] == ["one (aaaaaaaa)", "two", "one (cccccccc)"]
    assert first.config == {"lr": 1e-6, "opt.name": "adam"} and second.config == {}
    for scale, raw in ((1.0, first), (2.0, second), (3.0, third)):
        np.testing.assert_array_equal(raw.rows["actor/entropy"], [scale / (t + 1) for t in range(10)])
        np.testing.assert_array_equal(raw.rows["step"], 2.0 * np.arange(10))
        assert raw.findings == ()
    assert (
        first.provenance.details["run_id"] == "aaaaaaaaaaaa" and first.provenance.details["project"] == "demo"
    )
    assert list(tmp_path.iterdir()) == [path], "reading must leave no journal behind"


def test_values_as_trackio_spells_them(tmp_path):
    record = {
        "nan": math.nan,
        "inf": math.inf,
        "minus": -math.inf,
        "flag": True,
        "text": "hello",
        "nested": {"a": {"b": 0.1}},
        "image": {"_type": "trackio.image", "size": 3},
        "list": [1, 2],
        "none": None,
    }
    (raw,) = read(project(tmp_path / "a.db", [("r", "n", {}, [(1, record), (1, {"only": 2.0})])]))
    row = raw.rows.iloc[0]
    assert set(raw.rows.columns) == {"nan", "inf", "minus", "flag", "nested.a.b", "none", "step", "only"}
    assert (
        math.isnan(row["nan"])
        and row["inf"] == math.inf
        and row["minus"] == -math.inf
        and row["nested.a.b"] == 0.1
    )
    assert raw.rows["only"][1] == 2.0 and list(raw.rows["step"]) == [1, 1]


def test_files_of_older_releases_have_no_run_id(tmp_path):
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.execute(OLD_METRICS)
    for name in ("x", "y"):
        for t in range(3):
            db.execute(
                "INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?,?,?,?)",
                ("2025", name, t, json.dumps({"loss": t + len(name)})),
            )
    db.commit()
    db.close()
    assert [r.name for r in read(path)] == ["x", "y"] and read(path)[0].config == {}


def test_a_live_project_is_read_with_its_write_ahead_log(tmp_path):
    path = project(tmp_path / "a.db", [("r", "n", {}, records(1.0, 2))])
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute(
        "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES ('r', '', 'n', 9, '{\"val\": 0.75}')"
    )
    writer.commit()
    try:
        assert (tmp_path / "a.db-wal").stat().st_size > 0
        (raw,) = read(path)
        assert list(raw.rows["step"]) == [0, 2, 9] and raw.rows["val"].iloc[-1] == 0.75
    finally:
        writer.close()


def test_a_read_only_folder_and_odd_names(tmp_path):
    folder = tmp_path / "a b?c#d%41"
    folder.mkdir()
    path = project(folder / "x;y.db", [("r", "n", {}, records(1.0))])
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(read(path)) == 1
    finally:
        folder.chmod(stat.S_IRWXU)


def test_records_that_are_not_objects_are_counted(tmp_path):
    path = project(tmp_path / "a.db", [("r", "n", {}, records(1.0))])
    db = sqlite3.connect(path)
    for text in ("not json", "[1]", b"\xff\xfe", '{"a":' * 5000):
        db.execute(
            "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) VALUES ('r','','n',1,?)",
            (text,),
        )
    db.commit()
    db.close()
    (raw,) = read(path)
    assert len(raw.rows) == 10 and raw.findings[0].code == "undecodable-values" and raw.findings[0].value == 4


def test_other_and_empty_databases_are_refused_by_name(tmp_path):
    other = tmp_path / "mlflow.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE metrics (key TEXT, value REAL)")
    db.commit()
    db.close()
    with pytest.raises(UnreadableSource, match="not a trackio project"):
        read(other)
    with pytest.raises(UnreadableSource, match="holds no metrics"):
        read(project(tmp_path / "b.db", []))
    with pytest.raises(UnreadableSource):
        read(tmp_path / "none.db")


def test_a_locked_file_is_refused(tmp_path, monkeypatch):
    path = project(tmp_path / "a.db", [("r", "n", {}, records(1.0))])

    def locked(db, path):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(trackio, "_check_sound", locked)
    with pytest.raises(UnreadableSource, match="locked"):
        read(path)


def test_sniffed_by_content(tmp_path):
    data = project(tmp_path / "a.db", []).read_bytes()
    assert trackio.sniff(Head(tmp_path / "x", data, len(data)))
    assert not trackio.sniff(Head(tmp_path / "x.db", b"step:1 - loss:2", 15))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("trackio") / "a.db"
    project(path, [("r1", "one", {"lr": 1}, records(1.0, 120)), ("r2", "two", {}, records(2.0, 120))])
    return path.read_bytes()


def test_a_truncated_file_is_refused(tmp_path, sound):
    """SQLite's header says how many pages there are: no cut goes unnoticed."""
    path = tmp_path / "cut.db"
    for size in [*range(600), *range(600, len(sound), 211), len(sound) - 1]:
        path.write_bytes(sound[:size])
        with pytest.raises(UnreadableSource):
            read(path)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_no_traceback(tmp_path, sound, data):
    """SQLite has no checksums, so a changed digit is a value like any other; but never another exception."""
    where = st.one_of(st.integers(0, 200), st.integers(0, len(sound) - 1))
    flips = data.draw(st.lists(st.tuples(where, st.integers(1, 255)), min_size=1, max_size=6))
    changed = bytearray(sound)
    for position, bits in flips:
        changed[position] ^= bits
    path = tmp_path / "flipped.db"
    path.write_bytes(changed)
    try:
        runs = read(path)
    except UnreadableSource as error:
        assert error.hint
        return
    assert runs and all(len(r.rows) <= 241 for r in runs)
