"""Pulling with the real client: any number of pulls at any moments give what one pull at the end gives."""

from __future__ import annotations

import json
import threading

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entlaw.cli.__main__ import main
from entlaw.errors import UnreadableSource
from entlaw.runs import reader
from entlaw.runs.prepare import to_run
from entlaw.runs.wandb.cache import Cache, sidecar
from entlaw.runs.wandb.facts import describe_remote, raw_run
from entlaw.runs.wandb.history import fetch
from entlaw.runs.wandb.listing import RunRef
from entlaw.runs.wandb.pull import Pulled, pull, pull_run
from entlaw.runs.wandb.stored import CachedRun, decode
from tests.conftest import law_records
from tests.wandb import read_server

client = read_server.client
one_server = read_server.one_server
server = read_server.server

RECORDS = [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=41))]


def ref(run_id: str = "r1", project: str = "proj") -> RunRef:
    return RunRef("team", project, run_id)


def stored(done: Pulled) -> CachedRun:
    assert done.error is None and done.path is not None
    assert json.loads(sidecar(done.path).read_text())["rows"] == done.rows
    return decode(done.path, str(done.path))


def assert_equal(one: CachedRun, two: CachedRun) -> None:
    pd.testing.assert_frame_equal(one.rows, two.rows, check_exact=True)
    for key in ("facts", "state", "last_step", "globs", "short"):
        assert json.dumps(one.about[key]) == json.dumps(two.about[key]), key


def truth(rows: list[dict]) -> dict[str, list[float]]:
    """What the rows hold, without our code: key to its values in order of steps, NaN where there is none."""
    keys = {k for row in rows for k in row}
    return {k: [float(row.get(k, np.nan)) for row in rows] for k in keys}


def assert_holds(entry: CachedRun, rows: list[dict]) -> None:
    expected = truth(rows)
    assert set(entry.rows.columns) == set(expected)
    for key, values in expected.items():
        np.testing.assert_array_equal(entry.rows[key].to_numpy(), values, err_msg=key)


KEYS = ("actor/entropy", "val/accuracy", "late/x", "other")
values = st.floats(allow_nan=False, allow_infinity=False)
histories = st.lists(
    st.tuples(st.integers(1, 3), st.dictionaries(st.sampled_from(KEYS), values, max_size=4)),
    min_size=1,
    max_size=14,
)


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gaps=histories, data=st.data())
def test_pulled_at_any_moments_equals_one_pull_at_the_end(server, client, tmp_path_factory, gaps, data):
    steps = np.cumsum([gap for gap, _ in gaps]).tolist()
    rows = [{"_step": int(s), "_timestamp": 1e9 + s, **row} for s, (_, row) in zip(steps, gaps, strict=True)]
    folder = tmp_path_factory.mktemp("grown")
    run = server.add("grow", [], state="running")
    cuts = data.draw(st.lists(st.integers(0, len(rows)), min_size=1, max_size=4).map(sorted))
    for cut in cuts:
        run.rows = [dict(row) for row in rows[:cut]]
        if cut and data.draw(st.booleans()):  # the row that is being written is seen before it is whole
            for key in data.draw(st.sets(st.sampled_from(KEYS))):
                run.rows[-1].pop(key, None)
        seen = pull_run(client, ref("grow"), folder)
        assert_holds(stored(seen), run.rows) if run.rows else None
    run.rows, run.state = rows, data.draw(st.sampled_from(["running", "finished", "crashed"]))
    grown = pull_run(client, ref("grow"), folder)
    once = pull_run(client, ref("grow"), tmp_path_factory.mktemp("once"))
    assert_equal(stored(grown), stored(once))
    assert_holds(stored(grown), rows)
    assert [f.code for f in grown.findings] == []


def test_only_what_is_new_is_asked_for(server, client, tmp_path):
    run = server.add("r1", RECORDS[:20], state="running")
    assert pull_run(client, ref(), tmp_path).rows_new == 20
    run.rows = RECORDS[:30]
    asked = len(server.asked)
    done = pull_run(client, ref(), tmp_path)
    assert (done.rows_new, done.rows, done.last_step, done.state) == (10, 30, 29, "running")
    assert server.first_steps(asked) == [19]  # the last known row once more, and nothing before it
    run.rows, run.state = RECORDS, "finished"
    assert pull_run(client, ref(), tmp_path).rows_new == 12


