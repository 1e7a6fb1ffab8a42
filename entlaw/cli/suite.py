"""``entlaw eval --suite``: checkpoints on benchmarks, a row a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from entlaw.cli.options import meaning
from entlaw.cli.output import console, dump_json, print_findings, print_json, write_text
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from entlaw.findings import Finding
    from entlaw.suites.models import Model
    from entlaw.suites.render import Grid
    from entlaw.suites.table import Table
    from entlaw.train.schema import Recipe

_BATCH = {"hf": 32, "vllm": 256}


@Parameter(name="*")
@dataclass(frozen=True)
class SuiteFlags:
    """What only a suite takes."""

    suite: Annotated[
        str | None,
        Parameter(
            help="paper-math, paper-code, word-problems, or data sets: svamp,mawps,... (entlaw data list)."
        ),
    ] = None
    data_dir: Annotated[Path | None, Parameter(help=meaning("data-dir"))] = None
    chat: Annotated[
        bool | None,
        Parameter(help="Ask through the tokenizer's chat template; by default where there is one."),
    ] = None
    engine: Annotated[Literal["hf", "vllm"], Parameter(help="What samples.")] = "hf"
    batch: Annotated[
        int | None, Parameter(help="Responses sampled and saved at a time; 32, with vLLM 256.")
    ] = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float64"] | None,
        Parameter(help="Of the weights; the recipe's without."),
    ] = None
    workers: Annotated[int, Parameter(help=meaning("workers", "They check answers and programs."))] = 1
    isolation: Annotated[
        Literal["auto", "namespaces", "bwrap", "landlock", "none"],
        Parameter(help="How programs of models are isolated; none runs them unprotected."),
    ] = "auto"
    skip_missing: Annotated[
        bool, Parameter(negative="", help="Leave out data sets that are missing, and say so.")
    ] = False
    with_paper: Annotated[bool, Parameter(negative="", help="Add the rows that the paper published.")] = False
    format: Annotated[
        Literal["table", "csv", "markdown", "latex"], Parameter(help="Of what is printed on stdout.")
    ] = "table"

    def used(self) -> list[str]:
        """Options that differ from their default, but --suite itself."""
        plain = SuiteFlags()
        names = [n for n in vars(plain) if n != "suite" and getattr(self, n) != getattr(plain, n)]
        return ["--" + name.replace("_", "-") for name in names]


@dataclass(frozen=True)
class SuiteSampling:
    """Options that a suite shares with the evaluation of a task; None: not given."""

    problems: int | None
    samples: int | None
    temperature: float | None
    top_p: float
    max_tokens: int | None
    seed: int


def evaluate_suite(
    checkpoints: list[str],
    flags: SuiteFlags,
    sampling: SuiteSampling,
    recipe: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Run a suite and print its table."""
    from entlaw.cli.training import need_torch
    from entlaw.suites import definition

    for name, value in (("--batch", flags.batch), ("--workers", flags.workers)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value} is not a positive number")
    if as_json and flags.format != "table":
        raise UsageError(f"--json and --format {flags.format} exclude each other", hint="give one of them")
    assert flags.suite is not None
    suite = definition.get(flags.suite)
    if flags.with_paper and not suite.published:
        raise UsageError(
            f"--with-paper: no rows are published for {suite.name}", hint="paper-math has the paper's table"
        )
    folder = output or Path("eval-" + suite.name.replace(",", "-")[:80])
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            "this is no folder", where=str(folder), hint="with --suite, -o names the results' folder"
        )
    need_torch()
    from entlaw.suites import evaluate as suites
    from entlaw.suites.collect import Decoding
    from entlaw.train.policy import quiet

    decoding = Decoding(
        sampling.max_tokens or suite.max_tokens,
        sampling.temperature,
        sampling.samples,
        sampling.top_p,
        sampling.seed,
        flags.batch or _BATCH[flags.engine],
        flags.engine,
        flags.chat,
    )
    request = suites.Request(
        suite,
        decoding,
        folder,
        flags.data_dir,
        sampling.problems,
        flags.workers,
        flags.isolation,
        flags.skip_missing,
        flags.with_paper,
    )
    with quiet(), _display() as display:
        models = _models(checkpoints, recipe, flags.dtype)
        found = suites.evaluate(request, models, display)
    _write(found, folder)
    _show(found, flags.format, as_json)
    console(stderr=True).print(f"responses and tables: {folder}")
    return 0


