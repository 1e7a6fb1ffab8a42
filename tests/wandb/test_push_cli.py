"""`entlaw push` with the real client against a loopback server: what is written, what never is, and what fails."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from entlaw.cli.app import run as entlaw
from entlaw.report.wandb_push import SUMMARY_KEYS, TABLE_COLUMNS
from entlaw.runs.wandb import client as client_module
from entlaw.runs.wandb.sdk import end_service
from tests.conftest import law_records, wait_until, write_jsonl
from tests.wandb.write_server import WriteServer

ROWS = [{"_step": i, "_timestamp": 1e9 + i, **r} for i, r in enumerate(law_records())]
FLAT = [{**row, "actor/entropy": 0.7 + 0.001 * (i % 3)} for i, row in enumerate(ROWS)]


@pytest.fixture(scope="module")
def _server() -> Iterator[WriteServer]:
    pytest.importorskip("wandb", reason="the W&B client is not installed")
    made = WriteServer()
    yield made
    made.close()


@pytest.fixture
def server(_server: WriteServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> WriteServer:
    _server.clear()
    told = {
        "WANDB_BASE_URL": _server.url,
        "WANDB_API_KEY": "a" * 40,
        "HOME": str(tmp_path),
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "ENTLAW_CACHE_DIR": str(tmp_path / "cache"),
        "NO_COLOR": "1",
    }
    for name in ("CACHE", "DATA", "CONFIG"):
        told[f"WANDB_{name}_DIR"] = str(tmp_path / name.lower())
    for key, value in told.items():
        monkeypatch.setenv(key, value)
    # The patience of a user, not of a test.
    monkeypatch.setattr(client_module, "RETRIES", 1)
    monkeypatch.setattr(client_module, "WAIT", (0.1, 0.1))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal
    return _server


OTHER = {
    "loss": 0.1 + 0.2,
    "nested": {"x": [1, 2.5], "y": None},
    "big": 2**53 + 1,
    "text": "é\n",
    "nan": math.nan,
}
WRITES = ("UpsertBucket", "file_stream", "CreateArtifact", "CreateRunFiles", "PUT")


def wrote(srv: WriteServer) -> list[str]:
    return [op for op, _ in srv.log if op in WRITES]


def told(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def same(one: dict, two: dict) -> bool:
    """Equal as JSON, where NaN is NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)


@pytest.mark.parametrize("to", ["summary", "analysis", "both"])
@pytest.mark.parametrize("extra, code", [([], 2), (["--dry-run"], 0), (["--dry-run", "--yes"], 0)])
def test_nothing_is_written_unasked(server, capsys, to, extra, code):
    kept = server.add("r1", ROWS, summary=dict(OTHER))
    assert entlaw(["push", "team/proj/r1", "--to", to, *extra]) == code
    out = capsys.readouterr()
    assert wrote(server) == [] and same(kept.summary, OTHER) and len(server.runs) == 1
    assert "nothing was written" in out.err
    assert ("entlaw/ceiling = " in out.out) == (to != "analysis")
    assert ("analysis run team/proj/entlaw-" in out.out) == (to != "summary")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answer, code", [("y\n", 0), ("\n", 2), ("", 2), ("no\n", 2)])
def test_the_question_on_a_terminal_defaults_to_no(server, monkeypatch, answer, code):
    kept = server.add("r1", ROWS)
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert entlaw(["push", "team/proj/r1", "--to", "summary"]) == code
    assert ("entlaw/ceiling" in kept.summary) == (code == 0)


