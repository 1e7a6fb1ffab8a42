"""How often are the verdicts about a run's entropy right? Precision and recall on labelled runs.

Labels, with a reason each, are in benchmarks/regime_labels.toml and were made before the code. They include the
runs whose logs may not be redistributed (../shared/data/runs), where those are there. Three rules (a collapse
must last to the end of the log; a format phase ends where the entropy last stands at its start; a run stands still only
when its fall is also small) were mended after a look at the errors, and the intervention "high-entropy-tokens" was
added, so these figures flatter them. The runs made for the paper's figures were labelled later. Rates have
Wilson 95 % intervals.
"Clear" leaves out the runs whose label somebody else could have set otherwise.

The runs of ../shared/data/library are labelled by a rule, :func:`label_by_rule`: the same definitions, on medians of
sixteen stretches, with an estimate of the noise of its own. It was written before the code was measured on them, and
was not changed afterwards.

Run: python benchmarks/regimes.py [--write docs/regimes.md] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import entlaw
from entlaw.errors import EntlawError
from entlaw.law.interventions import interventions
from entlaw.law.regimes import REGIMES, Regimes, regimes, wilson
from entlaw.points import Points

REPO = Path(__file__).resolve().parents[1]
LABELS = REPO / "benchmarks" / "regime_labels.toml"
SHARED = REPO.parent / "shared" / "data" / "runs"
LIBRARY = REPO.parent / "shared" / "data" / "library"
KINDS = (
    "entropy-bonus",
    "kl-penalty",
    "clip-higher",
    "covariance-control",
    "random-reward",
    "high-entropy-tokens",
)


INTRO = """Written by `python benchmarks/regimes.py --write docs/regimes.md`. The entropy's regime by the end of the
log, the format phase and interventions, as `entlaw.law.regimes` gives them, against labels.

All levels are relative to the run's own start, the median of the first five logged values, because models
start anywhere from 0.03 nats (trained on instructions) to 3:

- falling: still going down in the second half, and not collapsed
- flat: no direction in the second half (a noise's width or 5 % of change do not count)
- collapsed: the last quarter is below an eighth of the start
- turned-up: fell, then came back by a good part, or to a multiple of its low, but not above its start
- rising: above its start at the end
- exploded: after the lowest level, exp(H), the choices per token, is at 1.5 times those of the start or more

Two sets of runs are labelled. The first was labelled by eye before the code, by somebody who knew the
thresholds of `checks_entropy` ([benchmarks/regime_labels.toml](../benchmarks/regime_labels.toml)). Most of
its runs fall, and many of them are of one family, so the intervals of the rarer verdicts are wide. Three
rules (a collapse must last to the end of the log; a format phase ends where the entropy last stands at its
start; a run stands still only when its fall is also small) were mended after a look at the errors, and the
intervention "high-entropy-tokens" was added: the figures of "flat", "collapsed", "turned-up", "format phase"
and "high-entropy-tokens" flatter them. The 18 runs made for the paper's figures were labelled later, by the
same definitions and with the verdicts in view. When the definitions became relative to the start, the labels
that this changes were set again.

The second, runs of others that no rule was made on, is labelled by a rule in the benchmark: the definitions
above on medians of sixteen stretches, with their own estimate of the noise. It shows where two readings of one
definition agree, on logs of other trainers; it is no judgement by eye."""


@dataclass(frozen=True)
class Judged:
    """A labelled run and what the code says of it."""

    name: str
    label: dict[str, Any]
    said: Regimes
    from_config: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """Counts of one verdict."""

    verdict: str
    right: int
    said: int
    true: int

    def row(self) -> str:
        """A line of a Markdown table."""
        return f"| {self.verdict} | {share(self.right, self.said)} | {share(self.right, self.true)} |"


def share(k: int, n: int) -> str:
    """k of n with Wilson's 95 % interval."""
    if n == 0:
        return "-"
    i = wilson(k, n)
    return f"{k}/{n} = {k / n:.0%} [{i.lo:.0%}, {i.hi:.0%}]"


def labels() -> dict[str, dict[str, Any]]:
    """The labels by run."""
    return tomllib.loads(LABELS.read_text(encoding="utf-8"))


def _path(name: str) -> Path:
    return SHARED / name.removeprefix("shared/") if name.startswith("shared/") else REPO / name


def judge(wanted: Iterable[str] | None = None) -> list[Judged]:
    """Every labelled run that is here."""
    found = []
    for name, label in labels().items():
        path = _path(name)
        if (wanted is not None and name not in wanted) or not path.exists():
            continue
        run = entlaw.read(path)[0]
        config = entlaw.read(SHARED / label["config"])[0].config if "config" in label else run.config
        codes = tuple(sorted({f.code for f in interventions(config)}))
        found.append(Judged(name, label, regimes(run), codes))
    return found


# Stretches of a log whose medians the rule looks at, and the fewest values of one.
_STRETCHES, _LEAST_VALUES = 16, 3


def label_by_rule(h: np.ndarray) -> str:
    """Label an entropy log by the definitions of the page, from medians of stretches.

    Parameters
    ----------
    h : ndarray, shape (m,)
        Logged entropies in order of steps, nats/token.
    """
    parts = np.array_split(h, max(4, min(_STRETCHES, len(h) // _LEAST_VALUES)))
    level = np.array([np.median(part) for part in parts])
    start, low = float(np.median(h[:5])), float(level.min())
    # Of a median of n values, from the differences of neighbours, which a trend hardly changes; two of these make sure.
    sd = 1.4826 * float(np.median(np.abs(np.diff(h)))) / np.sqrt(2.0)
    error = 2.0 * 1.2533 * sd * np.sqrt(1.0 / len(parts[0]) + 1.0 / min(5, len(h)))
    quarter, half = level[-max(1, len(level) // 4) :], level[len(level) // 2 :]
    change = max(error, 0.05 * start)
    after = float(level[int(np.argmin(level)) :].max())
    if after >= start + np.log(1.5) and after - start > error:
        return "exploded"
    if quarter.max() < start / 8:
        return "collapsed"
    if float(np.median(quarter)) > start + change:
        return "rising"
    drop, back = max(start, float(level.max())) - low, after - low
    if drop > change and back > change and (back > 0.2 * drop or (back > start / 8 and after > 3 * low)):
        return "turned-up"
    middle, end = half[: len(half) // 2], half[len(half) // 2 :]
    fall = float(np.median(middle) - np.median(end))
    return "falling" if fall > max(0.05 * float(np.median(middle)), error / 2) else "flat"


def judge_library() -> list[Judged]:
    """Every run of the library that can be read, labelled by the rule."""
    found = []
    for path in sorted(LIBRARY.glob("*/*.csv")):
        try:
            run = entlaw.read(path)[0]
        except EntlawError:
            continue
        h = run.entropy_series()[1]
        name = path.relative_to(LIBRARY.parent).as_posix()
        label = {"entropy": label_by_rule(h), "reason": "by the rule", "format": "unknown"}
        found.append(Judged(name, label, regimes(run), ()))
    return found


def thinned(judged: list[Judged], every: int) -> tuple[int, int]:
    """How many regimes are right when only each ``every``-th logged entropy is seen, over all offsets; of how many."""
    right = total = 0
    for j in judged:
        h = Points.from_run(entlaw.read(_path(j.name))[0])
        for offset in range(every):
            seen = replace(h, log_step=h.log_step[offset::every], log_entropy=h.log_entropy[offset::every])
            right += regimes(seen).entropy == j.label["entropy"]
            total += 1
    return right, total


def _score(verdict: str, said: list[bool], true: list[bool]) -> Score:
    both = sum(a and b for a, b in zip(said, true, strict=True))
    return Score(verdict, both, sum(said), sum(true))


def entropy_scores(judged: list[Judged]) -> list[Score]:
    """One score for each regime that occurs."""
    out = []
    for regime in REGIMES:
        score = _score(
            regime, [j.said.entropy == regime for j in judged], [j.label["entropy"] == regime for j in judged]
        )
        if score.said or score.true:
            out.append(score)
    return out


def other_scores(judged: list[Judged]) -> list[Score]:
    """Format phase, entropy held (from the curve), and the interventions of the configuration."""
    known = [j for j in judged if j.label["format"] != "unknown"]
    rows = [
        _score(
            "format phase",
            [j.said.format is not None for j in known],
            [j.label["format"] != "none" for j in known],
        ),
        _score(
            "entropy held (curve)",
            [any(f.code == "entropy-held" for f in j.said.interventions) for j in judged],
            [bool(j.label.get("held")) for j in judged],
        ),
    ]
    config = [j for j in judged if "interventions" in j.label]
    rows += [
        _score(
            f"{k} (config)",
            [k in j.from_config for j in config],
            [k in j.label["interventions"] for j in config],
        )
        for k in KINDS
    ]
    return rows


def confusion(judged: list[Judged]) -> str:
    """Labels down, verdicts across."""
    lines = ["| label \\ verdict | " + " | ".join(REGIMES) + " |", "|---|" + "---:|" * len(REGIMES)]
    for label in REGIMES:
        row = [
            sum(j.label["entropy"] == label and j.said.entropy == said for j in judged) for said in REGIMES
        ]
        if any(row):
            lines.append(f"| {label} | " + " | ".join(str(n) if n else "." for n in row) + " |")
    return "\n".join(lines)


def wrong(judged: list[Judged]) -> list[str]:
    """One line for each verdict that is not the label."""
    lines = []
    for j in judged:
        s, label = j.said, j.label
        maybe = " (ambiguous)" if label.get("ambiguous") else ""
        if s.entropy != label["entropy"]:
            lines.append(
                f"- `{j.name}`: {s.entropy} since {s.since:g}, label {label['entropy']}{maybe}: {label['reason']}"
            )
        elif "since" in label and not label["since"][0] <= (s.since or 0) <= label["since"][1]:
            lines.append(f"- `{j.name}`: {s.entropy} since {s.since:g}, label {label['since']}")
        said, true = s.format is not None, label["format"] not in ("none", "unknown")
        if label["format"] != "unknown" and said != true:
            lines.append(f"- `{j.name}`: format {s.format}, label {label['format']}")
        held = any(f.code == "entropy-held" for f in s.interventions)
        if held != bool(label.get("held")):
            lines.append(
                f"- `{j.name}`: {'' if held else 'not '}held, label {'' if not held else 'not '}held"
            )
        if "interventions" in label and set(j.from_config) != set(label["interventions"]):
            lines.append(f"- `{j.name}`: config says {list(j.from_config)}, label {label['interventions']}")
    return lines


def library_page(judged: list[Judged]) -> str:
    """Tables of the runs that are labelled by the rule."""
    head = "| verdict | precision | recall |\n|---|---|---|"
    agree = sum(j.said.entropy == j.label["entropy"] for j in judged)
    differ = [
        f"- `{j.name}`: {j.said.entropy} since {j.said.since:g}, label {j.label['entropy']}"
        for j in judged
        if j.said.entropy != j.label["entropy"] and j.said.since is not None
    ]
    return "\n\n".join(
        [
            "## Runs of others, labelled by the rule",
            f"{len(judged)} runs; verdict and label agree on {share(agree, len(judged))}.",
            "\n".join([head, *(s.row() for s in entropy_scores(judged))]),
            confusion(judged),
            "Where verdict and label differ:",
            "\n".join(differ) or "nowhere",
        ]
    )


def page(judged: list[Judged]) -> str:
    """All tables of the runs that are labelled by eye, as Markdown."""
    clear = [j for j in judged if not j.label.get("ambiguous")]
    timed = [j for j in judged if "since" in j.label and j.said.entropy == j.label["entropy"]]
    inside = sum(j.label["since"][0] <= (j.said.since or 0.0) <= j.label["since"][1] for j in timed)
    head = "| verdict | precision | recall |\n|---|---|---|"
    found = [j for j in judged if j.said.format and isinstance(j.label["format"], list)]
    phases = "\n".join(
        f"- `{j.name}`: {j.said.format.start:g} to {j.said.format.end:g}, label {j.label['format']}"
        for j in found
        if j.said.format
    )
    return "\n\n".join(
        [
            f"{len(judged)} runs, {len(clear)} with a clear label.",
            "All runs:",
            "\n".join([head, *(s.row() for s in entropy_scores(judged))]),
            "Clear labels only:",
            "\n".join([head, *(s.row() for s in entropy_scores(clear))]),
            f"Start of the regime within the labelled steps: {share(inside, len(timed))}.",
            "Regimes right when only each k-th logged entropy is seen (all offsets): "
            + ", ".join(
                f"k = {k}: {a}/{n} = {a / n:.0%}" for k in (1, 2, 4, 8) for a, n in [thinned(judged, k)]
            )
            + ".",
            "Other verdicts:",
            "\n".join([head, *(s.row() for s in other_scores(judged))]),
            "Format phases found:",
            phases or "none",
            "Confusion, all runs:",
            confusion(judged),
            "Where verdict and label differ:",
            "\n".join(wrong(judged)) or "nowhere",
        ]
    )


def main() -> None:
    """Print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    judged = judge()
    text = f"## Runs labelled by eye\n\n{page(judged)}\n\n{library_page(judge_library())}"
    print(text)
    if args.write:
        args.write.write_text(
            f"# Regimes: how often the verdicts are right\n\n{INTRO}\n\n{text}\n", encoding="utf-8"
        )
    if args.json:
        scores = entropy_scores(judged) + other_scores(judged)
        args.json.write_text(json.dumps([asdict(s) for s in scores], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
