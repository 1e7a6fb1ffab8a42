"""The default configuration of every trainer gives no false finding, and each of its controls gives a true one.

The defaults are those of the trainers' own code at the version or commit named, read on 2026-11-30: the settings that
act on the entropy, their switches, and a few that look like them. A default that is an intervention says so.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest

from entlaw.law.interventions import KINDS, _holds, _Keys, interventions, trainers

BONUS, CLIP, KL, COVARIANCE, TOKENS = (
    "entropy-bonus",
    "clip-higher",
    "kl-penalty",
    "covariance-control",
    "high-entropy-tokens",
)


class Case(NamedTuple):
    trainer: str
    version: str
    config: dict[str, Any]
    by_default: dict[str, str]
    """Findings that the default configuration gives rightly: code and severity."""
    on: tuple[tuple[dict[str, Any], str], ...] = ()
    """What turns a control on, and the finding that is new or of which there is more then."""
    off: tuple[dict[str, Any], ...] = ()
    """What sets a coefficient without its switch, or something that only looks like a control."""


VERL_ACTOR = {
    "clip_ratio": 0.2,
    "clip_ratio_low": 0.2,
    "clip_ratio_high": 0.2,
    "tau_pos": 1.0,
    "tau_neg": 1.05,
    "policy_loss.loss_mode": "vanilla",
    "policy_loss.clip_cov_ratio": 0.0002,
    "policy_loss.clip_cov_lb": 1.0,
    "policy_loss.clip_cov_ub": 5.0,
    "policy_loss.kl_cov_ratio": 0.0002,
    "policy_loss.ppo_kl_coef": 0.1,
    "clip_ratio_c": 3.0,
    "entropy_coeff": 0,
    "calculate_entropy": False,
    "use_kl_loss": False,
    "kl_loss_coef": 0.001,
    "kl_loss_type": "low_var_kl",
    "ppo_mini_batch_size": 256,
    "optim.betas": [0.9, 0.999],
}
VERL = {
    **{f"actor_rollout_ref.actor.{key}": value for key, value in VERL_ACTOR.items()},
    "actor_rollout_ref.ref.entropy_checkpointing": False,
    "critic.cliprange_value": 0.5,
    "algorithm.adv_estimator": "gae",
    "algorithm.use_kl_in_reward": False,
    "algorithm.kl_penalty": "kl",
    "algorithm.kl_ctrl.type": "fixed",
    "algorithm.kl_ctrl.kl_coef": 0.001,
    "algorithm.kl_ctrl.target_kl": 0.1,
    "reward_model.sandbox_fusion.loss_type": "ppo_clip",
    "distillation.enabled": False,
    "distillation.distillation_loss.loss_mode": "k3",
    "distillation.distillation_loss.distillation_loss_coef": 1.0,
    "distillation.distillation_loss.clip_ratio_low": 0.2,
    "distillation.distillation_loss.clip_ratio_high": 0.2,
}
GRPO = {
    "num_generations": 8,
    "beta": 0.0,
    "epsilon": 0.2,
    "delta": None,
    "epsilon_high": None,
    "loss_type": "dapo",
    "sapo_temperature_neg": 1.05,
    "vespo_lambda_pos": 3.0,
    "importance_sampling_level": "token",
    "scale_rewards": "group",
    "mask_truncated_completions": False,
    "sync_ref_model": False,
    "ref_model_mixup_alpha": 0.6,
    "top_entropy_quantile": 1.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "router_aux_loss_coef": 0.001,
    "label_smoothing_factor": 0.0,
}
ADAPTIVE = {
    "entropy_coef": 0.0,
    "use_adaptive_entropy": False,
    "entropy_coef_min": 0.0,
    "entropy_coef_max": 1.0,
    "entropy_coef_delta": 0.005,
    "entropy_target": 0.2,
}
SKYRL = {
    f"trainer.algorithm.{key}": value
    for key, value in {
        "advantage_estimator": "grpo",
        "kl_ctrl.type": "fixed",
        "kl_ctrl.kl_target": 0.1,
        "kl_estimator_type": "k3",
        "use_kl_in_reward": False,
        "use_kl_loss": True,
        "kl_loss_coef": 0.001,
        "use_entropy_loss": False,
        "entropy_loss_coef": 0.01,
        "policy_loss_type": "regular",
        "eps_clip_low": 0.2,
        "eps_clip_high": 0.2,
        "clip_ratio_c": 3.0,
        "value_clip": 0.2,
        "clip_cov.clip_ratio": 0.0002,
        "clip_cov.clip_cov_lb": 1.0,
        "kl_cov.kl_cov_frac": 0.2,
        "kl_cov.ppo_kl_coef": 1.0,
        "cispo.cispo_eps_clip_low": 1.0,
        "cispo.cispo_eps_clip_high": 4.0,
    }.items()
}
_ALGORITHM = "trainer.algorithm"
_ACTOR = "actor_rollout_ref.actor"
_LOSS = "loss_fn"

CASES = (
    Case(
        "verl",
        "0.10.0.dev, 1dda039b9, 2026-08-22",
        VERL,
        {},
        on=(
            ({f"{_ACTOR}.entropy_coeff": 0.01}, BONUS),
            ({f"{_ACTOR}.clip_ratio_high": 0.28}, CLIP),
            ({f"{_ACTOR}.use_kl_loss": True, f"{_ACTOR}.kl_loss_coef": 0.01}, KL),
            ({"algorithm.use_kl_in_reward": True, "algorithm.kl_ctrl.kl_coef": 0.01}, KL),
            ({f"{_ACTOR}.policy_loss.loss_mode": "clip_cov"}, COVARIANCE),
            ({f"{_ACTOR}.policy_loss.loss_mode": "kl_cov"}, COVARIANCE),
        ),
        off=(
            {f"{_ACTOR}.kl_loss_coef": 0.5, "algorithm.kl_ctrl.kl_coef": 0.5},
            {"distillation.distillation_loss.clip_ratio_high": 0.5},
            {f"{_ACTOR}.policy_loss.loss_mode": "cispo", f"{_ACTOR}.clip_ratio_high": 10},
            {
                f"{_ACTOR}.policy_loss.loss_mode": "gspo",
                f"{_ACTOR}.clip_ratio_low": 3e-4,
                f"{_ACTOR}.clip_ratio_high": 4e-4,
            },
        ),
    ),
    Case(
        "verl",
        "0.3.0.post1, 2025: no switch for the penalty in the reward, which is on unless the loss has it",
        {
            f"{_ACTOR}.clip_ratio": 0.2,
            f"{_ACTOR}.entropy_coeff": 0.001,
            f"{_ACTOR}.use_kl_loss": False,
            f"{_ACTOR}.kl_loss_coef": 0.001,
            "algorithm.kl_penalty": "kl",
            "algorithm.kl_ctrl.kl_coef": 0.001,
        },
        {BONUS: "info", KL: "info"},  # entropy_coeff = 0.001, kl_ctrl.kl_coef = 0.001
    ),
    Case(
        "verl",
        "0.1, 2024: no penalty in the loss yet",
        {
            f"{_ACTOR}.clip_ratio": 0.2,
            f"{_ACTOR}.entropy_coeff": 0.001,
            "algorithm.kl_penalty": "kl",
            "algorithm.kl_ctrl.kl_coef": 0.001,
        },
        {BONUS: "info", KL: "info"},
    ),
    Case(
        "EasyR1",
        "0.3.3.dev0, b44b311, 2026-07-30",
        {
            "algorithm.disable_kl": False,
            "algorithm.use_kl_loss": False,
            "algorithm.kl_penalty": "kl",
            "algorithm.kl_coef": 1e-3,
            "algorithm.kl_target": 0.1,
            "worker.actor.clip_ratio_low": 0.2,
            "worker.actor.clip_ratio_high": 0.3,
            "worker.actor.clip_ratio_dual": 3.0,
            "worker.actor.loss_type": "default",
            "worker.actor.use_kl_loss": False,
            "worker.actor.kl_coef": 1e-3,
        },
        {
            CLIP: "warning",
            KL: "info",
        },  # clip_ratio_high = 0.3; without use_kl_loss the penalty is in the reward
        on=(({"algorithm.kl_coef": 0.01, "worker.actor.kl_coef": 0.01}, KL),),
        off=({"algorithm.disable_kl": True, "algorithm.kl_coef": 0.1, "worker.actor.clip_ratio_high": 0.2},),
    ),
    Case(
        "rLLM",
        "0.3.0.pre, 9beb6e0f, 2026-08-15, on verl",
        {
            **VERL,
            "rllm.algorithm.loss_fn": None,
            "rllm.algorithm.kl_beta": 0.0,
            "rllm.algorithm.eps_clip": 0.2,
            "rllm.algorithm.eps_clip_high": None,
        },
        {},
        on=(
            ({"rllm.algorithm.kl_beta": 0.01}, KL),
            ({"rllm.algorithm.eps_clip_high": 0.28}, CLIP),
            ({f"{_ACTOR}.clip_ratio_high": 0.28}, CLIP),
        ),
        off=({"rllm.algorithm.loss_fn": "cispo", "rllm.algorithm.eps_clip_high": 0.28},),
    ),
    Case(
        "TRL",
        "GRPO 1.10.0.dev0, f2cd57710, 2026-07-24",
        {**GRPO, **ADAPTIVE},
        {},
        on=(
            ({"entropy_coef": 0.01}, BONUS),
            ({"use_adaptive_entropy": True}, BONUS),
            ({"epsilon_high": 0.28}, CLIP),
            ({"beta": 0.04}, KL),
            ({"top_entropy_quantile": 0.2}, TOKENS),
            ({"top_entropy_quantile": 0.0}, TOKENS),
        ),
        off=(
            {"entropy_target": 1.5, "entropy_coef_max": 0.5},
            {"delta": 4.0},
            {"loss_type": "cispo", "epsilon_high": 5.0},
            *({"loss_type": loss} for loss in ("grpo", "bnpo", "dr_grpo", "sapo", "luspo", "vespo")),
        ),
    ),
    Case(
        "TRL", "GRPO 0.18.0, 2025", {**GRPO, "beta": 0.04, "loss_type": "bnpo"}, {KL: "warning"}
    ),  # beta = 0.04
    Case(
        "TRL",
        "RLOO 1.10.0.dev0",
        {
            "num_generations": 2,
            "beta": 0.05,
            "epsilon": 0.2,
            "epsilon_high": None,
            "mask_truncated_completions": False,
        },
        {KL: "warning"},  # beta = 0.05
    ),
    Case(
        "TRL (PPO)",
        "1.10.0.dev0",
        {
            "num_ppo_epochs": 4,
            "whiten_rewards": False,
            "kl_coef": 0.05,
            "kl_estimator": "k1",
            "cliprange": 0.2,
            "vf_coef": 0.1,
            "cliprange_value": 0.2,
            "gamma": 1.0,
            "lam": 0.95,
        },
        {KL: "warning"},  # kl_coef = 0.05
        on=(({"kl_coef": 0.1}, KL),),
        off=({"kl_coef": 0.0},),
    ),
    Case(
        "TRL (PPO)",
        "0.11.0, 2024",
        {"adap_kl_ctrl": True, "init_kl_coef": 0.2, "kl_penalty": "kl", "target": 6.0, "cliprange": 0.2},
        {KL: "warning"},  # init_kl_coef = 0.2
    ),
    Case(
        "ms-swift",
        "4.6.0.dev0, 3602360a5, 2026-08-22: beta is None until GRPO makes it 0.04",
        {**GRPO, "rlhf_type": "grpo", "beta": 0.04, "loss_type": ["grpo"], "kl_in_reward": False},
        {KL: "warning"},  # beta = 0.04
        on=(({"epsilon_high": 0.28}, CLIP), ({"beta": 0.1}, KL), ({"top_entropy_quantile": 0.2}, TOKENS)),
        off=({"beta": 0.0, "kl_in_reward": True}, {"beta": None}),
    ),
    Case(
        "OpenRLHF",
        "0.11.0, 3c3be623, 2026-08-13",
        {
            "actor.eps_clip": 0.2,
            "actor.eps_clip_low_high": (0.2, 0.2),
            "actor.dual_clip": None,
            "actor.policy_loss_type": "ppo",
            "actor.entropy_coef": None,
            "actor.aux_loss_coef": 0,
            "critic.value_clip": 0.5,
            "algo.kl.target": None,
            "algo.kl.horizon": 10000,
            "algo.kl.init_coef": 0.01,
            "algo.kl.estimator": "k1",
            "algo.kl.use_loss": False,
            "reward.clip_range": (-10, 10),
            "train.ema_beta": 0.992,
            "actor.adam.betas": (0.9, 0.95),
        },
        {KL: "warning"},  # algo.kl.init_coef = 0.01, in the reward or, with algo.kl.use_loss, in the loss
        on=(
            ({"actor.entropy_coef": 0.01}, BONUS),
            ({"actor.eps_clip_low_high": [0.2, 0.28]}, CLIP),
            ({"actor.eps_clip_low_high": "(0.2, 0.28)"}, CLIP),
            ({"algo.kl.init_coef": 0.1}, KL),
        ),
        off=(
            {"algo.kl.init_coef": 0.0, "algo.kl.use_loss": True},
            {"actor.entropy_coef": 0, "algo.kl.init_coef": 0},
        ),
    ),
    Case(
        "OpenRLHF",
        "0.9.0, 2025, flat",
        {
            "vllm_num_engines": None,
            "actor_num_nodes": 1,
            "micro_rollout_batch_size": 8,
            "eps_clip": 0.2,
            "eps_clip_low_high": [0.2, 0.2],
            "kl_target": None,
            "init_kl_coef": 0.01,
            "use_kl_loss": False,
            "entropy_loss_coef": None,
            "ema_beta": 0.992,
        },
        {KL: "warning"},  # init_kl_coef = 0.01
        on=(({"entropy_loss_coef": 0.01}, BONUS), ({"eps_clip_low_high": "[0.2, 0.27]"}, CLIP)),
        off=({"init_kl_coef": 0, "use_kl_loss": True},),
    ),
    Case(
        "NeMo-RL",
        "GRPO (grpo_math_1B), 7ea279abf, 2026-08-22",
        {
            "grpo.num_prompts_per_step": 32,
            "grpo.advantage_clip_low": None,
            "grpo.advantage_clip_high": None,
            "loss_fn.reference_policy_kl_penalty": 0.01,
            "loss_fn.reference_policy_kl_type": "k3",
            "loss_fn.ratio_clip_min": 0.2,
            "loss_fn.ratio_clip_max": 0.2,
            "loss_fn.ratio_clip_c": None,
            "loss_fn.use_on_policy_kl_approximation": False,
            "loss_fn.force_on_policy_ratio": False,
            "loss_fn.use_kl_in_reward": False,
            "loss_fn.use_cispo": False,
            "loss_fn.disable_ppo_ratio": False,
        },
        {KL: "warning"},  # reference_policy_kl_penalty = 0.01
        on=(
            ({"loss_fn.reference_policy_kl_penalty": 0.05}, KL),
            ({"loss_fn.ratio_clip_max": 0.28}, CLIP),
        ),
        off=(
            {"loss_fn.reference_policy_kl_penalty": 0, "loss_fn.use_kl_in_reward": True},
            *(
                {
                    f"{_LOSS}.{switch}": True,
                    f"{_LOSS}.ratio_clip_max": 0.28,
                    f"{_LOSS}.reference_policy_kl_penalty": 0,
                }
                for switch in ("use_cispo", "disable_ppo_ratio", "force_on_policy_ratio")
            ),
        ),
    ),
    Case(
        "NeMo-RL",
        "PPO (ppo_math_1B), 7ea279abf, 2026-08-22",
        {
            "ppo.num_prompts_per_step": 32,
            "loss_fn.disable_ppo_ratio": False,
            "value_loss_fn.cliprange": 0.2,
            "loss_fn.reference_policy_kl_penalty": 0.0,
            "loss_fn.ratio_clip_min": 0.2,
            "loss_fn.ratio_clip_max": 0.28,
            "loss_fn.ratio_clip_c": 10,
            "loss_fn.force_on_policy_ratio": False,
            "loss_fn.use_kl_in_reward": False,
        },
        {CLIP: "warning"},  # ratio_clip_max = 0.28
    ),
    Case(
        "open-instruct",
        "e6c3044aa, 2026-08-20",
        {
            "num_unique_prompts_rollout": 16,
            "beta": 0.05,
            "clip_lower": 0.2,
            "clip_higher": 0.272,
            "alpha": 0.6,
            "kl_estimator": 2,
            "load_ref_policy": True,
            "loss_fn": "GRPOLossType.dapo",
            "record_entropy": False,
            "rho_clamp_upper_bound": 2.0,
        },
        {CLIP: "warning", KL: "warning"},  # clip_higher = 0.272 above clip_lower = 0.2; beta = 0.05
        on=(({"clip_higher": 0.4}, CLIP), ({"beta": 0.1}, KL)),
        off=({"load_ref_policy": False, "clip_higher": 0.2}, {"loss_fn": "GRPOLossType.cispo", "beta": 0}),
    ),
    Case(
        "ROLL",
        "0.3.0, 8eb27cc2, 2026-08-19",
        {
            "pg_clip": 0.2,
            "use_pg_clip_range": False,
            "pg_clip_low": 0.2,
            "pg_clip_high": 0.2,
            "value_clip": None,
            "kl_penalty": "kl",
            "target_kl": None,
            "init_kl_coef": 0.2,
            "kl_horizon": 10000,
            "adv_estimator": "gae",
            "add_token_level_kl": False,
            "use_kl_loss": False,
            "kl_loss_coef": 0,
            "entropy_loss_coef": 0,
            "dual_clip_loss": False,
            "use_opd": False,
            "actor_train.pg_variant": None,
        },
        {},
        on=(
            ({"entropy_loss_coef": 0.01}, BONUS),
            ({"use_pg_clip_range": True, "pg_clip_high": 0.28}, CLIP),
            ({"use_kl_loss": True, "kl_loss_coef": 0.01}, KL),
            ({"add_token_level_kl": True}, KL),
        ),
        off=(
            {"pg_clip_high": 0.28},
            {"kl_loss_coef": 0.01},
            {"use_pg_clip_range": True, "pg_clip_high": 0.28, "actor_train.pg_variant": "cispo"},
        ),
    ),
    Case(
        "prime-rl",
        "559b44772, 2026-08-21",
        {
            "loss.type": "default",
            "loss.dppo_mask_low": 0.2,
            "loss.dppo_mask_high": 0.2,
            "loss.adv_tau": 1.0,
            "loss.kl_tau": 1e-3,
        },
        {},  # kl_tau holds the policy to its own rollouts, not to where it began
        on=(({"loss.dppo_mask_high": 0.3}, CLIP),),
        off=({"loss.kl_tau": 0.1},),
    ),
    Case(
        "SkyRL",
        "a9564572e, 2026-08-21",
        SKYRL,
        {KL: "info"},  # use_kl_loss = True, kl_loss_coef = 0.001
        on=(
            ({f"{_ALGORITHM}.use_entropy_loss": True}, BONUS),
            ({f"{_ALGORITHM}.eps_clip_high": 0.28}, CLIP),
            ({f"{_ALGORITHM}.kl_loss_coef": 0.01}, KL),
            (
                {
                    f"{_ALGORITHM}.use_kl_loss": False,
                    f"{_ALGORITHM}.use_kl_in_reward": True,
                    f"{_ALGORITHM}.kl_loss_coef": 0.01,
                },
                KL,
            ),
            ({f"{_ALGORITHM}.policy_loss_type": "clip_cov"}, COVARIANCE),
            ({f"{_ALGORITHM}.policy_loss_type": "kl_cov"}, COVARIANCE),
        ),
        off=(
            {
                f"{_ALGORITHM}.use_kl_loss": False,
                f"{_ALGORITHM}.kl_loss_coef": 0.1,
                f"{_ALGORITHM}.entropy_loss_coef": 0.1,
            },
            {
                f"{_ALGORITHM}.use_kl_loss": False,
                f"{_ALGORITHM}.policy_loss_type": "sapo",
                f"{_ALGORITHM}.eps_clip_high": 0.3,
            },
        ),
    ),
    Case(
        "AReaL",
        "4aef98d8d, 2026-05-21",
        {
            "actor.ppo_n_minibatches": 4,
            "actor.eps_clip": 0.2,
            "actor.eps_clip_higher": None,
            "actor.c_clip": None,
            "actor.kl_ctl": 0.1,
            "actor.kl_estimator": "k1",
            "actor.use_sapo_loss": False,
            "ref": None,
            "critic": None,
            "teacher": None,
            "actor.optimizer.beta1": 0.9,
        },
        {},  # kl_ctl = 0.1 counts only with a reference
        on=(
            ({"actor.eps_clip_higher": 0.28}, CLIP),
            ({"ref": {"path": "Qwen/Qwen2.5-1.5B", "kl_ctl": 0.1}}, KL),
        ),
        off=(
            {"actor.eps_clip": 0.4},
            {"ref": {"path": "Qwen/Qwen2.5-1.5B", "kl_ctl": 0.1}, "actor.kl_ctl": 0.0},
            {"actor.use_sapo_loss": True, "actor.eps_clip_higher": 0.28},
            {"teacher": {"path": "x", "kl_ctl": 0.1, "eps_clip_higher": 0.5}},
        ),
    ),
    Case(
        "slime",
        "0.3.1, 624b824a8, 2026-08-21",
        {
            "rollout_function_path": "slime.rollout.sglang_rollout.generate_rollout",
            "num_steps_per_rollout": None,
            "eps_clip": 0.2,
            "eps_clip_high": 0.2,
            "eps_clip_c": None,
            "value_clip": 0.2,
            "kl_coef": 0.0,
            "loss_type": "policy_loss",
            "advantage_estimator": "grpo",
            "use_kl_loss": False,
            "kl_loss_coef": 0.0,
            "kl_loss_type": "k1",
            "entropy_coef": 0.0,
            "use_opd": False,
            "opd_kl_coef": 1.0,
            "adam_beta1": 0.9,
        },
        {},
        on=(
            ({"entropy_coef": 0.01}, BONUS),
            ({"eps_clip_high": 0.28}, CLIP),
            ({"use_kl_loss": True, "kl_loss_coef": 0.01}, KL),
            ({"kl_coef": 0.01}, KL),
        ),
        off=(
            {"kl_loss_coef": 0.01},
            {"eps_clip_high": None},
            {"advantage_estimator": "cispo", "eps_clip": 1.0, "eps_clip_high": 4.0},
        ),
    ),
    Case(
        "tinker-cookbook",
        "9dfcc3a2, 2026-08-19",
        {"kl_penalty_coef": 0.0, "kl_discount_factor": 0.0, "loss_fn": "importance_sampling"},
        {},
        on=(({"kl_penalty_coef": 0.01}, KL),),
    ),
    # It has PPO by TRL 0.8 and preference losses, no GRPO, and says no coefficient of a penalty.
    Case(
        "LLaMA-Factory",
        "0.9.6.dev0, ff6d4d12e, 2026-08-18",
        {
            "stage": "ppo",
            "pref_beta": 0.1,
            "pref_ftx": 0.0,
            "ppo_epochs": 4,
            "ppo_target": 6.0,
            "simpo_gamma": 0.5,
        },
        {},
    ),
)
BY_NAME = [pytest.param(case, id=f"{case.trainer}, {case.version.split(',')[0]}") for case in CASES]
ON = [
    pytest.param(case, change, code, id=f"{case.trainer}, {change}")
    for case in CASES
    for change, code in case.on
]
OFF = [pytest.param(case, change, id=f"{case.trainer}, {change}") for case in CASES for change in case.off]


def found(config: dict[str, Any]) -> dict[str, str]:
    return {f.code: f.severity for f in interventions(config)}


def nested(config: dict[str, Any]) -> dict[str, Any]:
    """As a mapping of mappings."""
    tree: dict[str, Any] = {}
    for key, value in config.items():
        *parts, last = key.split(".")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def spelled(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One configuration as loggers write it."""
    return {
        "flat": config,
        "nested": nested(config),
        "texts": {k: v if isinstance(v, dict) else str(v) for k, v in config.items()},
        "null": {k: "null" if v is None else v for k, v in config.items()},
        **{
            p: {f"{p}{k}": v for k, v in config.items()}
            for p in ("args.", "config.", "recipe.", "trainer.args.")
        },
        "slashes": {f"args/{k.replace('.', '/')}": v for k, v in config.items()},
        "dashes": {k.replace("_", "-"): v for k, v in config.items()},
    }


