"""Advantage estimators: one pure function each, registered by :func:`estimator` under its own name.

To add one, write it here: recipes, rules, ``entlaw verl`` and the docs know it by its decorator. It asks for what it
needs by the names of its parameters, each an attribute of :class:`Rewards` or a setting of ``[algorithm]`` or
``[prime]``. One that asks for ``group_B`` compares the responses to a prompt, ``value_BT`` makes the trainer train a
critic, ``process_reward_BT`` a reward model, and ``token_reward_BT`` has a KL penalty in the reward token by token.

Shapes: B responses, T response tokens. ``reward_B`` holds one verifiable reward a response, ``group_B`` the prompt each
response belongs to (equal integers, one group), ``mask_BT`` is 1 on response tokens and 0 on padding. All functions
return ``advantages_BT``, zero on padding, without gradient; one with a critic returns ``(advantages_BT, return_BT)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from entlaw.registry import Function, Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    from entlaw.train import lazy_torch as torch

_F = TypeVar("_F", bound=Callable[..., Any])
_EPS = 1e-6  # the reference implementations' guard against a group without spread


@dataclass(frozen=True)
class Estimator(Function):
    """A registered estimator and what it needs.

    Attributes
    ----------
    whitens : bool
        It takes out mean and spread of the batch.
    aggregation : str
        The ``loss.aggregation`` that it is defined with; empty: any.
    why_aggregation : mapping
        What another aggregation does to it, by aggregation; "" for the others. ``{r}`` is the recipe.
    verl : str
        verl's own estimator that does the same, where ours cannot be registered there.
    """

    whitens: bool = False
    aggregation: str = ""
    why_aggregation: Mapping[str, str] = field(default_factory=dict)
    verl: str = ""

    @property
    def groups(self) -> bool:
        """It compares the responses to one prompt."""
        return "group_B" in self.wants

    @property
    def critic(self) -> bool:
        """It needs values of every token: a critic is trained."""
        return "value_BT" in self.wants

    @property
    def reward_model(self) -> bool:
        """It needs a reward of every token from PRIME's model, which is trained beside the policy."""
        return "process_reward_BT" in self.wants

    @property
    def token_rewards(self) -> bool:
        """A KL penalty in the reward reaches each token; else its sum over a response is subtracted."""
        return "token_reward_BT" in self.wants

    def __call__(self, rewards: Rewards, *settings: object) -> tuple[Tensor, Tensor | None]:
        """Advantages, and returns where there is a critic; ``settings`` are tables of the recipe."""
        found = self.call(**self.given(rewards, *settings))
        return found if isinstance(found, tuple) else (found, None)


ESTIMATORS: Registry[Estimator] = Registry("advantage estimator")


def estimator(reference: str, formula: str, **more: Any) -> Callable[[_F], _F]:
    """Register a function as the estimator of its name; see :class:`Estimator` for what else can be said of it."""

    def add(function: _F) -> _F:
        ESTIMATORS.add(function.__name__, Estimator(function, reference, formula, **more))
        return function

    return add


def names_that(need: Callable[[Estimator], bool]) -> list[str]:
    """Names of the estimators of which something is true, in alphabetical order."""
    return sorted(name for name, entry in ESTIMATORS.items() if need(entry))


@dataclass(frozen=True)
class Rewards:
    """What an estimator may ask for."""

    token_reward_BT: Tensor
    """Each response's reward on its last token, less a KL penalty on each."""
    reward_B: Tensor
    """One a response, less the sum of the penalty over it."""
    group_B: Tensor | None
    mask_BT: Tensor
    value_BT: Tensor | None = None
    """The critic's."""
    process_reward_BT: Tensor | None = None
    """PRIME's."""


