"""What a paper figure is made from: runs, and what kind of run each is.

A figure asks for runs by what they are (algorithm, size, control, data), never by name, so that it can be made from
anybody's runs. `RunFacts` reads this off a run's configuration: our own recipe, or the keys of verl and TRL.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from entlaw.errors import DataError
from entlaw.runs.model_size import model_size
from entlaw.runs.run import Run

SMALL_MODELS = (
    "Ours are small models (18 thousand to 1 million parameters) on a procedural task, trained on a CPU: the results "
    "hold for such models only."
)
# Models up to this size are those of this project's ladder, whoever trained them.
_SMALL = 2e6


class NotEnoughRuns(DataError):
    """The runs at hand do not suffice for a figure; ``what`` names what is missing."""


@dataclass(frozen=True)
class RunFacts:
    """What kind of run this is, as far as its configuration shows; None or "" where it does not.

    Attributes
    ----------
    name : str
    algorithm : str
        ``grpo``, ``rloo``, ``reinforce``, ``reinforce_plus_plus``, ``ppo``, ``prime``.
    method : str
        The algorithm where nothing acts on the entropy; else the one control that does: ``clip-higher``, ``clip-cov``,
        ``kl-cov``, ``no-clip``, ``on-policy``, ``entropy-bonus``, ``reference-kl``, ``entropy-target``,
        ``high-entropy-tokens``, ``random-reward``, or ``several``.
    strength : float or None
        Of that control: its coefficient, ratio or upper clip ratio. Of PRIME: beta.
    coefficient : float or None
        KL-Cov's second setting, the coefficient of its penalty. Of PRIME: the reward model's learning rate.
    reference_code : bool
        Clip-Cov or KL-Cov as the authors' code does it (per micro-batch, clip widened).
    parameters : float or None
    size : str
        Label of the size (``m``, ``7B``).
    family : str
        Architecture or model family.
    task : str
        What is solved, as text; equal texts mean the same problems.
    start : str
        The starting policy, as text; equal texts mean the same policy but for its size and seed.
    base_seed, seed : int or None
        Seeds of the starting policy and of the RL.
    """

    name: str
    algorithm: str = ""
    method: str = ""
    strength: float | None = None
    coefficient: float | None = None
    reference_code: bool = False
    parameters: float | None = None
    size: str = ""
    family: str = ""
    task: str = ""
    start: str = ""
    base_seed: int | None = None
    seed: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing that the log mentions acts on the entropy."""
        return self.method == self.algorithm and not self.reference_code

    @property
    def policy(self) -> tuple[object, ...]:
        """The starting policy; equal tuples mean the same one, as far as the configuration shows."""
        return (self.family, self.size, self.parameters, self.start, self.base_seed)


Pair = tuple[RunFacts, Run]


@dataclass(frozen=True)
class Library:
    """Runs to draw from, with their facts in the same order."""

    runs: tuple[Run, ...]
    facts: tuple[RunFacts, ...]

    def select(self, where: Callable[[RunFacts], bool] | None = None, **equal: Any) -> list[Pair]:
        """Runs whose facts equal the given ones (a tuple: any of them) and satisfy ``where``, in the library's order.

        >>> library.select(method="grpo", size=("s", "m"))  # doctest: +SKIP
        """
        return [
            (f, r)
            for f, r in zip(self.facts, self.runs, strict=True)
            if all(
                getattr(f, k) in v if isinstance(v, tuple) else getattr(f, k) == v for k, v in equal.items()
            )
            and (where is None or where(f))
        ]

    def main_task(self) -> str:
        """The task of most runs (of two as frequent, the first)."""
        return commonest(f.task for f in self.facts)


def small_models(all_facts: Iterable[RunFacts]) -> str:
    """What a caption must say where all models are of this project's ladder; else empty."""
    largest = max((f.parameters or math.inf for f in all_facts), default=math.inf)
    return SMALL_MODELS if largest <= _SMALL else ""


def need(condition: bool, what: str, hint: str) -> None:
    """Raise NotEnoughRuns unless a condition holds."""
    if not condition:
        raise NotEnoughRuns(what, hint=hint)


def commonest(values: Iterable[str]) -> str:
    """The most frequent text; of several, the first; empty of none."""
    counted = Counter(values)
    return counted.most_common(1)[0][0] if counted else ""


def library(runs: Iterable[Run]) -> Library:
    """Runs with their facts."""
    held = tuple(runs)
    return Library(held, tuple(run_facts(run) for run in held))


def run_facts(run: Run) -> RunFacts:
    """What kind of run this is (see `RunFacts`)."""
    flat = run.config
    if any(key.startswith("recipe.") for key in flat):
        return _of_recipe(run.name, {k.removeprefix("recipe."): v for k, v in flat.items()}, flat)
    return _of_others(run.name, flat)


