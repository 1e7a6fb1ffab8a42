"""Inputs that cost a reader most: for every log format, families of files of any size.

A family is a function ``family(path, n)`` under ``@family(reader, suffix)``: it writes a file of about ``n`` bytes, or
a folder where ``path`` names one. ``FAMILIES`` lists them all. ``reader_bounds.py`` measures them, and a test reads
them in a process with little memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """One kind of input.

    Attributes
    ----------
    reader, name : str
        The reader that it is meant for; what is odd about it.
    file : str
        Name of the file, or of the folder.
    write : callable
        ``write(path, n)`` makes it, with about ``n`` bytes.
    """

    reader: str
    name: str
    file: str
    write: Callable[[Path, int], object]


FAMILIES: list[Family] = []


def family(
    reader: str, file: str
) -> Callable[[Callable[[Path, int], object]], Callable[[Path, int], object]]:
    """Register a family under the name of its function."""

    def register(write: Callable[[Path, int], object]) -> Callable[[Path, int], object]:
        FAMILIES.append(Family(reader, write.__name__.replace("_", " ").strip(), file, write))
        return write

    return register


def text_family(
    reader: str, file: str, name: str, piece: str, line: int = 0, head: str = "", tail: str = ""
) -> None:
    """Register a family that repeats a piece of text, its number in place of ``#``; a newline each `line` bytes."""

    def write(path: Path, n: int) -> None:
        parts, size, since = [head], 0, 0
        for i in count():
            part = piece.replace("#", str(i))
            if line and since + len(part) > line:
                part, since = "\n" + part, 0
            parts.append(part)
            size, since = size + len(part), since + len(part)
            if size >= n:
                break
        path.write_text("".join(parts) + tail)

    FAMILIES.append(Family(reader, name, file, write))


def fill(n: int, lines: Iterable[str]) -> bytes:
    """Lines until they have `n` bytes."""
    out, size = [], 0
    for line in lines:
        out.append(line)
        size += len(line) + 1
        if size >= n:
            break
    return ("\n".join(out) + "\n").encode()


def row(step: float, **more: float) -> dict[str, float]:
    """A record that names what the law needs."""
    return {"step": step, "entropy": 0.5, "reward": 0.25, **more}


# JSON lines -----------------------------------------------------------------------------------------------------

