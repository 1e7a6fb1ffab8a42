"""The verdicts of a report as sentences: of one run, and of all together.

Plain text in, plain text out; who shows it escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from entlaw.findings import Finding
from entlaw.report.html_entry import Entry, Use
from entlaw.watch.verdict import MEANINGFUL_GAIN

# What a reader should take from the one word that `entlaw fit` gives.
USE_WORDS: dict[Use, str] = {
    "no objection": "No objection found",
    "with care": "Usable with care",
    "forced": "Forced",
    "refused": "No answer given",
    "unusable": "Cannot be read",
}
AHEAD_WORDS = {
    "keep-going": "likely to gain more",
    "saturating": "saturating",
    "cannot-tell": "cannot tell",
    "does-not-apply": "the law does not apply",
}
# What the codes of findings mean, for who does not know the method; the finding itself is shown below it.
_WORDS: dict[str, str] = {
    "ceiling-not-identified": "these points do not pin the ceiling down",
    "ceiling-outside": "the line runs to a score that is not possible, so it must bend before",
    "clip-higher": "a wider upper clip (clip-higher) acts on the entropy, and the law was shown without such control",
    "covariance-control": "Clip-Cov or KL-Cov acts on the entropy, which is made to break the law",
    "curvature": "the points bend away from the law",
    "entropy-bonus": "an entropy bonus acts on the entropy, and the law was shown without such control",
    "entropy-constant": "the entropy does not move, so there is nothing to fit",
    "entropy-exploded": "the entropy has exploded",
    "entropy-high": "the entropy is oddly high",
    "entropy-impossible": "some logged entropies are not possible",
    "entropy-negative": "some logged entropies are negative, which no entropy is",
    "entropy-not-falling": "the entropy does not fall by more than its own noise",
    "entropy-not-per-token": "the logged entropy is not one per token",
    "entropy-range-small": "the entropy has covered only a small part of the way to zero, so the ceiling is far away",
    "entropy-rising": "the entropy rises",
    "entropy-rose-first": "the entropy rose before it fell",
    "entropy-turned-up": "the entropy fell and came back up",
    "few-evaluations": "there are few evaluations, so the noise is hardly known",
    "high-entropy-tokens": "only high-entropy tokens were trained on, which changes how entropy is spent",
    "kl-penalty": "a penalty toward a reference policy holds the entropy",
    "one-point-carries-fit": "a single evaluation decides much of the answer",
    "performance-constant": "the score never changes",
    "performance-mixed-units": "percent and fractions are mixed in the score",
    "performance-not-a-score": "the performance is no score between 0 and 1",
    "points-above-ceiling": "scores were measured above this ceiling, by more than noise",
    "random-reward": "the reward is random, so entropy says nothing about the score",
    "residuals-autocorrelated": "neighbouring evaluations err together",
    "resumed-after-collapse": "the entropy was spent before this log begins",
    "slope-not-positive": "the score does not rise as the entropy falls",
    "slope-uncertain": "these points hardly show that the score follows the entropy at all",
    "starts-late": "the log starts late in the run",
    "too-few-evaluations": "there are too few evaluations to fit anything",
}
# Below this a sign test is called evidence; it takes the runs to be independent, which seeds of one family are not.
SURE = 0.05


@dataclass(frozen=True)
class Told:
    """A verdict in words.

    Attributes
    ----------
    headline : str
        One sentence.
    details : tuple of str
        Further sentences, most important first.
    """

    headline: str
    details: tuple[str, ...]


def number(value: float | None, digits: int = 3) -> str:
    """A number for people: fixed decimals, no minus zero, words for what is none."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unbounded"
    if abs(value) >= 1e5:
        return f"{value:.3g}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def interval(lo: float, hi: float) -> str:
    """An interval as "0.353 to 0.466"."""
    return f"{number(lo)} to {number(hi)}"


def sentence(text: str) -> str:
    """A finding's fragment as a sentence of its own."""
    text = text.strip()
    if not text:
        return ""
    first, _, rest = text.partition(" ")
    # A key ("trainer.lr") and a symbol ("a = 0.1") keep their spelling.
    if first.rstrip(",;:").isalpha() and not rest.startswith("="):
        text = text[0].upper() + text[1:]
    return text + ("" if text[-1] in ".!?" else ".")


