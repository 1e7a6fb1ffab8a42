"""Options that several commands share, and what each word means.

A word that more than one command takes means the same in all of them: :data:`MEANINGS` says what. A command adds what
is its own after that (``meaning("samples", "To try (1 4).")``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from entlaw.limits import PAPER_WINDOW, UNSET, check_level

if TYPE_CHECKING:
    from entlaw.law.forecast import ForecastModel
    from entlaw.law.settings import Settings
    from entlaw.runs.prepare import Selection
    from entlaw.runs.wandb.listing import Query

# A step a second for thirty years.
MOST_STEPS = 1e9

# One word, one meaning. An option of one command alone is described where it is defined.
MEANINGS = {
    "align": "Which entropy a score is paired with: the next one logged (validations), or that of the same step "
    "(training).",
    "all": "Fit the law to all steps.",
    "check": "Only check; write nothing, start nothing.",
    "data-dir": "Folder of data sets; the hub without.",
    "entropy": "Predict the score at this entropy, nats/token (repeat for more).",
    "entropy-key": "Key of the entropy, nats per token.",
    "filter": "Conditions on a project's runs, e.g. 'state=finished, config.lr<=1e-6, name~^grpo'; or JSON.",
    "force": "Show what the findings refuse, too.",
    "group": "Only runs of this group.",
    "join": "Join the runs of a source by step (trainer + orchestrator, charts exported apart).",
    "json": "Print JSON with a versioned schema.",
    "level": "Nominal coverage of the intervals.",
    "limit": "At most so many runs, oldest first.",
    "list": "List what there is, and stop.",
    "method": "How the law is fitted. careful: smoothed entropy, AR(1) + binomial noise; paper: plain least squares.",
    "on": "The score: val, train, a KEY, or a glob of keys (their mean).",
    "output": "Where to write the result.",
    "plot": "Write the figure (.pdf, .svg or .png) and its CSV.",
    "problems": "Number of problems in the test.",
    "ray": "Address of a Ray cluster.",
    "samples": "Answers per problem of the test.",
    "scale": "Factor from the logged score to a fraction, e.g. 0.01.",
    "seed": "Of the random numbers.",
    "set": "Override a setting, as table.key=value (repeat for more).",
    "step-key": "Key of the training step.",
    "sweep": "Only runs of this sweep.",
    "tag": "Only runs with this tag (repeat for more).",
    "total-steps": "Where the run will end; its configuration tells by default.",
    "until-step": "Look at nothing after this step.",
    "workers": "Processes at work at a time.",
    "yes": "Do not ask: go ahead.",
}


def meaning(word: str, more: str = "") -> str:
    """Help of an option: what the word means everywhere, then what this command adds."""
    return f"{MEANINGS[word]} {more}".strip()


def describe_default(value: Any) -> str | None:
    """A default as help shows it; None where it says nothing: a flag that is off, an empty list or text."""
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value)) or None
    return None if value is None or value is False else str(value) or None


READING = Group("Reading the log", sort_key=10)
FITTING = Group("Law and forecast", sort_key=11)
WANDB = Group("Runs of a W&B project", sort_key=12)


Sources = Annotated[list[str], Parameter(help="Files, folders or quoted globs; or runs of a W&B server.")]
JsonFlag = Annotated[bool, Parameter(name="--json", negative="", help=meaning("json"))]
PlotFlag = Annotated[Path | None, Parameter(help=meaning("plot"))]
TotalSteps = Annotated[float | None, Parameter(group=FITTING, help=meaning("total-steps"))]
AllFlag = Annotated[bool, Parameter(group=FITTING, negative="", help=meaning("all"))]
LevelFlag = Annotated[float, Parameter(group=FITTING, help=meaning("level"))]
Entropies = Annotated[tuple[float, ...], Parameter(help=meaning("entropy"))]


def ask(count: int) -> bool:
    """Ask on a terminal whether so many runs are meant; without one: no."""
    import sys

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"entlaw: {count:,} runs; pull them all? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@Parameter(name="*")
@dataclass(frozen=True)
class QueryFlags:
    """Which runs of a W&B project."""

    filter: Annotated[tuple[str, ...], Parameter(group=WANDB, help=meaning("filter"))] = ()
    group: Annotated[str | None, Parameter(group=WANDB, help=meaning("group"))] = None
    tag: Annotated[tuple[str, ...], Parameter(group=WANDB, help=meaning("tag"))] = ()
    sweep: Annotated[str | None, Parameter(group=WANDB, help=meaning("sweep"))] = None
    limit: Annotated[int | None, Parameter(group=WANDB, help=meaning("limit"))] = None
    yes: Annotated[bool, Parameter(group=WANDB, negative="", help=meaning("yes"))] = False

    def query(self) -> Query:
        """The same as the listing wants it.

        Raises
        ------
        UsageError
            A condition that cannot be read, or a limit below one.
        """
        from entlaw.errors import UsageError
        from entlaw.runs.wandb.address import parse_filters
        from entlaw.runs.wandb.listing import Query

        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} is not a positive number")
        confirm = (lambda count: True) if self.yes else ask
        filters = parse_filters(self.filter)
        return Query(filters, self.group, self.tag, self.sweep, self.limit, confirm=confirm)


@Parameter(name="*")
@dataclass(frozen=True)
class ReadFlags(QueryFlags):
    """How the log is read."""

    on: Annotated[str | None, Parameter(group=READING, help=meaning("on"))] = None
    align: Annotated[Literal["next", "same"] | None, Parameter(group=READING, help=meaning("align"))] = None
    scale: Annotated[float | None, Parameter(group=READING, help=meaning("scale"))] = None
    entropy_key: Annotated[str | None, Parameter(group=READING, help=meaning("entropy-key"))] = None
    step_key: Annotated[str | None, Parameter(group=READING, help=meaning("step-key"))] = None
    join: Annotated[bool, Parameter(group=READING, negative="", help=meaning("join"))] = False

    def selection(self) -> Selection:
        """The same as the reader wants it.

        Raises
        ------
        UsageError
            As :meth:`QueryFlags.query`.
        """
        from entlaw.runs.prepare import Selection

        return Selection(
            on=self.on,
            align=self.align,
            scale=self.scale,
            step_key=self.step_key,
            entropy_key=self.entropy_key,
            join=self.join,
            query=self.query(),
        )


@Parameter(name="*")
@dataclass(frozen=True)
class FitFlags:
    """How a run is examined."""

    until_step: Annotated[
        float | None,
        Parameter(
            group=FITTING,
            help=meaning(
                "until-step", f"Without, the law has the steps up to {PAPER_WINDOW:g} and the forecast all."
            ),
        ),
    ] = None
    all: AllFlag = False
    method: Annotated[Literal["careful", "paper"], Parameter(group=FITTING, help=meaning("method"))] = (
        "careful"
    )
    level: LevelFlag = 0.95
    problems: Annotated[
        int | None,
        Parameter(
            group=FITTING, help=meaning("problems", "Scores then have binomial noise; the log may tell.")
        ),
    ] = None
    samples: Annotated[int | None, Parameter(group=FITTING, help=meaning("samples"))] = None
    force: Annotated[bool, Parameter(group=FITTING, negative="", help=meaning("force"))] = False

    def settings(
        self,
        *,
        steps: tuple[float, ...] = (),
        entropies: tuple[float, ...] = (),
        total_steps: float | None = None,
        model: ForecastModel = "growth",
        width: float = 1.0,
    ) -> Settings:
        """What is asked of each run; the one place where options become settings.

        Parameters
        ----------
        steps, entropies, total_steps, model, width
            As in :class:`entlaw.law.result.Settings`.

        Raises
        ------
        UsageError
            Values that make no sense.
        """
        from entlaw.law.settings import Settings

        self._check()
        check_steps("--step", steps)
        check_entropies(entropies)
        check_total_steps(total_steps)
        return Settings(
            until_step=None if self.all else UNSET if self.until_step is None else self.until_step,
            method=self.method,
            level=self.level,
            problems=self.problems,
            samples=self.samples,
            force=self.force,
            total_steps=total_steps,
            steps=steps,
            entropies=entropies,
            model=model,
            width=width,
        )

    def _check(self) -> None:
        from entlaw.errors import UsageError

        if self.until_step is not None:
            check_steps("--until-step", (self.until_step,), "e.g. --until-step 36; --all uses all")
        if self.all and self.until_step is not None:
            raise UsageError(
                f"--all and --until-step {self.until_step:g} exclude each other", hint="give one of them"
            )
        check_level(self.level, "--level", "e.g. --level 0.95")
        for name, value in (("--problems", self.problems), ("--samples", self.samples)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} is not a positive number")
        if self.problems is not None and self.method == "paper":
            raise UsageError(
                "--problems has no effect with --method paper",
                why="plain least squares weighs all points alike",
                hint="leave it out, or use --method careful",
            )
        if self.samples is not None and self.problems is None:
            raise UsageError(
                "--samples without --problems", hint="binomial noise needs the number of problems"
            )


def check_steps(option: str, steps: tuple[float, ...], hint: str | None = None) -> None:
    """Raise UsageError for a step that no run has."""
    from entlaw.errors import UsageError

    for value in steps:
        if not (math.isfinite(value) and 0 <= value <= MOST_STEPS):
            raise UsageError(f"{option} {value:g} is no step of a run", hint=hint or f"e.g. {option} 500")


def check_total_steps(value: float | None) -> None:
    """Raise UsageError for a planned end that is no number of steps."""
    from entlaw.errors import UsageError

    if value is not None and not 0 < value <= MOST_STEPS:
        raise UsageError(f"--total-steps {value:g} is no number of steps", hint="e.g. --total-steps 500")


def check_entropies(entropies: tuple[float, ...]) -> None:
    """Raise UsageError for an entropy that no policy has."""
    from entlaw.errors import UsageError

    for value in entropies:
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(
                f"--entropy {value:g} is negative" if value < 0 else f"--entropy {value:g} is not finite",
                hint="entropy in nats per token is at least 0",
            )


def output_option(more: str) -> Parameter:
    """The option ``-o`` of a command; ``more`` says what it writes."""
    return Parameter(name=["-o", "--output"], help=meaning("output", more))