def _of_recipe(name: str, c: Mapping[str, Any], flat: Mapping[str, Any]) -> RunFacts:
    """Of the configuration that entlaw's own trainer writes."""
    algorithm = str(c.get("algorithm.name", "grpo"))
    controls: list[tuple[str, float | None]] = []
    if _number(c, "controls.entropy_target"):
        controls.append(("entropy-target", _number(c, "controls.entropy_target")))
    elif _number(c, "controls.entropy_coeff"):
        controls.append(("entropy-bonus", _number(c, "controls.entropy_coeff")))
    if _number(c, "controls.kl_coef"):
        controls.append(("reference-kl", _number(c, "controls.kl_coef")))
    for key, label in (("clip_cov", "clip-cov"), ("kl_cov", "kl-cov")):
        if _number(c, f"controls.{key}.ratio"):
            controls.append((label, _number(c, f"controls.{key}.ratio")))
    if (_number(c, "controls.high_entropy_share") or 1.0) < 1.0:
        controls.append(("high-entropy-tokens", _number(c, "controls.high_entropy_share")))
    if c.get("task.reward") == "random":
        controls.append(("random-reward", None))
    kind = c.get("loss.kind", "ppo_clip")
    if kind == "ppo_clip" and (_number(c, "loss.clip_ratio_high") or 0) > (
        _number(c, "loss.clip_ratio_low") or 0
    ):
        controls.append(("clip-higher", _number(c, "loss.clip_ratio_high")))
    if kind == "policy_gradient":
        controls.append(("on-policy" if _one_update(c) else "no-clip", None))
    elif kind != "ppo_clip":
        controls.append((str(kind).replace("_", "-"), None))
    method, strength = controls[0] if controls else (algorithm, None)
    coefficient = _number(c, "controls.kl_cov.coef") if method == "kl-cov" else None
    if method == "prime":
        strength, coefficient = _number(c, "prime.beta"), _number(c, "prime.lr")
    return RunFacts(
        name,
        algorithm,
        "several" if len(controls) > 1 else method,
        strength,
        coefficient=coefficient,
        reference_code=bool(c.get("controls.reference_code", False)),
        parameters=_number(flat, "parameters"),
        size=str(c.get("policy.size") or _size(_number(flat, "parameters"))),
        family=str(c.get("policy.family") or c.get("policy.path") or ""),
        task=_text(c, "task.", _TASK),
        start=_text(c, "warmup."),
        base_seed=_whole(c, "policy.seed"),
        seed=_whole(c, "run.seed"),
    )


# What makes two tasks two: a recipe has other settings under task., which act on neither problems nor scores.
_TASK = ("name", "operations", "operators", "train_operations", "train_operators", "validation")


def _one_update(c: Mapping[str, Any]) -> bool:
    return (_number(c, "loss.mini_batches") or 1) == 1 and (_number(c, "loss.epochs") or 1) == 1


# The advantage estimator and the model under the names that verl, OpenRLHF and TRL log them by.
_ALGORITHM = (
    "algorithm.adv_estimator",
    "adv_estimator",
    "advantage_estimator",
    "algorithm.name",
    "loss_type",
)
_MODEL = (
    "actor_rollout_ref.model.path",
    "model.path",
    "model_name_or_path",
    "pretrain",
    "model_name",
    "model",
)
_DATA = ("data.train_files", "prompt_data", "dataset_name", "dataset", "data.path")


def _of_others(name: str, flat: Mapping[str, Any]) -> RunFacts:
    from entlaw.law.interventions import interventions

    said = {finding.code.removeprefix("intervention-") for finding in interventions(flat)}
    algorithm = str(_first(flat, _ALGORITHM) or "").lower()
    algorithm = {"gae": "ppo"}.get(algorithm, algorithm)  # verl names PPO by its advantage
    sized = model_size(flat, name)
    model = str(_first(flat, _MODEL) or "")
    return RunFacts(
        name,
        algorithm,
        algorithm if not said else said.pop() if len(said) == 1 else "several",
        parameters=sized[0] if sized else None,
        size=_size(sized[0]) if sized else "",
        family=model.rsplit("/", 1)[-1].split("-")[0],
        task=str(_first(flat, _DATA) or ""),
        start="",
        seed=_whole(flat, "seed"),
    )


def _first(flat: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        for key, value in flat.items():
            if (key == name or key.endswith("." + name)) and value not in (None, ""):
                return value
    return None


def _number(c: Mapping[str, Any], key: str) -> float | None:
    try:
        value = float(c[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _whole(c: Mapping[str, Any], key: str) -> int | None:
    value = _number(c, key)
    return None if value is None else int(value)


def _size(parameters: float | None) -> str:
    if parameters is None:
        return ""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return f"{parameters:.0f}"


def _text(c: Mapping[str, Any], prefix: str, of: tuple[str, ...] | None = None) -> str:
    """Settings under a prefix as one line, sorted, for comparison and for reading; empty ones left out."""
    told = {k.removeprefix(prefix): v for k, v in c.items() if k.startswith(prefix)}
    told = {k: v for k, v in told.items() if (of is None or k in of) and v not in ("", [], (), None)}
    return json.dumps(told, sort_keys=True, ensure_ascii=False, default=str) if told else ""