def test_a_final_run_that_is_unchanged_costs_one_request_and_no_writing(server, client, tmp_path):
    server.add("r1", RECORDS, config={"x": float("nan"), "tags": [1, 2]})
    first = pull_run(client, ref(), tmp_path)
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()}
    asked = len(server.asked)
    again = pull_run(client, ref(), tmp_path)
    assert (again.rows_new, again.rows, again.requests) == (0, first.rows, 1)
    assert len(server.since(asked)) == 1
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in tmp_path.iterdir()}


@pytest.mark.parametrize("how", ["shorter", "regrown", "other values at the end", "resumed below"])
def test_a_run_that_was_rewound_is_noticed_and_fetched_anew(server, client, tmp_path, how):
    run = server.add("r1", RECORDS[:30], state="running")
    pull_run(client, ref(), tmp_path / "a")
    other = [{**row, "actor/entropy": 9.0 + i, "_timestamp": 2e9 + i} for i, row in enumerate(RECORDS)]
    run.rows = {
        "shorter": RECORDS[:20],
        "regrown": RECORDS[:20] + other[20:],
        "other values at the end": RECORDS[:29] + other[29:35],
        "resumed below": RECORDS[:10] + [{**r, "_step": r["_step"] + 25} for r in other[10:25]],
    }[how]
    done = pull_run(client, ref(), tmp_path / "a")
    assert [f.code for f in done.findings] == ["history-rewritten"] and done.findings[0].severity == "warning"
    assert_equal(stored(done), stored(pull_run(client, ref(), tmp_path / "b")))
    assert_holds(stored(done), run.rows)


def test_values_that_appear_behind_what_was_known_are_fetched(server, client, tmp_path):
    """A job that evaluates old checkpoints logs a new key at steps long past."""
    run = server.add("r1", RECORDS[:30], state="running")
    pull_run(client, ref(), tmp_path / "a")
    run.rows = [
        {**row, "late/eval": row["_step"] / 7} if i % 5 == 0 else row for i, row in enumerate(RECORDS[:33])
    ]
    done = pull_run(client, ref(), tmp_path / "a")
    assert_holds(stored(done), run.rows)
    assert_equal(stored(done), stored(pull_run(client, ref(), tmp_path / "b")))


@pytest.mark.parametrize("state", ["finished", "running"])
def test_what_the_server_withheld_is_told_and_fetched_when_it_is_there(server, client, tmp_path, state):
    run = server.add("r1", RECORDS, state=state, withheld=frozenset(range(10, 20)))
    done = pull_run(client, ref(), tmp_path)
    assert [f.code for f in done.findings] == ["history-incomplete"] and done.rows == 32
    run.withheld = frozenset()
    mended = pull_run(client, ref(), tmp_path)  # nothing that the server says of the run has changed
    assert (mended.rows_new, mended.findings) == (10, ())
    assert_holds(stored(mended), RECORDS)


def test_keys_asked_for_are_kept_and_widened_never_lost(server, client, tmp_path):
    run = server.add("r1", RECORDS[:20], state="running")

    def columns(keys=None, **kw):
        return set(stored(pull_run(client, ref(), tmp_path, keys=keys, **kw)).rows.columns)

    some = columns(["actor/*"])
    assert "actor/entropy" in some and "val/accuracy" not in some and {"_step", "step"} <= some
    run.rows = RECORDS[:30]
    assert columns(["val/*"]) == some | {"val/accuracy"}
    assert columns() == set(truth(RECORDS))
    run.rows = RECORDS
    assert columns(["actor/*"]) == set(
        truth(RECORDS)
    )  # narrower than what is there: kept up to date all the same
    assert columns(["actor/*"], refresh=True) == some


def test_a_damaged_file_is_told_and_fetched_again(server, client, tmp_path):
    server.add("r1", RECORDS)
    path = pull_run(client, ref(), tmp_path).path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    done = pull_run(client, ref(), tmp_path)
    assert [f.code for f in done.findings] == ["cache-damaged"] and done.path == path
    assert_holds(stored(done), RECORDS)
    sidecar(path).unlink()  # killed between the two
    mended = pull_run(client, ref(), tmp_path)
    assert [f.code for f in mended.findings] == ["cache-mended"] and mended.requests == 1
    assert pull_run(client, ref(), tmp_path).findings == ()


def test_many_keep_their_order_and_one_that_fails_does_not_cost_the_others(server, client, tmp_path):
    refs = []
    for i in range(9):
        server.add(f"r{i}", RECORDS[: 5 + i], display="one name for all")
        refs.append(ref(f"r{i}"))
    refs.insert(4, ref("gone"))
    server.latency = 0.05  # without, an answer can be there before the next question is asked
    done = list(pull(client, refs, tmp_path))
    assert [one.rows for one in done if one.error is None] == [5 + i for i in range(9)]
    assert done[4].error is not None and done[4].error.exit_code == 3 and done[4].path is None
    assert len({one.path for one in done}) == 10
    assert 2 <= server.most_at_once <= 4


