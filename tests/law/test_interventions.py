"""What in a configuration acts on the entropy."""

import pytest

from entlaw.law.interventions import interventions


def codes(config):
    return {(f.code, f.severity) for f in interventions(config)}


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"actor_rollout_ref.actor.entropy_coeff": 0.01}, {("entropy-bonus", "warning")}),
        ({"actor_rollout_ref.actor.entropy_coeff": 0.001}, {("entropy-bonus", "info")}),
        ({"actor_rollout_ref.actor.entropy_coeff": 0}, set()),
        ({"args/entropy_coef": "0.02"}, {("entropy-bonus", "warning")}),
        ({"actor.clip_ratio_low": 0.2, "actor.clip_ratio_high": 0.28}, {("clip-higher", "warning")}),
        ({"actor.clip_ratio_low": 0.2, "actor.clip_ratio_high": 0.2, "actor.clip_ratio_c": 3.0}, set()),
        ({"clip_ratio": 0.2, "clip_ratio_high": 0.2000000003}, set()),
        ({"epsilon": 0.2, "epsilon_high": 0.28, "adam_epsilon": 1e-8}, {("clip-higher", "warning")}),
        ({"epsilon": 0.2, "epsilon_high": None}, set()),
        ({"clip_ratio_high": 0.28}, {("clip-higher", "warning")}),
        ({"clip_ratio_low": 0.1, "clip_ratio_high": 0.1}, set()),
        ({"beta": 0.04}, {("kl-penalty", "warning")}),
        ({"beta": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999}, set()),
        ({"beta": 0.001}, {("kl-penalty", "info")}),
        ({"actor.use_kl_loss": True, "actor.kl_loss_coef": 0.01}, {("kl-penalty", "warning")}),
        ({"actor.use_kl_loss": False, "actor.kl_loss_coef": 0.01}, set()),
        (
            {
                "actor.use_kl_loss": "False",
                "algorithm.use_kl_in_reward": False,
                "algorithm.kl_ctrl.kl_coef": 0.1,
                "actor.kl_loss_coef": 0.1,
            },
            set(),
        ),
        (
            {"actor.use_kl_loss": False, "actor.kl_loss_coef": 0.1, "algorithm.kl_ctrl.kl_coef": 0.01},
            {("kl-penalty", "warning")},
        ),
        (
            {"algorithm.use_kl_in_reward": "True", "algorithm.kl_ctrl.kl_coef": 0.001},
            {("kl-penalty", "info")},
        ),
        ({"actor.policy_loss.loss_mode": "clip_cov"}, {("covariance-control", "warning")}),
        ({"actor.policy_loss.loss_mode": "kl-cov"}, {("covariance-control", "warning")}),
        ({"actor.policy_loss.loss_mode": "vanilla", "actor.policy_loss.kl_cov_ratio": 0.0002}, set()),
        ({"loss_type": "grpo"}, set()),
        ({"recipe.prime.beta": 0.05, "recipe.controls.kl_coef": 0.0}, set()),
        ({"recipe.controls.clip_cov.ratio": 0.0, "recipe.controls.kl_cov.ratio": 0.0}, set()),
        ({"recipe": {"controls": {"kl_cov": {"ratio": 0.002}}}}, {("covariance-control", "warning")}),
        ({"recipe.controls.clip_cov.ratio": 2e-4}, {("covariance-control", "warning")}),
        ({"recipe.controls.entropy_target": 0.3}, {("entropy-bonus", "warning")}),
        ({"recipe.task.reward": "random"}, {("random-reward", "warning")}),
        ({"recipe.task.reward": "correct", "recipe.controls.entropy_target": 0.0}, set()),
        ({}, set()),
        (
            {"actor": {"entropy_coeff": 0.01, "policy_loss": {"loss_mode": "kl_cov"}}},
            {("entropy-bonus", "warning"), ("covariance-control", "warning")},
        ),
        ({"entropy_coeff": "auto", "beta": float("nan"), "clip_ratio_high": "high"}, set()),
    ],
)
def test_what_is_seen(config, expected):
    assert codes(config) == expected


def test_each_says_what_why_and_what_to_do():
    for finding in interventions(
        {"entropy_coeff": 0.01, "clip_ratio_high": 0.28, "beta": 0.1, "loss_mode": "clip_cov"}
    ):
        assert finding.what and finding.why and finding.hint


def test_a_key_that_is_off_elsewhere_does_not_hide_the_one_that_is_on():
    """Trainers write one option for actor and critic, or for a base class that nobody uses."""
    for config in (
        {"actor.entropy_coeff": 0.01, "critic.entropy_coeff": 0},
        {"critic.entropy_coeff": 0, "actor.entropy_coeff": 0.01},
        {"critic.entropy_coeff": None, "actor.entropy_coeff": "0.01"},
    ):
        (found,) = interventions(config)
        assert found.code == "entropy-bonus" and found.value == 0.01 and "actor" in found.what
    on = {"ref.use_kl_loss": False, "actor.use_kl_loss": True, "actor.kl_loss_coef": 0.05}
    assert [f.code for f in interventions(on)] == ["kl-penalty"]
