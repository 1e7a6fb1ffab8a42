"""Reading from the loopback server with the real client: what was put in comes out."""

from __future__ import annotations

import http.client
import io
import json
import math
import threading
import time
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PATIENCE
from tests.wandb_server import WandbServer, wait_for
from tests.wandb_server import history as histories
from tests.wandb_server.client import PATH, client, http_get, scan
from tests.wandb_server.search import BadFilter, fits

wandb = pytest.importorskip("wandb")

N = 2500  # rows: three pages of the client
ROWS = [{"a": float(i)} | ({"b": float(i)} if i % 3 == 0 else {}) for i in range(N)]
PAGES = ("HistoryPage", "SampledHistoryPage")


@pytest.fixture
def server(wandb_server):
    return wandb_server


# Reading -----------------------------------------------------------------------------------------------------------


def test_a_run_is_described_as_it_was_put_in(server):
    config, summary = {"lr": 0.1, "model": {"size": 7}}, {"best": math.nan, "deep": {"x": 1}}
    server.add_run(
        "team/proj",
        "r1",
        [{"a": 1.0}, {"a": None, "t": "x", "n": {"y": 2}}],
        config=config,
        summary=summary,
        step_metric={"train/*": "global.step"},
        state="crashed",
        group="g",
        job_type="trainer",
        tags=["x", "y"],
        display_name="a name",
        notes="said",
        created=1.7e9,
    )
    run = client().run(PATH)
    assert run.config == config and run.state == "crashed" and run.tags == ["x", "y"]
    assert (run.name, run.group, run.job_type, run.notes) == ("a name", "g", "trainer", "said")
    assert run.created_at.startswith("2023-11-14T22:13:20") and run.heartbeat_at >= run.created_at
    assert math.isnan(run.summary["best"]) and run.summary["deep"]["x"] == 1
    assert run.lastHistoryStep == 1 and run.history_line_count == 2
    keys = run.history_keys["keys"]
    assert keys["a"] == {"typeCounts": [{"type": "number", "count": 1}]}, "a null is no value"
    assert keys["t"]["typeCounts"][0]["type"] == "string" and "n.y" in keys
    assert run.rawconfig["_wandb"]["m"][1] == {"2": "train/*", "5": 1, "6": [1], "7": []}
    assert run.rawconfig["_wandb"]["m"][0]["1"] == "global\\.step"


def test_who_and_what_is_not_there(server):
    server.add_project("team/empty")
    api = client()
    assert api.default_entity == "team" and [p.name for p in api.projects("team")] == ["empty"]
    assert len(api.runs("team/empty")) == 0 and list(api.runs("team/empty")) == []
    with pytest.raises(ValueError, match="Could not find project"):
        len(api.runs("team/nothing"))
    for path in ("team/empty/gone", "team/nothing/gone"):
        with pytest.raises(wandb.errors.CommError, match="Could not find run"):
            api.run(path)


@pytest.fixture
def three(server):
    """Three runs that differ in everything a filter may name."""
    about = [
        {
            "group": "g1",
            "tags": ["x"],
            "state": "finished",
            "display_name": "base-7b",
            "config": {"lr": 0.1, "m": {"s": 1}},
        },
        {
            "group": "g1",
            "tags": ["x", "y"],
            "state": "running",
            "display_name": "base-32b",
            "config": {"lr": 0.2},
            "sweep": "s1",
        },
        {
            "group": "g2",
            "tags": [],
            "state": "crashed",
            "display_name": "Other",
            "job_type": "eval",
            "rows": [{"loss": 2.0}],
        },
    ]
    for i, one in enumerate(about):
        server.add_run(
            "team/proj", f"r{i}", one.pop("rows", [{"loss": 3.0 + i}]), created=1.7e9 + 86400 * i, **one
        )
    server.add_run("team/elsewhere", "r9", group="g1")
    return server


