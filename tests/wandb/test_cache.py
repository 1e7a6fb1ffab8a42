"""The cache of pulled runs: nothing lost, nothing half, nothing silently wrong."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.errors import CacheError, UnreadableSource
from entlaw.lock import exclusive
from entlaw.runs.files import expand
from entlaw.runs.wandb.cache import SIDECAR, Cache, sidecar
from entlaw.runs.wandb.stored import CachedRun, Identity, decode, encode

ME = Identity("http://127.0.0.1:1", "team", "project", "abc123")


def entry(
    identity: Identity = ME, name: str = "a run", n: int = 20, seed: int = 0, **about: object
) -> CachedRun:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"_step": np.arange(float(n)), "actor/entropy": rng.normal(size=n)})
    rows.loc[::3, "actor/entropy"] = np.nan
    return CachedRun(
        identity, name, rows, {"state": "finished", "last_step": n - 1, "config": {"lr": 0.1}, **about}
    )


def same(one: CachedRun, two: CachedRun) -> bool:
    pd.testing.assert_frame_equal(one.rows, two.rows, check_exact=True)
    return (one.identity, one.name) == (two.identity, two.name) and json.dumps(one.about) == json.dumps(
        two.about
    )


numbers = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
names = st.text(min_size=1, max_size=12).filter(lambda s: not any(0xD800 <= ord(c) < 0xE000 for c in s))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(names, st.lists(numbers, min_size=5, max_size=5), max_size=6),
    st.dictionaries(st.text(max_size=5), plain, max_size=4),
    st.text(max_size=10),
)
def test_what_is_written_is_read_to_the_last_bit(data, config, name):
    given_ = CachedRun(ME, name, pd.DataFrame(data, index=pd.RangeIndex(5), dtype=float), {"config": config})
    back = decode(io.BytesIO(encode(given_)), "x")
    assert same(back, given_)
    for key in data:
        mine, theirs = back.rows[key].to_numpy(), np.array(data[key])
        assert (np.signbit(mine) == np.signbit(theirs))[~np.isnan(theirs)].all()


def test_a_run_without_history_and_one_without_columns():
    for rows in (pd.DataFrame(), pd.DataFrame({"loss": np.array([], dtype=float)})):
        given_ = CachedRun(ME, "empty", rows.set_axis(pd.RangeIndex(0)), {})
        back = decode(io.BytesIO(encode(given_)), "x")
        assert list(back.rows.columns) == list(rows.columns) and len(back.rows) == 0


def test_no_single_changed_byte_goes_unnoticed():
    """Whatever byte is damaged: the same content, or an error; never other numbers, names or configuration."""
    given_ = entry(n=50)
    data = bytearray(encode(given_))
    rng = np.random.default_rng(0)
    noticed = 0
    footer = range(len(data) - int.from_bytes(data[-8:-4], "little") - 8, len(data))
    for at in [*rng.integers(0, len(data), 150).tolist(), *rng.choice(list(footer), 150).tolist()]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        try:
            assert same(decode(io.BytesIO(bytes(damaged)), "x"), given_)
        except UnreadableSource:
            noticed += 1
    assert noticed > 100
    for end in rng.integers(0, len(data), 30).tolist():
        with pytest.raises(UnreadableSource):
            decode(io.BytesIO(bytes(data[:end])), "x")


def test_files_of_other_makers_and_of_later_versions_are_left_alone(tmp_path):
    cache = Cache(tmp_path)
    path = cache.load(ME, "a run").path
    pd.DataFrame({"x": [1.0]}).to_parquet(path)
    before = path.read_bytes()
    loaded = cache.load(ME, "a run")
    assert loaded.entry is None and loaded.path != path  # a table of the user's that has the name
    cache.save(loaded.path, entry())
    assert path.read_bytes() == before and same(cache.load(ME, "a run").entry, entry())
    later = Cache(tmp_path / "later")
    later.folder.mkdir()
    spot = later.load(ME, "a run").path
    later.save(spot, entry())
    spot.write_bytes(spot.read_bytes().replace(b"entlaw.pull/1", b"entlaw.pull/2"))
    _sign(spot)
    with pytest.raises(UnreadableSource, match="pull/2"):
        later.load(ME, "a run")


def _sign(path: Path) -> None:
    note = json.loads(sidecar(path).read_text())
    note["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar(path).write_text(json.dumps(note))


def test_two_runs_of_one_name_one_id_in_two_projects_and_a_renamed_run(tmp_path):
    cache = Cache(tmp_path)
    runs = [
        entry(ME, "twin", seed=1),
        entry(replace(ME, run_id="abc124"), "twin", seed=2),
        entry(replace(ME, project="other"), "twin", seed=3),
        entry(replace(ME, host="http://elsewhere"), "twin", seed=4),
        entry(replace(ME, run_id="abc123-twin"), "", seed=5),
        entry(replace(ME, run_id="../up"), "a/b\\c:*?", seed=6),
        entry(replace(ME, run_id="[abc]*"), "\u00e9\u4e2d" * 100, seed=7),
        entry(replace(ME, run_id="x" * 128), "n" * 300, seed=8),
    ]
    for one in runs:
        cache.save(cache.load(one.identity, one.name).path, one)
    for one in runs:
        assert same(cache.load(one.identity, one.name).entry, one)
        renamed = cache.load(one.identity, "quite another name")
        assert same(renamed.entry, one) and renamed.path == cache.load(one.identity, one.name).path
    files = sorted(p.name for p in tmp_path.iterdir())
    assert len(files) == 2 * len(runs) and all(p.parent == tmp_path for p in expand(tmp_path))
    assert len({f.lower() for f in files}) == len(files)
    assert [p.suffix for p in expand(tmp_path)] == [".parquet"] * len(runs)  # a sidecar is no log


def test_the_sidecar_says_what_is_there(tmp_path):
    cache = Cache(tmp_path)
    path = cache.load(ME, "a run").path
    cache.save(path, entry(pulled_at="2026-01-01T00:00:00Z", wandb="0.31.0", url="http://x"))
    assert path.name == "abc123-a-run.parquet"
    note = json.loads((tmp_path / f"abc123-a-run{SIDECAR}").read_text())
    assert note["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert note["schema"] == "entlaw.pull/1" and note["source"] == ME.__dict__ and note["rows"] == 20
    assert note["keys"] == ["_step", "actor/entropy"] and note["state"] == "finished"
    assert (
        expand(sidecar(path)) == expand(tmp_path / "*") == expand(tmp_path) == [path]
    )  # the note means its file
    assert (note["last_step"], note["wandb"]) == (19, "0.31.0") and note["entlaw"] and note["pulled_at"]


@pytest.mark.parametrize("what", ["cut", "flipped", "empty", "gone", "both"])
def test_damage_is_noticed_told_and_replaced_in_place(tmp_path, what):
    cache = Cache(tmp_path)
    path = cache.load(ME, "a run").path
    cache.save(path, entry())
    data = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        at = len(data) // 3
        # Some bytes of a Parquet file say nothing that is read, and which those are depends on its writer's version.
        flipped = data[:at] + bytes(b ^ 255 for b in data[at : at + 64]) + data[at + 64 :]
        path.write_bytes({"cut": data[:at], "empty": b""}.get(what, flipped))
    if what == "both":
        sidecar(path).write_text("{")
    loaded = cache.load(ME, "renamed" if what != "both" else "a run")
    assert loaded.entry is None and loaded.path == path and not loaded.complete
    assert [f.code for f in loaded.findings] == ["cache-damaged"] and loaded.findings[0].why
    cache.save(path, entry(seed=9))
    assert cache.load(ME, "a run").complete and same(cache.load(ME, "a run").entry, entry(seed=9))


@pytest.mark.parametrize("note", [None, b"", b"[]", b"{nonsense", b'{"schema": "other"}'])
def test_a_note_that_is_missing_or_of_another_state_is_told_and_the_rows_are_used(tmp_path, note):
    cache = Cache(tmp_path)
    path = cache.load(ME, "a run").path
    cache.save(path, entry())
    sidecar(path).unlink() if note is None else sidecar(path).write_bytes(note)
    loaded = cache.load(ME, "a run")
    assert same(loaded.entry, entry()) and [f.code for f in loaded.findings] == ["cache-mended"]
    assert not loaded.complete


_KILLED = """
    import os, sys, itertools
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from entlaw import files
    from entlaw.runs.wandb.cache import Cache
    from tests.wandb.test_cache import ME, entry
    count = itertools.count()
    def dying(call):
        def wrapped(*args, **kw):
            if next(count) == {at}:
                os.kill(os.getpid(), 9)
            return call(*args, **kw)
        return wrapped
    files.os = type(os)("os")
    files.os.__dict__.update(os.__dict__)
    for name in ("replace", "fsync", "open"):
        setattr(files.os, name, dying(getattr(os, name)))
    cache = Cache(Path({folder!r}))
    with cache.locked(ME, 1.0):
        cache.save(cache.load(ME, "a run").path, entry(n=30, seed=5))
