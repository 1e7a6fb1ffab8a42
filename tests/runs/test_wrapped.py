"""Logs inside the entries of container runtimes and log services: read as the log that they hold."""

import csv
import io
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.reader import read_raw
from entlaw.runs.source import ReadOptions
from entlaw.runs.sources import sources, wrapped
from tests.runs.test_console import codes, head_of, hf_text, verl_text

JSONL = "".join(
    json.dumps({"step": t, "entropy": 1 / t, "reward": t / 50, "note": "a { b"}) + "\n" for t in range(1, 41)
)
CSV = "step,entropy,reward\n" + "".join(f"{t},{1 / t},{t / 50}\n" for t in range(1, 41))
LOGS = {"verl": verl_text(40), "hf": hf_text(40), "jsonl": JSONL, "csv": CSV}


def taken_by(path):
    return next(source.name for source in sources() if source.sniff(head_of(path)))


def when(i):
    return f"2026-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}.000000000Z"


def as_lines(make):
    return lambda lines: "".join(json.dumps(make(i, line)) + "\n" for i, line in enumerate(lines))


def as_list(make):
    return lambda lines: json.dumps([make(i, line) for i, line in enumerate(lines)], indent=1)


def gcp(i, line):
    return {
        "insertId": f"x{i}",
        "labels": {"pod": "a-0"},
        "severity": "INFO",
        "textPayload": line,
        "timestamp": when(i),
        "receiveTimestamp": when(i),
    }


def as_csv(lines):
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(["timestamp", "message"])
    rows.writerows([1767225600000 + i, line] for i, line in enumerate(lines))
    return out.getvalue()


def loki_query(lines):
    found = [
        {"stream": {"job": "t"}, "values": [[str(10**18 + i), line] for i, line in enumerate(lines)][::-1]}
    ]
    return json.dumps({"status": "success", "data": {"resultType": "streams", "result": found}})


WRAPPERS = {
    "docker": as_lines(lambda i, s: {"log": s + "\n", "stream": "stdout", "time": when(i)}),
    "cri": lambda lines: "".join(f"{when(i)} stdout F {s}\n" for i, s in enumerate(lines)),
    "zap": as_lines(lambda i, s: {"level": "info", "ts": 1767225600.5 + i, "caller": "a.go:3", "msg": s}),
    "python": as_lines(
        lambda i, s: {"asctime": when(i), "levelname": "INFO", "lineno": 3, "process": 71, "message": s}
    ),
    "fluent bit": as_lines(
        lambda i, s: {"date": 1767225600.5 + i, "stream": "stdout", "logtag": "F", "log": s}
    ),
    "bunyan": as_lines(lambda i, s: {"name": "t", "pid": 7, "level": 30, "msg": s, "time": when(i), "v": 0}),
    "journald": as_lines(lambda i, s: {"MESSAGE": s, "__REALTIME_TIMESTAMP": str(10**15 + i), "_PID": "71"}),
    "logcli": lambda lines: "".join(
        json.dumps({"labels": {"job": "t"}, "line": s, "timestamp": when(i)}) + "\n"
        for i, s in reversed(list(enumerate(lines)))
    ),
    "loki query": loki_query,
    "grafana": as_list(lambda i, s: {"line": s, "timestamp": str(10**18 + i), "fields": {"job": "t"}}),
    "gcp": as_list(gcp),
    "gcp newest first": lambda lines: json.dumps([gcp(i, s) for i, s in enumerate(lines)][::-1]),
    "gcp jsonPayload": as_list(
        lambda i, s: {"insertId": "x", "jsonPayload": {"message": s}, "timestamp": when(i)}
    ),
    "cloudwatch": lambda lines: json.dumps(
        {
            "events": [
                {"timestamp": 1767225600000 + i, "message": s, "ingestionTime": 1767225600001 + i}
                for i, s in enumerate(lines)
            ],
            "nextForwardToken": "f/3",
        }
    ),
    "insights": lambda lines: json.dumps(
        {
            "results": [
                [{"field": "@timestamp", "value": when(i)}, {"field": "@message", "value": s}]
                for i, s in enumerate(lines)
            ]
        }
    ),
    "elasticsearch": lambda lines: json.dumps(
        {
            "took": 3,
            "hits": {
                "total": {"value": 40},
                "hits": [
                    {"_id": str(i), "_score": 1.0, "_source": {"message": s, "@timestamp": when(i)}}
                    for i, s in enumerate(lines)
                ],
            },
        }
    ),
    "splunk": as_lines(lambda i, s: {"preview": False, "result": {"_raw": s, "_time": when(i)}}),
    "opentelemetry": as_lines(
        lambda i, s: {"timeUnixNano": str(10**18 + i), "severityText": "INFO", "body": {"stringValue": s}}
    ),
    "csv export": as_csv,
}


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_equals_the_log_inside(tmp_path, wrapper, log):
    plain = tmp_path / "plain.log"
    plain.write_text(LOGS[log])
    (want,) = read_raw(plain)
    path = tmp_path / "run.log"
    path.write_text(WRAPPERS[wrapper](LOGS[log].rstrip("\n").split("\n")))
    assert taken_by(path) == "wrapped"
    (run,) = read_raw(path)
    pd.testing.assert_frame_equal(run.rows, want.rows)
    assert run.name == "run" and run.provenance.path == str(path)
    assert run.provenance.format == want.provenance.format and "unwrapped" in codes(run)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.booleans())
