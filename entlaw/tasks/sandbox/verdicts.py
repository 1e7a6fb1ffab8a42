"""From what the monitors tell of the cells to a verdict."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any

from entlaw.tasks.sandbox.limits import Limits, Verdict


def lines(text: str) -> list[str]:
    """Text as compared: without blanks at line ends and empty lines at the end."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def exit_code(facts: dict[str, Any]) -> int | None:
    """As the shell gives it."""
    if "status" not in facts:
        return None
    code = os.waitstatus_to_exitcode(facts["status"])
    return 128 - code if code < 0 else code


def judge(facts: dict[str, Any], limits: Limits) -> tuple[Verdict, str]:
    """Verdict and reason of one cell, its output not regarded."""
    why = facts["why"]
    if why and why != "leash":
        return why, f"the limit on {'time' if why == 'timeout' else why} was reached"
    code = exit_code(facts)
    if code is None:
        return "killed", "it was ended from outside"
    if code == 0:
        return "exited", ""
    last = facts["err"].rstrip().rpartition("\n")[2][:300]
    spent = code == 128 + signal.SIGKILL and facts.get("cpu_s", 0.0) >= 0.9 * limits.cpu_s
    if spent or code == 128 + signal.SIGXCPU:
        return "timeout", "the limit on CPU time was reached"
    if code > 128:
        with contextlib.suppress(ValueError):
            return "killed", f"ended by {signal.Signals(code - 128).name}"
    if last.startswith("MemoryError"):
        return "memory", "the limit on memory was reached"
    return "failed", last or f"exit code {code}"


def read_report(facts: dict[str, Any]) -> dict[str, Any]:
    """What the tests' cell reported; an empty report if it did not come to that."""
    empty = {"loaded": False, "finished": False, "results": []}
    return json.loads(facts["report"]) if facts["report"] and not facts["why"] else empty


def judge_check(
    facts: dict[str, Any], facts_tests: dict[str, Any], report: dict[str, Any], limits: Limits
) -> tuple[Verdict, str]:
    """Verdict and reason of a check, from both cells."""
    verdict, note = judge(facts, limits)
    ended_by_us = facts["why"] == "leash" and "status" not in facts
    if verdict not in ("exited", "failed") and not ended_by_us:
        return verdict, note
    if exit_code(facts_tests) == 0 and report["finished"]:
        failed = [why for _, right, why in report["results"] if not right]
        if not failed and report["results"]:
            return "passed", ""
        note = failed[0] if failed else "there is no test"
    else:
        verdict, note = judge(facts_tests, limits)
        if verdict == "timeout":
            return verdict, "the tests ran out of time"
        note = report.get("error") or note or "the tests did not run"
    return ("memory" if note.startswith("MemoryError") else "failed"), note
