"""Lemma 1, Proposition 1 and Theorems 1-2 against finite differences and the exact change."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entlaw.dynamics import softmax as s

RNG = np.random.default_rng(7)
LOGITS = RNG.standard_normal((4, 50))
ADVANTAGE = s.center(LOGITS, RNG.standard_normal((4, 50)))


def entropy_gradient(logits):
    """dH/dz_a = -pi_a (log pi_a + H)."""
    log_p = s.log_softmax(logits)
    return -np.exp(log_p) * (log_p + s.entropy(logits)[..., None])


def test_entropy_matches_the_definition_and_its_bounds():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(s.entropy(LOGITS), -(p * np.log(p)).sum(-1), rtol=1e-13)
    assert s.entropy(np.zeros(8)) == pytest.approx(np.log(8), abs=1e-14)
    assert s.entropy(np.array([1000.0, 0.0])) == pytest.approx(0.0, abs=1e-300)  # no overflow, no NaN


def test_gradient_against_central_differences():
    z = LOGITS[0]
    h = 1e-5
    numeric = [(s.entropy(z + h * e) - s.entropy(z - h * e)) / (2 * h) for e in np.eye(len(z))]
    np.testing.assert_allclose(entropy_gradient(z), numeric, atol=1e-9)


def test_lemma1_is_the_gradient_times_the_step():
    delta = RNG.standard_normal(LOGITS.shape)
    np.testing.assert_allclose(
        s.lemma1(LOGITS, delta), (entropy_gradient(LOGITS) * delta).sum(-1), rtol=1e-12
    )


def test_proposition1_is_the_gradient_of_the_expected_advantage():
    z, a, h = LOGITS[0], ADVANTAGE[0], 1e-5

    def objective(logits):  # J = E_pi[A] with A held fixed; its gradient is pi A
        return float((np.exp(s.log_softmax(logits)) * a).sum())

    numeric = [(objective(z + h * e) - objective(z - h * e)) / (2 * h) for e in np.eye(len(z))]
    np.testing.assert_allclose(s.policy_gradient_step(z, a, 1.0), numeric, atol=1e-9)


@pytest.mark.parametrize(
    "step, theorem",
    [
        (lambda lr: s.policy_gradient_step(LOGITS, ADVANTAGE, lr), s.theorem1),
        (lambda lr: s.natural_gradient_step(ADVANTAGE, lr), s.theorem2),
    ],
    ids=["theorem 1", "theorem 2"],
)
def test_theorems_hold_to_first_order(step, theorem):
    def error(lr):
        exact = s.entropy_change(LOGITS, step(lr))
        return np.abs(theorem(LOGITS, ADVANTAGE, lr) - exact).max() / np.abs(exact).max()

    assert error(1e-4) < 1e-3
    # Relative error of a first-order formula is proportional to the step: ten times smaller, ten times better.
    assert error(1e-3) / error(1e-4) == pytest.approx(10, rel=0.05)


def test_theorem2_is_far_off_at_large_steps():
    # The theory is local; at lr 0.5 it must not be trusted, and this is what "far off" means.
    exact = s.entropy_change(LOGITS, s.natural_gradient_step(ADVANTAGE, 0.5))
    assert np.abs(s.theorem2(LOGITS, ADVANTAGE, 0.5) - exact).max() > 0.05 * np.abs(exact).max()


def test_natural_gradient_does_not_depend_on_a_constant_per_state():
    shifted = s.natural_gradient_step(ADVANTAGE, 0.1) + 3.0
    np.testing.assert_allclose(
        s.entropy_change(LOGITS, shifted),
        s.entropy_change(LOGITS, s.natural_gradient_step(ADVANTAGE, 0.1)),
        atol=1e-13,
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 12))
def test_total_covariance_adds_up(seed, n_states, n_actions):
    rng = np.random.default_rng(seed)
    logits, values = rng.standard_normal((2, n_states, n_actions))
    parts = s.total_covariance(logits, values, rng.uniform(0.1, 1, n_states))
    assert parts.batch == pytest.approx(parts.within + parts.between, abs=1e-12)


def test_batch_covariance_equals_the_within_state_one_only_for_centred_advantages():
    rng = np.random.default_rng(3)
    raw = rng.standard_normal(LOGITS.shape) + rng.standard_normal((4, 1)) * 2
    assert abs(s.total_covariance(LOGITS, raw).between) > 1e-3
    assert s.total_covariance(LOGITS, s.center(LOGITS, raw)).between == pytest.approx(0, abs=1e-14)


def test_batch_covariance_against_sampling():
    rng = np.random.default_rng(5)
    logits, values = rng.standard_normal((2, 3, 6))
    p = np.exp(s.log_softmax(logits))
    n = 200_000
    states = rng.integers(3, size=n)
    actions = (rng.random(n)[:, None] > p[states].cumsum(-1)).sum(-1).clip(max=5)
    sampled = np.cov(s.log_softmax(logits)[states, actions], values[states, actions])[0, 1]
    assert s.total_covariance(logits, values).batch == pytest.approx(sampled, abs=0.01)