@pytest.mark.parametrize("case", BY_NAME)
def test_a_default_configuration_gives_no_false_finding(case):
    for spelling, config in spelled(case.config).items():
        assert found(config) == case.by_default, spelling


@pytest.mark.parametrize("case, change, code", ON)
def test_a_control_that_is_on_is_found(case, change, code):
    for spelling, config in spelled({**case.config, **change}).items():
        assert found(config) == {**case.by_default, code: "warning"}, spelling


@pytest.mark.parametrize("case, change", OFF)
def test_a_coefficient_without_its_switch_is_not(case, change):
    config = {**case.config, **change}
    for spelling, written in spelled(config).items():
        now = found(written)
        assert now.items() <= case.by_default.items(), spelling
        # What the case turns off is off, also where the default configuration has it on.
        assert len(now) < len(case.by_default) or not case.by_default, spelling


def test_every_control_of_the_table_is_turned_on_by_a_case():
    cases = {case.trainer for case in CASES} - {"LLaMA-Factory"}
    assert cases == set(trainers()) - {"entlaw", "others"}  # ours: tests/train/test_registry.py
    for name, trainer in trainers().items():
        if name in cases:
            mine = [case for case in CASES if case.trainer == name]
            shown = {code for case in mine for code in [*case.by_default, *(code for _, code in case.on)]}
            assert shown == {KINDS[control.kind].code for control in trainer.controls}, name