FILTERS = [
    ({}, "012"),
    ({"group": "g1"}, "01"),
    ({"group": {"$ne": "g1"}}, "2"),
    ({"tags": "y"}, "1"),
    ({"tags": {"$in": ["x", "z"]}}, "01"),
    ({"tags": {"$nin": ["x"]}}, "2"),
    ({"state": {"$in": ["running"]}}, "1"),
    ({"display_name": {"$regex": "^base-"}}, "01"),
    ({"displayName": {"$regex": "BASE", "$options": "i"}}, "01"),
    ({"config.lr": 0.1}, "0"),
    ({"config.lr.value": {"$gte": 0.2}}, "1"),
    ({"config.m.s": 1}, "0"),
    ({"config.lr": {"$exists": False}}, "2"),
    ({"sweep": "s1"}, "1"),
    ({"jobType": "eval"}, "2"),
    ({"job_type": {"$not": {"$eq": "eval"}}}, "01"),
    ({"name": {"$in": ["r2", "r0"]}}, "02"),
    ({"created_at": {"$lt": "2023-11-15T00:00:00"}}, "0"),
    ({"createdAt": {"$gt": "2023-11-15"}}, "12"),
    ({"summary_metrics.loss": {"$lt": 3.5}}, "02"),
    ({"$or": [{"config.lr": 0.2}, {"group": "g2"}]}, "12"),
    ({"$and": [{"group": "g1"}, {"$or": [{"state": "running"}, {"state": "crashed"}]}]}, "1"),
    ({"$nor": [{"group": "g2"}, {"tags": "y"}]}, "0"),
    ({"group": "g1", "state": "finished"}, "0"),
    ({"keys_info.keys.loss": {"$exists": True}}, "012"),
    ({"group": {"$lt": 3}}, ""),
]


def test_listings_filter_order_and_page(three):
    api = client()
    for wanted, expected in FILTERS:
        found = [run.id[1:] for run in api.runs("team/proj", filters=wanted)]
        assert "".join(found) == expected, wanted
    mark = len(three.requests)
    pages = api.runs("team/proj", per_page=2, order="-created_at")
    assert [run.id for run in pages] == ["r2", "r1", "r0"] and len(pages) == 3
    assert three.count("Runs", since=mark) == 2
    by_loss = api.runs("team/proj", order="+summary_metrics.loss")
    assert [run.id for run in by_loss] == ["r2", "r0", "r1"]
    # A lazy listing does not bring the configuration; the client asks for it when it is touched.
    assert [run.config.get("lr") for run in api.runs("team/proj", order="+name")] == [0.1, 0.2, None]
    with pytest.raises(Exception, match=r"unknown operator '\$near'"):
        len(api.runs("team/proj", filters={"group": {"$near": 1}}))


def test_sweeps_and_reports(three):
    three.add_sweep("team/proj", "s1", {"method": "grid", "metric": {"name": "loss", "goal": "minimize"}})
    api = client()
    sweep = api.sweep("team/proj/s1")
    assert sweep.config["method"] == "grid" and [run.id for run in sweep.runs] == ["r1"]
    with pytest.raises(wandb.errors.CommError, match="Could not find sweep"):
        api.sweep("team/proj/none")
    run_set = {"project": {"entityName": "team", "name": "proj"}, "selections": {"root": 0, "tree": ["r1"]}}
    url = three.add_report("team/proj", "What we saw", [run_set])
    (report,) = api.reports("team/proj")
    assert report.spec["blocks"][0]["metadata"]["runSets"] == [run_set]
    assert url.endswith("/team/proj/reports/What-we-saw--VmlldzoxMjM") and report.id.startswith("VmlldzoxMjM")


def test_a_scan_gives_every_row_by_pages(server):
    server.add_run("team/proj", "r1", ROWS, state="running")
    rows = scan()
    assert [{k: v for k, v in row.items() if k in "ab"} for row in rows] == ROWS
    assert [row["_step"] for row in rows] == list(range(N))
    pages = [r.variables for r in server.requests if r.operation == "HistoryPage"]
    assert [(v["minStep"], v["maxStep"]) for v in pages] == [(0, 1000), (1000, 2000), (2000, N)]
    answers = [r for r in server.requests if r.operation == "HistoryPage"]
    assert all(0 < r.sent < 40_000 for r in answers), "90 kB a page: they go gzipped"


