"""Run a command in this process, keep its answer, find what differs from the kept one."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import math
import os
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from entlaw._version import __version__
from entlaw.cli.__main__ import main
from tests.golden.commands import REPO, Group

KEPT = Path(__file__).parent / "kept"
# Full answers about logs that may not be redistributed: git ignores this folder.
PRIVATE = Path(__file__).parent / "private"
# Sums in another order, on another processor or of another numpy, move an optimum by less than this.
RELATIVE, ABSOLUTE = 1e-6, 1e-9
# Several threads add in another order: the twelfth digit of a sum changes. Read when numpy is loaded.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# They would colour or date the output.
_UNSET = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "NO_COLOR", "SOURCE_DATE_EPOCH")
_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")

Difference = tuple[str, Any, Any]
MISSING = "(missing)"


def answer(command: str) -> dict[str, Any]:
    """What a command says: exit code, stdout as JSON documents or as lines, stderr as lines, a hash of stdout.

    Run in the checkout, so that paths in the answer are relative.
    A warning about our own code is an error, as under pytest.
    """
    out, err = io.StringIO(), io.StringIO()
    environment = {k: v for k, v in os.environ.items() if k not in _UNSET}
    with (
        contextlib.chdir(REPO),
        mock.patch.dict(os.environ, environment, clear=True),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.filterwarnings("error", module="entlaw")
        code = main(shlex.split(command))
    text = _normal(out.getvalue())
    told: dict[str, Any] = {"exit": code, "sha256": _hash(text)}
    documents = _documents(text)
    told |= {"text": text.splitlines()} if documents is None else {"json": documents}
    if err.getvalue():
        told["stderr"] = _normal(err.getvalue()).splitlines()
    return told


def sealed(told: dict[str, Any]) -> dict[str, Any]:
    """Of an answer that may not be kept: exit code and hashes, the second of its numbers to six digits."""
    content = {k: told[k] for k in ("json", "text", "stderr") if k in told}
    rounded = json.dumps(_rounded(content), sort_keys=True)
    return {"exit": told["exit"], "sha256": told["sha256"], "rounded": _hash(rounded)}


def differences(old: Any, new: Any, exact: bool = False, path: str = "") -> Iterator[Difference]:
    """Where two answers differ: a path into them, the kept value and the new one.

    Parameters
    ----------
    exact : bool
        Every byte, the order of keys included; by default numbers may differ by :data:`RELATIVE`, and numbers in a
        text by one in their last digit.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        inner = [key for key in {**old, **new} if key != "sha256" or path]
        found = [
            d
            for key in inner
            for d in differences(
                old.get(key, MISSING), new.get(key, MISSING), exact, f"{path}.{key}".lstrip(".")
            )
        ]
        yield from found
        if exact and not path and not found and old.get("sha256") != new.get("sha256"):
            yield "stdout", "the same values", "in another order of keys, or printed in another way"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, exact, f"{path}[{i}]")
    elif type(old) is not type(new) or (old != new and (exact or not _close(old, new))):
        yield path, old, new


def load(path: Path) -> dict[str, Any]:
    """A file of answers by command; empty when there is none."""
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else {}


def save(path: Path, answers: dict[str, Any]) -> None:
    """Write a file of answers: the same bytes for the same answers."""
    text = json.dumps(answers, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def compare(name: str, group: Group, command: str, exact: bool) -> list[Difference]:
    """Run one command and compare it with what is kept."""
    old = load(KEPT / f"{name}.json.gz").get(command)
    if old is None:
        return [("", "nothing is kept of this command", "record it")]
    new = answer(command)
    if not group.shared:
        return list(differences(old, new, exact))
    now = sealed(new)
    hashed = "sha256" if exact else "rounded"
    if (old["exit"], old[hashed]) == (now["exit"], now[hashed]):
        return []
    full = load(PRIVATE / f"{name}.json.gz").get(command)
    return (list(differences(full, new, exact)) if full else []) or [
        (key, old[key], now[key]) for key in ("exit", hashed) if old[key] != now[key]
    ]


def show(difference: Difference) -> str:
    """One line of a list of differences."""
    path, old, new = (
        one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in difference
    )
    return f"{path}: {_short(old)} -> {_short(new)}"


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:150]} ... ({len(text)} characters)"


def _normal(text: str) -> str:
    """Without the checkout's place, that of the logs beside it, and the version."""
    shared = REPO.parent / "shared"
    for place, name in ((REPO, "CHECKOUT"), (shared, "SHARED"), (shared.resolve(), "SHARED")):
        text = text.replace(str(place), name)
    return text.replace(f'"version": "{__version__}"', '"version": "VERSION"')


def _documents(text: str) -> list[Any] | None:
    """The JSON documents that a text consists of (``watch`` prints several); None for another text."""
    decoder, found, at = json.JSONDecoder(), [], 0
    try:
        while at < len(text):
            document, at = decoder.raw_decode(text, at)
            found.append(document)
            at += len(text[at:]) - len(text[at:].lstrip())
    except json.JSONDecodeError:
        return None
    return found


def _close(old: Any, new: Any) -> bool:
    if isinstance(old, float):
        return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    if not isinstance(old, str) or _NUMBER.sub("", old) != _NUMBER.sub("", new):
        return False
    pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
    return all(_close_digits(*pair) for pair in pairs)


def _close_digits(old: str, new: str) -> bool:
    """Whether two printed numbers differ by one in the last digit at most."""
    if old == new:
        return True
    x, y = (float(one.replace(",", "")) for one in (old, new))
    mantissa, _, exponent = old.partition("e")
    last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return "." in mantissa and abs(x - y) <= 1.01 * last


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return f"{value:.5e}" if isinstance(value, float) else value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
