"""``entlaw figures``: the paper's figures and tables from real runs, beside what the paper reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, ReadFlags
from entlaw.cli.output import console, print_json, track, write_bytes
from entlaw.errors import DataError, SourceNotFound, UsageError

if TYPE_CHECKING:
    from entlaw.report.figures.base import Library
    from entlaw.report.figures.write import Written

SCHEMA = "entlaw.figures/1"


def figures(
    name: Annotated[
        tuple[str, ...],
        Parameter(help="Which: all, fig1 ... fig14, table1, table2, theory."),
    ] = ("all",),
    /,
    *,
    source: Annotated[
        tuple[str, ...],
        Parameter(
            name="--from", negative="", help="Runs to draw from (repeat the option); by default runs/ here."
        ),
    ] = (),
    output: Annotated[Path, Parameter(name=["-o", "--output"], help="Folder to write into.")] = Path(
        "figures"
    ),
    check: Annotated[
        bool,
        Parameter(
            negative="", help="Write nothing; exit with 3 unless the folder holds what would be written."
        ),
    ] = False,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    json: JsonFlag = False,
) -> int:
    """Draw the paper's figures and tables from runs of your own or from those in runs/.

    Each comes as PDF, SVG and PNG, with the CSV of what is plotted, a caption and its findings as JSON. What a
    figure needs and the runs lack is said, and the others are drawn. Needs a checkout for runs/, or --from.
    """
    from entlaw.report.figures.index import names

    wanted = _wanted(name, names())
    if not check:
        _folder(output)
    library = _library(source, read)
    drawn: dict[str, list[str]] = {}
    missing: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    for one, made in _made(wanted, library, source):
        if isinstance(made, DataError):
            missing[one] = made.as_dict()
        elif check:
            wrong += _differences(made, output)
            drawn[one] = []
        else:
            drawn[one] = [str(output / file) for file in made.files]
            for file, data in made.files.items():
                write_bytes(output / file, data)
            write_bytes(output / "MADE_WITH", _made_with().encode())
    if json:
        print_json({"schema": SCHEMA, "drawn": drawn, "not_drawn": missing, "differences": wrong})
    else:
        _show(drawn, missing, wrong, check, output)
    if wrong or not drawn:
        return DataError.exit_code
    # Asked for by name and not drawn is a failure; of all, what the runs allow is the answer.
    return DataError.exit_code if missing and name != ("all",) else 0


def _wanted(asked: tuple[str, ...], known: list[str]) -> list[str]:
    if "all" in asked:
        return known
    for one in asked:
        if one not in known:
            raise UsageError(f"no figure is called {one}", hint=f"one of all, {', '.join(known)}")
    return [one for one in known if one in asked]


def _folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(output), hint="choose another folder with -o"
        ) from error


def _library(source: tuple[str, ...], read: ReadFlags) -> Library:
    from entlaw.cli.fit import scan_sources
    from entlaw.report.figures.base import library

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
    wanted: list[str], library: Library, source: tuple[str, ...]
) -> Iterator[tuple[str, Written | DataError]]:
    from entlaw._version import __version__
    from entlaw.report.figures.index import draw
    from entlaw.report.figures.write import render

    for one in track(wanted, "drawing", "figures"):
        command = " ".join(["entlaw figures", one, *(f"--from {s!r}" for s in source)])
        try:
            title, drawn = draw(one, library)
        except DataError as error:
            yield one, error
            continue
        yield one, render(one, title, drawn, command=command, version=__version__)


def _differences(made: Written, output: Path) -> list[str]:
    """Pictures are compared only by the release of matplotlib that made the committed ones."""
    from entlaw.report.figures.write import differences

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
