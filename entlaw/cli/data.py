"""``entlaw data``: the data sets that are known by name; what is in them; a local copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from entlaw.cli.options import JsonFlag, meaning, output_option
from entlaw.cli.output import console, print_json
from entlaw.errors import UsageError

if TYPE_CHECKING:
    from entlaw.tasks.manifest import DataSet

data = App(name="data", help="Data sets by name: list them, look into one, fetch one.")

DirFlag = Annotated[
    Path | None, Parameter(name="--data-dir", help=meaning("data-dir", "Or a file that holds the set."))
]


@data.command(name="list")
def list_sets(
    *,
    data_dir: DirFlag = None,
    json: JsonFlag = False,
) -> int:
    """List all data sets: use, rows, licence, decoding, hub; with --data-dir, which of them are there."""
    from entlaw.errors import SourceNotFound
    from entlaw.tasks import datasets, manifest

    known = manifest.load()
    here: dict[str, list[str]] = {}
    if data_dir is not None:
        if not data_dir.exists():
            raise SourceNotFound("the data folder does not exist", where=str(data_dir))
        for name, spec in known.items():
            try:
                here[name] = [str(p) for p in datasets.find(spec, data_dir)]
            except SourceNotFound:
                here[name] = []
    if json:
        rows = [spec.as_dict() | ({"found": here[name]} if here else {}) for name, spec in known.items()]
        print_json({"schema": "entlaw.data/1", "sets": rows})
        return 0
    _table([_row(spec, here.get(name)) for name, spec in known.items()], found=bool(here))
    return 0


def _row(spec: DataSet, found: list[str] | None) -> list[str]:
    decode = f"T {spec.decode.temperature:g} x {spec.decode.samples}" if spec.decode.temperature else "greedy"
    rows = f"{spec.rows:,}" if spec.rows else "?"
    row = [spec.name, spec.use, spec.kind, rows, spec.license, decode if spec.use == "eval" else "", spec.hub]
    if found is not None:
        row.append(", ".join(Path(p).name for p in found) or "-")
    return row


def _table(rows: list[list[str]], found: bool) -> None:
    from rich.table import Table

    out = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("name", "use", "kind", "rows", "licence", "decoding", "hub", *(["here"] if found else [])):
        out.add_column(head, justify="right" if head == "rows" else "left", no_wrap=True)
    for row in rows:
        out.add_row(*row)
    console().print(out)


@data.command(name="show")
def show(
    name: Annotated[str, Parameter(help="Name of a data set.")],
    /,
    *,
    data_dir: DirFlag = None,
    rows: Annotated[int, Parameter(help="Problems to print.")] = 2,
    references: Annotated[
        bool,
        Parameter(
            negative="", help="Also have every reference read by math-verify, and list those that it cannot."
        ),
    ] = False,
    json: JsonFlag = False,
) -> int:
    """Load a data set and show how it is read, asked and checked, some problems, and the rows that cannot be used."""
    from entlaw.tasks import datasets, manifest

    if rows < 0:
        raise UsageError(f"--rows {rows} is no number of problems")
    spec = manifest.get(name)
    loaded = datasets.load(spec, data_dir)
    unread = _unread(loaded) if references and spec.kind == "math" else []
    if json:
        print_json(
            {
                "schema": "entlaw.data-set/1",
                "set": spec.as_dict(),
                "source": loaded.source,
                "layout": str(loaded.layout),
                "problems": len(loaded.items),
                "notes": loaded.notes,
                "unusable": [u.__dict__ for u in loaded.unusable],
                "unread": unread,
                "examples": [
                    item.__dict__ | {"prompt": spec.prompt(item.question)} for item in loaded.items[:rows]
                ],
            }
        )
        return 0
    out = console()
    out.print(f"{spec.title}: {len(loaded.items):,} problems from {loaded.source}")
    out.print(f"licence {spec.license}; read as {loaded.layout}")
    for text in (spec.note, f"not verified: {spec.unverified}" if spec.unverified else "", *loaded.notes):
        if text:
            out.print(f"  note: {text}")
    for item in loaded.items[:rows]:
        answer = item.answer if len(item.answer) < 300 else item.answer[:300] + " ..."
        out.print(
            f"\nrow {item.row}{', ' + item.level if item.level else ''}\n{spec.prompt(item.question)}\n-> {answer}"
        )
    _show_lines("rows cannot be used", [f"row {u.row}: {u.why}" for u in loaded.unusable])
    _show_lines("references are compared as text alone (computer algebra cannot read them)", unread)
    return 0


def _unread(loaded: Any) -> list[str]:
    from entlaw.tasks.math import need_math_verify
    from entlaw.tasks.pool import WorkerPool
    from entlaw.tasks.quantities import items, quantity

    need_math_verify()
    asked = [i for i in loaded.items if quantity(i.answer) is None and items(i.answer) is None]
    with WorkerPool("entlaw.tasks.math:readable") as pool:
        replies = pool.map([[i.answer] for i in asked])
    return [f"row {i.row}: {i.answer}" for i, r in zip(asked, replies, strict=True) if r.value is not True]


def _show_lines(what: str, lines: list[str]) -> None:
    if lines:
        out = console()
        out.print(f"\n{len(lines)} {what}:")
        for line in lines:
            out.print(f"  {line}")


@data.command(name="fetch")
def fetch(
    name: Annotated[str, Parameter(help="Name of a data set.")],
    /,
    *,
    output: Annotated[Path, output_option("A folder, made if missing, for NAME.parquet.")] = Path(
        "data-sets"
    ),
    json: JsonFlag = False,
) -> int:
    """Fetch a data set from the hub into a folder that --data-dir takes, for machines without access to the hub."""
    from entlaw.cli.output import write_bytes
    from entlaw.tasks import datasets, manifest

    spec = manifest.get(name)
    if output.exists() and not output.is_dir():
        raise UsageError("this is no folder", where=str(output), hint="-o takes the folder to write into")
    found = datasets.hub_set(spec)
    loaded = datasets.from_rows(spec, list(found), f"hub: {spec.hub}")  # before writing: is it what we know?
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write: {error.strerror}", where=str(output), hint="choose another folder with -o"
        ) from error
    path = output / f"{spec.name}.parquet"
    import io

    buffer = io.BytesIO()
    found.to_parquet(buffer)
    write_bytes(path, buffer.getvalue())
    if json:
        told = {
            "set": spec.name,
            "path": path,
            "problems": len(loaded.items),
            "unusable": len(loaded.unusable),
        }
        print_json({"schema": "entlaw.data-fetch/1", **told, "path": str(path), "license": spec.license})
    else:
        out = console()
        out.print(f"{len(loaded.items):,} problems in {path}; licence: {spec.license}")
        _show_lines("rows cannot be used", [f"row {u.row}: {u.why}" for u in loaded.unusable])
        out.print(f"use them by --data-dir {output}")
    return 0
