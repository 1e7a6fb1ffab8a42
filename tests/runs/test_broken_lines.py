"""Console lines that were cut, wrapped, torn or printed twice: never a wrong number, and what is lost is said.

The truth is the list of records that the text was written from; the reader may lose values and may not invent any.
"""

import random
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entlaw import scan
from entlaw.errors import UnreadableSource
from entlaw.runs.reader import read_raw

RAY = "(TaskRunner pid=71) "
SAYS_SO = {"lines-cut", "records-broken", "records-unread", "values-unread", "truncated-tail"}
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20
)


def records(n=16, extra=0):
    """Numbers with as many digits as trainers print, no two alike."""
    rng = random.Random(n + extra)
    out = []
    for t in range(1, n + 1):
        record = {
            "step": t,
            "actor/entropy": round(0.9 * 0.93**t + rng.uniform(-0.01, 0.01), 4),
            "actor/pg_loss": round(rng.uniform(-0.05, 0.05), 4),
            "training/global_step": t,
            "critic/score/mean": round(0.1 + 0.02 * t + rng.uniform(-0.01, 0.01), 4),
        }
        record |= {f"critic/extra/{i}/mean": round(rng.uniform(0, 300), 5) for i in range(extra)}
        out.append({**record, "response_length/mean": round(rng.uniform(300, 320), 3)})
    return out


def verl(record, label=RAY):
    pairs = " - ".join(f"{k}:{v}" for k, v in record.items() if k != "step")
    return f"{label}step:{record['step']} - {pairs}\n"


def hugging_face(record, with_step=False):
    names = {"actor/entropy": "entropy", "actor/pg_loss": "loss", "critic/score/mean": "reward"}
    told = {names[k]: v for k, v in record.items() if k in names} | {"epoch": record["step"] / 100}
    return repr(told | ({"step": record["step"]} if with_step else {})) + "\n"


KINDS = {"verl": verl, "bare": lambda r: verl(r, ""), "dictionaries": hugging_face}


def read(tmp_path, text):
    """Rows (None: refused) and the codes of findings."""
    path = tmp_path / "train.log"
    path.write_text(text)
    try:
        runs = read_raw(path)
    except UnreadableSource as error:
        assert error.hint
        return None, SAYS_SO
    assert len(runs) == 1
    return runs[0].rows, {f.code for f in runs[0].findings}


def told(rows):
    """Every number that was read, as (step, key, value)."""
    if rows is None:
        return set()
    long = rows.melt("step").dropna()
    return set(zip(long["step"], long["variable"], long["value"], strict=True))


def truth(tmp_path, lines):
    return told(read(tmp_path, "".join(lines))[0])


# --- wrapped ------------------------------------------------------------------------------------------------------


def hard(text, width):
    """As a terminal of that width breaks lines."""
    pieces = (line[i : i + width] for line in text.split("\n") for i in range(0, max(len(line), 1), width))
    return "\n".join(pieces)


def trimmed(text, width):
    """The same, copied: blanks at the end are lost."""
    return "\n".join(line.rstrip() for line in hard(text, width).split("\n"))


def by_words(text, width, indent=0):
    """As rich breaks lines: between words, and below the message."""
    out = []
    for line in text.split("\n"):
        out += textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]
    return "\n".join(out)