def test_a_pulled_run_reads_as_the_run_on_the_server_to_the_last_digit(server, client, tmp_path, capsys):
    server.add(
        "r1",
        RECORDS,
        display="my run",
        group="g1",
        config={"actor": {"lr": 1e-6}, "data": {"n": 16}},
        summary={"best": float("inf")},
    )
    done = pull_run(client, ref(), tmp_path)
    known = describe_remote(client, ref())
    online = to_run(raw_run(ref(), known, fetch(client, ref(), known=known).rows))  # no file in between
    (source,) = reader.read("wandb:team/proj/r1")
    (offline,) = reader.read(done.path)
    (folder,) = reader.read(tmp_path)
    for run in (offline, folder, source):
        assert run.name == online.name == "my run" and run.config == online.config
        assert run.provenance.details == online.provenance.details
        assert run.provenance.details["run_id"] == "r1" and run.provenance.details["group"] == "g1"
        columns = list(online.metrics.columns)
        assert set(run.metrics.columns) == set(columns)
        pd.testing.assert_frame_equal(run.metrics[columns], online.metrics, check_exact=True)
        pd.testing.assert_frame_equal(run.points, online.points, check_exact=True)
        assert run.choices == online.choices and run.findings == online.findings

    def fitted(source: object) -> dict:
        assert main(["fit", str(source), "--json"]) == 0
        (one,) = json.loads(capsys.readouterr().out)["runs"]
        return {k: v for k, v in one.items() if k != "path"}

    assert fitted(tmp_path) == fitted(done.path) == fitted("wandb:team/proj/r1")


def test_two_runs_of_one_id_in_two_projects_stay_two(server, client, tmp_path):
    server.add("r1", RECORDS, project="proj")
    other = [{k: v if k in ("_step", "step") else 0.9 * v for k, v in r.items()} for r in RECORDS[:30]]
    server.add("r1", other, project="other")
    done = [pull_run(client, ref(project=p), tmp_path) for p in ("proj", "other")]
    assert done[0].path != done[1].path
    assert sorted(len(run.metrics) for run in reader.read(tmp_path)) == [30, 42]


def test_a_run_without_history_is_pulled_and_says_so(server, client, tmp_path):
    run = server.add("r1", [], state="running")
    done = pull_run(client, ref(), tmp_path)
    assert (done.rows, done.last_step) == (0, None)
    (reading,) = reader.scan(done.path)
    assert "no history" in str(reading.error)
    run.rows = RECORDS
    assert pull_run(client, ref(), tmp_path).rows_new == len(RECORDS)


def test_two_threads_that_pull_one_run_fetch_it_once(server, client, tmp_path):
    server.add("r1", RECORDS)
    client.api  # noqa: B018 - logged in before the race
    asked = len(server.asked)
    done: list[Pulled] = []
    threads = [
        threading.Thread(target=lambda: done.append(pull_run(client, ref(), tmp_path))) for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(one.rows_new for one in done) == [0, 0, 0, 42]
    assert len(server.first_steps(asked)) == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_files_of_other_versions_are_read_as_far_as_they_tell_and_pulled_anew_where_they_do_not(
    server, client, tmp_path
):
    server.add("r1", RECORDS)
    path = pull_run(client, ref(), tmp_path).path
    entry = decode(path, "")

    def rewrite(about: dict) -> None:
        cache = Cache(tmp_path)
        cache.save(path, CachedRun(entry.identity, entry.name, entry.rows, about))

    later = {**entry.about, "facts": {**entry.about["facts"], "unheard_of": 1}, "more": [1]}
    rewrite(later)
    (run,) = reader.read(path)
    assert len(run.metrics) == len(RECORDS)
    rewrite({"state": "finished"})
    (reading,) = reader.scan(path)
    assert isinstance(reading.error, UnreadableSource) and reading.error.exit_code == 3
    assert pull_run(client, ref(), tmp_path).rows == len(RECORDS)
    assert len(reader.read(path)) == 1


def test_a_damaged_pulled_file_is_an_error_offline_never_other_numbers(server, client, tmp_path):
    server.add("r1", RECORDS)
    path = pull_run(client, ref(), tmp_path).path
    data = bytearray(path.read_bytes())
    data[100:300] = bytes(200)  # in the first pages; of single bytes, some say nothing that is read
    path.write_bytes(data)
    (reading,) = reader.scan(path)
    assert isinstance(reading.error, UnreadableSource) and "pull" in str(reading.error.hint)
