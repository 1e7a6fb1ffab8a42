"""The application: its commands, and what happens when one fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from entlaw._version import __version__
from entlaw.cli import backtest, doctor, evaluate, fit, predict, pull, push, train
from entlaw.cli.compare import compare
from entlaw.cli.data import data
from entlaw.cli.demo import demo
from entlaw.cli.figures import figures
from entlaw.cli.options import describe_default
from entlaw.cli.output import print_json, show_error
from entlaw.cli.plan import plan
from entlaw.cli.report import report
from entlaw.cli.sizes import sizes
from entlaw.cli.verl import verl
from entlaw.cli.watch import watch
from entlaw.errors import EntlawError, UsageError

_STANDARD_INPUT = "/dev/stdin"

app = App(
    name="entlaw",
    version=__version__,
    default_parameter=Parameter(negative_iterable=(), show_default=describe_default),
    help_format="plaintext",
    help="Where will this RL run end? Fit R = -a exp(H) + b on the early steps of a run and read off its ceiling.",
    help_epilogue="SOURCE is a file, a folder or a quoted glob: logs of verl, TRL, OpenRLHF, tinker and others, "
    "W&B offline files, TensorBoard, MLflow, CSV, Parquet, JSON; or a W&B run (entity/project/run, a URL).\n\n"
    "Exit codes: 0 ok, 1 unexpected, 2 usage, 3 data missing or unreadable, 4 refused, 5 stop rule fired.",
)
app.command(demo)
app.command(doctor.doctor)
app.command(fit.fit)
app.command(predict.predict)
app.command(watch)
app.command(pull.pull)
app.command(push.push)
app.command(sizes)
app.command(compare)
app.command(plan)
app.command(backtest.backtest)
app.command(figures)
app.command(train.train)
app.command(evaluate.evaluate, name="eval")
app.command(data)
app.command(report)
app.command(verl)


def list_options() -> dict[str, dict[str, str]]:
    """What every option means, by its name and by the command that takes it."""
    found: dict[str, dict[str, str]] = {}
    for name, command in _commands(app):
        for argument in command.assemble_argument_collection():
            long = next((n for n in argument.names if n.startswith("--")), None)
            if long is not None and argument.show:
                found.setdefault(long, {})[name] = argument.parameter.help or ""
    return {option: found[option] for option in sorted(found)}


def _commands(parent: App, above: str = "") -> Iterator[tuple[str, App]]:
    for name in parent:
        if not name.startswith("-"):
            command, path = parent[name], f"{above} {name}".strip()
            if command.default_command is not None:
                yield path, command
            yield from _commands(command, path)


def run(tokens: list[str]) -> int:
    """Parse ``tokens`` and run the command; errors become a message on stderr and an exit code.

    Returns
    -------
    int
        Exit code.
    """
    as_json = "--json" in tokens
    # The parser takes `-` for an option that has lost its letter.
    tokens = [_STANDARD_INPUT if token == "-" else token for token in tokens]
    try:
        result: Any = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        if as_json:
            told = UsageError(str(error), hint="see `entlaw --help` or `entlaw COMMAND --help`")
            print_json({"schema": "entlaw.error/1", **told.as_dict()})
        sys.stderr.write(f"entlaw: {error}\n")
        sys.stderr.write("Try `entlaw --help` or `entlaw COMMAND --help`.\n")
        return 2
    except EntlawError as error:
        show_error(error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and _nowhere_to_write(error):
            told = UsageError(
                "there is no folder for temporary files that can be written to",
                hint="make room, or set TMPDIR to a folder that can be written to",
            )
            show_error(told, as_json=as_json)
            return told.exit_code
        return _unexpected(error, as_json)
    return result if isinstance(result, int) else 0


def _nowhere_to_write(error: OSError) -> bool:
    """Whether Python or matplotlib looked for a temporary folder in vain."""
    return "No usable temporary directory" in str(error) or "writable cache directory" in str(error)


def _unexpected(error: Exception, as_json: bool) -> int:
    """A defect of ours: say so in two lines, keep the traceback in a file for the report."""
    import os
    import tempfile
    import traceback

    try:
        handle, path = tempfile.mkstemp(prefix="entlaw-traceback-", suffix=".txt")
        with os.fdopen(handle, "w") as out:
            traceback.print_exception(error, file=out)
        hint = f"please report it with the traceback in {path}"
    except OSError:
        hint = (
            "please report it; for the traceback, set TMPDIR to a folder that can be written to and try again"
        )
    wrapped = EntlawError(
        f"unexpected {type(error).__name__}: {error}",
        why="this is a defect in entlaw, not in your call",
        hint=hint,
    )
    show_error(wrapped, as_json=as_json)
    return 1
