"""``entlaw figures``: the paper's figures and tables from real runs, beside what the paper reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, ReadFlags, meaning, output_option
from entlaw.cli.output import console, print_json, track, write_bytes
from entlaw.errors import DataError, SourceNotFound, UsageError

if TYPE_CHECKING:
    from entlaw.paper.figure import Figure, Written
    from entlaw.paper.library import Library

SCHEMA = "entlaw.figures/1"


def figures(
    name: Annotated[
        tuple[str, ...],
        Parameter(help="Which: all, or names that --list says, such as fig1, table2, theory."),
    ] = ("all",),
    /,
    *,
    source: Annotated[
        tuple[str, ...],
        Parameter(name="--from", help="Runs to draw from (repeat for more); by default runs/ here."),
    ] = (),
    output: Annotated[Path, output_option("A folder.")] = Path("figures"),
    check: Annotated[
        bool,
        Parameter(
            negative="", help=meaning("check", "Exit with 3 unless the folder holds what would be written.")
        ),
    ] = False,
    list_: Annotated[
        bool, Parameter(name="--list", negative="", help=meaning("list", "With what each figure needs."))
    ] = False,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Draw the paper's figures and tables from runs of your own or from those in runs/.

    Each comes as PDF, SVG and PNG, with the CSV of what is plotted, a caption and its findings as JSON. What a
    figure needs and the runs lack is said, and the others are drawn. Needs a checkout for runs/, or --from.
    """
    from entlaw.paper.figure import chosen

    wanted = chosen(name)
    if list_:
        return _list(wanted, json)
    if not check:
        _folder(output)
    drawn: dict[str, list[str]] = {}
    missing: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for one, made in _made(wanted, _library(source, read), source):
        if isinstance(made, DataError):
            missing[one] = made.as_dict()
        elif check:
            wrong += _differences(made, output)
            drawn[one] = []
        else:
            drawn[one] = _write(made, output)
    if json:
        print_json({"schema": SCHEMA, "drawn": drawn, "not_drawn": missing, "differences": wrong})
    else:
        _show(drawn, missing, wrong, check, output)
    if wrong or not drawn:
        return DataError.exit_code
    # Asked for by name and not drawn is a failure; of all, what the runs allow is the answer.
    return DataError.exit_code if missing and name != ("all",) else 0


def _write(made: Written, output: Path) -> list[str]:
    """A figure's files, and what they were made with; the paths of the former."""
    for file, data in made.files.items():
        write_bytes(output / file, data)
    write_bytes(output / "MADE_WITH", _made_with().encode())
    return [str(output / file) for file in made.files]


def _list(wanted: list[Figure], json: bool) -> int:
    """What is registered, without reading a run."""
    if json:
        told = [{"name": f.name, "title": f.title, "paper": f.paper, "needs": f.needs} for f in wanted]
        print_json({"schema": SCHEMA, "figures": told})
    else:
        for f in wanted:
            console().print(f"{f.name:8}{f.title} ({f.paper}); needs {f.needs}", markup=False, soft_wrap=True)
    return 0


def _folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(output), hint="choose another folder with -o"
        ) from error


def _library(source: tuple[str, ...], read: ReadFlags) -> Library:
    from entlaw.cli.fit import scan_sources
    from entlaw.paper.library import library

    sources = list(source) or ["runs/*-*"]
    if not source and not any(Path("runs").glob("*-*/run.json")):
        raise SourceNotFound(
            "there is no folder runs/ with runs here",
            why="an installed entlaw brings one sample run; the paper's figures are drawn from the many of a checkout",
            hint="name runs of your own (--from SOURCE), or run this in a checkout of "
            "https://github.com/entlaw/entlaw",
        )
    runs, last = [], None
    for reading in track(scan_sources(sources, read), "reading"):
        if reading.run is not None:
            runs.append(reading.run)
        elif reading.error is not None:
            last = reading.error
            console(stderr=True).print(f"left out: {reading.error.what}", markup=False)
    if not runs:
        raise last or DataError("no run was found", where=", ".join(sources))
    return library(runs)


def _made(
    wanted: list[Figure], library: Library, source: tuple[str, ...]
) -> Iterator[tuple[str, Written | DataError]]:
    from entlaw._version import __version__
    from entlaw.paper.figure import draw, render

    for one in track(wanted, "drawing", "figures"):
        command = " ".join(["entlaw figures", one.name, *(f"--from {s!r}" for s in source)])
        try:
            drawn = draw(one.name, library)
        except DataError as error:
            yield one.name, error
            continue
        yield one.name, render(one.name, one.title, drawn, command=command, version=__version__)


def _differences(made: Written, output: Path) -> list[str]:
    """Pictures are compared only by the release of matplotlib that made the committed ones."""
    from entlaw.paper.figure import differences

    try:
        pictures = (output / "MADE_WITH").read_text() == _made_with()
    except OSError:
        pictures = False
    return differences(made, output, pictures)


def _made_with() -> str:
    import matplotlib

    return f"matplotlib {matplotlib.__version__}\n"


def _show(
    drawn: dict[str, list[str]],
    missing: dict[str, dict[str, Any]],
    wrong: list[str],
    check: bool,
    output: Path,
) -> None:
    out = console()
    if check:
        for line in wrong:
            out.print(line, markup=False)
        if drawn and not wrong:
            out.print(f"{len(drawn)} figures and tables in {output} are what the code makes", markup=False)
    elif drawn:
        out.print(f"{', '.join(drawn)}: written to {output}", markup=False)
    for one, error in missing.items():
        out.print(f"{one}: not drawn, {error['what']}", markup=False)
