"""``entlaw doctor``: what a log holds, what was chosen from it and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from entlaw.cli.options import JsonFlag, ReadFlags, Sources
from entlaw.cli.output import console, print_findings, print_json, track
from entlaw.limits import PAPER_WINDOW

if TYPE_CHECKING:
    from entlaw.law.regimes import Regimes
    from entlaw.runs.reader import Reading
    from entlaw.runs.run import Run


def doctor(
    source: Sources,
    /,
    *,
    read: ReadFlags = ReadFlags(),  # noqa: B008 - frozen
    keys: Annotated[bool, Parameter(negative="", help="List every key of the log.")] = False,
    json: JsonFlag = False,
) -> int:
    """Show what was found in a log, which keys were chosen and why, and what needs attention.

    Formats read, by content: verl console logs and JSONL; TRL console logs and trainer_state.json; Jupyter notebooks
    holding either; tinker-cookbook and other JSON lines; JSON lists; W&B offline .wandb files; TensorBoard event
    files; trackio databases; CSV, TSV and Parquet.
    """
    from entlaw.runs.reader import scan

    readings = list(track(scan(source, read.selection()), "reading"))
    reports = [report(r) for r in readings]
    if json:
        print_json({"schema": "entlaw.doctor/1", "runs": reports})
    else:
        for reading, told in zip(readings, reports, strict=True):
            _show(reading, told, keys)
    if any(r.run for r in readings):
        return 0
    return next((r.error.exit_code for r in readings if r.error), 3)


def report(reading: Reading) -> dict[str, Any]:
    """Everything the doctor knows about a run, as plain data."""
    from entlaw.law.interventions import interventions

    raw, run = reading.raw, reading.run
    told: dict[str, Any] = {"name": reading.name, "path": reading.path}
    if raw is not None:
        told |= {
            "format": raw.provenance.format,
            "framework": (run or raw).provenance.framework,
            "records": len(raw.rows),
            "keys": [str(c) for c in raw.rows.columns],
            "config_keys": len(raw.config),
            "interventions": [i.as_dict() for i in interventions(raw.config)],
            "reader": dict(raw.provenance.details),
        }
    if reading.error is not None:
        findings = raw.findings if raw else ()
        return told | {"error": reading.error.as_dict(), "findings": [f.as_dict() for f in findings]}
    assert run is not None
    step, entropy = run.entropy_series()
    scores = run.score_series().dropna()
    import numpy as np

    from entlaw.law.regimes import regimes

    judged = regimes(run)
    # Without it the reader would not know why no regime is told.
    turned = [f for f in judged.findings if f.code == "entropy-negative"]

    gaps = np.diff(step)
    usual = float(np.median(gaps)) if len(gaps) else float("nan")
    told |= {
        "choices": [c.__dict__ for c in run.choices],
        "entropy": run.entropy.__dict__,
        "entropy_log": None if run.entropy_log is None else run.entropy_log.__dict__,
        "steps": {"first": run.metrics.index.min(), "last": run.metrics.index.max(), "n": len(run.metrics)},
        "entropy_logged": {
            "key": (run.entropy_log or run.entropy).key,
            "n": len(entropy),
            "first": entropy[0],
            "last": entropy[-1],
            "min": entropy.min(),
            "max": entropy.max(),
            "every": usual,
            "gaps": int((gaps > 1.5 * usual).sum()) if len(gaps) else 0,
        },
        "performance": {
            "key": run.performance_key,
            "kind": run.performance_kind,
            "n": len(scores),
            "unit": _unit(run),
            "first": float(scores.iloc[0]) if len(scores) else None,
            "last": float(scores.iloc[-1]) if len(scores) else None,
            "max": float(scores.max()) if len(scores) else None,
        },
        "pairs": len(run.points),
        "pairs_by_step_36": int((run.points["step"] <= PAPER_WINDOW).sum()),
        "align": run.align,
        "regime": _regime(run, judged),
        "findings": [f.as_dict() for f in (*run.findings, *turned)],
    }
    return told


def _unit(run: Run) -> str:
    if run.performance_offset:
        low = run.performance_offset
        return f"{low:g} to {low + 1 / run.performance_scale:g}, as told"
    return "percent" if run.performance_scale == 0.01 else "as logged"


def _regime(run: Run, found: Regimes) -> dict[str, Any]:
    """What the entropy does by the end of the log, and how often such a verdict was right on labelled runs."""
    from dataclasses import asdict

    from entlaw.law.regimes import MEASURED

    key = None if run.entropy_log is None else run.entropy_log.key
    right, said, true = MEASURED.get(found.entropy, (0, 0, 0))
    phase = asdict(found.format) if found.format is not None else None
    held = next((f.what for f in found.interventions if f.code == "entropy-held"), None)
    return {
        "entropy": found.entropy,
        "key": key,
        "since": found.since,
        "right": right,
        "said": said,
        "true": true,
        "format_phase": phase,
        "held": held,
    }


def _describe_regime(regime: dict[str, Any]) -> list[str]:
    since = f" since step {regime['since']:g}" if regime["since"] is not None else ""
    said, right, true = regime["said"], regime["right"], regime["true"]
    record = (
        f"  (on labelled runs right {right} of {said} times, and given in {right} of {true} such runs)"
        if said
        else ""
    )
    key = f" ({regime['key']})" if regime["key"] is not None else ""
    lines = [f"entropy{key} {regime['entropy']}{since}{record}"]
    if (phase := regime["format_phase"]) is not None:
        how = (
            "as its format score tells"
            if phase["measured"]
            else "inferred: scores grew before the entropy fell"
        )
        lines.append(f"format learned in steps {phase['start']:g} to {phase['end']:g} ({how})")
    if regime["held"]:
        lines.append(regime["held"])
    return lines


def _show(reading: Reading, told: dict[str, Any], keys: bool) -> None:
    from rich.text import Text

    out = console()

    def line(label: str, text: str) -> None:
        out.print(Text.assemble((f"  {label:<13}", "bold"), text))

    out.print(Text(reading.name, style="bold underline"))
    line("file", reading.path)
    if reading.raw is not None:
        known = told["config_keys"]
        line(
            "format",
            f"{told['format']}, {_writer(reading)}, {told['records']} records, "
            f"{len(told['keys'])} keys, {known or 'no'} config entries",
        )
    if reading.error is not None:
        line("unreadable", reading.error.what)
        for label, text in (("why", reading.error.why), ("next", reading.error.hint)):
            if text:
                line(label, text)
    else:
        h, r, e = told["entropy_logged"], told["performance"], told["entropy"]
        for choice in told["choices"]:
            others = f"  (also: {', '.join(choice['alternatives'][:4])})" if choice["alternatives"] else ""
            line(choice["what"], f"{choice['chosen']}  <- {choice['why']}{others}")
        line("steps", f"{told['steps']['first']:g} to {told['steps']['last']:g}, {told['steps']['n']} logged")
        gaps = f", {h['gaps']} gaps" if h["gaps"] else ""
        log = f"{h['key']}: " if told["entropy_log"] is not None else ""
        line(
            "H",
            f"{log}{h['first']:.4g} -> {h['last']:.4g} (min {h['min']:.4g}, max {h['max']:.4g}), "
            f"{h['n']} values, every {h['every']:g} steps{gaps}",
        )
        note = f"; {e['note']}" if e["note"] else ""
        line(
            "H is",
            (f"{e['key']}: " if log else "")
            + f"{e['estimator']}, {e['unit']}, {e['averaging']}, temperature {e['temperature']}, "
            f"{e['when']}, of the {e['of']}{note}".replace(", of the unknown", ""),
        )
        if r["n"]:
            line(
                "R",
                f"{r['first']:.4g} -> {r['last']:.4g} (max {r['max']:.4g}), {r['n']} evaluations "
                f"({r['kind']}), unit: {r['unit']}",
            )
        for text in _describe_regime(told["regime"]):
            line("regime", text)
        line(
            "pairs", f"{told['pairs']} (entropy, score) pairs, {told['pairs_by_step_36']} of them by step 36"
        )
    for found in told.get("interventions", []):
        line("intervention", found["what"])
    from entlaw.findings import Finding

    print_findings([Finding(**f) for f in told.get("findings", [])])
    if keys and reading.raw is not None:
        line("keys", ", ".join(told["keys"]))
    out.print()


def _writer(reading: Reading) -> str:
    """Who wrote the log: what the file itself shows, or else whose spelling its keys have."""
    said = reading.raw.provenance.framework if reading.raw is not None else "unknown"
    if said not in ("unknown", ""):
        return f"written by {said}"
    spelled = reading.run.provenance.framework if reading.run is not None else "unknown"
    return "keys of no known trainer" if spelled == "unknown" else f"keys as {spelled} spells them"