def _models(checkpoints: list[str], recipe: Path | None, dtype: str | None) -> list[Model]:
    from entlaw.cli.training import resolve
    from entlaw.suites import evaluate as suites
    from entlaw.suites.models import describe

    found = []
    for checkpoint, label in zip(checkpoints, suites.labels(checkpoints), strict=True):
        path, settings = resolve(checkpoint, recipe)
        if dtype is not None:
            settings = _with_dtype(settings, dtype)
        found.append(describe(checkpoint, label, path, settings))
    return found


def _with_dtype(settings: Recipe, dtype: Any) -> Recipe:
    return replace(settings, policy=replace(settings.policy, dtype=dtype))


# What is shown -----------------------------------------------------------------------------------


class _Display:
    """A bar on a terminal, a line a data set elsewhere."""

    def __init__(self, bar: Bar | None) -> None:
        self.bar = bar
        self.task: TaskID | None = None

    def begin(self, model: str, name: str, done: int, total: int) -> None:
        """As :class:`entlaw.suites.evaluate.EvaluationProgress`."""
        if self.bar is None:
            there = f", {done:,} of them already there" if done else ""
            console(stderr=True).print(f"{model}: {name}, {total:,} responses{there}")
            return
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(f"{model}: {name}", total=total, completed=done)

    def tell(self, finding: Finding) -> None:
        """As :class:`entlaw.suites.evaluate.EvaluationProgress`."""
        print_findings([finding], stderr=True)

    def advance(self, n: int) -> None:
        """As :class:`entlaw.suites.evaluate.EvaluationProgress`."""
        if self.bar is not None and self.task is not None:
            self.bar.advance(self.task, n)


@contextmanager
def _display() -> Iterator[_Display]:
    if not sys.stderr.isatty():
        yield _Display(None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield _Display(bar)


def _write(found: Table, folder: Path) -> None:
    from entlaw.suites import render, table

    write_text(folder / "summary.json", dump_json(table.as_dict(found)))
    write_text(folder / "table.csv", render.render(found, "csv"))
    write_text(folder / "table.md", render.render(found, "markdown"))
    write_text(folder / "table.tex", render.render(found, "latex"))


def _show(found: Table, form: Literal["table", "csv", "markdown", "latex"], as_json: bool) -> None:
    from entlaw.suites import render, table

    if as_json:
        print_json(table.as_dict(found))
        return
    if form != "table":
        sys.stdout.write(render.render(found, form))
        print_findings(found.findings, stderr=True)
        return
    out = console()
    grids = [render.scores(found), *([render.differences(found)] if found.differences else [])]
    for grid in (*grids, render.responses(found)):
        _print_grid(grid)
    for note in render.notes(found, mark="*"):
        out.print(note)
    print_findings(found.findings)


def _print_grid(grid: Grid) -> None:
    from rich.table import Table as Shown
    from rich.text import Text

    shown = Shown(box=None, pad_edge=False, header_style="bold", title_justify="left")
    for i, head in enumerate(grid.head):
        shown.add_column(head, justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(grid.body):
        # An asterisk too: bold is not seen in a file or a pipe.
        cells = [Text(c + " *", "bold") if (i, j) in grid.bold else Text(c) for j, c in enumerate(row)]
        shown.add_row(*cells, end_section=i + 1 in grid.rules)
    out = console()
    out.print(Text(grid.title, "bold"))
    out.print(shown)
    out.print()
