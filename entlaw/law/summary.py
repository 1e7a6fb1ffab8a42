"""A result in words, once for all views: the answer first, then what it rests on."""

from __future__ import annotations

import math

from entlaw.errors import EntlawError
from entlaw.findings import Finding
from entlaw.law.ahead import Ahead, ForecastVerdict
from entlaw.law.forecast import INNER, Forecast
from entlaw.law.result import LawVerdict, Result
from entlaw.law.shapes import Fit, Interval
from entlaw.limits import FEW_POINTS
from entlaw.runs.run import Run

LAW_VERDICTS: dict[LawVerdict, str] = {
    "ok": "no problems found",
    "caution": "read the warnings first",
    "passed": "the run is above this ceiling: do not quote it",
    "refused": "do not use",
}
FORECAST_VERDICTS: dict[ForecastVerdict, str] = {
    "improving": "likely to gain more",
    "plateau": "unlikely to gain more",
    "uncertain": "cannot tell yet",
    "refused": "no forecast",
}
_ENDS = {"planned-end": "the planned end", "last-score": "the last score", "as-long-again": "as long again"}


def format_number(value: float | None, digits: int = 3) -> str:
    """A number for people: fixed decimals, no minus zero, words for what is none."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unbounded"
    if abs(value) >= 1e5:
        return f"{value:.3g}"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def format_interval(interval: Interval) -> str:
    """An interval as "[0.353, 0.466]"."""
    return f"[{format_number(interval.lo)}, {format_number(interval.hi)}]"


def format_law(fit: Fit) -> str:
    """The law with its numbers, e.g. "R = 0.523 - 0.106 exp(H)"."""
    sign = "-" if fit.a >= 0 else "+"
    return f"R = {format_number(fit.b)} {sign} {format_number(abs(fit.a))} exp(H)"


def describe_pairing(run: Run) -> str:
    """Which entropy belongs to a score."""
    if run.align == "previous":
        return "paired with the entropy before it"
    if run.align == "same" and run.entropy.of == "evaluation" and run.performance_kind == "validation":
        return "paired with the same evaluation's entropy"
    return f"paired with the {run.align} step's entropy"


def describe_entropy(run: Run) -> str:
    """Key of the scores' entropy, and that of the entropy log where it is another."""
    log = "" if run.entropy_log is None else f" (log: {run.entropy_log.key})"
    return f"{run.entropy.key}{log}"


def describe_window(until_step: float | None) -> str:
    """What a window holds, e.g. "steps up to 36"."""
    return "all steps" if until_step is None else f"steps up to {until_step:g}"


def describe_gain(ahead: Ahead) -> str:
    """The chance of gaining more than a point, and by when."""
    gain = ahead.gain
    if gain is None or ahead.verdict == "refused":
        return ahead.why
    end = f"step {gain.to_step:g} ({_ENDS[gain.until]})"
    lead = f"If training continued to {end}" if gain.if_continued else f"By {end}"
    text = f"{lead}, the chance of gaining more than {gain.amount} is {gain.probability_above():.0%}"
    if any(one.model != "growth" for one in ahead.at):
        text += " (model growth)"
    # Too few points for a verdict, whatever the chance.
    return text if ahead.outlook.points.n >= FEW_POINTS else f"{text}: {ahead.why}"


def describe_forecast(forecast: Forecast) -> str:
    """One predicted score, e.g. "at step 480: 0.490, 80 % [0.462, 0.551], 95 % [...]"."""
    where = (
        f"at entropy {format_number(forecast.entropy)}"
        if forecast.step is None
        else f"at step {forecast.step:g}"
    )
    intervals = ", ".join(f"{i.level:.0%} {format_interval(i)}" for i in forecast.intervals)
    text = f"{where}: {format_number(forecast.median)}, {intervals}"
    if forecast.entropy_interval is not None:
        text += f"; entropy {format_number(forecast.entropy)} {format_interval(forecast.entropy_interval)}"
    if forecast.extrapolation > 0:
        beyond = "far" if math.isinf(forecast.extrapolation) else f"{forecast.extrapolation:.0%}"
        text += f"; extrapolates {beyond} beyond the fitted range of exp(H)"
    return f"{text} ({describe_basis(forecast)})"


def describe_basis(forecast: Forecast) -> str:
    """What a predicted number rests on: its model, its window and the number of points in it."""
    return f"model {forecast.model}, {forecast.n} points, {describe_window(forecast.until_step)}"


def describe_early(result: Result) -> str:
    """The last score as it was predicted at the end of the law's window, and whether it was covered; "" without one."""
    early = result.early
    if early is None or result.last is None:
        return ""
    return (
        f"predicted from {describe_window(early.until_step)} (model {early.model}): {format_number(early.median)} at "
        f"step {early.step:g}, {early.level:.0%} {format_interval(early.interval)}; measured "
        f"{format_number(result.last[1])}, {'covered' if result.covered else 'not covered'}"
    )