def test_summary_keys_equal_the_fit_and_no_other_key_is_touched(server, capsys):
    kept = server.add("r1", ROWS, summary=dict(OTHER))
    assert entlaw(["fit", "team/proj/r1", "--json"]) == 0
    fit = told(capsys)["runs"][0]["law"]
    assert entlaw(["push", "team/proj/r1", "--to", "summary", "--yes", "--json"]) == 0
    assert told(capsys)["writes"][0]["status"] == "written"

    import wandb

    found = dict(wandb.Api().run("team/proj/r1").summary_metrics)
    assert same({k: v for k, v in found.items() if k not in SUMMARY_KEYS}, OTHER)
    expected = {
        "a": fit["a"],
        "b": fit["b"],
        "ceiling": fit["b"] - fit["a"],
        "ceiling_lo": fit["ceiling_interval"]["lo"],
        "ceiling_hi": fit["ceiling_interval"]["hi"],
        "n": len(fit["points"]["step"]),
        "until_step": 36.0,
        "fitted_at_step": max(fit["points"]["step"]),
        "r_squared": fit["r_squared"],
        "entropy_first": fit["points"]["entropy"][0],
        "entropy_last": fit["points"]["entropy"][-1],
    }
    for key, value in expected.items():
        assert found[f"entlaw/{key}"] == pytest.approx(value, rel=1e-14), key
    assert found["entlaw/verdict"] == "ok" and found["entlaw/state"] == "finished"

    before = json.dumps(kept.summary)
    server.log.clear()
    assert entlaw(["push", "team/proj/r1", "--to", "summary", "--yes", "--json"]) == 0
    assert told(capsys)["writes"][0]["status"] == "unchanged"
    assert wrote(server) == [] and json.dumps(kept.summary) == before


def test_a_refused_fit_shows_no_numbers_and_takes_away_old_ones(server, capsys):
    kept = server.add("r1", ROWS, summary={"loss": 1.0})
    assert entlaw(["push", "team/proj/r1", "--to", "summary", "--yes"]) == 0
    assert "entlaw/ceiling" in kept.summary
    kept.rows = FLAT
    assert entlaw(["push", "team/proj/r1", "--to", "both", "--yes"]) == 0
    left = {k: v for k, v in kept.summary.items() if k != "loss"}
    assert left["entlaw/verdict"] == "refused" and left["entlaw/reason"] and left["entlaw/findings"]
    assert not any(isinstance(value, (int, float)) for value in left.values())
    (analysis,) = [r for r in server.runs.values() if r.job_type == "analysis"]
    (made,) = server.versions(f"fit-{analysis.name}")
    files = server.contents(made)
    assert set(files) == {"fit.json"}
    (shown,) = json.loads(files["fit.json"])["runs"]
    assert shown["verdict"] == "refused" and shown["law"] is None and shown["held_out"] is None


def test_an_analysis_run_reads_back_equal_and_a_second_push_is_none(server, capsys, tmp_path):
    server.add("r1", ROWS, display="one")
    server.add("r2", [*ROWS[:45]], display="two/$x$")
    source = ["team/proj/r1", "team/proj/r2"]
    assert entlaw(["fit", *source, "--json"]) == 0
    fits = told(capsys)["runs"]
    assert entlaw(["push", *source, "--yes", "--json"]) == 0
    (write,) = told(capsys)["writes"]
    assert write["status"] == "written" and write["done"][-1] == "read back"

    import wandb

    api = wandb.Api()
    made = api.run(write["where"])
    assert made.job_type == "analysis" and made.state == "finished"
    assert made.config["entlaw"]["sources"] == source
    settings = made.config["entlaw"]["settings"]
    assert settings["law_until_step"] == 36 and settings["forecast_until_step"] is None
    (analysis,) = [r for r in server.runs.values() if r.job_type == "analysis"]
    artifact = api.artifact(f"team/proj/fit-{analysis.name}:latest")
    assert artifact.type == "entlaw-fit"
    files = server.contents(server.versions(f"fit-{analysis.name}")[0])
    assert set(files) == set(artifact.manifest.entries)
    document = json.loads(files["fit.json"])
    assert document["schema"] == "entlaw.fit/2"
    for shown, fit in zip(document["runs"], fits, strict=True):
        assert all(shown[key] == fit[key] for key in ("law", "forecast", "held_out", "findings"))
        assert str(tmp_path) not in json.dumps(shown)
    table = next(k for k in server.storage if k.endswith("fits.table.json"))
    table = json.loads(server.storage[table])
    assert table["columns"] == list(TABLE_COLUMNS)
    assert [row[TABLE_COLUMNS.index("ceiling")] for row in table["data"]] == [
        f["law"]["ceiling"] for f in fits
    ]
    pictures = [d for k, d in server.storage.items() if "/media/images/" in k]
    assert len(pictures) == 2 and all(p.startswith(b"\x89PNG") for p in pictures)

    server.log.clear()
    assert entlaw(["push", *source, "--yes", "--json"]) == 0
    assert told(capsys)["writes"][0]["status"] == "unchanged" and wrote(server) == []
    # Another push that the mark does not know of: the run is done again, but an equal artifact is no new version.
    del analysis.summary["entlaw/digest"]
    assert entlaw(["push", *source, "--yes"]) == 0
    assert len(server.versions(f"fit-{analysis.name}")) == 1 and len(server.runs) == 3


