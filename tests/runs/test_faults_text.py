"""Damaged text logs: only clear errors, and a damaged record costs itself and not its neighbours.

Text has no checksum: a digit flipped into another digit cannot be seen. What can be asked is that nothing but
UnreadableSource is raised and that every record whose own line was not touched is read as before.
"""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs.source import HEAD_BYTES, Head, ReadOptions
from entlaw.runs.sources import console, jsonl, notebook, tabular, trl_state
from tests.runs.test_console import SOURCES, hf_text

N = 12
RECORDS = [
    {"step": t, "actor/entropy": round(0.9 * 0.9**t, 4), "critic/score/mean": round(t / 37, 4)}
    for t in range(1, N + 1)
]


def _verl(records):
    return [
        f"\x1b[36m(TaskRunner pid=7)\x1b[0m step:{r['step']} - "
        + " - ".join(f"{k}:{v:.4f}" for k, v in r.items() if k != "step")
        for r in records
    ]


FORMATS = {
    "verl": (console, ["Using LocalLogger", *_verl(RECORDS)]),
    "trl": (console, ["starting", *(repr({**r, "epoch": 0.5}) for r in RECORDS)]),
    "jsonl": (jsonl, [json.dumps(r) for r in RECORDS]),
    "verl-jsonl": (
        jsonl,
        [
            json.dumps({"step": r["step"], "data": {k: v for k, v in r.items() if k != "step"}})
            for r in RECORDS
        ],
    ),
    "csv": (
        tabular,
        [
            "step,actor/entropy,critic/score/mean",
            *(",".join(f"{v:.4f}" for v in r.values()) for r in RECORDS),
        ],
    ),
}
# One document: a flipped brace or quote can cost everything behind it, so these only may lose records.
DOCUMENTS = {
    "trainer-state": (trl_state, json.dumps({"global_step": N, "log_history": RECORDS}, indent=1)),
    "list": (trl_state, json.dumps(RECORDS)),
    "notebook": (
        notebook,
        json.dumps(
            {
                "nbformat": 4,
                "cells": [
                    {
                        "cell_type": "code",
                        "outputs": [
                            {
                                "output_type": "stream",
                                "name": "stdout",
                                "text": [x + "\n" for x in _verl(RECORDS)],
                            }
                        ],
                    }
                ],
            },
            indent=1,
        ),
    ),
}
flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)
relaxed = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def damage(data, where):
    """Flip bytes; returns the damaged bytes and the positions."""
    out = bytearray(data)
    positions = []
    for fraction, mask in where:
        position = int(fraction * len(data))
        out[position] ^= mask
        positions.append(position)
    return bytes(out), positions


def read_or_error(source, path):
    """Rows of all runs, or None after a clear error; anything else fails the test."""
    try:
        runs = source.read(path, ReadOptions())
    except UnreadableSource as error:
        assert error.what and error.where == str(path) and error.hint
        return None
    for run in runs:
        assert run.rows.dtypes.eq(float).all() and len(run.rows) and run.rows.columns.is_unique
        assert run.rows.index.equals(pd.RangeIndex(len(run.rows)))
    return [run.rows for run in runs]


def holds(frames, record):
    """Whether some row has the record's values."""
    for rows in frames:
        if set(record) <= set(rows.columns) and (rows[list(record)] == pd.Series(record)).all(axis=1).any():
            return True
    return False


@pytest.mark.parametrize("name", FORMATS)
@relaxed
@given(where=flips)
def test_flips_cost_the_lines_they_touch(tmp_path, name, where):
    source, lines = FORMATS[name]
    first_record = len(lines) - N
    data, positions = damage(("\n".join(lines) + "\n").encode(), where)
    starts = np.cumsum([0, *(len(line.encode()) + 1 for line in lines)])
    touched = set()
    for p in positions:
        line = int(np.searchsorted(starts, p, side="right")) - 1
        touched |= {line, line + 1} if p == starts[line + 1] - 1 else {line}  # a lost newline joins two lines
    path = tmp_path / "damaged"
    path.write_bytes(data)
    frames = read_or_error(source, path)
    if name == "csv" and 0 in touched:
        return  # without its header a table means something else
    untouched = [r for i, r in enumerate(RECORDS, first_record) if i not in touched]
    assert frames is not None and len(untouched) >= N - 8
    for record in untouched:
        assert holds(frames, record), (record, data)