def headline(result: Result) -> str:
    """The answer: where the run is, where it will be, and whether the law's ceiling may be quoted."""
    said = []
    if result.last is not None:
        step, score = result.last
        said.append(f"Now {format_number(score)} at step {step:g}.")
    ahead = result.forecast
    for one in ahead.at[:1]:
        where = f"At entropy {format_number(one.entropy)}" if one.step is None else f"At step {one.step:g}"
        inner = one.interval_at(INNER)
        model = "" if one.model == "growth" else f", model {one.model}"
        said.append(f"{where}: {format_number(one.median)} {format_interval(inner)} ({INNER:.0%}{model}).")
    if ahead.verdict == "refused":
        said.append(f"No forecast: {ahead.why}.")
    else:
        said.append(f"{describe_gain(ahead)}.")
    said.append(describe_ceiling(result))
    return " ".join(said)


def describe_ceiling(result: Result) -> str:
    """The law's ceiling with its verdict, as a sentence."""
    law, window = result.law, describe_window(result.settings.law_until)
    if law is None:
        assert result.refusal is not None
        return f"The law gives no ceiling from {window}: {result.refusal.what}."
    ceiling = f"The law's ceiling from {window} is {format_number(law.ceiling)} {format_interval(law.ceiling_interval)}"
    if result.verdict == "passed":
        return f"The law's ceiling from {window} ({format_number(law.ceiling)}) has been passed: do not quote it."
    return f"{ceiling} ({law.ceiling_interval.level:.0%}): {LAW_VERDICTS[result.verdict]}."


def list_rows(result: Result) -> list[tuple[str, str]]:
    """What is below the headline, as pairs of a label and a text."""
    rows = []
    run, law, held = result.run, result.law, result.held_out
    if run is not None:
        rows.append(
            (
                "read",
                f"{run.provenance.format} ({run.provenance.framework}); entropy {describe_entropy(run)}; "
                f"score {run.performance_key} ({run.performance_kind}), {describe_pairing(run)}",
            )
        )
    if law is not None:
        c = law.ceiling_interval
        rows.append(
            ("law", f"{format_law(law)}, {law.method}, {law.n} points, {describe_window(law.until_step)}")
        )
        rows.append(
            (
                "ceiling",
                f"{format_number(law.ceiling)}, {c.level:.0%} {format_interval(c)} (b - a, the law at H = 0)",
            )
        )
    if held is not None:
        rows.append(
            (
                "held out",
                f"{held.n} later point{'s' if held.n > 1 else ''}: RMSE {format_number(held.rmse)} "
                f'(baseline "no change": {format_number(held.rmse_baseline)}); final error '
                f"{held.final_error:+.3f} (baseline {held.final_error_baseline:+.3f})",
            )
        )
    if early := describe_early(result):
        rows.append(("", early) if held is not None else ("held out", early))
    ahead = result.forecast
    rows += [("forecast", describe_forecast(one)) for one in ahead.at]
    hints = {f.hint for f in list_findings(result)}
    for error in ahead.failures:
        if law is not None or error is not result.refusal:
            rows.append(("forecast", error.what if error.hint in hints else describe_error(error)))
    if ahead.ceiling is not None:
        c = ahead.ceiling.interval
        there = f"{format_number(ahead.ceiling.median)}, {c.level:.0%} {format_interval(c)}"
        rows.append(("", f"at zero entropy: {there} ({describe_basis(ahead.ceiling)})"))
    model = "" if result.settings.model == "growth" else " (by growth)"
    rows.append(("verdict", f"law {result.verdict}; forecast {ahead.verdict}{model}; run {result.state}"))
    return rows


def describe_error(error: EntlawError) -> str:
    """An error in one line."""
    return error.what + (f" ({error.hint})" if error.hint else "")


def describe_finding(finding: Finding) -> str:
    """A finding in one line: what, and what to do."""
    return f"{finding.code}: {finding.what}" + (f"; {finding.hint}" if finding.hint else "")


def list_findings(result: Result) -> list[Finding]:
    """What the law's checks found, worst first, then what only the forecast's did."""
    own = {f.code for f in result.findings}
    return [*result.findings, *(f for f in result.forecast.findings if f.code not in own)]


def summary(result: Result) -> str:
    """The whole result as text.

    Parameters
    ----------
    result : Result

    Returns
    -------
    str
        Lines joined by newlines, without one at the end.
    """
    lines = [result.name, f"  {headline(result)}"]
    lines += [f"  {label:<10}{text}" for label, text in list_rows(result)]
    lines += [f"  {f.severity:<10}{describe_finding(f)}" for f in list_findings(result)]
    return "\n".join(lines)
