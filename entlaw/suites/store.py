"""Responses on disk, one a line, behind a first line that says under which settings they were made.

Lines are appended a chunk at a time and are on the disk before the next chunk begins. A file goes on only under the
settings it began with; of a chunk that a kill cut short nothing is kept, so a resumed file is the file that an
undisturbed evaluation writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from entlaw import files
from entlaw.errors import CheckpointError, SourceNotFound, UnreadableSource, UsageError
from entlaw.findings import Finding
from entlaw.lock import hold

SCHEMA = "entlaw.eval-items/1"
VERDICTS = ("right", "wrong", "partial", "no-answer", "undecided")

StoreSettings = Mapping[str, Any]
"""Everything that a response or its reward depends on, as plain JSON values."""


@dataclass(frozen=True)
class StoredResponse:
    """One response.

    Attributes
    ----------
    id : str
        Of the problem.
    row : int
        Of the problem in its data set.
    sample : int
        Which response to it, from 0.
    response : str
    finished : bool
        It ended by itself.
    tokens : int
        Its length, the token that ended it included.
    answer : str or None
        What was found in it; None also for programs.
    verdict : str
        One of :data:`VERDICTS`.
    reward : float
        Fraction in [0, 1].
    seed : tuple of int
        What its chunk was sampled with.
    """

    id: str
    row: int
    sample: int
    response: str
    finished: bool
    tokens: int
    answer: str | None
    verdict: str
    reward: float
    seed: tuple[int, ...]


def fingerprint(settings: StoreSettings) -> str:
    """A short name for settings; equal settings, equal names."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def differences(old: StoreSettings, new: StoreSettings) -> list[str]:
    """What differs between two settings, in words."""
    names = [*new, *(name for name in old if name not in new)]
    return [
        f"{name} was {_show_setting(old, name)}, is {_show_setting(new, name)}"
        for name in names
        if old.get(name) != new.get(name) or (name in old) != (name in new)
    ]


def _show_setting(settings: StoreSettings, name: str) -> str:
    value = settings.get(name, "not there")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


class ItemFile:
    """The responses of one model to one data set.

    Parameters
    ----------
    path : Path
        Made with its folder if missing.
    settings : mapping
        What the responses are made under.

    Attributes
    ----------
    items : dict
        What is there, by problem id and sample.
    findings : list of Finding

    Raises
    ------
    UsageError
        The file was made under other settings; another process writes to it.
    UnreadableSource
        It is damaged in the middle, or something else.
    """

    def __init__(self, path: Path, settings: StoreSettings) -> None:
        self.path, self.settings = path, settings
        self.findings: list[Finding] = []
        self.items: dict[tuple[str, int], StoredResponse] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        lines, torn = _lines(self.path)
        if not lines:  # killed before even the first line was whole
            if torn:
                self._note_half_written_line()
            return
        head = _head(self.path, lines[0])
        if head["settings"] != self.settings:
            raise UsageError(
                "the responses here were made under other settings, and are not mixed with new ones",
                where=str(self.path),
                why="; ".join(differences(head["settings"], self.settings)),
                hint="use the earlier settings, give another folder with -o, or delete this file to start again",
            )
        for number, line in enumerate(lines[1:], 2):
            item = _item(self.path, number, line)
            if (item.id, item.sample) in self.items:
                raise UnreadableSource(
                    f"line {number}: response {item.sample} to problem {item.id} occurs twice",
                    where=str(self.path),
                    hint="delete the file, or restore it, and run again",
                )
            self.items[item.id, item.sample] = item
        if torn:
            self._note_half_written_line()

    def _note_half_written_line(self) -> None:
        what = f"{self.path.name}: the last line was half written, as a kill leaves it, and is sampled again"
        self.findings.append(Finding("half-written-line", "info", what))

    def keep(self, whole: Sequence[Sequence[tuple[str, int]]]) -> None:
        """Forget the chunks that are not there in full; what is left is what the file begins with.

        Parameters
        ----------
        whole : sequence of sequence of (id, sample)
            The members of each chunk.
        """
        kept = {
            key: self.items[key] for chunk in whole if all(k in self.items for k in chunk) for key in chunk
        }
        if dropped := len(self.items) - len(kept):
            what = f"{self.path.name}: {dropped} responses of a chunk that was cut short are sampled again"
            self.findings.append(Finding("chunk-cut-short", "info", what, value=dropped))
        self.items = kept

    @contextlib.contextmanager
    def appending(self) -> Iterator[IO[bytes]]:
        """The file, open for :meth:`append` and for no other process; what it holds is what :attr:`items` says.

        Raises
        ------
        UsageError
            Another evaluation writes to it.
        CheckpointError
            It cannot be written.
        """
        with _as_checkpoint_error(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(self.path.with_name(f".{self.path.name}.lock"), "wb")  # noqa: SIM115
        with lock:
            hold(
                lock.fileno(),
                UsageError(
                    "another evaluation is writing here",
                    where=str(self.path),
                    hint="wait for it, or give another folder with -o",
                ),
            )
            with _as_checkpoint_error(self.path):
                lines = [
                    {"schema": SCHEMA, "fingerprint": fingerprint(self.settings), "settings": self.settings}
                ]
                lines += [asdict(item) for item in self.items.values()]
                files.write_whole(self.path, b"".join(map(_line, lines)))
                out = open(self.path, "ab", buffering=0)  # noqa: SIM115
            with out:
                yield out

    def append(self, out: IO[bytes], items: Sequence[StoredResponse]) -> None:
        """One chunk; on the disk when the call returns.

        Raises
        ------
        CheckpointError
            It could not be written.
        """
        data = b"".join(_line(asdict(item)) for item in items)
        with _as_checkpoint_error(self.path):
            while data:
                data = data[out.write(data) :]
            files.flush(out.fileno())
        self.items |= {(item.id, item.sample): item for item in items}


@contextlib.contextmanager
def _as_checkpoint_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"responses cannot be written: {error.strerror or error}",
            errno=error.errno,
            where=str(path),
            why="what was written before is intact",
            hint="make room or choose another folder with -o, and run again",
        ) from error


def _line(held: Any) -> bytes:
    # ASCII: a response cut within a character may hold what UTF-8 cannot.
    return json.dumps(held).encode("ascii") + b"\n"


def _lines(path: Path) -> tuple[list[bytes], bool]:
    """The whole lines of a file, and whether half a one follows."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceNotFound(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    lines = data.split(b"\n")
    rest = lines.pop()
    return lines, bool(rest)


def _head(path: Path, line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
        if head["schema"] == SCHEMA and isinstance(head["settings"], dict):
            return dict(head)
    except (ValueError, KeyError, TypeError):
        pass
    raise UnreadableSource(
        f"holds no responses of an evaluation ({SCHEMA})", where=str(path), hint="give another folder with -o"
    )


def _item(path: Path, number: int, line: bytes) -> StoredResponse:
    try:
        held = json.loads(line)
        item = StoredResponse(**(held | {"seed": tuple(held["seed"])}))
        kinds = (
            ("id", str),
            ("row", int),
            ("sample", int),
            ("response", str),
            ("finished", bool),
            ("tokens", int),
            ("verdict", str),
        )
        typed = all(type(getattr(item, name)) is kind for name, kind in kinds)
        if typed and 0 <= float(item.reward) <= 1 and item.verdict in VERDICTS:
            return item
        why = "a value is not what it should be"
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"[:200]
    raise UnreadableSource(
        f"line {number} is damaged",
        where=str(path),
        why=why,
        hint="only a last line may be half written; delete that line (its chunk is sampled again) or the file",
    )
