"""Does the configuration hold the entropy up by force? The law was shown for runs that let it fall.

Spellings as in verl (all ages), TRL, the paper's code, OpenRLHF, slime, AReaL, SkyRL and prime-rl; keys may be nested
under any prefix, joined by dots or slashes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from entlaw.findings import Finding

# Below this a reference-KL term left entropy and accuracy as they were (paper, Fig. 10: beta 0.001 against 0).
TINY_KL = 1e-3
# The same for an entropy bonus (paper, Fig. 9: 1e-4 and 1e-3 hardly matter).
TINY_BONUS = 1e-3
# PPO's symmetric clip; clip-higher widens the upper side (DAPO: 0.28).
SYMMETRIC_CLIP = 0.2
# Half a step in the second decimal: 0.2 written as a 32-bit float is still 0.2.
_CLIP_SLACK = 5e-3

_BONUS = ("entropy_coeff", "entropy_coef", "ent_coef", "entropy_loss_coef", "entropy_bonus", "entropy_loss_weight",
          "entropy_coefficient")  # fmt: skip
_CLIP_HIGH = ("clip_ratio_high", "epsilon_high", "eps_clip_high", "eps_clip_higher", "clip_eps_high",
              "eps_clip_ratio_high")  # fmt: skip
_CLIP_LOW = (
    "clip_ratio_low",
    "epsilon",
    "epsilon_low",
    "eps_clip",
    "eps_clip_low",
    "clip_ratio",
    "clip_eps_low",
)
# A KL coefficient and the switch that makes it count, where the trainer has one: verl writes both coefficients into
# every config and turns them on elsewhere. Without the switch in the config the coefficient alone decides.
_KL = (("kl_loss_coef", "use_kl_loss"), ("kl_coef", "use_kl_in_reward"), ("beta", None), ("init_kl_coef", None),
       ("kl_beta", None), ("kl_penalty_coef", None), ("kl_ctl", None), ("kl_tau", None))  # fmt: skip
# The 80/20 rule: the share of tokens of highest entropy that the loss looks at (ours, TRL).
_TOKEN_SHARE = ("high_entropy_share", "top_entropy_quantile")
_MODE = ("loss_mode", "policy_loss_type", "policy_loss", "loss_type", "loss_fn", "estimator_mode")
# PRIME's beta scales its process reward; it ties the policy to nothing.
_PRIME = re.compile(r"(^|[./])prime[./]")
# Our own trainer's switches: a share of tokens above 0 turns the control on.
_OWN_COVARIANCE = {"clip_cov.ratio": "Clip-Cov", "kl_cov.ratio": "KL-Cov"}
_COVARIANCE_MODES = {"clipcov": "Clip-Cov", "klcov": "KL-Cov", "cov": "a covariance mode"}


def interventions(config: Mapping[str, Any]) -> list[Finding]:
    """What in a configuration acts on the entropy.

    Parameters
    ----------
    config : mapping
        Flat configuration, keys joined by ``.`` (nested mappings are taken too).

    Returns
    -------
    list of Finding
        Warnings; tiny coefficients, which left the paper's curves as they were, as information.
    """
    flat = _by_tail(config)
    found: list[Finding] = []
    bonus = _number(flat, _BONUS)
    if bonus is not None and bonus[1] != 0:
        key, value = bonus
        tiny = abs(value) <= TINY_BONUS
        found.append(
            Finding(
                "entropy-bonus", "info" if tiny else "warning", f"{key} = {value:g}: a bonus holds the entropy up",
                "with a bonus the entropy is a set value, not what the run has left to spend"
                + ("; at this size the paper saw hardly any effect" if tiny else ""),
                "believe the fit only after a back-test on a run with the same bonus", value,
            )
        )  # fmt: skip
    found += _clip_higher(flat) + _kl(flat) + (_covariance(flat) or _own_covariance(config))
    return found + _few_tokens(flat) + _own_controls(flat)


def _clip_higher(flat: Mapping[str, tuple[str, Any]]) -> list[Finding]:
    high = _number(flat, _CLIP_HIGH)
    if high is None:
        return []
    low = _number(flat, _CLIP_LOW)
    base = low[1] if low is not None and low[1] > 0 else SYMMETRIC_CLIP
    if high[1] <= base + _CLIP_SLACK:
        return []
    return [
        Finding(
            "clip-higher", "warning", f"{high[0]} = {high[1]:g} above the lower clip {base:g}",
            "clip-higher adds tokens of low covariance and turns the entropy up; the law was not shown for it",
            "believe the fit only after a back-test on a run with the same clip", high[1],
        )
    ]  # fmt: skip


def _kl(flat: Mapping[str, tuple[str, Any]]) -> list[Finding]:
    terms = []
    for name, switch in _KL:
        on = switch is None or switch not in flat or _truth(flat[switch][1])
        value = _as_number(flat[name][1]) if name in flat else None
        if on and value:
            terms.append((flat[name][0], value))
    if not terms:
        return []
    key, value = max(terms, key=lambda term: abs(term[1]))
    tiny = abs(value) <= TINY_KL
    return [
        Finding(
            "kl-penalty", "info" if tiny else "warning", f"{key} = {value:g}: a penalty ties the policy to a reference",
            "a reference KL holds the entropy up and the score down (paper, Fig. 10)"
            + ("; at this size the paper saw hardly any effect" if tiny else ""),
            "compare with a run without the penalty before trusting the ceiling", value,
        )
    ]  # fmt: skip


def _covariance(flat: Mapping[str, tuple[str, Any]]) -> list[Finding]:
    for name in _MODE:
        if name not in flat:
            continue
        key, value = flat[name]
        mode = re.sub(r"[^a-z]", "", str(value).lower())
        if mode in _COVARIANCE_MODES:
            return [_covariance_finding(key, value, _COVARIANCE_MODES[mode])]
    return []


def _covariance_finding(key: str, value: Any, name: str) -> Finding:
    return Finding(
        "covariance-control", "warning", f"{key} = {value}: {name} holds the entropy up",
        "these methods exist to break the law's exchange of entropy for score",
        "do not use a ceiling fitted on such a run as that of a plain run",
    )  # fmt: skip


def _own_covariance(config: Mapping[str, Any]) -> list[Finding]:
    return [
        _covariance_finding(key, value, name)
        for key, value in _flatten(config)
        for tail, name in _OWN_COVARIANCE.items()
        if re.search(rf"(^|[./]){re.escape(tail)}$", key) and (_as_number(value) or 0) > 0
    ]


def _few_tokens(flat: Mapping[str, tuple[str, Any]]) -> list[Finding]:
    share = _number(flat, _TOKEN_SHARE)
    if share is None or not 0 < share[1] < 1:
        return []
    return [
        Finding(
            "high-entropy-tokens", "warning",
            f"{share[0]} = {share[1]:g}: only the tokens of highest entropy are trained",
            "the others keep their entropy, so the run stands at a level that a plain run falls below",
            "do not use a ceiling fitted on such a run as that of a plain run", share[1],
        )
    ]  # fmt: skip


def _own_controls(flat: Mapping[str, tuple[str, Any]]) -> list[Finding]:
    """Switches that only our own trainer has under these names."""
    found = []
    if "entropy_target" in flat and (_as_number(flat["entropy_target"][1]) or 0) > 0:
        key, value = flat["entropy_target"]
        found.append(
            Finding(
                "entropy-bonus", "warning", f"{key} = {value}: an adaptive bonus holds the entropy near a target",
                "the entropy is a set value then, not what the run has left to spend",
                "believe the fit only after a back-test on a run with the same target", _as_number(value),
            )
        )  # fmt: skip
    if flat.get("reward", ("", ""))[1] == "random":
        found.append(
            Finding(
                "random-reward", "warning", f"{flat['reward'][0]} = random: the reward says nothing about the answers",
                "entropy can fall under a random reward while accuracy stays",
                "use this run as a control, not for a forecast",
            )
        )  # fmt: skip
    return found


def _flatten(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        out += _flatten(value, f"{name}.") if isinstance(value, Mapping) else [(name, value)]
    return out


def _by_tail(config: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """The last part of each key to (key, value); of keys that share it, the first one that is set to something."""
    flat: dict[str, tuple[str, Any]] = {}
    for key, value in _flatten(config):
        if _PRIME.search(key):
            continue
        tail = _tail(key)
        if tail not in flat or not _is_set(flat[tail][1]):
            flat[tail] = (key, value)
    return flat


def _is_set(value: Any) -> bool:
    """Not zero, not off, not empty."""
    number = _as_number(value)
    return (
        number != 0 if number is not None else str(value).strip().lower() not in ("", "none", "null", "false")
    )


def _tail(key: str) -> str:
    return re.split(r"[./]", key)[-1].replace("-", "_").lower()


def _as_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number else None


def _number(flat: Mapping[str, tuple[str, Any]], names: tuple[str, ...]) -> tuple[str, float] | None:
    """The first of the names that holds a number."""
    for name in names:
        if name in flat and (value := _as_number(flat[name][1])) is not None:
            return flat[name][0], value
    return None


def _truth(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "1", "1.0", "yes", "on")
