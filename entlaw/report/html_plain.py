"""What the codes of findings mean, in words for who does not know the method: the first sentence of a verdict.

The finding itself, with its figure, is shown below it. A code that is not here is told by its own words.
"""

from __future__ import annotations

from entlaw.findings import Finding

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


def plainly(finding: Finding) -> str:
    """The finding as the end of a sentence, without its figure."""
    return _WORDS.get(finding.code) or finding.what.strip().rstrip(".")
