"""More of ``hostile_inputs.py``: tables as text, and folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hostile_inputs import family, fill, row, text_family

# Tables ---------------------------------------------------------------------------------------------------------

_HEAD = "step,entropy,reward\n" + "".join(f"{i},0.5,0.2\n" for i in range(40))
_CSV = {
    "quotes that stay open": '"\n',
    "quotes that stay open in rows": '1,"0.5,0.2\n',
    "two quotes a row": '"a"b","\n',
    "quotes and no newline": '"",',
    "empty rows": ",,\n",
    "rows of one step": "1,0.5,0.2\n",
    "rows too short": "1\n",
    "a header again and again": "step,entropy,reward\n",
    "delimiters in one row": ",",
    "comments": "#\n",
    "thousands": '"1,#","2,000","3,000"\n',
}
for _name, _piece in _CSV.items():
    text_family("table", "log.csv", _name, _piece, head=_HEAD)
text_family("table", "log.csv", "comments before the header", "#\n", tail=_HEAD)
text_family("table", "log.csv", "one run a row", "r#,1,0.5,0.2\n", head="run,step,entropy,reward\n")
text_family(
    "table", "log.csv", "one metric a row", "#,k#,0.5\n", head="step,metric,value\n1,entropy,1\n1,reward,1\n"
)


def table(path: Path, names: list[str]) -> None:
    """A table of two rows."""
    path.write_text("\n".join([",".join(names), ",".join(["1"] * len(names)), ",".join(["2"] * len(names))]))


@family("table", "log.csv")
def two_rows_of_many_columns(path: Path, n: int) -> None:
    """All bytes in a wide header."""
    table(path, ["step", "entropy", "reward", *(f"k{i}" for i in range(n // 11))])


@family("table", "log.csv")
def columns_of_one_name(path: Path, n: int) -> None:
    """A header that repeats one name."""
    table(path, ["step", *["entropy"] * (n // 12)])


@family("table", "log.csv")
def a_chart_of_many_runs(path: Path, n: int) -> None:
    """W&B's chart export with a column a run."""
    table(path, ["Step", *(f"r{i} - entropy" for i in range(n // 21))])


@family("table", "log.csv")
def many_columns_and_rows_of_one_cell(path: Path, n: int) -> None:
    """Half of the bytes are a header, the rest short rows."""
    names = ["step", *(f"k{i}" for i in range(n // 16))]
    path.write_text(",".join(names) + "\n" + "1" + "," * (len(names) - 1) + "\n" + "2\n" * (n // 8))


# Folders --------------------------------------------------------------------------------------------------------


@family("folder", "runs")
def many_small_logs(path: Path, n: int) -> None:
    """One log of two rows a file: as many files as hundreds of bytes."""
    path.mkdir()
    for i in range(n // 400):
        (path / f"r{i}.jsonl").write_bytes(fill(100, [json.dumps(row(j)) for j in range(2)]))


@family("folder", "runs")
def many_files_that_are_no_logs(path: Path, n: int) -> None:
    """Samples beside one log."""
    path.mkdir()
    for i in range(n // 400):
        (path / f"sample{i}.txt").write_text("Therefore the answer is 16.\n")
    (path / "log.jsonl").write_bytes(fill(1000, [json.dumps(row(j)) for j in range(20)]))


@family("folder", "mlruns")
def many_metrics_and_parameters(path: Path, n: int) -> None:
    """An MLflow run with as many parameters as metrics."""
    run = path / "0" / "run"
    for name in ("metrics", "params"):
        (run / name).mkdir(parents=True)
    (run / "meta.yaml").write_text("")
    for i in range(n // 800):
        (run / "metrics" / f"m{i}").write_text("1700000000000 0.5 1\n1700000000001 0.5 2\n")
        (run / "params" / f"p{i}").write_text("1")


@family("folder", "runs")
def folders_that_link_to_each_other(path: Path, n: int) -> None:
    """Links that lead back, a pipe and a device beside one log."""
    path.mkdir()
    (path / "log.jsonl").write_bytes(fill(1000, [json.dumps(row(j)) for j in range(20)]))
    os.mkfifo(path / "pipe.jsonl")
    (path / "zero.jsonl").symlink_to("/dev/zero")
    for i in range(3):
        (path / f"again{i}").symlink_to(path)
    (path / "itself.jsonl").symlink_to(path / "itself.jsonl")
    inner = path
    for i in range(n // 20_000):
        inner = inner / f"d{i}"
    inner.mkdir(parents=True, exist_ok=True)
