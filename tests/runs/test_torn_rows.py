"""Files that two processes wrote, or one that was killed and one that went on: no wrong value without a word.

A row is cut at every byte and followed by what the next writer wrote. The right values are known from how the rows
were made; every value that is read must be the one of its step.
"""

import json
import random

import pytest

from entlaw.runs.reader import read_raw

N = 24
KEYS = ("step", "actor/entropy", "critic/score/mean")
ROWS = {
    t: {
        "step": t,
        "actor/entropy": round(0.9 * 0.97**t + 0.013 * (t * 7 % 5), 4),
        "critic/score/mean": round(t / 57 + 0.011 * (t * 3 % 4), 4),
    }
    for t in range(1, 60)
}


def table(order, delimiter=",", quote="", comma=False, first=()):
    """Header and row writer of a table."""

    def line(cells):
        cells = [quote + c + quote for c in (*first, *cells)]
        return delimiter.join(cells) + "\n"

    def row(t):
        cells = [str(ROWS[t][k]) for k in order]
        return line([c.replace(".", ",") for c in cells] if comma else cells)

    header = line(order) if not first else delimiter.join(("run", *order)) + "\n"
    return header, row


FORMATS = {
    "csv": table(KEYS),
    "tsv": table(KEYS, "\t"),
    "quoted": table(KEYS, quote='"'),
    "decimal commas": table(KEYS, ";", comma=True),
    "entropy first": table((KEYS[1], KEYS[2], KEYS[0])),
    "score first": table((KEYS[2], KEYS[0], KEYS[1])),
    "run first": table(KEYS, first=("run-a",)),
    "long": (
        "step,metric,value\n",
        lambda t: "".join(f"{t},{k},{ROWS[t][k]}\n" for k in KEYS[1:]),
    ),
    "long, metric first": (
        "metric,step,value\n",
        lambda t: "".join(f"{k},{t},{ROWS[t][k]}\n" for k in KEYS[1:]),
    ),
    "JSON lines": ("", lambda t: json.dumps(ROWS[t]) + "\n"),
    "verl's JSON lines": (
        "",
        lambda t: json.dumps({"step": t, "data": {k: ROWS[t][k] for k in KEYS[1:]}}) + "\n",
    ),
}


def check(path, text):
    """No value that is read may belong to another step; returns the steps that are whole, and what was told."""
    path.write_text(text)
    whole = set()
    runs = read_raw(path)
    told = {f.code for run in runs for f in run.findings if f.severity != "info"}
    for run in runs:
        values = run.rows.groupby("step").last()
        for t, row in values.iterrows():
            for key in KEYS[1:]:
                if key in row and row[key] == row[key]:
                    assert row[key] == ROWS[t][key], (t, key, text)
        if set(KEYS[1:]) <= set(values):
            whole |= set(values.dropna(subset=list(KEYS[1:])).index.astype(int))
        if "step" in run.rows and set(KEYS[1:]) <= set(run.rows):
            assert run.rows.loc[run.rows["step"].isna(), list(KEYS[1:])].isna().all(axis=None), text
    return whole, told


CRASHES = [
    (name, again) for name, (header, _) in FORMATS.items() for again in (False, True)[: 1 + bool(header)]
]


@pytest.mark.parametrize(("name", "again"), CRASHES)
def test_a_crash_at_every_byte_of_a_row(tmp_path, name, again):
    header, row = FORMATS[name]
    for crash, resumed in ((9, 9), (17, 13)):
        before = header + "".join(map(row, range(1, crash)))
        after = (header if again else "") + "".join(map(row, range(resumed, N + 1)))
        line = row(crash)
        for cut in range(1, len(line) - 1):
            whole, told = check(tmp_path / "x", before + line[:cut] + after)
            assert set(range(1, N + 1)) - whole <= {crash, resumed}
            assert told or whole == set(range(1, N + 1)) or "\n" in line[:cut]
            if name in ("csv", "quoted", "decimal commas", "JSON lines", "verl's JSON lines"):
                assert told & {"records-broken", "rows-unread", "lines-unread"}, (cut, line[:cut])


@pytest.mark.parametrize("name", FORMATS)
def test_two_writers(tmp_path, name):
    header, row = FORMATS[name]
    rng = random.Random(name)
    for _ in range(25):
        cut_row, others = rng.randrange(5, 18), rng.randrange(1, 3)
        line = row(cut_row)
        cut = rng.randrange(1, len(line) - 1)
        between = "".join(row(t) for t in range(cut_row + 1, cut_row + 1 + others))
        text = header + "".join(map(row, range(1, cut_row)))
        text += line[:cut] + between + line[cut:] + "".join(map(row, range(cut_row + 1 + others, N + 1)))
        whole, _ = check(tmp_path / "x", text)
        missing = set(range(1, N + 1)) - whole
        assert missing <= set(range(cut_row, cut_row + 1 + others))


def test_two_whole_records_in_a_line_are_two_records(tmp_path):
    path = tmp_path / "x.jsonl"
    lines = [json.dumps(ROWS[t]) for t in range(1, 9)]
    path.write_text("\n".join(lines[:3]) + "\n" + lines[3] + lines[4] + "\n" + "\n".join(lines[5:]) + "\n")
    (run,) = read_raw(path)
    assert run.rows["step"].tolist() == list(range(1, 9))
    assert [f.code for f in run.findings] == ["records-broken"]


@pytest.mark.parametrize(
    "steps",
    [
        [0, 1, 20, 40, 60],
        [1, 2, 3, 10, 20, 30],
        [10, 20, 25, 15, 20, 25, 30],  # an evaluation at the end, then resumed
        [1, 2, 3, 4, 23, 42],
        [5, 10, 15, 1, 2, 3],
        list(range(1, 30)) + list(range(21, 40)),
        [1, 1, 2, 2, 3, 3],
        [100, 200, 1000, 1100],
        [1, 11, 21, 31, 121, 131],
        [0, 512, 1024, 5120],
    ],
)
def test_steps_as_loggers_count_are_all_kept(tmp_path, steps):
    path = tmp_path / "x.csv"
    path.write_text("step,entropy,acc\n" + "".join(f"{t},0.5,0.{i:03d}\n" for i, t in enumerate(steps)))
    (run,) = read_raw(path)
    assert run.rows["step"].tolist() == steps and run.findings == ()
