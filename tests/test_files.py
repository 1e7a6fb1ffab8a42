"""Files written whole: what they replace, and what they must never replace."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

import pytest

from entlaw.files import write_whole


def test_a_new_file_has_the_mode_of_any_new_file_and_an_old_one_keeps_its_own(tmp_path):
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "new", b"a")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    for mode in (0o600, 0o640, 0o755):
        (tmp_path / "new").chmod(mode)
        write_whole(tmp_path / "new", b"b")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "new"}


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path, there):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to("far/target")
    write_whole(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"through")
    reader.join(60)
    assert got == [b"through"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"x")
    assert (tmp_path / "folder").is_dir()


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no devices with names here")
def test_devices_stay_devices(tmp_path):
    code = """if True:
        import os, sys
        from pathlib import Path
        from entlaw.cli.output import write_text
        before = os.stat("/dev/null")
        write_text(Path("/dev/null"), "x")
        after = os.stat("/dev/null")
        assert (before.st_rdev, before.st_ino) == (after.st_rdev, after.st_ino)
        print("first", flush=True)
        write_text(Path("/dev/stdout"), "second\\n")
        print("third", flush=True)
    """
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], check=True, stdout=out)
    # Two writers at positions of their own: what was there first stays, whatever becomes of the third.
    assert (tmp_path / "out").read_text().startswith("first\n")
    piped = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert piped == "first\nsecond\nthird\n"
