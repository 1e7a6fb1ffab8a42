"""What can go wrong with a W&B server, through the real client: one message, no traceback, within seconds."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from entlaw.cli.__main__ import main
from entlaw.errors import DataError, SourceNotFound, UsageError
from entlaw.runs import reader
from entlaw.runs.wandb.client import Client
from entlaw.runs.wandb.sdk import NoKey, ServerError, explain
from tests.conftest import law_records
from tests.wandb.source_server import _one_server, cut, slow, status, wb_fixture  # noqa: F401 - fixtures

pytest.importorskip("wandb")

RECORDS = [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records(n=41))]


def fails(capsys, code: int, *words: str, source: str = "wandb:me/proj/r1") -> str:
    """Run ``entlaw fit``; the message, after what every message must be was checked."""
    capsys.readouterr()
    assert main(["fit", source]) == code
    out, err = capsys.readouterr()
    said = out + err
    assert "Traceback" not in said and "defect" not in said
    assert "next" in said.lower()
    for word in words:
        assert word in said, said
    capsys.readouterr()
    main(["fit", source, "--json"])
    json.loads(capsys.readouterr().out)  # whatever went wrong, stdout is JSON and nothing else
    return said


def test_no_api_key(wb, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    fails(capsys, 2, "no W&B API key", "wandb login --host", "WANDB_API_KEY")
    # A path that was misspelt must not send anybody to a login page first.
    said = fails(capsys, 3, "no such file or folder", "could be a run", "check the path", source="me/proj/r1")
    assert said.index("no such file") < said.index("API key")
    assert wb.log == []


def test_an_api_key_that_is_none(wb, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    fails(capsys, 2, "rejects", "40", "wandb login --relogin")


@pytest.mark.parametrize("where", [(), ("Run",)])
def test_a_key_that_the_server_rejects(wb, capsys, where):
    wb.add("me/proj/r1", RECORDS)
    wb.faults.append(status(401, only=where))
    fails(capsys, 2, "rejects the W&B API key", "wandb login --relogin")


def test_a_private_project(wb, capsys):
    wb.add("me/proj/r1", RECORDS)
    wb.faults.append(status(403, only=("Run",)))
    fails(capsys, 3, "no access", "private", "me/proj/r1")
    wb.faults[:] = [status(200, b'{"data": null, "errors": [{"message": "permission denied"}]}', ("Run",))]
    fails(capsys, 3, "no access", "private")


@pytest.mark.parametrize("source", ["wandb:me/proj/gone", "wandb:you/proj/r1", "wandb:me/nothing/r1"])
def test_a_run_that_is_not_there(wb, capsys, source):
    wb.add("me/proj/r1", RECORDS)
    fails(
        capsys,
        3,
        "not found on the W&B server",
        "entity",
        "deleted",
        source.removeprefix("wandb:"),
        source=source,
    )


def test_what_may_have_been_a_path_is_told_both_ways(wb, capsys):
    wb.add("me/proj/r1", RECORDS)
    for source in ("me/proj/gone", "me/gone"):
        fails(capsys, 3, "no such file or folder", "W&B server", source, source=source)


def test_a_run_that_is_deleted_while_it_is_read(wb, capsys):
    run = wb.add("me/proj/r1", RECORDS)

    def delete(handler, operation, v):
        if operation == "Run" and wb.asked("Run") == 2 and run in wb.runs:
            wb.runs.remove(run)
        return False

    wb.faults.append(delete)
    fails(capsys, 3, "not found")


@pytest.mark.parametrize("code", [429, 500, 502])
@pytest.mark.parametrize("only", [("Run",), ("HistoryPage",)])
def test_a_server_that_refuses_or_fails_is_asked_again_and_then_named(wb, capsys, code, only):
    wb.add("me/proj/r1", RECORDS, state="running")
    wb.faults.append(status(code, only=only))
    readings = None
    try:
        readings = list(reader.scan("wandb:me/proj/r1"))
        error = readings[0].error
    except DataError as caught:
        error = caught
    assert (
        isinstance(error, ServerError) and error.transient and error.status == code and error.exit_code == 3
    )
    assert error.hint and ("rate limit" if code == 429 else str(code)) in error.what
    assert wb.asked(*only) == 2  # RETRIES is one in these tests


def test_one_that_recovers_costs_nothing_but_time(wb):
    wb.add("me/proj/r1", RECORDS, state="running")
    wb.faults.append(
        lambda handler, op, v: op == "HistoryPage" and wb.asked(op) == 1 and status(500)(handler, op, v)
    )
    (reading,) = reader.scan("wandb:me/proj/r1")
    assert reading.error is None and len(reading.raw.rows) == len(RECORDS)


def test_a_server_that_never_answers(wb, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    wb.add("me/proj/r1", RECORDS)
    wb.faults.append(slow(4, only=("Run",)))
    with pytest.raises(ServerError, match="does not answer in time") as caught:
        Client().run("me", "proj", "r1")
    assert "WANDB_HTTP_TIMEOUT" in str(caught.value.hint)


def test_answers_that_are_cut_off(wb, monkeypatch, capsys):
    monkeypatch.setattr("entlaw.runs.wandb.client.PAUSE", 0.01)
    wb.add("me/proj/r1", RECORDS)
    wb.faults.append(cut(("Run",), 1))
    (reading,) = reader.scan("wandb:me/proj/r1")
    assert reading.error is None
    wb.faults[:] = [cut(("Run",), -1)]
    fails(capsys, 3, "ended its answer early")


def test_an_offline_machine(wb, monkeypatch, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    said = fails(capsys, 3, "cannot be reached", "network", "WANDB_BASE_URL")
    assert f"127.0.0.1:{port}" in said


def test_a_web_page_is_no_wandb_server(wb, monkeypatch, capsys):
    class Page(BaseHTTPRequestHandler):
        code = 200

        def log_message(self, *args):
            pass

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b"<!doctype html><html><body>Please log in</body></html>"
            self.send_response(self.code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    page = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{page.server_address[1]}")
    try:
        for code in (200, 404):
            Page.code = code
            fails(capsys, 3, "not that of a W&B server", "WANDB_BASE_URL")
    finally:
        page.shutdown()
        page.server_close()


def test_the_key_of_one_server_is_not_shown_to_another(wb, monkeypatch, capsys, tmp_path):
    wb.add("me/proj/r1", RECORDS)
    url = f"{wb.url}/me/proj/runs/r1"
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")  # what the key is of
    fails(capsys, 2, "no W&B API key", wb.url, "not shown to others", source=url)
    assert wb.log == []
    with open(os.environ["NETRC"], "w") as out:
        out.write(f"machine {wb.url.removeprefix('http://')}\n  login user\n  password {'n' * 40}\n")
    (reading,) = reader.scan(url)
    assert reading.error is None


def test_clocks_that_disagree_do_not_matter(wb):
    rows = [{**r, "_timestamp": 1e9 - 500 * i, "_runtime": -float(i)} for i, r in enumerate(RECORDS)]
    wb.add("me/proj/r1", rows, created="2031-01-01T00:00:00")
    wb.add("me/proj/r2", RECORDS)
    skewed, right = (next(iter(reader.scan(f"wandb:me/proj/{r}"))) for r in ("r1", "r2"))
    assert skewed.run.points.equals(right.run.points)


def test_a_cache_that_cannot_be_written_does_not_cost_the_answer(wb, monkeypatch, tmp_path):
    wb.add("me/proj/r1", RECORDS)
    (tmp_path / "file").touch()
    monkeypatch.setenv("ENTLAW_CACHE_DIR", str(tmp_path / "file"))  # a file in place of the folder
    (reading,) = reader.scan("wandb:me/proj/r1")
    assert reading.run is not None
    (told,) = [f for f in reading.run.findings if f.code == "cache-not-written"]
    assert told.severity == "warning" and "ENTLAW_CACHE_DIR" in told.hint


def test_of_several_sources_one_that_fails_does_not_cost_the_others(wb):
    wb.add("me/proj/r1", RECORDS)
    good, bad = reader.scan(["wandb:me/proj/r1", "wandb:me/proj/gone"])
    assert good.run is not None and isinstance(bad.error, SourceNotFound)


def test_a_client_that_crashes_costs_one_run(wb, monkeypatch):
    """wandb-core 0.31.0 aborts on an export with a column of large strings that it has to read itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def with_large_strings(rows):
        table = pa.Table.from_pylist(rows)
        out = io.BytesIO()
        pq.write_table(table.append_column("text", pa.array(["x"] * len(rows), pa.large_string())), out)
        return out.getvalue()

    monkeypatch.setattr("tests.wandb.source_server.parquet", with_large_strings)
    wb.add("me/proj/r1", RECORDS, exported=20)
    wb.add("me/proj/r2", RECORDS)
    done = subprocess.run(  # the dead process would leave its warnings in ours
        [sys.executable, "-m", "entlaw.cli", "doctor", "wandb:me/proj/r1", "wandb:me/proj/r2", "--json"],
        capture_output=True,
        text=True,
    )
    first, second = json.loads(done.stdout)["runs"]
    assert done.returncode in (0, 3) and "error" not in second
    if "error" in first:  # a later client reads it
        assert "client crashed" in first["error"]["what"] and "pip install -U wandb" in first["error"]["hint"]
    else:
        assert first["records"] == len(RECORDS)


