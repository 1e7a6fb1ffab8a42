"""The bytes of a text log, whatever its encoding and its compression: the same rows as of the plain file."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import sys
import types

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import UnreadableSource
from entlaw.runs import packed
from entlaw.runs.decoding import Decoded, decoded, encoding_of
from entlaw.runs.reader import read_raw
from tests.conftest import law_records
from tests.runs.test_gzip import csv, trainer_state, verl

RECORDS = law_records(n=12)
TEXTS = {
    "a.jsonl": "".join(json.dumps(r) + "\n" for r in RECORDS),
    "a.csv": csv(RECORDS),
    "a.log": "Größe: 7 → 8\n" + verl(RECORDS),
    "a.json": trainer_state(RECORDS, indent=1),
}
ENCODINGS = {
    "UTF-8 with mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16-LE": lambda text: text.encode("utf-16-le"),
    "UTF-16-BE": lambda text: text.encode("utf-16-be"),
    "UTF-16-LE with mark": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16-BE with mark": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32 with mark": lambda text: text.encode("utf-32"),
    "Latin-1": lambda text: text.replace("→", "·").encode("latin-1"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
}


def read(path, data):
    path.write_bytes(data)
    (run,) = read_raw(path)
    return run


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding(tmp_path, name, encoding):
    want = read(tmp_path / name, TEXTS[name].encode())
    got = read(tmp_path / name, ENCODINGS[encoding](TEXTS[name]))
    pd.testing.assert_frame_equal(got.rows, want.rows)
    assert got.provenance.format == want.provenance.format
    told = {f.code for f in got.findings} - {f.code for f in want.findings}
    assert told == ({"encoding-guessed"} if encoding in ("UTF-16-LE", "UTF-16-BE") else set())


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_lines_that_end_in_a_carriage_return(tmp_path, name):
    want = read(tmp_path / name, TEXTS[name].encode())
    pd.testing.assert_frame_equal(
        read(tmp_path / name, TEXTS[name].replace("\n", "\r").encode()).rows, want.rows
    )


@pytest.mark.parametrize("first", ["utf-8", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("second", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.log"])
def test_a_shell_appends_in_an_encoding_of_its_own(tmp_path, name, first, second):
    want = read(tmp_path / name, TEXTS[name].encode())
    lines = TEXTS[name].splitlines(keepends=True)
    data = "".join(lines[:6]).encode(first) + "".join(lines[6:]).encode(second)
    pd.testing.assert_frame_equal(read(tmp_path / name, data).rows, want.rows)


def test_latin_letters_keep_their_columns_apart(tmp_path):
    run = read(tmp_path / "a.csv", "step,précision,prêcision\n1,0.5,0.25\n2,0.5,0.25\n".encode("latin-1"))
    assert list(run.rows) == ["step", "précision", "prêcision"]


def test_a_hole_of_zeros_ends_a_line(tmp_path):
    lines = TEXTS["a.jsonl"].splitlines(keepends=True)
    data = "".join(lines[:4]) + lines[4][:20] + "\0" * 999 + "".join(lines[5:])
    run = read(tmp_path / "a.jsonl", data.encode())
    assert run.rows["step"].tolist() == [r["step"] for r in RECORDS if r["step"] != RECORDS[4]["step"]]
    rows = "step,entropy,acc\n1,0.51,0.25\n2,0.52,0.2" + "\0" * 99 + "3,0.53,0.27\n4,0.54,0.28\n"
    run = read(tmp_path / "a.csv", rows.encode())
    assert run.rows["acc"].dropna().tolist() == [0.25, 0.27, 0.28]  # 0.2 may be half a number


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=300),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32"]),
    size=st.integers(1, 50),
)
def test_decoded_in_pieces_of_any_size(text, encoding, size):
    stream = Decoded(io.BytesIO(text.encode(encoding)))
    assert b"".join(iter(lambda: stream.read(size), b"")).decode() == text
    assert decoded(text.encode(encoding)).decode() == text


def test_what_is_no_utf16():
    assert encoding_of(b"step:1 - a:0.5\n" * 20).name == "utf-8"
    assert encoding_of(b"\0" * 4096).name == "utf-8"
    assert encoding_of(bytes(range(1, 5)) + b"\0\0\1\0" * 500).name == "utf-8"  # small integers, not letters


# Compressed -------------------------------------------------------------------------------------


PACKED = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("name", TEXTS)
def test_every_way_of_compression(tmp_path, name, suffix):
    want = read(tmp_path / name, TEXTS[name].encode())
    (tmp_path / name).unlink()
    got = read(tmp_path / (name + suffix), PACKED[suffix](TEXTS[name].encode("utf-16")))
    pd.testing.assert_frame_equal(got.rows, want.rows)
    assert (got.name, got.findings) == (want.name, want.findings)


@pytest.mark.parametrize("suffix", PACKED)
def test_cut_and_damaged_files_are_told(tmp_path, suffix):
    text = "".join(json.dumps({"step": t, "x": t * 7919 % 1000 / 1000}) + "\n" for t in range(3000))
    data, path = PACKED[suffix](text.encode()), tmp_path / ("a.jsonl" + suffix)
    want = read(tmp_path / "a.jsonl", text.encode()).rows
    (tmp_path / "a.jsonl").unlink()
    outcomes = set()
    for at in range(20, len(data), max(1, len(data) // 25)):
        flipped = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        for damaged, code in ((data[:at], "truncated-gzip"), (flipped, "damaged-gzip")):
            try:
                run = read(path, damaged)
            except UnreadableSource as error:
                assert error.hint
                outcomes.add("refused")
                continue
            assert {code, "truncated-gzip"} & {f.code for f in run.findings}
            if damaged is not flipped:
                pd.testing.assert_frame_equal(run.rows, want.iloc[: len(run.rows)])
            outcomes.add("told")
    assert outcomes <= {"refused", "told"} and outcomes


def test_concatenated_members(tmp_path):
    lines = TEXTS["a.jsonl"].splitlines(keepends=True)
    for suffix, pack in PACKED.items():
        data = pack("".join(lines[:5]).encode()) + pack("".join(lines[5:]).encode())
        run = read(tmp_path / ("a.jsonl" + suffix), data)
        assert len(run.rows) == len(RECORDS) and not run.findings
        (tmp_path / ("a.jsonl" + suffix)).unlink()


@pytest.mark.parametrize("packing", [p for p in packed.PACKINGS if p.hint], ids=lambda p: p.name)
def test_what_is_not_read_is_named(tmp_path, monkeypatch, packing):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    path = tmp_path / ("a.log" + packing.suffix)
    path.write_bytes(packing.magic + bytes(range(200)) * 3)
    with pytest.raises(UnreadableSource, match=packing.name) as error:
        read_raw(path)
    assert error.value.hint and error.value.where == str(path) and error.value.exit_code == 3


def test_zstd_is_read_where_python_or_a_package_can(tmp_path, monkeypatch):
    """The module is played by one that undoes XOR: what is tested is how it is called."""

    class Error(Exception):
        pass

    class Inflate:
        eof, unused_data, needs_input = False, b"", True

        def decompress(self, data, max_length):
            if b"!" in data:
                raise Error
            return bytes(byte ^ 0x20 for byte in data.removeprefix(packed.PACKINGS[3].magic))

    fake = types.SimpleNamespace(ZstdDecompressor=Inflate, ZstdError=Error)
    monkeypatch.setitem(sys.modules, "compression", types.SimpleNamespace(zstd=fake))
    monkeypatch.setitem(sys.modules, "compression.zstd", fake)
    data = packed.PACKINGS[3].magic + bytes(byte ^ 0x20 for byte in TEXTS["a.jsonl"].encode())
    run = read(tmp_path / "a.jsonl.zst", data)
    assert len(run.rows) == len(RECORDS)
    assert {f.code for f in run.findings} == {"truncated-gzip"}  # the fake never says that it has ended
    with pytest.raises(UnreadableSource):
        read(tmp_path / "a.jsonl.zst", packed.PACKINGS[3].magic + b"!")


def test_the_zstandard_package(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    data = zstandard.ZstdCompressor().compress(TEXTS["a.csv"].encode())
    for content in (data, data + data):
        run = read(tmp_path / "a.csv.zst", content)
        assert len(run.rows) >= len(RECORDS) and not run.findings
    run = read(tmp_path / "a.csv.zst", data[:-3])
    assert "truncated-gzip" in {f.code for f in run.findings}