def _group_sums(values_B: Tensor, group_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and size of each response's group, and the index of each response's group."""
    _, index_B = torch.unique(group_B, return_inverse=True)
    n = int(index_B.max()) + 1 if len(index_B) else 0
    size_G = torch.zeros(n, dtype=values_B.dtype, device=values_B.device).index_add_(
        0, index_B, torch.ones_like(values_B)
    )
    sum_G = torch.zeros_like(size_G).index_add_(0, index_B, values_B)
    return sum_G[index_B], size_G[index_B], index_B


def group_mean(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """Mean reward of each response's group, shape [B]."""
    total_B, size_B, _ = _group_sums(reward_B, group_B)
    return total_B / size_B


def _group_baseline(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """The group mean, and 0 for a group of one, whose mean would take away its whole reward."""
    total_B, size_B, _ = _group_sums(reward_B, group_B)
    return torch.where(size_B > 1, total_B / size_B, torch.zeros_like(total_B))


def _spread(values_B: Tensor, mask_BT: Tensor) -> Tensor:
    """One value a response laid over its tokens."""
    return values_B.unsqueeze(-1) * mask_BT


@estimator("Williams 1992", "r - b, b the batch mean or 0")
def reinforce(reward_B: Tensor, mask_BT: Tensor, baseline: Literal["none", "batch-mean"] = "none") -> Tensor:
    """REINFORCE (Williams 1992): A = r - b, the same for every token of a response.

    The batch's mean is over the responses that have a token: padding has none.
    """
    b = float(reward_B[mask_BT.sum(-1) > 0].mean()) if baseline == "batch-mean" else 0.0
    return _spread(reward_B - b, mask_BT)


@estimator("arXiv 2402.03300", "(r - mean) / (std + 1e-6) over the prompt's responses")
def grpo(reward_B: Tensor, group_B: Tensor, mask_BT: Tensor, *, norm_by_std: bool = True) -> Tensor:
    """GRPO (arXiv 2402.03300): A = (r - mean) / (std + 1e-6) over the group, unbiased std.

    A group of one has mean 0 and std 1, as in the reference code. ``norm_by_std=False`` gives Dr. GRPO's
    A = r - mean (arXiv 2503.20783).
    """
    _, size_B, index_B = _group_sums(reward_B, group_B)
    centred_B = reward_B - _group_baseline(reward_B, group_B)
    if not norm_by_std:
        return _spread(centred_B, mask_BT)
    square_B, _, _ = _group_sums(centred_B**2, index_B)
    std_B = (square_B / (size_B - 1).clamp(min=1)).sqrt()
    std_B = torch.where(size_B > 1, std_B, torch.ones_like(std_B))
    return _spread(centred_B / (std_B + _EPS), mask_BT)


@estimator(
    "arXiv 2503.20783",
    'r - mean; with `loss.aggregation = "seq-mean-token-sum-norm"`',
    aggregation="seq-mean-token-sum-norm",
    why_aggregation={
        "": "token means bring back the bias by length that Dr. GRPO is there to remove",
        "seq-mean-token-sum": "without the constant the loss is {r.rollout.max_tokens} times Dr. GRPO's, beside every "
        "penalty",
    },
)
def dr_grpo(reward_B: Tensor, group_B: Tensor, mask_BT: Tensor) -> Tensor:
    """Dr. GRPO (arXiv 2503.20783): A = r - mean over the group; see :func:`grpo`."""
    return grpo(reward_B, group_B, mask_BT, norm_by_std=False)


@estimator("arXiv 2402.14740", "r - mean of the other responses")
def rloo(reward_B: Tensor, group_B: Tensor, mask_BT: Tensor) -> Tensor:
    """RLOO (Kool et al. 2019; arXiv 2402.14740): A_i = r_i - mean of the others' = K/(K-1) (r_i - mean).

    A group of one has no others; its advantage is the reward itself.
    """
    total_B, size_B, _ = _group_sums(reward_B, group_B)
    others_B = torch.where(
        size_B > 1, (total_B - reward_B) / (size_B - 1).clamp(min=1), torch.zeros_like(total_B)
    )
    return _spread(reward_B - others_B, mask_BT)


def masked_whiten(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(v - mean) / std over the valid tokens of the batch, biased-corrected variance, zero on padding."""
    n = mask_BT.sum()
    mean = (values_BT * mask_BT).sum() / n
    variance = (((values_BT - mean) ** 2) * mask_BT).sum() / (n - 1).clamp(min=1)
    return (values_BT - mean) * torch.rsqrt(variance + 1e-8) * mask_BT


def returns_to_go(token_reward_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0) -> Tensor:
    """G_t = sum over l >= t of gamma^(l - t) r_l along the valid tokens, shape [B, T]."""
    out_BT = torch.zeros_like(token_reward_BT)
    running_B = torch.zeros_like(token_reward_BT[:, 0])
    for t in range(token_reward_BT.shape[1] - 1, -1, -1):
        valid_B = mask_BT[:, t]
        stepped_B = token_reward_BT[:, t] + gamma * running_B
        running_B = torch.where(valid_B > 0, stepped_B, running_B)
        out_BT[:, t] = running_B * valid_B
    return out_BT


def at_last_token(reward_B: Tensor, mask_BT: Tensor) -> Tensor:
    """Each response's reward on its last valid token, shape [B, T]; a response without tokens gets none."""
    length = mask_BT.shape[1]
    position_T = torch.arange(length, device=mask_BT.device)
    last_B = (mask_BT * (position_T + 1)).argmax(dim=-1)
    out_BT = torch.zeros_like(mask_BT, dtype=reward_B.dtype)
    out_BT[torch.arange(len(reward_B), device=mask_BT.device), last_B] = reward_B
    return out_BT * mask_BT


@estimator("arXiv 2501.03262", "returns to go, whitened over the batch's tokens", whitens=True)
def reinforce_plus_plus(token_reward_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0) -> Tensor:
    """REINFORCE++ (arXiv 2501.03262): returns-to-go, then whitened over all valid tokens of the batch."""
    return masked_whiten(returns_to_go(token_reward_BT, mask_BT, gamma), mask_BT)


@estimator("arXiv 2501.03262", "r - group mean, whitened over the batch's tokens", whitens=True)
def reinforce_plus_plus_baseline(reward_B: Tensor, group_B: Tensor, mask_BT: Tensor) -> Tensor:
    """REINFORCE++-baseline: r minus the group mean on every token, then whitened over the batch.

    A group of one has baseline 0, as in the reference code.
    """
    return masked_whiten(_spread(reward_B - _group_baseline(reward_B, group_B), mask_BT), mask_BT)


def gae(
    token_reward_BT: Tensor, value_BT: Tensor, mask_BT: Tensor, gamma: float = 1.0, lam: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (arXiv 1506.02438): A_t = sum (gamma lambda)^l delta_{t+l}.

    Returns
    -------
    advantages_BT, returns_BT : Tensor
        Not whitened; the return is A + V, the critic's target.
    """
    advantage_BT = torch.zeros_like(token_reward_BT)
    running_B, next_value_B = torch.zeros_like(value_BT[:, 0]), torch.zeros_like(value_BT[:, 0])
    for t in range(token_reward_BT.shape[1] - 1, -1, -1):
        valid_B = mask_BT[:, t] > 0
        delta_B = token_reward_BT[:, t] + gamma * next_value_B - value_BT[:, t]
        running_B = torch.where(valid_B, delta_B + gamma * lam * running_B, running_B)
        next_value_B = torch.where(valid_B, value_BT[:, t], next_value_B)
        advantage_BT[:, t] = running_B * mask_BT[:, t]
    return advantage_BT, (advantage_BT + value_BT) * mask_BT


@estimator(
    "arXiv 1707.06347, 1506.02438", "generalised advantage estimation with a critic", whitens=True, verl="gae"
)
def ppo(
    token_reward_BT: Tensor,
    value_BT: Tensor,
    mask_BT: Tensor,
    gamma: float = 1.0,
    lam: float = 1.0,
    whiten: bool = True,
) -> tuple[Tensor, Tensor]:
    """PPO (arXiv 1707.06347): :func:`gae`, whitened over the batch's tokens; and the critic's target."""
    advantages_BT, return_BT = gae(token_reward_BT, value_BT, mask_BT, gamma, lam)
    return masked_whiten(advantages_BT, mask_BT) if whiten else advantages_BT, return_BT


@estimator(
    "arXiv 2502.01456",
    "leave-one-out process and outcome rewards, to go, whitened; the process reward model learns online",
    whitens=True,
)
def prime(
    process_reward_BT: Tensor,
    reward_B: Tensor,
    group_B: Tensor,
    mask_BT: Tensor,
    process_weight: float = 5.0,
    outcome_weight: float = 5.0,
    gamma: float = 1.0,
) -> Tensor:
    """PRIME (arXiv 2502.01456): RLOO on implicit process rewards plus RLOO on the outcome, to go, whitened.

    The process reward beta (log pi_phi - log pi_ref) of each token is centred by the leave-one-out mean of the other
    responses' mean token reward; the outcome is centred by RLOO and put on the last token.
    """
    length_B = mask_BT.sum(-1).clamp(min=1)
    token_mean_B = (process_reward_BT * mask_BT).sum(-1) / length_B
    total_B, size_B, _ = _group_sums(token_mean_B, group_B)
    scale_B = torch.where(size_B > 1, size_B / (size_B - 1).clamp(min=1), torch.ones_like(size_B))
    centred_BT = (process_reward_BT * scale_B[:, None] - (total_B / size_B * scale_B)[:, None]) * mask_BT
    process_BT = returns_to_go(centred_BT, mask_BT, gamma)
    outcome_BT = returns_to_go(
        at_last_token(rloo(reward_B, group_B, mask_BT[:, :1] * 0 + 1)[:, 0], mask_BT), mask_BT
    )
    return masked_whiten(process_weight * process_BT + outcome_weight * outcome_BT, mask_BT)