"""


@pytest.mark.parametrize("at", range(8))
def test_a_kill_at_any_moment_leaves_the_old_rows_or_the_new(tmp_path, at):
    """Killed before each call that touches the disk in turn: 2 x (fsync, rename, open, fsync), then nothing."""
    cache = Cache(tmp_path)
    old, new = entry(), entry(n=30, seed=5)
    path = cache.load(ME, "a run").path
    cache.save(path, old)
    root = str(Path(__file__).parents[2])
    code = textwrap.dedent(_KILLED.format(root=root, at=at, folder=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    loaded = cache.load(ME, "a run")
    assert loaded.entry is not None and same(loaded.entry, old if at <= 1 else new)
    assert loaded.complete == (at <= 1 or at > 5)  # between the two files: told, and mended by the next save
    assert expand(tmp_path) == [path]  # what was being written is no log
    with cache.locked(ME, 1.0):  # the killed process holds nothing
        cache.save(path, new)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, sidecar(path).name])


def test_one_at_a_time_and_the_second_sees_what_the_first_wrote(tmp_path):
    """Eight threads each add one to a number in the cache; none of them is lost, no lock file is left."""
    cache = Cache(tmp_path)

    def add_one() -> None:
        with cache.locked(ME, 30.0):
            loaded = cache.load(ME, "a run")
            count = 0 if loaded.entry is None else int(loaded.entry.about["count"])
            time.sleep(0.002)
            cache.save(loaded.path, entry(count=count + 1))

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert cache.load(ME, "a run").entry.about["count"] == 8
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lock_file_of_the_dead_is_stale_and_a_stuck_holder_is_named(tmp_path):
    path = tmp_path / ".x.lock"
    path.write_text("pid 1 on nowhere")
    with exclusive(path, 0.0) as held:
        assert held and "pid" in path.read_text()
        with pytest.raises(CacheError, match=r"0\.2 s") as told, exclusive(path, 0.2):
            pass
        assert f"pid {os.getpid()}" in str(told.value)
    assert not path.exists()


def test_a_full_disk_gives_one_message_and_loses_nothing(tmp_path):
    """A real small file system where one can be mounted; else the limit on the size of a file."""
    mounted = (
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )
    cache = Cache(tmp_path / "pulled")
    old = entry()
    path = cache.load(ME, "a run").path
    big = entry(n=20_000, seed=1)
    try:
        with cache.locked(ME):
            cache.save(path, old)
        if mounted:
            with pytest.raises(CacheError, match="No space left") as told, cache.locked(ME):
                cache.save(path, big)
        else:
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            try:
                with pytest.raises(CacheError, match="File too large") as told, cache.locked(ME):
                    cache.save(path, big)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                signal.signal(signal.SIGXFSZ, handler)
        assert told.value.exit_code == 2 and told.value.hint and "unchanged" in told.value.why
        assert same(cache.load(ME, "a run").entry, old) and cache.load(ME, "a run").complete
        assert len(list((tmp_path / "pulled").iterdir())) == 2  # no half file, no lock
    finally:
        if mounted:
            subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_folder_that_cannot_be_made_or_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot write"), Cache(tmp_path / "file" / "sub").locked(ME):
        pass
    # Nobody can write into /proc, not even root, whom permissions do not stop.
    with pytest.raises(CacheError, match="cannot write"), Cache(Path("/proc/self")).locked(ME):
        pass


def test_a_changed_value_is_not_the_same():
    """The comparison these tests rest on can fail."""
    one = entry()
    rows = one.rows.copy()
    rows.iloc[1, 1] = math.nextafter(rows.iloc[1, 1], 9)
    with pytest.raises(AssertionError):
        same(one, replace(one, rows=rows))