def test_keys_are_joined_by_and_as_the_real_server_does(server):
    server.add_run("team/proj", "r1", ROWS, state="running")
    assert [row["b"] for row in scan(keys=["b"])] == [float(i) for i in range(0, N, 3)]
    assert len(scan(keys=["a", "b"])) == len(range(0, N, 3)), "the rows with both"
    assert scan(keys=["a", "never logged"]) == []
    spec = json.loads(
        next(r for r in server.requests if r.operation == "SampledHistoryPage").variables["spec"]
    )
    assert spec["maxStep"] - spec["minStep"] == 999, "both ends of the steps belong to a page with keys"


def test_histories_are_samples(server):
    server.add_run("team/proj", "r1", ROWS)
    run = client().run(PATH)
    for got in (run.history(samples=100, pandas=False), run.history(samples=100, keys=["a"], pandas=False)):
        steps = [row["_step"] for row in got]
        assert len(steps) == 100 and steps[0] == 0 and steps[-1] == N - 1 and steps == sorted(set(steps))


def test_what_json_cannot_say_and_what_is_nested(server):
    row = {
        "nan": math.nan,
        "up": math.inf,
        "down": -math.inf,
        "n": {"x": {"y": 1}},
        "text": "é",
        "none": None,
    }
    server.add_run("team/proj", "r1", [row], state="running")
    server.add_run("team/proj", "r2", [row], exported=True)
    (live,) = scan()
    (exported,) = scan("team/proj/r2")
    for got in (live, exported):
        assert (
            math.isnan(float(got["nan"])) and float(got["up"]) == math.inf and float(got["down"]) == -math.inf
        )
        assert got["text"] == "é" and got.get("none") is None
    assert live["n"] == {"x": {"y": 1}} and exported["n.x.y"] == 1


def test_an_export_and_the_rows_that_came_after_it(server):
    from wandb.apis.public.runhistory import IncompleteRunHistoryError

    parts = 3
    run = server.add_run("team/proj", "r1", ROWS, state="running")
    run.export(up_to=1000, parts=parts)
    rows = scan()
    assert [row["_step"] for row in rows] == list(range(N)) and [row["a"] for row in rows] == list(range(N))
    assert server.count("export") == parts and server.count("HistoryPage") == 2
    asked = client().run(PATH)
    with pytest.raises(IncompleteRunHistoryError):
        asked.download_history_exports("exports", require_complete_history=True)
    run.export(parts=parts)
    got = client().run(PATH).download_history_exports("exports", require_complete_history=True)
    assert not got.contains_live_data and len(got.paths) == parts
    table = [row for path in sorted(got.paths) for row in pq.read_table(path).to_pylist()]
    assert [row["_step"] for row in table] == list(range(N))
    assert [row["b"] for row in table] == [row.get("b") for row in ROWS]


@pytest.mark.parametrize("keys", [None, ["a"]])
def test_an_export_that_ends_within_a_page_comes_twice(server, keys):
    """The client asks for whole pages of a thousand steps, from the one with the first live row on, and gives what
    the export holds of it a second time: whoever counts rows has to count steps.
    """
    server.add_run("team/proj", "r1", ROWS, state="running", exported=1200)
    steps = [row["_step"] for row in scan(keys=keys)]
    assert sorted(steps) == sorted([*range(N), *range(1000, 1200)])
    (first, _) = (r.variables for r in server.requests if r.operation in PAGES)
    assert first.get("minStep", 1000) == 1000


def test_ranges_of_a_file(server):
    run = server.add_run("team/proj", "r1", ROWS[:50], exported=True)
    whole, url = run.exports[0].files[0], f"{server.url}/export/{PATH}/0.parquet?v=0"
    status, headers, body = http_get(url)
    assert (status, body, headers["Accept-Ranges"]) == (200, whole, "bytes")
    for asked, expected in {"bytes=0-3": whole[:4], "bytes=5-": whole[5:], "bytes=-8": whole[-8:]}.items():
        status, headers, body = http_get(url, Range=asked)
        assert (status, body) == (206, expected) and headers["Content-Range"].endswith(f"/{len(whole)}")
    assert http_get(url, Range=f"bytes={len(whole)}-")[0] == 416
    assert http_get(url.replace("/0.parquet", "/7.parquet"))[0] == 404
    assert pq.read_table(io.BytesIO(whole)).num_rows == 50