def test_partial_lines_are_joined_within_their_stream(tmp_path_factory, widths, docker):
    """A runtime cuts long lines wherever it likes, and entries of the other stream come between."""
    text, out = verl_text(12), []
    for n, line in enumerate(text.splitlines()):
        width = widths[n % len(widths)]
        pieces = [line[i : i + width] for i in range(0, len(line), width)]
        for i, piece in enumerate(pieces):
            last = i + 1 == len(pieces)
            if docker:
                entry = {"log": piece + "\n" * last, "stream": "stdout", "time": when(n)}
                out += [
                    json.dumps(entry),
                    json.dumps({"log": "step:9 - x\n", "stream": "stderr", "time": when(n)}),
                ]
            else:
                out += [
                    f"{when(n)} stdout {'F' if last else 'P'} {piece}",
                    f"{when(n)} stderr F warning: {n}",
                ]
    folder = tmp_path_factory.mktemp("partial")
    (folder / "plain.log").write_text(text)
    (folder / "run.log").write_text("\n".join(out) + "\n")
    (want,), (run,) = read_raw(folder / "plain.log"), read_raw(folder / "run.log")
    pd.testing.assert_frame_equal(run.rows, want.rows)


@pytest.mark.parametrize(
    "record",
    [
        lambda t: {"level": "info", "msg": "train step", "step": t, "entropy": 1 / t, "reward": t / 9},
        lambda t: {"event": "train", "step": t, "actor/entropy": 1 / t, "critic/score/mean": t / 9},
        lambda t: {"step": t, "H": 1 / t, "R": t / 9, "message": "ok"},
    ],
)
def test_records_that_hold_metrics_beside_a_text_stay_json_lines(tmp_path, record):
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(record(t)) + "\n" for t in range(1, 9)))
    assert taken_by(path) == "jsonl"
    (run,) = read_raw(path)
    assert len(run.rows) == 8 and {k for k, v in record(1).items() if not isinstance(v, str)} <= set(run.rows)


def test_a_metrics_object_among_text_entries_is_kept(tmp_path):
    """A structured logger writes remarks for a long time, and then objects with numbers."""
    lines = [json.dumps({"ts": i, "msg": "loading shard"}) for i in range(2000)]
    lines += [
        json.dumps({"ts": t, "msg": "done", "step": t, "entropy": 1 / t, "reward": 0.5}) for t in range(1, 21)
    ]
    path = tmp_path / "run.log"
    path.write_text("\n".join(lines) + "\n")
    (run,) = read_raw(path)
    assert run.rows["step"].tolist() == list(range(1, 21))
    assert run.rows["entropy"].tolist() == [1 / t for t in range(1, 21)]


@pytest.mark.parametrize("wrapper", ["docker", "gcp", "zap"])
def test_a_cut_file_gives_the_whole_entries(tmp_path, wrapper):
    text = WRAPPERS[wrapper](verl_text(20).splitlines())
    (tmp_path / "plain.log").write_text(verl_text(20))
    want = read_raw(tmp_path / "plain.log")[0].rows
    path = tmp_path / "run.log"
    for cut in range(len(text) // 2, len(text) - 3, 97):
        path.write_text(text[:cut])
        (run,) = read_raw(path)
        pd.testing.assert_frame_equal(run.rows, want.iloc[: len(run.rows)])
        assert len(run.rows) >= 9 and ("truncated-tail" in codes(run) or text[cut - 1] in "}\n]")


def test_a_service_without_a_log_is_a_clear_error(tmp_path):
    path = tmp_path / "web.log"
    path.write_text(WRAPPERS["docker"]([f"GET /x {i}" for i in range(30)]))
    with pytest.raises(UnreadableSource) as error:
        wrapped.read(path, ReadOptions())
    assert error.value.where == str(path) and "30 entries of Docker" in error.value.why and error.value.hint