@pytest.mark.parametrize("to", ["summary", "both"])
def test_a_running_run_is_left_alone_unless_told(server, capsys, to):
    kept = server.add("r1", ROWS, state="running", summary=dict(OTHER))
    assert entlaw(["push", "team/proj/r1", "--to", to, "--yes"]) == 2
    err = capsys.readouterr().err
    assert "the run is running" in err and "--even-running" in err
    assert same(kept.summary, OTHER)
    assert len(server.runs) == (1 if to == "summary" else 2)
    assert entlaw(["push", "team/proj/r1", "--to", "summary", "--yes", "--even-running"]) == 0
    assert kept.summary["entlaw/verdict"] == "ok"


def test_what_a_running_process_does_to_keys_of_others(server, tmp_path, capsys):
    """The reason for leaving running runs alone: the process sends its summary whole and knows nothing of ours."""
    import wandb

    end_service(wandb)  # and the settings of whatever used it before: they may say "offline"
    live = wandb.init(
        entity="team",
        project="proj",
        id="live",
        dir=str(tmp_path),
        mode="online",
        settings=wandb.Settings(
            base_url=server.url,
            silent=True,
            console="off",
            x_disable_stats=True,
            x_file_stream_transmit_interval=1,
        ),
    )
    for row in ROWS[1:]:
        live.log({k: v for k, v in row.items() if not k.startswith("_")})
    key = ("team", "proj", "live")
    # Rows and summary go their own ways; one that is still on its way would overwrite ours before we look.
    wait_until(
        lambda: (
            key in server.runs
            and len(server.runs[key].rows) >= len(ROWS) - 1
            and server.runs[key].summary.get("_step") == len(ROWS) - 2
        )
    )
    assert entlaw(["push", "team/proj/live", "--to", "summary", "--yes", "--even-running", "--json"]) == 0
    assert told(capsys)["writes"][0]["status"] == "written"
    asked = [v for op, v in server.log if op == "UpsertBucket"]
    assert "entlaw/ceiling" in asked[-1]["summaryMetrics"]
    live.log({"reward/mean": 0.5})
    live.finish()
    assert "entlaw/ceiling" not in server.runs["team", "proj", "live"].summary


FAULTS = [(401, 2), (403, 3), (404, 3), (429, 3), (500, 3), ("drop", 3)]


@pytest.mark.parametrize("fault, code", FAULTS)
def test_faults_while_a_summary_is_written(server, capsys, fault, code):
    for name in ("r1", "r2"):
        server.add(name, ROWS, summary=dict(OTHER))
    server.fault = lambda op, v: fault if op == "UpsertBucket" else None
    assert entlaw(["push", "team/proj/r1", "team/proj/r2", "--to", "summary", "--yes", "--json"]) == code
    writes = told(capsys)["writes"]
    assert writes[0]["status"] == "failed" and writes[0]["error"]["what"]
    assert writes[1]["status"] == ("not tried" if fault in (429, 500, "drop") else "failed")
    assert all(same(r.summary, OTHER) for r in server.runs.values())
    server.fault = None
    assert entlaw(["push", "team/proj/r1", "team/proj/r2", "--to", "summary", "--yes", "--json"]) == 0
    assert [w["status"] for w in told(capsys)["writes"]] == ["written", "written"]