WRAPS = {"hard": hard, "trimmed": trimmed, "words": by_words, "indented": lambda t, w: by_words(t, w, 20)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("extra", [0, 12])
def test_wrapped_lines_are_put_together(tmp_path, kind, wrap, extra):
    lines = [KINDS[kind](r) for r in records(extra=extra)]
    whole = truth(tmp_path, lines)
    text = "".join("Saving the checkpoint now\n" * (i % 7 == 3) + line for i, line in enumerate(lines))
    shares = []
    for width in range(50, 251, 29):
        rows, codes = read(tmp_path, WRAPS[wrap](text, width))
        got = told(rows)
        assert got <= whole, (width, got - whole)
        assert got == whole or codes & SAYS_SO, width
        shares.append(len(got) / len(whole))
    assert np.mean(shares) > 0.9


def test_joining_at_a_width_is_said(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(hard("".join(verl(r) for r in records()), 80))
    (run,) = read_raw(path)
    (finding,) = (f for f in run.findings if f.code == "lines-joined")
    assert "80 characters" in finding.what and finding.value == path.read_text().count("\n") - 16


@relaxed
@given(width=st.integers(40, 250), kind=st.sampled_from(list(KINDS)), extra=st.sampled_from([0, 1, 8]))
def test_a_wrapped_number_is_never_a_shorter_one(tmp_path, width, kind, extra):
    lines = [KINDS[kind](r) for r in records(extra=extra)]
    got = told(read(tmp_path, hard("".join(lines), width))[0])
    assert got <= truth(tmp_path, lines)


@pytest.mark.parametrize("key", ["actor/entropy", "critic/score/mean", "response_length/mean"])
@pytest.mark.parametrize("keep", [1, 2, 3, 4])
def test_a_number_broken_at_changing_widths_is_not_used(tmp_path, key, keep):
    """Not joined, as nothing says that the pieces belong together: refused, and why."""
    lines = []
    for r in records():
        line = verl(r)
        cut = line.index(f"{key}:") + len(key) + 1 + keep
        lines.append(line[:cut] + "\n" + line[cut:])
    rows, codes = read(tmp_path, "".join(lines))
    (reading,) = scan(tmp_path / "train.log")
    got, whole = told(rows), truth(tmp_path, [verl(r) for r in records()])
    assert got <= whole and "lines-cut" in codes
    assert key not in {k for _, k, _ in got}
    if key != "response_length/mean":
        assert reading.run is None and "cut" in str(reading.error)


@pytest.mark.parametrize("label", ["", RAY, "[rank0]: ", "0: "])
@pytest.mark.parametrize("broken", [" - ", " -", "- "])
def test_one_piece_a_line(tmp_path, label, broken):
    """Broken before, in or behind each separator, with the process's label on each line or not."""
    whole = truth(tmp_path, [verl(r, label) for r in records()])
    at = {" - ": "\n{} - ", " -": "\n{} - ", "- ": " -\n{}"}[broken]
    for again in ("", label):
        text = "".join(verl(r, label).replace(" - ", at.format(again)) for r in records())
        rows, codes = read(tmp_path, text)
        assert told(rows) == whole and not codes & SAYS_SO


def test_the_place_of_the_call_that_rich_prints_is_no_value(tmp_path):
    lines = [verl(r, "[10:00:00] INFO     ") for r in records()]
    shown = [line.rstrip("\n") + "      trainer.py:120\n" for line in lines]
    assert told(read(tmp_path, "".join(shown))[0]) == truth(tmp_path, lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [60, 90])
@pytest.mark.parametrize(
    "place", ["trainer.py:88", "\x1b[2mtrainer.py\x1b[0m\x1b[2m:\x1b[0m\x1b[2m88\x1b[0m"]
)
def test_the_place_of_the_call_behind_the_first_line_of_a_wrapped_record(tmp_path, kind, width, place):
    """rich wraps a message beside the column of the places of calls."""
    lines = [KINDS[kind](r) for r in records()]
    shown = []
    for line in lines:
        first, *rest = by_words(line.rstrip("\n"), width, 20).split("\n")
        shown += [f"{first:<{width + 8}}{place}", *rest]
    rows, codes = read(tmp_path, "\n".join(shown) + "\n")
    whole = truth(tmp_path, lines)
    assert told(rows) <= whole and (told(rows) == whole or codes & SAYS_SO)
    assert not any("trainer.py" in name for name in rows.columns)


# --- cut off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1024, 2047, 4095, 4096, 16384])
@pytest.mark.parametrize("last", range(6))
def test_a_line_cut_at_a_loggers_limit(tmp_path, limit, last):
    """Validations longer than the limit, each cut at another place of its last number or key."""
    lines, cut = [], []
    for r in records():
        if r["step"] % 5 == 0:
            line = verl(r, "").rstrip("\n")
            pad = limit - len(line) - len(" - val/x:") - last
            line += f" - val/{'y' * (pad - len(' - val/:0.5'))}:0.5 - val/x:0.123456"
            cut.append(line[:limit] + "\n")
            lines.append(line + "\n")
        else:
            lines.append(verl(r, ""))
            cut.append(lines[-1])
    rows, codes = read(tmp_path, "".join(cut))
    assert told(rows) <= truth(tmp_path, lines) and "lines-cut" in codes
    assert rows["actor/entropy"].notna().all() and "val/x" not in {k for _, k, _ in told(rows)}


@pytest.mark.parametrize("width", range(48, 110, 4))
def test_every_line_cut_at_one_width(tmp_path, width):
    lines = [verl(r) for r in records()]
    rows, codes = read(tmp_path, "".join(line[:-1][:width] + "\n" for line in lines))
    assert told(rows) <= truth(tmp_path, lines)
    assert codes & SAYS_SO


@pytest.mark.parametrize("digits", [2, 3, 4, None])
@pytest.mark.parametrize("label", ["", RAY])
@pytest.mark.parametrize("below", ["", "Done.\n", "100%|###| 3/3 [00:01<00:00]\n", "saving step 3 - ok\n"])
def test_lines_that_end_in_a_number_are_whole(tmp_path, digits, label, below):
    """Of one length or of many, whatever stands below: nothing is lost, and nothing is said."""
    text = ""
    for r in records(40):
        pairs = " - ".join(
            f"{k}:{v if digits is None else f'{v:.{digits}f}'}" for k, v in r.items() if k != "step"
        )
        text += f"{label}step:{r['step']} - {pairs}\n{below}"
    rows, codes = read(tmp_path, text)
    assert rows.shape == (40, 6) and rows.notna().all().all() and not codes


# --- torn ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_and_a_second_process_that_appends(tmp_path, kind):
    """At every position but inside the last number with a new line behind it, which looks whole."""
    lines = [KINDS[kind](r) for r in records()]
    whole = truth(tmp_path, lines)
    torn = lines[9]
    for cut in range(1, len(torn) - 1, 4):
        for following in (lines[9:], lines[10:]):
            rows, _ = read(tmp_path, "".join(lines[:9]) + torn[:cut] + "".join(following))
            assert told(rows) <= whole, (torn[:cut], told(rows) - whole)


def test_a_crash_inside_a_number_and_a_new_line(tmp_path):
    lines = [verl(r) for r in records()]
    whole = truth(tmp_path, lines)
    for cut in range(lines[9].index("step"), lines[9].index("response_length/mean:")):
        rows, _ = read(tmp_path, "".join(lines[:9]) + lines[9][:cut] + "\n" + "".join(lines[10:]))
        assert told(rows) <= whole, (lines[9][:cut], told(rows) - whole)


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(data=st.data())
def test_two_writers_at_once(tmp_path, kind, data):
    lines = [KINDS[kind](r) for r in records()]
    a, b = lines[9], lines[10]
    i = data.draw(st.integers(1, len(a) - 1))
    j = data.draw(st.one_of(st.just(len(b)), st.integers(0, len(b))))
    mixed = a[:i] + b[:j] + a[i:] + b[j:]
    rows, codes = read(tmp_path, "".join(lines[:9]) + mixed + "".join(lines[11:]))
    whole = truth(tmp_path, lines)
    assert told(rows) <= whole, (mixed, told(rows) - whole)
    assert told(rows) == whole or codes


def test_a_record_whose_step_another_process_wrote_into_is_missed(tmp_path):
    lines = [verl(r) for r in records()]
    for i in range(lines[9].index("step:") + 1, lines[9].index(" - ")):
        rows, codes = read(tmp_path, "".join([*lines[:9], lines[9][:i] + "(" + lines[9][i:], *lines[10:]]))
        assert len(rows) == len(lines) - 1 and "records-broken" in codes, lines[9][:i]


def test_a_half_written_dictionary_is_no_second_run(tmp_path):
    lines = [hugging_face(r, with_step=True) for r in records()]
    whole = truth(tmp_path, lines)
    for cut in range(1, len(lines[-1]) - 2):
        rows, codes = read(tmp_path, "".join(lines[:-1]) + lines[-1][:cut])
        assert told(rows) <= whole and rows["step"].is_monotonic_increasing
        assert len(rows) == len(lines) - 1 or "truncated-tail" in codes


# --- more than once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [9, 40, 500])
@pytest.mark.parametrize("between", [", ", " "])
def test_many_records_in_a_line(tmp_path, n, between):
    text = between.join(hugging_face(r, with_step=True).strip() for r in records(n))
    rows, _ = read(tmp_path, f"[{text}]\n" if between == ", " else text + "\n")
    assert rows["step"].tolist() == list(range(1, n + 1))


def test_many_verl_records_in_a_line(tmp_path):
    lines = [verl(r) for r in records(30)]
    rows, codes = read(tmp_path, " ".join(line.strip() for line in lines) + "\n")
    assert told(rows) == truth(tmp_path, lines) and not codes


@pytest.mark.parametrize(
    "labels", [("0: ", "1: "), ("[rank0]: ", "[rank8]: "), ("", ""), (" 0: ", " 1: ", "10: ")]
)
@pytest.mark.parametrize("block", [1, 4])
def test_every_node_prints_every_record(tmp_path, labels, block):
    lines = [hugging_face(r) for r in records(20)]
    if not labels[0] and block > 1:
        pytest.skip("without labels, copies far from each other are a run that was started again")
    parts = [lines[i : i + block] for i in range(0, len(lines), block)]
    rows, codes = read(tmp_path, "".join(label + x for part in parts for label in labels for x in part))
    assert told(rows) == truth(tmp_path, lines) and "records-repeated" in codes


@pytest.mark.parametrize(
    "suffix", ["", " (Ray deduplicates logs by default. Set RAY_DEDUP_LOGS=0 to disable)"]
)
@pytest.mark.parametrize("colour", ["{}", "\x1b[32m{}\x1b[0m"])
def test_what_ray_sets_behind_a_line_is_no_value(tmp_path, suffix, colour):
    lines = [verl(r) for r in records()]
    behind = colour.format(f" [repeated 2x across cluster]{suffix}")
    shown = [line.rstrip("\n") + behind * (i % 3 == 0) + "\n" for i, line in enumerate(lines)]
    rows, codes = read(tmp_path, "".join(shown))
    assert told(rows) == truth(tmp_path, lines) and not codes


@pytest.mark.parametrize("back, done", [(12, 14), (5, 5), (1, 3), (9, 15)])
def test_a_run_without_steps_that_was_started_again(tmp_path, back, done):
    """Steps ``back``, ... follow step ``done``; the epoch tells."""
    lines = [hugging_face(r) for r in records(20)]
    rows, codes = read(tmp_path, "".join(lines[:done]) + "".join(lines[back - 1 :]))
    assert rows["step"].tolist() == [*range(1, done + 1), *range(back, 21)]
    assert ("started-again" in codes) == (back <= done - 1)


def test_container_parts_are_put_together(tmp_path):
    """Kubernetes cuts long lines into parts; standard error comes in between."""
    text = ""
    for i, r in enumerate(records(extra=8)):
        line = verl(r, "").rstrip("\n")
        time = f"2026-01-01T00:00:{i:02d}.123456789Z"
        pieces = [line[k : k + 97] for k in range(0, len(line), 97)]
        for piece in pieces[:-1]:
            text += f"{time} stdout P {piece}\n{time} stderr F a warning\n"
        text += f"{time} stdout F {pieces[-1]}\n"
    rows, codes = read(tmp_path, text)
    want = truth(tmp_path, [verl(r, "") for r in records(extra=8)])
    assert told(rows) == want and codes == {"unwrapped"}


def test_block_bounds_do_not_matter_to_joined_lines(tmp_path, monkeypatch):
    from entlaw.runs.parsing import text as text_module
    from entlaw.runs.sources import console

    text = hard("".join(verl(r) for r in records(extra=5)), 80)
    whole, codes = read(tmp_path, text)
    original = text_module.chunks
    for size in (1, 13, 100):
        monkeypatch.setattr(console, "chunks", lambda handle, notes, n=size: original(handle, notes, n))
        rows, again = read(tmp_path, text)
        pd.testing.assert_frame_equal(rows, whole)
        assert again == codes