def plainly(finding: Finding) -> str:
    """The finding as the end of a sentence, without its figure."""
    return _WORDS.get(finding.code) or finding.what.strip().rstrip(".")


def of_run(e: Entry) -> Told:
    """The verdict on one run."""
    if e.error is not None:
        return _without_answer(e)
    assert e.fit is not None
    f, c = e.fit, e.fit.ceiling_interval
    where = "all points" if f.until_step is None else f"{f.n} points up to step {f.until_step:g}"
    headline = f"Ceiling {number(f.ceiling)} ({c.level:.0%} interval {interval(c.lo, c.hi)}), from {where}"
    found = [x for x in e.findings if x.severity != "info"]
    if e.use == "no objection":
        headline += ". The checks found nothing against it, which is not proof"
    elif found:
        reason = "It is shown only because that was asked for" if e.use == "forced" else "Read it with care"
        headline += f". {reason}: {plainly(found[0])}"
    return Told(headline + ".", tuple(x for x in (*_later(e), *_ahead(e)) if x))


def _without_answer(e: Entry) -> Told:
    assert e.error is not None
    lead = "No ceiling is given" if e.use == "refused" else "This run cannot be used"
    refused = next((x for x in e.findings if x.severity == "error"), None) if e.use == "refused" else None
    if refused is not None:
        headline, details = f"{lead}: {plainly(refused)}.", [sentence(refused.what), sentence(refused.why)]
    else:
        headline, details = f"{lead}: {e.error.what.strip().rstrip('.')}.", [sentence(e.error.why or "")]
    details += _ahead(e)
    if e.error.hint:
        details.append("What would change that: " + e.error.hint.strip().rstrip(".") + ".")
    return Told(headline, tuple(x for x in details if x))


def _later(e: Entry) -> list[str]:
    """How the fit did on the points it had not seen."""
    if e.holdout is None or e.fit is None or e.last is None:
        return []
    h, (step, score) = e.holdout, e.last
    better = "closer than" if h.rmse < h.rmse_last_value else "no closer than"
    points = "1 later point" if h.n == 1 else f"{h.n} later points"
    said = [
        f"On {points} the law, given the entropy that was reached, errs by {number(h.rmse)} (RMSE), {better} "
        f"“the last value stays” ({number(h.rmse_last_value)})."
    ]
    if e.passed:
        said.append(
            f"The run ended at {number(score)} (step {step:g}), higher than a measurement at the ceiling could be by "
            "noise: it went on growing where the law said that it could not."
        )
    if e.early is not None:
        i = e.early.interval
        held = "inside" if i.lo <= score <= i.hi else "outside"
        said.append(
            f"The forecast for step {step:g} made at step {e.fit.until_step:g} was {number(e.early.performance)} "
            f"({interval(i.lo, i.hi)}); measured was {number(score)}, {held} the interval."
        )
    return said


def _ahead(e: Entry) -> list[str]:
    """What is to come, as seen from the last point."""
    f = e.future
    if f is None or e.last is None:
        return []
    step = e.last[0]
    until = f"until its planned end at step {f.end:g}" if f.end is not None else "over as long a time again"
    chance = "" if f.probability is None else f" (P = {f.probability:.2f})"
    gain = f"more than {MEANINGFUL_GAIN:g}"
    done = e.planned is not None and f.end is None
    seen = f"Seen from step {step:g}" + (", the run being over by its plan," if done else ",")
    if f.verdict == "keep-going":
        said = [f"{seen} it is likely to gain {gain} {until}{chance}."]
    elif f.verdict == "saturating":
        said = [f"{seen} it is saturating: unlikely to gain {gain} {until}{chance}."]
    elif f.verdict == "does-not-apply":
        said = [f"{seen} nothing is forecast, because the law does not describe this run: {f.why}."]
    elif f.probability is None:
        said = [f"{seen} it cannot be told what is to come: {f.why}."]
    else:
        said = [f"{seen} it cannot be told whether it will gain {gain} {until}{chance}."]
    if f.final is not None:
        i = f.final.interval
        said.append(
            f"Forecast for step {f.final.target:g}: {number(f.final.performance)} ({i.level:.0%} interval "
            f"{interval(i.lo, i.hi)})."
        )
    if f.ceiling is not None and e.answered and f.verdict != "does-not-apply":
        c, i = f.ceiling
        said.append(
            f"With the growth that the law leaves out, spending all entropy would bring it to {number(c)} "
            f"({i.level:.0%} interval {interval(i.lo, i.hi)})."
        )
    return said


