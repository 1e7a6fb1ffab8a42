"""The faults of the loopback server: each does what it says, and this is what wandb 0.31.0 then does.

With the bounds of ``environment()`` (one more try, a second later) a refused request costs the client 1.0-1.4 s, and
one that it does not repeat 0.0-0.3 s; without them it goes on for minutes.
"""

from __future__ import annotations

import http.client
import json
import time
from base64 import b64encode
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import PATIENCE
from tests.wandb_server import KINDS, Fault, WandbServer
from tests.wandb_server.client import PATH, client, http_get, scan

wandb = pytest.importorskip("wandb")

N = 2500  # rows: three pages of the client
ROWS = [{"a": float(i)} | ({"b": float(i)} if i % 3 == 0 else {}) for i in range(N)]
PAGES = ("HistoryPage", "SampledHistoryPage")


@pytest.fixture
def server(wandb_server):
    return wandb_server


# Faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_ends_it_at_once(server, status):
    """The client does not repeat: ``AuthenticationError`` from ``Api()`` when Viewer is refused, ``CommError`` from
    ``api.run`` with the server's message alone, and ``returned error 403: ...`` from a scan. 0.0-0.3 s.
    """
    server.add_run("team/proj", "r1", ROWS[:10], state="running")
    for operation in ("Viewer", "Run", *PAGES):
        fault = server.fault("status", operation, status=status, message="go away")
        with pytest.raises(Exception, match=f"go away|{status}") as caught:
            scan(keys=["a"] if operation == PAGES[1] else None)
        assert type(caught.value).__name__ == {
            "Viewer": "AuthenticationError",
            "Run": "CommError",
        }.get(operation, "WandbApiFailedError")
        assert fault.hits == 1
        server.mend(fault)


def test_a_run_that_is_null(server):
    """The client: ``CommError: Could not find run <Run ...>`` from ``api.run``; ``no history found for run`` from a
    scan. At once.
    """
    server.add_run("team/proj", "r1", ROWS[:10], state="running")
    fault = server.fault("null", "Run")
    with pytest.raises(wandb.errors.CommError, match="Could not find run"):
        client().run(PATH)
    server.mend(fault)
    server.fault("null", "HistoryPage")
    with pytest.raises(Exception, match="no history found for run r1"):
        scan()


def test_a_graphql_error(server):
    """The client: ``CommError`` with ``input: `` before the server's message, at once."""
    server.add_run("team/proj", "r1")
    server.fault("error", "Run", message="permission denied")
    with pytest.raises(wandb.errors.CommError, match="input: permission denied"):
        client().run(PATH)


@pytest.mark.parametrize(
    ("kind", "how", "seconds", "said"),
    [
        ("status", {"status": 429}, 1, None),
        ("status", {"status": 429, "retry_after": 2}, 2, None),
        ("status", {"status": 500}, 1, "while retrying: HTTP 500"),
        ("drop", {}, 1, None),
    ],
)
def test_what_the_client_repeats(server, kind, how, seconds, said):
    """Once, then fine: all rows, 1.4 s. For ever: ``CommError: ... giving up after 2 attempt(s)``, 1.1 s; without
    the bounds it repeats for twenty minutes and ``Api(timeout=)`` ends it, saying that the service is busy.
    """
    server.add_run("team/proj", "r1", ROWS, state="running")
    fault = server.fault(kind, "HistoryPage", times=1, after=1, **how)
    assert len(scan()) == N and fault.hits == 1
    pages = [r for r in server.requests if r.operation == "HistoryPage"]
    assert [bool(r.faults) for r in pages] == [False, True, False, False]
    assert pages[2].variables == pages[1].variables, "the same page again"
    assert pages[2].at - pages[1].at > seconds - 0.1, "not before the server may be asked again"
    if said is None:
        return
    fault = server.fault(kind, "Run", **how)
    with pytest.raises(wandb.errors.CommError, match="giving up after 2 attempt") as caught:
        client().run(PATH)
    assert said in str(caught.value) and fault.hits == 2


@pytest.mark.parametrize("kind", ["cut", "truncated"])
def test_an_answer_that_ends_early_is_not_repeated(server, kind):
    """The client: ``unexpected EOF`` at once, ``CommError`` from ``api.run`` and ``WandbApiFailedError`` in a scan;
    it never asks again by itself.
    """
    server.add_run("team/proj", "r1", ROWS, state="running")
    fault = server.fault(kind, "HistoryPage", times=1, after=1)
    with pytest.raises(Exception, match="unexpected EOF"):
        scan()
    assert fault.hits == 1 and server.count("HistoryPage") == 2
    assert len(scan()) == N, "the fault was ordered once"
    server.fault(kind, "Run")
    with pytest.raises(wandb.errors.CommError, match="unexpected EOF"):
        client().run(PATH)


def test_a_slow_answer(server):
    """Within the timeout of the ``Api``: waited for. Beyond it: an error that says that the service is busy or
    that it timed out, after as many seconds as ``Api(timeout=)`` says.
    """
    server.add_run("team/proj", "r1", ROWS[:10], state="running")
    fault = server.fault("slow", "Run", seconds=0.3)
    begun = time.monotonic()
    assert client().run(PATH).id == "r1" and time.monotonic() - begun >= 0.3
    server.mend(fault)
    api = client(timeout=2)
    assert api.default_entity == "team"
    server.fault("slow", "Run", seconds=PATIENCE)
    begun = time.monotonic()
    with pytest.raises(wandb.errors.CommError, match=r"(?i)busy|timed? ?out|deadline"):
        api.run(PATH)
    assert time.monotonic() - begun > 1.9