def test_every_trainer_is_recognised_and_none_for_another():
    for case in CASES:
        parts = _Keys(case.config).parts
        known = {name for name, trainer in trainers().items() if trainer.recognised_by & parts}
        allowed = {"rLLM": {"rLLM", "verl"}, "ms-swift": {"ms-swift", "TRL"}, "LLaMA-Factory": set()}
        assert known == allowed.get(case.trainer, {case.trainer}), case.version


def test_conditions_of_the_table_are_of_the_forms_that_are_read():
    """And those of a trainer's default: what a configuration that lacks every switch means."""
    for trainer in trainers().values():
        assert {control.kind for control in trainer.controls} <= set(KINDS)
        for condition in itertools.chain.from_iterable(control.when for control in trainer.controls):
            assert isinstance(_holds(condition, "", _Keys({})), bool)


def test_a_trainer_that_is_not_known_is_matched_by_names_that_mean_one_thing():
    assert found({"beta": 0.04}) == {KL: "warning"}  # TRL, ms-swift and open-instruct agree
    assert found({"entropy_coef": 0.01, "gamma": 1.0}) == {BONUS: "warning"}
    assert found({"my.own.ent_coef": 0.01, "policy_loss": "kl-cov"}) == {
        BONUS: "warning",
        COVARIANCE: "warning",
    }
    assert found({"kl_coef": 0.1}) == {}  # on in slime, off in verl without use_kl_in_reward
    assert found({"entropy_loss_coef": 0.1}) == {}  # on in ROLL, off in SkyRL without use_entropy_loss
    assert found({"entropy_loss_coef": 0.1, "use_entropy_loss": True}) == {BONUS: "warning"}
    assert found({"kl_loss_coef": 0.1}) == {}
    assert found({"use_kl_loss": True, "kl_loss_coef": 0.1}) == {KL: "warning"}
    # A known trainer's configuration is matched by its own names alone.
    assert found({**GRPO, "clip_ratio_high": 0.5, "kl_beta": 0.1}) == {}