def overall(entries: Sequence[Entry]) -> Told:
    """The verdict on all runs together; of a single run its own."""
    if len(entries) == 1:
        return of_run(entries[0])
    answered = [e for e in entries if e.answered]
    if not answered:
        return Told(f"None of these {len(entries)} runs gets an answer: {_counts(entries)}.", ())
    which = "All" if len(answered) == len(entries) else f"{len(answered)} of"
    headline = f"{which} {len(entries)} runs get a ceiling: {_counts(answered)}."
    rest = _counts([e for e in entries if not e.answered])
    if rest:
        headline = f"{headline[:-1]}; of the others {rest}."
    return Told(headline, tuple(x for x in (_passed(answered), _rivalry(answered), _held(answered),
                                            _directions(entries)) if x))  # fmt: skip


def _counts(entries: Sequence[Entry]) -> str:
    counts = [(use, sum(e.use == use for e in entries)) for use in USE_WORDS]
    return ", ".join(f"{n} {_COUNTED[use]}" for use, n in counts if n)


_COUNTED: dict[Use, str] = {
    "no objection": "without objection",
    "with care": "to be read with care",
    "forced": "forced",
    "refused": "refused",
    "unusable": "unreadable",
}


def _passed(answered: Sequence[Entry]) -> str:
    """How many runs went beyond what the law allowed them."""
    later = [e for e in answered if e.holdout is not None]
    above = sum(e.passed for e in later)
    if not later:
        return ""
    if not above:
        return f"None of the {len(later)} runs with later points ended above its ceiling by more than noise."
    text = f"{above} of {len(later)} runs with later points ended above their ceiling by more than noise: "
    if 2 * above > len(later):
        return text + "on this set the ceilings are too low, and should not be quoted."
    return text + "on those the law’s ceiling was too low."


def _rivalry(answered: Sequence[Entry]) -> str:
    """The law against "the last value stays", by a sign test."""
    scored = [e.holdout for e in answered if e.holdout is not None]
    scored = [h for h in scored if h.rmse != h.rmse_last_value]
    if not scored:
        return ""
    wins, n = sum(h.rmse < h.rmse_last_value for h in scored), len(scored)
    p = sign_test(wins, n)
    text = f"Given the entropy that was reached, the law errs less than “the last value stays” on {wins} of {n} runs"
    if p >= SURE:
        return f"{text} (sign test p = {_p(p)}): from these runs it cannot be told which is better."
    which = (
        "the law is the better forecast here"
        if 2 * wins > n
        else "the last value is the better forecast here"
    )
    return f"{text} (sign test p = {_p(p)}): {which}, as far as the runs are independent of each other."


def _held(answered: Sequence[Entry]) -> str:
    """How many early forecasts held the last score."""
    known = [(e.early.interval, e.last[1]) for e in answered if e.early is not None and e.last is not None]
    if not known:
        return ""
    held, level = sum(i.lo <= r <= i.hi for i, r in known), known[0][0].level
    return (
        f"The step-by-step forecast, which allows for growth that the law leaves out, held the last measured score in "
        f"its {level:.0%} interval for {held} of {len(known)} runs."
    )


def _directions(entries: Sequence[Entry]) -> str:
    """What is to come, counted."""
    verdicts: list[str] = [e.future.verdict for e in entries if e.future is not None]
    counted = [f"{verdicts.count(v)} {_ONWARD[v]}" for v in _ONWARD if verdicts.count(v)]
    return f"Were the runs to go on from their last point: {', '.join(counted)}." if counted else ""


_ONWARD = {
    "keep-going": f"likely to gain more than {MEANINGFUL_GAIN:g}",
    "saturating": "saturating",
    "cannot-tell": "cannot be told",
    "does-not-apply": "not described by the law",
}


def _p(p: float) -> str:
    return f"{p:.2f}" if p >= 0.005 else f"{p:.1g}"


def sign_test(wins: int, n: int) -> float:
    """Two-sided exact p of ``wins`` of ``n`` under even odds.

    Parameters
    ----------
    wins, n : int

    Returns
    -------
    float
    """
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(max(wins, n - wins), n + 1))
    return min(1.0, 2.0 * tail / 2**n)