@pytest.mark.parametrize(
    "op, fault", [("UpsertBucket", 403), ("CommitArtifact", 429), ("PUT", "drop"), ("file_stream", 500)]
)
def test_faults_while_an_analysis_is_uploaded(server, capsys, op, fault):
    import wandb

    server.add("r1", ROWS, summary=dict(OTHER))
    server.fault = lambda asked, v: fault if asked == op else None
    assert entlaw(["push", "team/proj/r1", "--yes", "--json"]) == 3
    (write,) = told(capsys)["writes"]
    assert write["status"] == ("failed" if op == "UpsertBucket" else "partly written")
    assert "read back" not in write["done"] and write["error"]["hint"]
    made = [r for r in server.runs.values() if r.job_type == "analysis"]
    assert all("entlaw/digest" not in r.summary for r in made)
    server.fault = None
    wandb.teardown()  # as the end of the process would: its service keeps the id of a run that failed
    assert entlaw(["push", "team/proj/r1", "--yes", "--json"]) == 0
    (write,) = told(capsys)["writes"]
    assert write["status"] == "written"
    assert len(server.versions(write["where"].replace("team/proj/", "fit-"))) == 1
    assert same(server.runs["team", "proj", "r1"].summary, OTHER)


def test_a_deleted_run_of_a_pulled_folder(server, capsys, tmp_path):
    server.add("r1", ROWS)
    other = [{**row, **record} for row, record in zip(ROWS, law_records(seed=1), strict=True)]
    kept = server.add("r2", other)
    folder = str(tmp_path / "pulled")
    assert entlaw(["pull", "team/proj/r1", "team/proj/r2", "-o", folder]) == 0
    del server.runs["team", "proj", "r1"]
    capsys.readouterr()
    assert entlaw(["push", folder, "--to", "summary", "--yes", "--json"]) == 3
    one, two = told(capsys)["writes"]
    assert (one["where"], one["status"]) == ("team/proj/r1", "failed") and "deleted" in one["error"]["hint"]
    assert two["status"] == "written" and "entlaw/ceiling" in kept.summary


def test_local_logs_go_only_where_told(server, capsys, tmp_path):
    (tmp_path / "secret-project").mkdir()
    log = str(write_jsonl(tmp_path / "secret-project" / "a.jsonl", law_records()))
    assert entlaw(["push", log, "--yes"]) == 2
    assert "--project" in capsys.readouterr().err
    assert entlaw(["push", log, "--to", "summary", "--yes"]) == 2
    assert entlaw(["push", log, "--project", "nonsense", "--yes"]) == 2
    assert wrote(server) == []
    assert entlaw(["push", log, "--project", "team/other", "--yes"]) == 0
    ((_, project, _),) = server.runs
    assert project == "other"
    assert [key for key, data in server.storage.items() if b"secret-project" in data] == []


def test_no_server(server, capsys, monkeypatch, tmp_path):
    log = str(write_jsonl(tmp_path / "a.jsonl", law_records()))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert entlaw(["push", log, "--project", "team/p", "--yes", "--json"]) == 3
    (write,) = told(capsys)["writes"]
    assert write["status"] == "failed" and "cannot be reached" in write["error"]["what"]


def test_no_key(server, tmp_path):
    log = str(write_jsonl(tmp_path / "a.jsonl", law_records()))
    command = [sys.executable, "-m", "entlaw.cli", "push", log, "--project", "team/p", "--yes"]
    # A process of its own: the SDK remembers a key that it has once seen.
    env = {k: v for k, v in os.environ.items() if k != "WANDB_API_KEY"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "no W&B API key" in done.stderr and "Traceback" not in done.stderr
    assert wrote(server) == [] and not (tmp_path / "wandb").exists()