def test_nested_arguments_that_a_logger_wrote_as_one_text_are_read():
    """OpenRLHF hands W&B namespaces, which become their ``repr``."""
    from types import SimpleNamespace as Namespace

    config = {
        "actor": str(Namespace(eps_clip=0.2, eps_clip_low_high=(0.2, 0.28), entropy_coef=None)),
        "algo": str(Namespace(kl=Namespace(init_coef=0.0, use_loss=False, target=None))),
    }
    assert found(config) == {CLIP: "warning"}
    assert found({**config, "algo": config["algo"].replace("0.0", "0.1")}) == {CLIP: "warning", KL: "warning"}
    broken = [
        "namespace(a=<object>)",
        "namespace(",
        "[1, 2",
        "(" * 5000,
        "namespace(a=f())",
        "[" + "1," * 9000,
    ]
    for text in [*broken, "namespace(**x)", "[\0, 1]", r"['\d', 1]", "[1, 2]" * 9000, "namespace(a=b, c=-d)"]:
        assert found({"x": text, "beta": 0.1}) == {KL: "warning"}


def test_values_that_are_no_numbers_say_nothing():
    for value in ("auto", "", "None", "null", None, float("nan"), "nan", [], {}, [1, 2, 3], True and "true"):
        assert (
            found({"beta": value, "entropy_coef": value, "clip_ratio_high": value, "epsilon_high": value})
            == {}
        )


def test_our_own_rows_are_settings_of_a_recipe():
    pytest.importorskip("torch")
    from entlaw.train import recipe as recipes
    from entlaw.train.losses import LOSSES

    keys = set(recipes.settings())
    for control in trainers()["entlaw"].controls:
        assert {control.key, *control.lower} <= keys
        for condition in control.when:
            assert condition.removeprefix("not ").split(" ")[0] in keys
    (clip,) = (c for c in trainers()["entlaw"].controls if c.kind == "clip")
    # A clip that is no range, or one that leaves every token its gradient.
    unclipped = {n for n, loss in LOSSES.items() if not loss.clips} | {"cispo"}
    assert clip.when == ("loss.kind is none of policygradient, cispo",)
    assert {name.replace("_", "") for name in unclipped} == {"policygradient", "cispo"}