@pytest.mark.parametrize("name", DOCUMENTS)
@relaxed
@given(where=flips)
def test_flips_in_documents(tmp_path, name, where):
    source, text = DOCUMENTS[name]
    data, _ = damage(text.encode(), where)
    path = tmp_path / "damaged.json"
    path.write_bytes(data)
    frames = read_or_error(source, path)
    if frames is not None:
        values = {v for r in RECORDS for v in r.values()} | {float(N)}
        rows = pd.concat(frames)
        known = [c for c in RECORDS[0] if c in rows]
        wrong = (~rows[known].isin(values) & rows[known].notna()).to_numpy().sum()
        assert wrong <= 2 * len(where)  # a flip changes one number, or cuts one in two


@pytest.mark.parametrize("name", [*FORMATS, *DOCUMENTS])
@relaxed
@given(where=flips)
def test_whatever_the_damage_looks_like_the_reader_that_takes_it_copes(tmp_path, name, where):
    text = "\n".join(FORMATS[name][1]) + "\n" if name in FORMATS else DOCUMENTS[name][1]
    data, _ = damage(text.encode(), where)
    path = tmp_path / "damaged.log"
    path.write_bytes(data)
    head = Head(path, data[:HEAD_BYTES], len(data))
    for source in SOURCES:
        if source.sniff(head):
            read_or_error(source, path)


@relaxed
@given(where=flips, buffered=st.integers(0, 4))
def test_flips_among_progress_bars(tmp_path, where, buffered):
    data, _ = damage(hf_text(6, 5, total=1000, buffered=buffered, evals=(10,)).encode(), where)
    path = tmp_path / "damaged.log"
    path.write_bytes(data)
    frames = read_or_error(console, path)
    if frames is not None and "step" in frames[0]:
        step = frames[0]["step"]
        assert step.notna().all() and (np.diff(step) >= 0).all()  # never a step that goes back


@relaxed
@given(data=st.binary(max_size=2000))
def test_junk(tmp_path, data):
    path = tmp_path / "junk"
    path.write_bytes(data)
    head = Head(path, data, len(data))
    for source in SOURCES:
        source.sniff(head)
        read_or_error(source, path)


TOKENS = [
    "step:",
    "1",
    " - ",
    ":",
    "a/x",
    "{'",
    "'",
    '"',
    "{",
    "}",
    "[",
    "]",
    "loss",
    "entropy",
    ": ",
    ", ",
    "0.5",
    "nan",
    "\n",
    "\r",
    "\r          ",
    "%|",
    "| 3/9 [",
    "\x1b[0m",
    "np.float64(",
    ")",
    "tensor(",
    "\\",
    '{"',
    '": ',
    "null",
    '"cells": [',
    '"log_history": [',
    '"outputs": ',
    "Step,",
    "run - x,",
    ",",
    ";",
    "\t",
    "(pid=1) ",
    "\ufeff",
    "1e9",
    "-",
    "=",
    "a.b=1 ",
    "data.x=1 ",
]
structured = st.lists(st.sampled_from(TOKENS), max_size=60).map("".join)


@settings(relaxed, max_examples=400)
@given(text=structured)
def test_grammar_soup(tmp_path, text):
    path = tmp_path / "soup"
    path.write_text(text)
    head = Head(path, text.encode(), len(text.encode()))
    for source in SOURCES:
        source.sniff(head)
        read_or_error(source, path)
