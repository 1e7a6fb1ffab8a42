"""The entropy of a tabular softmax policy and its first-order change (Cui et al. 2025, section 3).

A state's policy is pi(a|s) proportional to exp(z_a), one free logit per state and action. Everything here is exact
for that setting; shared parameters, Adam, clipping and sampled gradients are outside of it. Arrays are float64,
actions on the last axis; leading axes are states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log pi(a|s), shape as ``logits`` (..., n_actions)."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entropy(logits: np.ndarray) -> np.ndarray:
    """Entropy of each state's policy in nats; shape without the last axis."""
    log_p = log_softmax(logits)
    return -(np.exp(log_p) * log_p).sum(axis=-1)


def policy_covariance(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Cov over a ~ pi(.|s) of (log pi(a|s), values_a); shape without the last axis."""
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    mean_log, mean_value = (p * log_p).sum(-1, keepdims=True), (p * values).sum(-1, keepdims=True)
    return (p * (log_p - mean_log) * (values - mean_value)).sum(axis=-1)


def entropy_change(logits: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """H(z + delta) - H(z), exactly; shape without the last axis."""
    return entropy(logits + delta) - entropy(logits)


def lemma1(logits: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """First-order change of the entropy for any change of logits: -Cov(log pi, delta) (Lemma 1).

    The error is of second order in ``delta``.
    """
    return -policy_covariance(logits, delta)


def center(logits: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Advantage of ``values``: minus its mean under the policy, so that sum_a pi_a A_a = 0 (Lemma 3)."""
    p = np.exp(log_softmax(logits))
    return values - (p * values).sum(axis=-1, keepdims=True)


def policy_gradient_step(logits: np.ndarray, advantage: np.ndarray, lr: float) -> np.ndarray:
    """Change of logits by one step of exact policy gradient in each state: lr pi_a A_a (Proposition 1).

    Gradient *ascent* on J; the sign in the text of section 3.2 of the paper is a slip. With several states the
    gradient of J carries the factor d(s), the state's visitation, which the paper drops; multiply ``lr`` by it.
    """
    return lr * np.exp(log_softmax(logits)) * advantage


def natural_gradient_step(advantage: np.ndarray, lr: float) -> np.ndarray:
    """Change of logits by one natural policy gradient step: lr A_a, up to a constant per state."""
    return lr * advantage


def theorem1(logits: np.ndarray, advantage: np.ndarray, lr: float) -> np.ndarray:
    """Entropy change under policy gradient: -lr Cov(log pi, pi A) (Theorem 1, Eq. 8)."""
    return -lr * policy_covariance(logits, np.exp(log_softmax(logits)) * advantage)


def theorem2(logits: np.ndarray, advantage: np.ndarray, lr: float) -> np.ndarray:
    """Entropy change under natural policy gradient: -lr Cov(log pi, A) (Theorem 2)."""
    return -lr * policy_covariance(logits, advantage)


@dataclass(frozen=True)
class CovarianceParts:
    """Law of total covariance over a batch of (state, action) samples.

    Attributes
    ----------
    batch : float
        Cov over the whole batch, centred over all samples: what Eq. 10 computes.
    within : float
        Mean over states of the covariance within the state: what Theorem 2 is about.
    between : float
        Covariance over states of the two state means; ``batch = within + between``.
    """

    batch: float
    within: float
    between: float


def total_covariance(
    logits: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None
) -> CovarianceParts:
    """Split the covariance of (log pi, values) over states and actions into within-state and between-state parts.

    Parameters
    ----------
    logits, values : ndarray, shape (n_states, n_actions)
    weights : ndarray, shape (n_states,), optional
        Visitation of each state; equal by default.

    Returns
    -------
    CovarianceParts
        Exact expectations under the policy, not sample estimates: with one sampled action a state the within part
        cannot be estimated at all.
    """
    w = np.full(len(logits), 1.0 / len(logits)) if weights is None else weights / weights.sum()
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    mean_log, mean_value = (p * log_p).sum(-1), (p * values).sum(-1)
    within = float(w @ policy_covariance(logits, values))
    between = float(w @ ((mean_log - w @ mean_log) * (mean_value - w @ mean_value)))
    joint = w[:, None] * p
    batch = float((joint * (log_p - w @ mean_log) * (values - w @ mean_value)).sum())
    return CovarianceParts(batch, within, between)
