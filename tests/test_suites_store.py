"""Responses on disk: what a kill leaves, what other settings may not touch, what damage says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import CheckpointError, UnreadableSource, UsageError
from entlaw.suites.store import ItemFile, StoredResponse, differences, fingerprint
from tests.conftest import REPO

SETTINGS = {"model": "m", "temperature": 0.6, "samples": 2}
TEXTS = ["", "plain", 'quo"te\n\\boxed{1}', "\x00\u2028é🙂", "\udce9 half a character"]
PLAN = [[(f"p{i}", j) for i in pair for j in range(2)] for pair in ((0, 1), (2, 3), (4,))]


def item(key):
    i = int(key[0][1:])
    return StoredResponse(
        key[0], i, key[1], TEXTS[i], bool(i % 2), i, None if i == 1 else "7", "right", 1.0, (5, i)
    )


def fill(path, plan=PLAN, held=SETTINGS):
    file = ItemFile(path, held)
    file.keep(plan)
    with file.appending() as out:
        for chunk in plan:
            if any(key not in file.items for key in chunk):
                file.append(out, [item(key) for key in chunk])
    return file


def test_what_is_written_is_read_back(tmp_path):
    fill(tmp_path / "a" / "s.jsonl")
    again = ItemFile(tmp_path / "a" / "s.jsonl", SETTINGS)
    assert again.items == {key: item(key) for chunk in PLAN for key in chunk} and not again.findings
    lines = (tmp_path / "a" / "s.jsonl").read_text().splitlines()
    assert len(lines) == 11 and json.loads(lines[0])["fingerprint"] == fingerprint(SETTINGS)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_goes_on_to_the_same_file(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    fill(folder / "whole.jsonl")
    whole = (folder / "whole.jsonl").read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    (folder / "cut.jsonl").write_bytes(whole[:at])
    file = fill(folder / "cut.jsonl")
    assert (folder / "cut.jsonl").read_bytes() == whole
    codes = {f.code for f in file.findings}
    torn = at > 0 and whole[at - 1 : at] != b"\n"
    assert ("half-written-line" in codes) == torn
    kept = max(whole[:at].count(b"\n") - 1, 0)  # whole lines of responses
    assert ("chunk-cut-short" in codes) == (kept not in (0, 4, 8, 10))


def test_other_settings_are_refused_with_what_differs_and_nothing_is_touched(tmp_path):
    path = tmp_path / "s.jsonl"
    fill(path)
    before = path.read_bytes()
    for other, words in (
        (SETTINGS | {"temperature": 1.0}, "temperature was 0.6, is 1.0"),
        (SETTINGS | {"seed": 1}, "seed was not there, is 1"),
        ({"model": "m", "temperature": 0.6}, "samples was 2, is not there"),
    ):
        with pytest.raises(UsageError) as told:
            ItemFile(path, other)
        assert told.value.why == words and "-o" in told.value.hint
    assert path.read_bytes() == before


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2)),
)
def test_settings_are_equal_exactly_if_nothing_differs(a, b):
    assert (a == b) == (not differences(a, b)) == (fingerprint(a) == fingerprint(b))
    assert fingerprint(a) == fingerprint(dict(reversed(a.items())))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda line: line[:20], "damaged"),
        (lambda line: line.replace(b'"reward": 1.0', b'"reward": 7'), "damaged"),
        (lambda line: line.replace(b'"reward": 1.0', b'"reward": NaN'), "damaged"),
        (lambda line: line.replace(b'"verdict": "right"', b'"verdict": "fine"'), "damaged"),
        (lambda line: line.replace(b'"sample": 0', b'"sample": "0"'), "damaged"),
        (lambda line: b"[]", "damaged"),
        (lambda line: line + b"\n" + line, "twice"),
    ],
)
def test_damage_in_the_middle_is_no_half_written_line(tmp_path, change, words):
    path = tmp_path / "s.jsonl"
    fill(path)
    lines = path.read_bytes().split(b"\n")
    lines[3] = change(lines[3])
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UnreadableSource, match=words) as told:
        ItemFile(path, SETTINGS)
    assert "line 4" in told.value.what or "line 5" in told.value.what


def test_another_file_is_not_taken_for_responses(tmp_path):
    (tmp_path / "s.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UnreadableSource, match="no responses"):
        ItemFile(tmp_path / "s.jsonl", SETTINGS)


def test_two_evaluations_do_not_write_one_file(tmp_path):
    pytest.importorskip("fcntl")
    file, other = ItemFile(tmp_path / "s.jsonl", SETTINGS), ItemFile(tmp_path / "s.jsonl", SETTINGS)
    with file.appending(), pytest.raises(UsageError, match="another evaluation"), other.appending():
        pass
    with other.appending():
        pass


def test_a_full_disk_is_told_and_what_was_written_stays(tmp_path):
    """RLIMIT_FSIZE stands in for a full disk: the file may not grow beyond 1,000 bytes."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from pathlib import Path\nfrom tests.test_suites_store import *\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: fill(Path({str(tmp_path / 's.jsonl')!r}))\n"
        "except CheckpointError as e: print(e.what, '|', e.hint); sys.exit(7)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO)
    assert found.returncode == 7, found.stderr
    assert "cannot be written" in found.stdout and "run again" in found.stdout
    file = fill(tmp_path / "s.jsonl")  # there is room again
    assert {f.code for f in file.findings} >= {"half-written-line"}
    assert file.items == {key: item(key) for chunk in PLAN for key in chunk}


def test_a_folder_that_cannot_be_written_is_a_message(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CheckpointError), ItemFile(tmp_path / "taken" / "s.jsonl", SETTINGS).appending():
        pass
