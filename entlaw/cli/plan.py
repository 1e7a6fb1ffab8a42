"""``entlaw plan``: how to validate so that the ceiling is known by step 36."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.fit import check_targets
from entlaw.cli.options import JsonFlag, LevelFlag, PlotFlag, ReadFlags, check_steps, meaning
from entlaw.cli.output import console, print_json, track, write_bytes, write_text
from entlaw.errors import UsageError
from entlaw.limits import PAPER_WINDOW, check_level

if TYPE_CHECKING:
    from entlaw.law.plan import Assumed, Budget


def plan(
    *,
    margin: Annotated[float, Parameter(help="Half the ceiling's interval that is wanted (fraction).")] = 0.02,
    until_step: Annotated[
        float, Parameter(help=meaning("until-step", "By then the ceiling is to be known."))
    ] = PAPER_WINDOW,
    problems: Annotated[tuple[int, ...], Parameter(help=meaning("problems", "To try; repeat for more."))] = (
        30,
        100,
        500,
        2000,
        8000,
    ),
    samples: Annotated[tuple[int, ...], Parameter(help=meaning("samples", "To try; repeat for more."))] = (
        1,
        4,
    ),
    validate_every: Annotated[
        tuple[int, ...], Parameter(help="Steps between two validations. To try; repeat for more.")
    ] = (1, 2, 4, 6),
    like: Annotated[
        str | None,
        Parameter(help="An earlier run: its law, entropy curve and noise instead of the defaults."),
    ] = None,
    within: Annotated[
        float | None,
        Parameter(
            help="Share of p(1-p) within problems: 1 if all are alike, 0.5 if many are always right or wrong."
        ),
    ] = None,
    level: LevelFlag = 0.95,
    replicates: Annotated[int, Parameter(help="Simulated runs for each design.")] = 200,
    seed: Annotated[int, Parameter(help=meaning("seed"))] = 0,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    plot: PlotFlag = None,
    json: JsonFlag = False,
) -> int:
    """Simulate runs that obey the law and tell what each way of validating would know of the ceiling in time.

    Holds for runs that obey the law; how far real runs leave it is not a matter of how they are validated.
    """
    from entlaw.law.plan import Assumed, budget, cheapest, designs

    if not 0 < margin < 1:
        raise UsageError(f"--margin {margin:g} is no fraction between 0 and 1", hint="0.02 is two points")
    check_level(level, "--level", None)
    check_steps("--until-step", (until_step,))
    if replicates < 20:
        raise UsageError(
            f"--replicates {replicates} are too few to tell anything", hint="at least 20; 200 is usual"
        )
    check_targets(plot, None)
    assumed = _like(like, read) if like else Assumed()
    if within is not None:
        assumed = replace(assumed, within=within)
    assumed.check()
    candidates = designs(list(problems), list(samples), list(validate_every), until_step)
    found = [
        budget(assumed, d, margin=margin, level=level, replicates=replicates, seed=seed)
        for d in track(candidates, "simulating", "designs")
    ]
    best = cheapest(found, margin)
    if plot:
        from entlaw.report.plots import plan_csv, plan_figure

        write_bytes(plot, plan_figure(found, plot.suffix.lower().lstrip("."), margin, level))
        write_text(plot.with_suffix(".csv"), plan_csv(found))
    if json:
        print_json(_as_dict(assumed, found, best, margin, level))
    else:
        _show(assumed, found, best, margin, level)
    return 0


def _like(source: str, read: ReadFlags) -> Assumed:
    """The law, the entropy's curve and the noise of an earlier run."""
    import entlaw
    from entlaw.law.plan import assumed_from

    runs = entlaw.read(source, read.selection())
    if len(runs) > 1:
        raise UsageError(f"--like names {len(runs)} runs", where=source, hint="name one")
    return assumed_from(runs[0])


def _as_dict(
    assumed: Assumed, found: list[Budget], best: Budget | None, margin: float, level: float
) -> dict[str, Any]:
    def told(b: Budget) -> dict[str, Any]:
        d = b.design
        return {
            **d.__dict__,
            "validations": d.validations,
            "answers": d.answers,
            **{k: v for k, v in b.__dict__.items() if k != "design"},
        }

    return {
        "schema": "entlaw.plan/1",
        "margin": margin,
        "level": level,
        "assumed": assumed.__dict__,
        "designs": [told(b) for b in found],
        "cheapest": told(best) if best else None,
    }


def _show(assumed: Assumed, found: list[Budget], best: Budget | None, margin: float, level: float) -> None:
    from rich.table import Table

    out = console()
    out.print(
        f"assumed: R = {assumed.b:.3f} - {assumed.a:.3f} exp(H), H {assumed.entropy_first:.2f} -> "
        f"{assumed.entropy_floor:.2f} (tau {assumed.tau:.0f} steps), drift, sd {100 * assumed.wander:.1f} points; "
        f"ceiling {assumed.ceiling:.3f}"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = (
        "problems",
        "samples",
        "every",
        "validations",
        "answers",
        f"± ceiling ({level:.0%})",
        "rmse",
        "covers",
        f"within ±{100 * margin:g}",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for b in sorted(
        found, key=lambda b: (b.design.problems * b.design.samples, b.design.problems, b.design.every)
    ):
        d = b.design
        table.add_row(
            str(d.problems),
            str(d.samples),
            str(d.every),
            str(d.validations),
            f"{d.answers:,}",
            f"{100 * b.half_width:.1f}",
            f"{100 * b.rmse:.1f}",
            f"{b.coverage:.0%}",
            f"{b.within_margin:.0%}",
            style="bold" if b is best else "dim" if b.half_width > margin else None,
        )
    out.print(table)
    if best is None:
        out.print(
            f"no design knows the ceiling within ±{100 * margin:g} points: more answers, or a later step"
        )
    else:
        d = best.design
        out.print(
            f"cheapest within ±{100 * margin:g} points: {d.problems} problems x {d.samples} samples every {d.every} "
            f"steps ({d.answers:,} answers by step {d.until_step:g})"
        )