def test_a_key_that_is_not_ours(server, monkeypatch):
    """The client: ``AuthenticationError`` at once, while ``wandb.Api`` is made."""
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    with pytest.raises(wandb.errors.AuthenticationError, match="unknown API key"):
        client()


# Pages and filters by themselves -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.sets(st.integers(0, 400), max_size=60), st.lists(st.integers(1, 399), max_size=5, unique=True))
def test_pages_that_meet_give_every_row_once(steps, cuts):
    rows = [{"_step": s, "a": s} for s in sorted(steps)]
    ends = [0, *sorted(cuts), 401]
    every = [json.loads(x) for lo, hi in pairwise(ends) for x in histories.page(rows, lo, hi, 1000)]
    assert every == rows
    spec = {"keys": ["_step", "a"], "samples": 1000}
    keyed = [
        row
        for lo, hi in pairwise(ends)
        for row in histories.keyed(rows, {**spec, "minStep": lo, "maxStep": hi - 1})
    ]
    assert keyed == rows


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(1, 100))
def test_a_page_of_too_many_rows_is_thinned_out(n, size):
    rows = [{"_step": i} for i in range(n)]
    got = [json.loads(line)["_step"] for line in histories.page(rows, 0, n, size)]
    assert len(got) == min(n, size) and got == sorted(set(got))
    if n > size > 1:
        assert got[0] == 0 and got[-1] == n - 1 and max(np.diff(got)) <= math.ceil((n - 1) / (size - 1))


def test_no_answer_is_longer_than_the_server_gives(monkeypatch):
    monkeypatch.setattr(histories, "MOST_ROWS", 10)
    assert len(histories.sampled(range(100), 50)) == 10


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.none(), st.floats(allow_subnormal=False)), min_size=1, max_size=20))
def test_an_export_holds_the_numbers_bit_for_bit(values):
    rows = [{"_step": i} | ({} if v is None else {"x": v}) for i, v in enumerate(values)]
    table = pq.read_table(io.BytesIO(histories.parquet(rows)))
    assert table["_step"].to_pylist() == list(range(len(values)))
    if any(v is not None for v in values):
        assert str(table["x"].to_pylist()) == str(values)


def test_a_filter_that_is_not_understood(server):
    run = server.add_run("team/proj", "r1")
    for wrong in ({"$xor": []}, {"group": {"$size": 1}}, {"colour": "red"}):
        with pytest.raises(BadFilter):
            fits(run, wrong)


# The server itself -------------------------------------------------------------------------------------------------


def test_two_servers_in_one_process(server):
    """``overrides={"base_url": ...}`` leads one client elsewhere, without a new service."""
    server.add_run("team/proj", "r1", [{"a": 1.0}])
    with WandbServer(entity="others") as other:
        other.add_run("others/proj", "r1", [{"a": 2.0}])
        there = wandb.Api(overrides={"base_url": other.url}, timeout=PATIENCE)
        assert there.default_entity == "others" and client().default_entity == "team"
        assert [row["a"] for row in there.run("others/proj/r1").scan_history(use_cache=False)] == [2.0]
        assert [row["a"] for row in scan()] == [1.0]
        del there


def test_a_server_that_ends_leaves_nothing_behind():
    before = set(threading.enumerate())
    server = WandbServer()
    folder = Path(server.folder.name)
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
    connection.request("GET", "/storage/none")
    assert connection.getresponse().read() and folder.is_dir()  # and the connection stays open
    server.fault("slow", seconds=3600)
    connection.request("GET", "/storage/none")  # one that it has not answered when it ends
    assert wait_for(lambda: len(server.requests) == 2)
    closing = threading.Thread(target=server.close)
    closing.start()
    closing.join(PATIENCE)
    assert not closing.is_alive(), "it does not wait for the hour in which the answer would come"
    assert set(threading.enumerate()) <= before and not folder.exists()
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        connection.getresponse()
        connection.request("GET", "/")
        connection.getresponse()
    connection.close()


def test_latency_is_before_every_answer(server):
    server.add_run("team/proj", "r1", ROWS[:5])
    server.latency = 0.05
    mark, begun = len(server.requests), time.monotonic()
    scan()
    assert time.monotonic() - begun >= 0.05 * server.count(since=mark)
    server.clear()
    assert (server.runs, server.requests, server.latency) == ([], [], 0.0)