_JSONL: dict[str, Callable[[int], dict[str, Any]]] = {
    "one step for all rows": lambda i: {"step": 1, "a": i},
    "one step, one key a row": lambda i: {"step": 1, f"k{i}": i},
    "one new key a row": lambda i: row(i, **{f"k{i}": 1}),
    "every row another set of keys": lambda i: row(i, **{f"k{j}": 1 for j in range(9) if i >> j & 1}),
    "steps fall": lambda i: row(10**6 - i),
    "steps go up and down": lambda i: row(i % 7),
    "restarts after two steps": lambda i: row(1 + i % 2),
    "restarts, each longer": lambda i: row(i - int((i * 2) ** 0.5) * (int((i * 2) ** 0.5) - 1) // 2),
    "one run a row": lambda i: {"run": f"r{i}", **row(1)},
    "one name of a metric a row": lambda i: {"step": i, "name": f"k{i}", "value": 1},
    "few metrics, one a row": lambda i: {"step": i // 99, "name": f"k{i % 99}", "value": 0.5},
    "configurations only": lambda i: {"type": "config", f"k{i}": i},
    "a nested key a row": lambda i: row(i, **{f"k{i}": {"a": {"b": {"c": 1}}}}),
    "words in every row": lambda i: {**row(i), f"w{i % 1000}": "word"},
    "scores mix percent and fractions": lambda i: {
        "step": i,
        "entropy": 0.5,
        "accuracy": 50.5 if i % 2 else 0.5,
    },
    "huge steps": lambda i: row(float(10 ** (i % 300))),
    "steps that are no numbers": lambda i: {**row(0), "step": None},
    "samples": lambda i: {"type": "sample", "step": i, "reward": 1},
    "wrapped": lambda i: {"data": {"data": {"metrics": row(i)}}},
}


def _rows(record: Callable[[int], dict[str, Any]]) -> Callable[[Path, int], object]:
    return lambda path, n: path.write_bytes(fill(n, (json.dumps(record(i)) for i in count(1))))


FAMILIES += [Family("jsonl", name, "log.jsonl", _rows(record)) for name, record in _JSONL.items()]

text_family("jsonl", "log.jsonl", "smallest rows", '{"a":1}\n')
text_family("jsonl", "log.jsonl", "long numbers", '{"step":#,"entropy":0.5,"reward":' + "9" * 5000 + "}\n")
text_family(
    "jsonl", "log.jsonl", "huge exponents", '{"step":1e#,"entropy":1e999999999,"reward":-1e999999999}\n'
)
text_family("jsonl", "log.jsonl", "deep objects", '{"a":' * 900 + "1" + "}" * 900 + "\n")


@family("jsonl", "log.jsonl")
def two_wide_rows(path: Path, n: int) -> None:
    """All bytes in two rows of many keys."""
    wide = json.dumps(row(1, **{f"k{i}": 1 for i in range(n // 26)}))
    path.write_text(wide + "\n" + wide.replace('"step": 1', '"step": 2') + "\n")


@family("jsonl", "log.jsonl")
def one_wide_row_then_many(path: Path, n: int) -> None:
    """Half of the bytes name keys, the other half are rows."""
    wide = json.dumps(row(1, **{f"k{i}": 1 for i in range(n // 24)}))
    path.write_bytes(wide.encode() + b"\n" + fill(n // 2, (json.dumps(row(i)) for i in count(2))))


@family("jsonl", "log.jsonl")
def deep_lists(path: Path, n: int) -> None:
    """One value with a bracket a byte."""
    path.write_text('{"step":1,"entropy":0.5,"reward":' + "[" * (n // 2) + "]" * (n // 2) + "}\n")


# One JSON document ----------------------------------------------------------------------------------------------


@family("trainer-state", "trainer_state.json")
def one_new_key_a_record(path: Path, n: int) -> None:
    """A log_history in which each record has a key of its own."""
    path.write_text(json.dumps({"log_history": [row(i, **{f"k{i}": 1}) for i in range(n // 64)]}))


@family("trainer-state", "log.json")
def one_list_a_run(path: Path, n: int) -> None:
    """A dictionary of many short runs."""
    path.write_text(json.dumps({f"r{i}": [row(1)] for i in range(n // 55)}))


@family("trainer-state", "log.json")
def columns_of_many_runs(path: Path, n: int) -> None:
    """A dictionary of many tables of two rows."""
    path.write_text(json.dumps({f"r{i}": {"step": [1, 2], "entropy": [1, 2]} for i in range(n // 55)}))


@family("trainer-state", "log.json")
def many_columns(path: Path, n: int) -> None:
    """A table of two rows and many columns."""
    path.write_text(json.dumps({"step": [1, 2], **{f"k{i}": [0, 0] for i in range(n // 18)}}))


@family("trainer-state", "log.json")
def empty_records(path: Path, n: int) -> None:
    """A list of records without a key."""
    path.write_text('[{"step":1,"entropy":0.5,"reward":1}' + ",{}" * (n // 3) + "]")


@family("trainer-state", "log.json")
def a_list_that_is_cut(path: Path, n: int) -> None:
    """Records, and no closing bracket."""
    path.write_text("[" + ",".join(json.dumps(row(i)) for i in range(n // 48)))


@family("trainer-state", "log.json")
def brackets_only(path: Path, n: int) -> None:
    """A bracket a byte behind one record."""
    path.write_text('[{"step":1},' + "[" * n)


@family("trainer-state", "log.json")
def one_array_of_one_step(path: Path, n: int) -> None:
    """A list in which all records are of one step."""
    path.write_text(json.dumps([{"step": 1, "entropy": i} for i in range(n // 28)]))


def notebook(path: Path, outputs: list[dict]) -> None:
    """A notebook with one cell."""
    cell = {"cell_type": "code", "source": [], "metadata": {}, "outputs": outputs}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


@family("notebook", "log.ipynb")
def outputs_without_a_newline(path: Path, n: int) -> None:
    """Many outputs of one character."""
    notebook(path, [{"output_type": "stream", "text": "x"}] * (n // 41))


@family("notebook", "log.ipynb")
def outputs_of_a_record(path: Path, n: int) -> None:
    """Many outputs of one record."""
    notebook(path, [{"output_type": "stream", "text": f"{row(i)!r}\n"} for i in range(n // 90)])


@family("notebook", "log.ipynb")
def many_cells(path: Path, n: int) -> None:
    """Many cells of one output."""
    cell = {"cell_type": "code", "outputs": [{"output_type": "stream", "text": "step:1 - a:1"}]}
    path.write_text(json.dumps({"cells": [cell] * (n // 93), "nbformat": 4}))


@family("notebook", "log.ipynb")
def tables_as_html(path: Path, n: int) -> None:
    """An HTML table of many rows, shown many times, as a progress callback does."""
    html = "<table><tr><th>Step</th><th>entropy</th><th>reward</th></tr>"
    html += "".join(f"<tr><td>{i}</td><td>0.5</td><td>0.2</td></tr>" for i in range(max(n // 400, 1)))
    notebook(path, [{"output_type": "display_data", "data": {"text/html": html + "</table>"}}] * 10)


# Console --------------------------------------------------------------------------------------------------------

_VERL = "step:1 - actor/entropy:0.5 - critic/score/mean:0.25"
# So that what comes before it is looked at.
_RECORD = f"\n{_VERL}\nstep:2 - actor/entropy:0.4 - critic/score/mean:0.5\n"
# Name, what is repeated, in front of it; all in one line.
_LINES = [
    ("records in one line", _VERL.replace("1", "#", 1) + " ", ""),
    ("starts of a record in one line", "step:1 - ", ""),
    ("pairs in one line", "k#:1 - ", "step:1 - "),
    ("pairs that are calls in one line", "k#:tensor(1, a:b) - ", "step:1 - "),
    ("calls that do not end in one line", "k:f(k:f( - ", "step:1 - "),
    ("keys without a value in one line", "k - ", "step:1 - "),
    ("one long word", "abcdefgh", "step:1 - a:"),
    ("step: and nothing", "step:", ""),
    ("blanks behind a value", " ", "step:1 - a:1"),
    ("blanks before a place in the code", " ", "step:1 - a:1", " x.py:1"),
    ("blanks before a bracket", " ", "step:1 - a:1", " x[repeated x)"),
    ("digits", "123456789", "step:"),
    ("dots and digits", "1.1", "step:1 - a:"),
    ("colons", "a:", "step:1 - "),
    ("pairs with = in one line", "entropy=0.5 ", "step=1 "),
    ("bars of a table in one line", "|", "| step | 1 "),
    ("boxes in one line", "│ entropy │ 0.5 ", ""),
]
_REPEATED = {
    "records of one step": "step:1 - actor/entropy:0.5 - critic/score/mean:0.#\n",
    "verl, one new key a row": "step:# - actor/entropy:0.5 - critic/score/mean:0.25 - k#:1\n",
    "verl, one key new and one missing": "step:#2 - a/b:1 - k#:1 - c/d:1\nstep:#3 - a/b:1 - actor/entropy:1 - c/d:1\n",
    "blanked bars": "\r            \r",
    "bars without a total": "\r%|",
    "bars": "\r  1%|#| #/200 [00:01<00:02]",
    "bars and records": "\r  1%|#| #/20000 [00:01<00:02]\r           \r{'loss': 1, 'reward': 1}\n",
    "terminal titles that do not end": "step:\x1b]0;",
    "colours that do not end": "step:\x1b[0;0;0",
    "records without a step": "{'loss': 1.0, 'reward': 0.5, 'entropy': 0.#}\n",
    "boxes": "│ entropy │ 0.5 │\n",
    "newlines": "\n",
    "prose": "Therefore the answer is 16 hours, and step:1 of it is easy.\n",
    "pairs with =": "step=# entropy=0.5 reward=0.25\n",
}
# Repeated in lines of two lengths.
_OPENINGS = [
    *(
        "{'a",
        "{'a'",
        "{'a': ",
        "{'a': {",
        '{"a": [',
        "{'",
        "{' ",
        "{'loss': '",
        "{'loss': 1, ",
        "{'loss': a ",
    ),
    *(
        "{'loss': <",
        "{'loss': <a<b",
        "{'loss': f(",
        "{'loss': f('",
        "{'loss': \\",
        "{'loss': '\\",
        "{'loss': ('a' ",
    ),
    *(
        "{'loss': 1, 'epoch': ((",
        "{'loss': 1}",
        "{'loss': nan, 'step': 1}",
        "{'a': {'b': 1}}",
        "{'k#': nan, ",
        "'k': {",
    ),
    *(
        "a.b=[",
        'a.b="',
        "+a.b=",
        "a.",
        "x a.b=1 ",
        "(a b c pid=1",
        "(a pid=1)",
        "[rank0]: ",
        "\\",
        "2026-01-01 ",
    ),
]
for _name, _piece, _head, *_end in _LINES:
    text_family("console", "run.log", _name, _piece, head=_head, tail="".join(_end) + _RECORD)
for _name, _piece in _REPEATED.items():
    text_family("console", "run.log", _name, _piece, tail=_RECORD)
for _width in (1000, 90_000, 250_000):
    for _piece in _OPENINGS:
        name = f"{_piece!r} in lines of {_width:,}"
        before = (
            _RECORD.strip() + "\n" if _piece.startswith("{") else ""
        )  # others are looked at before a record
        text_family("console", "run.log", name, _piece, _width, before, _RECORD)
