"""``entlaw sizes``: a, b and the ceiling over model sizes, and a forecast for a size that was not trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.fit import check_targets, examine_sources
from entlaw.cli.options import Entropies, FitFlags, JsonFlag, PlotFlag, ReadFlags, Sources
from entlaw.cli.output import console, print_findings, print_json, write_bytes, write_text
from entlaw.errors import DataError, UsageError

if TYPE_CHECKING:
    from entlaw.law.examined import Examined
    from entlaw.law.meta import Equality
    from entlaw.law.settings import Settings
    from entlaw.law.sizes import SizedFit, SizeForecast, Sizes


def sizes(
    source: Sources,
    /,
    *,
    at: Annotated[
        tuple[str, ...], Parameter(help="Predict for this size, e.g. 70B or 7e10 (repeat for more).")
    ] = (),
    size: Annotated[
        tuple[str, ...],
        Parameter(
            help="Size of runs whose log does not tell: PATTERN=SIZE (a glob of run names), e.g. `*-7b-*=7B`."
        ),
    ] = (),
    entropy: Entropies = (),
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    how: FitFlags = FitFlags(),  # noqa: B008
    plot: PlotFlag = None,
    json: JsonFlag = False,
) -> int:
    """Fit each run, then a, b and the ceiling as lines in ln N, with leave-largest-out and a forecast for other sizes.

    The size is the unit: runs of one size are averaged first. Refused fits are left out unless --force.
    """
    from entlaw.law.sizes import fit_sizes, forecast_size, sized_fits

    settings = how.settings(entropies=entropy)
    check_targets(plot, None)
    wanted = [_size_of(text, "--at") for text in at]
    told = _parse_sizes(size)
    examined = examine_sources(source, read, settings, ahead=False)
    used, left = sized_fits(examined, told)
    if not used:
        raise _explain_none(examined, left)
    agreement = algorithms_agree(examined, used)
    found = fit_sizes(used, entropies=entropy, level=how.level)
    forecasts = [forecast_size(found, n, how.level) for n in wanted]
    if plot:
        from entlaw.report.plots import sizes_csv, sizes_figure

        write_bytes(plot, sizes_figure(found, plot.suffix.lower().lstrip("."), wanted, how.level))
        write_text(plot.with_suffix(".csv"), sizes_csv(found))
    if json:
        print_json(_as_dict(found, forecasts, used, left, how.level, agreement))
    else:
        _show(found, forecasts, left, settings, agreement)
    return 0


def algorithms_agree(examined: list[Examined], used: list[SizedFit]) -> Equality | None:
    """Whether runs of different algorithms share a and b within each size; None with a single algorithm."""
    from entlaw.law.meta import equal_coefficients

    label = {e.label: algorithm_of(e.reading.run.config, e.label) for e in examined if e.reading.run}
    groups = [label[f.name] for f in used]
    if len(set(groups)) < 2:
        return None
    return equal_coefficients(groups, [f.a for f in used], [f.b for f in used], [f.parameters for f in used])


def algorithm_of(config: Mapping[str, Any], name: str) -> str:
    """What a run was trained with, as its configuration says: our recipe's algorithm and what it changed, verl's
    estimator and loss; without either, its name up to the model's size and the seed.
    """
    changed = sorted(
        f"{k.removeprefix('changes.')}={v}"
        for k, v in config.items()
        if k.startswith(("changes.algorithm", "changes.controls", "changes.loss", "changes.task"))
    )
    if "recipe.algorithm.name" in config:
        return " ".join([str(config["recipe.algorithm.name"]), *changed])
    if "algorithm.adv_estimator" in config:
        loss = config.get("actor_rollout_ref.actor.policy_loss.loss_mode", "")
        return f"{config['algorithm.adv_estimator']} {loss}".strip()
    return re.sub(
        r"[-_]?(seed|s|rl|run)?[-_]?\d+$", "", re.sub(r"[-_]?\d+(\.\d+)?[bBmM](?![A-Za-z0-9])", "", name)
    )


def _explain_none(examined: list[Examined], left: dict[str, str]) -> Exception:
    if not examined:
        return UsageError("no source was given")
    name, why = next(iter(left.items()))
    return DataError(
        f"none of {len(examined)} runs can be used", why=f"{name}: {why}", hint="see `entlaw fit` on them"
    )


def _size_of(text: str, option: str) -> float:
    from entlaw.runs.model_size import parse_size

    found = parse_size(text)
    if found is None:
        raise UsageError(f"{option} {text} is no model size", hint="e.g. 7B, 135M or 7e9")
    return found


def _parse_sizes(given: tuple[str, ...]) -> dict[str, float]:
    told = {}
    for text in given:
        pattern, equals, value = text.rpartition("=")
        if not equals or not pattern:
            raise UsageError(f"--size {text} is not PATTERN=SIZE", hint="e.g. --size '*-7b-*=7B'")
        told[pattern] = _size_of(value, "--size")
    return told


def _as_dict(
    found: Sizes,
    forecasts: list[SizeForecast],
    used: list[SizedFit],
    left: dict[str, str],
    level: float,
    agreement: Equality | None,
) -> dict[str, Any]:
    return {
        "schema": "entlaw.sizes/1",
        "level": level,
        "runs": [{"name": f.name, "parameters": f.parameters, "a": f.a, "b": f.b} for f in used],
        "left_out_runs": left,
        "algorithms": None if agreement is None else {**agreement.__dict__, "testable": agreement.testable},
        "lines": {
            name: {
                "slope": line.slope,
                "slope_interval": line.slope_interval(level).__dict__,
                "intercept": line.intercept,
                "tau": line.fit.tau2**0.5,
                "df": line.fit.df,
                "between_runs_sd": line.between_runs**0.5,
                "parameters": line.parameters,
                "value": line.value,
                "sd": line.variance**0.5,
                "runs": line.runs,
            }
            for name, line in found.lines.items()
        },
        "leave_largest_out": [
            {**e.__dict__, "interval": e.interval.__dict__, "inside": e.inside} for e in found.left_out
        ],
        "forecasts": [
            {
                "parameters": f.parameters,
                "trust": f.trust,
                "values": {k: {"value": v, "interval": i.__dict__} for k, (v, i) in f.values.items()},
                "findings": [x.as_dict() for x in f.findings],
            }
            for f in forecasts
        ],
        "findings": [f.as_dict() for f in found.findings],
    }


def _show(
    found: Sizes,
    forecasts: list[SizeForecast],
    left: dict[str, str],
    settings: Settings,
    agreement: Equality | None,
) -> None:
    from rich.table import Table

    from entlaw.law.summary import describe_window

    out, level = console(), settings.level
    a = found.lines["a"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("parameters", "runs", *found.lines):
        table.add_column(column, justify="right")
    for i, n in enumerate(a.parameters):
        cells = [f"{line.value[i]:.3f} ± {line.variance[i] ** 0.5:.3f}" for line in found.lines.values()]
        table.add_row(f"{n:.3g}", str(a.runs[i]), *cells)
    slopes = []
    for line in found.lines.values():
        interval = line.slope_interval(level)
        slopes.append(f"{line.slope:+.3f} [{interval.lo:+.3f}, {interval.hi:+.3f}]")
    table.add_row("per unit of ln N", "", *slopes, style="bold")
    table.add_row("between sizes, sd", "", *(f"{line.fit.tau2**0.5:.3f}" for line in found.lines.values()))
    out.print(table)
    out.print(f"laws from {describe_window(settings.law_until)}", style="dim")
    if agreement is not None:
        out.print(f"  {_agreement(agreement)}")
    for e in found.left_out:
        mark = "covered" if e.inside else "not covered"
        out.print(
            f"  largest size held out: {e.quantity} predicted {e.forecast:.3f} [{e.interval.lo:.3f}, "
            f"{e.interval.hi:.3f}], found {e.found:.3f}: {mark}"
        )
    for f in forecasts:
        out.print(
            f"at {f.parameters:.3g} parameters ({level:.0%} interval of many runs' mean):", style="bold"
        )
        for name, (value, interval) in f.values.items():
            out.print(f"  {name:<9} {value:.3f} [{interval.lo:.3f}, {interval.hi:.3f}]")
        out.print("  no problems found" if f.trust else "  do not use:")
        if not f.trust:
            print_findings(f.findings)
    if not forecasts:
        print_findings(found.findings)
    for name, why in left.items():
        console(stderr=True).print(f"left out: {name}: {why}", style="dim")


def _agreement(found: Equality) -> str:
    """Whether pooling the algorithms is in order."""
    names = f"{len(found.groups)} algorithms or settings"
    if not found.testable:
        return f"{names} pooled; several runs of each are needed to test whether they share a and b"
    p = f"p = {found.p_value:.3f} that runs of one (a, b) differ as much"
    if found.p_value < 0.05:
        return f"{names} do not share a and b ({p}): fit them apart"
    return f"{names} pooled: no difference in a and b was found ({p})"
