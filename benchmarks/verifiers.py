r"""Do reference answers verify as right, and broken ones as wrong? On every mathematics set that a folder holds.

Right, per set:
  solution   the published solution as it stands is the response (where it marks its answer: a box or ####)
  boxed      the published answer in a box, after a few lines with other numbers in them
  respelled  the same answer written differently (\dfrac, decimals, thousands, reordered sets, units, x = ...); all must
             be right
  algebra    math-verify alone on the answer against itself, without our text and number comparison: how much of a set
             would be lost if spelling were the only thing we understood
Wrong: answers broken in one place (digit, sign, inverted fraction, exponent, unit, list, bracket, variable).

Run: python benchmarks/verifiers.py FOLDER [--corrupted 1000] [--seed 0] [--workers 1] [--list 20]
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from entlaw.errors import DataError
from entlaw.tasks import datasets, manifest
from entlaw.tasks.answers import last_box, last_hashes, plain
from entlaw.tasks.math import MathVerdict, MathVerifier
from entlaw.tasks.pool import WorkerPool
from entlaw.tasks.quantities import items, quantity

BEFORE = "Let $x = 3$. Then 2 + 2 = 4, and so on for 17 lines.\n\nStep 2: 12/5 of it.\n"


def boxed(answer: str) -> str:
    """A response that ends on this answer."""
    return f"{BEFORE}Therefore the answer is $\\boxed{{{answer}}}$."


# Respelling: another text, the same answer -------------------------------------------------------


def respellings(gold: str) -> dict[str, str]:
    """Other ways of writing an answer, by kind; each is exactly equal to it by the conventions of these sets."""
    found: dict[str, str] = {}
    if "\\frac" in gold:
        found["dfrac"] = gold.replace("\\frac", "\\dfrac")
    number = quantity(gold)
    if number is not None and re.fullmatch(r"-?\d+", gold.strip()):
        n = int(gold)
        found |= {"point zero": f"{n}.0", "as fraction": f"\\frac{{{2 * n}}}{{2}}", "with name": f"x = {n}"}
        found |= {"thing counted": f"{n} \\text{{ items}}", "in dollars of LaTeX": f"${n}$"}
        if abs(n) >= 1000:
            found["thousands"] = f"{n:,}"
    elif number is not None and (match := re.fullmatch(r"\\frac\{(\d+)\}\{(\d+)\}", gold.strip())):
        top, bottom = int(match[1]), int(match[2])
        found |= {"slash": f"{top}/{bottom}", "not reduced": f"\\frac{{{3 * top}}}{{{3 * bottom}}}"}
        if 10**6 % bottom == 0:
            found["decimal"] = format(top / bottom, ".6f")
    parts = items(gold)
    if parts is not None and not parts.brackets and len(parts.parts) > 1:
        found["reversed set"] = ", ".join(reversed(parts.parts))
        found["set braces"] = "\\{" + ", ".join(parts.parts) + "\\}"
    if parts is not None and parts.brackets == "()":
        found["left right"] = "\\left(" + ",\\; ".join(parts.parts) + "\\right)"
    if (
        re.fullmatch(r"[A-Za-z0-9+*^{}() -]+", gold)
        and re.search(r"[a-z]", gold)
        and not re.search(r"[A-Za-z]{2}", gold)
    ):
        found["plus nought"] = f"{gold} + 0"
    return {kind: text for kind, text in found.items() if text != gold}


# Corruption: nearly the same text, another answer ------------------------------------------------

Corrupt = Callable[[str, np.random.Generator], str | None]


def digit(gold: str, rng: np.random.Generator) -> str | None:
    """One digit changed; not a leading one into a nought, and not that of a root or base without meaning."""
    places = [m.start() for m in re.finditer(r"\d", gold)]
    if not places:
        return None
    i = int(rng.choice(places))
    new = str((int(gold[i]) + int(rng.integers(1, 9))) % 10 or 7)
    return None if new == gold[i] else gold[:i] + new + gold[i + 1 :]


def sign(gold: str, rng: np.random.Generator) -> str | None:
    """The whole answer, or a coordinate of it, negated."""
    parts = items(gold)
    if parts is not None:
        i = int(rng.integers(len(parts.parts)))
        flipped = sign(parts.parts[i], rng)
        return None if flipped is None else _rebuilt(gold, [*parts.parts[:i], flipped, *parts.parts[i + 1 :]])
    bare = plain(gold)
    number = quantity(gold)
    if number is not None and number.value == 0:
        return None
    if number is None and not re.fullmatch(r"-?\s*(?:\\frac|\\sqrt|\d)[^=<>,]*", bare):
        return None
    if re.search(r"\\pm|\\text", bare) or (number is None and re.search(r"(?<=[^{^(\s])\s*[-+]", bare[1:])):
        return None  # a sum negated in its first term alone is another corruption, and "\pm" is none
    return bare[1:].strip() if bare.startswith("-") else f"-{bare}"


def inverted(gold: str, _: np.random.Generator) -> str | None:
    """The first fraction turned over."""
    match = re.search(r"\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}", gold)
    if match and match[1].strip() not in (match[2].strip(), "-" + match[2].strip()):
        return f"{gold[: match.start()]}\\frac{{{match[2]}}}{{{match[1]}}}{gold[match.end() :]}"
    match = re.fullmatch(r"(-?)(\d+)/(\d+)", gold.strip())
    return f"{match[1]}{match[3]}/{match[2]}" if match and match[2] != match[3] and match[2] != "0" else None


def point(gold: str, _: np.random.Generator) -> str | None:
    """The decimal point one place to the right, or a nought more."""
    if not re.fullmatch(r"-?\d+(?:\.\d+)?", gold.strip()) or not float(gold):
        return None
    number = quantity(gold)
    assert number is not None
    return f"{gold}0" if "." not in gold else format(float(gold) * 10, ".12g")


def power(gold: str, rng: np.random.Generator) -> str | None:
    """One exponent raised by one, also that of 1.2e5."""
    places = [
        *re.finditer(r"(?<=\^)\{?(\d+)\}?(?=[^.\d]|$)", gold),
        *re.finditer(r"(?<=\de)()(-?\d+)$", gold),
    ]
    if not places or re.match(r"^\s*[01]\^", gold):
        return None
    m = places[int(rng.integers(len(places)))]
    old = m.group(m.lastindex or 1)
    new = str(int(old) + 1)
    return (
        gold[: m.start()]
        + (new if "e" in gold[m.start() - 1 : m.start()] else f"{{{new}}}")
        + gold[m.end() :]
    )


def unit(gold: str, _: np.random.Generator) -> str | None:
    """Another unit: a percentage of dollars, metres for centimetres. Leaving a unit out is no error in these sets."""
    number = quantity(gold)
    if number is None or not number.value:
        return None
    other = {
        "": None,
        "%": "\\text{ dollars}",
        "degree": "\\text{ radians}",
        "cm": "\\text{ m}",
        "m": "\\text{ cm}",
    }.get(number.unit, "\\text{ kg}" if number.unit != "kg" else "\\text{ g}")
    digits = re.match(r"[-\d.,/{}\\frac ]+", plain(gold))
    return None if other is None or digits is None else digits.group().strip() + other


def dropped(gold: str, rng: np.random.Generator) -> str | None:
    """One of several answers left out."""
    parts = items(gold)
    if parts is None or len(set(parts.parts)) < 2:
        return None
    i = int(rng.integers(len(parts.parts)))
    return _rebuilt(gold, [p for k, p in enumerate(parts.parts) if k != i])


def added(gold: str, rng: np.random.Generator) -> str | None:
    """One answer too many: guessing all."""
    parts = items(gold)
    more = str(int(rng.integers(2000, 9000)))
    if parts is not None:
        return _rebuilt(gold, [*parts.parts, more])
    return f"{gold}, {more}" if quantity(gold) is not None else None


def swapped(gold: str, _: np.random.Generator) -> str | None:
    """The first two of an ordered tuple or interval exchanged."""
    parts = items(gold)
    if parts is None or not parts.brackets or plain(parts.parts[0]) == plain(parts.parts[1]):
        return None
    return _rebuilt(gold, [parts.parts[1], parts.parts[0], *parts.parts[2:]])


def bracket(gold: str, _: np.random.Generator) -> str | None:
    """One end of an interval opened or closed."""
    bare = plain(gold)
    parts = items(gold)
    if parts is None or parts.brackets not in ("[]", "(]", "[)") or len(parts.parts) != 2:
        return None
    return ("(" if bare[0] == "[" else "[") + bare[1:]


def variable(gold: str, _: np.random.Generator) -> str | None:
    """Another letter for the first variable of an expression."""
    match = re.search(r"(?<![\\A-Za-z{])([a-hj-z])(?![A-Za-z])", gold)
    if (
        match is None
        or items(gold) is not None
        or "\\text" in gold
        or re.match(r"\s*\w+(?:\(\w\))?\s*=", gold)
    ):
        return None
    new = "q" if match[1] != "q" else "u"
    if len(set(re.findall(r"(?<![\\A-Za-z])([a-z])(?![A-Za-z])", gold))) == 1 and len(gold.strip()) == 1:
        return new
    return gold[: match.start(1)] + new + gold[match.end(1) :]


def _rebuilt(gold: str, parts: list[str]) -> str:
    parsed = items(gold)
    assert parsed is not None
    left, right = (parsed.brackets[0], parsed.brackets[1]) if parsed.brackets else ("", "")
    return left + ", ".join(parts) + right


CORRUPTIONS: dict[str, Corrupt] = {
    f.__name__: f
    for f in (digit, sign, inverted, point, power, unit, dropped, added, swapped, bracket, variable)
}


def corrupted(golds: list[str], n: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """(kind, reference, corrupted) of up to n different pairs, kinds in turn as long as they apply."""
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, str], str] = {}
    for _ in range(4 * n):
        if len(found) >= n:
            break
        gold = golds[int(rng.integers(len(golds)))]
        kinds = list(CORRUPTIONS)
        kind = kinds[int(rng.integers(len(kinds)))]
        broken = CORRUPTIONS[kind](gold, rng)
        if broken is None:
            kind, broken = "digit", digit(gold, rng)
        if broken is not None and plain(broken) != plain(gold):
            found.setdefault((gold, broken), kind)
    return [(kind, gold, broken) for (gold, broken), kind in found.items()]


# Running -----------------------------------------------------------------------------------------


def rate(verdicts: list[MathVerdict]) -> str:
    """Share of right ones with its count."""
    if not verdicts:
        return "-"
    right = sum(v.right for v in verdicts)
    return f"{right}/{len(verdicts)} {100 * right / len(verdicts):.2f}%"


def shorten(text: str) -> str:
    """One line, not too long."""
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:60] + " ... " + text[-25:]


def marked(spec: manifest.DataSet, solution: str) -> bool:
    """Whether a solution marks its final answer; one that ends in prose is no model response."""
    return last_box(solution) is not None or (spec.where == "any" and last_hashes(solution) is not None)


def measure(
    name: str, folder: Path, verifier: MathVerifier, algebra: WorkerPool, n: int, show: int, seed: int = 0
) -> list[str] | None:
    """One set: its row of the table; None if the folder does not hold it."""
    spec = manifest.get(name)
    try:
        loaded = datasets.load(spec, folder)
    except DataError:
        return None
    start = time.perf_counter()
    golds = [item.answer for item in loaded.items]
    row, failures = [name, str(len(golds)), str(len(loaded.unusable))], []

    def check(kind: str, responses: list[str], answers: list[str], labels: list[str]) -> list[MathVerdict]:
        verdicts = verifier.verify_batch(responses, answers, spec.where, spec.rounded)
        for v, gold, label in zip(verdicts, answers, labels, strict=True):
            if not v.right:
                told = v.note or f"by {v.by}"
                failures.append(
                    f"{kind}: {label}: reference {shorten(gold)!r}, found {shorten(v.answer or '')!r} ({told})"
                )
        return verdicts

    solved = [item for item in loaded.items if item.solution and marked(spec, item.solution)]
    row.append(
        rate(
            check(
                "solution",
                [i.solution for i in solved],
                [i.answer for i in solved],
                [f"row {i.row}" for i in solved],
            )
        )
    )
    row.append(rate(check("boxed", [boxed(g) for g in golds], golds, [f"row {i.row}" for i in loaded.items])))
    spelled = [(g, kind, text) for g in dict.fromkeys(golds) for kind, text in respellings(g).items()]
    row.append(
        rate(
            check(
                "respelled",
                [boxed(t) for _, _, t in spelled],
                [g for g, _, _ in spelled],
                [k for _, k, _ in spelled],
            )
        )
    )
    different = list(dict.fromkeys(golds))
    alone = algebra.map([[g, g] for g in different])
    row.append(f"{100 * sum(r.value is True for r in alone) / len(alone):.2f}%")
    broken = corrupted(golds, n, seed)
    wrong = verifier.verify_batch(
        [boxed(b) for _, _, b in broken], [g for _, g, _ in broken], spec.where, spec.rounded
    )
    accepted = [(b, v) for b, v in zip(broken, wrong, strict=True) if v.right]
    row += [f"{len(broken) - len(accepted)}/{len(broken)}", f"{time.perf_counter() - start:.1f}"]
    print(f"\n== {name}: {loaded.source}")
    for note in loaded.notes:
        print(f"   note: {note}")
    for u in loaded.unusable[:show]:
        print(f"   unusable row {u.row}: {u.why}")
    for line in failures[:show]:
        print(f"   not right, {line}")
    if len(failures) > show:
        print(
            f"   ... and {len(failures) - show} more: {dict(Counter(f.partition(':')[0] for f in failures))}"
        )
    kinds = Counter(kind for kind, _, _ in broken)
    print(f"   corrupted: {', '.join(f'{k} {c}' for k, c in kinds.most_common())}")
    print(
        f"   decided: {dict(Counter(v.by for v in wrong))}, {sum('timeout' in v.note for v in wrong)} timed out"
    )
    for (kind, gold, text), v in accepted[:show]:
        print(f"   FALSE ACCEPT {kind}: {shorten(text)!r} for {shorten(gold)!r} (by {v.by})")
    return row


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corrupted", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--list", type=int, default=20, dest="show")
    parser.add_argument("--sets", default="")
    args = parser.parse_args()
    names = args.sets.split(",") if args.sets else [n for n, s in manifest.load().items() if s.kind == "math"]
    head = [
        "set",
        "rows",
        "unusable",
        "solution right",
        "boxed right",
        "respelled right",
        "algebra",
        "broken wrong",
        "s",
    ]
    table = []
    with (
        MathVerifier(args.workers) as verifier,
        WorkerPool("entlaw.tasks.math:equal", args.workers) as algebra,
    ):
        for name in names:
            row = measure(name, args.folder, verifier, algebra, args.corrupted, args.show, args.seed)
            if row is not None:
                table.append(row)
    widths = [max(len(r[i]) for r in [head, *table]) for i in range(len(head))]
    print()
    for row in [head, *table]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