def test_half_a_page_is_a_hole_that_the_client_does_not_see(server):
    """The client: no error, the rows are missing."""
    server.add_run("team/proj", "r1", ROWS, state="running")
    server.fault("half_page", "HistoryPage", times=1, after=1)
    steps = [row["_step"] for row in scan()]
    assert steps == [*range(1500), *range(2000, N)]
    server.mend()
    server.fault("half_page", "SampledHistoryPage", times=1)
    assert [row["_step"] for row in scan(keys=["a"])] == [*range(500), *range(1000, N)]


@pytest.mark.parametrize("operation", ["RunParquetHistory", "export"])
def test_a_stale_export_is_a_hole_that_the_client_does_not_see(server, operation):
    """The client: no error; what was archived between the two exports is missing."""
    run = server.add_run("team/proj", "r1", ROWS, state="running", exported=1000)
    run.export(up_to=2000)
    assert len(scan()) == N
    server.fault("stale", operation)
    assert [row["_step"] for row in scan()] == [*range(1000), *range(2000, N)]


@pytest.mark.parametrize(
    ("kind", "how", "said", "hits"),
    [
        ("status", {"status": 500}, "giving up after 2", 2),
        ("cut", {}, "unexpected EOF", 1),
        # The body of the refusal is kept as if it were the file.
        ("status", {"status": 404}, "Invalid Parquet file", 1),
    ],
)
def test_an_export_that_cannot_be_had(server, kind, how, said, hits):
    """The client: ``CommError``; it does not go without the export, although the pages would do."""
    server.add_run("team/proj", "r1", ROWS[:100], exported=True)
    fault = server.fault(kind, "export", **how)
    with pytest.raises(wandb.errors.CommError, match=said):
        scan()
    assert fault.hits == hits


def test_a_run_that_grows_while_it_is_read(server):
    """The client asks for the last step first and stops there: one prefix, without a hole; a later scan has more."""
    run = server.add_run("team/proj", "r1", ROWS, state="running")
    server.when("HistoryPage", lambda: [run.log({"a": -1.0}) for _ in range(700)], after=1)
    assert [row["_step"] for row in scan()] == list(range(N))
    rows = scan()
    assert [row["_step"] for row in rows] == list(range(N + 700)) and rows[-1]["a"] == -1.0


def test_a_run_that_is_exported_while_it_is_read(server):
    """Archived after the client asked where the exports are: the pages still give everything."""
    run = server.add_run("team/proj", "r1", ROWS, state="running")
    server.when("HistoryPage", run.export)
    assert len(scan()) == N
    assert len(scan()) == N and server.count("export") == 1


def test_a_run_that_is_deleted_or_rewound_while_it_is_read(server):
    """Deleted: ``no history found for run``. Rewound: no error, the rows that are gone do not come."""
    run = server.add_run("team/proj", "r1", ROWS, state="running")
    server.when("HistoryPage", lambda: run.rewind(1499), after=1)
    assert len(scan()) == 1500
    server.when("HistoryPage", run.delete, after=1)
    with pytest.raises(Exception, match="no history found"):
        scan()


def test_a_clock_that_is_off(server):
    """The client does not care; times of runs are as the server tells them."""
    server.add_run("team/proj", "r1", ROWS[:5], created=1.7e9)
    right = client().run(PATH).created_at
    server.fault("skew", seconds=-86400)
    assert (right[:10], client().run(PATH).created_at[:10]) == ("2023-11-14", "2023-11-13")
    _, headers, _ = http_get(f"{server.url}/storage/none")
    assert abs(parsedate_to_datetime(headers["Date"]).timestamp() - time.time() + 86400) < 60
    assert len(scan()) == 5


def test_a_fault_meets_what_it_was_ordered_for(server):
    server.add_run("team/proj", "r1", ROWS[:5])
    server.add_run("team/proj", "r2", ROWS[:5])
    fault = server.fault("status", ("Run", "HistoryPage"), run="r2", status=403)
    assert len(scan()) == 5
    with pytest.raises(wandb.errors.CommError):
        scan("team/proj/r2")
    assert fault.hits == 1 and [r.status for r in server.requests if r.faults] == [403]
    with pytest.raises(ValueError, match="no fault 'fire'"):
        server.fault("fire")
    with pytest.raises(ValueError, match="belong together"):
        server.fault("call")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 15))
def test_faults_are_counted(after, times, n):
    fault = Fault("drop", ("Run",), times, after)
    struck = [fault.strikes("Run", {"name": "r1"}) for _ in range(n)]
    end = n if times is None else after + times
    assert struck == [after <= i < end for i in range(n)] and fault.hits == sum(struck)
    assert not fault.strikes("Viewer", {})


def test_every_kind_of_fault_is_tried_here():
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []


def test_an_operation_that_is_unknown_is_told():
    with WandbServer() as server:
        body = json.dumps({"query": "query Weather { weather }"}).encode()
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=PATIENCE)
        key = b64encode(b"api:" + b"k" * 40).decode()
        connection.request("POST", "/graphql", body, {"Authorization": f"Basic {key}"})
        told = json.loads(connection.getresponse().read())
        connection.close()
        assert "does not answer Weather" in told["errors"][0]["message"]
        assert server.unanswered == ["Weather {}"] and server.defects == []
