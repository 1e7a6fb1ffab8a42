"""The tables of these pages that say what the trainer and the law's checks have, written from their own registries.

``python docs/tables.py`` writes them, between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; with ``--check``
it writes nothing, and exits with code 1 and the names of the pages that are out of date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from entlaw.cli.app import list_options
from entlaw.cli.options import MEANINGS
from entlaw.law.interventions import KINDS, ControlRule, trainers
from entlaw.law.rivals import RIVALS
from entlaw.registry import Function
from entlaw.runs.trainers import LOGGERS
from entlaw.runs.trainers import trainers as trainer_logs
from entlaw.train.advantages import ESTIMATORS
from entlaw.train.controls import CONTROLS
from entlaw.train.losses import LOSSES
from entlaw.train.recipe import settings, show
from entlaw.train.recipe import tables as tables_of_a_recipe
from entlaw.train.settings import Setting

DOCS = Path(__file__).parent
PLACE = re.compile(r"(<!-- table: (\w+) -->\n)(.*?)(?=<!-- end of table -->)", re.DOTALL)

IN_VERL = {
    "translated": "translated",
    "data": "in the data",
    "unused": "not used",
    "idle": "not used",
    "refused": "refused",
}


def _rows(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(text: str) -> str:
    """A text as Markdown: a bar would end its cell, and ``<think>``, where it is not code, would be taken for HTML."""
    parts = re.split(r"(`[^`]*`)", text.replace("|", "\\|"))
    return "".join(part if part.startswith("`") else re.sub(r"<(?=\w)", "&lt;", part) for part in parts)


def _functions(heads: list[str], registry: Mapping[str, Function]) -> str:
    return _rows(heads, ([f"`{name}`", f.formula, f.reference] for name, f in registry.items()))


def _controls() -> str:
    heads = ["turned on by", "what it does", "source"]
    rows = ([f"`{c.switch}`", (c.__doc__ or "").splitlines()[0], c.reference] for c in CONTROLS.values())
    return _rows(heads, rows)


def _rivals() -> str:
    rows = ([f"`{r.name}`", r.kind, f"`{r.formula}`", r.reference or "-"] for r in RIVALS.values())
    return _rows(["rival", "kind", "forecast", "source"], rows)


def _settings() -> str:
    """A section for each table of a recipe."""
    heads = ["setting", "default", "values", "unit", "what it is", "in verl"]
    parts = []
    for table, what in tables_of_a_recipe().items():
        rows = [_setting(s) for s in settings().values() if s.key.rpartition(".")[0] == table]
        if rows:
            parts.append(f"## {table}\n\n{what}\n\n{_rows(heads, rows)}")
    return "\n".join(parts)


def _setting(s: Setting) -> list[str]:
    named: tuple[Any, ...] = get_args(s.kind) if get_origin(s.kind) is Literal else ()
    return [
        f"`{s.key.rpartition('.')[2]}`",
        f"`{show(s.default)}`",
        ", ".join(f"`{name}`" for name in named) or (s.range and f"`{s.range}`"),
        s.unit,
        s.doc,
        f"`{s.verl.text}`" if s.verl.how == "named" else IN_VERL[s.verl.how],
    ]


def _interventions() -> str:
    heads = ["trainer", "setting", "counts", "finding"]
    rows = [
        [
            name,
            _coefficient(control),
            "; ".join(map(_condition, control.when)),
            f"`{KINDS[control.kind].code}`",
        ]
        for name, trainer in trainers().items()
        for control in trainer.controls
    ]
    return _rows(heads, rows)


def _coefficient(control: ControlRule) -> str:
    lower = " or ".join(f"`{key}`" for key in control.lower)
    return f"`{control.key}`" + (f" above {lower}" if lower else "")


def _condition(condition: str) -> str:
    """One of the forms that the head of interventions.toml explains, in words."""
    negated, key, rest = re.fullmatch(r"(not )?(\S+)(.*)", condition).groups()  # type: ignore[union-attr]
    forms = {"": "is on", " by default": "is on, as by default"}
    return (
        f"`{key}` is off, as by default"
        if negated
        else f"`{key}`{' ' + forms[rest] if rest in forms else rest}"
    )


def _loggers() -> str:
    heads = ["trainer", "versions", *LOGGERS, "step", "notes"]
    rows = (
        [t["name"], t["versions"], *(t[logger] for logger in LOGGERS), t["step"], t["notes"]]
        for t in trainer_logs()
    )
    return _rows(heads, rows)


def _spellings() -> str:
    heads = ["trainer", "versions", "entropy", "validation", "training score"]
    rows = (
        [t["name"], log["versions"], *(f"`{log[k]}`" if k in log else "-" for k in [*heads[2:4], "training"])]
        for t in trainer_logs()
        for log in t.get("logs", ())
    )
    return _rows(heads, rows)


def _turn_on() -> str:
    rows = ([t["name"], t["turn_on"]] for t in trainer_logs() if t["turn_on"])
    return _rows(["trainer", "to have the entropy logged"], rows)


def _sources() -> str:
    return _rows(["trainer", "read in"], ([t["name"], "; ".join(t["source"])] for t in trainer_logs()))


def _trainers() -> str:
    known = {name: trainer for name, trainer in trainers().items() if trainer.recognised_by}
    rows = (
        [name, ", ".join(f"`{n}`" for n in sorted(trainer.recognised_by))] for name, trainer in known.items()
    )
    return _rows(["trainer", "by"], rows)


def _options() -> str:
    """What each option means; what a command adds to a shared one is in its own help."""
    options = list_options()
    readers = set(options["--on"])
    rows = []
    for option, commands in options.items():
        told = MEANINGS.get(option.removeprefix("--")) or " ".join(dict.fromkeys(commands.values()))
        where = [c for c in commands if c not in readers] if readers <= set(commands) else list(commands)
        name = "-o" if option == "--output" else option
        rows.append(
            [f"`{name}`", told, ", ".join(["all that read logs"] * (readers <= set(commands)) + where)]
        )
    return _rows(["option", "what it means", "commands"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "estimators": lambda: _functions(
        ["`algorithm.name`", "advantage of response i, token t", "source"], ESTIMATORS
    ),
    "losses": lambda: _functions(["`loss.kind`", "what it is", "source"], LOSSES),
    "controls": _controls,
    "rivals": _rivals,
    "settings": _settings,
    "interventions": _interventions,
    "trainers": _trainers,
    "loggers": _loggers,
    "spellings": _spellings,
    "turn_on": _turn_on,
    "trainer_sources": _sources,
    "options": _options,
}


def filled(page: str) -> str:
    """A page's text with its tables as the registries give them now."""
    return PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n", page)


def stale() -> dict[Path, str]:
    """The pages whose tables are out of date, each with its new text."""
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
    return {page: new for page, text in texts.items() if (new := filled(text)) != text}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables of the pages from the registries.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a page is out of date"
    )
    check = parser.parse_args().check
    pages = stale()
    if check and pages:
        names = ", ".join(page.name for page in pages)
        sys.exit(f"out of date: {names}. Write them anew: python docs/tables.py")
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
