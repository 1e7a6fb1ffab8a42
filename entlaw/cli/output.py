"""The one place that prints: results on stdout, chatter on stderr, files written whole or not at all."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from entlaw.errors import EntlawError, UsageError
from entlaw.files import write_whole
from entlaw.wording import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

    from entlaw.findings import Finding

T = TypeVar("T")
_COLOUR = {"error": "red", "warning": "yellow", "info": "cyan"}


def console(stderr: bool = False) -> Console:
    """A console that is plain when not a terminal, and breaks no line there, so that pipes get whole ones."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else printable(text), style, control)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would exit 1; `entlaw ... | head` is no failure

    stream = sys.stderr if stderr else sys.stdout
    # Names of runs and files are shown as they are: to rich, "[grpo]" is markup and ":x:" an emoji.
    return Plain(
        file=stream, width=None if stream.isatty() else 1000, highlight=False, markup=False, emoji=False
    )


def plain(value: Any) -> Any:
    """Data as JSON can hold it: arrays as lists, NaN and infinities as null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dump_json(data: Any) -> str:
    """JSON text, stable and readable; what a terminal would obey and halves of characters are escaped."""
    text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return re.sub("[\x7f-\x9f\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(data: Any) -> None:
    """Print JSON on stdout, with escapes where its encoding is not UTF-8."""
    text = dump_json(data)
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = json.dumps(json.loads(text), indent=2) + "\n"
    sys.stdout.write(text)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: an interrupted or failed write leaves what was there before."""
    write_bytes(path, text.encode(errors="replace"))


def write_bytes(path: Path, data: bytes) -> None:
    """As :func:`write_text`, for bytes."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(path), hint="choose another file with -o or --plot"
        ) from error


def check_folder(folder: Path) -> None:
    """Raise UsageError where no file can be put into a folder, because there is none."""
    if folder.exists() and not folder.is_dir():
        raise UsageError("this is a file, not a folder", where=str(folder), hint="name another folder")
    if not folder.is_dir():
        raise UsageError("the folder does not exist", where=str(folder), hint=f"mkdir -p {folder}")


def show_error(error: EntlawError, as_json: bool = False) -> None:
    """What, where, why and what to do, on stderr (and as JSON on stdout when that was asked for)."""
    if as_json:
        print_json({"schema": "entlaw.error/1", **error.as_dict()})
    out = console(stderr=True)
    from rich.text import Text

    out.print(Text.assemble(("entlaw: ", "bold red"), f"{error.where}: " if error.where else "", error.what))
    if error.why:
        out.print(Text(f"  why:  {error.why}"))
    if error.hint:
        out.print(Text(f"  next: {error.hint}"))


def print_findings(findings: Iterable[Finding], verbose: bool = True, stderr: bool = False) -> None:
    """Findings, worst first, each with its reason and what to do."""
    from rich.text import Text

    out = console(stderr)
    for f in findings:
        out.print(Text.assemble((f"  {f.severity:<8}", _COLOUR[f.severity]), (f.code, "bold"), f": {f.what}"))
        if verbose and f.severity != "info":
            if f.why:
                out.print(Text(f"            why:  {f.why}"))
            if f.hint:
                out.print(Text(f"            next: {f.hint}"))


def track(items: Iterable[T], description: str, what: str = "runs") -> Iterator[T]:
    """Iterate with a progress display on stderr, shown only on a terminal and only while it runs."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn(f"{{task.completed}} {what}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=None)
        for item in items:
            yield item
            progress.advance(task)
