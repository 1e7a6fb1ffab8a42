"""What a machine may lack (a home, a folder for caches) and libraries would complain of on our stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def write_any_text() -> None:
    """Let stdout and stderr write what their encoding lacks as another character, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def prepare() -> None:
    """Give libraries a temporary folder for what they cannot keep; nothing is changed where they can keep it.

    A user of a container often has no home: ``HOME`` unset and no entry in passwd, on which W&B's SDK fails, or a home
    that is read-only, of which matplotlib and W&B's service print warnings, though nothing is wrong.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/nonexistent")  # what systems call the home of a user without one
        os.environ["HOME"] = str(home)
    config, cache = _folders(home)
    wanting = {
        "MPLCONFIGDIR": (config / "matplotlib", cache / "matplotlib"),
        "WANDB_CACHE_DIR": (cache / "wandb",),
    }
    if sys.platform in ("win32", "darwin"):
        wanting["MPLCONFIGDIR"] = (home / ".matplotlib",)
    lacking = [
        name
        for name, folders in wanting.items()
        if not os.environ.get(name) and not all(map(writable, folders))
    ]
    if lacking:
        with contextlib.suppress(OSError):  # where nothing at all can be written, the command itself says so
            folder = _temporary()
            os.environ.update(dict.fromkeys(lacking, folder))


def _folders(home: Path) -> tuple[Path, Path]:
    """The user's folders for settings and for caches, as the system has them."""
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
        return cache, cache
    if sys.platform == "darwin":
        return home / "Library" / "Preferences", home / "Library" / "Caches"
    config = os.environ.get("XDG_CONFIG_HOME") or home / ".config"
    return Path(config), Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def writable(folder: Path) -> bool:
    """Whether a folder is there to be written to, or can be made."""
    for one in (folder, *folder.parents):
        try:
            one.stat()
        except OSError:
            continue  # not there, or in a place that may not be looked into, which its parent tells
        return one.is_dir() and os.access(one, os.W_OK | os.X_OK)
    return False


def _temporary() -> str:
    import atexit
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="entlaw-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
