"""A home that cannot be written to, no home, no cache folder, no temporary folder: an answer or one message.

A path below a file can be made by nobody, root included, so these tests do not depend on who runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from entlaw.cli.surroundings import writable
from entlaw.runs.example import folder
from tests.conftest import REPO

NOISE = ("atplotlib", "mkdir", "Traceback", "INFO", "cache directory")


@pytest.fixture
def here(tmp_path):
    """An empty folder to work in."""
    place = tmp_path / "here"
    place.mkdir()
    return place


@pytest.fixture
def nowhere(tmp_path) -> Path:
    """A folder that nobody can make."""
    file = tmp_path / "file"
    file.write_text("")
    return file / "home"


def environment(home: Path | None, **more: str) -> dict[str, str]:
    told = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("XDG", "MPLC", "ENTLAW", "WANDB")) and k != "HOME"
    }
    told |= {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **more}
    return told | ({"HOME": str(home)} if home else {})


def entlaw(
    here: Path, told: dict[str, str], *words: object, before: str = ""
) -> subprocess.CompletedProcess[str]:
    code = f"{before}\nimport sys\nfrom entlaw.cli.__main__ import main\nmain()"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=told, cwd=here)


# As in a container whose user has no entry in passwd.
HOMELESS = """
import os, pathlib
expand = os.path.expanduser
def homeless(path):
    return expand(path) if "HOME" in os.environ else path
os.path.expanduser = homeless
"""


@pytest.mark.parametrize(
    "words",
    [
        ("demo",),
        ("fit", "LOG", "--plot", "fit.png"),
        ("report", "LOG", "-o", "report.html"),
        ("report", "LOG", "-o", "report.html", "-o", "report.pdf"),
    ],
    ids=["demo", "fit", "report", "pdf"],
)
@pytest.mark.parametrize("home", ["read-only", "none"])
def test_commands_work_without_a_home_and_say_nothing_of_it(here, nowhere, words, home):
    words = [str(folder()) if w == "LOG" else w for w in words]
    if home == "none":
        done = entlaw(here, environment(None), *words, before=HOMELESS)
    else:
        done = entlaw(here, environment(nowhere), *words)
    assert done.returncode == 0, done.stderr
    assert not any(noise in done.stderr for noise in NOISE), done.stderr
    for name in words:
        if name.endswith((".png", ".html", ".pdf")):
            assert (here / name).stat().st_size > 1000


@pytest.mark.parametrize("home", ["read-only", "none"])
def test_a_server_out_of_reach_is_all_that_is_said(here, nowhere, home):
    told = environment(
        nowhere if home == "read-only" else None, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="0" * 40
    )
    before = HOMELESS if home == "none" else ""
    done = entlaw(here, told, "pull", "team/project/run", "-o", "pulled", before=before)
    assert done.returncode == 3 and "cannot be reached" in done.stderr
    assert not any(noise in done.stderr for noise in NOISE), done.stderr


def test_no_folder_for_temporary_files_is_one_message(here, nowhere):
    before = (
        "import tempfile\n"
        "def nothing(*a, **k):\n    raise FileNotFoundError(2, 'No usable temporary directory found in []')\n"
        "tempfile.mkdtemp = tempfile.mkstemp = tempfile.gettempdir = nothing"
    )
    done = entlaw(here, environment(nowhere), "fit", folder(), "--plot", "fit.png", before=before)
    assert done.returncode == 2 and "TMPDIR" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3, done.stderr


def test_a_place_that_cannot_be_written_to_is_named(here, nowhere):
    for words in (
        ("fit", folder(), "--plot", nowhere / "fit.png"),
        ("report", folder(), "-o", nowhere / "r.html"),
    ):
        done = entlaw(here, environment(here), *words)
        assert done.returncode == 2 and str(nowhere) in done.stderr and "Traceback" not in done.stderr


def test_what_can_be_kept_is_kept_where_it_belongs(here, tmp_path):
    """With a home, matplotlib's cache goes there: nothing is diverted."""
    home = tmp_path / "home"
    home.mkdir()
    done = entlaw(here, environment(home), "fit", folder(), "--plot", "fit.png")
    assert done.returncode == 0 and list(home.rglob("fontlist*"))


def test_writable(tmp_path, nowhere):
    assert writable(tmp_path) and writable(tmp_path / "a" / "b")
    assert not writable(nowhere) and not writable(nowhere.parent)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="taking another user's place needs root and setpriv",
)
def test_as_another_user():
    """As nobody, whom permissions do bind, with a home of root's."""
    who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    needs = [*who, sys.executable, "-c", "import entlaw, numpy, scipy, pandas, matplotlib, cyclopts, rich"]
    if subprocess.run(needs, capture_output=True, cwd="/", env=environment(None)).returncode:
        pytest.skip("the user nobody cannot read this Python or these packages")
    with tempfile.TemporaryDirectory() as root:  # pytest's own folders are closed to others
        os.chmod(root, 0o755)
        here, home = Path(root, "here"), Path(root, "home")
        here.mkdir()
        home.mkdir(mode=0o755)
        os.chown(here, 65534, 65534)
        command = [*who, sys.executable, "-m", "entlaw", "fit", str(folder()), "--plot", "fit.png"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(home), cwd=here)
        assert done.returncode == 0 and (here / "fit.png").exists(), done.stderr
        assert "atplotlib" not in done.stderr and not list(home.iterdir()), done.stderr
