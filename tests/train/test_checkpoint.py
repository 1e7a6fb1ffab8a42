"""Checkpoints: whole or not there, under faults injected at every call, full disks, damage and kills."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from entlaw import files
from entlaw.errors import CheckpointError, EntlawError, UnreadableSource
from entlaw.train import checkpoint


def writer(seed, size=5000):
    def write(folder):
        rng = np.random.default_rng(seed)
        (folder / "policy").mkdir()
        (folder / "policy" / "model.bin").write_bytes(rng.bytes(size))
        (folder / "state.bin").write_bytes(rng.bytes(size // 3))

    return write


def content(path):
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def hidden(folder):
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_saved_verified_found(tmp_path):
    path = checkpoint.save(tmp_path / "run", 12, writer(1))
    assert path == tmp_path / "run" / "checkpoint-00000012"
    manifest = json.loads((path / "manifest.json").read_text())
    state = (path / "state.bin").read_bytes()
    assert manifest == {
        "schema": "entlaw.checkpoint/1",
        "step": 12,
        "files": {
            "policy/model.bin": {
                "size": 5000,
                "sha256": hashlib.sha256((path / "policy/model.bin").read_bytes()).hexdigest(),
            },
            "state.bin": {"size": 1666, "sha256": hashlib.sha256(state).hexdigest()},
        },
    }
    assert checkpoint.verify(path).size == 6666
    assert checkpoint.latest(tmp_path / "run") == (path, ())


def test_nothing_saved_yet(tmp_path):
    assert checkpoint.latest(tmp_path / "missing") == (None, ())
    assert checkpoint.clean(tmp_path / "missing") == ()


@pytest.mark.parametrize(("keep", "left"), [(1, [9]), (2, [8, 9]), (3, [7, 8, 9])])
def test_keeps_the_newest(tmp_path, keep, left):
    for step in range(10):
        checkpoint.save(tmp_path, step, writer(step), keep)
    assert names(tmp_path) == [f"checkpoint-{s:08d}" for s in left]


def test_order_is_by_number_beyond_eight_digits(tmp_path):
    checkpoint.save(tmp_path, 99_999_999, writer(0), keep=2)
    newest = checkpoint.save(tmp_path, 100_000_000, writer(1), keep=2)
    assert checkpoint.latest(tmp_path).path == newest


def test_a_future_that_is_done_again_goes(tmp_path):
    for step in (4, 8, 12):
        checkpoint.save(tmp_path, step, writer(step), keep=3)
    checkpoint.save(tmp_path, 6, writer(60), keep=3)
    assert names(tmp_path) == ["checkpoint-00000004", "checkpoint-00000006"]


def test_one_step_saved_twice(tmp_path):
    first = checkpoint.save(tmp_path, 5, writer(1))
    assert checkpoint.save(tmp_path, 5, writer(1)) == first  # same content: nothing to do
    second = checkpoint.save(tmp_path, 5, writer(2))
    assert second.name == "checkpoint-00000005-2"
    assert names(tmp_path) == [second.name]
    assert checkpoint.latest(tmp_path).path == second
    assert checkpoint.save(tmp_path, 6, writer(2)).name == "checkpoint-00000006"


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path):
    path = checkpoint.save(tmp_path, 5, writer(1))
    (path / "state.bin").write_bytes(b"")
    assert checkpoint.save(tmp_path, 5, writer(2)) == path
    checkpoint.verify(path)


# Damage -----------------------------------------------------------------------------------------


def edit_manifest(path, **changes):
    file = path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a bit": (lambda p: flip(p / "policy/model.bin"), "policy/model.bin was changed"),
    "cut": (lambda p: os.truncate(p / "state.bin", 10), "10 bytes instead of 1666"),
    "gone": (lambda p: (p / "state.bin").unlink(), "state.bin is missing"),
    "folder in place of a file": (
        lambda p: ((p / "state.bin").unlink(), (p / "state.bin").mkdir()),
        "state.bin",
    ),
    "manifest gone": (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest cut": (lambda p: os.truncate(p / "manifest.json", 30), "cannot be read"),
    "manifest not text": (lambda p: (p / "manifest.json").write_bytes(b"\xff\x00"), "cannot be read"),
    "manifest a list": (lambda p: (p / "manifest.json").write_text("[1]"), "schema"),
    "manifest nested": (lambda p: (p / "manifest.json").write_text("[" * 100_000), "cannot be read"),
    "other schema": (lambda p: edit_manifest(p, schema="entlaw.checkpoint/9"), "entlaw.checkpoint/9"),
    "other step": (lambda p: edit_manifest(p, step=3), "of step 3"),
    "no files": (lambda p: edit_manifest(p, files=None), "incomplete"),
    "no sizes": (lambda p: edit_manifest(p, files={"state.bin": {}}), "incomplete"),
    "outside": (lambda p: edit_manifest(p, files={"../x": {"size": 1, "sha256": ""}}), "incomplete"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_older_one_taken(tmp_path, kind):
    older = checkpoint.save(tmp_path, 1, writer(1), keep=2)
    path = checkpoint.save(tmp_path, 2, writer(2), keep=2)
    damage, said = DAMAGE[kind]
    damage(path)
    with pytest.raises(UnreadableSource) as caught:
        checkpoint.verify(path)
    assert said in caught.value.what and str(path) == caught.value.where
    found, skipped = checkpoint.latest(tmp_path)
    assert found == older
    assert [f.code for f in skipped] == ["checkpoint-damaged"] and said in skipped[0].what


def test_every_single_bit_of_a_file_counts(tmp_path):
    path = checkpoint.save(tmp_path, 1, lambda p: (p / "x").write_bytes(bytes(range(16))))
    for bit in range(16 * 8):
        data = bytearray(range(16))
        data[bit // 8] ^= 1 << bit % 8
        (path / "x").write_bytes(data)
        with pytest.raises(UnreadableSource):
            checkpoint.verify(path)


def test_a_file_added_later_and_another_name_do_no_harm(tmp_path):
    path = checkpoint.save(tmp_path, 1, writer(1))
    (path / "notes.txt").write_text("kept")
    shutil.copytree(path, tmp_path / "best")
    assert checkpoint.verify(tmp_path / "best").step == 1


def test_leftovers_are_passed_over_and_removed(tmp_path):
    path = checkpoint.save(tmp_path, 1, writer(1))
    for name in (".saving-00000002-0a1b2c3d", ".removing-00000000-0a1b2c3d"):
        shutil.copytree(path, tmp_path / name)
    (tmp_path / ".saving-by-somebody-else").mkdir()
    assert checkpoint.latest(tmp_path) == (path, ())
    assert sorted(checkpoint.clean(tmp_path)) == [".removing-00000000-0a1b2c3d", ".saving-00000002-0a1b2c3d"]
    assert names(tmp_path) == [".saving-by-somebody-else", path.name]


# Faults -----------------------------------------------------------------------------------------


class Faults:
    """Counts the calls that reach the system while a checkpoint is saved, and makes the n-th one fail."""

    def __init__(self, monkeypatch, fail_at=None, number=errno.ENOSPC):
        self.calls, self.fail_at, self.number = [], fail_at, number
        for where, name in (
            (os, "replace"),
            (os, "fsync"),
            (os, "open"),
            (os, "mkdir"),
            (Path, "mkdir"),
            (Path, "iterdir"),
        ):
            monkeypatch.setattr(where, name, self.wrapped(name, getattr(where, name)))
        for where in (checkpoint, files):
            monkeypatch.setattr(where, "open", self.wrapped("open", open), raising=False)

    def wrapped(self, name, real):
        def call(*args, **kw):
            self.calls.append(name)
            if len(self.calls) - 1 == self.fail_at:
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **kw)

        return call


def test_a_fault_at_every_call(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        clean = Faults(patch)
        checkpoint.save(tmp_path / "count", 1, writer(1))
        checkpoint.save(tmp_path / "count", 2, writer(2))
    # Two saves were counted and one is tried below: the later numbers hit nothing, and the save must succeed.
    assert {"replace", "fsync", "open", "mkdir", "iterdir"} <= set(clean.calls) and len(clean.calls) > 30
    failed = 0
    for number in (errno.ENOSPC, errno.EIO):
        for at in range(len(clean.calls)):
            folder = tmp_path / f"{number}-{at}"
            older = checkpoint.save(folder, 1, writer(1))
            before = content(older)
            with monkeypatch.context() as patch:
                Faults(patch, at, number)
                try:
                    saved = checkpoint.save(folder, 2, writer(2))
                except CheckpointError as error:
                    saved, failed = None, failed + 1
                    assert error.errno == number and isinstance(error, OSError) and error.exit_code == 1
                    assert os.strerror(number) in error.what and "step 2" in error.what and error.hint
                    if not error.why.endswith(
                        "there was no checkpoint before it"
                    ):  # the fault hit the report
                        assert "checkpoint-00000001 is intact" in error.why
            assert not hidden(folder) or saved  # removal of the old one may have been hit; clean() takes it
            checkpoint.clean(folder)
            found, skipped = checkpoint.latest(folder)
            assert not hidden(folder) and not skipped
            if saved is None:
                assert found == older and content(older) == before and names(folder) == [older.name]
            else:
                assert found == saved and checkpoint.verify(saved).step == 2
            checkpoint.save(folder, 3, writer(3))  # and the run goes on
            assert names(folder) == ["checkpoint-00000003"]
    assert failed > 30


@pytest.mark.parametrize("at", ["first", "middle"])
def test_disk_full_while_the_state_is_written(tmp_path, at):
    older = checkpoint.save(tmp_path, 1, writer(1))
    size = checkpoint.verify(older).size

    def write(folder):
        if at == "middle":
            (folder / "half").write_bytes(b"x" * 100)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(CheckpointError) as caught:
        checkpoint.save(tmp_path, 2, write)
    assert caught.value.errno == errno.ENOSPC
    assert (
        f"{size / 1e3:.1f} kB (going by the last one)" in caught.value.why and "free now" in caught.value.why
    )
    assert names(tmp_path) == [older.name]
    checkpoint.verify(older)


def test_no_checkpoint_before_it(tmp_path):
    def write(folder):
        (folder / "half").write_bytes(b"x" * 200_000)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with pytest.raises(
        CheckpointError, match=r"0\.2 MB \(written so far\).*there was no checkpoint before it"
    ):
        checkpoint.save(tmp_path, 2, write)
    assert names(tmp_path) == []


def test_libraries_that_wrap_the_systems_error(tmp_path):
    def torch_like(folder):
        raise RuntimeError(
            "[enforce fail at inline_container.cc:820] . PytorchStreamWriter failed writing file"
        )

    def wrapped(folder):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("cannot serialise") from error

    for write in (torch_like, wrapped):
        with pytest.raises(CheckpointError):
            checkpoint.save(tmp_path, 1, write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), KeyError("a bug"), EntlawError("own")])
def test_what_is_not_the_disks_fault_is_raised_as_it_is(tmp_path, error):
    older = checkpoint.save(tmp_path, 1, writer(1))

    def write(folder):
        (folder / "half").write_bytes(b"x")
        raise error

    with pytest.raises(type(error)) as caught:
        checkpoint.save(tmp_path, 2, write)
    assert caught.value is error and names(tmp_path) == [older.name]


@pytest.mark.parametrize("made", ["link", "manifest"])
def test_only_plain_files(tmp_path, made):
    def write(folder):
        if made == "link":
            (folder / "x").symlink_to("/etc/hostname")
        else:
            (folder / "manifest.json").write_text("{}")

    with pytest.raises(ValueError, match="no place"):
        checkpoint.save(tmp_path, 1, write)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_must_not_be_written(tmp_path):
    folder = tmp_path / "run"
    older = checkpoint.save(folder, 1, writer(1))
    folder.chmod(0o500)
    try:
        with pytest.raises(CheckpointError, match="Permission denied"):
            checkpoint.save(folder, 2, writer(2))
        checkpoint.verify(older)
    finally:
        folder.chmod(0o700)


def test_a_folder_whose_name_is_taken_by_a_file(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(CheckpointError):
        checkpoint.save(tmp_path / "run", 1, writer(1))


def test_a_file_system_that_cannot_flush_is_no_reason_to_stop(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.verify(checkpoint.save(tmp_path, 1, writer(1)))


# Real limits and real kills ---------------------------------------------------------------------


def run_python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )


LIMITED = """
    import json, resource, sys
    from pathlib import Path
    from entlaw.errors import CheckpointError
    from entlaw.train import checkpoint
    folder, how = Path(sys.argv[1]), sys.argv[2]
    def write(size):
        def plain(p):
            (p / "model.bin").write_bytes(bytes(size))
        def torch_save(p):
            import torch
            torch.save({"x": torch.zeros(size // 4)}, p / "model.pt")
        return plain if how == "plain" else torch_save
    checkpoint.save(folder, 1, write(40_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        checkpoint.save(folder, 2, write(400_000))
    except CheckpointError as error:
        print(json.dumps(error.as_dict()))
    path = checkpoint.save(folder, 3, write(60_000))
    checkpoint.verify(path)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
@pytest.mark.parametrize("how", ["plain", "torch"])
def test_a_limit_of_the_system(tmp_path, how):
    if how == "torch":
        pytest.importorskip("torch")
    done = run_python(LIMITED, tmp_path, how)
    assert done.returncode == 0, done.stderr
    error = json.loads(done.stdout)
    assert error["error"] == "CheckpointError" and "step 2" in error["what"]
    assert "checkpoint-00000001 is intact" in error["why"]
    assert names(tmp_path) == ["checkpoint-00000003"]


SAVING = """
    import os, sys
    import numpy as np
    from pathlib import Path
    from entlaw.train import checkpoint
    folder, keep, step = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    while True:
        step += 1
        def write(p):
            (p / "policy").mkdir()
            (p / "policy" / "model.bin").write_bytes(np.full(50_000, step).tobytes())
            (p / "step").write_text(str(step))
        checkpoint.save(folder, step, write, keep)
        os.write(1, b"%d\\n" % step)
"""


@pytest.mark.parametrize("keep", [1, 2])
def test_sigkill_at_random_moments(tmp_path, keep):
    rng = np.random.default_rng(keep)
    reported = leftovers = 0
    for _ in range(15):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVING), str(tmp_path), str(keep), str(reported)],
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()  # it is at work now; what it reports later is read after the kill
        time.sleep(float(rng.uniform(0, 0.06)))
        process.kill()
        rest = process.communicate()[0].split()
        reported = max(reported + 1, *map(int, rest)) if rest else reported + 1
        leftovers += len(hidden(tmp_path))
        path, skipped = checkpoint.latest(tmp_path)
        step = checkpoint.verify(path).step
        assert reported <= step <= reported + 1 and not skipped
        assert (path / "step").read_text() == str(step)
        checkpoint.clean(tmp_path)
        assert not hidden(tmp_path) and checkpoint.latest(tmp_path).path == path
        reported = step
    assert leftovers  # or the kills came at harmless moments only, and nothing was tested