def test_the_client_keeps_its_own_patience_for_training(wb):
    import wandb

    before = wandb.setup().settings.x_graphql_retry_max, wandb.setup().settings.silent
    assert Client().default_entity() == "me"
    assert (wandb.setup().settings.x_graphql_retry_max, wandb.setup().settings.silent) == before


def test_in_a_process_of_its_own_stdout_holds_the_result_alone(wb):
    wb.add("me/proj/r1", RECORDS)
    done = subprocess.run(
        [sys.executable, "-m", "entlaw.cli", "fit", "me/proj/r1", "--json"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runs"][0]["name"] == "r1"
    assert "wandb:" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("said", "kind", "word"),
    [
        ("Post ...: dial tcp: lookup api.x on 8.8.8.8:53: no such host", ServerError, "cannot be reached"),
        ("tls: failed to verify certificate: x509: unknown authority", ServerError, "cannot be reached"),
        ("No API key configured. Use `wandb login` to log in.", NoKey, "no W&B API key"),
        ("HTTP 503: upstream", ServerError, "503"),
        ("something nobody has thought of", ServerError, "failed"),
        ("", ServerError, "failed"),
    ],
)
def test_other_words_of_the_client(said, kind, word):
    told = explain(ValueError(said), "reading the run", "e/p/r", "https://h")
    assert isinstance(told, kind) and word in told.what and told.hint
    assert told.exit_code == (2 if isinstance(told, UsageError) else 3)
