"""Options that several commands share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from entlaw.limits import PAPER_WINDOW, check_level

if TYPE_CHECKING:
    from entlaw.runs.prepare import Selection
    from entlaw.runs.wandb.listing import Query


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
class ReadFlags:
    """How the log is read."""

    on: Annotated[
        str | None, Parameter(help="Performance to use: val, train, a KEY, or a glob of keys (their mean).")
    ] = None
    align: Annotated[
        Literal["next", "same"] | None,
        Parameter(
            help="Pair a score with the next logged entropy (validations) or that of the same step (training)."
        ),
    ] = None
    scale: Annotated[
        float | None, Parameter(help="Factor from the logged score to a fraction, e.g. 0.01.")
    ] = None
    entropy_key: Annotated[str | None, Parameter(help="Key of the entropy, nats per token.")] = None
    performance_key: Annotated[
        str | None, Parameter(help="Key of the performance; the same as --on KEY.")
    ] = None
    step_key: Annotated[str | None, Parameter(help="Key of the training step.")] = None
    join: Annotated[
        bool, Parameter(negative="", help="Join the runs of a source by step (trainer + orchestrator).")
    ] = False
    filter: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="W&B: conditions on a project's runs, e.g. 'state=finished, config.lr<=1e-6, name~^grpo'; or JSON.",
        ),
    ] = ()
    group: Annotated[str | None, Parameter(help="W&B: only runs of this group.")] = None
    tag: Annotated[tuple[str, ...], Parameter(negative="", help="W&B: only runs with this tag.")] = ()
    sweep: Annotated[str | None, Parameter(help="W&B: only runs of this sweep.")] = None
    limit: Annotated[int | None, Parameter(help="W&B: at most so many runs, oldest first.")] = None
    yes: Annotated[bool, Parameter(negative="", help="W&B: do not ask before many runs are pulled.")] = False

    def selection(self) -> Selection:
        """The same as the reader wants it.

        Raises
        ------
        UsageError
            Two options that name the performance.
        """
        from entlaw.errors import UsageError
        from entlaw.runs.prepare import Selection

        if self.on is not None and self.performance_key not in (None, self.on):
            raise UsageError(
                f"--on {self.on} and --performance-key {self.performance_key} name two scores",
                hint="give one of them",
            )
        return Selection(
            self.on, self.align, self.scale, self.step_key, self.entropy_key, self.performance_key, self.join,
            self.query(),
        )  # fmt: skip

    def query(self) -> Query:
        """Which runs of a W&B project.

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
        return Query(
            parse_filters(self.filter), self.group, self.tag, self.sweep, self.limit,
            confirm=(lambda count: True) if self.yes else ask,
        )  # fmt: skip


@Parameter(name="*")
@dataclass(frozen=True)
class FitFlags:
    """How the law is fitted."""

    until_step: Annotated[float, Parameter(help="Use points up to this step, as the paper's 36.")] = (
        PAPER_WINDOW
    )
    all: Annotated[bool, Parameter(negative="", help="Use all points instead.")] = False
    method: Annotated[
        Literal["careful", "paper"],
        Parameter(help="careful: smoothed entropy, AR(1) + binomial noise; paper: plain least squares."),
    ] = "careful"
    level: Annotated[float, Parameter(help="Nominal coverage of the intervals.")] = 0.95
    problems: Annotated[
        int | None, Parameter(help="Validation problems behind each score (binomial noise).")
    ] = None
    samples: Annotated[int | None, Parameter(help="Samples per problem behind each score.")] = None
    force: Annotated[bool, Parameter(negative="", help="Report the fit even when diagnostics refuse it.")] = (
        False
    )

    @property
    def window(self) -> float | None:
        """Last step to use; None for all."""
        return None if self.all else self.until_step

    def check(self) -> None:
        """Raise UsageError for values that make no sense."""
        from entlaw.errors import UsageError

        if not math.isfinite(self.until_step) or self.until_step < 0:
            raise UsageError(
                f"--until-step {self.until_step:g} is no step of a run",
                hint="e.g. --until-step 36; --all uses all",
            )
        if self.all and self.until_step != PAPER_WINDOW:
            raise UsageError(
                f"--all and --until-step {self.until_step:g} exclude each other", hint="give one of them"
            )
        check_level(self.level, "--level", "e.g. --level 0.95")
        for name, value in (("--problems", self.problems), ("--samples", self.samples)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} is not a positive number")
        if self.problems is not None and self.method == "paper":
            raise UsageError(
                "--problems has no effect with --method paper", why="plain least squares weighs all points alike",
                hint="leave it out, or use --method careful",
            )  # fmt: skip
        if self.samples is not None and self.problems is None:
            raise UsageError(
                "--samples without --problems", hint="binomial noise needs the number of problems"
            )


JsonFlag = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON with a versioned schema.")]
