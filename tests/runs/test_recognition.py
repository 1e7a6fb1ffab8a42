"""Which format a file has, whatever it begins with: the format that reads most of its head."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from entlaw.runs.reader import read_raw
from entlaw.runs.recognition import recognise
from entlaw.runs.source import HEAD_BYTES, Head
from entlaw.runs.sources import console, jsonl, tabular, trl_state
from tests.runs.test_console import hf_text, verl_text

RECORDS = [{"step": t, "entropy": 1 / t, "reward": t / 40, "loss": 0.5} for t in range(1, 21)]
BODIES = {
    "hf with bars": hf_text(20, 1, total=40),
    "verl": verl_text(20),
    "dictionaries": "".join(f"{r}\n" for r in RECORDS),
    "JSON among text": "".join(f"INFO {json.dumps(r)}\nsaving\n" for r in RECORDS),
}
# What trainers and their libraries print before the first record.
OPENINGS = {
    "shards": "Loading checkpoint shards:   0%|          | 0/4 [00:00<?, ?it/s]\r"
    "Loading checkpoint shards: 100%|##########| 4/4 [00:03<00:00,  1.50s/it]\n",
    "map": "Map: 100%|██████████| 7473/7473 [00:00<00:00, 14000.00 examples/s]\n" * 3,
    "bar": "\r  0%|          | 0/40 [00:00<?, ?it/s]\r" + " " * 40 + "\r",
    "chat": '[{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}]\n',
    "python chat": "[{'role': 'user', 'content': 'What is 1 + 1?'}]\n",
    "chat over lines": json.dumps([{"role": "user", "content": "x"}] * 3, indent=2) + "\n",
    "one object": '{"model": "qwen", "lr": 1e-6, "batch_size": 512}\n',
    "configuration": json.dumps({"lr": 1e-6, "model": {"layers": 28, "vocab": 151936}}, indent=2) + "\n",
    "markdown table": "| setting | value |\n|---|---|\n| lr | 1e-6 |\n| batch | 512 |\n",
    "table": "rank,local_rank,port\n0,0,29500\n1,1,29501\n",
    "tabs": "GPU\tmemory\n0\t80\n1\t80\n",
    "commas": "Loading the model, please wait, this takes a while\nusing 8, 8\n",
    "list": "[1, 2, 3]\n[4, 5, 6]\n",
    "braces": "{'A': 'true', 'B': 3}\n{{{\n",
}


def head_of(path):
    data = path.read_bytes()
    return Head(path, data[:HEAD_BYTES], len(data))


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("body", BODIES)
def test_what_a_log_begins_with_does_not_decide(tmp_path, opening, body):
    plain, path = tmp_path / "plain.log", tmp_path / "train.log"
    plain.write_text(BODIES[body])
    path.write_text(OPENINGS[opening] + BODIES[body])
    (want,), (got,) = read_raw(plain), read_raw(path)
    assert got.provenance.format == want.provenance.format
    pd.testing.assert_frame_equal(got.rows, want.rows)
    assert len(want.rows) == 20


STRUCTURED = {
    "lines": (jsonl, "".join(json.dumps(r) + "\n" for r in RECORDS)),
    "lines with prompts": (
        jsonl,
        "".join(
            json.dumps({**r, "text": "{'loss': 0.1, 'entropy': 0.2} step:1 - a/x:3"}) + "\n" for r in RECORDS
        ),
    ),
    "csv": (tabular, pd.DataFrame(RECORDS).to_csv(index=False)),
    "pipes": (tabular, pd.DataFrame(RECORDS).to_csv(index=False, sep="|")),
    "csv of words": (tabular, pd.DataFrame(RECORDS).assign(note="step:1 - a/x:3").to_csv(index=False)),
    "state": (trl_state, json.dumps({"epoch": 1.0, "log_history": RECORDS}, indent=2)),
    "state in one line": (trl_state, json.dumps({"epoch": 1.0, "log_history": RECORDS})),
    "list": (trl_state, json.dumps(RECORDS)),
    "list of lines": (trl_state, "[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n"),
}


@pytest.mark.parametrize("kind", STRUCTURED)
@pytest.mark.parametrize("times", [1, 400])  # 400: longer than the head
def test_structured_files_stay_what_they_are(tmp_path, kind, times):
    module, text = STRUCTURED[kind]
    if times > 1 and module is not trl_state:
        header, _, rest = text.partition("\n")
        text = header + "\n" + rest * times
    path = tmp_path / "log"
    path.write_text(text)
    source, _ = recognise(head_of(path))
    assert sys.modules[source.read.__module__] is module
    (run,) = read_raw(path)
    np.testing.assert_allclose(run.rows["entropy"].iloc[:20], [r["entropy"] for r in RECORDS])


def test_a_format_of_a_later_place_needs_many_more_numbers(tmp_path):
    """Broken lines give a reader that salvages pieces a few more numbers than the file's own reader."""
    lines = [json.dumps(r) for r in RECORDS]
    lines[3::4] = [line[:-3] + "," for line in lines[3::4]]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(lines) + "\n")
    assert recognise(head_of(path))[0].name == "jsonl"
    assert console.sniff(head_of(path)) > 0
